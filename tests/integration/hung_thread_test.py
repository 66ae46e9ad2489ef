"""`gimbal serve`: an engine whose thread hangs, here because ptrace holds it where it rests."""

import concurrent.futures
import contextlib
import ctypes
import os
import pathlib

import pytest

from server_process import ServerProcess, wait_for

_PTRACE_SEIZE, _PTRACE_INTERRUPT = 0x4206, 0x4207
_ANY_THREAD = 0x40000000  # __WALL

_libc = ctypes.CDLL(None, use_errno=True)


def _ptrace(what, thread):
    if _libc.ptrace(what, thread, None, None) != 0:
        pytest.skip(f"ptrace: {os.strerror(ctypes.get_errno())}")


def _thread(process, name):
    for task in pathlib.Path(f"/proc/{process.pid}/task").iterdir():
        if (task / "comm").read_text().strip() == name:
            return int(task.name)
    raise AssertionError(f"no thread {name}")


class _Held:
    """A thread that stands still. Its process can be waited for once its end has been."""

    def __init__(self, process, name):
        self._process = process
        self._thread = _thread(process, name)
        _ptrace(_PTRACE_SEIZE, self._thread)
        _ptrace(_PTRACE_INTERRUPT, self._thread)
        os.waitpid(self._thread, _ANY_THREAD)

    def ended(self):
        with contextlib.suppress(ChildProcessError):
            return os.waitpid(self._thread, _ANY_THREAD | os.WNOHANG) != (0, 0)
        return True

    def kill(self):
        self._process.kill()
        wait_for(self.ended, "the process to be killed")


@pytest.fixture
def hold(program, python_env, demo_model):
    """Starts engines, and holds one's thread on demand."""
    with contextlib.ExitStack() as ends:

        def start(*flags):
            server = ServerProcess(program, python_env, demo_model, *flags)
            ends.callback(server.process.kill)
            server.wait_until_ready()

            def held(name):
                thread = _Held(server.process, name)
                ends.callback(thread.kill)
                return thread

            return server, held

        yield start


_SEVERAL = ("--data-parallel-size", "2", "--rank-workers", "own", "--dead-after", "3")


def _is_given_up(server):
    return server.metric("gimbal:engine_healthy", engine="1") == 0


def _ends_well(server, thread):
    server.process.terminate()
    wait_for(thread.ended, "the server to end", timeout=30)
    return server.wait() == 0


@pytest.mark.parametrize("expert_parallel_size", ["0", "1"])
def test_an_idle_engine_that_hangs_is_given_up(hold, expert_parallel_size):
    server, held = hold(*_SEVERAL, "--expert-parallel-size", expert_parallel_size)
    thread = held("engine 1")
    wait_for(lambda: _is_given_up(server), "the engine to be given up")
    assert server.get("/health")[0] == 200
    answer = server.complete(prompt="still", max_tokens=4, ignore_eos=True)
    assert answer["usage"]["completion_tokens"] == 4
    assert _ends_well(server, thread)


def test_requests_of_an_engine_that_hangs_end(hold):
    server, held = hold(*_SEVERAL, "--expert-parallel-size", "1")
    thread = held("engine 1")
    request = {"model": server.name, "prompt": "on", "max_tokens": 4}
    status, _, text = server.post(
        "/v1/completions", request, headers={"X-data-parallel-rank": "1"}
    )
    assert status in (500, 503) and "engine" in text
    assert _is_given_up(server)
    answer = server.complete(prompt="still", max_tokens=4, ignore_eos=True)
    assert answer["usage"]["completion_tokens"] == 4
    assert _ends_well(server, thread)


def test_the_only_engine_hangs_and_the_program_ends(hold):
    server, held = hold("--shutdown-timeout", "1")
    thread = held("engine 0")
    request = {"model": server.name, "prompt": "on", "max_tokens": 4}
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(server.post, "/v1/completions", request)
        wait_for(lambda: server.metric("gimbal:choices") == 1, "the request")
        assert _ends_well(server, thread)
        with contextlib.suppress(OSError):  # it is cut off
            asked.result()
