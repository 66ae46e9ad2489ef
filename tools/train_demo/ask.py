#!/usr/bin/env python3
"""Asks a running server about words it was asked about in training and about held-out ones, and judges the answers.

    build/release/gimbal serve models/demo &
    tools/train_demo/ask.py http://127.0.0.1:8000 WORK_DIR

Writes WORK_DIR/asked.json: of each set the number of questions and the shares with the right part of speech, with a
word of the reference gloss, and with both (judge.py).
"""
import json
import pathlib
import random
import sys
import urllib.request

from judge import judge

QUESTIONS = 400


def ask(url, question):
    body = {"messages": [{"role": "user", "content": question}], "max_tokens": 64, "temperature": 0}
    request = urllib.request.Request(url + "/v1/chat/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["choices"][0]["message"]["content"]


def sets(work):
    """Dictionary words by how they were met: held out, asked once a pass over the pairs, asked three times or more."""
    held = [json.loads(line) for line in open(work / "pairs.heldout.jsonl", encoding="utf-8")]
    times = {}
    for line in open(work / "pairs.train.jsonl", encoding="utf-8"):
        pair = json.loads(line)
        if pair["topic"] == "dictionary":
            times.setdefault(pair["name"], []).append(pair)
    yield "held out", [pair for pair in held if pair["topic"] == "dictionary"]
    yield "in training, rare", [pairs[0] for pairs in times.values() if len(pairs) == 1]
    yield "in training, common", [pairs[0] for pairs in times.values() if len(pairs) >= 3]


def main():
    url, work = sys.argv[1], pathlib.Path(sys.argv[2])
    result = {}
    for name, pairs in sets(work):
        pairs.sort(key=lambda pair: pair["name"])
        chosen = random.Random(name).sample(pairs, QUESTIONS)
        judged = [judge(pair, ask(url, f'What does "{pair["name"]}" mean?')) for pair in chosen]
        result[name] = {"questions": len(judged), "kind": sum(k for k, _ in judged) / len(judged),
                        "word": sum(w for _, w in judged) / len(judged),
                        "both": sum(k and w for k, w in judged) / len(judged)}
        print(name, result[name], flush=True)
    (work / "asked.json").write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
