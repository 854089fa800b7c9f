"""What trainings share: first weights and batches, each from a generator that is passed in, and who is held out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

__all__ = ["evenly_spread", "first_weights", "held_out", "in_chunks", "mirrored_batch"]

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
        generator: of the draw, on the tensors' device.
    """
    chosen = torch.randint(len(tensors[0]), (batch,), generator=generator, device=generator.device)
    mirrored = (torch.rand(batch, generator=generator, device=generator.device) < 0.5)[:, None, None, None]
    return tuple(torch.where(mirrored, slices[chosen].flip(2), slices[chosen]) for slices in tensors)


def held_out(people: int, share: float) -> slice:
    """The last people, who are kept from training and choose its best weights: at least one, and not everybody.

    Args:
        people: how many there are.
        share: of them that is held out.

    Raises:
        ValueError: fewer than two people.

    >>> held_out(24, 0.125)
    slice(21, 24, None)
    """
    if people < 2:
        raise ValueError(f"people: found {people}, wanted at least 2, one of them held out")
    return slice(people - min(max(1, round(share * people)), people - 1), people)


def evenly_spread(slices: Tensor, most: int) -> Tensor:
    """At most so many of the slices (B, ...), evenly spread.

    >>> evenly_spread(torch.arange(9), 3)
    tensor([0, 4, 8])
    """
    return slices[torch.linspace(0, len(slices) - 1, min(most, len(slices))).round().long()]


def in_chunks(network: Callable[[Tensor], Tensor], slices: Tensor, device: torch.device, size: int = 32) -> Tensor:
    """What a network makes of many slices (B, 1, H, W), some at a time, gathered on the CPU."""
    return torch.cat([network(chunk.to(device)).cpu() for chunk in slices.split(size)])
