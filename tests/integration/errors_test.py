"""What clients get for requests that cannot be served; the server keeps serving."""

import http.client
import json
import socket

import openai
import pytest

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def serves_afterwards(server):
    yield
    assert server.complete(prompt="Still there?", max_tokens=1)["usage"]["completion_tokens"] == 1


def error_of(text):
    """The error of an answer, checked for the shape that OpenAI documents."""
    error = json.loads(text)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str) and isinstance(error["type"], str)
    return error


@pytest.mark.parametrize(
    "param, value",
    [
        ("n", 1000),
        ("n", 0),
        ("max_tokens", "many"),
        ("max_tokens", -1),
        ("temperature", -0.5),
        ("temperature", [1]),
        ("top_p", 2),
        ("logprobs", 21),
        ("stop", 5),
        ("stream", "yes"),
        ("seed", 1.5),
        ("suffix", "the end"),
        ("logit_bias", {"0": "x"}),
        ("service_tier", "gold"),
        ("priority", "high"),
        ("echo", "yes"),
    ],
)
def test_a_field_that_cannot_be_served_is_named(client, server, param, value):
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model=server.name, prompt="x", extra_body={param: value})
    assert refused.value.param and refused.value.param.startswith(param), refused.value
    assert refused.value.type == "invalid_request_error"
    assert param in refused.value.message


@pytest.mark.parametrize(
    "prompt", [None, 5, {"text": "x"}, [], [[]], ["x", 5], [10**9], [-1], [1.5], [True]]
)
def test_a_prompt_of_another_type_is_refused(server, prompt):
    status, _, text = server.post("/v1/completions", {"model": server.name, "prompt": prompt})
    assert status == 400
    assert error_of(text)["param"].startswith("prompt")


def test_a_wrong_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError, match="no-such-model") as refused:
        client.completions.create(model="no-such-model", prompt="x")
    assert refused.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


def test_a_path_that_is_not_served_is_not_found(server):
    for path in ("/", "/v1", "/v1/embeddings", "/v1/completions/extra"):
        status, _, text = server.get(path)
        assert status == 404 and error_of(text)["message"]


def test_a_wrong_method_is_refused(server):
    status, headers, text = server.get("/v1/completions")
    assert status == 405 and "POST" in headers["Allow"] and error_of(text)["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"model": "demo", "prompt": }',
        b'{"model": "demo", "prompt": "x"} trailing',
        b"[1, 2]",
        b"null",
        b'"text"',
        b'{"prompt": ' + b"[" * 100_000,
        b'{"model": "demo", "prompt": "\xff\xfe"}',
        b'{"model": "demo", "prompt": "\xed\xa0\x80"}',
        b'{"model": "demo", "prompt": "x", "max_tokens": 1e999}',
    ],
    ids=range(11),
)
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/tokenize"])
def test_a_body_that_is_not_a_request_is_refused(server, path, body):
    status, headers, text = server.post(path, body)
    assert status == 400, text
    assert headers["Content-Type"].startswith("application/json")
    assert error_of(text)["type"] == "invalid_request_error"


def test_a_lone_surrogate_is_refused_or_replaced(server):
    status, _, text = server.post(
        "/v1/completions", b'{"model": "demo", "prompt": "\\ud800", "max_tokens": 1}'
    )
    assert status in (200, 400), text


def test_a_prompt_that_is_too_long_is_refused(client, server):
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model=server.name, prompt=[300] * 9000)
    assert "9000" in refused.value.message and "8192" in refused.value.message
    assert refused.value.code == "context_length_exceeded"


def test_max_tokens_beyond_the_context_is_refused_or_bounded(client, server):
    try:
        answer = client.completions.create(
            model=server.name, prompt=[300] * 8188, max_tokens=100, extra_body={"ignore_eos": True}
        )
    except openai.BadRequestError as refused:
        assert "8192" in refused.message
    else:
        assert answer.usage.total_tokens <= 8192


def test_a_chat_template_may_refuse_again_and_again(server):
    """Each refusal is a Python exception on the thread that serves every connection."""
    body = {"messages": [{"role": "user", "content": "x"}], "chat_template_kwargs": {"messages": []}}
    for _ in range(50):
        status, _, text = server.post("/v1/chat/completions", body)
        assert status == 400 and error_of(text)["param"] == "chat_template_kwargs"


@pytest.mark.parametrize("announced", [True, False])
def test_a_huge_body_gets_a_413_that_can_be_read(server, announced):
    """`announced`: by Content-Length; else only its chunks tell."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    piece = b" " * MIB
    body = b"".join([piece] * 17) if announced else iter([piece] * 17)
    try:
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        assert response.status == 413
        assert error_of(response.read())["message"]
    finally:
        connection.close()


def test_a_body_just_under_the_limit_is_read(server):
    body = b'{"model": "demo", "prompt": "x", "max_tokens": 1' + b" " * (15 * MIB) + b"}"
    assert server.post("/v1/completions", body)[0] == 200


@pytest.mark.parametrize(
    "head",
    [
        b"NONSENSE\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"GET /health HTTP/1.1\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["method", "version", "header", "negative", "two lengths", "tls"],
)
def test_what_is_not_http_is_answered_or_closed(server, head):
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        try:
            connection.sendall(head)
            if not head.endswith(b"\r\n\r\n"):
                connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(65536)
        except ConnectionError:
            answer = b""
        assert answer == b"" or answer.split()[1].startswith((b"4", b"5")), answer
