"""The demo model in plain PyTorch: the function of transformers' Qwen3MoeForCausalLM, in the form that trains fast.

All experts are computed for every token and weighted by the router's choice, 0 for those not chosen: at this size
three wide products beat gathering rows by expert. With one expert it is the dense model of the same size.
"""
import dataclasses

import torch
import torch.nn.functional as F
from torch import nn


@dataclasses.dataclass(frozen=True)
class Config:
    vocab: int = 7680
    hidden: int = 256
    layers: int = 6
    heads: int = 4
    kv_heads: int = 1
    head_dim: int = 64
    experts: int = 32
    top_k: int = 4
    expert_width: int = 64
    theta: float = 10000.0
    eps: float = 1e-6
    max_positions: int = 4096

    def dense(self):
        """The dense model with as many weights."""
        return dataclasses.replace(self, experts=1, top_k=1, expert_width=self.experts * self.expert_width)


def rotary(config, length, device):
    frequency = config.theta ** (-torch.arange(0, config.head_dim, 2, device=device) / config.head_dim)
    angle = torch.outer(torch.arange(length, device=device, dtype=torch.float32), frequency)
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return (x * cos + turned * sin).to(x.dtype)


class Block(nn.Module):
    """One layer. Returns the hidden states, what balances its router's load, and the choices' shares."""

    def __init__(self, config):
        super().__init__()
        self.config = c = config
        inner = c.experts * c.expert_width
        self.attention_norm = nn.Parameter(torch.ones(c.hidden))
        self.expert_norm = nn.Parameter(torch.ones(c.hidden))
        self.query_norm = nn.Parameter(torch.ones(c.head_dim))
        self.key_norm = nn.Parameter(torch.ones(c.head_dim))
        self.query = nn.Parameter(torch.empty(c.heads * c.head_dim, c.hidden))
        self.key = nn.Parameter(torch.empty(c.kv_heads * c.head_dim, c.hidden))
        self.value = nn.Parameter(torch.empty(c.kv_heads * c.head_dim, c.hidden))
        self.output = nn.Parameter(torch.empty(c.hidden, c.heads * c.head_dim))
        self.router = nn.Parameter(torch.empty(c.experts, c.hidden))
        self.gate = nn.Parameter(torch.empty(inner, c.hidden))  # [experts * width, hidden]
        self.up = nn.Parameter(torch.empty(inner, c.hidden))
        self.down = nn.Parameter(torch.empty(inner, c.hidden))  # transposed: [experts * width, hidden]
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=0.02 / (2 * c.layers) ** 0.5 if name in ("output", "down") else 0.02)

    def attend(self, x, cos, sin):
        c = self.config
        batch, length, _ = x.shape
        shape = (batch, length, -1, c.head_dim)
        query = F.rms_norm(F.linear(x, self.query).view(shape), (c.head_dim,), self.query_norm, c.eps)
        key = F.rms_norm(F.linear(x, self.key).view(shape), (c.head_dim,), self.key_norm, c.eps)
        value = F.linear(x, self.value).view(shape).transpose(1, 2)
        query = rotate(query.transpose(1, 2), cos, sin).to(value.dtype)
        key = rotate(key.transpose(1, 2), cos, sin).to(value.dtype)
        groups = c.heads // c.kv_heads
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return F.linear(mixed.transpose(1, 2).reshape(batch, length, -1), self.output)

    def choose(self, x):
        """Weights of the experts [tokens, experts], 0 for those not chosen; balance loss; share of each expert."""
        c = self.config
        scores = F.linear(x, self.router).float()
        probability = scores.softmax(dim=-1)
        best, chosen = probability.topk(c.top_k, dim=-1)
        best = best / best.sum(dim=-1, keepdim=True)
        weights = torch.zeros_like(probability).scatter(1, chosen, best)
        share = (weights.detach() > 0).float().mean(dim=0) / c.top_k
        balance = c.experts * (share * probability.mean(dim=0)).sum() - 1
        return weights, balance + 0.1 * scores.logsumexp(dim=-1).square().mean(), share

    def forward(self, x, cos, sin):
        c = self.config
        x = x + self.attend(F.rms_norm(x, (c.hidden,), self.attention_norm, c.eps), cos, sin)
        rows = F.rms_norm(x, (c.hidden,), self.expert_norm, c.eps).flatten(0, 1)
        inner = F.silu(F.linear(rows, self.gate)) * F.linear(rows, self.up)
        if c.experts > 1:
            weights, balance, share = self.choose(rows)
            inner = (inner.view(-1, c.experts, c.expert_width) * weights.to(inner.dtype)[:, :, None]).flatten(1)
        else:
            balance, share = x.new_zeros(()), x.new_ones(1)
        return x + (inner @ self.down.to(inner.dtype)).view_as(x), balance, share


class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embedding = nn.Parameter(torch.empty(config.vocab, config.hidden).normal_(std=0.02))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.Parameter(torch.ones(config.hidden))
        self.rotary = {}

    def hidden(self, tokens):
        """(final hidden states, mean balance loss, shares [layers, experts])."""
        length = tokens.shape[1]
        if length not in self.rotary:
            self.rotary[length] = rotary(self.config, length, tokens.device)
        cos, sin = self.rotary[length]
        x = F.embedding(tokens, self.embedding)
        balances, shares = [], []
        for block in self.blocks:
            x, balance, share = block(x, cos, sin)
            balances.append(balance)
            shares.append(share)
        x = F.rms_norm(x, (self.config.hidden,), self.norm, self.config.eps)
        return x, torch.stack(balances).mean(), torch.stack(shares)


def token_losses(hidden, embedding, targets):
    """-log p of each target [rows] after hidden states [rows, hidden]."""
    return F.cross_entropy(F.linear(hidden, embedding).float(), targets, reduction="none")
