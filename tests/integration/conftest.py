"""Fixtures of all integration tests. The build gives the paths through the environment."""

import contextlib
import os
import subprocess

import openai
import pytest

from server_process import ServerProcess


@pytest.fixture(scope="session")
def program():
    return os.environ["GIMBAL_PROGRAM"]


@pytest.fixture
def gimbal(program, tmp_path):
    """Runs the program with the arguments given, in the test's folder."""

    def call(*arguments):
        return subprocess.run(
            [program, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=240,
            cwd=tmp_path,
        )

    return call


@pytest.fixture(scope="session")
def python_env():
    return os.environ["GIMBAL_PYTHON_ENV"]


@pytest.fixture(scope="session")
def demo_model(program, tmp_path_factory):
    # A space, for every path that is built from this one.
    folder = tmp_path_factory.mktemp("with space") / "demo"
    subprocess.run([program, "make-model", folder, "--preset", "demo"], check=True, timeout=60)
    return folder


@pytest.fixture(scope="session")
def start_server(program, python_env, demo_model):
    """A context manager: a ready server with the flags given, ended by SIGTERM with exit code 0."""

    @contextlib.contextmanager
    def start(*flags, model=demo_model):
        server = ServerProcess(program, python_env, model, *flags)
        try:
            server.wait_until_ready()
            yield server
            if server.process.poll() is None:
                code = server.end()
                assert code == 0, f"exit code {code} after SIGTERM:\n" + "".join(server.log)
        finally:
            if server.process.poll() is None:
                server.process.kill()
                server.process.wait()

    return start


@pytest.fixture(scope="session")
def server(start_server):
    with start_server() as running:
        yield running


@pytest.fixture(scope="session")
def client(server):
    with openai.OpenAI(base_url=server.url + "/v1", api_key="unused", max_retries=0) as made:
        yield made


@pytest.fixture
def complete(client, server):
    """client.completions.create with the model named, greedy and short unless told otherwise."""

    def create(prompt, **fields):
        fields = {"max_tokens": 16, "temperature": 0, **fields}
        return client.completions.create(model=server.name, prompt=prompt, **fields)

    return create


@pytest.fixture
def chat(client, server):
    """The same for chat completions; `content` is one user message or a list of messages."""

    def create(content, **fields):
        messages = [{"role": "user", "content": content}] if isinstance(content, str) else content
        fields = {"max_tokens": 16, "temperature": 0, **fields}
        return client.chat.completions.create(model=server.name, messages=messages, **fields)

    return create
