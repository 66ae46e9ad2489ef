#!/usr/bin/env python3
"""What a routing record by topic says about load and batches: the table of docs/demo-model.md.

    tools/train_demo/routing_facts.py models/demo

Reads routing.bin and routing.json. Batches are drawn from the record's rows with a fixed seed.
"""
import json
import pathlib
import random
import struct
import sys

DRAWS = 400
RANKS = 4


def read(folder):
    """[topic][layer] -> the experts of each row."""
    topics = json.loads((folder / "routing.json").read_text())
    record = (folder / "routing.bin").read_bytes()
    head = struct.Struct("<8sHQHHH")
    _, _, _, layers, experts, k = head.unpack_from(record)
    rows = [[[] for _ in range(layers)] for _ in topics["topics"]]
    for request, _, _, layer, *chosen in struct.Struct(f"<QIHH{k}H").iter_unpack(record[head.size:]):
        rows[topics["topic_of_request"][request]][layer].append(chosen)
    return rows, layers, experts, k


def over_mean(rows, groups, experts):
    """Load of the busiest of `groups` equal ranges of experts over the mean."""
    load = [0] * groups
    for chosen in rows:
        for expert in chosen:
            load[expert * groups // experts] += 1
    return max(load) * groups / sum(load)


def main():
    rows, layers, experts, k = read(pathlib.Path(sys.argv[1]))
    rng = random.Random(1)
    mixed = [[row for topic in rows for row in topic[layer]] for layer in range(layers)]

    def distinct(pool, size):
        return sum(len({e for row in rng.sample(pool, size) for e in row}) for _ in range(DRAWS)) / DRAWS

    def mean(values):
        values = list(values)
        return sum(values) / len(values)

    one = [topic[layer] for topic in rows for layer in range(layers)]
    print("| of a layer, mean over layers | all topics | one topic | even routing |\n|---|---|---|---|")
    for size in (8, 32):
        even = experts * (1 - (1 - k / experts) ** size)
        print(f"| different experts that {size} rows need | {mean(distinct(p, size) for p in mixed):.1f} | "
              f"{mean(distinct(p, size) for p in one):.1f} | {even:.1f} |")
    for name, groups in (("busiest expert over the mean", experts),
                         (f"busiest of {RANKS} ranks over the mean, experts in order", RANKS)):
        print(f"| {name} | {mean(over_mean(p, groups, experts) for p in mixed):.2f} | "
              f"{mean(over_mean(p, groups, experts) for p in one):.2f} | 1.00 |")


if __name__ == "__main__":
    main()
