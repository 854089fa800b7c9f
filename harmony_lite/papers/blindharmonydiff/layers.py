"""Layers of the velocity network, for slices and for volumes alike.

Source: H. Jeong et al., "Efficient and robust 3D blind harmonization for large domain gaps", 2025, supplement S3.1:
pairs of convolutions with RMS normalization and SiLU, halving by moving blocks of voxels into the channels, doubling by
repeating voxels before a convolution. The paper is silent about how the network learns the time, and about attention,
which the released network has; both are as there, known by its parameter counts.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from harmony_lite.nets.blocks import folded

__all__ = [
    "Attention", "Halving", "LinearAttention", "RMSNorm", "ResidualBlock", "TimeEmbedding", "convolution", "doubling",
]  # fmt: skip

HEADS, HEAD_WIDTH, MEMORY = 4, 32, 4  # of either attention: heads, channels of each, learned keys and values


def convolution(inputs: int, outputs: int, side: int, dimensions: int, *, bias: bool = True) -> nn.Module:
    """A convolution of odd side that keeps the size of slices (2 dimensions) or volumes (3)."""
    kind = nn.Conv2d if dimensions == 2 else nn.Conv3d
    return kind(inputs, outputs, side, padding=side // 2, bias=bias)


class RMSNorm(nn.Module):
    """The channels of each voxel divided by their root mean square, then a gain for each channel.

    >>> [round(value, 3) for value in RMSNorm(2)(torch.tensor([[[[3.0]], [[4.0]]]])).flatten().tolist()]
    [0.849, 1.131]
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...), same shape."""
        # one factor a voxel: the gain is folded in afterwards
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-12) * _over_channels(self.gain[None], x)


class ResidualBlock(nn.Module):
    """Twice a convolution, RMS normalization and SiLU; the time scales and shifts the first; the input is added.

    Args:
        inputs: channels in.
        outputs: channels out.
        time: channels of the embedded time.
        dimensions: 2 or 3.
    """

    def __init__(self, inputs: int, outputs: int, time: int, dimensions: int) -> None:
        super().__init__()
        self.from_time = nn.Sequential(nn.SiLU(), nn.Linear(time, 2 * outputs))
        self.first, self.second = (convolution(width, outputs, 3, dimensions) for width in (inputs, outputs))
        self.first_norm, self.second_norm = RMSNorm(outputs), RMSNorm(outputs)
        same = inputs == outputs
        self.shortcut = nn.Identity() if same else convolution(inputs, outputs, 1, dimensions)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """(B, inputs, ...) and (B, time) to (B, outputs, ...)."""
        scale, shift = (_over_channels(part, x) for part in self.from_time(time).chunk(2, 1))
        h = functional.silu(self.first_norm(self.first(x)) * (1 + scale) + shift)
        h = functional.silu(self.second_norm(self.second(h)))
        return h + self.shortcut(x)


class TimeEmbedding(nn.Module):
    """The time as sines and cosines of many frequencies, then two linear layers.

    Args:
        width: of sines and cosines together.
        outputs: channels out.
    """

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        frequencies = torch.exp(-math.log(10_000) * torch.arange(width // 2) / (width // 2 - 1))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.layers = nn.Sequential(nn.Linear(width, outputs), nn.GELU(), nn.Linear(outputs, outputs))

    def forward(self, time: Tensor) -> Tensor:
        """(B,) from 0 to 1, to (B, outputs)."""
        # the frequencies are those for a thousand whole steps
        angles = 1000 * time[:, None] * self.frequencies
        return self.layers(torch.cat([angles.sin(), angles.cos()], 1))


class Halving(nn.Module):
    """Blocks of 2 x 2 (x 2) voxels moved into the channels, then a convolution of side 1; nothing is thrown away."""

    def __init__(self, inputs: int, outputs: int, dimensions: int) -> None:
        super().__init__()
        self.mix = convolution(inputs * 2**dimensions, outputs, 1, dimensions)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, ...) to (B, outputs, ...), half of each side."""
        return self.mix(folded(x, 2))


def doubling(inputs: int, outputs: int, dimensions: int) -> nn.Module:
    """Every voxel repeated twice along each axis, then a convolution of side 3."""
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), convolution(inputs, outputs, 3, dimensions))


# ----------------------------------------------------------------------------------------- attention, released only


class Attention(nn.Module):
    """Every voxel looks at every other, and at four learned ones; the input is added.

    Its cost grows with the square of the voxels: it stands at the smallest size only.
    """

    def __init__(self, channels: int, dimensions: int) -> None:
        super().__init__()
        hidden = HEADS * HEAD_WIDTH
        self.norm = RMSNorm(channels)
        self.to_all = convolution(channels, 3 * hidden, 1, dimensions, bias=False)
        self.memory = nn.Parameter(torch.randn(2, MEMORY, hidden))
        self.back = convolution(hidden, channels, 1, dimensions)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...), same shape."""
        seen = self._seen(*_as_heads(self.to_all(self.norm(x)), self.memory))
        return x + self.back(seen.transpose(2, 3).reshape(len(x), -1, *x.shape[2:]))

    def _seen(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(B, 4, n, 32): what each voxel takes from the others."""
        return functional.scaled_dot_product_attention(query, key, value)


class LinearAttention(Attention):
    """The same at a cost that grows with the voxels: keys and values are summed up before anybody asks."""

    def __init__(self, channels: int, dimensions: int) -> None:
        super().__init__(channels, dimensions)
        self.back = nn.Sequential(self.back, RMSNorm(channels))

    def _seen(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        summed = key.softmax(2).transpose(2, 3) @ value  # (B, 4, 32, 32)
        return query.softmax(3) * HEAD_WIDTH**-0.5 @ summed


def _as_heads(x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries (B, 4, n, 32), and keys and values (B, 4, 4 + n, 32) with the learned ones in front."""
    parts = x.flatten(2).mT.chunk(3, 2)  # (B, n, 128) each
    learned = memory[:, None].expand(-1, len(x), -1, -1)
    key, value = (torch.cat([more, part], 1) for more, part in zip(learned, parts[1:], strict=True))
    query, key, value = (part.unflatten(2, (HEADS, HEAD_WIDTH)).transpose(1, 2) for part in (parts[0], key, value))
    return query, key, value


def _over_channels(values: Tensor, like: Tensor) -> Tensor:
    """(B, C) with an axis of 1 for each of the others of (B, C, ...)."""
    return values[(..., *[None] * (like.ndim - 2))]
