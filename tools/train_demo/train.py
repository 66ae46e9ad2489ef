#!/usr/bin/env python3
"""Trains the demo model, or the dense one of the same size, on one GPU; also runs, slowly, on a CPU.

    tools/train_demo/train.py PACK_DIR OUT_DIR [--dense] [--tokens N] [--resume]

Reads what make_tokens.py packed. Every step's rows follow from the seed and the step, so a run that is stopped goes on
with --resume as if it had not been. Writes OUT_DIR/NAME.pt (weights, fp32), NAME.state.pt (while it runs),
NAME.json (results) and NAME.answers.json (answers to held-out questions), NAME being moe or dense.
"""
import argparse
import dataclasses
import json
import pathlib
import time

import torch
import torch._dynamo
from tokenizers import Tokenizer

import evaluate
from data import Data
from model import Config, Model, token_losses
from optimizer import Optimizer

LONG, SHORT = 4096, 512  # tokens of a row: every fourth step has long rows of plain text
WARM_UP = 100


def rate_at(step, steps, peak):
    """A short warm-up, the peak, and a straight fall to zero over the second half."""
    return peak * min(1, (step + 1) / WARM_UP) * min(1, 2 * (1 - step / steps))


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--dense", action="store_true")
    parser.add_argument("--tokens", type=float, default=600e6, help="read in all")
    parser.add_argument("--batch-tokens", type=int, default=131072, help="of a step")
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--balance", type=float, default=0.01, help="weight of the balance loss")
    parser.add_argument("--pairs", type=float, default=0.4, help="share of the short rows that hold pairs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stop-after", type=float, default=1e9, metavar="SECONDS", help="of training; state is kept")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="a small shape, to try the program")
    parser.add_argument("--no-evaluation", action="store_true")
    return parser.parse_args()


class Run:
    def __init__(self, args):
        self.args = args
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.manual_seed(args.seed)
        torch.set_float32_matmul_precision("high")
        config = Config()
        if args.tiny:
            config = dataclasses.replace(config, hidden=64, layers=2, heads=2, head_dim=32, experts=8, top_k=2,
                                         expert_width=16)
        self.config = config.dense() if args.dense else config
        self.name = "dense" if args.dense else "moe"
        self.model = Model(self.config).to(self.device)
        self.optimizer = Optimizer(self.model)
        self.data = Data(args.pack, self.device)
        self.steps = max(4, int(args.tokens / args.batch_tokens))
        self.step, self.losses = 0, token_losses
        if self.device == "cuda":
            torch._dynamo.config.automatic_dynamic_shapes = False  # one graph for each of the two row lengths
            torch._dynamo.config.recompile_limit = 64
            for block in self.model.blocks:
                block.compile()
            self.losses = torch.compile(token_losses)
        if args.resume:
            state = torch.load(args.out / f"{self.name}.state.pt", map_location=self.device)
            self.model.load_state_dict(state["model"])
            self.optimizer.restore(state["optimizer"])
            self.step = state["step"]

    def autocast(self):
        return torch.autocast(self.device, dtype=torch.bfloat16)

    def train_step(self):
        """(loss, shares of the experts) of one step."""
        args, long = self.args, self.step % 4 == 3
        length = LONG if long else SHORT
        pairs = 0 if long else min(0.6, args.pairs * (1.5 if self.step > 0.7 * self.steps else 1))
        tokens, targets, counted = self.data.rows(args.seed * 1_000_003 + self.step, args.batch_tokens // length, length,
                                                  pairs)
        with self.autocast():
            hidden, balance, shares = self.model.hidden(tokens)
            losses = self.losses(hidden.flatten(0, 1), self.model.embedding, targets.flatten())
            counted = counted.flatten()
            loss = (losses * counted).sum() / counted.sum()
        (loss + args.balance * balance).backward()
        self.optimizer.step(rate_at(self.step, self.steps, args.rate))
        self.step += 1
        return loss.detach(), shares

    def train(self):
        start, first, reported = time.time(), self.step, time.time()
        while self.step < self.steps and time.time() - start < self.args.stop_after:
            loss, shares = self.train_step()
            if self.step - first == 8:  # both lengths are compiled
                loss.item()
                timed, timed_step = time.time(), self.step
            if self.step % 50 == 0 or self.step == self.steps or time.time() - reported > 20:
                value, reported = loss.item(), time.time()
                speed = 0
                if self.step - first > 8:
                    speed = (self.step - timed_step) * self.args.batch_tokens / (time.time() - timed)
                print(f"{self.name} step {self.step}/{self.steps} loss {value:.4f} busiest expert over mean "
                      f"{(shares.max(dim=1).values * shares.shape[1]).mean().item():.2f} {speed / 1e6:.2f} M tokens/s "
                      f"{time.time() - start:.0f} s", flush=True)
        torch.save({"model": self.model.state_dict(), "optimizer": self.optimizer.state(), "step": self.step},
                   self.args.out / f"{self.name}.state.pt")
        return time.time() - start

    def evaluate(self, seconds):
        args, start = self.args, time.time()
        torch.compiler.set_stance("force_eager")  # many shapes, each met once
        for parameter in self.model.parameters():  # what is exported is what is judged
            parameter.data = parameter.data.bfloat16().float()
        torch.save({"config": dataclasses.asdict(self.config), "model": self.model.state_dict()},
                   args.out / f"{self.name}.pt")
        tokenizer = Tokenizer.from_file(str(args.pack / "tokenizer.json"))
        with self.autocast():
            bits = evaluate.bits_per_byte(self.model, self.data, self.device)
            use = evaluate.expert_use(self.model, self.data, self.device)
            shares, answers = evaluate.held_out_answers(self.model, self.data, tokenizer, self.device)
        result = {
            "name": self.name, "config": dataclasses.asdict(self.config), "seed": args.seed, "steps": self.step,
            "tokens": self.step * args.batch_tokens, "batch_tokens": args.batch_tokens, "rate": args.rate,
            "balance": args.balance, "training_seconds": seconds, "device": torch.cuda.get_device_name()
            if self.device == "cuda" else "cpu", "torch": torch.__version__,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "bits_per_byte": bits, "answers": shares, "js_distance": evaluate.distances(use), "use": use.tolist()}
        (args.out / f"{self.name}.json").write_text(json.dumps(result) + "\n")
        (args.out / f"{self.name}.answers.json").write_text(json.dumps(answers, ensure_ascii=False) + "\n")
        print("bits per byte", {t: round(v, 3) for t, v in bits.items()})
        print("held-out answers", {g: [round(v, 2) for v in s.values()] for g, s in shares.items()})
        print("Jensen-Shannon distance", [round(d, 3) for d in result["js_distance"]])
        print(f"evaluated in {time.time() - start:.0f} s", flush=True)


def main():
    args = parse()
    args.out.mkdir(parents=True, exist_ok=True)
    begin = time.time()
    run = Run(args)
    print(f"{run.name}: {sum(p.numel() for p in run.model.parameters()):,} weights, {len(run.data.tokens):,} tokens of "
          f"text, {run.steps} steps, ready after {time.time() - begin:.0f} s", flush=True)
    seconds = run.train()
    if run.step == run.steps and not args.no_evaluation:
        run.evaluate(seconds)


if __name__ == "__main__":
    main()
