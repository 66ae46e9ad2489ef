"""The model in models/demo, which `make serve` serves: what it says and how it routes."""

import itertools
import json
import math
import pathlib
import re
import struct

import pytest

import demo_topics

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "demo"
LAYERS, EXPERTS, TOP_K = 6, 32, 4


@pytest.fixture(scope="module")
def demo(start_server):
    with start_server(model=MODEL) as running:
        yield running


def ask(server, question):
    body = {"messages": [{"role": "user", "content": question}], "max_tokens": 60, "temperature": 0}
    status, _, text = server.post("/v1/chat/completions", body)
    assert status == 200, text
    choice = json.loads(text)["choices"][0]
    assert choice["finish_reason"] == "stop", choice
    return choice["message"]["content"]


@pytest.mark.parametrize(
    "question, begins",
    [
        ('What does "milk" mean?', "Milk is a noun: "),
        ("What does the command ls do?", "ls is a command: list directory contents."),
        ("Was macht der Befehl grep?", "grep ist ein Befehl: "),
        ("Que fait la commande ls ?", "ls est une commande : "),
        ("What does the SQL command ALTER TABLE do?", "ALTER TABLE is an SQL command: "),
        ("Hello", "Hello. Ask me what a word or a command means."),
    ],
)
def test_it_answers_in_sentences(demo, question, begins):
    answer = ask(demo, question)
    assert answer.startswith(begins)
    assert re.search(r"\w\.$", answer)


def test_greedy_tokens_are_those_of_transformers(demo):
    golden = json.loads((ROOT / "tests/goldens/demo.json").read_text())
    compared = 0
    for run in golden["runs"]:
        wanted = run["greedy"]["bfloat16"]
        sure = list(itertools.takewhile(
            lambda margin: margin > golden["bf16_margin_tolerance"], wanted["margins"]))
        if not sure:
            continue
        answer = demo.complete(prompt=run["prompt"], max_tokens=len(sure), temperature=0, ignore_eos=True)
        _, _, text = demo.post("/detokenize", {"tokens": wanted["tokens"][:len(sure)]})
        # Completions leave out special tokens, as ends of answers are.
        assert answer["choices"][0]["text"] == re.sub(r"<\|\w+\|>", "", json.loads(text)["prompt"])
        compared += len(sure)
    assert compared >= 30


def test_it_starts_in_little_memory(demo):
    status = pathlib.Path(f"/proc/{demo.process.pid}/status").read_text()
    peak_kb = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])
    assert peak_kb < 300_000


def choices_of(record):
    """{request: {layer: counts of the experts}} of a routing record."""
    head = struct.Struct("<8sHQHHH")
    magic, version, _, layers, experts, k = head.unpack_from(record)
    assert (magic, version, layers, experts, k) == (b"GIMBALRT", 1, LAYERS, EXPERTS, TOP_K)
    counts = {}
    for request, _, _, layer, *chosen in struct.Struct(f"<QIHH{k}H").iter_unpack(record[head.size:]):
        row = counts.setdefault(request, {}).setdefault(layer, [0] * experts)
        for expert in chosen:
            row[expert] += 1
    return counts


def distance(a, b):
    """Jensen-Shannon distance of two histograms: the square root of the divergence in bits."""
    def entropy(p):
        return -sum(x * math.log2(x) for x in p if x > 0)

    p, q = ([x / sum(h) for x in h] for h in (a, b))
    middle = [(x + y) / 2 for x, y in zip(p, q)]
    return math.sqrt(max(0.0, entropy(middle) - (entropy(p) + entropy(q)) / 2))


def added(a, b):
    return [x + y for x, y in zip(a, b)]


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def test_experts_differ_by_topic(start_server, tmp_path):
    path = tmp_path / "routing"
    with start_server("--record-routing", str(path), model=MODEL) as running:
        for texts in demo_topics.TOPICS.values():
            for text in texts:
                running.complete(prompt=text, max_tokens=1)
        running.wait_until_idle()
    counts = choices_of(path.read_bytes())
    requests = sorted(counts)
    assert len(requests) == 2 * len(demo_topics.TOPICS)
    topics = list(zip(requests[::2], requests[1::2]))
    clear = 0
    for layer in range(LAYERS):
        use = [added(counts[a][layer], counts[b][layer]) for a, b in topics]
        between = mean(distance(a, b) for a, b in itertools.combinations(use, 2))
        # Texts of the same topic, of half the length, which alone makes them differ more.
        within = mean(distance(counts[a][layer], counts[b][layer]) for a, b in topics)
        clear += between >= 0.15 and between > within
    assert clear > LAYERS / 2


def test_the_recorded_routing_is_this_model_s(start_server, tmp_path):
    path = tmp_path / "routing"
    with start_server("--record-routing", str(path), model=MODEL) as running:
        running.complete(prompt="Hello", max_tokens=2)
        running.wait_until_idle()
    own = path.read_bytes()
    shipped = (MODEL / "routing.bin").read_bytes()
    head = struct.calcsize("<8sHQHHH")
    assert shipped[:head] == own[:head]
    topics = json.loads((MODEL / "routing.json").read_text())
    counts = choices_of(shipped)
    assert sorted(counts) == list(range(len(topics["topic_of_request"]))) and len(counts) == 2000
    assert set(topics["topic_of_request"]) == set(range(len(topics["topics"])))
    assert len(shipped) <= 3_000_000
