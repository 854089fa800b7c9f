"""What an image has to be: the one check that everything begins with that takes images or masks.

Messages say what was found and what was wanted, with the name of the argument in front.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

__all__ = ["check_finite", "check_images", "check_mask", "check_volumes", "checked_table", "errors_about", "inside"]


def check_images(images: Tensor, mask: Tensor | None = None, *, what: str = "images", contrast: bool = True) -> None:
    """Refuse what is not a batch of images.

    Args:
        images: `(N, 1, H, W)` slices or `(N, 1, D, H, W)` volumes, any range.
        mask: bool, same shape, at least one voxel inside for each image.
        what: name of the images in the messages.
        contrast: refuse an image that is constant, inside its mask where there is one.

    Raises:
        ValueError: no tensor, another shape, values that are not finite, a constant image, a mask that does not fit.
    """
    if not isinstance(images, Tensor):
        raise ValueError(f"{what}: found a {type(images).__name__}, wanted a torch tensor")
    if images.ndim not in (4, 5) or images.shape[1] != 1 or images.numel() == 0:
        raise ValueError(f"{what}: found shape {tuple(images.shape)}, wanted (N, 1, H, W) or (N, 1, D, H, W)")
    check_finite(images, what)
    if mask is not None:
        check_mask(mask, images, what)
    if contrast:
        _check_contrast(images, mask, what)


def check_volumes(images: Tensor, mask: Tensor | None = None, *, what: str = "images", contrast: bool = True) -> None:
    """As `check_images`, and refuse slices (ValueError)."""
    if isinstance(images, Tensor) and images.ndim != 5:
        raise ValueError(f"{what}: found shape {tuple(images.shape)}, wanted volumes (N, 1, D, H, W)")
    check_images(images, mask, what=what, contrast=contrast)


def check_mask(mask: Tensor, images: Tensor, what: str = "images", *, name: str = "mask") -> None:
    """Refuse a mask of another type or shape than the images want, or one that is empty for an image (ValueError).

    `what` and `name` are what the messages call the images and the mask.
    """
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != images.shape:
        found = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"{name}: found {found}, wanted torch.bool {tuple(images.shape)}, as the {what}")
    empty = torch.nonzero(~mask.flatten(1).any(1)).flatten().tolist()
    if empty:
        raise ValueError(f"{name}: found no voxel inside for image {empty[0]}, wanted at least one")


@contextmanager
def errors_about(what: str) -> Iterator[None]:
    """Put a name in front of the message of a ValueError that is raised meanwhile."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error


def inside(image: Tensor, mask: Tensor) -> np.ndarray:
    """Values of one image inside its mask, (n,): by numpy, for torch lists the places first, 40 bytes a voxel."""
    return image.detach().cpu().numpy()[mask.cpu().numpy()]


def check_finite(values: Tensor, what: str, name: str = "values") -> None:
    """Refuse NaN and infinity (ValueError); `name` is what the message calls the values."""
    broken = int((~torch.isfinite(values)).sum())
    if broken:
        raise ValueError(f"{what}: found {broken} {name} that are NaN or infinite, wanted finite values")


def checked_table(data: np.ndarray, columns: str) -> np.ndarray:
    """An array of scans x `columns` (a word for the message), finite and not empty; ValueError for another."""
    data = np.asarray(data)
    if data.ndim != 2 or 0 in data.shape:
        raise ValueError(f"data: found shape {data.shape}, wanted (scans, {columns})")
    broken = int((~np.isfinite(data)).sum())
    if broken:
        raise ValueError(f"data: found {broken} values that are NaN or infinite, wanted finite values")
    return data


def _check_contrast(images: Tensor, mask: Tensor | None, what: str) -> None:
    for index, image in enumerate(images):
        values = image if mask is None else inside(image, mask[index])
        low, high = values.min(), values.max()
        if bool(low == high):
            where = "" if mask is None else " inside its mask"
            raise ValueError(f"{what}: found image {index} constant at {float(low):g}{where}, wanted one with contrast")
