#!/usr/bin/env python3
"""Records which experts the demo model chooses for 2 000 requests by topic, through the server.

    tools/train_demo/record_routing.py build/release/gimbal build/python-env models/demo WORK_DIR/text

Request i asks for the continuation of a piece of topic i mod 9's validation text, which the model was not trained on:
48 tokens of prompt and 8 new ones, one request at a time. Of each request the rows of the last 10 positions are kept, so
that the file stays under 3 MB: 3 of the prompt, 7 of decoding. Writes models/demo/routing.bin in the format of
`--record-routing`, with request ids 0 to 1 999, and models/demo/routing.json: the topics by name, and the topic of
each request.
"""
import argparse
import json
import pathlib
import random
import re
import struct
import subprocess
import tempfile
import urllib.request

from tokenizers import Tokenizer

from gather import SEPARATOR
from sources import TOPICS

PROMPT_TOKENS, NEW_TOKENS, KEPT = 48, 8, 10


def pieces(folder, tokenizer, count):
    """Prompts (lists of token ids) by topic in turn, from places drawn with a fixed seed."""
    rng = random.Random(2000)
    tokens = {}
    for topic in TOPICS:
        text = (folder / f"{topic}.valid").read_text(encoding="utf-8").replace(SEPARATOR, "\n\n")
        tokens[topic] = tokenizer.encode(text, add_special_tokens=False).ids
    for i in range(count):
        own = tokens[TOPICS[i % len(TOPICS)]]
        start = rng.randrange(len(own) - PROMPT_TOKENS)
        yield own[start:start + PROMPT_TOKENS]


def serve_and_ask(program, environment, model, prompts, path):
    server = subprocess.Popen([program, "serve", model, "--port", "0", "--python-env", environment,
                               "--record-routing", path], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        url = next(found[1] for found in (re.search(r"serving \S+ on (\S+)", line) for line in server.stderr) if found)
        while True:
            try:
                urllib.request.urlopen(url + "/ready", timeout=60).close()
                break
            except urllib.error.HTTPError:
                pass
        for i, prompt in enumerate(prompts):
            body = {"prompt": prompt, "max_tokens": NEW_TOKENS, "temperature": 0, "ignore_eos": True}
            request = urllib.request.Request(url + "/v1/completions", json.dumps(body).encode(),
                                             {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=60) as answer:
                answer.read()
            if (i + 1) % 200 == 0:
                print(f"{i + 1} requests", flush=True)
    finally:
        server.terminate()
        server.communicate()


def shortened(record):
    """The record with the last KEPT positions of each request, and requests numbered from 0 in their order."""
    head = struct.Struct("<8sHQHHH")
    magic, version, model, layers, experts, k = head.unpack_from(record)
    row = struct.Struct(f"<QIHH{k}H")
    assert magic == b"GIMBALRT" and version == 1
    rows = [row.unpack_from(record, at) for at in range(head.size, len(record) - row.size + 1, row.size)]
    last = {}
    for request, position, *_ in rows:
        last[request] = max(last.get(request, 0), position)
    number = {request: i for i, request in enumerate(sorted(last))}
    kept = [(number[request], position, *rest) for request, position, *rest in rows
            if position > last[request] - KEPT]
    return head.pack(magic, version, model, layers, experts, k) + b"".join(row.pack(*r) for r in kept), len(number)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("environment", help="build/python-env")
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("text", type=pathlib.Path)
    parser.add_argument("--requests", type=int, default=2000)
    args = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "routing"
        serve_and_ask(args.program, args.environment, args.model, pieces(args.text, tokenizer, args.requests), path)
        record, requests = shortened(path.read_bytes())
    assert requests == args.requests, requests
    (args.model / "routing.bin").write_bytes(record)
    topics = {"topics": list(TOPICS), "topic_of_request": [i % len(TOPICS) for i in range(requests)]}
    (args.model / "routing.json").write_text(json.dumps(topics, separators=(",", ":")) + "\n")
    print(f"{len(record) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
