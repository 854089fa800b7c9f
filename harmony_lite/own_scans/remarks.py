"""What is odd about a scan, in one line each: what a user should look at before the result is trusted."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harmony_lite.methods.own_grid import likeness

__all__ = ["about_result", "about_scan"]

BRAIN_ML = (800.0, 1900.0)  # of a grown-up's brain with its CSF
THICK = 3.0  # mm
UNEVEN = 3.0  # longest edge of a voxel over its shortest
CUT = 0.15  # of the widest section: so much of the brain on an outer face of the volume means that it goes on
LIKE = 0.3  # correlation with the T1-weighted template; scans of the six real ones have 0.6 to 0.8
FOLLOWS = 0.9  # correlation of a result with its scan


def millilitres(mask: Tensor, affine: np.ndarray) -> float:
    """Volume inside a mask."""
    return float(mask.sum()) * abs(float(np.linalg.det(affine[:3, :3]))) / 1000


def about_scan(mask: Tensor, affine: np.ndarray, *, is_bare: bool) -> list[str]:
    """What is odd about a scan's voxels and field of view.

    Args:
        mask: (1, 1, D, H, W) bool: its brain, or the head.
        affine: (4, 4), voxel index to mm.
        is_bare: whether the mask is a brain's.
    """
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    remarks = []
    if edges.max() > THICK or edges.max() / edges.min() > UNEVEN:
        size = " x ".join(f"{edge:.3g}" for edge in edges)
        remarks.append(f"spacing: voxels of {size} mm; detail across thick slices is missing before and after")
    if is_bare:
        volume = millilitres(mask, affine)
        if not BRAIN_ML[0] <= volume <= BRAIN_ML[1]:
            low, high = BRAIN_ML
            remarks.append(f"coverage: {volume:.0f} ml of brain, usually {low:.0f} to {high:.0f}; is it a brain?")
        if cut := _faces_cut(mask[0, 0]):
            remarks.append(f"field of view: the brain goes on beyond the {', '.join(cut)} of the volume")
    return remarks


def about_result(
    scan: Tensor, result: Tensor, mask: Tensor, on_model_grid: tuple[Tensor, Tensor] | None, method: str
) -> list[str]:
    """Whether a learned method saw a scan like those that it was made for.

    Args:
        scan: (1, 1, D, H, W).
        result: same shape.
        mask: same shape, bool.
        on_model_grid: the scan and its brain where the template lies; None where the scan was not brought there.
        method: name, for the message.
    """
    remarks = []
    if on_model_grid is not None and (like := likeness(*on_model_grid)) < LIKE:
        remarks.append(
            f"contrast: correlation {like:.2f} with a T1-weighted template, usually 0.6 and more; {method} was made "
            "for T1-weighted scans"
        )
    inside = mask[0, 0].cpu()
    before, after = (image[0, 0].cpu()[inside].double() for image in (scan, result))
    follows = float(torch.corrcoef(torch.stack([before, after]))[0, 1])
    if not follows >= FOLLOWS:
        remarks.append(
            f"far from training: correlation {follows:.2f} of the result with the scan, usually {FOLLOWS:g} and more"
        )
    return remarks


def _faces_cut(mask: Tensor) -> list[str]:
    """Names of the outer faces of a volume (D, H, W) that a good part of the mask lies on."""
    names = (("left", "right"), ("back", "front"), ("bottom", "top"))
    cut = []
    for axis, pair in enumerate(names):
        sections = mask.sum(tuple(other for other in range(3) if other != axis))
        widest = int(sections.max())
        cut += [name for name, at in zip(pair, (0, -1), strict=True) if int(sections[at]) > CUT * widest]
    return cut
