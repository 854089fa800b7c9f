"""Each paper's normalisation, foreground and padding.

All functions take `(N, 1, H, W)` slices or `(N, 1, D, H, W)` volumes, float32, RAS+ (an axial slice k of a volume is
`volume[..., k]`), and give float32 on the same device. An image without contrast is refused: no scaling of it means
anything. Scaling changes what a measure such as PSNR says, so each paper's own way is kept apart here by name.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from harmony_lite.images.checks import check_images, inside

__all__ = [
    "constant_background",
    "divide_by_mean",
    "foreground",
    "full_range_minmax",
    "grey_levels",
    "is_masked",
    "means",
    "pad_to_multiple",
    "percentiles",
    "slice_minmax",
    "subject_percentile",
]

BACKGROUND_SHARE = 0.2  # of all voxels: a constant that fills this much and touches a corner is background
AIR_SHARE = 0.1  # of what differs from the background: more that is dark and lies around the rest is air, no CSF
AIR_LEVEL = 0.15  # of the bright part's median, above the background: the noise of the air stays below
QUIET = 0.02  # of the bright part's median: air of a few whole numbers, in which nothing moves
RESTLESS = 0.1  # deviation over mean; the noise of one coil has 0.52, that of 16 added up 0.13, an even tissue less
_COUNTED = 1 << 21  # voxels that a threshold is taken from; of more of them, every 2nd, every 3rd, and so on


def slice_minmax(images: Tensor) -> Tensor:
    """Absolute value, then each axial slice to [0, 1] by its minimum and maximum.

    Source: BlindHarmony (Jeong et al., ICCV 2023), section 4.1, and its public code. Within a volume, a slice without
    contrast (air above the head) becomes 0.

    Raises:
        ValueError: an image that is not finite or without contrast, or a wrong shape.

    >>> slice_minmax(torch.tensor([[[[2.0, 4.0], [3.0, 6.0]]]]))
    tensor([[[[0.0000, 0.5000],
              [0.2500, 1.0000]]]])
    """
    check_images(images)
    images = images.abs()
    # in (N, 1, H, W) and in (N, 1, D, H, W) alike, the axes 2 and 3 span one axial slice
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    span = high - low
    return torch.where(span > 0, (images - low) / span.clamp_min(torch.finfo(span.dtype).tiny), 0.0)


def subject_percentile(
    images: Tensor, mask: Tensor | None = None, *, low: float = 1.0, high: float = 99.0, clip: bool = False
) -> Tensor:
    """Each image to [0, 1] by its percentiles inside the mask; values beyond them lie outside [0, 1] unless clipped.

    Source: BlindHarmonyDiff (1st and 99th percentile of the subject); the report of this package scales likewise.
    For slices, give a person's volume here and slice afterwards.

    Args:
        images: slices or volumes.
        mask: bool, same shape; the foreground where absent.
        low: lower percentile, 0 to 100.
        high: upper percentile, 0 to 100.
        clip: cut the result to [0, 1].

    Raises:
        ValueError: as `percentiles`; also when the two percentiles coincide.
    """
    lower, upper = percentiles(images, mask, low, high)
    if bool((upper <= lower).any()):
        raise ValueError(f"images: found the percentiles {low:g} and {high:g} equal, wanted an image with contrast")
    lower, upper = _per_image(lower, images), _per_image(upper, images)
    scaled = (images - lower) / (upper - lower)
    return scaled.clamp(0, 1) if clip else scaled


def means(images: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of each image, (N,): over all voxels, background zeros included, or over those inside the mask.

    Args:
        images: slices or volumes.
        mask: bool, same shape: the voxels that count; all of them where absent.
    """
    if mask is None:
        return images.flatten(1).mean(1)
    return (images * mask).flatten(1).sum(1) / mask.flatten(1).sum(1)


def divide_by_mean(images: Tensor, mask: Tensor | None = None) -> Tensor:
    """Each image divided by its mean: over all voxels, background zeros included, or over those inside the mask.

    Source: MISPEL (Torbati et al., ICCVW 2021), whose pre-processing is that of RAVEL, has the first. Because the zeros
    count there, the size of the head in the field of view enters the scale.

    Args:
        images: slices or volumes.
        mask: bool, same shape: the voxels that count; all of them where absent.

    Raises:
        ValueError: an image that is not finite, without contrast, or whose mean is not positive.

    >>> divide_by_mean(torch.tensor([[[[0.0, 0.0], [2.0, 6.0]]]]))
    tensor([[[[0., 0.],
              [1., 3.]]]])
    """
    check_images(images, mask)
    mean = means(images, mask)
    if bool((mean <= 0).any()):
        raise ValueError(f"images: found a mean of {float(mean.min()):g}, wanted a positive one to divide by")
    return images / _per_image(mean, images)


def full_range_minmax(images: Tensor) -> Tensor:
    """Each image to [0, 1] by its global minimum and maximum.

    Source: HAIL, whole volumes. One bright vessel sets the scale of everything else.

    Raises:
        ValueError: an image that is not finite or without contrast.
    """
    check_images(images)
    flat = images.flatten(1) if images.dtype != torch.bool else images.flatten(1).byte()  # masks can be sliced too
    low, high = _per_image(flat.amin(1), images), _per_image(flat.amax(1), images)
    return (images - low) / (high - low)


def grey_levels(images: Tensor, mask: Tensor | None = None) -> Tensor:
    """Each image as integer grey levels 0 to 255 (still float32), background 0.

    Source: Harmonizing Flows (Beizaee et al., 2023), whose ABIDE slices are FreeSurfer's 8-bit images: the
    image's minimum goes to 0 and the 99.9th percentile of its foreground to 255, rounded, the few brighter cut.

    Args:
        images: slices or volumes.
        mask: bool, same shape; voxels outside become 0. Where absent, the foreground serves for the percentile only.

    Raises:
        ValueError: as `percentiles`; also when that percentile is not above the minimum.
    """
    _, top = percentiles(images, mask, 0.0, 99.9)
    bottom = images.flatten(1).amin(1)
    if bool((top <= bottom).any()):
        raise ValueError("images: found the 99.9th percentile at the minimum, wanted an image with contrast")
    bottom, top = _per_image(bottom, images), _per_image(top, images)
    levels = ((images - bottom) / (top - bottom) * 255).round().clamp(0, 255)
    return levels if mask is None else levels * mask


def percentiles(
    images: Tensor, mask: Tensor | None = None, low: float = 1.0, high: float = 99.0
) -> tuple[Tensor, Tensor]:
    """Two percentiles of each image inside its mask, interpolated linearly.

    Args:
        images: slices or volumes.
        mask: bool, same shape; the foreground where absent.
        low: lower percentile, 0 to 100.
        high: upper percentile, 0 to 100.

    Returns:
        Two tensors `(N,)`.

    Raises:
        ValueError: images not finite or without contrast, a mask of another shape or without a voxel, percentiles out
            of order.

    >>> lower, upper = percentiles(torch.arange(101.0).reshape(1, 1, 1, 101), torch.ones(1, 1, 1, 101).bool())
    >>> lower, upper
    (tensor([1.]), tensor([99.]))
    """
    if not 0 <= low < high <= 100:
        raise ValueError(f"percentiles: found low {low:g} and high {high:g}, wanted 0 <= low < high <= 100")
    check_images(images, mask)
    mask = foreground(images) if mask is None else mask
    # numpy's partition is linear in the voxels and, unlike torch.quantile, has no upper limit on their number
    found = [
        np.percentile(inside(image, brain), [low, high], overwrite_input=True)
        for image, brain in zip(images, mask, strict=True)
    ]
    both = torch.tensor(np.array(found), dtype=images.dtype, device=images.device)
    return both[:, 0], both[:, 1]


def foreground(images: Tensor) -> Tensor:
    """Where there is something: a mask found from the image alone.

    A value that fills at least 20 % of an image and is found in one of its corners is its background (skull-stripped
    and masked scans, usually 0), and everything else is foreground. Where there is none (whole-head scans with noise
    in the air), and where what is left is mostly air after all (noise in whole numbers, a margin of zeros around a
    whole head), Otsu's threshold divides bright from dark (N. Otsu, IEEE Trans. SMC 9, 1979; scikit-image). A few hot
    voxels do not move the threshold.

    Returns:
        bool, same shape.

    Raises:
        ValueError: an image that is not finite or without contrast.

    >>> image = torch.zeros(1, 1, 4, 4)
    >>> image[..., 1:3, 1:3] = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> int(foreground(image).sum())
    4
    """
    check_images(images)
    return torch.stack([_foreground_of(image) for image in images])


def constant_background(image: Tensor) -> float | None:
    """The value that fills at least 20 % of an image and is found in one of its corners; None where there is none.

    Args:
        image: `(1, H, W)` or `(1, D, H, W)`, finite.

    >>> constant_background(torch.tensor([[[0.0, 0.0, 0.0], [0.0, 5.0, 7.0], [0.0, 3.0, 4.0]]]))
    0.0
    """
    corners = image[tuple(slice(None, None, max(size - 1, 1)) for size in image.shape)]
    shares = {float(value): int((image == value).sum()) / image.numel() for value in corners.unique()}
    background = max(shares, key=shares.__getitem__)
    return background if shares[background] >= BACKGROUND_SHARE else None


def pad_to_multiple(images: Tensor, multiple: int, *, value: float = 0.0) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Pad the spatial axes on both sides until each is a multiple, for networks that halve them.

    Args:
        images: slices or volumes.
        multiple: for example 16 for four halvings.
        value: what is put around.

    Returns:
        The padded images and a function that cuts a result of that size back to the first one's.

    Raises:
        ValueError: a multiple below 1, or a result of another spatial size given to the function.

    >>> padded, crop = pad_to_multiple(torch.rand(1, 1, 10, 16), 8)
    >>> padded.shape, crop(padded).shape
    (torch.Size([1, 1, 16, 16]), torch.Size([1, 1, 10, 16]))
    """
    if multiple < 1:
        raise ValueError(f"multiple: found {multiple}, wanted at least 1")
    before = [(-size % multiple) // 2 for size in images.shape[2:]]
    after = [(-size % multiple) - first for size, first in zip(images.shape[2:], before, strict=True)]
    # torch.nn.functional.pad counts from the last axis
    amounts = [amount for pair in reversed(list(zip(before, after, strict=True))) for amount in pair]
    padded = torch.nn.functional.pad(images, amounts, value=value)
    window = tuple(slice(first, first + size) for first, size in zip(before, images.shape[2:], strict=True))

    def crop(result: Tensor) -> Tensor:
        if result.shape[2:] != padded.shape[2:]:
            raise ValueError(f"result: found size {tuple(result.shape[2:])}, wanted {tuple(padded.shape[2:])}")
        return result[(..., *window)]

    return padded, crop


def _per_image(values: Tensor, images: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (images.ndim - 1))


def _foreground_of(image: Tensor) -> Tensor:
    background = constant_background(image)
    if background is None:
        return image > _otsu(image.detach().cpu().numpy())
    rest = image != background
    return image > _otsu(image.detach().cpu().numpy()) if _has_air(image, rest, background) else rest


def is_masked(image: Tensor) -> bool:
    """Whether an image `(1, 1, D, H, W)` has one value around what it shows, and no noise of the air there."""
    background = constant_background(image[0])
    return background is not None and not _has_air(image[0], image[0] != background, background)


def _has_air(image: Tensor, rest: Tensor, background: float) -> bool:
    """Whether much of what is not the background is the dark and restless noise around a head."""
    bright = rest & (image > _otsu(inside(image, rest)))
    if not bool(bright.any()):
        return False
    top = float(np.median(inside(image, bright))) - background
    air = rest & (image > background - AIR_LEVEL * top) & (image < background + AIR_LEVEL * top)
    least = AIR_SHARE * int(rest.sum())
    if int(air.sum()) <= least:
        return False
    air &= ~_between(bright)
    if int(air.sum()) <= least:
        return False
    values = inside(image, air) - background
    return float(values.mean()) < QUIET * top or float(values.std()) > RESTLESS * float(values.mean())


def _otsu(values: np.ndarray) -> float:
    """Otsu's threshold of values of any shape; the brightest half per cent may be anything, and is cut."""
    from skimage.filters import threshold_otsu

    counted = values.ravel()
    counted = counted[:: max(1, -(-len(counted) // _COUNTED))]
    low, high = np.percentile(counted, [1, 99.5])
    counted = np.minimum(counted, high + 3 * (high - low))
    return float(threshold_otsu(counted)) if counted.min() < counted.max() else float(counted[0])


def _between(bright: Tensor) -> Tensor:
    """Voxels with something bright on both sides along at least two axes: the inside of a head, folds included."""
    bits = bright.cpu().numpy()
    count = np.zeros(bits.shape, np.uint8)
    for axis in range(1, bits.ndim):  # on bits: torch's cumulative maximum keeps the places too, eight bytes each
        before = np.logical_or.accumulate(bits, axis)
        after = np.flip(np.logical_or.accumulate(np.flip(bits, axis), axis), axis)
        count += before & after
    return torch.from_numpy(count >= 2).to(bright.device)
