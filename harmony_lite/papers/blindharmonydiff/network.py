"""The network v that says where noise has to go to become the target's image (supplement S3.1).

Source: H. Jeong et al., "Efficient and robust 3D blind harmonization for large domain gaps", 2025. It sees five
channels: the image on its way, its edges, and where each voxel lies in the whole volume; ours a sixth, the averaged
image there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from harmony_lite.nets.blocks import folded, unfolded
from harmony_lite.papers.blindharmonydiff.layers import (
    Attention,
    Halving,
    LinearAttention,
    ResidualBlock,
    TimeEmbedding,
    convolution,
    doubling,
)

__all__ = ["CONDITIONS", "NetworkSizes", "VelocityNetwork", "velocity_towards"]

CONDITIONS = 4  # channels beside the image: edges, and three coordinates


@dataclass(frozen=True)
class NetworkSizes:
    """How big the network is; the defaults are the paper's.

    Attributes:
        dimensions: 3 for volumes; 2 for the twin that takes each axial slice by itself.
        width: channels of the first level.
        multiples: of the width at each level.
        blocks: residual blocks in each level, on either way; the released network's, not printed.
        first_side: of the first convolution; the released network's, not printed.
        attention: as the released network has it; the paper does not mention any.
        block_side: voxels a side of the blocks that are moved into the channels before the first convolution, and back
            after the last; 1 for none, as in the paper. With 2 a processor has an eighth of the places to visit.
        input_at_end: whether the last residual block is given the network's input once more, as it stands; not in the
            paper. A few channels can hardly carry every voxel of a block through all levels.
        image_error: None where the network's output is the velocity, as in the paper. Otherwise its output names the
            image, and the velocity is that towards it (`velocity_towards`) if it is wrong by so much. The noise of
            every voxel then need not pass through the network, which a narrow one cannot do.
        from_averaged: whether the image is named as a departure from the target's averaged image. The network looks
            that up at each voxel's coordinates, and is given it beside them. Not in the paper, whose network has to
            learn from the coordinates alone what lies where; wants an `image_error`.
    """

    dimensions: int = 3
    width: int = 64
    multiples: tuple[int, ...] = (1, 2, 4, 8)
    blocks: int = 2
    first_side: int = 7
    attention: bool = False
    block_side: int = 1
    input_at_end: bool = False
    image_error: float | None = None
    from_averaged: bool = False

    def __post_init__(self) -> None:
        if self.dimensions not in (2, 3):
            raise ValueError(f"dimensions: found {self.dimensions}, wanted 2 or 3")
        if self.image_error is not None and self.image_error <= 0:
            raise ValueError(f"image_error: found {self.image_error:g}, wanted a number above 0 or None")
        if self.from_averaged and self.image_error is None:
            raise ValueError("from_averaged: found no image_error, wanted one: only an image can depart from another")

    @property
    def channels(self) -> int:
        """What comes in: the image on its way, its conditions, and the averaged image where that is looked up."""
        return 1 + CONDITIONS + int(self.from_averaged)

    @property
    def divisor(self) -> int:
        """What the sides have to be divisible by."""
        return self.block_side * 2 ** (len(self.multiples) - 1)


class VelocityNetwork(nn.Module):
    """v(x, t; e, i, j, k) of Equation 5, for volumes; with two dimensions every axial slice is taken by itself.

    >>> sizes = NetworkSizes(width=4, multiples=(1, 2), blocks=1, first_side=3)
    >>> VelocityNetwork(sizes)(torch.zeros(1, 1, 8, 8, 6), torch.zeros(1), torch.zeros(1, 4, 8, 8, 6)).shape
    torch.Size([1, 1, 8, 8, 6])
    """

    def __init__(self, sizes: NetworkSizes) -> None:
        super().__init__()
        self.sizes, dimensions = sizes, sizes.dimensions
        width, time = sizes.width, 4 * sizes.width
        wide = [width * multiple for multiple in sizes.multiples]
        above = [width, *wide[:-1]]  # channels that come into each level
        self.time = TimeEmbedding(max(4, width), time)
        voxels = sizes.block_side**dimensions  # of a block
        self.first = convolution(sizes.channels * voxels, width, sizes.first_side, dimensions)
        last = len(wide) - 1

        def attention(channels: int, level: int) -> nn.Module:
            if not sizes.attention:
                return nn.Identity()
            return Attention(channels, dimensions) if level == last else LinearAttention(channels, dimensions)

        def blocks(inputs: int, outputs: int) -> nn.ModuleList:
            return nn.ModuleList(ResidualBlock(inputs, outputs, time, dimensions) for _ in range(sizes.blocks))

        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, (inputs, outputs) in enumerate(zip(above, wide, strict=True)):
            smaller = Halving if level < last else _same_size
            layers = blocks(inputs, inputs), attention(inputs, level), smaller(inputs, outputs, dimensions)
            self.down.append(nn.ModuleList(layers))
            larger = doubling if level else _same_size
            layers = blocks(outputs + inputs, outputs), attention(outputs, level), larger(outputs, inputs, dimensions)
            self.up.insert(0, nn.ModuleList(layers))
        self.middle = nn.ModuleList(ResidualBlock(wide[-1], wide[-1], time, dimensions) for _ in range(2))
        self.middle_attention = attention(wide[-1], last)
        given = sizes.channels * voxels if sizes.input_at_end else 0
        self.end = ResidualBlock(2 * width + given, width, time, dimensions)
        self.out = convolution(width, voxels, 1, dimensions)
        self.register_buffer("averaged", None, persistent=False)
        if dimensions == 3:
            self.to(memory_format=torch.channels_last_3d)  # twice as fast on a CPU

    def look_up_in(self, averaged: Tensor) -> Self:
        """Give a network with `from_averaged` the target's averaged image (D, H, W), in [-1, 1], on the padded grid."""
        self.averaged = averaged[None, None].to(self.out.weight)
        return self

    def forward(self, x: Tensor, time: Tensor, conditions: Tensor) -> Tensor:
        """The velocity (B, 1, D, H, W).

        Args:
            x: (B, 1, D, H, W), on its way from noise to an image in [-1, 1]; D, H (and W) divisible by the divisor.
            time: (B,), 0 for noise, 1 for the image.
            conditions: (B, 4, D, H, W): edges 0 or 1, coordinates in [-1, 1].
        """
        sizes, given = self.sizes, [x, conditions]
        if sizes.from_averaged:
            given.append(self._averaged_at(conditions[:, 1:]))
        found = self._through_layers(torch.cat(given, 1), time)
        if sizes.image_error is None:
            return found
        return velocity_towards(given[-1] + found if sizes.from_averaged else found, x, time, sizes.image_error)

    def _averaged_at(self, places: Tensor) -> Tensor:
        """The averaged image (B, 1, D, H, W) at coordinates x, y, z (B, 3, D, H, W)."""
        if self.averaged is None:
            raise ValueError("averaged: found no image, wanted one to depart from: call look_up_in first")
        where = places.flip(1).movedim(1, -1)  # grid_sample wants the last axis first
        volumes = self.averaged.expand(len(places), -1, -1, -1, -1)
        return functional.grid_sample(volumes, where, align_corners=True)

    def _through_layers(self, x: Tensor, time: Tensor) -> Tensor:
        if self.sizes.dimensions == 3:
            return self._output(x, time)
        heights = x.shape[-1]
        slices = x.movedim(-1, 1).flatten(0, 1)  # (B * W, channels, D, H)
        return self._output(slices, time.repeat_interleave(heights)).unflatten(0, (-1, heights)).movedim(1, -1)

    def _output(self, x: Tensor, time: Tensor) -> Tensor:
        time = self.time(time)
        given = folded(x, self.sizes.block_side)
        x = start = self.first(given)
        skips: list[Tensor] = []
        for blocks, attention, smaller in self.down:
            for number, block in enumerate(blocks, 1):
                x = block(x, time)
                x = attention(x) if number == len(blocks) else x
                skips.append(x)
            x = smaller(x)
        x = self.middle[0](x, time)
        x = self.middle[1](self.middle_attention(x), time)
        for blocks, attention, larger in self.up:
            for block in blocks:
                x = block(torch.cat([x, skips.pop()], 1), time)
            x = larger(attention(x))
        beside = [start, given] if self.sizes.input_at_end else [start]
        return unfolded(self.out(self.end(torch.cat([x, *beside], 1), time)), self.sizes.block_side)


def _same_size(inputs: int, outputs: int, dimensions: int) -> nn.Module:
    """What stands in the lowest level in the place of halving, and in the highest in that of doubling."""
    return convolution(inputs, outputs, 3, dimensions)


def velocity_towards(image: Tensor, x: Tensor, time: Tensor, error: float) -> Tensor:
    r"""The mean velocity at x_t where x_1 is an image that was named, give or take an error.

    With noise $x_0$ and $x_1 = D + s\,\epsilon$, both normal, $x_t = t x_1 + (1 - t) x_0$ leaves
    $\mathbb E[x_1 - x_0 \mid x_t] = \dfrac{(1 - t) D + (t s^2 - (1 - t))\, x_t}{t^2 s^2 + (1 - t)^2}$.

    Args:
        image: D, (B, ...).
        x: x_t, same shape.
        time: (B,).
        error: s, in the image's units.

    >>> velocity_towards(torch.ones(1, 1), torch.zeros(1, 1), torch.zeros(1), 0.25)  # from noise straight to the image
    tensor([[1.]])
    """
    t = time[(..., *[None] * (x.ndim - 1))]
    return ((1 - t) * image + (t * error**2 - (1 - t)) * x) / (t**2 * error**2 + (1 - t) ** 2)
