"""A scan of one's own, harmonized at its own resolution by a method that works on the model's grid.

The scan is aligned to the template (affine), sampled on the model's grid and harmonized there. What comes back is not
the model's voxels but the smooth change from input to output: in each place a straight line, fitted by least squares
under a Gaussian window. Its gain and offset are sampled at the scan's own voxels and applied to the scan's own
intensities, so that edges and noise finer than the model's voxels stay as they were, up to the local gain.

Source: a Gaussian-windowed local straight line, as in the guided filter (He, Sun, Tang, IEEE TPAMI 35, 2013), fitted on
a coarse grid and applied on a fine one; registration by mutual information (Mattes et al., IEEE TMI 22, 2003), DIPY's.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from harmony_lite.methods.own_grid.alignment import align, sampled, template_on
from harmony_lite.methods.protocol import Harmonizer
from harmony_lite.profiles import active
from harmony_lite.simulate.anatomy import HEAD_BOX

__all__ = [
    "Placed",
    "change_brought_back",
    "harmonize_on_own_grid",
    "is_model_grid",
    "likeness",
    "local_line",
    "model_grid",
    "on_model_grid",
]

WINDOW = 6.0  # mm, sigma of a line's window: wide enough to hold grey, white and CSF, narrower than a shading
RIDGE = 0.05  # of the brain's variance: a window with less contrast than that takes the whole brain's slope


class Placed(NamedTuple):
    """A scan where the model has its people.

    Attributes:
        images: (1, 1, D, H, W) float32, on the model's grid.
        mask: bool, same shape: the brain there.
        to_scan: (4, 4), voxel index of the model's grid to that of the scan.
    """

    images: Tensor
    mask: Tensor
    to_scan: np.ndarray


def model_grid() -> tuple[tuple[int, int, int], np.ndarray]:
    """The grid of the simulated people in the active profile: shape (D, H, W), and (4, 4) voxel index to RAS+ mm."""
    shape = HEAD_BOX.shape((active().spacing,) * 3)
    return shape, HEAD_BOX.affine(shape)


def is_model_grid(volume: Tensor, affine: np.ndarray, tolerance: float = 1e-3) -> bool:
    """Whether a scan (1, 1, D, H, W) lies on the model's grid: equal shape, and each entry within `tolerance` mm."""
    shape, wanted = model_grid()
    return tuple(volume.shape[2:]) == shape and bool(np.allclose(affine, wanted, rtol=0, atol=tolerance))


def harmonize_on_own_grid(
    method: Harmonizer,
    volume: Tensor,
    affine: np.ndarray,
    mask: Tensor,
    *,
    reference: Tensor | None = None,
    scanner: str | None = None,
) -> Tensor:
    """Harmonize one scan on the model's grid and bring the smooth change back to the scan's own voxels.

    Args:
        method: fitted, one whose `on_template_grid` is true.
        volume: (1, 1, D, H, W), RAS+, any units, any voxel size and place.
        affine: (4, 4), voxel index to mm.
        mask: bool, same shape: the brain.
        reference: handed on to the method.
        scanner: handed on to the method.

    Returns:
        Same shape, float32, in the target's units, 0 outside the mask. A line can go below 0 in a voxel that is darker
        than its surroundings.

    Raises:
        ValueError: a mask that holds no brain, a scan that cannot be aligned, or what the method refuses.
    """
    if reference is not None:
        method = method.to_reference(reference)
    return change_brought_back(method, volume, mask, on_model_grid(volume, affine, mask), scanner=scanner)


def change_brought_back(
    method: Harmonizer, volume: Tensor, mask: Tensor, placed: Placed, *, scanner: str | None = None
) -> Tensor:
    """Harmonize a scan where it was placed and apply the smooth change to its own voxels.

    Args:
        method: fitted, one whose `on_template_grid` is true.
        volume: (1, 1, D, H, W): the scan.
        mask: bool, same shape: the brain.
        placed: the scan on the model's grid, as `on_model_grid` gives it.
        scanner: handed on to the method.

    Returns:
        As `harmonize_on_own_grid`.

    Raises:
        ValueError: what the method refuses, or a result without a slice.
    """
    images, masks, to_scan = placed
    after = method.harmonize(images, scanner=scanner, mask=masks)[0, 0].cpu().double().numpy()
    before, brain = images[0, 0].double().numpy(), masks[0, 0].numpy()
    values, inside = (tensor[0, 0].detach().cpu().numpy() for tensor in (volume, mask))
    answered = brain & after.any((0, 1))  # a slice that is 0 throughout has no answer: its neighbours' lines go on
    if not answered.any():
        raise ValueError(f"{method.name}: found no slice with a result, wanted one to take the change from")
    fields = local_line(before, after, answered, active().spacing)
    back = np.linalg.inv(to_scan)
    result = np.zeros(values.shape, np.float32)
    for x, (into, slab, brain) in enumerate(zip(result, values, inside, strict=True)):  # all places at once are large
        own = np.argwhere(brain)
        places = (back[:3, 1:3] @ own.T) + (back[:3, 0] * x + back[:3, 3])[:, None]
        gain, offset = (ndimage.map_coordinates(field, places, order=1, mode="nearest") for field in fields)
        into[brain] = gain * slab[brain] + offset
    return torch.from_numpy(result)[None, None]


def on_model_grid(volume: Tensor, affine: np.ndarray, mask: Tensor) -> Placed:
    """One scan aligned to the template and sampled on the model's grid.

    Args:
        volume: (1, 1, D, H, W), RAS+, any units, any voxel size and place.
        affine: (4, 4), voxel index to mm.
        mask: bool, same shape: the brain.

    Raises:
        ValueError: a mask that holds no brain, a scan that cannot be aligned.
    """
    values, inside = (tensor[0, 0].detach().cpu().numpy() for tensor in (volume, mask))
    shape, grid = model_grid()
    to_scan = np.linalg.inv(affine) @ align(values, affine, inside) @ grid
    found, brain = sampled(values, affine, inside, to_scan, shape)
    images, masks = (torch.from_numpy(array)[None, None] for array in (found.astype(np.float32), brain))
    return Placed(images, masks, to_scan)


def likeness(images: Tensor, mask: Tensor) -> float:
    """Correlation of a scan on the model's grid with the T1-weighted template there, inside its brain, -1 to 1.

    Args:
        images: (1, 1, D, H, W).
        mask: bool, same shape.
    """
    template = torch.from_numpy(template_on(*model_grid()))[None, None].to(images.device)
    inside = mask & (template > 0)
    pair = torch.stack([images[inside].double(), template[inside].double()])
    return float(torch.corrcoef(pair)[0, 1])


def local_line(
    before: np.ndarray,
    after: np.ndarray,
    mask: np.ndarray,
    spacing: float,
    *,
    width: float = WINDOW,
    ridge: float = RIDGE,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Gain and offset of the straight line `after ~ gain * before + offset` around each voxel.

    The line goes through the window's means; its slope is
    $(\mathrm{cov} + \lambda V a_0) / (\mathrm{var} + \lambda V)$ with the window's covariance and variance, and the
    variance V and slope a_0 of the whole brain: where the window is flat, the whole brain's slope is taken. An exact
    line is found exactly, whatever the window and the ridge.

    Args:
        before: (D, H, W).
        after: same shape.
        mask: bool, same shape: the voxels that count.
        spacing: of the voxels, mm.
        width: sigma of the Gaussian window, mm.
        ridge: lambda.

    Returns:
        Two fields (D, H, W) float64; they go on smoothly beyond the mask, towards the whole brain's line.

    Raises:
        ValueError: an empty mask, or an input without contrast inside it.
    """
    x, y = before[mask].astype(np.float64), after[mask].astype(np.float64)
    if x.size == 0 or x.min() == x.max():
        raise ValueError(f"before: found {x.size} voxels without contrast in the mask, wanted some with contrast")
    (x_mean, x_deviation), (y_mean, y_deviation) = ((v.mean(), v.std() or 1.0) for v in (x, y))
    x, y = (x - x_mean) / x_deviation, (y - y_mean) / y_deviation  # differences of large sums stay exact
    slope = float((x * y).mean())  # of the whole brain

    def windowed(values: np.ndarray) -> np.ndarray:
        field = np.zeros(mask.shape)
        field[mask] = values
        return ndimage.gaussian_filter(field, width / spacing, mode="constant", truncate=6.0)

    far = 1e-6  # weight of the whole brain's moments, which count where no window reaches
    count = windowed(np.ones_like(x)) + far
    x_local, y_local = (windowed(v) / count for v in (x, y))
    variance = (windowed(x * x) + far) / count - x_local**2
    covariance = (windowed(x * y) + far * slope) / count - x_local * y_local
    gain = (covariance + ridge * slope) / (variance + ridge) * (y_deviation / x_deviation)
    offset = y_local * y_deviation + y_mean - gain * (x_local * x_deviation + x_mean)
    return gain, offset
