"""What a blur cannot buy: contrast between tissues, fine noise, contrast of lesions.

A smoother image is a more similar one, by every measure that averages over a window. These ask for what harmonization
is about, and for what it must not cost.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

__all__ = ["LESION_RING", "blurred", "fine_noise", "lesion_contrast", "steps_between_slices", "tissue_ratios"]

PURE = 0.9  # of a voxel: enough of one tissue to speak for it
DEEP = 0.95  # of a voxel and of its six neighbours: white matter without an edge
LESION_RING = 6.0  # mm: white matter around a lesion, within so much of it


def tissue_ratios(image: Tensor, tissues: Tensor) -> dict[str, float]:
    """Mean intensity of CSF and of grey matter over that of white matter, in voxels that hold one tissue.

    Args:
        image: (1, 1, D, H, W), any units with 0 at no signal.
        tissues: (1, 3, D, H, W): true fractions of CSF, GM and WM.

    Raises:
        ValueError: a tissue without a voxel of its own.
    """
    inside = tissues[0] >= PURE
    for name, voxels in zip(("CSF", "GM", "WM"), inside, strict=True):
        if not bool(voxels.any()):
            raise ValueError(f"tissues: found no voxel with {PURE:.0%} of {name}, wanted at least one")
    csf, grey, white = (float(image[0, 0][voxels].mean()) for voxels in inside)
    return {"CSF/WM": csf / white, "GM/WM": grey / white}


def fine_noise(image: Tensor, tissues: Tensor) -> float:
    r"""What varies from one voxel to the next in deep white matter, in per cent of its mean.

    Each voxel minus the mean of its six neighbours: of noise without correlation that is
    $\sqrt{1 + 1/6}$ of its standard deviation, and that factor is divided out. A shading does not show.

    Args:
        image: (1, 1, D, H, W), any units with 0 at no signal.
        tissues: (1, 3, D, H, W): true fractions of CSF, GM and WM.

    Raises:
        ValueError: no voxel with white matter all around.
    """
    white = tissues[0, 2].numpy() >= DEEP
    deep = ndimage.binary_erosion(white)  # with its six neighbours
    if not deep.any():
        raise ValueError("tissues: found no voxel with white matter all around, wanted at least one")
    values = image[0, 0].double().cpu().numpy()
    kernel = ndimage.generate_binary_structure(3, 1).astype(float)
    kernel[1, 1, 1] = 0
    around = ndimage.convolve(values, kernel / 6, mode="nearest")
    return float((values - around)[deep].std() / np.sqrt(7 / 6) / values[deep].mean() * 100)


def lesion_contrast(image: Tensor, mask: Tensor, lesions: Tensor, affine: np.ndarray) -> float:
    """How much darker lesions are than what lies around them, in standard deviations of the brain.

    Around them: the brain within `LESION_RING` mm, as far as it is brighter than the brain's median (white matter, in
    T1w). A straight line of the intensities changes nothing.

    Args:
        image: (1, 1, D, H, W).
        mask: bool, same shape: the brain.
        lesions: bool, same shape.
        affine: (4, 4), voxel index to mm.

    Raises:
        ValueError: no lesion inside the mask.
    """
    inside = lesions & mask
    if not bool(inside.any()):
        raise ValueError("lesions: found no voxel inside the mask, wanted at least one")
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    distance = torch.from_numpy(ndimage.distance_transform_edt(~lesions[0, 0].numpy(), sampling=sizes))
    brain = image[mask]
    around = mask & ~lesions & (distance <= LESION_RING) & (image > brain.median())
    return float((image[around].mean() - image[inside].mean()) / brain.std())


def blurred(image: Tensor, mask: Tensor, sigma: float | tuple[float, float, float]) -> Tensor:
    """A volume (1, 1, D, H, W) under a Gaussian that looks inside the mask only; 0 outside.

    Args:
        image: any units.
        mask: bool, same shape.
        sigma: of the Gaussian in voxels, one number or one for each axis.
    """
    inside = mask[0, 0].double().numpy()
    smooth = ndimage.gaussian_filter(image[0, 0].double().numpy() * inside, sigma)
    weight = ndimage.gaussian_filter(inside, sigma)
    return torch.from_numpy(np.where(inside > 0, smooth / weight.clip(1e-6), 0)).float()[None, None]


def steps_between_slices(image: Tensor, mask: Tensor) -> float:
    """How much neighbours differ from axial slice to axial slice, over how much they differ within slices.

    Near 1 for an image that is no rougher along z than along x and y; above for one that was made slice by slice
    (BlindHarmonyDiff, Figure 5, shows such borders and gives no number).

    Args:
        image: (1, 1, D, H, W), any units.
        mask: bool, same shape: both neighbours have to be inside.

    >>> image = torch.arange(3.0).repeat(1, 1, 3, 3, 1) * 2 + torch.arange(3.0).reshape(3, 1, 1)
    >>> round(steps_between_slices(image, torch.ones(1, 1, 3, 3, 3).bool()), 2)  # 2 along z; 1 along x, 0 along y
    4.0
    """
    steps = []
    for axis in (2, 3, 4):
        first, second = (image.narrow(axis, start, image.shape[axis] - 1) for start in (0, 1))
        inside = mask.narrow(axis, 0, mask.shape[axis] - 1) & mask.narrow(axis, 1, mask.shape[axis] - 1)
        steps.append(float((second - first)[inside].abs().mean()))
    x, y, z = steps
    return z / ((x + y) / 2)
