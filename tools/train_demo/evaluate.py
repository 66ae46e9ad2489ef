"""What a trained model knows: bits per byte of held-out text, answers to held-out questions, use of its experts."""
import math

import torch
import torch.nn.functional as F

from judge import judge
from model import token_losses
from sources import TOPICS


@torch.no_grad()
def bits_per_byte(model, data, device, longest=1_000_000, window=4096):
    """By topic: the validation text in windows of `window` tokens, each read from its own beginning."""
    result = {}
    for topic in TOPICS:
        tokens = data.valid[topic][:longest]
        part = len(tokens) / len(data.valid[topic])
        total = 0.0
        for start in range(0, len(tokens) - 1, window):
            block = tokens[start:start + window + 1].to(device)[None]
            short = window + 1 - block.shape[1]
            padded = F.pad(block, (0, short)) if short else block
            hidden, _, _ = model.hidden(padded[:, :-1])
            losses = token_losses(hidden[0], model.embedding.to(hidden.dtype), padded[0, 1:])
            total += losses[:window - short].sum().item()
        result[topic] = total / math.log(2) / (data.valid_bytes[topic] * part)
    return result


@torch.no_grad()
def greedy(model, prompts, device, stop, new_tokens=64, width=160, batch=512):
    """Greedy continuations of prompts (lists of ids), without a KV cache: each step reads all anew."""
    answers = []
    for begin in range(0, len(prompts), batch):
        part = prompts[begin:begin + batch]
        tokens = torch.zeros(batch, width, dtype=torch.long)
        lengths = torch.ones(batch, dtype=torch.long)
        for i, prompt in enumerate(part):
            lengths[i] = min(len(prompt), width - new_tokens)
            tokens[i, :lengths[i]] = torch.tensor(prompt[:lengths[i]])
        tokens, lengths = tokens.to(device), lengths.to(device)
        starts, rows = lengths.clone(), torch.arange(batch, device=device)
        for _ in range(new_tokens):
            hidden, _, _ = model.hidden(tokens)
            last = F.linear(hidden[rows, lengths - 1], model.embedding.to(hidden.dtype))
            tokens[rows, lengths] = last.argmax(dim=-1)
            lengths += 1
        for i in range(len(part)):
            answer = tokens[i, starts[i]:lengths[i]].tolist()
            answers.append(answer[:answer.index(stop)] if stop in answer else answer)
    return answers


def prompt_of(question):
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


def held_out_answers(model, data, tokenizer, device, most=400):
    """By topic and kind: questions, share with the right kind, with a shared word, with both; and all answers."""
    groups, counts = {}, {}
    for pair in data.held_out:
        group = f"{pair['topic']} {'word' if pair['topic'] == 'dictionary' else pair['kind']}"
        groups.setdefault(group, [])
        if len(groups[group]) < most:
            groups[group].append(pair)
    asked = [(group, pair) for group, pairs in groups.items() for pair in pairs]
    prompts = [tokenizer.encode(prompt_of(pair["question"]), add_special_tokens=False).ids for _, pair in asked]
    stop = tokenizer.token_to_id("<|im_end|>")
    answers = [tokenizer.decode(a) for a in greedy(model, prompts, device, stop)]
    for (group, pair), answer in zip(asked, answers):
        kind, shared = judge(pair, answer)
        row = counts.setdefault(group, [0, 0, 0, 0])
        for i, value in enumerate((1, kind, shared, kind and shared)):
            row[i] += value
    shares = {group: {"questions": n, "kind": k / n, "word": w / n, "both": b / n}
              for group, (n, k, w, b) in counts.items()}
    return shares, [{**pair, "answered": answer} for (_, pair), answer in zip(asked, answers)]


@torch.no_grad()
def expert_use(model, data, device, tokens=65536, window=4096):
    """Share of each expert's rows by topic [topics, layers, experts], over validation text."""
    use = []
    for topic in TOPICS:
        block = data.valid[topic][:tokens]
        block = block[:len(block) // window * window].view(-1, window).to(device)
        use.append(torch.stack([model.hidden(row[None])[2] for row in block]).mean(dim=0).cpu())
    return torch.stack(use)


def distances(use):
    """Mean Jensen-Shannon distance (square root of the divergence in bits) between topics, by layer."""
    def entropy(p):
        return -(p * p.clamp(min=1e-12).log2()).sum(dim=-1)

    topics, layers, _ = use.shape
    result = []
    for layer in range(layers):
        p = use[:, layer].double()
        pairs = [(i, j) for i in range(topics) for j in range(i)]
        result.append(sum((entropy((p[i] + p[j]) / 2) - (entropy(p[i]) + entropy(p[j])) / 2).clamp(min=0).sqrt().item()
                          for i, j in pairs) / len(pairs))
    return result
