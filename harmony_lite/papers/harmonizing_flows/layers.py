"""Layers of both networks of Harmonizing Flows: ConcatELU, a normalization of channels, and U-shaped networks.

Source: F. Beizaee et al., "Harmonizing Flows", 2023, section 4.1. The paper prints the numbers of levels and kernels;
where the normalization stands and how the levels are joined is the public code's, known by its parameter counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ChannelNorm", "ConcatELU", "UShape"]


class ConcatELU(nn.Module):
    """ELU of x and of -x, one after the other: twice the channels, and a gradient for either sign.

    >>> ConcatELU()(torch.zeros(1, 3, 2, 2)).shape
    torch.Size([1, 6, 2, 2])
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, 2C, H, W)."""
        return functional.elu(torch.cat([x, -x], 1))


class ChannelNorm(nn.Module):
    """Mean 0 and deviation 1 over the channels of each pixel, then a gain and an offset for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels, 1, 1))
        self.offset = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), same shape."""
        centred = x - x.mean(1, keepdim=True)
        return self.gain * centred * torch.rsqrt(centred.square().mean(1, keepdim=True) + 1e-5) + self.offset


class UShape(nn.Module):
    """Levels that halve the image by maximum pooling and double it again bilinearly, joined at each size.

    Args:
        first: the layer at full resolution, from the input to `widths[0]` channels.
        widths: channels of each level.
        block: (channels in, channels out) -> the layers of a level.
    """

    def __init__(self, first: nn.Module, widths: Sequence[int], block: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.first = first
        self.down = nn.ModuleList(block(above, below) for above, below in pairwise(widths))
        self.up = nn.ModuleList(block(below + above, above) for below, above in pairwise(reversed(widths)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W), sides divisible by 2 ** (levels - 1), to `widths[0]` channels there, and the smallest level."""
        levels = [self.first(x)]
        for block in self.down:
            levels.append(block(functional.max_pool2d(levels[-1], 2)))
        bottom = x = levels.pop()
        for block in self.up:
            x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = block(torch.cat([levels.pop(), x], 1))
        return x, bottom
