#!/usr/bin/env python3
"""Runs the real server under load and the simulator on the same workload, and compares the two.

    tools/check_simulator.py MODEL_DIR [--gimbal build/release/gimbal] [--engines N] [--json FILE]

For each workload: how many requests a second the server clears when all come at once; then a run at each
load, with the scheduler's record; a profile from that record (`bench calibrate --record`); and
`simulate` with the same requests, options and seed. Prints a Markdown table. Python 3.11, no packages.
"""
import argparse
import dataclasses
import json
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

SERVE = ["--max-model-len", "2048", "--max-num-batched-tokens", "2048", "--kv-cache-memory-bytes", "268435456"]


@dataclasses.dataclass
class Workload:
    name: str
    requests: int
    flags: list[str]
    serve: list[str]


WORKLOADS = [
    Workload("prompts of 128 to 384 tokens, 32 to 96 out", 120,
             ["--dataset-name", "random", "--random-input-len", "256", "--random-output-len", "64",
              "--random-range-ratio", "0.5"], ["--no-enable-prefix-caching"]),
    Workload("bursty, prompts of 2 to 256 tokens", 200,
             ["--lengths", "random", "--scale-lengths", "0.125", "--output-cap", "160", "--exact-count",
              "--burstiness", "0.25"], ["--no-enable-prefix-caching"]),
    Workload("multi-turn users, with prefix cache", 160,
             ["--dataset-name", "multi-turn", "--users", "24", "--scale-lengths", "0.25", "--output-cap", "48",
              "--think-seconds", "1", "--pause-seconds", "3"], []),
]
COMPARED = ["mean_ttft_ms", "p99_ttft_ms", "mean_tpot_ms", "p99_tpot_ms", "mean_e2el_ms"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


class Server:
    """`gimbal serve` while the block runs."""

    def __init__(self, options, flags: list[str], log: pathlib.Path):
        self.port = free_port()
        self.log = open(log, "w", encoding="utf-8")
        self.command = [options.gimbal, "serve", options.model_dir, "--port", str(self.port), "--compute-nice",
                        "5", "--log-level", "warning", *SERVE, *flags]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log)
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=1)
                return self
            except (urllib.error.URLError, OSError):
                if self.process.poll() is not None:
                    sys.exit(f"the server ended: see {self.log.name}")
                time.sleep(0.1)
        sys.exit("the server does not answer")

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        self.log.close()


def bench(options, server: Server, flags: list[str], result: pathlib.Path):
    run([options.gimbal, "bench", "serve", "--port", str(server.port), "--ignore-eos", "--no-progress",
         "--vocab-size", str(options.vocab_size), *flags, "--save-result", "--result-dir", str(result.parent),
         "--result-filename", result.name])
    return json.loads(result.read_text(encoding="utf-8"))


def measure(options, workload: Workload, folder: pathlib.Path):
    flags = [*workload.flags, "--num-prompts", str(workload.requests), "--seed", str(options.seed)]
    engines = ["--data-parallel-size", str(options.engines), *options.serve_flags.split()]
    serve = [*workload.serve, *engines]
    with Server(options, serve, folder / "saturation.log") as server:
        full = bench(options, server, flags, folder / "saturation.json")
    for load in options.loads:
        rate = load * full["request_throughput"]
        at_rate = [*flags, "--request-rate", f"{rate:.4f}"]
        record = folder / f"{load}.record"
        with Server(options, [*serve, "--record", str(record)], folder / f"{load}.log") as server:
            real = bench(options, server, at_rate, folder / f"{load}.real.json")
        profile = folder / f"{load}.profile.json"
        records = [record] if options.engines == 1 else [
            folder / f"{load}.record.engine{i}" for i in range(options.engines)]
        run([options.gimbal, "bench", "calibrate", options.model_dir, "--record", *map(str, records),
             "--output", str(profile)])
        simulated = folder / f"{load}.simulated.json"
        run([options.gimbal, "simulate", "--model", options.model_dir, "--profile", str(profile),
             "--no-progress", *SERVE, *serve, *at_rate, "--json", str(simulated)])
        fit = json.loads(profile.read_text(encoding="utf-8"))["fitted"][-1]["mean_error_percent"]
        yield {"workload": workload.name, "load": load, "requests_per_second": rate,
               "fit_error_percent": fit,
               "real": {key: real[key] for key in COMPARED},
               "simulated": {key: json.loads(simulated.read_text(encoding="utf-8"))["runs"][0][key]
                             for key in COMPARED}}


def line(row) -> str:
    cells = [row["workload"], f"{row['load']}", f"{row['requests_per_second']:.2f}",
             f"{row['fit_error_percent']:.0f} %"]
    for key in COMPARED:
        real, simulated = row["real"][key], row["simulated"][key]
        cells.append(f"{real:.1f} → {simulated:.1f} ({100 * (simulated / real - 1):+.0f} %)")
    return "| " + " | ".join(cells) + " |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model_dir")
    parser.add_argument("--gimbal", default="build/release/gimbal")
    parser.add_argument("--loads", type=float, nargs="+", default=[0.5, 0.85])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engines", type=int, default=1)
    parser.add_argument("--serve-flags", default="", help="for serve and simulate alike, in one text")
    parser.add_argument("--workloads", type=int, nargs="+", default=list(range(len(WORKLOADS))))
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--folder", type=pathlib.Path, help="keep what was measured there")
    options = parser.parse_args()
    config = json.loads((pathlib.Path(options.model_dir) / "config.json").read_text(encoding="utf-8"))
    options.vocab_size = min(config["vocab_size"], 4096)
    rows = []
    print("| workload | load | requests/s | fit error | " +
          " | ".join(f"{key.removesuffix('_ms').replace('_', ' ')}, ms" for key in COMPARED) + " |")
    print("|---" * (4 + len(COMPARED)) + "|")
    with tempfile.TemporaryDirectory() as scratch:
        for index in options.workloads:
            folder = (options.folder or pathlib.Path(scratch)) / str(index)
            folder.mkdir(parents=True, exist_ok=True)
            for row in measure(options, WORKLOADS[index], folder):
                rows.append(row)
                print(line(row), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
