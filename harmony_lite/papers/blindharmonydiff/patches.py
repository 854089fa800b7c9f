"""Patches with their place: the coordinates of the whole volume, strides, and mirrors (section 3.4 and 4.3).

Source: H. Jeong et al., "Efficient and robust 3D blind harmonization for large domain gaps", 2025. A patch of stride s
along an axis takes every s-th voxel there, by indexing: no averaging. Each voxel keeps the coordinates that it has in
the whole volume, so a network that has seen patches only can be given the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

__all__ = ["FLIPS", "PatchSettings", "Patches", "coordinates", "draw_patches", "strides_for"]

# which patches are mirrored, and what becomes of their coordinates (`draw_patches`)
FLIPS = ("left to right, whole volume", "each axis or not, with coordinates", "one axis always, without coordinates")


@dataclass(frozen=True)
class PatchSettings:
    """What a training sees of a volume.

    Attributes:
        size: voxels of a patch along x, y, z; 1 along z makes it an axial slice.
        multi_stride: share of the patches that are drawn with strides, 0.2 in the paper.
        counts_stride_1: whether a stride of 1 along all axes is among those drawn for that share, as in the public
            code. Then fewer patches have strides than the share says.
        whole_sides: whether a patch may span a whole side of the volume; not in the public code.
        flips: of `FLIPS`. The paper prints random flips along x, y and z.
    """

    size: tuple[int, int, int] = (64, 64, 64)
    multi_stride: float = 0.2
    counts_stride_1: bool = False
    whole_sides: bool = True
    flips: str = FLIPS[1]

    def __post_init__(self) -> None:
        if not 0 <= self.multi_stride <= 1:
            raise ValueError(f"multi_stride: found {self.multi_stride:g}, wanted a share from 0 to 1")
        if self.flips not in FLIPS:
            raise ValueError(f"flips: found {self.flips!r}, wanted one of {', '.join(map(repr, FLIPS))}")


@dataclass(frozen=True)
class Patches:
    """What a training step is given.

    Attributes:
        images: (B, 1, d, h, w), in [-1, 1].
        conditions: (B, 4, d, h, w): edges, and the coordinates of x, y and z.
    """

    images: Tensor
    conditions: Tensor


def coordinates(sides: Sequence[int]) -> Tensor:
    """Where each voxel of a volume lies, (3, D, H, W): along each axis from -1, the first voxel, to 1, the last.

    >>> coordinates((3, 2, 1))[0, :, 0, 0], coordinates((3, 2, 1))[2].flatten()[0]
    (tensor([-1.,  0.,  1.]), tensor(0.))
    """
    return torch.stack(torch.meshgrid(*(along(side) for side in sides), indexing="ij"))


def along(side: int, device: torch.device | None = None) -> Tensor:
    """Coordinates along one axis, (side,); the only voxel of a side of 1 lies in the middle."""
    return torch.linspace(-1, 1, side, device=device) if side > 1 else torch.zeros(1, device=device)


def strides_for(sides: Sequence[int], settings: PatchSettings) -> Tensor:
    """The strides (K, 3) that multi-stride patches are drawn with, each as often as the others.

    Raises:
        ValueError: volumes smaller than a patch; no stride above 1 that fits, where some are asked for.
    """
    if any(side < size for side, size in zip(sides, settings.size, strict=True)):
        wanted = f"at least {tuple(settings.size)}, a patch"
        raise ValueError(f"target scans: found a grid of {tuple(sides)} voxels, wanted {wanted}")
    most = [
        1 if size == 1 else (side if settings.whole_sides else side - 1) // size
        for side, size in zip(sides, settings.size, strict=True)
    ]
    found = [strides for strides in product(*(range(1, max(1, m) + 1) for m in most))]
    if not settings.counts_stride_1:
        found = found[1:]  # the first one is 1 along all axes
    if settings.multi_stride and not found:
        raise ValueError(
            f"target scans: found a grid of {tuple(sides)} voxels, wanted room for a stride of 2: at least twice the "
            f"patch of {tuple(settings.size)} along an axis"
        )
    return torch.tensor(found or [(1, 1, 1)])


def draw_patches(
    images: Tensor,
    edges: Tensor,
    strides: Tensor,
    settings: PatchSettings,
    batch: int,
    generator: torch.Generator,
) -> Patches:
    """Patches of random people at random places; nothing leaves the device that the volumes are on.

    Flips: "left to right, whole volume" mirrors half of the volumes before the patch is cut, so that coordinates are
    those of the mirrored volume: people are nearly symmetric that way, and no other. "each axis or not, with
    coordinates" turns the cut patch round, along each axis by a coin of its own, and its coordinates with it. "one axis
    always, without coordinates" is what the public code does: the network never sees a patch the way it stands.

    Args:
        images: (N, D, H, W), in [-1, 1].
        edges: bool or number, same shape.
        strides: as `strides_for` gives them, on the same device.
        settings: size, shares and flips.
        batch: how many patches.
        generator: on the same device.
    """
    device, sides = images.device, images.shape[1:]

    def chance(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device)

    person = (chance(batch) * len(images)).long()
    drawn = strides[(chance(batch) * len(strides)).long()]  # (B, 3)
    drawn = torch.where((chance(batch) < settings.multi_stride)[:, None], drawn, 1)
    coins = chance(batch, 3) < 0.5
    if settings.flips == FLIPS[2]:
        coins = (chance(batch) * 3).long()[:, None] == torch.arange(3, device=device)
    taken, places = [], []
    for axis, (side, size) in enumerate(zip(sides, settings.size, strict=True)):
        stride, coin = drawn[:, axis, None], coins[:, axis, None]
        first = (chance(batch, 1) * (side - stride * size + 1)).long()
        index = first + stride * torch.arange(size, device=device)  # (B, size)
        place = along(side, device)
        if settings.flips == FLIPS[0]:
            places.append(place[index])
            taken.append(torch.where(coin, side - 1 - index, index) if axis == 0 else index)
        else:
            turned = torch.where(coin, index.flip(1), index)
            places.append(place[turned if settings.flips == FLIPS[1] else index])
            taken.append(turned)
    x, y, z = taken
    where = person[:, None, None, None], x[:, :, None, None], y[:, None, :, None], z[:, None, None, :]
    values, found = images[where], edges[where].to(images.dtype)  # (B, d, h, w)
    i, j, k = places
    spread = [i[:, :, None, None], j[:, None, :, None], k[:, None, None, :]]
    return Patches(values[:, None], torch.stack([found, *(axis.expand_as(values) for axis in spread)], 1))
