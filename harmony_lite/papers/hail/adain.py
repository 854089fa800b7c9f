"""Adaptive instance normalization: features get the mean and the deviation of other features, channel by channel.

Source: X. Huang, S. Belongie, "Arbitrary style transfer in real-time with adaptive instance normalization", ICCV 2017,
Equation 8, in three dimensions (Parida et al., 2023, section 2.1). A weight for each voxel lets a mask count.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["TINY", "Style", "adain", "style_of", "weights_at"]

TINY = 1e-12  # variance at which a channel counts as constant: it has a mean to move and no contrast to stretch


class Style(NamedTuple):
    """Mean and deviation of each channel, (B, C) each."""

    means: Tensor
    deviations: Tensor


def style_of(features: Tensor, weights: Tensor | None = None) -> Style:
    """Mean and deviation of every channel over the voxels, those of weight 0 left out.

    Args:
        features: (B, C, d, h, w).
        weights: (B, 1, d, h, w), at least 0, as `weights_at` gives them; every voxel alike when None. Where all are 0,
            every voxel counts alike.

    >>> means, deviations = style_of(torch.tensor([1.0, 3.0]).reshape(1, 1, 1, 1, 2))
    >>> means.item(), deviations.item()
    (2.0, 1.0)
    """
    if weights is None:
        weights = torch.ones_like(features[:, :1])
    total = weights.sum((2, 3, 4), keepdim=True)
    weights = torch.where(total > 0, weights, torch.ones_like(weights))
    shares = weights / weights.sum((2, 3, 4), keepdim=True)
    means = (features * shares).sum((2, 3, 4), keepdim=True)
    variances = ((features - means).square() * shares).sum((2, 3, 4))
    return Style(means[..., 0, 0, 0], (variances + TINY).sqrt())


def adain(features: Tensor, own: Style, other: Style) -> Tensor:
    """Features (B, C, d, h, w) of a style `own` with the style `other`: a straight line for every channel.

    >>> x, y = torch.rand(1, 2, 4, 4, 4), torch.rand(1, 2, 3, 3, 3) + 5
    >>> moved = style_of(adain(x, style_of(x), style_of(y)))
    >>> all(torch.allclose(a, b, atol=1e-5) for a, b in zip(moved, style_of(y)))
    True
    """
    (means, deviations), (wanted_means, wanted_deviations) = (
        [part[..., None, None, None] for part in style] for style in (own, other)
    )
    return (features - means) / deviations * wanted_deviations + wanted_means


def weights_at(mask: Tensor, features: Tensor) -> Tensor:
    """The share of each feature's voxel that lies in a mask (B, 1, D, H, W): (B, 1, d, h, w)."""
    side = mask.shape[-1] // features.shape[-1]
    return functional.avg_pool3d(mask.to(features.dtype), side)
