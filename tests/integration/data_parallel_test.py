"""`gimbal serve --data-parallel-size`: several engines as one server."""

import concurrent.futures
import json
import subprocess

import pytest

from metrics_test import promtool

_PROMPTS = [f"Engine number {number} counts " * (1 + number % 3) for number in range(12)]


def _generate(server):
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = pool.map(
            lambda prompt: server.complete(
                prompt=prompt, max_tokens=8, temperature=0, ignore_eos=True
            ),
            _PROMPTS,
        )
        return list(answers)


def _texts(answers):
    return [answer["choices"][0]["text"] for answer in answers]


def _get(server, path):
    status, _, text = server.get(path)
    assert status == 200, text
    return json.loads(text)


@pytest.fixture(scope="module")
def expected(server):
    return _texts(_generate(server))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="module")
def several(start_server, folder):
    """Two engines, with records and decisions."""
    with start_server(
        "--data-parallel-size",
        "2",
        "--dispatch",
        "round-robin",
        "--decisions",
        str(folder / "decisions"),
        "--record",
        str(folder / "record"),
    ) as running:
        running.answers = _generate(running)
        running.wait_until_idle()
        yield running


def test_tokens_are_those_of_one_engine(several, expected):
    assert _texts(several.answers) == expected


@pytest.mark.parametrize("rule", ["gimbal", "gimbal-v1", "gimbal-v2", "cache-aware"])
def test_rules_do_not_change_tokens(start_server, expected, rule):
    flags = ("--binding", "late") if rule == "gimbal-v2" else ()
    with start_server("--data-parallel-size", "3", "--dispatch", rule, *flags) as running:
        assert _texts(_generate(running)) == expected


def test_the_preset_of_qllm_serves_and_says_what_it_lacks(start_server, expected):
    with start_server("--data-parallel-size", "2", "--preset", "qllm") as running:
        assert _texts(_generate(running)) == expected
        lacks = [line for line in running.log if "of preset qllm" in line]
        assert len(lacks) == 1 and "preemption expert" in lacks[0]
        assert "batch former" not in lacks[0]


def test_debug_engines_is_one_picture(several):
    picture = _get(several, "/debug/engines")
    assert picture["dispatch"]["rule"] == "round-robin"
    assert picture["dispatch"]["decisions"]["turn"] >= len(_PROMPTS)
    assert [engine["engine"] for engine in picture["engines"]] == [0, 1]
    for engine in picture["engines"]:
        assert engine["healthy"] and engine["freshness"] == "fresh" and engine["age_ms"] == 0
        assert engine["dispatched"] >= len(_PROMPTS) // 2
        assert engine["view"]["ledger"]["requests"] == 0
        assert engine["snapshot"]["pages_total"] > 0


def test_decisions_are_found_by_the_answers_id_and_by_number(several):
    answer = several.answers[3]
    found = _get(several, "/debug/decisions?request=" + answer["id"])
    (decision,) = found["decisions"]
    (order,) = found["orders"]
    assert order["engine"] == decision["engine"] and order["order"]["name"] == "sjf-aging"
    assert order["decision"]["job_tokens"] > 0 and order["decision"]["reason"] == "arrived"
    assert decision["rule"] == "round-robin" and decision["reason"] == "turn"
    assert decision["engine"] in (0, 1) and len(decision["engines"]) == 2
    (number,) = decision["requests"]
    assert _get(several, f"/debug/decisions?request={number}")["decisions"] == [decision]
    assert several.get("/debug/decisions?request=cmpl-none")[0] == 404
    assert len(_get(several, "/debug/decisions")["decisions"]) >= len(_PROMPTS)


def test_pinned_users_go_to_their_engine(several, program, tmp_path):
    def dispatched():
        return [engine["dispatched"] for engine in _get(several, "/debug/engines")["engines"]]

    before = dispatched()
    ran = subprocess.run(
        [program, "bench", "serve", "--base-url", several.url, "--num-prompts", "9",
         "--dataset-name", "random", "--random-input-len", "8", "--random-output-len", "2",
         "--users", "3", "--pin-users", "1", "--request-rate", "100"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    first, second = dispatched()
    assert first >= before[0] + 9 and second == before[1]
    assert _get(several, "/debug/decisions")["decisions"][-1]["reason"] == "only"


def test_metrics_have_a_label_an_engine(several):
    tokens = [several.metric("vllm:generation_tokens_total", engine=e) for e in ("0", "1")]
    assert sum(tokens) == several.metric("vllm:generation_tokens_total") and min(tokens) > 0
    assert several.metric("gimbal:dispatch_decisions_total", reason="turn") >= len(_PROMPTS)
    assert several.metric("gimbal:engine_healthy") == 2
    ended = [several.metric("vllm:request_success_total", engine=e) for e in ("0", "1")]
    assert sum(ended) >= len(_PROMPTS) and min(ended) > 0
    firsts = [several.metric("vllm:time_to_first_token_seconds_count", engine=e) for e in ("0", "1")]
    assert firsts == ended
    text = several.get("/metrics")[2]
    assert promtool(text.replace("vllm:", "vllm_").replace("gimbal:", "gimbal_")) == (0, [])


def test_one_engine_has_no_dispatcher(server):
    picture = _get(server, "/debug/engines")
    assert len(picture["engines"]) == 1 and picture["dispatch"]["rule"] == "none"
    answer = server.complete(prompt="Hello", max_tokens=2)
    found = _get(server, "/debug/decisions?request=" + answer["id"])
    assert found["decisions"] == [] and len(found["orders"]) == 1


def test_a_preset_sets_every_column_and_options_override_it(start_server, tmp_path):
    config = tmp_path / "serve.ini"
    config.write_text("preset = gimbal-v1\ndata-parallel-size = 2\nbatch-former = tgi\n")
    record = tmp_path / "record"
    decisions = tmp_path / "decisions"
    with start_server(
        "--config",
        str(config),
        "--order",
        "sjf",
        "--record",
        str(record),
        "--decisions",
        str(decisions),
    ) as running:
        assert _get(running, "/debug/engines")["dispatch"]["rule"] == "gimbal-v1"
        answer = running.complete(prompt="Hello", max_tokens=3, n=2)
        running.wait_until_idle()
        assert any("placement gimbal-v1" in line for line in running.log)
    for engine in (0, 1):
        with open(f"{record}.engine{engine}", encoding="utf-8") as lines:
            header = json.loads(lines.readline())
        assert header["order"] == "sjf" and header["former"] == "tgi"
    with open(f"{record}.dispatch", encoding="utf-8") as lines:
        header = json.loads(lines.readline())
    assert header["options"]["rule"] == "gimbal-v1" and header["options"]["feedback"] is False
    with open(decisions, encoding="utf-8") as lines:
        made = [json.loads(line) for line in lines]
    (decision,) = [each for each in made if "order" not in each]
    assert len(decision["requests"]) == 2 and answer["usage"]["completion_tokens"] == 6
    orders = [each for each in made if "order" in each]
    assert [each["order"]["name"] for each in orders] == ["sjf", "sjf"]


@pytest.mark.parametrize(
    "flags, named",
    [
        (("--data-parallel-size", "0"), "--data-parallel-size"),
        (("--dispatch", "nowhere"), "dispatch must be one of"),
        (("--binding", "never"), "--binding"),
        (("--preset", "none"), "preset must be one of"),
        (("--dispatch-lambda", "-1"), "--dispatch-lambda: must be at least 0, is -1"),
        (("--dispatch-exchange-ms", "-1"), "--dispatch-exchange-ms: must be at least 0, is -1"),
        (("--decisions", "/none/file"), "/none/file"),
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
