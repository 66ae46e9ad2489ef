#!/usr/bin/env python3
"""Writes the model card, models/demo/README.md, and its heat map, models/demo/routing.png, from what was measured.

    tools/train_demo/write_card.py WORK_DIR OUT_DIR models/demo     (needs matplotlib and numpy)

Reads WORK_DIR/sources.json, xz.json and asked.json, and OUT_DIR/moe.json, dense.json and moe.answers.json.
"""
import argparse
import collections
import json
import pathlib

import matplotlib
import numpy

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  (after the backend)

from sources import TOPICS  # noqa: E402

SAMPLED_GROUPS = ("dictionary word", "dictionary word", "computing term", "manual command", "manual page",
                  "python function", "sql command", "german command", "french page", "spanish translation")


def table(head, rows):
    lines = ["| " + " | ".join(map(str, head)) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def heat_map(use, path):
    use = numpy.array(use) * len(use[0][0])  # share over the mean share
    figure, panels = pyplot.subplots(3, 2, figsize=(9, 7), layout="constrained")
    for layer, panel in enumerate(panels.flat):
        image = panel.imshow(use[:, layer], aspect="auto", cmap="magma", vmin=0, vmax=4)
        panel.set_title(f"layer {layer}", fontsize=9)
        panel.set_yticks(range(len(TOPICS)), TOPICS if layer % 2 == 0 else [""] * len(TOPICS), fontsize=7)
        panel.set_xticks(range(0, use.shape[2], 8))
        panel.tick_params(labelsize=7)
    figure.colorbar(image, ax=panels, label="rows of the expert over the mean", shrink=0.6)
    figure.savefig(path, dpi=75)


def loads(use):
    """Max over mean load by layer: of each topic alone (mean over topics), and of an even mix of all topics."""
    use = numpy.array(use)
    experts = use.shape[2]
    return (use.max(axis=2) * experts).mean(axis=0), use.mean(axis=0).max(axis=1) * experts


def samples(answers):
    """The first answers of each group, in the order in which they were asked: nothing is chosen."""
    groups = collections.defaultdict(list)
    for answer in answers:
        kind = "word" if answer["topic"] == "dictionary" else answer["kind"]
        groups[f"{answer['topic']} {kind}"].append(answer)
    for name in SAMPLED_GROUPS:
        yield groups[name].pop(0)


def grouped(answers_of):
    """Held-out shares with small groups of one topic added up: (name, questions, kind, word, both)."""
    names = {"dictionary word": "words (English)", "computing term": "computing terms"}
    sums = collections.OrderedDict()
    for group, row in answers_of.items():
        topic, kind = group.split(" ", 1)
        name = names.get(group) or ("translations into English" if kind == "translation" else
                                    "manual pages and commands, " + {"manual": "English"}.get(topic, topic.capitalize())
                                    if topic in ("manual", "german", "french", "spanish") else
                                    {"python": "Python", "sql": "SQL", "code": "CMake"}[topic])
        total = sums.setdefault(name, numpy.zeros(4))
        total += row["questions"] * numpy.array([1, row["kind"], row["word"], row["both"]])
    return [(name, int(t[0]), *(f"{value / t[0]:.0%}" for value in t[1:])) for name, t in sums.items()]


CARD = """# The demo model

A small Qwen3-MoE that was trained for this repository: {parameters:.1f} M weights ({active:.1f} M of them used by a token),
6 layers × 256, 4 query heads and one key head of 64, 32 experts × 64 with 4 chosen, tied embeddings, byte-level BPE of
7 680 tokens, context 4 096, bfloat16. `make serve` serves it. It says what words, commands and functions mean, in sentences
that read like a dictionary or a manual page, in English and a little German, French and Spanish. It exists so that a server
can be tried without a download, and so that experiments on balance and placement stand on learned routing.

**What it is not good for**: anything that must be right. It knows common words; about others it invents meanings that
sound like a dictionary. It cannot follow instructions, hold a conversation, reason, count or translate sentences. Nothing
was done to keep it from repeating what its sources say, some of which are a century old.

| file | |
|---|---|
| `model.safetensors`, `config.json`, `generation_config.json` | as transformers (`Qwen3MoeForCausalLM`) reads them |
| `tokenizer.json`, `tokenizer_config.json` | with the chat template (`<\\|im_start\\|>role … <\\|im_end\\|>`) |
| `routing.bin`, `routing.json` | which experts 2 000 requests of nine topics chose, see below |
| `routing.png` | the heat map below |

How it was made and how to repeat it: [tools/train_demo](../../tools/train_demo/README.md).

## Quality

**Bits per byte** of validation text (whole documents that were held out; 1.5 % of the text), beside `xz -9` of that text
alone and behind up to 20 MB of the topic's training text, and a dense model with as many weights, trained on the same
{tokens:.2f} · 10⁹ tokens in the same way (each token uses all of its weights, a token of this model a third):

{bits}

The answers to the questions were made from whole packages, so those glosses and first sentences of the held-out documents
that are answers were seen in training (by both models, not by xz). It matters for WordNet, whose pages are glosses: on parts
of the dictionary's validation text this model needs 1.07 bits per byte for pages of WordNet and 1.25 for the others.

**Held-out questions.** 3 % of the names were kept out of the questions and answers, in all languages (the plain text still
has what it says about them). *Kind*: the answer has the right part of speech, or says "a command" and the like where that
is what it is; *word*: it shares a word with the reference, besides very common ones and the name's own. Names are held
out one by one: a held-out function may share its manual page, and a held-out word its gloss, with a name that was asked
about in training, so these shares say how well it carries over what it has read rather than how well it guesses.

{held}

**Words it was asked about in training**, against words held out, through the server (`tools/train_demo/ask.py`):

{asked}

**Ten samples**, greedy, unedited: the first held-out questions of each kind.

{samples}

## Routing

Trained with a small balance loss over batches of all topics (weight {balance}), so that topics may choose their own
experts while the load of the mix stays near even: at the end of training the busiest expert of a layer had 1.3 times the
mean load in batches with questions and 1.6 to 2.0 times in batches of plain text alone. Distances between topics are
Jensen-Shannon distances (square root of the divergence in bits), means over the 36 pairs of topics, on validation text;
max/mean is the load of the busiest expert over the mean.

{routing}

![Heat map of routing by topic and layer](routing.png)

`routing.bin` has the format of `gimbal serve --record-routing` (`src/sched/routing_record.h`): request *i* continues a piece
of validation text of the topic that `routing.json` gives for it (48 prompt tokens, 8 new ones), and the rows of its last 10
positions are there: 3 of the prompt, 7 of decoding. In this record, too, the topics differ: `tests/integration/demo_model_test.py`
asserts on the weights that they do.

## Training

{steps} steps of {batch} tokens ({tokens:.2f} · 10⁹ tokens, about {passes:.0f} passes over the text) in {seconds:.0f} s on one
{device} (torch {torch}, bfloat16, seed {seed}); Muon for the matrices and Adam for the rest, learning rate {rate} with a
straight fall to zero over the second half. A quarter of the steps has rows of 4 096 tokens of plain text, the others rows of
512, of which 40 to 60 % are questions and answers (loss on the answers only).

## Text and licences

{megabytes:.0f} MB of text from Debian 12 packages, cleaned of markup and repeated paragraphs, and {pairs} made by
rule from the same packages. The licences are the packages' own for the text that was read. The weights are a statistical
summary of that text; where they repeat a passage, its licence holds for it. This repository's own licence (Apache-2.0)
covers the code, not the sources.

{sources}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("work", "out", "model"):
        parser.add_argument(name, type=pathlib.Path)
    args = parser.parse_args()
    moe, dense = (json.loads((args.out / f"{name}.json").read_text()) for name in ("moe", "dense"))
    xz, asked, sources = (json.loads((args.work / f"{name}.json").read_text()) for name in ("xz", "asked", "sources"))
    moe["steps"] = f"{moe['steps']:,}".replace(",", " ")
    answers = json.loads((args.out / "moe.answers.json").read_text())
    heat_map(moe["use"], args.model / "routing.png")
    alone, mixed = loads(moe["use"])
    config = moe["config"]
    unused = config["layers"] * (config["experts"] - config["top_k"]) * 3 * config["hidden"] * config["expert_width"]
    pairs = sum(1 for _ in open(args.work / "pairs.train.jsonl", encoding="utf-8"))
    card = CARD.format(
        **{key: moe[key] for key in ("balance", "steps", "rate", "seed", "torch", "device")},
        parameters=moe["parameters"] / 1e6, active=(moe["parameters"] - unused) / 1e6, tokens=moe["tokens"] / 1e9,
        batch=f"{moe['batch_tokens']:,}".replace(",", " "), seconds=moe["training_seconds"],
        passes=moe["tokens"] / 72.2e6, megabytes=sum(s["bytes"] for s in sources) / 1e6,
        pairs=f"{pairs:,} questions and answers".replace(",", " "),
        bits=table(["topic", "this model", "dense, same size", "`xz -9` alone", "`xz -9` behind training text"],
                   [(t, f"{moe['bits_per_byte'][t]:.3f}", f"{dense['bits_per_byte'][t]:.3f}", f"{xz[t]['alone']:.2f}",
                     f"{xz[t]['behind']:.2f}") for t in TOPICS]),
        held=table(["held out", "questions", "kind", "word", "both", "both, dense model"],
                   [(*row, other[4]) for row, other in zip(grouped(moe["answers"]), grouped(dense["answers"]))]),
        asked=table(["words", "questions", "part of speech", "word", "both"],
                    [(name, row["questions"], *(f"{row[key]:.0%}" for key in ("kind", "word", "both")))
                     for name, row in asked.items()]),
        samples="\n".join(f"{i}. **{s['question']}**<br>{s['answered']}<br>*Reference:* {s['answer']}"
                          for i, s in enumerate(samples(answers), 1)),
        routing=table(["layer", *range(config["layers"])],
                      [("distance between topics", *(f"{d:.2f}" for d in moe["js_distance"])),
                       ("max/mean load, all topics mixed evenly", *(f"{v:.2f}" for v in mixed)),
                       ("max/mean load, one topic alone", *(f"{v:.2f}" for v in alone))]),
        sources=table(["package", "version", "topic", "licence", "MB of text"],
                      [(s["package"], s["version"], s["topic"], s["licence"], f"{s['bytes'] / 1e6:.2f}")
                       for s in sources if s["bytes"]]))
    (args.model / "README.md").write_text(card, encoding="utf-8")


if __name__ == "__main__":
    main()
