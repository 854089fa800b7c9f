"""What methods share that work voxel by voxel on a template's grid: checks, the mean image, and how it is kept."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harmony_lite.cohort import OneReference, Scans
from harmony_lite.images.normalize import foreground
from harmony_lite.methods.base import check_images

__all__ = ["as_view", "check_grid", "check_volumes", "mean_image", "packed_image", "unpacked_image"]


def mean_image(images: Tensor) -> np.ndarray:
    """Mean over people of volumes (N, 1, D, H, W): (D, H, W) float64."""
    return images.detach().double().mean(0)[0].cpu().numpy()


def as_view(reference: Tensor) -> OneReference:
    """One reference volume (1, 1, D, H, W) as the view that `fit` takes; ValueError for anything else."""
    check_images(reference, what="reference")
    if len(reference) != 1 or reference.ndim != 5:
        raise ValueError(f"reference: found shape {tuple(reference.shape)}, wanted one volume (1, 1, D, H, W)")
    return OneReference(Scans(reference.float(), foreground(reference.float())))


def check_volumes(images: Tensor, mask: Tensor | None, what: str = "images") -> None:
    """As `check_images`, and refuse slices (ValueError)."""
    check_images(images, mask, what=what)
    if images.ndim != 5:
        raise ValueError(f"{what}: found slices of shape {tuple(images.shape)}, wanted volumes (N, 1, D, H, W)")


def check_grid(images: Tensor, wanted: tuple[int, ...]) -> None:
    """Refuse volumes on another grid than (D, H, W) `wanted` (ValueError)."""
    if tuple(images.shape[2:]) != tuple(wanted):
        raise ValueError(
            f"images: found a grid of {tuple(images.shape[2:])} voxels, wanted {tuple(wanted)}, that of the averaged "
            "target image"
        )


def packed_image(mean: Tensor, inside: Tensor, *, most_bytes: int) -> dict[str, Tensor]:
    """An averaged image (D, H, W) for a weights file: the box around a mask, on blocks as small as the limit allows.

    Its range is cut into 255 steps: `image` uint8 (d, h, w), `range` (2,), `corner`, `size` and `grid` (3,) in voxels,
    `block` (1,), the side of the blocks in voxels.
    """
    occupied = torch.nonzero(inside)
    corner, end = occupied.amin(0), occupied.amax(0) + 1
    box = mean[tuple(slice(int(a), int(b)) for a, b in zip(corner, end, strict=True))][None, None]
    block = 1
    while np.prod([-(-side // block) for side in box.shape[2:]]) > most_bytes:
        block += 1
    if block > 1:
        box = torch.nn.functional.avg_pool3d(box, block, ceil_mode=True, count_include_pad=False)
    low, high = box.min(), box.max()
    levels = ((box[0, 0] - low) / (high - low) * 255).round().to(torch.uint8)
    return {
        "image": levels,
        "range": torch.stack([low, high]).float(),
        "corner": corner,
        "size": end - corner,
        "block": torch.tensor([block]),
        "grid": torch.tensor(mean.shape),
    }


def unpacked_image(state: dict[str, Tensor]) -> Tensor:
    """The image that `packed_image` packed, (D, H, W) float32, 0 outside its box."""
    low, high = state["range"]
    box = state["image"].float() / 255 * (high - low) + low
    size, corner = state["size"].tolist(), state["corner"].tolist()
    if (block := int(state["block"])) > 1:
        finer = torch.nn.functional.interpolate(box[None, None], scale_factor=block, mode="trilinear")
        box = finer[0, 0, : size[0], : size[1], : size[2]]
    image = torch.zeros(state["grid"].tolist())
    image[tuple(slice(a, a + n) for a, n in zip(corner, size, strict=True))] = box
    return image
