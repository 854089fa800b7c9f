"""What every image passes before a threshold or a network sees it: background, foreground, hot voxels, values below 0.

Files and tensors come from many tools. Some of them mark what is not brain by NaN or by -1024; a coil or a converter
leaves a few voxels a thousand times as bright as tissue; others shift intensities below 0. One such voxel sets the
scale of a whole image, and the result looks like a result. So this is dealt with once, here, for every method.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harmony_lite.images.checks import check_finite, check_images, check_mask, inside
from harmony_lite.images.normalize import constant_background, foreground

__all__ = ["FEW", "Intake", "robust_range", "take_in", "without_missing"]

BRIGHTEST = 3.0  # times the range from the 1st to the 99th percentile above it; a bright vessel reaches 2.4
DARKEST = 1.0  # as often below the 1st percentile
FEW = 0.01  # of the voxels inside: so many values below 0 are ringing of an interpolation, not a shifted scale
_COUNTED = 1 << 20  # voxels that percentiles are taken from; of more of them, every 2nd, every 3rd, and so on


@dataclass(frozen=True, eq=False)
class Intake:
    """Images that are safe for thresholds and networks, and how to give back what is no brain.

    Attributes:
        images: same shape as what came in, float32, finite; 0 in the background.
        mask: bool, same shape: the mask that was given, without the background, or the foreground.
        remarks: one line for each thing that was changed, for the user.
    """

    images: Tensor
    mask: Tensor
    remarks: tuple[str, ...]
    _background: Tensor | None  # bool, where it is not 0
    _values: Tensor | None  # what stood there

    def give_back(self, harmonized: Tensor) -> Tensor:
        """The result with its background as it came: NaN, -1024, or whatever it was."""
        if self._background is None:
            return harmonized
        return torch.where(self._background.to(harmonized.device), self._values.to(harmonized), harmonized)


def take_in(
    images: Tensor, mask: Tensor | None = None, *, what: str = "images", takes_negatives: bool = True
) -> Intake:
    """Check images and make them safe; images without any of these oddities come through bit by bit.

    - NaN around the head, and a constant negative value around it, are background: they become 0, and come back.
    - Voxels far beyond the range of all others (`robust_range`) take the median of their neighbours.
    - Values below 0: where the method cannot take them, a few become 0, and more are refused.

    Args:
        images: `(N, 1, D, H, W)` volumes or `(N, 1, H, W)` slices, any range.
        mask: bool, same shape: the brain; the foreground where absent.
        what: name of the images in the messages.
        takes_negatives: whether values below 0 mean something to the method.

    Raises:
        ValueError: no images; NaN in the head or inside the mask, infinite values, no contrast, a mask that does not
            fit, values below 0 that the method cannot take.

    >>> image = torch.full((1, 1, 8, 8), torch.nan)
    >>> image[..., 2:6, 2:6] = torch.arange(16.0).reshape(4, 4)
    >>> taken = take_in(image)
    >>> int(taken.mask.sum()), float(taken.images[0, 0, 0, 0])
    (15, 0.0)
    >>> bool(torch.equal(taken.give_back(taken.images).isnan(), image.isnan()))
    True
    """
    if not isinstance(images, Tensor) or images.ndim not in (4, 5) or images.shape[1] != 1 or images.numel() == 0:
        check_images(images, what=what)
    if mask is not None:
        check_mask(mask, images, what)
    came = images.detach().float()
    values, background = _without_background(came, mask, what)
    if mask is not None and background is not None:
        mask = mask & ~background
        check_mask(mask, images, what)
    check_images(values, mask, what=what)
    found = foreground(values) if mask is None else mask
    values, hot = _without_hot_voxels(values, found)
    mask = mask if mask is not None else foreground(values) if hot else found  # a hot voxel of the air is no head
    values, raised = (values, []) if takes_negatives else _without_negatives(values, mask, what)
    return Intake(values, mask, (*hot, *raised), background, None if background is None else came)


def without_missing(images: Tensor, what: str = "images", values: str = "values") -> tuple[Tensor, Tensor | None]:
    """Images with 0 where they were NaN, and where that was; None where no voxel is NaN.

    NaN is background when it reaches the corners and fills a fifth of an image, as after skull-stripping by some tools.
    Anywhere else it is a damaged voxel.

    Args:
        images: `(N, 1, ...)`.
        what: name of the images in the message.
        values: what the message calls their values.

    Raises:
        ValueError: NaN in the head, or infinite values.
    """
    missing = images.isnan()
    if not bool(missing.any()):
        check_finite(images, what, values)
        return images, None
    for image, nans in zip(images, missing, strict=True):
        if bool(nans.any()) and not _is_around(nans[0].cpu().numpy(), image[0].isfinite().any()):
            count = int(nans.sum())
            raise ValueError(
                f"{what}: found {count} {values} that are NaN or infinite, wanted finite values (NaN all around the "
                "head is background, NaN inside is not)"
            )
    filled = images.masked_fill(missing, 0.0)
    check_finite(filled, what, values)
    return filled, missing


def robust_range(values: np.ndarray) -> tuple[float, float]:
    """Lowest and highest intensity that tissue may have, from intensities `(n,)` of which nearly all are tissue.

    The range between the 1st and 99th percentile, and beyond it once more below and three times above: the brightest
    vessel of six real scans lies 2.4 times above.

    >>> robust_range(np.arange(101.0))
    (-97.0, 393.0)
    """
    low, high = np.percentile(values[:: max(1, -(-len(values) // _COUNTED))], [1, 99])
    return float(low - DARKEST * (high - low)), float(high + BRIGHTEST * (high - low))


def _is_around(missing: np.ndarray, has_values: Tensor) -> bool:
    """Whether missing voxels are the surroundings of a head, and of nothing enclosed in it."""
    from scipy import ndimage

    corners = missing[tuple(slice(None, None, max(size - 1, 1)) for size in missing.shape)]
    if not (bool(has_values) and corners.any() and missing.mean() >= 0.2):
        return False
    holes = ndimage.binary_fill_holes(~missing) & missing
    return not holes.any()


def _without_background(images: Tensor, mask: Tensor | None, what: str) -> tuple[Tensor, Tensor | None]:
    """Images with a background of 0, and where it was something else; None where it was 0 already."""
    if mask is not None and bool((outside := images.isnan()).any()) and not bool((outside & mask).any()):
        values, background = images.masked_fill(outside, 0.0), outside  # the mask says what is brain
        check_finite(values, what)
    else:
        values, background = without_missing(images, what)
    for index, image in enumerate(values):
        constant = constant_background(image)
        if constant is not None and constant < 0:
            around = image == constant
            if background is None:
                background = torch.zeros_like(images, dtype=torch.bool)
            background[index] |= around
            values = values.clone() if values is images else values
            values[index][around] = 0.0
    return values, background


def _without_hot_voxels(images: Tensor, mask: Tensor) -> tuple[Tensor, list[str]]:
    """Voxels inside that lie beyond the robust range take the median of their neighbours within it."""
    remarks, changed = [], images
    for index, (image, brain) in enumerate(zip(images, mask, strict=True)):
        low, high = robust_range(inside(image, brain))
        hot = brain & ((image < low) | (image > high))
        count = int(hot.sum())
        if not count:
            continue
        if changed is images:
            changed = images.clone()
        values, at = image[0].cpu().numpy(), hot[0].cpu().numpy()
        places = np.argwhere(at)
        medians = _medians_around(values, brain[0].cpu().numpy(), at, places)
        changed[index, 0][hot[0]] = torch.from_numpy(medians).to(changed)
        first = " ".join(map(str, places[0]))
        worst = float(values[at][np.abs(values[at]).argmax()])
        remarks.append(
            f"hot voxels: {count} of up to {worst:g}, the others within {low:.4g} to {high:.4g}, the first at voxel "
            f"{first}; each took the median of the voxels around"
        )
    return changed, remarks


def _medians_around(values: np.ndarray, brain: np.ndarray, hot: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The median of the others inside in the 3 x 3 x 3 around each place; of all others where hardly any is inside."""
    found = np.empty(len(places), np.float32)
    for number, place in enumerate(places):
        box = tuple(slice(max(i - 1, 0), i + 2) for i in place)
        others = ~hot[box]
        near = brain[box] & others
        chosen = near if near.sum() >= others.sum() / 4 else others
        found[number] = np.median(values[box][chosen]) if chosen.any() else 0.0
    return found


def _without_negatives(images: Tensor, mask: Tensor, what: str) -> tuple[Tensor, list[str]]:
    """A few values below 0 become 0; more of them mean a scale that was shifted, and are refused."""
    below = images < 0
    if not bool(below.any()):
        return images, []
    remarks = []
    for index, (image, brain, negative) in enumerate(zip(images, mask, below, strict=True)):
        count = int((negative & brain).sum())
        if count > FEW * int(brain.sum()):
            share, lowest = count / int(brain.sum()), float(inside(image, brain).min())
            raise ValueError(
                f"{what}: found {100 * share:.0f} % of image {index} below 0 (down to {lowest:.4g}), wanted magnitudes "
                "of 0 and more: a scan that was z-scored or shifted has lost what this method needs"
            )
        if bool(negative.any()):
            remarks.append(f"below 0: {int(negative.sum())} voxels, down to {float(image.min()):.4g}, became 0")
    return images.clamp_min(0), remarks
