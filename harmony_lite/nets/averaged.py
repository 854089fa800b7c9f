"""A moving average of a network's weights, kept while it is trained."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

__all__ = ["Averaged"]


class Averaged(nn.Module):
    """A network in training beside the moving average of its weights, which is what is kept.

    BlindHarmonyDiff's paper is silent about it; its public code keeps an average while it trains and then loads the
    last weights. StarGAN v2 keeps one of generator, mapping and style encoder.

    Args:
        network: what is trained.
        decay: of the average, for each step; 0 for the last weights.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.network, self.decay = network, decay
        self.average = deepcopy(network).requires_grad_(False)
        self.register_buffer("steps", torch.zeros(()))

    @torch.no_grad()
    def follow(self) -> None:
        """Bring the average nearer to the weights as they are; early in a training it follows more closely."""
        self.steps += 1
        kept = torch.minimum(self.steps / (self.steps + 9), torch.full_like(self.steps, self.decay))
        for average, weight in zip(self.average.parameters(), self.network.parameters(), strict=True):
            average.lerp_(weight, 1 - kept)
