"""Boxes, smooth random fields and smooth invertible warps: the geometry under people and scanners."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor

__all__ = ["Box", "average_down", "exponentiate", "jacobian_determinant", "sample", "smooth_noise"]


@dataclass(frozen=True)
class Box:
    """A rectangular piece of space in RAS+ millimetres: its lower corner and its extent.

    Any grid that fills the box shares its corners, so that fields on different spacings meet without bookkeeping.
    """

    corner: tuple[float, float, float]
    extent: tuple[float, float, float]

    def shape(self, spacing: tuple[float, float, float]) -> tuple[int, int, int]:
        """Voxels of that many millimetres that fill the box, to the nearest whole number (D, H, W) = (x, y, z)."""
        return tuple(round(e / s) for e, s in zip(self.extent, spacing, strict=True))

    def affine(self, shape: tuple[int, int, int]) -> np.ndarray:
        """Voxel index to millimetres of the grid of that shape: (4, 4) float64."""
        step = np.array(self.extent) / np.array(shape)
        affine = np.diag([*step, 1.0])
        affine[:3, 3] = np.array(self.corner) + step / 2
        return affine

    def points(self, shape: tuple[int, int, int]) -> Tensor:
        """Voxel centres of the grid of that shape, in millimetres: (D, H, W, 3) float32."""
        axes = [
            corner + (torch.arange(n, dtype=torch.float32) + 0.5) * (extent / n)
            for corner, extent, n in zip(self.corner, self.extent, shape, strict=True)
        ]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


def sample(volume: Tensor, box: Box, points: Tensor, *, mode: str = "bilinear") -> Tensor:
    """Values of a volume at points in space; outside the box its border goes on.

    Args:
        volume: `(C, D, H, W)`, filling `box`.
        points: `(..., 3)` in millimetres.
        mode: "bilinear" (trilinear here) or "nearest".

    Returns:
        `(C, ...)` float32.
    """
    corner, extent = torch.tensor(box.corner), torch.tensor(box.extent)
    unit = (points.reshape(-1, 3) - corner) / extent * 2 - 1  # corners of the box at -1 and 1
    grid = unit.flip(-1).reshape(1, -1, 1, 1, 3)  # grid_sample wants the last axis first
    values = F.grid_sample(volume[None], grid, mode=mode, padding_mode="border", align_corners=False)
    return values.reshape(volume.shape[0], *points.shape[:-1])


def smooth_noise(
    shape: tuple[int, ...], sigma: float | tuple[float, float, float], generator: torch.Generator, *, count: int = 1
) -> Tensor:
    """White Gaussian noise smoothed by a Gaussian of `sigma` voxels and brought back to unit deviation.

    Returns:
        `(count, *shape)` float32, mean near 0, standard deviation 1.
    """
    white = torch.randn(count, *shape, generator=generator).numpy()
    smooth = np.stack([gaussian_filter(field, sigma, mode="reflect") for field in white])
    return torch.from_numpy(smooth / smooth.std(axis=(1, 2, 3), keepdims=True))


def exponentiate(velocity: Tensor, box: Box, *, squarings: int = 7) -> Tensor:
    """Displacement of the flow of a stationary velocity, by scaling and squaring (Arsigny et al., MICCAI 2006).

    The exact flow is a diffeomorphism whatever the velocity; `jacobian_determinant` says whether the discrete one is.

    Args:
        velocity: `(3, D, H, W)` in millimetres per unit time, filling `box`.

    Returns:
        `(3, D, H, W)` displacement in millimetres: the map is `x -> x + displacement(x)`.
    """
    points = box.points(velocity.shape[1:])
    displacement = velocity / 2**squarings
    for _ in range(squarings):
        displacement = displacement + sample(displacement, box, points + displacement.movedim(0, -1))
    return displacement


def jacobian_determinant(displacement: Tensor, box: Box) -> Tensor:
    """Determinant of the Jacobian of `x -> x + displacement(x)` by central differences: `(D, H, W)`; 1 where rigid."""
    steps = [extent / n for extent, n in zip(box.extent, displacement.shape[1:], strict=True)]
    gradient = torch.stack([torch.stack(torch.gradient(u, spacing=steps)) for u in displacement])  # (3, 3, D, H, W)
    return torch.linalg.det(gradient.movedim((0, 1), (-2, -1)) + torch.eye(3))


def average_down(volume: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Mean over each coarse voxel of a finer grid that fills the same box, partly covered voxels by their share.

    This is the partial volume effect of a grid: a voxel holds the mean of what lies inside it.

    Args:
        volume: `(C, D, H, W)`.
        shape: the coarser grid.
    """
    for axis, n in enumerate(shape, start=1):
        volume = torch.tensordot(volume, _overlap(volume.shape[axis], n), dims=([axis], [1])).movedim(-1, axis)
    return volume


def _overlap(fine: int, coarse: int) -> Tensor:
    """Share of each fine interval in each coarse one: (coarse, fine), rows sum to 1."""
    edges_fine = torch.arange(fine + 1) / fine
    edges_coarse = torch.arange(coarse + 1) / coarse
    upper = torch.minimum(edges_coarse[1:, None], edges_fine[None, 1:])
    lower = torch.maximum(edges_coarse[:-1, None], edges_fine[None, :-1])
    return (upper - lower).clamp_min(0) * coarse
