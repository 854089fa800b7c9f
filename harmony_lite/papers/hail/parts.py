"""A volume in parts, each with as much around it as a network looks at, so that borders between parts do not show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

__all__ = ["Part", "parts_of"]

Box = tuple[slice, ...]  # of a tensor (B, C, D, H, W)


class Part(NamedTuple):
    """A box of a volume, as indices.

    Attributes:
        inner: the box itself.
        outer: with what lies around it, as far as the volume goes.
        within: the box in what is made of the outer one.
    """

    inner: Box
    outer: Box
    within: Box

    def coarser(self, by: int) -> Part:
        """The same box in features of so many voxels a side."""
        return Part(*(_box(*((s.start // by, s.stop // by) for s in box[2:])) for box in self))


def parts_of(sides: Sequence[int], window: int, around: int, divisor: int) -> Iterator[Part]:
    """Boxes that cover a volume without overlap; all their sides are multiples of `divisor`, as the volume's are.

    >>> [part.outer[-1] for part in parts_of((8, 8, 16), 8, 3, 4)]
    [slice(0, 12, None), slice(4, 16, None)]
    """
    window = max(divisor, window // divisor * divisor)
    around = -(-around // divisor) * divisor
    for corner in product(*(range(0, side, window) for side in sides)):
        inner = [(first, min(first + window, side)) for first, side in zip(corner, sides, strict=True)]
        outer = [(max(a - around, 0), min(b + around, side)) for (a, b), side in zip(inner, sides, strict=True)]
        within = [(a - first, b - first) for (a, b), (first, _) in zip(inner, outer, strict=True)]
        yield Part(_box(*inner), _box(*outer), _box(*within))


def _box(*ranges: tuple[int, int]) -> Box:
    return slice(None), slice(None), *(slice(a, b) for a, b in ranges)
