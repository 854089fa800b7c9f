"""Axial slices: taken from volumes, walked through one by one, scaled as two-dimensional methods want them.

A volume is `(N, 1, D, H, W)` in RAS+ with (D, H, W) = (x, y, z), so an axial slice k is `volume[..., k]`, and slices
are `(B, 1, D, H)`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harmony_lite.images.checks import check_images, check_mask
from harmony_lite.images.normalize import foreground, slice_minmax

__all__ = [
    "axial_slices",
    "brain_slices",
    "even_positions",
    "mean_tops",
    "slice_tops",
    "through_slices",
    "unit_slices",
]


def axial_slices(
    volumes: Tensor, count: int, *, mask: Tensor | None = None, positions: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Evenly spaced axial slices of each volume, from within the axial range of its mask.

    Args:
        volumes: `(N, 1, D, H, W)`.
        count: slices for each volume.
        mask: bool, same shape; the foreground where absent.
        positions: `(N, count)` or `(count,)` indices to use instead, for example those of a paired scan.

    Returns:
        The slices `(N * count, 1, D, H)`, person by person and upwards within each, and their indices `(N, count)`.

    Raises:
        ValueError: not volumes, a count below 1, fewer axial positions in the mask than slices, positions of another
            number or outside the volume.
    """
    if volumes.ndim != 5:
        raise ValueError(f"volumes: found shape {tuple(volumes.shape)}, wanted (N, 1, D, H, W)")
    people, depth = volumes.shape[0], volumes.shape[-1]
    if positions is None:
        check_images(volumes, mask, what="volumes", contrast=False)
        positions = even_positions(foreground(volumes) if mask is None else mask, count)
    positions = positions.to(volumes.device).expand(people, -1) if positions.ndim == 1 else positions.to(volumes.device)
    if positions.shape != (people, count) or int(positions.min()) < 0 or int(positions.max()) >= depth:
        raise ValueError(
            f"positions: found shape {tuple(positions.shape)} from {int(positions.min())} to {int(positions.max())}, "
            f"wanted ({people}, {count}) within 0 to {depth - 1}"
        )
    taken = [volume[..., indices].permute(3, 0, 1, 2) for volume, indices in zip(volumes, positions, strict=True)]
    return torch.cat(taken), positions


def even_positions(mask: Tensor, count: int) -> Tensor:
    """Heights (N, count), evenly spaced over the axial range of each mask (N, 1, D, H, W).

    The range is divided into `count` equal parts and the middle of each is taken, so the outermost slices, which hold
    a few voxels only, are left out.

    Raises:
        ValueError: a count below 1, or fewer axial positions in the mask than slices.
    """
    if count < 1:
        raise ValueError(f"count: found {count}, wanted at least 1")
    rows = []
    for inside in mask.flatten(1, 3).any(1):
        occupied = torch.nonzero(inside).flatten()
        first, extent = int(occupied[0]), int(occupied[-1] - occupied[0]) + 1
        if extent < count:
            raise ValueError(f"volumes: found {extent} axial positions inside the mask, wanted at least {count}")
        rows.append(first + ((torch.arange(count, device=mask.device) + 0.5) * extent / count).floor().long())
    return torch.stack(rows)


def brain_slices(volumes: Tensor, mask: Tensor) -> Tensor:
    """All axial slices that hold brain, (B, 1, D, H), person by person and upwards within each.

    Args:
        volumes: `(N, 1, D, H, W)`.
        mask: bool, same shape.
    """
    occupied = mask.flatten(1, 3).any(1)  # (N, W)
    taken = [volume[..., heights].permute(3, 0, 1, 2) for volume, heights in zip(volumes, occupied, strict=True)]
    return torch.cat(taken)


def unit_slices(
    volumes: Tensor, mask: Tensor, count: int, *, positions: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Evenly spaced slices in [0, 1], 0 outside the brain, each scaled by its own maximum: BlindHarmony's slices.

    Args:
        volumes: `(N, 1, D, H, W)`, any units.
        mask: bool, same shape: the brain.
        count: slices for each volume.
        positions: `(N, count)` heights to use instead of evenly spaced ones.

    Returns:
        Slices `(N * count, 1, D, H)` in [0, 1], the brain in them (bool, same shape), and the heights `(N, count)`.

    Raises:
        ValueError: as `axial_slices`; images that are not finite or without contrast.
    """
    taken, positions = axial_slices(volumes * mask, count, mask=mask, positions=positions)
    return slice_minmax(taken), axial_slices(mask, count, positions=positions)[0], positions


def slice_tops(volumes: Tensor) -> Tensor:
    """Largest value of every axial slice: (N, W) from (N, 1, D, H, W)."""
    return volumes.amax((1, 2, 3))


def mean_tops(volumes: Tensor) -> Tensor:
    """(W,): largest value of the slices at each height, mean over the people who have brain there; 0 where nobody has.

    It says what 1 of a slice in [0, 1] becomes in the units of these volumes (N, 1, D, H, W), 0 outside the brain.
    """
    tops = slice_tops(volumes)
    return tops.sum(0) / (tops > 0).sum(0).clamp_min(1)


def through_slices(
    volumes: Tensor,
    mask: Tensor,
    run: Callable[[Tensor, Tensor, Tensor], Tensor],
    *,
    tops: Tensor | None = None,
    batch: int | None = 32,
) -> Tensor:
    """Every axial slice with brain through a function, and back to its place; 0 everywhere else.

    Args:
        volumes: `(N, 1, D, H, W)`, scaled as `run` wants them.
        mask: bool, same shape: the brain.
        run: takes slices `(B, 1, D, H)`, the brain in them (bool, same shape) and their heights `(B,)`, and gives
            slices `(B, 1, D, H)`.
        tops: `(W,)`; results are multiplied by those of their heights, and heights where it is 0 are left out.
        batch: slices of one person at a time; all of them when None.

    Returns:
        `(N, 1, D, H, W)` float32.

    Raises:
        ValueError: a mask that does not fit, or that has brain only where `tops` is 0.
    """
    check_mask(mask, volumes)
    result = torch.zeros_like(volumes, dtype=torch.float32)
    tops = None if tops is None else tops.to(volumes.device)
    for person, (volume, inside) in enumerate(zip(volumes, mask, strict=True)):
        occupied = inside.flatten(0, 2).any(0)  # (W,)
        heights = (occupied if tops is None else occupied & (tops > 0)).nonzero().squeeze(1)
        if len(heights) == 0:
            raise ValueError(f"mask: found image {person}'s mask where no target person has brain")
        for part in heights.split(batch or len(heights)):
            slices, brain = (values[..., part].permute(3, 0, 1, 2) for values in (volume, inside))  # (B, 1, D, H)
            found = run(slices, brain, part).float()
            found = found if tops is None else found * tops[part, None, None, None]
            result[person][..., part] = found.permute(1, 2, 3, 0)
    return result * mask
