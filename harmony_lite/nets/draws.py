"""What trainings draw: first weights and batches, each from a generator that is passed in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

__all__ = ["first_weights", "mirrored_batch"]

Network = TypeVar("Network", bound=nn.Module)


def first_weights(make: Callable[[], Network], generator: torch.Generator) -> Network:
    """A new network whose first weights follow the generator's seed; torch's global state stays as it was.

    Layers draw their weights from the global state, which is set to the generator's initial seed meanwhile.
    """
    with torch.random.fork_rng():
        torch.manual_seed(generator.initial_seed())
        return make()


def mirrored_batch(tensors: Sequence[Tensor], batch: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """The same random slices of several tensors, half of them mirrored left to right.

    Args:
        tensors: (B, 1, D, H) each, of one length; axis 2 is x, left to right.
        batch: how many slices, drawn with replacement.
        generator: of the draw.
    """
    chosen = torch.randint(len(tensors[0]), (batch,), generator=generator)
    mirrored = (torch.rand(batch, generator=generator) < 0.5)[:, None, None, None]
    return tuple(torch.where(mirrored, slices[chosen].flip(2), slices[chosen]) for slices in tensors)
