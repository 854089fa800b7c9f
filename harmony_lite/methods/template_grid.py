"""What methods share that work voxel by voxel on a template's grid: checks, and the mean image."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from harmony_lite.cohort import OneReference, Scans
from harmony_lite.images.normalize import foreground
from harmony_lite.methods.base import check_images

__all__ = ["as_view", "check_grid", "check_volumes", "mean_image"]


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
