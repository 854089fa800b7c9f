"""The 2D U-Net of BlindHarmony's comparators and of its white-matter segmentation (supplement 2.2).

Source: O. Ronneberger, P. Fischer, T. Brox, "U-Net", MICCAI 2015, in the form that Jeong et al. (ICCV 2023) describe:
four down blocks by maximum pooling, four up blocks by bilinear upsampling, in each block twice a convolution, batch
normalization and ReLU, and skip connections. The paper prints no width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["UNet"]


class UNet(nn.Module):
    """Images (B, 1, H, W) to images (B, outputs, H, W), any range in, unbounded out.

    Args:
        width: channels at full resolution; they double from level to level, up to eight times as many.
        levels: how often the image is halved.
        outputs: channels that come out.

    >>> UNet(4)(torch.zeros(2, 1, 32, 48)).shape
    torch.Size([2, 1, 32, 48])
    """

    def __init__(self, width: int, *, levels: int = 4, outputs: int = 1) -> None:
        super().__init__()
        widths = [width * min(2**level, 8) for level in range(levels + 1)]
        narrower = [widths[max(level - 1, 0)] for level in range(levels)]
        self.levels = levels
        self.first = _two_convolutions(1, widths[0])
        self.down = nn.ModuleList(_two_convolutions(a, b) for a, b in zip(widths, widths[1:], strict=False))
        below = [*narrower[1:], widths[-1]]  # channels that come up from the level below
        self.up = nn.ModuleList(
            _two_convolutions(widths[level] + below[level], narrower[level]) for level in reversed(range(levels))
        )
        self.last = nn.Conv2d(widths[0], outputs, 1)
        self.to(memory_format=torch.channels_last)  # a third faster on a CPU

    def forward(self, images: Tensor) -> Tensor:
        """Same height and width as the images; sides that cannot be halved so often are filled up with 0 meanwhile."""
        (height, width), side = images.shape[2:], 2**self.levels
        filled = functional.pad(images, (0, -width % side, 0, -height % side))
        features = [self.first(filled.contiguous(memory_format=torch.channels_last))]
        for block in self.down:
            features.append(block(functional.max_pool2d(features[-1], 2)))  # half the side each time
        x = features.pop()
        for block in self.up:
            x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = block(torch.cat([features.pop(), x], 1))
        return self.last(x)[..., :height, :width]


def _two_convolutions(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        # normalization brings its own offset
        layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)
