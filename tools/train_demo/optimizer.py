"""Muon for the matrices of the layers, each expert's on its own; Adam for embeddings, norms and routers.

Muon: K. Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/ ; the size of its steps as in Moonlight,
arXiv 2502.16982: 0.2 * sqrt(the larger side), so that both take the same learning rate.
"""
import torch

MATRICES = ("query", "key", "value", "output", "gate", "up", "down")


def orthogonal(matrices):
    """The nearest orthogonal matrices [batch, rows, columns], roughly, by Newton-Schulz iteration."""
    x = matrices.bfloat16()
    turned = x.shape[1] > x.shape[2]
    if turned:
        x = x.transpose(1, 2)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    return (x.transpose(1, 2) if turned else x).float()


class Optimizer:
    def __init__(self, model, decay=0.1):
        config = model.config
        self.decay, self.groups = decay, {}
        self.rest = [model.embedding, model.norm]
        for block in model.blocks:
            for name, weight in block.named_parameters():
                if name in MATRICES:
                    experts = config.experts if name in ("gate", "up", "down") else 1
                    self.groups.setdefault((name, experts, weight.shape[0] // experts), []).append(weight)
                else:
                    self.rest.append(weight)
        self.momentum = {key: torch.zeros(len(weights), *weights[0].shape, device=weights[0].device)
                         for key, weights in self.groups.items()}
        self.adam = torch.optim.Adam(self.rest, betas=(0.9, 0.95), eps=1e-10, fused=self.rest[0].is_cuda)

    @torch.no_grad()
    def step(self, rate, momentum=0.95):
        for key, weights in self.groups.items():
            _, experts, rows = key
            gradient = torch.stack([weight.grad for weight in weights])
            average = self.momentum[key].lerp_(gradient, 1 - momentum)
            update = gradient.lerp(average, momentum).view(-1, rows, gradient.shape[-1])
            update = orthogonal(update).view_as(gradient) * (0.2 * max(rows, gradient.shape[-1]) ** 0.5)
            torch._foreach_mul_(weights, 1 - rate * self.decay)
            torch._foreach_add_(weights, list(update.unbind()), alpha=-rate)
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.adam.step()
        for weights in (*self.groups.values(), self.rest):
            for weight in weights:
                weight.grad = None

    def state(self):
        return {"momentum": list(self.momentum.values()), "adam": self.adam.state_dict()}

    def restore(self, state):
        for own, saved in zip(self.momentum.values(), state["momentum"]):
            own.copy_(saved)
        self.adam.load_state_dict(state["adam"])
