"""`gimbal simulate` on the command line: results, files, and what it refuses."""

import json
import subprocess

import pytest

WORKLOAD = ("--num-prompts", 40, "--request-rate", 20, "--random-input-len", 200,
            "--random-output-len", 8, "--random-range-ratio", 0.5)  # fmt: skip


@pytest.fixture
def simulate(program, tmp_path):
    def call(*arguments):
        return subprocess.run(
            [program, "simulate", *map(str, arguments)],
            capture_output=True, text=True, timeout=120, cwd=tmp_path,
        )  # fmt: skip

    return call


def without_wall_clock(runs):
    return [{name: value for name, value in run.items() if "wall" not in name} for run in runs]


def test_presets_and_seeds_side_by_side_are_repeatable(simulate, tmp_path):
    arguments = (*WORKLOAD, "--engines", 4, "--expert-parallel-size", 2, "--preset", "gimbal,vllm",
                 "--seeds", "1..2")  # fmt: skip
    results = []
    for name in ("a.json", "b.json"):
        ran = simulate(*arguments, "--json", name)
        assert ran.returncode == 0, ran.stderr
        assert "| gimbal" in ran.stdout and "means over seeds" in ran.stdout
        results.append(json.loads((tmp_path / name).read_text())["runs"])
    assert without_wall_clock(results[0]) == without_wall_clock(results[1])
    assert [(run["preset"], run["seed"]) for run in results[0]] == [
        ("gimbal", 1), ("vllm", 1), ("gimbal", 2), ("vllm", 2)]  # fmt: skip
    for run in results[0]:
        assert run["completed"] == 40 and run["failed"] == 0
        for name in ("mean_ttft_ms", "p50_ttft_ms", "p99_ttft_ms", "mean_tpot_ms", "p50_tpot_ms",
                     "p99_tpot_ms", "request_throughput"):  # fmt: skip
            assert run[name] > 0, name
        assert run["system"]["engine_steps"] > 0
    assert results[0][0] != results[0][2]


def test_scheduling_flags_of_serve_override_every_preset(simulate, tmp_path):
    ran = simulate(
        *WORKLOAD, "--engines", 2, "--preset", "vllm", "--order", "sjf", "--binding", "late",
        "--max-num-batched-tokens", 512, "--max-num-seqs", 4, "--expert-pace", "immediate",
        "--json", "out.json",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    system = json.loads((tmp_path / "out.json").read_text())["runs"][0]["system"]
    assert system["gang_steps"] == 0 and system["dummy_steps"] == 0


def test_gang_flags_reach_the_simulated_coordinators(simulate, tmp_path):
    def run(*arguments):
        ran = simulate("--num-prompts", 120, "--request-rate", 200, "--random-input-len", 400,
                       "--random-output-len", 20, "--random-range-ratio", 0.8, "--engines", 4,
                       "--drain-steps", 4, *arguments, "--json", "out.json")  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return without_wall_clock(json.loads((tmp_path / "out.json").read_text())["runs"])[0]

    plain = run()
    assert run("--gang-patience", 8, "--gang-planner", "pairing") == plain  # the defaults
    assert run("--gang-patience", 0) != plain
    assert run("--gang-planner", "as-wanted") != plain


def test_expert_queues_go_with_exact(simulate):
    for exact in ("--exact", "--compare-exact"):
        ran = simulate("--num-prompts", 5, "--random-input-len", 200, "--random-output-len", 8,
                       "--engines", 2, "--expert-queues", "ls-first", exact)  # fmt: skip
        assert ran.returncode == 0, ran.stderr


def test_files_of_a_run(simulate, tmp_path):
    ran = simulate(*WORKLOAD, "--engines", 2, "--decisions", "d.jsonl", "--trace-out", "t.json",
                   "--record", "r.jsonl")  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    decisions = [json.loads(line) for line in (tmp_path / "d.jsonl").read_text().splitlines()]
    assert len(decisions) == 40 and all(d["rule"] == "gimbal" for d in decisions)
    trace = json.loads((tmp_path / "t.json").read_text())
    events = trace["traceEvents"] if isinstance(trace, dict) else trace
    assert any(event.get("name") in ("step", "gang step") for event in events)
    assert {p.name for p in tmp_path.iterdir()} == {
        "d.jsonl", "t.json", "r.jsonl.dispatch", "r.jsonl.engine0", "r.jsonl.engine1"}  # fmt: skip


def test_a_cluster_file_with_failures(simulate, tmp_path):
    (tmp_path / "cluster.json").write_text(json.dumps({
        "groups": [{"count": 2, "ranks": 2}, {"ranks": 1, "attention_tp": 2, "speed": 0.5}],
        "signals": {"delay_ms": 3, "jitter_ms": 2, "loss": 0.1},
        "events": [{"at_s": 0.5, "fail": 1}, {"at_s": 0.7, "slow": 0, "factor": 3}],
    }))  # fmt: skip
    ran = simulate(*WORKLOAD, "--cluster", "cluster.json", "--json", "out.json")
    assert ran.returncode == 0, ran.stderr
    run = json.loads((tmp_path / "out.json").read_text())["runs"][0]
    assert run["completed"] + run["ends"].get("failed", 0) == 40
    assert len(run["system"]["engines"]) == 5


def test_exact_and_its_difference(simulate):
    ran = simulate(*WORKLOAD, "--engines", 2, "--preset", "vllm", "--compare-exact")
    assert ran.returncode == 0, ran.stderr
    assert "vllm exact" in ran.stdout and "step-level against exact" in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--model", "no-such-model"), "no-such-model"),
        (("--profile", "no-such-profile"), "no-such-profile"),
        (("--preset", "no-such-preset"), "preset must be one of"),
        (("--seeds", "x"), "--seeds"),
        (("--seeds", "5..1"), "--seeds"),
        (("--routing", "zipf:x"), "--routing"),
        (("--routing", "no-such-file"), "no-such-file"),
        (("--engines", "6", "--expert-parallel-size", "4"), "expert_parallel_size"),
        (("--cluster", "no-such.json"), "no-such.json"),
        (("--trace", "no-such.csv"), "no-such.csv"),
        (("--json", "no-such-folder/out.json"), "no-such-folder"),
        (("--order", "alphabetical"), "alphabetical"),
        (("--exact", "--compare-exact"), "--compare-exact"),
        (("--rank-workers", "shared"), "--rank-workers shared is for serve"),
        (("--expert-queues", "ls-first"), "--expert-queues goes with --exact"),
        (("--gang-planner", "fair"), "--gang-planner"),
        (("--gang-patience", "-1"), "--gang-patience"),
        (("--gang-hold-steps", "2"), "--gang-hold-steps is for serve"),
        (("--kv-cache-memory-bytes", "1000"), "kv_cache_memory_bytes"),
        (("--kv-cache-memory-bytes", "10000000", "--max-model-len", "4096"), "max_model_len"),
    ],
)
def test_refuses_what_is_wrong_and_leaves_nothing(simulate, tmp_path, arguments, complaint):
    json_path = () if "--json" in arguments else ("--json", "out.json")
    ran = simulate("--num-prompts", 5, *json_path, *arguments)
    assert ran.returncode != 0
    assert complaint in ran.stderr
    assert not list(tmp_path.iterdir())


def test_errors_of_a_cluster_file_name_file_line_and_field(simulate, tmp_path):
    (tmp_path / "cluster.json").write_text('{"groups": [\n {"ranks": 2},\n {"rank": 2}]}\n')
    ran = simulate("--cluster", "cluster.json")
    assert ran.returncode == 1
    assert "cluster.json:3: groups[1].rank is not a field" in ran.stderr
