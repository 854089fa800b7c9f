"""The averaged image of the target's people on a template's grid: the mean, the check of a grid, how it is kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from harmony_lite.methods.protocol import check_names

__all__ = ["check_grid", "check_packed", "mean_image", "packed_image", "unpacked_image", "without_height"]


def mean_image(images: Tensor) -> np.ndarray:
    """Mean over people of volumes (N, 1, D, H, W): (D, H, W) float64; one volume is its own mean, as it is."""
    if len(images) == 1:
        return images[0, 0].detach().cpu().numpy()
    return images.detach().double().mean(0)[0].cpu().numpy()


def check_grid(images: Tensor, wanted: Sequence[int]) -> None:
    """Refuse volumes on another grid than (D, H, W) `wanted`; a slice, W = 1, fits where D and H do (ValueError)."""
    found = tuple(images.shape[2:])
    if found != tuple(wanted) and found != (*wanted[:2], 1):
        raise ValueError(f"images: found a grid of {found} voxels, wanted {tuple(wanted)}, that of the fit")


def without_height(image: Tensor) -> Tensor:
    """The mean of an averaged image (D, H, W) over the heights that hold something: (D, H, 1), for a slice."""
    return image[..., image.flatten(0, 1).any(0)].mean(-1, keepdim=True)


def packed_image(mean: Tensor, inside: Tensor, *, most_bytes: int) -> dict[str, Tensor]:
    """An averaged image (D, H, W) for a weights file: the box around a mask, on blocks as small as the limit allows.

    Its range is cut into 255 steps: `image` uint8 (d, h, w), `range` (2,), `corner`, `size` and `grid` (3,) in voxels,
    `block` (1,), the side of the blocks in voxels.
    """
    occupied = torch.nonzero(inside)
    corner, end = occupied.amin(0), occupied.amax(0) + 1
    box = mean[tuple(slice(int(a), int(b)) for a, b in zip(corner, end, strict=True))][None, None]
    block = 1
    while np.prod([-(-side // block) for side in box.shape[2:]]) > most_bytes:
        block += 1
    if block > 1:
        box = torch.nn.functional.avg_pool3d(box, block, ceil_mode=True, count_include_pad=False)
    low, high = box.min(), box.max()
    levels = ((box[0, 0] - low) / (high - low) * 255).round().to(torch.uint8)
    return {
        "image": levels,
        "range": torch.stack([low, high]).float(),
        "corner": corner,
        "size": end - corner,
        "block": torch.tensor([block]),
        "grid": torch.tensor(mean.shape),
    }


def check_packed(method: str, state: dict[str, Tensor]) -> None:
    """Refuse what `packed_image` did not pack (ValueError): other names or shapes, a box outside the grid."""
    check_names(method, state, {"image", "range", "corner", "size", "block", "grid"})
    shapes = {"range": (2,), "corner": (3,), "size": (3,), "grid": (3,), "block": (1,)}
    for name, wanted in shapes.items():
        if tuple(state[name].shape) != wanted:
            raise ValueError(f"{method}: found {name} of shape {tuple(state[name].shape)}, wanted {wanted}")
    image, corner, size, grid = (state[name] for name in ("image", "corner", "size", "grid"))
    wanted = tuple(-(-side // max(int(state["block"]), 1)) for side in size.tolist())
    if image.dtype != torch.uint8 or tuple(image.shape) != wanted:
        raise ValueError(f"{method}: found an image {image.dtype} {tuple(image.shape)}, wanted torch.uint8 {wanted}")
    if bool((corner < 0).any()) or bool((corner + size > grid).any()):
        box = f"a box from {corner.tolist()} of size {size.tolist()}"
        raise ValueError(f"{method}: found {box}, wanted it within the grid {grid.tolist()}")


def unpacked_image(state: dict[str, Tensor]) -> Tensor:
    """The image that `packed_image` packed, (D, H, W) float32, 0 outside its box."""
    low, high = state["range"]
    box = state["image"].float() / 255 * (high - low) + low
    size, corner = state["size"].tolist(), state["corner"].tolist()
    if (block := int(state["block"])) > 1:
        finer = torch.nn.functional.interpolate(box[None, None], scale_factor=block, mode="trilinear")
        box = finer[0, 0, : size[0], : size[1], : size[2]]
    image = torch.zeros(state["grid"].tolist())
    image[tuple(slice(a, a + n) for a, n in zip(corner, size, strict=True))] = box
    return image
