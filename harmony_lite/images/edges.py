"""Canny's edges in three dimensions, with the threshold that a wanted share of edge voxels asks for.

Source: J. Canny, "A Computational Approach to Edge Detection", IEEE TPAMI 8, 1986; the threshold as BlindHarmonyDiff
sets it for each subject (H. Jeong et al., 2025, section 3.2 and supplement S1). The paper says that too many edges
*lower* the threshold; they have to raise it. Silent in the paper, and chosen here: edges in three dimensions, a
Gaussian of one voxel, a lower threshold of half the upper one.

In reading order: `smoothed`, `gradient`, `thinned` (non-maximum suppression), `linked` (hysteresis), `threshold_for`,
and `canny`, which is all of them. Whatever the threshold, gradient and suppression are the same: they are computed
once, and only the linking is done again while the threshold is sought.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from harmony_lite.images.checks import check_finite

__all__ = ["LOW", "canny", "gradient", "linked", "smoothed", "thinned", "threshold_for"]

LOW = 0.5  # the lower threshold, as a share of the upper one
TRUNCATED = 3.0  # deviations after which the Gaussian ends
TOLERANCE = 1e-3  # of the voxels that count: so close to the wanted number the search ends


def canny(
    volume: Tensor,
    *,
    fraction: float = 0.08,
    threshold: float | None = None,
    sigma: float = 1.0,
    mask: Tensor | None = None,
    in_slices: bool = False,
) -> Tensor:
    """Edges of each volume: where its smoothed gradient is largest along its own direction, strong or joined to strong.

    A fixed share of edges makes the map the same for every gain and offset, and nearly the same for every monotone
    curve. A fixed `threshold` does not.

    Args:
        volume: (..., D, H, W), any range; the leading axes are volumes, each with its own threshold.
        fraction: edge voxels of all voxels, or of those in the mask; reached within 0.1 points, or as far as there are
            places whose gradient is largest.
        threshold: the upper threshold, in the volume's units for each voxel; takes the place of `fraction`.
        sigma: of the Gaussian, voxels; 0 for none.
        mask: bool, same shape: edges outside are left out, and do not count.
        in_slices: edges of each axial slice (D, H) by itself, with one threshold for the volume. An image is a volume
            with W = 1.

    Returns:
        bool, same shape, on the same device.

    Raises:
        ValueError: fewer than three axes, values that are not finite, a fraction outside (0, 1), a negative sigma, a
            mask that does not fit; a volume without any edge.

    >>> ball = (torch.stack(torch.meshgrid(*[torch.arange(24.0) - 12] * 3, indexing="ij")).norm(dim=0) < 8).float()
    >>> edges = canny(ball, fraction=0.05)
    >>> round(float(edges.float().mean()), 2), bool(edges[12, 12, 12])
    (0.05, False)
    """
    _check_edges(volume, fraction, sigma, mask)
    flat = volume.detach().float().reshape(-1, *volume.shape[-3:])
    masks = [None] * len(flat) if mask is None else mask.reshape(-1, *volume.shape[-3:])
    found = []
    for image, inside in zip(flat, masks, strict=True):
        strength = thinned(gradient(smoothed(image, sigma, in_slices=in_slices), in_slices=in_slices))
        if inside is not None:
            strength = strength * inside
        if threshold is not None:
            found.append(linked(strength, threshold, in_slices=in_slices))
            continue
        count = strength.numel() if inside is None else int(inside.sum())
        wanted = round(fraction * count)
        high = threshold_for(strength, wanted, count=count, in_slices=in_slices)
        edges = linked(strength, high, in_slices=in_slices)
        if int(edges.sum()) > wanted + TOLERANCE * count:  # one voxel joins a large part: the lower threshold rises
            edges &= strength > strength[edges].kthvalue(int(edges.sum()) - wanted).values
        found.append(edges)
    return torch.stack(found).reshape(volume.shape)


def smoothed(volume: Tensor, sigma: float, *, in_slices: bool = False) -> Tensor:
    """A volume (D, H, W) after a Gaussian of `sigma` voxels; beyond its border it goes on as it ends."""
    if not sigma:
        return volume
    reach = math.ceil(TRUNCATED * sigma)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2).tolist()
    for axis in range(2 if in_slices else 3):
        padded = _padded(volume, axis, reach)
        parts = (weight * padded.narrow(axis, i, volume.shape[axis]) for i, weight in enumerate(weights))
        volume = sum(parts) / sum(weights)
    return volume


def gradient(volume: Tensor, *, in_slices: bool = False) -> Tensor:
    """Central differences of a volume (D, H, W) along its axes, (3, D, H, W); in slices the third is 0."""
    out = torch.zeros(3, *volume.shape, device=volume.device)
    for axis in range(2 if in_slices else 3):
        padded, size = _padded(volume, axis, 1), volume.shape[axis]
        out[axis] = (padded.narrow(axis, 2, size) - padded.narrow(axis, 0, size)) / 2
    return out


def thinned(gradient: Tensor) -> Tensor:
    """Non-maximum suppression: the gradient's size where it is largest along its own direction, else 0.

    The two neighbours, one voxel ahead and one behind, lie between voxels: their sizes are interpolated.

    Args:
        gradient: (3, D, H, W).

    Returns:
        (D, H, W), from 0.
    """
    size = gradient.norm(dim=0)
    places = torch.nonzero(size > 0)  # (P, 3): a skull-stripped scan is flat in most places
    centre = size[tuple(places.T)]
    direction = gradient[:, *places.T].T / centre[:, None]
    ahead, behind = (_interpolated(size, places + sign * direction) for sign in (1, -1))
    largest = (centre > ahead) & (centre >= behind)  # of two that are equal the one behind stays
    out = torch.zeros_like(size)
    out[tuple(places[largest].T)] = centre[largest]
    return out


def linked(strength: Tensor, high: float, *, low: float = LOW, in_slices: bool = False) -> Tensor:
    """Hysteresis: thinned places above `high`, and all above `low * high` that are joined to one of these.

    Joined are voxels that share a face, an edge or a corner.

    Args:
        strength: (D, H, W), as `thinned` gives it.
        high: the upper threshold.
        low: the lower one, as a share of it.
        in_slices: join within axial slices only.
    """
    weak = (strength > low * high).cpu().numpy()
    neighbours = np.ones((3, 3, 3), bool)
    if in_slices:
        neighbours[..., [0, 2]] = False
    parts, count = ndimage.label(weak, neighbours)  # 0 where there is nothing
    strong = np.zeros(count + 1, bool)
    strong[parts[(strength > high).cpu().numpy()]] = True
    strong[0] = False
    return torch.from_numpy(strong[parts]).to(strength.device)


def threshold_for(strength: Tensor, wanted: int, *, count: int, low: float = LOW, in_slices: bool = False) -> float:
    """The upper threshold that leaves a number of edge voxels, by halving the range that it must lie in.

    With t the strength above which exactly so many candidates lie, a threshold of t leaves at least as many, since all
    of these are edges, and one of t / low at most as many, since no edge lies below t. Where one voxel more joins a
    large part to the edges, no threshold leaves the number; the last one that leaves more is taken.

    Args:
        strength: (D, H, W), as `thinned` gives it.
        wanted: edge voxels.
        count: voxels of which they are a share; the search ends within 0.1 per cent of these.
        low: the lower threshold, as a share of the upper one.
        in_slices: as in `linked`.

    Raises:
        ValueError: no candidate at all. Fewer than wanted are a warning, and the threshold is 0.
    """
    candidates = strength[strength > 0].cpu()
    if not len(candidates):
        raise ValueError("volume: found no edge in it, wanted an image with contrast")
    if len(candidates) <= wanted:
        if len(candidates) < wanted - TOLERANCE * count:
            found = f"found edges in {len(candidates) / count:.2%} of the voxels, wanted {wanted / count:.2%}"
            warnings.warn(f"volume: {found}; all of them are taken. With less background there are more", stacklevel=2)
        return 0.0
    last = float(candidates.kthvalue(len(candidates) - wanted + 1).values)  # of so many, the weakest
    few, many = last / low, math.nextafter(last, 0)  # thresholds with at most, and with at least, so many edges
    while few - many > 1e-5 * few:
        middle = (few + many) / 2
        found = int(linked(strength, middle, low=low, in_slices=in_slices).sum())
        if abs(found - wanted) <= TOLERANCE * count:
            return middle
        few, many = (middle, many) if found < wanted else (few, middle)
    return many


def _check_edges(volume: Tensor, fraction: float, sigma: float, mask: Tensor | None) -> None:
    """Refuse what has no edges to be found (ValueError)."""
    if not isinstance(volume, Tensor) or volume.ndim < 3 or volume.numel() == 0:
        found = tuple(volume.shape) if isinstance(volume, Tensor) else type(volume).__name__
        raise ValueError(f"volume: found {found}, wanted a tensor (..., D, H, W)")
    check_finite(volume, "volume")
    if not 0 < fraction < 1:
        raise ValueError(f"fraction: found {fraction:g}, wanted above 0 and below 1")
    if sigma < 0:
        raise ValueError(f"sigma: found {sigma:g}, wanted voxels, at least 0")
    if mask is not None and (mask.shape != volume.shape or mask.dtype != torch.bool):
        raise ValueError(f"mask: found {mask.dtype} {tuple(mask.shape)}, wanted torch.bool {tuple(volume.shape)}")


def _padded(volume: Tensor, axis: int, reach: int) -> Tensor:
    """A volume with its first and last layers along an axis repeated."""
    first, last = volume.narrow(axis, 0, 1), volume.narrow(axis, volume.shape[axis] - 1, 1)
    sizes = [reach if other == axis else -1 for other in range(3)]
    return torch.cat([first.expand(sizes), volume, last.expand(sizes)], axis)


def _interpolated(volume: Tensor, places: Tensor) -> Tensor:
    """Values of a volume (D, H, W) at places (P, 3) in voxels, between voxels linearly; beyond the border 0."""
    sides = torch.tensor(volume.shape, device=volume.device)
    grid = ((2 * places + 1) / sides - 1).flip(-1)  # the library counts from the last axis, from -1 to 1
    values = functional.grid_sample(volume[None, None], grid[None, None, None], align_corners=False)
    return values.flatten()
