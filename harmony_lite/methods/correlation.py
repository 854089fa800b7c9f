"""Normalized cross-correlation of two images, centred, and its gradient: what two papers' methods climb."""

from __future__ import annotations

from torch import Tensor

__all__ = ["correlation", "correlation_gradient"]


def correlation(image: Tensor, source: Tensor) -> Tensor:
    """Centred normalized cross-correlation of two images of one shape, a scalar in [-1, 1].

    >>> import torch
    >>> source = torch.tensor([1.0, 2.0, 4.0])
    >>> correlation(3 * source + 7, source).round(decimals=4)
    tensor(1.)
    """
    image, source = image - image.mean(), source - source.mean()
    return (image * source).sum() / (image.norm() * source.norm())


def correlation_gradient(image: Tensor, source: Tensor) -> Tensor:
    r"""Gradient of `correlation` with respect to `image`, written out.

    With $\hat x$ and $\hat s$ the centred images divided by their norms and $\bar x$ the mean,
    $\nabla_x \mathrm{NCC} = (\hat s - \mathrm{NCC}\, \hat x) / \lVert x - \bar x \rVert$. It has mean 0 and is
    orthogonal to $\hat x$: a small step changes neither the mean nor the norm of the image.
    """
    image, source = image - image.mean(), source - source.mean()
    norm = image.norm()
    image, source = image / norm, source / source.norm()
    return (source - (image * source).sum() * image) / norm
