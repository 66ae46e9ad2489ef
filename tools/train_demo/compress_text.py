#!/usr/bin/env python3
"""What `xz -9` makes of the validation text, in bits per byte by topic, as a yardstick for the model's.

    tools/train_demo/compress_text.py WORK_DIR

Twice: of the validation text alone, and of it behind up to 20 MB of the topic's training text, which xz has then
read as the model has (the size with it less the size without). Writes WORK_DIR/xz.json.
"""
import json
import lzma
import pathlib
import sys

from sources import TOPICS

BEFORE = 20_000_000


def main():
    work = pathlib.Path(sys.argv[1])
    result = {}
    for topic in TOPICS:
        valid = (work / "text" / f"{topic}.valid").read_bytes()
        before = (work / "text" / f"{topic}.train").read_bytes()[:BEFORE]
        alone = len(lzma.compress(valid, preset=9))
        behind = len(lzma.compress(before + valid, preset=9)) - len(lzma.compress(before, preset=9))
        result[topic] = {"alone": alone * 8 / len(valid), "behind": behind * 8 / len(valid)}
        print(topic, {name: round(value, 3) for name, value in result[topic].items()}, flush=True)
    (work / "xz.json").write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
