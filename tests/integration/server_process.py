"""A `gimbal serve` process: started on a free port, awaited, inspected and ended."""

import json
import os
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request

_SERVING = re.compile(r"serving (\S+) on (https?://\S+:(\d+))")


class ServerProcess:
    def __init__(self, program, python_env, model, *flags, env=None, start_timeout=60):
        """`model` None: the program's own demo model. `python_env` None: not given. `env`: added
        to this process's."""
        command = [program, "serve", *([] if model is None else [str(model)])]
        self.process = subprocess.Popen(
            command
            + ["--port", "0", *([] if python_env is None else ["--python-env", python_env]), *flags],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
        )
        self.log = []
        self._serving = threading.Event()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        if not self._serving.wait(start_timeout) or not self.url:
            self.process.kill()
            raise AssertionError("the server did not start:\n" + "".join(self.log))

    def _read_log(self):
        self.url = None
        for line in self.process.stderr:
            self.log.append(line)
            found = _SERVING.search(line)
            if found and not self.url:
                self.name, self.url, self.port = found[1], found[2], int(found[3])
                self._serving.set()
        self._serving.set()

    def wait_until_ready(self):
        wait_for(lambda: self.get("/ready")[0] == 200, "/ready")

    def get(self, path):
        return self._send(urllib.request.Request(self.url + path))

    def post(self, path, body, headers=None):
        """`body`: bytes as they are, or a value to send as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **(headers or {})}
        return self._send(urllib.request.Request(self.url + path, data, headers))

    def _send(self, request):
        """Status, headers and text."""
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, response.headers, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read().decode()

    def complete(self, **fields):
        status, _, text = self.post("/v1/completions", {"model": self.name, **fields})
        assert status == 200, text
        return json.loads(text)

    def metric(self, name, **labels):
        """The sum of a metric's samples that carry `labels`."""
        values = []
        for line in self.get("/metrics")[2].splitlines():
            sample = re.fullmatch(r"([\w:]+)(?:\{(.*)\})? (\S+)", line)
            if sample and sample[1] == name:
                found = dict(re.findall(r'(\w+)="([^"]*)"', sample[2] or ""))
                if labels.items() <= found.items():
                    values.append(float(sample[3]))
        assert values, f"no metric {name} with {labels}"
        return sum(values)

    def wait_until_idle(self):
        """Until no request runs or waits and no page is held."""
        for name in (
            "vllm:num_requests_running",
            "vllm:num_requests_waiting",
            "gimbal:choices",
            "vllm:kv_cache_usage_perc",
        ):
            wait_for(lambda: self.metric(name) == 0, f"{name} to be 0")

    def memory_bytes(self, field):
        """A size from /proc/PID/status, such as VmHWM."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith(field + ":"):
                    return int(line.split()[1]) * 1024
        raise AssertionError(f"no {field} in the process's status")

    def end(self, timeout=60):
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait(timeout)

    def wait(self, timeout=60):
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError("the server did not end:\n" + "".join(self.log)) from None
        self._reader.join(10)
        return code


def wait_for(condition, what, timeout=60):
    """Polls: what is awaited happens in another process."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(0.02)
