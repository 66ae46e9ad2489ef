"""What the scheduler's flags change is when tokens are computed, never which."""

import concurrent.futures

import pytest

PROMPTS = [f"{word} " * length for word, length in (("fox", 1), ("dog", 40), ("owl", 130))] * 4


def texts_of(server):
    with concurrent.futures.ThreadPoolExecutor(len(PROMPTS)) as pool:
        answers = pool.map(
            lambda indexed: server.complete(
                prompt=indexed[1],
                max_tokens=12,
                seed=indexed[0],
                temperature=indexed[0] % 2,
                service_tier=("default", "flex")[indexed[0] % 3 == 0],
                priority=indexed[0] % 4,
                ignore_eos=True,
            ),
            enumerate(PROMPTS),
        )
        return [answer["choices"][0]["text"] for answer in answers]


@pytest.fixture(scope="module")
def expected(server):
    texts = texts_of(server)
    assert len(set(texts)) == 9  # greedy texts of equal prompts are the same
    return texts


@pytest.mark.parametrize(
    "flags",
    [
        ("--order", "fcfs", "--batch-former", "vllm"),
        ("--order", "sjf", "--batch-former", "tgi"),
        ("--order", "sjf-priority-aging", "--batch-former", "gimbal"),
        ("--max-num-batched-tokens", "1"),
        ("--max-num-batched-tokens", "7", "--max-num-seqs", "64"),
        ("--max-num-seqs", "1"),
        ("--no-enable-prefix-caching",),
        ("--aging", "auto", "--target-itl-ms", "2"),
        ("--prefill-floor", "3", "--drain-steps", "100"),
        ("--threads", "1", "--no-pin"),
        ("--max-model-len", "512", "--kv-cache-memory-bytes", "1400000"),
    ],
    ids=" ".join,
)
def test_flags_do_not_change_the_text(start_server, expected, flags):
    with start_server(*flags) as server:
        assert texts_of(server) == expected
        server.wait_until_idle()


def test_record_writes_events(start_server, tmp_path):
    record = tmp_path / "events"
    with start_server("--record", str(record)) as server:
        server.complete(prompt="Hello", max_tokens=3)
        server.wait_until_idle()
    assert record.stat().st_size > 0
