"""A scan of one's own, harmonized at its own resolution by a method that works on the model's grid.

The scan is aligned to the template (affine), sampled on the model's grid and harmonized there. What comes back is not
the model's voxels but the smooth change from input to output: in each place a straight line, fitted by least squares
under a Gaussian window. Its gain and offset are sampled at the scan's own voxels and applied to the scan's own
intensities, so that edges and noise finer than the model's voxels stay as they were, up to the local gain.

Source: a Gaussian-windowed local straight line, as in the guided filter (He, Sun, Tang, IEEE TPAMI 35, 2013), fitted on
a coarse grid and applied on a fine one; registration by mutual information (Mattes et al., IEEE TMI 22, 2003), DIPY's.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from harmony_lite.methods.base import Harmonizer
from harmony_lite.profiles import active
from harmony_lite.simulate.anatomy import _TEMPLATE_CENTRE, _TEMPLATE_SCALE, HEAD_BOX, HEAD_CENTRE

__all__ = ["align", "harmonize_on_own_grid", "is_model_grid", "local_line", "model_grid", "overlap"]

WINDOW = 6.0  # mm, sigma of the window that a local line is fitted in: wider than a gyrus, narrower than a shading
RIDGE = 0.05  # of the brain's variance: a window with less contrast than that takes the whole brain's slope
REGISTRATION_SPACING = 2.0  # mm, of the template and of the thinned scan
BRAIN_ML = (300.0, 2100.0)  # of what may be a brain; a head with its skull has more
LEAST_OVERLAP = 0.8  # Dice with the template's brain; a brain of one's own has 0.93 to 0.97, a misplaced one less


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
    values, inside = (tensor[0, 0].detach().cpu().numpy() for tensor in (volume, mask))
    placed = align(values, affine, inside)
    shape, grid = model_grid()
    to_scan = np.linalg.inv(affine) @ placed @ grid  # voxel index of the model's grid to that of the scan
    before, brain = _sampled(values, affine, inside, to_scan, shape)
    images, masks = (torch.from_numpy(array)[None, None] for array in (before.astype(np.float32), brain))
    after = method.harmonize(images, reference=reference, scanner=scanner, mask=masks)[0, 0].cpu().double().numpy()
    answered = brain & after.any((0, 1))  # a slice that is 0 throughout has no answer: its neighbours' lines go on
    if not answered.any():
        raise ValueError(f"{method.name}: found no slice with a result, wanted one to take the change from")
    fields = local_line(before, after, answered, active().spacing)
    own = np.argwhere(inside)
    back = np.linalg.inv(to_scan)
    places = (own @ back[:3, :3].T + back[:3, 3]).T
    gain, offset = (ndimage.map_coordinates(field, places, order=1, mode="nearest") for field in fields)
    result = np.zeros(values.shape, np.float32)
    result[inside] = gain * values[inside] + offset
    return torch.from_numpy(result)[None, None]


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


# -------------------------------------------------------------------------------------------------------- alignment


def align(values: np.ndarray, affine: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Affine alignment of a brain to the template's, by mutual information, coarse to fine; nothing is random.

    Args:
        values: (D, H, W), RAS+, of any contrast.
        affine: (4, 4), voxel index to mm.
        mask: bool, same shape: the brain.

    Returns:
        (4, 4): a point of the model's space in mm to the same place in the scan's space in mm.

    Raises:
        ValueError: no voxel inside, a volume that is no brain's, or too small an overlap after the alignment.
    """
    from dipy.align.imaffine import AffineRegistration, MutualInformationMetric, transform_centers_of_mass
    from dipy.align.transforms import AffineTransform3D, RigidTransform3D, TranslationTransform3D

    millilitres = float(mask.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000)
    if not BRAIN_ML[0] <= millilitres <= BRAIN_ML[1]:
        raise ValueError(
            f"mask: found {millilitres:.0f} ml inside, wanted a brain's {BRAIN_ML[0]:.0f} to {BRAIN_ML[1]:.0f} ml; a "
            "scan with its skull needs a brain mask"
        )
    template, grid = _template_brain()
    scan, scan_grid = _thinned(values, affine, mask)
    spaces = {"static_grid2world": grid, "moving_grid2world": scan_grid}
    placed = transform_centers_of_mass(template, grid, scan, scan_grid).affine
    coarse, fine = ([1000], [3.0], [4]), ([1000, 100], [2.0, 1.0], [2, 1.5])
    stages = ((TranslationTransform3D(), coarse), (RigidTransform3D(), coarse), (AffineTransform3D(), fine))
    try:
        for transform, (iterations, sigmas, factors) in stages:
            search = AffineRegistration(
                metric=MutualInformationMetric(nbins=32),
                level_iters=iterations,
                sigmas=sigmas,
                factors=factors,
                verbosity=0,
            )
            placed = search.optimize(template, scan, transform, None, starting_affine=placed, **spaces).affine
        shared = overlap(placed, affine, mask)
    except Exception as error:  # DIPY's own kinds, when two images come to share no voxel or a step degenerates
        raise ValueError(f"alignment: found no way to the template ({error}), wanted a whole brain") from error
    if not shared >= LEAST_OVERLAP:
        raise ValueError(
            f"alignment: found an overlap (Dice) of {shared:.2f} with the template's brain, wanted at least "
            f"{LEAST_OVERLAP}: a whole brain in a file whose header says which way it lies"
        )
    return placed


def overlap(placed: np.ndarray, affine: np.ndarray, mask: np.ndarray) -> float:
    """Dice overlap of the template's brain and an aligned one, 0 to 1, on the template's grid.

    Args:
        placed: (4, 4), as `align` gives it.
        affine: (4, 4) of the scan, voxel index to mm.
        mask: bool (D, H, W): the scan's brain.
    """
    template, grid = _template_brain()
    to_scan = np.linalg.inv(affine) @ placed @ grid
    found = _sampled(mask.astype(np.float32), affine, mask, to_scan, template.shape)[1]
    # what lies beyond the model's field of view belongs to the brain too, and counts against the overlap
    whole = mask.sum() * abs(np.linalg.det(np.linalg.inv(to_scan)))
    return float(2 * (found & (template > 0)).sum() / (whole + (template > 0).sum()))


@cache
def _template_brain() -> tuple[np.ndarray, np.ndarray]:
    """The skull-stripped T1 template where the simulated people have it, 0 to 1, and its affine."""
    from nilearn import datasets

    shape = HEAD_BOX.shape((REGISTRATION_SPACING,) * 3)
    grid = HEAD_BOX.affine(shape)
    to_template = np.diag([1 / _TEMPLATE_SCALE] * 3 + [1.0])  # people are smaller than the template
    to_template[:3, 3] = _TEMPLATE_CENTRE.numpy() - HEAD_CENTRE.numpy() / _TEMPLATE_SCALE
    image, brain = datasets.load_mni152_template(resolution=1), datasets.load_mni152_brain_mask(resolution=1)
    values, inside = np.asarray(image.dataobj, np.float64), np.asarray(brain.dataobj) > 0
    sampled = _sampled(values, image.affine, inside, np.linalg.inv(image.affine) @ to_template @ grid, shape)[0]
    return sampled / sampled.max(), grid


def _thinned(values: np.ndarray, affine: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The brain on voxels of about 2 mm along the scan's own axes, 0 to 1, and their affine."""
    low, high = np.percentile(values[mask], [0.5, 99])  # a bright vessel would take most of the histogram
    if not high > low:
        raise ValueError(f"scan: found {low:g} almost everywhere inside the mask, wanted contrast")
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    occupied = np.argwhere(mask)
    first, last = occupied.min(0) - 8 / sizes, occupied.max(0) + 8 / sizes  # a margin of 8 mm of background
    step = REGISTRATION_SPACING / sizes
    to_scan = np.diag([*step, 1.0])
    to_scan[:3, 3] = first
    shape = tuple(int(n) for n in np.ceil((last - first) / step) + 1)
    scaled = 0.1 + 0.9 * np.clip((values - low) / (high - low), 0, 1)  # dark brain is not background
    return _sampled(scaled, affine, mask, to_scan, shape, REGISTRATION_SPACING)[0], affine @ to_scan


def _sampled(
    values: np.ndarray,
    affine: np.ndarray,
    mask: np.ndarray,
    to_scan: np.ndarray,
    shape: tuple[int, ...],
    spacing: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """A brain on another grid, float64 and 0 outside, and its mask there.

    Finer voxels are first averaged by a Gaussian of the variance that a coarse voxel has beyond them. Sums over the
    brain are divided by the brain's share, so that the background does not darken its rim.
    """
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    coarse = np.linalg.norm((affine @ to_scan)[:3, :3], axis=0).mean() if spacing is None else spacing
    sigma = np.sqrt(np.maximum(coarse**2 - sizes**2, 0) / 12) / sizes
    box = tuple(
        slice(max(int(a) - 3, 0), int(b) + 4)
        for a, b in zip(np.argwhere(mask).min(0), np.argwhere(mask).max(0), strict=True)
    )
    shifted = to_scan.copy()
    shifted[:3, 3] -= [part.start for part in box]
    inside = mask[box].astype(np.float64)
    total, share = (
        ndimage.affine_transform(ndimage.gaussian_filter(part, sigma), shifted, output_shape=shape, order=1)
        for part in (values[box] * inside, inside)
    )
    brain = share > 0.5
    return np.where(brain, total / np.where(brain, share, 1), 0), brain
