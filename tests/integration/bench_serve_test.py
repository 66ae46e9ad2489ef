"""`gimbal bench serve` against the real server, and what is done with its results.

What is measured is not looked at: the machine is shared, and a benchmark is no test."""

import json
import signal
import subprocess

import pytest

from server_process import wait_for

PROMPTS = 24
INPUT, OUTPUT = 32, 8


@pytest.fixture
def bench_serve(gimbal, server, tmp_path):
    """Runs the benchmark with the flags given; what it printed, and the result it saved."""

    def call(name, *flags, rate=100, output=OUTPUT):
        ran = gimbal(
            "bench", "serve", "--base-url", server.url, "--num-prompts", PROMPTS,
            "--random-input-len", INPUT, "--random-output-len", output, "--ignore-eos",
            "--request-rate", rate, "--result-filename", name, *flags,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return ran.stdout, json.loads((tmp_path / name).read_text())

    return call


def test_every_request_is_measured_and_accounted_for(bench_serve, server):
    before = server.metric("vllm:generation_tokens_total")
    text, result = bench_serve(
        "a.json", "--save-detailed", "--ls-share", 0.5, "--users", 3, "--num-warmups", 2,
        "--goodput", "ttft:100000", "tpot:100000", "--metadata", "machine=test",
        "--label", "base", "--percentile-metrics", "ttft,e2el", "--metric-percentiles", "50,99",
    )  # fmt: skip
    server.wait_until_idle()
    assert server.metric("vllm:generation_tokens_total") - before == (PROMPTS + 2) * OUTPUT
    assert result["completed"] == PROMPTS and result["failed"] == 0
    assert result["total_input_tokens"] == PROMPTS * INPUT
    assert result["total_output_tokens"] == PROMPTS * OUTPUT
    assert result["model_id"] == server.name
    assert result["request_rate"] == 100
    assert result["machine"] == "test" and result["label"] == "base"
    # Rates are over the same duration.
    duration = result["duration"]
    assert result["request_throughput"] * duration == pytest.approx(PROMPTS)
    assert result["request_goodput"] * duration == pytest.approx(PROMPTS)
    assert result["output_throughput"] * duration == pytest.approx(PROMPTS * OUTPUT)
    assert result["total_token_throughput"] * duration == pytest.approx(PROMPTS * (INPUT + OUTPUT))
    # The last request is due at N/rate.
    assert duration >= PROMPTS / 100
    assert max(result["scheduled_times"]) == pytest.approx(PROMPTS / 100)
    assert result["p50_ttft_ms"] <= result["p99_ttft_ms"] <= result["p99_e2el_ms"]
    assert "mean_tpot_ms" not in result
    # In every result, but printed where it is asked for.
    assert "mean_ttft_content_ms" in result and "p99_ttft_content_ms" in result["classes"]["LS"]
    assert "TTFT_CONTENT" not in text
    assert sum(part["completed"] for part in result["classes"].values()) == PROMPTS
    assert set(result["classes"]) == {"LS", "BE"}
    assert sum(part["completed"] for part in result["users"].values()) == PROMPTS
    assert "Successful requests:" in text and "P99 E2EL (ms):" in text


def test_what_the_server_counted_stands_beside(bench_serve):
    _, result = bench_serve("a.json", "--save-result", "--sample-metrics", 0.02)
    counted = {}
    for series, rise in result["server_metrics"].items():
        name = series.split("{")[0]
        counted[name] = counted.get(name, 0) + rise
    # The server may count an answer's end after the client has read it: of the last one, and of the
    # warm-up's.
    assert abs(counted["vllm:request_success_total"] - PROMPTS) <= 1
    assert counted["vllm:prompt_tokens_total"] == PROMPTS * INPUT
    # One engine: there are no ranks to hold against each other.
    assert result["rank_load_max_over_mean"] is None
    distinct = counted["gimbal:distinct_experts_total"] / counted["gimbal:steps_total"]
    assert result["distinct_experts_per_step"] == pytest.approx(distinct)
    samples = result["server_samples"]
    assert samples["times"] == sorted(samples["times"]) and samples["times"]
    for values in samples["gauges"].values():
        assert len(values) == len(samples["times"])


def test_ranks_that_share_experts_are_held_against_each_other(gimbal, start_server, tmp_path):
    with start_server("--data-parallel-size", "2") as server:
        ran = gimbal(
            "bench", "serve", "--base-url", server.url, "--num-prompts", 4, "--num-warmups", 0,
            "--random-input-len", INPUT, "--random-output-len", OUTPUT, "--ignore-eos",
            "--save-result", "--result-filename", "a.json",
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        result = json.loads((tmp_path / "a.json").read_text())
        (group,) = json.loads(server.get("/debug/experts")[2])["groups"]
    rows = [service["rows"] for service in group["services"]]
    load = max(rows) / (sum(rows) / len(rows))
    assert result["rank_load_max_over_mean"] == pytest.approx(load, rel=0.05)
    assert f"{result['rank_load_max_over_mean']:.3f} times" in ran.stdout
    assert result["distinct_experts_per_step"] > 0
    assert result["exchange_bytes"] == pytest.approx(
        sum(rise for series, rise in result["server_metrics"].items() if "expert_exchange" in series)
    )
    assert result["exchange_bytes"] > 0


def test_latencies_add_up(bench_serve):
    text, result = bench_serve("a.json", "--save-detailed")
    check = result["identity_check"]
    assert check["requests"] == PROMPTS and check["holds"] and check["max_error_ms"] <= 0.001
    assert f"holds for {PROMPTS} requests" in text
    # The server's token counts are held against the chunks that came.
    uneven = [
        len(gaps) + 1 != length for gaps, length in zip(result["itls"], result["output_lens"])
    ]
    assert check["uneven_chunks"] == sum(uneven) and check["without_usage"] == 0
    assert check["max_token_error_ms"] <= 0.001 or any(uneven)
    # And from the lists: the mean E2E is the mean of TTFT and all gaps.
    e2es = [ttft + sum(gaps) for ttft, gaps in zip(result["ttfts"], result["itls"])]
    assert 1e3 * sum(e2es) / PROMPTS == pytest.approx(result["mean_e2el_ms"])
    tpots = [sum(gaps) / (OUTPUT - 1) for gaps in result["itls"]]
    assert 1e3 * sum(tpots) / PROMPTS == pytest.approx(result["mean_tpot_ms"])
    for sent, due in zip(result["start_times"], result["scheduled_times"]):
        assert sent >= due
    assert result["input_lens"] == [INPUT] * PROMPTS
    assert result["output_lens"] == [OUTPUT] * PROMPTS
    assert result["errors"] == [""] * PROMPTS


def test_the_same_seed_asks_for_the_same(bench_serve):
    # Random lengths, so that the seed has something to decide; text depends on every prompt token.
    flags = ("--save-detailed", "--random-range-ratio", 0.5, "--seed", 5)
    first, second = (bench_serve(name, *flags)[1] for name in ("a.json", "b.json"))
    for field in ("input_lens", "output_lens", "scheduled_times", "generated_texts"):
        assert first[field] == second[field]
    assert len(set(first["input_lens"])) > 1


def test_a_shared_prefix_is_seen_as_cached(bench_serve):
    # One after the other: all but the first find the prefix, which fills whole pages.
    text, result = bench_serve(
        "a.json", "--save-result", "--random-prefix-len", 64, "--seed", 77, "--max-concurrency", 1
    )
    assert result["total_input_tokens"] == PROMPTS * (64 + INPUT)
    assert result["total_cached_tokens"] == (PROMPTS - 1) * 64
    hit_rate = result["total_cached_tokens"] / result["total_input_tokens"]
    assert result["prefix_hit_rate"] == pytest.approx(hit_rate)
    (line,) = [line for line in text.splitlines() if line.startswith("Prefix hit rate (%):")]
    assert float(line.split()[-1]) == pytest.approx(100 * hit_rate, abs=0.005)


def test_the_warm_up_leaves_nothing_of_a_text_trace_in_the_cache(gimbal, server, tmp_path):
    conversation = [{"from": "human", "value": "A question that is asked once. " * 8},
                    {"from": "gpt", "value": "Yes"}]  # fmt: skip
    (tmp_path / "t.json").write_text(json.dumps([{"conversations": conversation}]))
    ran = gimbal(
        "bench", "serve", "--base-url", server.url, "--trace", "t.json", "--num-warmups", 1,
        "--ignore-eos", "--save-result", "--result-filename", "r.json",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["total_input_tokens"] > 64 and result["total_cached_tokens"] == 0


def test_ordinary_lines_of_vllm_bench_serve_run(gimbal, server, tmp_path):
    conversation = [{"from": "human", "value": "Say something"}, {"from": "gpt", "value": "No"}]
    (tmp_path / "s.json").write_text(json.dumps([{"conversations": conversation}]))
    for backend in ("openai", "vllm", "openai-chat"):
        ran = gimbal(
            "bench", "serve", "--backend", backend, "--base-url", server.url, "--model",
            server.name, "--tokenizer", "some/tokenizer", "--dataset-name", "sharegpt",
            "--dataset-path", "s.json", "--num-prompts", 2, "--header", "X-Info=1", "X-More=2",
            "--top-p", 0.9, "--top-k", 5, "--min-p", 0.1, "--temperature", 0.5, "--output-cap", 2,
            "--save-result", "--result-filename", f"{backend}.json",
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        assert "--tokenizer" in ran.stderr
        result = json.loads((tmp_path / f"{backend}.json").read_text())
        assert result["completed"] == 2 and result["backend"] == backend


def test_an_interrupt_before_the_first_answer(program, start_server, tmp_path):
    with start_server() as server:
        bench = subprocess.Popen(
            [
                program, "bench", "serve", "--base-url", server.url, "--num-prompts", "1",
                "--random-input-len", "4", "--random-output-len", "1", "--request-rate", "0.0003",
                "--num-warmups", "1", "--save-result",
            ],
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )  # fmt: skip
        try:
            wait_for(lambda: server.metric("vllm:request_success_total") == 1, "the warm-up")
            bench.send_signal(signal.SIGINT)
            _, err = bench.communicate(timeout=60)
        finally:
            bench.kill()
        assert bench.returncode == 130, err
        assert "before anything was answered" in err
        assert not list(tmp_path.glob("*.json*"))


def test_text_prompts_and_limits_on_concurrency(bench_serve):
    _, result = bench_serve(
        "a.json", "--save-detailed", "--prompt-format", "text", "--max-concurrency", 2, rate="inf"
    )
    assert result["completed"] == PROMPTS
    assert result["max_concurrency"] == 2 and result["request_rate"] == "inf"
    spans = sorted(
        change
        for sent, ttft, gaps in zip(result["start_times"], result["ttfts"], result["itls"])
        for change in ((sent, 1), (sent + ttft + sum(gaps), -1))
    )
    open_now = most_open = 0
    for _, change in spans:
        open_now += change
        most_open = max(most_open, open_now)
    assert most_open <= 2


def test_a_workload_file_is_sent_as_it_was_written(gimbal, server, tmp_path):
    ran = gimbal(
        "workload", "--dataset-name", "multi-turn", "--num-prompts", 12, "--users", 4,
        "--topics", 2, "--system-tokens", 32, "--max-conversation-tokens", 200,
        "--output-cap", 4, "--request-rate", 100, "--out", "w.jsonl", "--json",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    statistics = json.loads(ran.stdout)
    assert statistics["requests"] == 12 and statistics["shared_prompt_tokens"] > 0
    ran = gimbal(
        "bench", "serve", "--base-url", server.url, "--trace", "w.jsonl", "--ignore-eos",
        "--save-result", "--result-filename", "r.json",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["total_input_tokens"] == statistics["prompt_tokens"]
    assert result["total_output_tokens"] == statistics["output_tokens"]
    assert len(result["users"]) == statistics["users"]


def test_an_interrupt_prints_what_there_is(program, start_server, tmp_path):
    lines = [
        {"timestamp": at, "input_length": 8, "output_length": 4, "prompt": [[number, 8, -1]]}
        for number, at in enumerate((0, 0, 0, 3_600_000))
    ]
    trace = tmp_path / "trace.jsonl"
    trace.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with start_server() as server:
        bench = subprocess.Popen(
            [
                program, "bench", "serve", "--base-url", server.url, "--trace", str(trace),
                "--max-concurrency", "1", "--num-warmups", "0", "--ignore-eos", "--save-result",
                "--result-filename", "r.json",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )  # fmt: skip
        try:
            # One at a time: when the third is served, the client has read the second.
            wait_for(
                lambda: server.metric("vllm:request_success_total") == 3, "three requests"
            )
            bench.send_signal(signal.SIGINT)
            out, err = bench.communicate(timeout=60)
        finally:
            bench.kill()
        assert bench.returncode == 130, err
        result = json.loads((tmp_path / "r.json").read_text())
        assert result["completed"] in (2, 3) and result["interrupted"]
        assert "1 not sent" in out and "Successful requests:" in out
        assert not result["valid"] and "interrupted" in result["invalid_reason"]
        compared = subprocess.run(
            [program, "bench", "compare", "r.json", "r.json"],
            capture_output=True, text=True, timeout=60, cwd=tmp_path,
        )  # fmt: skip
        assert compared.returncode == 0
        assert "r.json: an invalid run: interrupted: " in compared.stderr


def test_what_cannot_work_is_said_before_anything_is_sent(gimbal, server):
    for flags, named in (
        (("--base-url", "ftp://localhost:1"), "https"),
        (("--base-url", server.url, "--insecure"), "https"),
        (("--base-url", "https://localhost:1", "--cacert", "missing.pem"), "missing.pem"),
        (("--base-url", "http://127.0.0.1:9", "--ready-check-timeout-sec", 0), "cannot connect"),
        (("--base-url", server.url, "--lengths", "odd"), "--lengths"),
        (("--base-url", server.url, "--request-rate", "fast"), "--request-rate"),
        (("--base-url", server.url, "--goodput", "itl:3"), "goodput"),
        (("--base-url", server.url, "--trace", "missing.jsonl"), "missing.jsonl"),
        (("--base-url", server.url, "--extra-body", "[1]"), "extra body"),
        (("--base-url", server.url, "--vocab-size", 10), "first token"),
        (("--base-url", server.url, "--header", "odd"), "--header"),
        (("--base-url", server.url, "--backend", "openai-chat", "--endpoint", "/v1/x"), "--endpoint"),
        (("--base-url", server.url, "--model", "no-such-model"), "no-such-model"),
    ):
        ran = gimbal("bench", "serve", "--num-prompts", 2, *flags)
        assert ran.returncode == 1, flags
        assert named in ran.stderr, ran.stderr


def test_numbers_out_of_range_are_refused(gimbal):
    for flag, values in (
        ("--sample-metrics", ("1e-10", "0.0009", "-1", "3601", "nan")),
        ("--max-lag-ms", ("-1", "nan", "inf")),
    ):
        for value in values:
            ran = gimbal("bench", "serve", "--num-prompts", 2, f"{flag}={value}")
            assert ran.returncode > 1, (flag, value)
            assert f"{flag}: must be" in ran.stderr, ran.stderr


def test_results_are_compared(bench_serve, gimbal, tmp_path):
    for side, length in (("a", 8), ("b", 16)):
        (tmp_path / side).mkdir()
        for seed in (1, 2, 3):
            bench_serve(f"{side}/{seed}.json", "--save-result", "--seed", seed, output=length)
    ran = gimbal("bench", "compare", "a", "b", "--json", "table.json", "--resamples", 200)
    assert ran.returncode == 0, ran.stderr
    assert "same seed" in ran.stdout and "| mean_ttft_ms " in ran.stdout
    table = json.loads((tmp_path / "table.json").read_text())
    (pair,) = table["comparisons"]
    assert pair["base_runs"] == pair["changed_runs"] == 3
    rows = {row["metric"]: row for row in table["rows"]}
    change = rows["output_throughput"]["change"]
    assert change["low"] <= change["estimate"] <= change["high"]
    ran = gimbal("bench", "compare", "a/1.json", "b/1.json,b/2.json", "--metrics", "duration")
    assert ran.returncode == 0, ran.stderr
    assert "| duration " in ran.stdout and "mean_ttft_ms" not in ran.stdout
    ran = gimbal("bench", "compare", "a", "b", "a/1.json", "--names", "x,y,z", "--json", "t.json")
    assert ran.returncode == 0, ran.stderr
    rows = json.loads((tmp_path / "t.json").read_text())["rows"]
    assert set(rows[0]) == {"metric", "x", "y", "y change", "z", "z change"}
    ran = gimbal("bench", "compare", "a", "b", "--metrics", "duration,mean_tfft_ms")
    assert ran.returncode == 1 and "mean_tfft_ms" in ran.stderr
    ran = gimbal("bench", "compare", "a", "nothing")
    assert ran.returncode == 1 and "nothing" in ran.stderr


def test_no_result_takes_the_place_of_another(gimbal, server, tmp_path):
    def serve(*flags):
        ran = gimbal(
            "bench", "serve", "--base-url", server.url, "--num-prompts", 1, "--ignore-eos",
            "--random-input-len", 8, "--random-output-len", 1, "--num-warmups", 0, *flags,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return ran.stderr

    # The loop of the documentation: runs within a second.
    for seed in (1, 2, 3, 4, 5, 5):
        serve("--save-result", "--result-dir", "base", "--seed", seed)
    results = [json.loads(path.read_text()) for path in (tmp_path / "base").iterdir()]
    assert sorted(result["seed"] for result in results) == [1, 2, 3, 4, 5, 5]
    # A name that is given is the operator's: replaced, but not without a word.
    assert "replaced" not in serve("--save-result", "--result-filename", "a.json")
    assert "a.json is there and will be replaced" in serve(
        "--save-result", "--result-filename", "a.json"
    )
    for _ in range(2):
        serve("--append-result", "--result-filename", "a.json")
    assert len((tmp_path / "a.json").read_text().splitlines()) == 3
    ran = gimbal("bench", "compare", "a.json", "base", "--resamples", 20)
    assert ran.returncode == 0 and "6 and 3 runs" in ran.stdout, ran.stderr


def test_a_place_that_cannot_be_written_is_found_before_the_run(gimbal, server, tmp_path):
    (tmp_path / "file").write_text("x")
    before = server.metric("vllm:request_success_total")
    ran = gimbal(
        "bench", "serve", "--base-url", server.url, "--num-prompts", 1, "--save-result",
        "--result-dir", "file/folder",
    )  # fmt: skip
    assert ran.returncode == 1 and "file" in ran.stderr
    assert server.metric("vllm:request_success_total") == before


def test_a_result_that_cannot_be_saved_is_printed(gimbal, server):
    ran = gimbal(
        "bench", "serve", "--base-url", server.url, "--num-prompts", 2, "--save-detailed",
        "--random-input-len", 8, "--random-output-len", 1, "--result-filename", "/dev/full",
    )  # fmt: skip
    assert ran.returncode == 1
    assert "/dev/full" in ran.stderr and "not saved" in ran.stderr
    (line,) = [line for line in ran.stdout.splitlines() if line.startswith("{")]
    result = json.loads(line)
    assert result["completed"] == 2 and "ttfts" not in result
