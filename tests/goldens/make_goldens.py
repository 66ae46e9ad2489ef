#!/usr/bin/env python3
"""Stores what Hugging Face transformers computes on the models that `gimbal make-model` writes.

Run it in a throwaway virtual environment with torch and transformers (the build never needs them):

    python tests/goldens/make_goldens.py PATH/TO/gimbal [CASE ...]

For each case below it makes the model in a temporary folder (`demo` is the one in models/demo), loads it with transformers in fp32 and bf16
(which proves that the folder is a real one: no missing or unexpected weights) and writes
tests/goldens/CASE.json. README.md beside this file describes the format.
"""
import argparse
import hashlib
import json
import pathlib
import random
import subprocess
import tempfile

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = pathlib.Path(__file__).resolve().parent
GREEDY_TOKENS = 24
TOP = 32
SAMPLED = 96
PROMPT_LENGTHS = (1, 7, 16, 33, 150)
FP32_RELATIVE = 1e-4

SMALL = "--hidden 64 --layers 3 --heads 4 --kv-heads 2 --vocab 512 --max-positions 512"
# Routers that follow the token's topic clearly, so that rounding to bf16 moves few rows to other experts.
CLEAR = "--topics 4 --topic-strength 48 --router-gain 0.1"
CASES = {
    "mixtral": f"--family mixtral {SMALL} --head-dim 16 --experts 8 --top-k 2 --intermediate 96 {CLEAR}",
    "mixtral_window": f"--family mixtral {SMALL} --head-dim 32 --experts 6 --top-k 3 --intermediate 80"
                      f" --sliding-window 24 --routing-skew 2 {CLEAR}",
    "qwen2_moe": f"--family qwen2_moe {SMALL} --layers 6 --experts 8 --top-k 4 --moe-intermediate 48"
                 " --shared-intermediate 96 --intermediate 128 --decoder-sparse-step 2 --mlp-only-layers 3"
                 f" {CLEAR}",
    "qwen2_moe_window": f"--family qwen2_moe {SMALL} --experts 6 --top-k 2 --moe-intermediate 64"
                        " --shared-intermediate 64 --norm-topk --no-attention-bias --sliding-window 20"
                        f" {CLEAR}",
    "qwen3_moe": f"--family qwen3_moe {SMALL} --head-dim 32 --experts 16 --top-k 4 --moe-intermediate 48"
                 f" {CLEAR}",
    "qwen3_moe_mixed": f"--family qwen3_moe {SMALL} --layers 4 --head-dim 16 --experts 8 --top-k 2"
                       " --moe-intermediate 64 --intermediate 96 --mlp-only-layers 0 --attention-bias"
                       " --no-norm-topk --sliding-window 30"
                       f" {CLEAR}",
    "olmoe": f"--family olmoe {SMALL} --kv-heads 4 --experts 16 --top-k 4 --intermediate 48 --clip-qkv 2.5"
             f" --dtype float32 {CLEAR}",
    "llama_llama3": f"--family llama {SMALL} --head-dim 16 --intermediate 128 --rope llama3 --rope-factor 8"
                    " --rope-original-max-positions 64 --tie-embeddings",
    "llama_linear": f"--family llama {SMALL} --head-dim 32 --intermediate 128 --rope linear --rope-factor 4"
                    " --attention-bias --dtype float16",
    "qwen3_yarn": f"--family qwen3 {SMALL} --head-dim 32 --intermediate 128 --rope yarn --rope-factor 4"
                  " --rope-original-max-positions 128",
    "qwen3_window": f"--family qwen3 {SMALL} --head-dim 16 --intermediate 128 --sliding-window 18"
                    " --max-window-layers 1",
}
# A model of the repository, with texts that it knows something about: `<|…|>` are tokens of its chat template.
SHIPPED = {"demo": "models/demo"}
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
TEXTS = [CHAT.format('What does "milk" mean?'), CHAT.format("What does the command ls do?"),
         CHAT.format("Was heißt „hoch“ auf Englisch?"), CHAT.format("What does the SQL command ALTER TABLE do?"),
         CHAT.format("What does os.path.join do in Python?"), CHAT.format("Que fait la commande ls ?"),
         "DESCRIPTION\n  The read() function reads up to count bytes from file descriptor fd into the buffer starting at "
         "buf. On files that support seeking, the read operation commences at the file offset, and the file offset is "
         "incremented by the number of bytes read. If the file offset is at or past the end of file, no bytes are read, "
         "and read() returns zero.\n\n  If count is zero, read() may detect the errors described below."]
# Chosen so that bf16 and fp32 agree on the experts of nearly all rows and most margins are wide.
SEEDS = {"mixtral": 3, "mixtral_window": 3, "qwen2_moe": 3, "qwen2_moe_window": 3, "qwen3_moe": 2, "qwen3_moe_mixed": 4,
         "olmoe": 5, "llama_llama3": 2, "llama_linear": 1, "qwen3_yarn": 3, "qwen3_window": 3}


def arguments_of(case):
    """The case's make-model arguments; a later option replaces an earlier one of the same name."""
    words, options = CASES[case].split(), {}
    while words:
        name = words.pop(0)
        options[name] = words.pop(0) if words and not words[0].startswith("--") else None
    options["--seed"] = str(SEEDS.get(case, 1))
    return [word for name, value in options.items() for word in (name, value) if word is not None]


def make_model(program, case, folder):
    subprocess.run([program, "make-model", folder, *arguments_of(case)], check=True, capture_output=True)


def load(folder, dtype):
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager", experts_implementation="eager", output_loading_info=True)
    problems = {name: value for name, value in info.items() if value}
    if problems:
        raise SystemExit(f"{folder}: transformers does not take the weights as they are: {problems}")
    return model.eval()


def prompts(case, vocab):
    """Token ids, drawn by Python's own generator so that they never change."""
    rng = random.Random(f"prompts of {case}")
    return [[rng.randrange(vocab - 3) for _ in range(length)] for length in PROMPT_LENGTHS]


@torch.no_grad()
def logits_of(model, ids):
    return model(torch.tensor([ids]), use_cache=False).logits[0].float()


def greedy(model, prompt):
    """Tokens and the margin of each over the second best; the whole text is computed again for each."""
    ids, margins = list(prompt), []
    for _ in range(GREEDY_TOKENS):
        best = logits_of(model, ids)[-1].topk(2)
        margins.append((best.values[0] - best.values[1]).item())
        ids.append(best.indices[0].item())
    return ids[len(prompt):], margins


class RouterRecorder:
    """Collects the experts that each row gets, layer by layer."""

    def __init__(self, model):
        self.choices = []
        for layer in model.model.layers:
            gate = getattr(layer.mlp, "gate", None)
            if gate is not None:
                gate.register_forward_hook(self._record)

    def _record(self, module, inputs, output):
        choice = output[2].reshape(-1, output[2].shape[-1])
        self.choices.append(choice.sort(dim=-1).values)

    def take(self):
        taken, self.choices = self.choices, []
        return taken


def quantile(ordered, share):
    return ordered[int(share * (len(ordered) - 1))]


def shown(values, digits):
    return [float(f"{value:.{digits}g}") for value in values]


def positions_of(length):
    """Positions of the whole text (prompt and greedy tokens) whose logits are stored."""
    last = length + GREEDY_TOKENS - 1
    return sorted({0, length // 2, length - 1, length + GREEDY_TOKENS // 2, last})


def run_prompt(models, routers, prompt, sampled):
    """One prompt's record; bf16 differences of logits and margins by position; flips and choices; agreement."""
    tokens, margins = greedy(models["float32"], prompt)
    bf16_tokens, bf16_margins = greedy(models["bfloat16"], prompt)
    text = prompt + tokens
    for router in routers.values():
        router.take()
    logits = {dtype: logits_of(model, text) for dtype, model in models.items()}
    chosen = {dtype: router.take() for dtype, router in routers.items()}
    flips = sum((a != b).any(dim=-1).sum().item() for a, b in zip(chosen["float32"], chosen["bfloat16"]))
    choices = sum(a.shape[0] for a in chosen["float32"])
    difference = (logits["float32"] - logits["bfloat16"]).abs().max(dim=-1).values
    best = logits["float32"].topk(2).indices
    margin = {dtype: values.gather(1, best[:, :1]) - values.gather(1, best[:, 1:]) for dtype, values in logits.items()}
    margin_difference = (margin["float32"] - margin["bfloat16"]).abs()[:, 0]
    # Greedy positions of the same text: (margin in fp32, whether bf16 chooses the same token).
    agreement = [(margin["float32"][p].item(), (logits["bfloat16"][p].argmax() == best[p, 0]).item())
                 for p in range(len(prompt) - 1, len(text) - 1)]
    stored = []
    for position in positions_of(len(prompt)):
        row = logits["float32"][position]
        top = row.topk(TOP)
        stored.append({"position": position,
                       "top_ids": top.indices.tolist(), "top": shown(top.values.tolist(), 8),
                       "sampled": shown(row[sampled].tolist(), 8),
                       "bf16_max_abs_diff": float(f"{difference[position].item():.4g}")})
    record = {"prompt": prompt, "logits": stored,
              "greedy": {"float32": {"tokens": tokens, "margins": shown(margins, 4)},
                         "bfloat16": {"tokens": bf16_tokens, "margins": shown(bf16_margins, 4)}}}
    return record, difference.tolist(), margin_difference.tolist(), flips, choices, agreement


def sha256_of_weights(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(pathlib.Path(folder).glob("*.safetensors"))}


def check_tokenizer(folder, vocab):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "def f(x):\n\treturn 'Grüße, мир, 世界 👩‍💻'  # 2024\r\n"
    assert len(tokenizer) == vocab
    assert tokenizer.decode(tokenizer.encode(text)) == text
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False,
                                         add_generation_prompt=True)
    assert chat == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", chat


def golden(program, case):
    with tempfile.TemporaryDirectory() as temporary:
        folder = str(HERE.parent.parent / SHIPPED[case]) if case in SHIPPED else f"{temporary}/model"
        if case not in SHIPPED:
            make_model(program, case, folder)
        models = {"float32": load(folder, torch.float32), "bfloat16": load(folder, torch.bfloat16)}
        weights = sha256_of_weights(folder)
        vocab = models["float32"].config.vocab_size
        check_tokenizer(folder, vocab)
        texts = prompts(case, vocab)
        if case in SHIPPED:
            tokenizer = AutoTokenizer.from_pretrained(folder)
            texts = [tokenizer.encode(text, add_special_tokens=False) for text in TEXTS]
    routers = {dtype: RouterRecorder(model) for dtype, model in models.items()}
    sampled = sorted(random.Random(f"sampled of {case}").sample(range(vocab), SAMPLED))
    runs = [run_prompt(models, routers, prompt, sampled) for prompt in texts]
    differences = sorted(d for run in runs for d in run[1])
    margin_differences = sorted(d for run in runs for d in run[2])
    tolerance = 2 * quantile(margin_differences, 0.99)
    agreement = [pair for run in runs for pair in run[5]]
    origin = {"shipped_model": SHIPPED[case]} if case in SHIPPED else {"make_model": arguments_of(case)}
    return {
        "case": case, **origin, "sha256": weights,
        "torch": torch.__version__, "transformers": transformers.__version__,
        "fp32_relative_tolerance": FP32_RELATIVE,
        "bf16_tolerance": float(f"{2 * quantile(differences, 0.99):.4g}"),
        "bf16_margin_tolerance": float(f"{tolerance:.4g}"),
        "bf16_max_abs_diff": float(f"{differences[-1]:.4g}"),
        "bf16_median_abs_diff": float(f"{quantile(differences, 0.5):.4g}"),
        "bf16_comparable": round(sum(m > tolerance for m, _ in agreement) / len(agreement), 4),
        "bf16_disagreements": sum(m > tolerance and not same for m, same in agreement),
        "bf16_router_flips": [sum(run[3] for run in runs), sum(run[4] for run in runs)],
        "sampled_ids": sampled, "runs": [run[0] for run in runs]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="the gimbal program")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of: {', '.join([*CASES, *SHIPPED])}")
    parser.add_argument("--try-seeds", type=int, default=0, metavar="N",
                        help="write nothing; print how comparable each case is with seeds 1 to N")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    for case in args.cases or [*CASES, *SHIPPED]:
        for seed in range(1, args.try_seeds + 1):
            SEEDS[case] = seed
            result = golden(args.program, case)
            print(case, "seed", seed, *(f"{name[5:]} {result[name]}" for name in result if name.startswith("bf16")),
                  flush=True)
        if args.try_seeds == 0:
            result = golden(args.program, case)
            path = HERE / f"{case}.json"
            path.write_text(json.dumps(result, separators=(",", ":")) + "\n")
            print(f"{case}: {path.stat().st_size} bytes, {result['bf16_comparable']:.0%} comparable in bf16")


if __name__ == "__main__":
    main()
