"""`gimbal serve --simulate`: the API, dashboards' pages and files without a model."""

import contextlib
import json
import subprocess
import threading

import openai
import pytest

from server_process import ServerProcess, wait_for

CHAT = [{"role": "user", "content": "Tell me about placement."}]


@pytest.fixture(scope="session")
def start(program):
    @contextlib.contextmanager
    def started(*flags):
        server = ServerProcess(program, None, None, *map(str, flags))
        try:
            server.wait_until_ready()
            yield server
            assert server.end() == 0, "".join(server.log)
        finally:
            if server.process.poll() is None:
                server.process.kill()
                server.process.wait()

    return started


@pytest.fixture(scope="session")
def server(start):
    with start("--simulate", 2, "--time-scale", 10) as running:
        yield running


@pytest.fixture(scope="session")
def client(server):
    with openai.OpenAI(base_url=server.url + "/v1", api_key="unused", max_retries=0) as made:
        yield made


def test_tokens_come_one_after_the_other(start):
    # Steps of some 20 ms, so that the answer takes minutes.
    with start("--simulate", 1, "--time-scale", 0.2) as server:
        with openai.OpenAI(base_url=server.url + "/v1", api_key="unused", max_retries=0) as client:
            stream = client.chat.completions.create(
                model=server.name, messages=CHAT, max_tokens=20_000, stream=True)
            chunks = (chunk for chunk in stream if chunk.choices and chunk.choices[0].delta.content)
            for _ in range(4):
                next(chunks)
            assert server.metric("gimbal:choices") == 1  # it is not at its end
            stream.close()


def test_a_chat_streams_words_to_max_tokens(server, client):
    assert [model.id for model in client.models.list()] == ["qwen3-30b-a3b"]
    stream = client.chat.completions.create(
        model=server.name, messages=CHAT, max_tokens=40, stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    pieces, usage, finish = [], None, None
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            pieces.append(choice.delta.content or "")
            finish = choice.finish_reason or finish
    assert finish == "length" and usage.completion_tokens == 40
    text = "".join(pieces)
    assert len(text.split()) > 20, text
    assert text.isascii() and "." in text


def test_an_open_answer_ends_by_itself_after_a_sentence(server, client):
    answer = client.chat.completions.create(model=server.name, messages=CHAT, seed=3)
    again = client.chat.completions.create(model=server.name, messages=CHAT, seed=3)
    choice = answer.choices[0]
    assert choice.finish_reason == "stop"
    assert choice.message.content.strip().endswith(".")
    assert 90 < answer.usage.completion_tokens < 400
    assert again.choices[0].message.content == choice.message.content


def test_the_next_turn_of_a_chat_finds_its_prefix(start):
    def ask(messages, max_tokens):
        fields = {"model": server.name, "messages": messages, "max_tokens": max_tokens}
        status, _, text = server.post("/v1/chat/completions", fields)
        assert status == 200, text
        return json.loads(text)

    with start("--simulate", 1, "--time-scale", 20) as server:
        first = ask(CHAT, 120)
        answer = first["choices"][0]["message"]["content"]
        turn = CHAT + [
            {"role": "assistant", "content": answer},
            {"role": "user", "content": "And then?"},
        ]
        cached = ask(turn, 4)["usage"]["prompt_tokens_details"]["cached_tokens"]
        assert cached > first["usage"]["prompt_tokens"] + 80


def test_completions_stop_strings_and_choices(server):
    whole = server.complete(prompt="Hello", max_tokens=50, seed=1)
    text = whole["choices"][0]["text"]
    stop = text[40:60]
    stopped = server.complete(prompt="Hello", max_tokens=50, seed=1, stop=[stop])
    assert stopped["choices"][0]["finish_reason"] == "stop"
    assert stopped["choices"][0]["text"] == text[: text.index(stop)]
    several = server.complete(prompt=["a", "b"], n=2, max_tokens=5)
    assert len(several["choices"]) == 4 and several["usage"]["completion_tokens"] == 20


def test_log_probabilities_are_refused_by_name(server):
    status, _, text = server.post(
        "/v1/completions", {"model": server.name, "prompt": "x", "logprobs": 1}
    )
    assert status == 400 and "logprobs" in json.loads(text)["error"]["message"]


def test_a_client_that_goes_away_frees_its_pages(server, client):
    before = server.metric("gimbal:choices")
    stream = client.chat.completions.create(
        model=server.name, messages=CHAT, max_tokens=20_000, stream=True
    )
    for _ in zip(range(5), stream):
        pass
    assert server.metric("gimbal:choices") == before + 1
    stream.close()
    server.wait_until_idle()


def test_metrics_and_debug_pages_show_the_engines(server):
    tokens = server.metric("vllm:generation_tokens_total")
    server.complete(prompt="Hello", max_tokens=7)
    assert server.metric("vllm:generation_tokens_total") >= tokens + 7
    for engine in "0", "1":
        assert server.metric("gimbal:engine_healthy", engine=engine) == 1
        assert server.metric("gimbal:kv_pages", engine=engine) > 1000
    page = json.loads(server.get("/debug/engines")[2])
    assert [engine["engine"] for engine in page["engines"]] == [0, 1]
    assert all(engine["healthy"] for engine in page["engines"])
    assert page["dispatch"]["rule"] == "gimbal"
    decisions = json.loads(server.get("/debug/decisions")[2])
    assert decisions["decisions"] and decisions["orders"]
    assert server.get("/health")[0] == 200


def test_a_full_queue_answers_429(start):
    with start("--simulate", 1, "--max-waiting-prefill-tokens", 2000,
               "--max-num-batched-tokens", 256, "--time-scale", 0.05) as server:  # fmt: skip
        statuses = []

        def ask(number):
            prompt = [100 + number] * 1500
            fields = {"model": server.name, "prompt": prompt, "max_tokens": 1}
            status, headers, _ = server.post("/v1/completions", fields)
            statuses.append((status, headers.get("Retry-After")))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {status for status, _ in statuses} == {200, 429}
        assert all(int(after) >= 1 for status, after in statuses if status == 429)


def test_a_cluster_file_with_a_failure_and_files_of_the_run(start, tmp_path):
    (tmp_path / "cluster.json").write_text(json.dumps({
        "groups": [{"ranks": 2}, {"ranks": 1, "profile": "h100"}],
        "signals": {"delay_ms": 5},
        "events": [{"at_s": 100, "fail": 2}],
    }))  # fmt: skip
    with start("--simulate", tmp_path / "cluster.json", "--time-scale", 50,
               "--served-model-name", "rehearsal", "--preset", "gimbal-v2",
               "--decisions", tmp_path / "d.jsonl", "--record", tmp_path / "r.jsonl",
               "--trace-out", tmp_path / "t.json") as server:  # fmt: skip
        assert server.name == "rehearsal"
        server.complete(prompt="Hello", max_tokens=7)
        wait_for(lambda: server.metric("gimbal:engine_healthy", engine="2") == 0, "the failure")
        page = json.loads(server.get("/debug/engines")[2])
        assert [engine["healthy"] for engine in page["engines"]] == [True, True, False]
        assert "failed" in page["engines"][2]["failure"]
        assert page["dispatch"]["rule"] == "gimbal-v2"
        server.complete(prompt="Hello again", max_tokens=7)
    decisions = [json.loads(line) for line in (tmp_path / "d.jsonl").read_text().splitlines()]
    assert sum("order" in decision for decision in decisions) == 2 and len(decisions) == 4
    events = json.loads((tmp_path / "t.json").read_text())
    events = events["traceEvents"] if isinstance(events, dict) else events
    assert any(event.get("name") in ("step", "gang step") for event in events)
    for name in ("r.jsonl.dispatch", "r.jsonl.engine0", "r.jsonl.engine1", "r.jsonl.engine2"):
        assert (tmp_path / name).read_text(), name


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("models/x", "--simulate", "2"), "--simulate serves no MODEL_DIR"),
        (("--time-scale", "2"), "--time-scale goes with --simulate"),
        (("--model", "olmoe-1b-7b"), "--model goes with --simulate"),
        (("--simulate", "2", "--time-scale", "0"), "--time-scale must be more than 0"),
        (("--simulate", "2", "--time-scale", "-1"), "--time-scale must be more than 0"),
        (("--simulate", "2", "--time-scale", "nan"), "--time-scale must be more than 0"),
        (("--simulate", "0"), "--simulate must be a cluster file or 1 to"),
        (("--simulate", "99999999999999"), "--simulate must be a cluster file or 1 to"),
        (("--simulate", "none.json"), "none.json"),
        (("--simulate", "2", "--data-parallel-size", "2"), "--data-parallel-size"),
        (("--simulate", "2", "--threads", "4"), "--threads has no effect"),
        (("--simulate", "2", "--rank-workers", "own"), "--rank-workers has no effect"),
        (("--simulate", "2", "--expert-queues", "ls-first"), "--expert-queues has no effect"),
        (("--simulate", "2", "--record-routing", "r.bin"), "--record-routing has no effect"),
        (("--simulate", "2", "--model", "none"), "none"),
        (("--simulate", "2", "--profile", "none"), "none"),
        (("--simulate", "2", "--order", "none"), "none"),
        (("--simulate", "4", "--expert-parallel-size", "3"), "expert_parallel_size"),
        (("--simulate", "2", "--max-model-len", "4294967297"), "--max-model-len must be at most"),
        (("--simulate", "2", "--record", "no-such-folder/r"), "no-such-folder"),
    ],
)
def test_refuses_what_does_not_go_together(program, tmp_path, flags, complaint):
    ran = subprocess.run(
        [program, "serve", "--port", "0", *flags],
        capture_output=True, text=True, timeout=60, cwd=tmp_path,
    )  # fmt: skip
    assert ran.returncode != 0
    assert complaint in ran.stderr


def test_engines_are_as_many_as_it_says(start):
    with start("--simulate", 4, "--expert-parallel-size", 2, "--time-scale", 20) as server:
        with openai.OpenAI(base_url=server.url + "/v1", api_key="unused", max_retries=0) as client:
            def ask(rank):
                return client.chat.completions.create(
                    model=server.name, messages=CHAT, max_tokens=4,
                    extra_headers={"X-data-parallel-rank": str(rank)},
                )  # fmt: skip

            assert ask(3).usage.completion_tokens == 4
            with pytest.raises(openai.BadRequestError, match="from 0 to 3"):
                ask(4)


def test_errors_of_a_cluster_file_name_file_line_and_field(program, tmp_path):
    (tmp_path / "cluster.json").write_text('{"groups": [\n {"ranks": 2},\n {"rank": 2}]}\n')
    ran = subprocess.run(
        [program, "serve", "--port", "0", "--simulate", "cluster.json"],
        capture_output=True, text=True, timeout=60, cwd=tmp_path,
    )  # fmt: skip
    assert ran.returncode == 1
    assert "cluster.json:3: groups[1].rank is not a field" in ran.stderr
