#!/usr/bin/env python3
"""Trains the tokenizer and turns text and pairs into token files, packed to travel.

    tools/train_demo/make_tokens.py WORK_DIR        (after make_pairs.py; needs `tokenizers` and numpy)

Writes WORK_DIR/tokenizer.json and WORK_DIR/pack/: per topic TOPIC.train.xz and TOPIC.valid.xz (token ids as u16,
documents ended by <|endoftext|>), pairs.xz and pairs.starts.xz (conversations in the chat template; where each
starts, u32; bit 15 of a token says that the loss counts it), tokenizer.json, valid.json (bytes of the validation text)
and a few held-out questions.
"""
import argparse
import json
import lzma
import pathlib
import random
import subprocess

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from gather import SEPARATOR
from questions import SYSTEM
from sources import TOPICS

VOCABULARY = 7680  # as many as let the weights stay under 25 MB
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")  # the last ids
COUNTED = 1 << 15  # in a token of pairs: the loss counts it
SAMPLE_MB = 7  # of each topic, for the tokenizer
WORDS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
         r"\s+(?!\S)|\s+")


def documents(work, topic, part):
    return (work / "text" / f"{topic}.{part}").read_text(encoding="utf-8").split(SEPARATOR)


def train_tokenizer(work):
    def sample():
        for topic in TOPICS:
            texts = documents(work, topic, "train")
            random.Random(topic).shuffle(texts)
            size = 0
            for text in texts:
                yield text
                size += len(text)
                if size > SAMPLE_MB * 1e6:
                    break

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(WORDS), "isolated"),
         pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY - len(SPECIAL), show_progress=False, max_token_length=24,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(sample(), trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    assert tokenizer.get_vocab_size() == VOCABULARY, tokenizer.get_vocab_size()
    assert tokenizer.token_to_id(SPECIAL[0]) == VOCABULARY - len(SPECIAL)
    tokenizer.save(str(work / "tokenizer.json"))


def write_packed(path, array):
    """Through the xz program, which uses every core that is allowed."""
    subprocess.run(["xz", "-6", "-c"], input=array.tobytes(), stdout=open(path, "wb"), check=True)


def encode(tokenizer, texts):
    end = tokenizer.token_to_id(SPECIAL[0])
    out = []
    for start in range(0, len(texts), 256):
        for encoding in tokenizer.encode_batch_fast(texts[start:start + 256], add_special_tokens=False):
            out += encoding.ids
            out.append(end)
    return np.array(out, dtype=np.uint16)


def turns(pairs, rng):
    """Conversations: mostly one question, some of several, some with a system message."""
    index = 0
    while index < len(pairs):
        count = rng.choice((1, 1, 1, 1, 1, 1, 1, 2, 2, 3))
        yield rng.choice(SYSTEM) if rng.random() < 0.1 else None, pairs[index:index + count]
        index += count


def encode_pairs(tokenizer, pairs):
    """(tokens with COUNTED bits, starts of conversations)."""
    rng = random.Random(6)
    begin, end = (tokenizer.token_to_id(token) for token in SPECIAL[1:])
    stop = tokenizer.token_to_id(SPECIAL[0])
    newline = tokenizer.encode("\n", add_special_tokens=False).ids
    roles = {role: [begin] + tokenizer.encode(role + "\n", add_special_tokens=False).ids
             for role in ("system", "user", "assistant")}
    questions = tokenizer.encode_batch_fast([p["question"] for p in pairs], add_special_tokens=False)
    answers = tokenizer.encode_batch_fast([p["answer"] for p in pairs], add_special_tokens=False)
    system = {text: tokenizer.encode(text, add_special_tokens=False).ids for text in SYSTEM}
    tokens, starts = [], []
    for instruction, chosen in turns(list(range(len(pairs))), rng):
        starts.append(len(tokens))
        if instruction:
            tokens += roles["system"] + system[instruction] + [end] + newline
        for i in chosen:
            tokens += roles["user"] + questions[i].ids + [end] + newline + roles["assistant"]
            tokens += [token | COUNTED for token in answers[i].ids + [end]] + newline
        tokens.append(stop)
    return np.array(tokens, dtype=np.uint16), np.array(starts, dtype=np.uint32)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=pathlib.Path)
    work = parser.parse_args().work
    pack = work / "pack"
    pack.mkdir(exist_ok=True)
    if not (work / "tokenizer.json").exists():
        train_tokenizer(work)
    tokenizer = Tokenizer.from_file(str(work / "tokenizer.json"))
    (pack / "tokenizer.json").write_bytes((work / "tokenizer.json").read_bytes())
    sizes = {}
    for topic in TOPICS:
        for part in ("train", "valid"):
            texts = documents(work, topic, part)
            tokens = encode(tokenizer, texts)
            write_packed(pack / f"{topic}.{part}.xz", tokens)
            size = sum(len(text.encode()) for text in texts)
            print(f"{topic}.{part}: {size / 1e6:.2f} MB, {len(tokens) / 1e6:.2f} M tokens, "
                  f"{size / len(tokens):.2f} bytes a token", flush=True)
            if part == "valid":
                sizes[topic] = size
    (pack / "valid.json").write_text(json.dumps(sizes) + "\n")
    pairs = [json.loads(line) for line in open(work / "pairs.train.jsonl", encoding="utf-8")]
    tokens, starts = encode_pairs(tokenizer, pairs)
    write_packed(pack / "pairs.xz", tokens)
    write_packed(pack / "pairs.starts.xz", starts)
    print(f"pairs: {len(pairs)}, {len(tokens) / 1e6:.2f} M tokens, {np.mean(tokens >= COUNTED):.0%} of them counted")
    held = [json.loads(line) for line in open(work / "pairs.heldout.jsonl", encoding="utf-8")]
    (pack / "heldout.json.xz").write_bytes(lzma.compress(json.dumps(held, ensure_ascii=False).encode()))
    print(f"packed: {sum(p.stat().st_size for p in pack.iterdir()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
