"""/metrics, and the endpoints that tell whether the server lives."""

import json
import os
import subprocess

import pytest

_COLON = "metric names should not contain ':'"


def promtool(text):
    """Exit code and complaints of `promtool check metrics`: 1 unreadable, 3 bad style."""
    ran = subprocess.run(
        [os.environ["GIMBAL_PROMTOOL"], "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return ran.returncode, (ran.stdout + ran.stderr).splitlines()


@pytest.fixture(scope="module")
def metrics(server):
    """After requests of several kinds, so that no family is empty."""
    server.complete(prompt="Hello", max_tokens=3, n=2)
    server.complete(prompt="Hello", max_tokens=3, some_field=1)
    server.post("/v1/completions", {"model": "none", "prompt": "x"})
    for length in range(8):  # enough steps for the step model
        server.complete(prompt="Some words " * (length + 1), max_tokens=4, ignore_eos=True)
    server.wait_until_idle()
    status, headers, text = server.get("/metrics")
    assert status == 200 and headers["Content-Type"].startswith("text/plain")
    return text


def test_promtool_has_no_complaint_but_vllms_colons(metrics):
    code, complaints = promtool(metrics)
    assert code != 1 and [line for line in complaints if not line.endswith(_COLON)] == []
    assert promtool(metrics.replace("vllm:", "vllm_").replace("gimbal:", "gimbal_")) == (0, [])


def test_promtool_would_complain():
    assert promtool("a_total{ 1\n")[0] == 1
    assert promtool("# TYPE things counter\nthings 1\n")[0] == 3


def test_counts_what_was_served(metrics, server):
    tokens = server.metric("vllm:generation_tokens_total")
    lengths = server.metric("vllm:request_success_total", finished_reason="length")
    refused = server.metric("gimbal:requests_refused_total", reason="invalid")
    firsts = server.metric("vllm:time_to_first_token_seconds_count")
    arrived = server.metric("gimbal:order_decisions_total", reason="arrived")
    server.complete(prompt="Counted", max_tokens=5, ignore_eos=True)
    server.post("/v1/completions", b"{")
    server.wait_until_idle()
    assert server.metric("vllm:generation_tokens_total") == tokens + 5
    assert server.metric("vllm:request_success_total", finished_reason="length") == lengths + 1
    assert server.metric("gimbal:requests_refused_total", reason="invalid") == refused + 1
    assert server.metric("vllm:time_to_first_token_seconds_count") == firsts + 1
    assert server.metric("gimbal:order_decisions_total", reason="arrived") == arrived + 1


def test_shows_what_it_learned_of_steps(metrics, server):
    assert "gimbal:step_model_attention_seconds_per_prefill_token" in metrics
    assert server.metric("gimbal:aging") == 0.1


def test_labels_name_the_model(metrics, server):
    assert server.metric("vllm:num_requests_running", model_name="demo") == 0


def test_health_ready_and_version(server, program):
    assert server.get("/health")[0] == 200
    assert server.get("/ready")[0] == 200
    version = json.loads(server.get("/version")[2])["version"]
    printed = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == f"gimbal {version}"
