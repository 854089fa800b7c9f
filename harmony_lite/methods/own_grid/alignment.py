"""Where a brain lies in the model's space: affine alignment to the template, and sampling on another grid."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import ndimage

from harmony_lite.simulate.anatomy import HEAD_BOX, HEAD_CENTRE, TEMPLATE_CENTRE, TEMPLATE_SCALE

__all__ = ["align", "overlap", "sampled", "template_on"]

COARSE, FINE = 4.0, 3.0  # mm: finer than that, a template that 152 people are averaged in has nothing to add
BRAIN_ML = (300.0, 2100.0)  # of what may be a brain; a head with its skull has more
LEAST_OVERLAP = 0.8  # Dice with the template's brain: brains of one's own have about 0.95
LARGE = 1 << 25  # voxels: as many are blurred in single precision, to save memory
STRETCH = (0.6, 1.5)  # size of a brain along any direction, against the template at the size of the simulated people


def align(values: np.ndarray, affine: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Affine alignment of a brain to the template's, by mutual information, coarse to fine; nothing is random.

    Args:
        values: (D, H, W), RAS+, of any contrast.
        affine: (4, 4), voxel index to mm.
        mask: bool, same shape: the brain.

    Returns:
        (4, 4): a point of the model's space in mm to the same place in the scan's space in mm.

    Raises:
        ValueError: no voxel inside, a volume that is no brain's, no contrast, or too small an overlap or too large a
            stretch afterwards.
    """
    from dipy.align.imaffine import AffineRegistration, MutualInformationMetric, transform_centers_of_mass
    from dipy.align.transforms import AffineTransform3D, RigidTransform3D, TranslationTransform3D

    millilitres = float(mask.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000)
    if not BRAIN_ML[0] <= millilitres <= BRAIN_ML[1]:
        raise ValueError(
            f"mask: found {millilitres:.0f} ml inside, wanted a brain's {BRAIN_ML[0]:.0f} to {BRAIN_ML[1]:.0f} ml; a "
            "scan with its skull needs a brain mask"
        )
    low, high = np.percentile(values[mask], [0.5, 99])
    # the search turns about the origin: with the brain's centre there, its path does not depend on where the scan lies
    to_centre = np.eye(4)
    to_centre[:3, 3] = -(affine @ [*_centre(mask), 1.0])[:3]
    affine = to_centre @ affine
    if not high > low:
        raise ValueError(f"scan: found {low:g} almost everywhere inside the mask, wanted contrast")
    levels = (
        (COARSE, (TranslationTransform3D(), RigidTransform3D(), AffineTransform3D())),
        (FINE, (AffineTransform3D(),)),
    )
    placed = None
    try:
        for spacing, transforms in levels:
            template, grid = _template_brain(spacing)
            scan, scan_grid = _thinned(values, affine, mask, spacing)
            if placed is None:
                placed = transform_centers_of_mass(template, grid, scan, scan_grid).affine
            spaces = {"static_grid2world": grid, "moving_grid2world": scan_grid}
            for transform in transforms:
                metric = MutualInformationMetric(nbins=32)
                search = AffineRegistration(metric=metric, level_iters=[200], sigmas=[0.5], factors=[1], verbosity=0)
                placed = search.optimize(template, scan, transform, None, starting_affine=placed, **spaces).affine
        shared = overlap(placed, affine, mask)
    except Exception as error:  # DIPY's own kinds, when two images come to share no voxel or a step degenerates
        raise ValueError(f"alignment: found no way to the template ({error}), wanted a whole brain") from error
    stretch = np.linalg.svd(placed[:3, :3], compute_uv=False)
    if not (shared >= LEAST_OVERLAP and stretch.min() > STRETCH[0] and stretch.max() < STRETCH[1]):
        raise ValueError(
            f"alignment: found an overlap (Dice) of {shared:.2f} with the template's brain at a size of "
            f"{stretch.min():.2f} to {stretch.max():.2f}, wanted at least {LEAST_OVERLAP} at {STRETCH[0]} to "
            f"{STRETCH[1]}: a whole brain, in a file whose header says which way it lies"
        )
    return np.linalg.inv(to_centre) @ placed


def overlap(placed: np.ndarray, affine: np.ndarray, mask: np.ndarray) -> float:
    """Dice overlap of the template's brain and an aligned one, 0 to 1, on the template's grid.

    Args:
        placed: (4, 4), as `align` gives it.
        affine: (4, 4) of the scan, voxel index to mm.
        mask: bool (D, H, W): the scan's brain.
    """
    template, grid = _template_brain(COARSE)
    to_scan = np.linalg.inv(affine) @ placed @ grid
    found = sampled(mask.astype(np.float32), affine, mask, to_scan, template.shape)[1]
    # what lies beyond the model's field of view belongs to the brain too, and counts against the overlap
    whole = mask.sum() * abs(np.linalg.det(np.linalg.inv(to_scan)))
    return float(2 * (found & (template > 0)).sum() / (whole + (template > 0).sum()))


@cache
def _template_brain(spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """The skull-stripped T1 template where the simulated people have it, 0 to 1, and its affine."""
    shape = HEAD_BOX.shape((spacing,) * 3)
    grid = HEAD_BOX.affine(shape)
    return template_on(shape, grid), grid


def template_on(shape: tuple[int, int, int], grid: np.ndarray) -> np.ndarray:
    """The skull-stripped T1 template where the simulated people have it, on any grid: `shape`, float64, 0 to 1.

    Args:
        shape: (D, H, W).
        grid: (4, 4), voxel index to mm of the model's space.
    """
    from nilearn import datasets

    to_template = np.diag([1 / TEMPLATE_SCALE] * 3 + [1.0])  # people are smaller than the template
    to_template[:3, 3] = TEMPLATE_CENTRE.numpy() - HEAD_CENTRE.numpy() / TEMPLATE_SCALE
    image, brain = datasets.load_mni152_template(resolution=1), datasets.load_mni152_brain_mask(resolution=1)
    values, inside = np.asarray(image.dataobj, np.float64), np.asarray(brain.dataobj) > 0
    found, _ = sampled(values, image.affine, inside, np.linalg.inv(image.affine) @ to_template @ grid, shape)
    return found / found.max()


def _thinned(values: np.ndarray, affine: np.ndarray, mask: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """The brain on voxels of `spacing` mm along the scan's own axes, 0 to 1, and their affine."""
    low, high = np.percentile(values[mask], [0.5, 99])  # a bright vessel would take most of the histogram
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    box = _box(mask)
    # a margin of 8 mm of background
    first, last = (np.array([getattr(part, end) for part in box]) for end in ("start", "stop"))
    first, last = first - 8 / sizes, last - 1 + 8 / sizes
    step = spacing / sizes
    to_scan = np.diag([*step, 1.0])
    to_scan[:3, 3] = first
    shape = tuple(int(n) for n in np.ceil((last - first) / step) + 1)
    inner = tuple(slice(part.start, part.stop) for part in box)
    scaled = 0.1 + 0.9 * np.clip((values[inner] - low) / (high - low), 0, 1)  # dark brain is not background
    shifted = to_scan.copy()
    shifted[:3, 3] -= [part.start for part in box]
    return sampled(scaled, affine, mask[inner], shifted, shape)[0], affine @ to_scan


def sampled(
    values: np.ndarray,
    affine: np.ndarray,
    mask: np.ndarray,
    to_scan: np.ndarray,
    shape: tuple[int, ...],
) -> tuple[np.ndarray, np.ndarray]:
    """A brain on another grid, float64 and 0 outside, and its mask there.

    Finer voxels are first averaged by a Gaussian of the variance that a coarse voxel has beyond them. Sums over the
    brain are divided by the brain's share, so that the background does not darken its rim.
    """
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    coarse = np.linalg.norm((affine @ to_scan)[:3, :3], axis=0).mean()
    sigma = np.sqrt(np.maximum(coarse**2 - sizes**2, 0) / 12) / sizes
    box = tuple(slice(max(part.start - 3, 0), part.stop + 3) for part in _box(mask))
    shifted = to_scan.copy()
    shifted[:3, 3] -= [part.start for part in box]
    inside = mask[box].astype(np.float64 if mask[box].size < LARGE else np.float32)
    total, share = (
        ndimage.affine_transform(ndimage.gaussian_filter(part, sigma), shifted, output_shape=shape, order=1)
        for part in (values[box] * inside, inside)
    )
    brain = share > 0.5
    return np.where(brain, total / np.where(brain, share, 1), 0), brain


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box around a mask; no list of its voxels is made, which is large."""
    occupied = [np.flatnonzero(mask.any(tuple(other for other in range(3) if other != axis))) for axis in range(3)]
    return tuple(slice(int(places[0]), int(places[-1]) + 1) for places in occupied)


def _centre(mask: np.ndarray) -> np.ndarray:
    """Mean index of a mask's voxels along each axis."""
    counts = [mask.sum(tuple(other for other in range(3) if other != axis)) for axis in range(3)]
    return np.array([np.average(np.arange(len(count)), weights=count) for count in counts])
