"""What the measures accept: checks of their arguments, with messages that say what was found and what was wanted."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from harmony_lite.images.checks import check_finite, check_images, check_mask

__all__ = ["checked_images", "checked_segmentation", "checked_table", "pairs_inside", "positive_ranges", "same_shape"]
__all__ += ["spacing_per_axis", "values_inside"]


def checked_images(images: Tensor, name: str) -> Tensor:
    """The images themselves, if they are finite and `(N, 1, H, W)` or `(N, 1, D, H, W)`."""
    check_images(images, what=name, contrast=False)
    return images


def checked_segmentation(segmentation: Tensor, labels: Sequence[int] | None, name: str) -> Tensor:
    """The segmentation itself, if it is shaped like images and, where no label is named, a mask of zeros and ones."""
    checked_images(segmentation, name)
    if isinstance(labels, int):
        raise ValueError(f"labels: found {labels}, wanted a list such as [{labels}]")
    if labels is None and segmentation.dtype != torch.bool and not ((segmentation == 0) | (segmentation == 1)).all():
        raise ValueError(f"{name}: found other values than 0 and 1, wanted a mask, or labels=[...]")
    return segmentation


def checked_table(values: Tensor, name: str, axes: int | None = None) -> Tensor:
    """The values in float64 on the CPU, if they are finite, not empty and have `axes` axes (None: one or more)."""
    if not isinstance(values, Tensor):
        raise ValueError(f"{name}: found a {type(values).__name__}, wanted a torch tensor")
    if values.numel() == 0 or values.ndim == 0 or axes not in (None, values.ndim):
        wanted = "one axis or more" if axes is None else f"{axes} axes" if axes > 1 else "one axis"
        raise ValueError(f"{name}: found shape {tuple(values.shape)}, wanted {wanted} and at least one value")
    check_finite(values, name)
    return values.detach().cpu().double()


def same_shape(first: Tensor, second: Tensor, first_name: str, second_name: str) -> None:
    """Nothing, if the two have one shape."""
    if first.shape != second.shape:
        found, wanted = tuple(second.shape), tuple(first.shape)
        raise ValueError(f"{second_name}: found shape {found}, wanted {wanted}, the same as {first_name}")


def values_inside(images: Tensor, mask: Tensor | None, name: str, mask_name: str = "mask") -> list[Tensor]:
    """The intensities inside the mask, one float64 vector per image, on the CPU."""
    images = checked_images(images, name).detach()
    if mask is None:
        return [image.flatten().cpu().double() for image in images]
    check_mask(mask, images, name, name=mask_name)
    return [image.cpu()[here.cpu()].double() for image, here in zip(images, mask, strict=True)]


def pairs_inside(
    first: Tensor, second: Tensor, mask: Tensor | None, first_name: str = "image", second_name: str = "reference"
) -> list[tuple[Tensor, Tensor]]:
    """Both images' intensities inside one mask, one pair of vectors per image."""
    same_shape(checked_images(first, first_name), checked_images(second, second_name), first_name, second_name)
    vectors = values_inside(first, mask, first_name)
    return list(zip(vectors, values_inside(second, mask, second_name), strict=True))


def positive_ranges(data_range: float | Tensor | None, references: list[Tensor]) -> list[float]:
    """One positive number per reference: as given, or each reference's maximum minus minimum."""
    if data_range is None:
        ranges = torch.stack([reference.max() - reference.min() for reference in references])
        if (ranges == 0).any():
            which = int(ranges.argmin())
            raise ValueError(f"reference: found image {which} constant in its mask, wanted one that varies")
        return ranges.tolist()
    ranges = torch.as_tensor(data_range, dtype=torch.float64).cpu().flatten()
    if len(ranges) not in (1, len(references)) or not ((ranges > 0) & ranges.isfinite()).all():
        wanted = f"one positive number, or {len(references)} of them"
        raise ValueError(f"data_range: found {ranges.tolist()}, wanted {wanted}")
    return ranges.expand(len(references)).tolist()


def spacing_per_axis(spacing: float | Sequence[float] | None, axes: int) -> tuple[float, ...]:
    """Voxel size in mm for each axis, from one number or one per axis; None is refused, since no size is a guess."""
    if spacing is None:
        raise ValueError("spacing: found none, wanted the voxel size in mm")
    sizes = (float(spacing),) * axes if isinstance(spacing, int | float) else tuple(float(size) for size in spacing)
    if len(sizes) != axes or not all(0 < size < math.inf for size in sizes):
        raise ValueError(f"spacing: found {spacing}, wanted one positive number in mm, or {axes} of them")
    return sizes
