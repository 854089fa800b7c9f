"""Blocks of voxels moved into the channels and back: fewer places to visit, and nothing lost."""

from __future__ import annotations

from torch import Tensor

__all__ = ["folded", "unfolded"]


def folded(x: Tensor, side: int) -> Tensor:
    """Blocks of so many voxels a side moved into the channels: (B, C, H, W) to (B, C * side**2, H / side, W / side).

    >>> import torch
    >>> folded(torch.arange(4.0).reshape(1, 1, 2, 2), 2).flatten().tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    sides = [size // side for size in x.shape[2:]]
    x = x.reshape(*x.shape[:2], *(part for size in sides for part in (size, side)))  # (B, C, H / side, side, ...)
    inner = range(3, x.ndim, 2)  # the axes within a block
    return x.permute(0, 1, *inner, *range(2, x.ndim, 2)).reshape(len(x), -1, *sides)


def unfolded(x: Tensor, side: int) -> Tensor:
    """The other way: what `folded` moved into the channels back to its place."""
    sides, dimensions = x.shape[2:], x.ndim - 2
    x = x.reshape(len(x), -1, *[side] * dimensions, *sides)  # (B, C, side, ..., H / side, ...)
    axes = [axis for k in range(dimensions) for axis in (2 + dimensions + k, 2 + k)]
    return x.permute(0, 1, *axes).reshape(len(x), -1, *(size * side for size in sides))
