"""Cancellation, overload, draining, keys, CORS and TLS."""

import concurrent.futures
import http.client
import json
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.request

import openai
import pytest

from server_process import ServerProcess, wait_for


def client_of(server, **fields):
    fields = {"api_key": "unused", "max_retries": 0, **fields}
    return openai.OpenAI(base_url=server.url + "/v1", **fields)


def endless(client, server, **fields):
    """A stream of many tokens: 4 000 unless told otherwise."""
    fields = {"max_tokens": 4000, "extra_body": {"ignore_eos": True}, **fields}
    return client.completions.create(model=server.name, prompt="On and on", stream=True, **fields)


def test_a_client_that_leaves_mid_stream_frees_its_pages(client, server):
    streams = [endless(client, server, n=2) for _ in range(3)]
    for stream in streams:
        next(iter(stream))
    assert server.metric("vllm:num_requests_running") > 0
    assert server.metric("vllm:kv_cache_usage_perc") > 0
    tokens = server.metric("vllm:generation_tokens_total")
    for stream in streams:
        stream.close()
    server.wait_until_idle()
    # Cut off, not run to its end.
    assert server.metric("vllm:generation_tokens_total") < tokens + 3 * 2 * 4000 / 2
    assert server.metric("vllm:request_success_total", finished_reason="abort") >= 6


def test_a_client_that_leaves_before_the_answer_frees_its_pages(client, server):
    aborted = server.metric("vllm:request_success_total", finished_reason="abort")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    body = {"model": server.name, "prompt": "x", "max_tokens": 8000, "ignore_eos": True}
    connection.request("POST", "/v1/completions", json.dumps(body))
    wait_for(lambda: server.metric("vllm:num_requests_running") > 0, "the request to run")
    connection.close()
    server.wait_until_idle()
    assert server.metric("vllm:request_success_total", finished_reason="abort") == aborted + 1


def test_ending_the_sending_side_cancels_but_not_what_is_answered_at_once(server):
    def ask(method, path, body):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        return answer

    assert b"200 OK" in ask("GET", "/metrics", b"")
    body = {"model": server.name, "prompt": "x", "max_tokens": 8000, "ignore_eos": True}
    answer = ask("POST", "/v1/completions", json.dumps(body).encode())
    assert answer.startswith(b"HTTP/1.1 499") and b"keep it open" in answer
    server.wait_until_idle()


def test_too_much_waiting_prefill_is_a_429_with_retry_after(start_server):
    flags = ("--max-waiting-prefill-tokens", "512", "--max-num-seqs", "1")
    with start_server(*flags) as server, client_of(server) as client:
        running = endless(client, server, max_tokens=8000)
        next(iter(running))
        bodies = [
            {"model": server.name, "prompt": [300 + i] * 200, "max_tokens": 1} for i in range(8)
        ]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(server.post, "/v1/completions", body) for body in bodies]
            wait_for(lambda: sum(answer.done() for answer in answers) >= 6, "refusals")
            running.close()
            answers = [answer.result() for answer in answers]
        refused = [answer for answer in answers if answer[0] != 200]
        assert len(refused) == 6 and {status for status, _, _ in refused} == {429}
        for _, headers, text in refused:
            assert int(headers["Retry-After"]) >= 1
            assert json.loads(text)["error"]["message"]
        assert server.metric("gimbal:requests_refused_total", reason="overload") == 6
        server.wait_until_idle()
        # The client's own retries get through once the queue is short.
        assert client.completions.create(model=server.name, prompt=[300] * 200, max_tokens=1)


def test_an_idle_engine_takes_a_request_whose_choices_exceed_the_bound(start_server):
    with start_server("--max-waiting-prefill-tokens", "512") as server, client_of(server) as client:
        prompts = [[300 + i] * 200 for i in range(6)]
        answer = client.completions.create(model="demo", prompt=prompts, n=2, max_tokens=1)
        assert [choice.index for choice in answer.choices] == list(range(12))
        assert answer.usage.prompt_tokens == 6 * 200


def test_sigterm_lets_streams_end_and_refuses_new_requests(start_server):
    with start_server() as server, client_of(server) as client:
        stream = iter(
            endless(client, server, max_tokens=4000, stream_options={"include_usage": True})
        )
        next(stream)
        idle = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        idle.request("GET", "/health")
        idle.getresponse().read()
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: any("draining" in line for line in server.log), "the drain")

        refused = 0
        while True:
            try:
                status, _, text = server.post(
                    "/v1/completions", {"model": server.name, "prompt": "x", "max_tokens": 1}
                )
            except OSError:
                break
            if status == 503:
                assert json.loads(text)["error"]["message"]
                refused += 1
                break
            assert status == 200  # was faster than the signal
        chunks = list(stream)
        assert chunks[-2].choices[0].finish_reason == "length"
        assert chunks[-1].usage.completion_tokens == 4000
        assert refused == 1 and server.wait() == 0, server.log
        idle.close()


def test_the_shutdown_timeout_bounds_the_drain(start_server):
    with start_server("--shutdown-timeout", "0.2") as server, client_of(server) as client:
        stream = endless(client, server, n=64, max_tokens=8000)
        next(iter(stream))
        began = time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - began < 20
        stream.close()


def test_keys_open_the_api_only(start_server):
    with start_server("--api-key", "first", "--api-key", "second") as server:
        for key in ("first", "second"):
            with client_of(server, api_key=key) as client:
                assert client.completions.create(model="demo", prompt="x", max_tokens=1).choices
        with client_of(server, api_key="third") as client:
            with pytest.raises(openai.AuthenticationError):
                client.completions.create(model="demo", prompt="x", max_tokens=1)
            with pytest.raises(openai.AuthenticationError):
                client.models.list()
        assert server.post("/v1/completions", {"model": "demo", "prompt": "x"})[0] == 401
        for path in ("/health", "/ready", "/metrics"):
            assert server.get(path)[0] == 200


def test_several_names_serve_one_model(start_server):
    names = ["big", "small/100%"]
    flags = [flag for name in names for flag in ("--served-model-name", name)]
    with start_server(*flags) as server, client_of(server) as client:
        assert [model.id for model in client.models.list()] == names
        for name in names:
            assert client.models.retrieve(name).id == name
            answer = client.completions.create(model=name, prompt="x", max_tokens=1)
            assert answer.model == name
        with pytest.raises(openai.NotFoundError):
            client.completions.create(model="demo", prompt="x")


def test_browsers_may_call_from_the_origins_given(start_server):
    with start_server("--cors-origin", "https://page.example") as server:
        request = urllib.request.Request(
            server.url + "/v1/completions",
            method="OPTIONS",
            headers={
                "Origin": "https://page.example",
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization, content-type",
            },
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            assert response.headers["Access-Control-Allow-Origin"] == "https://page.example"
            assert "POST" in response.headers["Access-Control-Allow-Methods"]
        body = {"model": "demo", "prompt": "x", "max_tokens": 1}
        _, headers, _ = server.post("/v1/completions", body, {"Origin": "https://other.example"})
        assert headers["Access-Control-Allow-Origin"] is None


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes its certificate with openssl")
def test_serves_https(program, python_env, demo_model, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        + ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
        + ["-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    flags = ("--ssl-certfile", str(certificate), "--ssl-keyfile", str(key))
    server = ServerProcess(program, python_env, demo_model, *flags)
    try:
        assert server.url.startswith("https://")
        context = ssl.create_default_context(cafile=certificate)
        body = json.dumps({"model": "demo", "prompt": "x", "max_tokens": 30, "stream": True})
        url = server.url + "/v1/completions"
        with urllib.request.urlopen(url, body.encode(), timeout=30, context=context) as response:
            lines = [line for line in response.read().decode().split("\n\n") if line]
        assert len(lines) >= 2 and lines[-1] == "data: [DONE]"
        # The load generator trusts it as far as it is told to.
        bench = [program, "bench", "serve", "--base-url", server.url, "--num-prompts", "2"]
        bench += ["--random-input-len", "4", "--random-output-len", "4"]
        ran = [
            subprocess.run(
                [*bench, *trust], cwd=tmp_path, capture_output=True, text=True, timeout=60
            )
            for trust in (("--cacert", certificate), ("--insecure",), ())
        ]
        assert [each.returncode for each in ran] == [0, 0, 1], [each.stderr for each in ran]
        assert "self-signed certificate" in ran[2].stderr and "--cacert" in ran[2].stderr
        plain = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        with pytest.raises((http.client.HTTPException, OSError)):
            plain.request("GET", "/health")
            plain.getresponse()
        assert server.end() == 0
    finally:
        if server.process.poll() is None:
            server.process.kill()


def test_a_record_that_cannot_be_written_is_told_of(start_server):
    with start_server("--record", "/dev/full") as server:
        server.complete(prompt="a", max_tokens=2)
    assert any("/dev/full could not be written to its end" in line for line in server.log)
