"""Engines that share experts: paces, maps that are swapped, what is shown and written of them."""

import json
import struct
import subprocess

import pytest

from data_parallel_test import _generate, _get, _texts
from metrics_test import promtool

LAYERS = 5
EXPERTS = 16


@pytest.fixture(scope="module")
def expected(server):
    return _texts(_generate(server))


def whole_map(version, rank_of):
    """A map of the demo model, as `--expert-map` and the server take it."""
    layers = [
        [{"expert": expert, "rank": rank_of(layer, expert)} for expert in range(EXPERTS)]
        for layer in range(LAYERS)
    ]
    return {"version": version, "layers": layers}


@pytest.mark.parametrize("pace", ["gang", "lockstep", "immediate"])
@pytest.mark.parametrize("workers", ["shared", "own"])
def test_tokens_do_not_depend_on_pace_or_workers(start_server, expected, pace, workers):
    with start_server(
        "--data-parallel-size", "2", "--expert-pace", pace, "--rank-workers", workers
    ) as running:
        assert _texts(_generate(running)) == expected
        experts = _get(running, "/debug/experts")
        (group,) = experts["groups"]
        assert group["pace"] == pace
        caused = [sum(map(sum, source["rows"])) for source in experts["sources"]]
        assert len(caused) == 2 and sum(caused) == sum(s["rows"] for s in group["services"])
        assert sum(map(sum, group["rows"])) == sum(s["rows"] for s in group["services"]) > 0
        assert all(service["alive"] for service in group["services"])


def test_groups_and_engines_apart(start_server, expected):
    with start_server("--data-parallel-size", "4", "--expert-parallel-size", "2") as running:
        assert _texts(_generate(running)) == expected
        assert len(_get(running, "/debug/experts")["groups"]) == 2
    with start_server("--data-parallel-size", "2", "--expert-parallel-size", "1") as running:
        assert _texts(_generate(running)) == expected
        experts = _get(running, "/debug/experts")
        assert experts["groups"] == []
        for source in experts["sources"]:  # each is its own rank
            assert [len(ranks) for ranks in source["rows"]] == [1] * LAYERS
            assert running.metric(
                "gimbal:expert_source_rows_total", engine=str(source["engine"]), rank="0"
            ) == sum(map(sum, source["rows"]))


def test_flags_without_effect_are_named(start_server, tmp_path):
    def warnings(*flags):
        with start_server(*flags) as running:
            return [line for line in running.log if "takes no effect:" in line]

    (line,) = warnings(
        "--expert-map", "/none/map", "--max-stage-ms", "5", "--binding", "late",
        "--expert-parallel-size", "1",
    )  # fmt: skip
    assert line.rstrip().endswith("--binding, --expert-map, --max-stage-ms") and "one engine" in line
    (line,) = warnings(
        "--data-parallel-size", "2", "--expert-parallel-size", "1", "--expert-pace", "immediate"
    )
    assert line.rstrip().endswith("--expert-pace") and "--expert-parallel-size 1" in line
    # What a preset sets was not asked for.
    config = tmp_path / "serve.conf"
    config.write_text("preset = vllm\n")
    assert warnings("--config", str(config)) == []


def test_a_map_is_given_and_swapped(start_server, expected, tmp_path):
    given = tmp_path / "map.json"
    given.write_text(json.dumps(whole_map(7, lambda layer, expert: expert % 2)))
    profile = tmp_path / "profile.json"
    profile.write_text('{"ranks_per_node": 2, "same_node": {"latency_us": 30, "gb_per_s": 2}}')
    with start_server(
        "--data-parallel-size",
        "2",
        "--expert-map",
        str(given),
        "--exchange-profile",
        str(profile),
    ) as running:
        (group,) = _get(running, "/debug/experts")["groups"]
        assert group["map_version"] == 7
        assert group["map"]["layers"][3][5] == {"expert": 5, "rank": 1, "fraction": 1.0}
        assert _texts(_generate(running)) == expected

        body = json.dumps(whole_map(0, lambda layer, expert: 1)).encode()
        status, _, text = running.post("/debug/expert-map", body)
        assert status == 200 and json.loads(text) == {"group": 0, "version": 8}
        before = _get(running, "/debug/experts")["groups"][0]["services"][0]["rows"]
        assert _texts(_generate(running)) == expected
        assert _get(running, "/debug/experts")["groups"][0]["services"][0]["rows"] == before
        assert running.metric("gimbal:expert_map_version") == 8

        for wrong, named in [
            (b"{", "JSON"),
            (b"[]", "object"),
            (b'{"version": 9, "layers": []}', "layers"),
            (json.dumps(whole_map(9, lambda layer, expert: 2)).encode(), "rank"),
            (json.dumps(whole_map(2**31, lambda layer, expert: 0)).encode(), "version"),
            (json.dumps({**whole_map(9, lambda layer, expert: 0), "group": 1}).encode(), "group"),
        ]:
            status, _, text = running.post("/debug/expert-map", wrong)
            assert status == 400 and named in text, text


def test_metrics_have_the_times_of_services(start_server):
    with start_server("--data-parallel-size", "2") as running:
        _generate(running)
        running.wait_until_idle()
        text = running.get("/metrics")[2]
        code, complaints = promtool(text.replace("vllm:", "vllm_").replace("gimbal:", "gimbal_"))
        assert (code, complaints) == (0, [])
        for engine in ("0", "1"):
            count = running.metric("gimbal:expert_service_run_seconds_count", engine=engine)
            assert count == running.metric("gimbal:expert_service_runs_total", engine=engine) > 0
            waits = running.metric("gimbal:expert_service_wait_seconds_count", engine=engine)
            experts = running.metric(
                "gimbal:expert_service_distinct_experts_total", engine=engine
            )
            assert waits == experts > 0
            last = running.metric(
                "gimbal:expert_service_run_seconds_bucket", engine=engine, le="+Inf"
            )
            assert last == count
            assert running.metric("gimbal:expert_service_hold_seconds_count", engine=engine) >= 0


def test_a_trace_and_a_routing_record_are_written(start_server, tmp_path):
    trace = tmp_path / "trace.json"
    routing = tmp_path / "routing.bin"
    with start_server(
        "--data-parallel-size", "2", "--trace-out", str(trace), "--record-routing", str(routing)
    ) as running:
        answers = _generate(running)
        running.wait_until_idle()
    events = json.loads(trace.read_text())["traceEvents"]
    names = {event["name"] for event in events}
    assert {"attention", "router", "experts", "layer", "run", "queued", "prefill"} <= names
    processes = {event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert processes == {"engine 0", "engine 1", "experts of engine 0", "experts of engine 1"}
    record = routing.read_bytes()
    magic, _, _, layers, experts, k = struct.unpack_from("<8sHQHHH", record)
    assert magic == b"GIMBALRT" and (layers, experts) == (LAYERS, EXPERTS)
    rows, rest = divmod(len(record) - struct.calcsize("<8sHQHHH"), 16 + 2 * k)
    assert rest == 0
    # Prompt pages that were cached are not computed again; the last token never is.
    most = sum(a["usage"]["prompt_tokens"] + a["usage"]["completion_tokens"] - 1 for a in answers)
    assert 0 < rows <= most * layers and rows % layers == 0


def test_a_trace_keeps_to_its_bound(start_server, tmp_path):
    trace = tmp_path / "trace.json"
    with start_server("--trace-out", str(trace), "--trace-max-events", "50") as running:
        running.complete(prompt="Hello", max_tokens=5)
        running.wait_until_idle()
    document = json.loads(trace.read_text())
    assert sum(event["ph"] != "M" for event in document["traceEvents"]) <= 51
    assert document["otherData"]["dropped_events"] > 0


@pytest.mark.parametrize(
    "flags, named",
    [
        (("--data-parallel-size", "4", "--expert-parallel-size", "3"), "expert_parallel_size"),
        (("--data-parallel-size", "32"), "16 experts"),
        (("--expert-pace", "trot"), "--expert-pace"),
        (("--expert-parallel-size", "2"), "--expert-parallel-size must be 0 or 1"),
        (("--rank-workers", "mine"), "--rank-workers"),
        (("--data-parallel-size", "2", "--expert-map", "/none/map"), "/none/map"),
        (("--data-parallel-size", "2", "--exchange-profile", "/none/profile"), "/none/profile"),
        (("--trace-out", "/none/trace"), "/none/trace"),
        (("--record-routing", "/none/routing"), "/none/routing"),
        (("--compute-nice", "40"), "--compute-nice"),
    ],
)
def test_wrong_flags_are_named(program, python_env, demo_model, flags, named):
    ran = subprocess.run(
        [program, "serve", demo_model, "--port", "0", "--python-env", python_env, *flags],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode != 0
    assert named in ran.stderr + ran.stdout
