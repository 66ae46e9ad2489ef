"""The files that `gimbal bench` writes. What it measures is not looked at: a benchmark is no test."""

import json
import subprocess


def bench(program, *arguments):
    ran = subprocess.run(
        [program, "bench", *map(str, arguments)], capture_output=True, text=True, timeout=240
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def assert_spread(spread):
    assert 0 < spread["min"] <= spread["median"] <= spread["max"]


def test_bench_engine_reports_every_test_beside_the_machine(program, demo_model, tmp_path):
    path = tmp_path / "engine.json"
    text = bench(
        program, "engine", demo_model, "--prompt-tokens", "16,40", "--generate-tokens", 2,
        "--depth", 20, "--batch", "1,3", "--repetitions", 1, "--json", path,
    )  # fmt: skip
    report = json.loads(path.read_text())
    machine = report["machine"]
    assert machine["threads"] >= 1 and machine["isa"]
    assert_spread(machine["read_bandwidth"])
    assert_spread(machine["matrix_rate"])
    assert [row["test"] for row in report["rows"]] == ["pp16", "pp40", "tg2@1", "tg2@3"]
    assert [row["batch"] for row in report["rows"]] == [1, 1, 1, 3]
    for row in report["rows"]:
        assert row["test"] in text
        assert_spread(row["tokens_per_second"])
        assert row["bandwidth_fraction"] > 0 and row["compute_fraction"] > 0
        assert row["distinct_experts"] >= 1 and row["bytes_touched"] > 0


def test_bench_load_reports_rates_and_memory(program, demo_model, tmp_path):
    path = tmp_path / "load.json"
    text = bench(program, "load", demo_model, "--repetitions", 2, "--json", path)
    assert "of the rate of reading" in text
    report = json.loads(path.read_text())
    for name in ("load_bytes_per_second", "read_bytes_per_second", "read_fraction"):
        assert_spread(report[name])
    # The bound that the loader keeps, whatever the machine.
    assert report["peak_resident_bytes"] <= 1.15 * report["weight_bytes"] + 300e6


def test_bench_load_names_a_folder_without_weights(program, tmp_path):
    ran = subprocess.run([program, "bench", "load", tmp_path], capture_output=True, text=True)
    assert ran.returncode == 1
    assert str(tmp_path) in ran.stderr
