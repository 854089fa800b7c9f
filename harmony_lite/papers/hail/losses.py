"""The four losses of HAIL (Parida et al., 2023, section 2.1): reconstruction, content, style, consistency.

The paper names them and prints no formula. Here as there is one in its sources: L1 + (1 - SSIM) "with equal weights" as
in MONAI; content and style as in AdaIN's own paper (Huang and Belongie, 2017, Equations 12 and 13), a mean square where
that has a norm, so that a level's width does not count.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from harmony_lite.papers.hail.adain import style_of, weights_at

__all__ = ["content_loss", "likeness_loss", "ssim", "style_loss"]

SIDE, SIGMA = 11, 1.5  # of SSIM's Gaussian window, voxels
LUMINANCE, CONTRAST = 0.01**2, 0.03**2  # for images in [0, 1]


def likeness_loss(image: Tensor, other: Tensor) -> Tensor:
    """L1 + (1 - SSIM), mean over all voxels: the reconstruction loss, and the consistency loss.

    Consistency: the decoder is given the input's features with the input's own style, and has to give back the input.
    "To prevent harmonization when target and input images are similar": here they are the same.
    """
    return (image - other).abs().mean() + 1 - ssim(image, other)


def content_loss(features: Tensor, wanted: Tensor) -> Tensor:
    """Mean square between the deepest features of the prediction and those wanted."""
    return (features - wanted).square().mean()


def style_loss(levels: Sequence[Tensor], wanted: Sequence[Tensor], masks: Sequence[Tensor | None]) -> Tensor:
    """Mean square between the channels' means, and between their deviations, summed over all levels.

    Args:
        levels: features of the prediction, (B, C, d, h, w) each.
        wanted: of the target.
        masks: (B, 1, D, H, W): the voxels that count in the prediction, and in the target; None for all.
    """
    total = levels[0].new_zeros(())
    for level, other in zip(levels, wanted, strict=True):
        styles = (
            style_of(features, None if mask is None else weights_at(mask, features))
            for features, mask in zip((level, other), masks, strict=True)
        )
        for found, aim in zip(*styles, strict=True):
            total = total + (found - aim).square().mean()
    return total


def ssim(image: Tensor, other: Tensor) -> Tensor:
    """Structural similarity of volumes (B, 1, D, H, W) in [0, 1], mean over voxels with a whole window around them.

    As MONAI's, whose Gaussian window of 11 voxels a side is taken one axis after the other here: twenty times as fast
    on a CPU, and to rounding the same number. A side below 11 takes a window of that side.
    """
    pairs = torch.cat([image, other, image * image, other * other, image * other])
    for axis in (2, 3, 4):
        pairs = functional.conv3d(pairs, _gaussian(pairs, axis))
    first, second, first_square, second_square, product = pairs.chunk(5)
    variances = (first_square - first.square()) + (second_square - second.square())
    covariance = product - first * second
    means = first.square() + second.square()
    score = (2 * first * second + LUMINANCE) / (means + LUMINANCE) * (2 * covariance + CONTRAST)
    return (score / (variances + CONTRAST)).mean()


def _gaussian(volumes: Tensor, axis: int) -> Tensor:
    """A window along one axis, (1, 1, ...), of sum 1."""
    side = min(SIDE, volumes.shape[axis])
    places = torch.arange(side, device=volumes.device, dtype=torch.float32) - (side - 1) / 2
    window = torch.exp(-(places**2) / (2 * SIGMA**2))
    shape = [1] * 5
    shape[axis] = side
    return (window / window.sum()).reshape(shape).to(volumes.dtype)
