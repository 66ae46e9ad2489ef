"""`gimbal bench reproduce`: its files, in the simulator and on real servers, and what it refuses.

What it finds is not looked at: a benchmark is no test.
"""

import json
import os
import pathlib
import subprocess

import pytest

SMALL = ("--num-prompts", 10, "--loads", 0.7)


@pytest.fixture
def reproduce(program, tmp_path):
    def call(*arguments):
        return subprocess.run(
            [program, "bench", "reproduce", *map(str, arguments)],
            capture_output=True, text=True, timeout=240, cwd=tmp_path,
        )  # fmt: skip

    return call


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "requests.csv"
    rows = [f"2024-05-10 00:00:{i:02}.0000000,{100 + 7 * i},{5 + i % 9}" for i in range(60)]
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]) + "\n")
    return path


def result_of(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


def test_the_same_command_writes_the_same_bytes(reproduce, tmp_path):
    arguments = ("v2", *SMALL, "--workloads", "random", "--seeds", "1,2", "--routing", "zipf:1",
                 "--topics", 2)  # fmt: skip
    for folder in ("a", "b"):
        ran = reproduce(*arguments, "--folder", folder)
        assert ran.returncode == 0, ran.stderr
        assert "reproduced" in ran.stdout
    for name in ("v2.json", "v2.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    result = result_of(tmp_path / "a", "v2")
    assert result["seeds"] == [1, 2] and "zipf:1" in result["flags"]
    assert {cell["system"] for cell in result["cells"]} >= {"vllm", "vllm-rr", "gimbal-v2"}
    assert all(len(cell["runs"]) == 2 for cell in result["cells"])
    assert result["claims"][2]["cells"] == 0  # its loads were not run
    assert result["claims"][2]["found_change"] is None


def test_answers_of_one_token_have_no_tpot_to_compare(reproduce, tmp_path):
    for name in ("v1", "front"):
        ran = reproduce(name, *SMALL, "--workloads", "random", "--seeds", "1,2",
                        "--scale-lengths", 0.0001)  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        cells = result_of(tmp_path / "reproduced", name)["cells"]
        assert all("tpot_ratio" not in cell and "e2el_ratio" in cell for cell in cells)


def test_traces_are_named_and_their_paths_are_not_written(reproduce, trace, tmp_path):
    ran = reproduce("front", *SMALL, "--trace", f"azure={trace}", "--seeds", "1,2")
    assert ran.returncode == 0, ran.stderr
    result = result_of(tmp_path / "reproduced", "front")
    assert {cell["workload"] for cell in result["cells"]} == {"azure"}
    first, second = result["cells"][0]["runs"]
    assert first != second  # windows of their own
    (front,) = result["fronts"]
    assert front["best_e2el"]["baseline"].startswith("vllm B=")
    for path in (tmp_path / "reproduced").iterdir():
        assert str(trace) not in path.read_text()


def test_real_servers_give_the_same_form(reproduce, demo_model, python_env, tmp_path):
    ran = reproduce("v1", *SMALL, "--server", demo_model, "--python-env", python_env,
                    "--workloads", "average", "--seeds", 1, "--scale-lengths", 0.0625)  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "Real servers of the model `demo`" in ran.stdout
    result = result_of(tmp_path / "reproduced", "v1")
    assert len(result["cells"]) == 6 and len(result["claims"]) == 4
    assert {claim["outcome"] for claim in result["claims"]} == {"undecided"}  # one seed
    for cell in result["cells"]:
        assert cell["runs"][0]["mean_ttft_ms"] > 0 and cell["runs"][0]["refused"] == 0
    assert str(tmp_path) not in json.dumps(result)


def prefix_hits_of(result):
    (claim,) = (claim for claim in result["claims"] if "prefix hits" in claim["claim"])
    assert claim["cells"] == 1
    return {cell["system"]: cell["runs"][0]["cached_share"] for cell in result["cells"]}


def test_prefix_hits_of_conversations(reproduce, tmp_path):
    ran = reproduce("v1", *SMALL, "--workloads", "multi-turn", "--seeds", "1,2")
    assert ran.returncode == 0, ran.stderr
    assert "prompt tokens found cached" in ran.stdout and "80 requests" in ran.stdout
    hits = prefix_hits_of(result_of(tmp_path / "reproduced", "v1"))
    assert all(0 < share < 1 for share in hits.values()) and "gimbal" in hits


def test_prefix_hits_on_real_servers(reproduce, demo_model, python_env, tmp_path):
    ran = reproduce("v1", *SMALL, "--server", demo_model, "--python-env", python_env,
                    "--workloads", "multi-turn", "--seeds", 1, "--scale-lengths", 0.125)  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    hits = prefix_hits_of(result_of(tmp_path / "reproduced", "v1"))
    assert all(0 < share < 1 for share in hits.values())


def report_env():
    place = pathlib.Path(os.environ["GIMBAL_PYTHON_ENV"]).parent / "report-env"
    return place if (place / "bin" / "python3").exists() else None


@pytest.mark.skipif(report_env() is None, reason="build/report-env is not there")
def test_plots(reproduce, program, trace, tmp_path):
    ran = reproduce("v1", *SMALL, "--workloads", "random", "--seeds", "1,2", "--plots", "plots",
                    "--report-env", report_env())  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    ran = reproduce("front", *SMALL, "--trace", trace, "--seeds", 1)
    assert ran.returncode == 0, ran.stderr
    ran = subprocess.run(
        [program, "report", "reproduced/front.json", "--out", "plots", "--report-env", report_env()],
        capture_output=True, text=True, timeout=120, cwd=tmp_path,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    titles = ("v1-front", "v1-changes", "v1-claims", "front-front", "front-changes")
    assert {path.stem for path in (tmp_path / "plots").iterdir()} == set(titles)
    for title in titles:
        assert (tmp_path / "plots" / f"{title}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (tmp_path / "plots" / f"{title}.svg").read_text()
    (tmp_path / "bad.json").write_text('{"claims": [], "cells": [{}]}')
    ran = subprocess.run([program, "report", "bad.json", "--report-env", report_env()],
                         capture_output=True, text=True, cwd=tmp_path)  # fmt: skip
    assert ran.returncode == 1 and "bad.json" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("v3",), "v1, v2, front"),
        (("v1", "--workloads", "randm"), "randm"),
        (("v2", "--workloads", "multi-turn"), "multi-turn"),
        (("v1", "--loads", "0"), "--loads"),
        (("v1", "--scale-lengths", "0"), "--scale-lengths"),
        (("v1", "--trace", "=x"), "--trace"),
        (("v1", "--trace", "no-such.csv"), "no-such.csv"),
        (("v1", "--seeds", "3,1,2,1"), "--seeds has 1 more than once"),
        (("v1", "--routing", "zipf:x"), "--routing"),
        (("v1", "--profile", "no-such"), "no-such"),
        (("v1", "--server", "no-such"), "no-such"),
        (("v1", "--server", ".", "--profile", "h200"), "--profile"),
        (("v1", "--python-env", "env"), "--server"),
        (("v1", "--server", ".", "--routing", "zipf:1"), "--routing"),
    ],
)
def test_refuses_what_is_wrong(reproduce, tmp_path, arguments, complaint):
    ran = reproduce(*arguments)
    assert ran.returncode != 0
    assert complaint in ran.stderr
    assert not list(tmp_path.rglob("*.json"))


def test_a_trace_too_short_is_refused_before_anything_runs(reproduce, trace, tmp_path):
    ran = reproduce("front", "--trace", f"azure={trace}", "--seeds", "1,2,3", "--num-prompts", 21)
    assert ran.returncode != 0
    assert "azure" in ran.stderr and "60 requests" in ran.stderr and "take 63" in ran.stderr
    assert not list(tmp_path.rglob("*.json"))


def test_a_server_that_does_not_start_says_why(reproduce, demo_model, tmp_path):
    ran = reproduce("v1", *SMALL, "--server", demo_model, "--python-env", tmp_path / "nowhere",
                    "--workloads", "average", "--seeds", 1)  # fmt: skip
    assert ran.returncode == 1
    assert "gimbal serve ended before it served" in ran.stderr and "nowhere" in ran.stderr
