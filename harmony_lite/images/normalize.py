"""Each paper's normalisation, foreground, slices, padding and N4.

All functions take `(N, 1, H, W)` slices or `(N, 1, D, H, W)` volumes, float32, RAS+ (an axial slice k of a volume is
`volume[..., k]`), and give float32 on the same device. An image without contrast is refused: no scaling of it means
anything. Scaling changes what a measure such as PSNR says, so each paper's own way is kept apart here by name.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "axial_slices",
    "brain_slices",
    "divide_by_mean",
    "foreground",
    "full_range_minmax",
    "grey_levels",
    "n4",
    "pad_to_multiple",
    "percentiles",
    "slice_minmax",
    "subject_percentile",
]

BACKGROUND_SHARE = 0.2  # of all voxels: a constant that fills this much and touches a corner is background


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
    _check(images)
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


def divide_by_mean(images: Tensor) -> Tensor:
    """Each image divided by its mean over all voxels, background zeros included.

    Source: MISPEL (Torbati et al., ICCVW 2021), whose pre-processing is that of RAVEL. Because the zeros count, the
    size of the head in the field of view enters the scale.

    Raises:
        ValueError: an image that is not finite, without contrast, or whose mean is not positive.

    >>> divide_by_mean(torch.tensor([[[[0.0, 0.0], [2.0, 6.0]]]]))
    tensor([[[[0., 0.],
              [1., 3.]]]])
    """
    _check(images)
    mean = images.flatten(1).mean(1)
    if bool((mean <= 0).any()):
        raise ValueError(f"images: found a mean of {float(mean.min()):g}, wanted a positive one to divide by")
    return images / _per_image(mean, images)


def full_range_minmax(images: Tensor) -> Tensor:
    """Each image to [0, 1] by its global minimum and maximum.

    Source: HAIL, whole volumes. One bright vessel sets the scale of everything else.

    Raises:
        ValueError: an image that is not finite or without contrast.
    """
    _check(images)
    flat = images.flatten(1) if images.dtype != torch.bool else images.flatten(1).byte()  # masks can be sliced too
    low, high = _per_image(flat.amin(1), images), _per_image(flat.amax(1), images)
    return (images - low) / (high - low)


def grey_levels(images: Tensor, mask: Tensor | None = None) -> Tensor:
    """Each image as integer grey levels 0 to 255 (still float32), background 0.

    Source: Harmonizing Flows (Beizaee et al., MICCAI 2023), whose ABIDE slices are FreeSurfer's 8-bit images: the
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
    _check(images, mask)
    mask = foreground(images) if mask is None else mask
    # numpy's partition is linear in the voxels and, unlike torch.quantile, has no upper limit on their number
    found = [
        np.percentile(image[inside].detach().cpu().numpy(), [low, high])
        for image, inside in zip(images, mask, strict=True)
    ]
    both = torch.tensor(np.array(found), dtype=images.dtype, device=images.device)
    return both[:, 0], both[:, 1]


def foreground(images: Tensor) -> Tensor:
    """Where there is something: a mask found from the image alone.

    A value that fills at least 20 % of an image and is found in one of its corners is its background (skull-stripped
    and masked scans, usually 0), and everything else is foreground. Where there is none (whole-head scans with noise
    in the air), Otsu's threshold divides bright from dark (N. Otsu, IEEE Trans. SMC 9, 1979; scikit-image).

    Returns:
        bool, same shape.

    Raises:
        ValueError: an image that is not finite or without contrast.

    >>> image = torch.zeros(1, 1, 4, 4)
    >>> image[..., 1:3, 1:3] = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> int(foreground(image).sum())
    4
    """
    _check(images)
    return torch.stack([_foreground_of(image) for image in images])


def axial_slices(
    volumes: Tensor, count: int, *, mask: Tensor | None = None, positions: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Evenly spaced axial slices of each volume, from within the axial range of its mask.

    The range is divided into `count` equal parts and the middle of each is taken, so the outermost slices, which hold
    a few voxels only, are left out.

    Args:
        volumes: `(N, 1, D, H, W)`.
        count: slices for each volume.
        mask: bool, same shape; the foreground where absent.
        positions: `(N, count)` or `(count,)` indices to use instead, for example those of a paired scan.

    Returns:
        The slices `(N * count, 1, D, H)`, person by person and upwards within each, and their indices `(N, count)`.

    Raises:
        ValueError: not volumes, a count below 1, fewer axial positions in the mask than slices, positions of another
            number or outside the volume.
    """
    if volumes.ndim != 5:
        raise ValueError(f"volumes: found shape {tuple(volumes.shape)}, wanted (N, 1, D, H, W)")
    people, depth = volumes.shape[0], volumes.shape[-1]
    if positions is None:
        _check(volumes, mask)
        positions = _even_positions(foreground(volumes) if mask is None else mask, count)
    positions = positions.to(volumes.device).expand(people, -1) if positions.ndim == 1 else positions.to(volumes.device)
    if positions.shape != (people, count) or int(positions.min()) < 0 or int(positions.max()) >= depth:
        raise ValueError(
            f"positions: found shape {tuple(positions.shape)} from {int(positions.min())} to {int(positions.max())}, "
            f"wanted ({people}, {count}) within 0 to {depth - 1}"
        )
    taken = [volume[..., indices].permute(3, 0, 1, 2) for volume, indices in zip(volumes, positions, strict=True)]
    return torch.cat(taken), positions


def brain_slices(volumes: Tensor, mask: Tensor) -> Tensor:
    """All axial slices that hold brain, (B, 1, D, H), person by person and upwards within each.

    Args:
        volumes: `(N, 1, D, H, W)`.
        mask: bool, same shape.
    """
    occupied = mask.flatten(1, 3).any(1)  # (N, W)
    taken = [volume[..., own].permute(3, 0, 1, 2) for volume, own in zip(volumes, occupied, strict=True)]
    return torch.cat(taken)


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


def n4(
    volumes: Tensor, mask: Tensor | None = None, *, shrink: int = 4, iterations: tuple[int, ...] = (50,) * 4
) -> Tensor:
    """Receive-field correction by N4 (Tustison et al., IEEE TMI 29, 2010; SimpleITK), with its standard settings.

    The field is found on a coarser copy inside the mask and divided out of the full volume, everywhere.

    Args:
        volumes: `(N, 1, D, H, W)`; values are not negative.
        mask: bool, same shape; the foreground where absent.
        shrink: factor of the coarser copy; 4 suits voxels of 1 mm, 2 those of 2 mm.
        iterations: at most so many per fitting level.

    Raises:
        ValueError: not volumes, not finite, negative or without contrast; a mask of another shape.
    """
    import SimpleITK as sitk

    if volumes.ndim != 5:
        raise ValueError(f"volumes: found shape {tuple(volumes.shape)}, wanted (N, 1, D, H, W)")
    _check(volumes, mask)
    if float(volumes.min()) < 0:
        raise ValueError(f"volumes: found the value {float(volumes.min()):g}, wanted none below 0 for N4")
    mask = foreground(volumes) if mask is None else mask
    corrected = []
    for volume, inside in zip(volumes, mask, strict=True):
        whole = sitk.GetImageFromArray(volume[0].detach().cpu().numpy())
        region = sitk.GetImageFromArray(inside[0].cpu().numpy().astype(np.uint8))
        filter_ = sitk.N4BiasFieldCorrectionImageFilter()
        filter_.SetMaximumNumberOfIterations(list(iterations))
        factors = [shrink] * 3
        filter_.Execute(sitk.Shrink(whole, factors), sitk.Shrink(region, factors))
        field = sitk.GetArrayFromImage(filter_.GetLogBiasFieldAsImage(whole))
        corrected.append(volume / torch.from_numpy(np.exp(field)).to(volume))
    return torch.stack(corrected)


def _check(images: Tensor, mask: Tensor | None = None) -> None:
    if images.ndim not in (4, 5) or images.shape[1] != 1 or images.numel() == 0:
        raise ValueError(f"images: found shape {tuple(images.shape)}, wanted (N, 1, H, W) or (N, 1, D, H, W)")
    flat = images.flatten(1)
    low, high = flat.amin(1), flat.amax(1)
    if not bool(torch.isfinite(high - low).all()):  # NaN and infinity both reach the extremes
        bad = int((~torch.isfinite(images)).sum())
        raise ValueError(f"images: found {bad} values that are NaN or infinite, wanted finite values")
    flat_ones = torch.nonzero(low == high).flatten().tolist()
    if flat_ones:
        value = float(low[flat_ones[0]])
        raise ValueError(f"images: image {flat_ones[0]} is constant at {value:g}, wanted an image with contrast")
    if mask is not None and (mask.shape != images.shape or mask.dtype != torch.bool):
        raise ValueError(f"mask: found {mask.dtype} {tuple(mask.shape)}, wanted torch.bool {tuple(images.shape)}")
    if mask is not None and not bool(mask.flatten(1).any(1).all()):
        raise ValueError("mask: found an image without a voxel inside, wanted at least one for each")


def _per_image(values: Tensor, images: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (images.ndim - 1))


def _foreground_of(image: Tensor) -> Tensor:
    corners = image[tuple(slice(None, None, max(size - 1, 1)) for size in image.shape)]
    shares = {float(value): float((image == value).float().mean()) for value in corners.unique()}
    background = max(shares, key=shares.__getitem__)
    if shares[background] >= BACKGROUND_SHARE:
        return image != background
    from skimage.filters import threshold_otsu

    return image > float(threshold_otsu(image.detach().cpu().numpy()))


def _even_positions(mask: Tensor, count: int) -> Tensor:
    if count < 1:
        raise ValueError(f"count: found {count}, wanted at least 1")
    rows = []
    for inside in mask.flatten(1, 3).any(1):
        occupied = torch.nonzero(inside).flatten()
        first, extent = int(occupied[0]), int(occupied[-1] - occupied[0]) + 1
        if extent < count:
            raise ValueError(f"volumes: found {extent} axial positions inside the mask, wanted at least {count}")
        rows.append(first + ((torch.arange(count, device=mask.device) + 0.5) * extent / count).floor().long())
    return torch.stack(rows)
