"""`gimbal report`: pictures of what `bench serve` saved."""

import json
import os
import pathlib

import pytest


@pytest.fixture
def saved(gimbal, server):
    """Runs a small benchmark with the flags given and saves its result by that name."""

    def call(name, *flags):
        ran = gimbal(
            "bench", "serve", "--base-url", server.url, "--num-prompts", 24, "--request-rate", 100,
            "--random-input-len", 32, "--random-output-len", 8, "--ignore-eos",
            "--result-filename", name, *flags,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr

    return call


def report_env():
    """Where `make report-env` puts matplotlib; None where it was not made."""
    place = pathlib.Path(os.environ["GIMBAL_PYTHON_ENV"]).parent / "report-env"
    return place if (place / "bin" / "python3").exists() else None


@pytest.mark.skipif(report_env() is None, reason="build/report-env is not there")
def test_results_are_drawn(saved, gimbal, tmp_path):
    saved("a.json", "--save-detailed", "--ls-share", 0.5, "--sample-metrics", 0.02)
    saved("b.json", "--save-detailed", "--label", "other")
    ran = gimbal("report", "a.json", "b.json", "--out", "plots", "--report-env", report_env())
    assert ran.returncode == 0, ran.stderr
    for title in ("latency-cdf", "latency-cdf-by-class", "timeline", "server-pressure"):
        assert (tmp_path / "plots" / f"{title}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (tmp_path / "plots" / f"{title}.svg").read_text()


@pytest.mark.skipif(report_env() is None, reason="build/report-env is not there")
def test_the_timeline_of_a_result_of_vllm_begins_at_its_first_request(gimbal, tmp_path):
    result = {
        "label": "run", "duration": 2.0, "completed": 3, "errors": ["", "", "", "refused"],
        "ttfts": [0.25, 0.5, 0.125, 0], "itls": [[0.125, 0.25], [0.125], [], []],
        "input_lens": [8, 8, 8, 8], "output_lens": [3, 2, 1, 0],
    }  # fmt: skip
    sent = [0.5, 0.0, 1.25, 1.5]
    boot = 2.0**20  # seconds that vLLM's clock shows before the run
    vllm = result | {"start_times": [boot + at for at in sent]}
    ours = result | {"start_times": sent, "scheduled_times": sent}
    pictures = []
    for name, document in (("vllm", vllm), ("ours", ours)):
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
        ran = gimbal("report", f"{name}.json", "--out", name, "--report-env", report_env())
        assert ran.returncode == 0, ran.stderr
        pictures.append((tmp_path / name / "timeline.png").read_bytes())
    assert pictures[0] == pictures[1]


def test_missing_matplotlib_is_said_clearly(saved, gimbal, python_env, tmp_path):
    saved("a.json", "--save-detailed")
    for environment in (python_env, tmp_path / "nowhere"):
        ran = gimbal("report", "a.json", "--report-env", environment)
        assert ran.returncode == 1
        assert "make report-env" in ran.stderr and str(environment) in ran.stderr
    saved("b.json", "--save-result")
    ran = gimbal("report", "b.json")
    assert ran.returncode == 1 and "--save-detailed" in ran.stderr
