# SPDX-License-Identifier: MIT
"""Muon for the matrices, AdamW for the norms and the embedding.

Muon turns the momentum of each matrix into a nearly orthogonal one (all its
singular values near 1) before it is applied. Small models learn to copy from
their context in far fewer tokens that way than with AdamW alone.
"""
import math
from typing import List

import torch

MOMENTUM = 0.95


def orthogonal(stack: torch.Tensor) -> torch.Tensor:
    """Five Newton-Schulz steps in bfloat16. stack [L, m, n] -> same shape."""
    x = stack.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.transpose(-1, -2)
    x = x / (x.float().norm(dim=(-2, -1), keepdim=True) + 1e-7).bfloat16()
    for _ in range(5):
        a = x @ x.transpose(-1, -2)
        x = 3.4445 * x + (2.0315 * (a @ a) - 4.7750 * a) @ x
    return (x.transpose(-1, -2) if tall else x).float()


class Optimizer:
    """`step(rate)` updates all weights of a `model.Llama`."""

    def __init__(self, model, betas, weight_decay: float):
        self.decay = weight_decay
        self.groups: List[List[torch.Tensor]] = [
            [getattr(layer, name).weight for layer in model.layers]
            for name in ("qkv", "out", "gate_up", "down")]
        self.momenta = [torch.zeros(len(group), *group[0].shape)
                        for group in self.groups]
        matrices = {id(weight) for group in self.groups for weight in group}
        self.weights = list(model.parameters())
        self.adam = torch.optim.AdamW(
            [w for w in self.weights if id(w) not in matrices],
            betas=tuple(betas), weight_decay=0.0)

    def zero_grad(self) -> None:
        for weight in self.weights:
            weight.grad = None

    @torch.no_grad()
    def step(self, rate: float) -> None:
        self.adam.param_groups[0]["lr"] = rate
        self.adam.step()
        for group, momentum in zip(self.groups, self.momenta):
            gradient = torch.stack([weight.grad for weight in group])
            momentum.lerp_(gradient, 1 - MOMENTUM)
            update = orthogonal(gradient.lerp(momentum, MOMENTUM))
            # An update as large, on average, as one of AdamW (about 0.2).
            scale = rate * 0.2 * math.sqrt(max(update.shape[-2:]))
            for weight, delta in zip(group, update):
                weight.mul_(1 - rate * self.decay).sub_(delta, alpha=scale)

    def state_dict(self) -> dict:
        return {"adam": self.adam.state_dict(), "momenta": self.momenta}

    def load_state_dict(self, state: dict) -> None:
        self.adam.load_state_dict(state["adam"])
        self.momenta = state["momenta"]
