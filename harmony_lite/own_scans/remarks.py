"""What is odd about a scan, in one line each: what a user should look at before the result is trusted."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from torch import Tensor

from harmony_lite.images.checks import inside
from harmony_lite.methods.own_grid import likeness

__all__ = ["T1_WEIGHTED", "about_contrast", "about_mask", "about_result", "about_scan", "inwards"]

BRAIN_ML = (800.0, 1900.0)  # of a grown-up's brain with its CSF
MOST_ML = 2100.0  # what is larger is a head
LEFT_OUT = 0.15  # of a skull-stripped scan; masks of two tools differ by less
T1_WEIGHTED = 0.5  # of `inwards`, about
CONTRASTS_APART = 0.3  # of `inwards`
THICK = 3.0  # mm
UNEVEN = 3.0  # longest edge of a voxel over its shortest
CUT = 0.15  # of the widest section: so much of the brain on an outer face of the volume means that it goes on
LIKE = 0.37  # correlation with the T1-weighted template; presets and two real scans have 0.45 to 0.66, FLAIR 0.29
COUNTED = 1 << 20  # voxels that a correlation is taken from
FOLLOWS = 0.9  # correlation of a result with its scan


def about_mask(image: Tensor, mask: Tensor, affine: np.ndarray) -> list[str]:
    """Whether a mask that was given leaves out much of a scan that is skull-stripped already.

    Args:
        image: (1, 1, D, H, W), skull-stripped, 0 around.
        mask: (1, 1, D, H, W) bool.
        affine: (4, 4), voxel index to mm.
    """
    shown = image != 0
    if millilitres(shown, affine) > MOST_ML:  # a head whose air was set to 0
        return []
    share = 1 - int((mask & shown).sum()) / int(shown.sum())
    return [f"mask: leaves out {share:.0%} of a skull-stripped scan; is it this scan's?"] if share > LEFT_OUT else []


def about_contrast(found: float, target: float, target_is: str, *, either_way: bool) -> list[str]:
    """Whether a scan has another contrast than its target, as far as `inwards` tells.

    Args:
        found: of the scan.
        target: of the target.
        target_is: its name.
        either_way: whether a larger value is odd too; the exact one of a target's many people is not known.
    """
    apart = abs(found - target) if either_way else target - found
    if not apart > CONTRASTS_APART:
        return []
    return [
        f"contrast: brightness rises from the rim inwards by a rank correlation of {found:.2f}, in {target_is} of "
        f"{target:.2f}; are both of one contrast?"
    ]


def inwards(image: Tensor, mask: Tensor, affine: np.ndarray) -> float:
    """Rank correlation of a brain's intensities with their distance to its rim, up to 12 mm: what contrast it has.

    In T1-weighted scans the rim is dark: 0.35 to 0.58 in 26 of them, simulated and real; -0.28 in a T2-weighted one,
    0.14 in FLAIR.

    Args:
        image: (1, 1, D, H, W).
        mask: (1, 1, D, H, W) bool: the brain.
        affine: (4, 4), voxel index to mm.
    """
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    steps = np.maximum(1, np.round(2 / edges)).astype(int)
    thin = tuple(slice(None, None, int(step)) for step in steps)
    values, brain = (volume[0, 0].cpu().numpy()[thin] for volume in (image, mask))
    depth = ndimage.distance_transform_edt(np.pad(brain, 1), sampling=edges * steps)[1:-1, 1:-1, 1:-1]
    near = brain & (depth < 25)
    if not near.any() or values[near].min() == values[near].max():
        return float("nan")
    ranks = values[near].argsort().argsort()
    return float(np.corrcoef(np.minimum(depth[near], 12), ranks)[0, 1])


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
            f"contrast: correlation {like:.2f} with a T1-weighted template, usually 0.45 and more; {method} was made "
            "for T1-weighted scans"
        )
    before, after = (inside(image, mask) for image in (scan, result))
    step = max(1, -(-len(before) // COUNTED))
    follows = float(np.corrcoef(before[::step], after[::step])[0, 1])
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
