"""Encoder and decoder of HAIL (Parida et al., 2023, appendix A, Figures 3 and 4)."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from harmony_lite.nets.blocks import folded, unfolded
from harmony_lite.papers.hail.settings import NetworkSizes

__all__ = ["AutoEncoder", "Decoder", "Encoder", "radius"]


class Encoder(nn.Module):
    """Volumes (B, 1, D, H, W) to features, level by level: a convolution, ReLU, and between levels a pooling.

    No normalization, as printed: mean and deviation of the features are what the style is.

    >>> import torch
    >>> [tuple(level.shape[1:]) for level in Encoder(NetworkSizes((4, 8), pools=1))(torch.zeros(1, 1, 8, 8, 8))]
    [(4, 8, 8, 8), (8, 4, 4, 4)]
    """

    def __init__(self, sizes: NetworkSizes) -> None:
        super().__init__()
        self.sizes = sizes
        widths = (sizes.block_side**3, *sizes.widths)
        self.levels = nn.ModuleList(nn.Conv3d(a, b, 3, padding=1) for a, b in pairwise(widths))

    def forward(self, volumes: Tensor) -> list[Tensor]:
        """(B, C, d, h, w) of every level, the deepest last; all sides divisible by `sizes.divisor`."""
        x, features = folded(volumes, self.sizes.block_side), []
        for level, convolution in enumerate(self.levels):
            if 0 < level <= self.sizes.pools:
                x = functional.max_pool3d(x, 2)  # half the side
            x = functional.relu(convolution(x))
            features.append(x)
        return features


class Decoder(nn.Module):
    """The deepest features back to volumes: a convolution, ReLU, and where the encoder pools, each voxel twice.

    After the last convolution there is no ReLU: the figure does not show one, and [0, 1] has values at its ends.
    """

    def __init__(self, sizes: NetworkSizes) -> None:
        super().__init__()
        self.sizes = sizes
        widths = (*reversed(sizes.widths), sizes.block_side**3)
        self.levels = nn.ModuleList(nn.Conv3d(a, b, 3, padding=1) for a, b in pairwise(widths))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, d, h, w) to (B, 1, D, H, W)."""
        x = features
        for level, convolution in reversed(list(enumerate(reversed(self.levels)))):
            x = convolution(x)
            if level > 0:
                x = functional.relu(x)
            if 0 < level <= self.sizes.pools:
                x = functional.interpolate(x, scale_factor=2, mode="nearest-exact")
        return unfolded(x, self.sizes.block_side)


class AutoEncoder(nn.Module):
    """Both, as phase 1 trains them; phase 2 keeps the encoder as it is."""

    def __init__(self, sizes: NetworkSizes) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(sizes), Decoder(sizes)

    def forward(self, volumes: Tensor) -> Tensor:
        """(B, 1, D, H, W), same shape."""
        return self.decoder(self.encoder(volumes)[-1])


def radius(sizes: NetworkSizes, *, both_ways: bool = False) -> int:
    """How many voxels around its own a voxel of the deepest features looks at; or one of the decoder's result.

    Each convolution adds one voxel, as large as voxels are at its level. On the way from the decoder's result to the
    features a voxel also looks at the whole of each larger one that it touches.

    >>> sizes = NetworkSizes((4, 8), pools=1)
    >>> radius(sizes), radius(sizes, both_ways=True)
    (3, 7)
    """
    sides = [sizes.block_side * 2 ** min(level, sizes.pools) for level in range(len(sizes.widths))]
    behind = 0
    for side in sides if both_ways else ():
        behind = -(-behind // side) * side + side
    return behind + sum(sides)
