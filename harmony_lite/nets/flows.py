"""The image flow of BlindHarmony: levels of ActNorm, 1x1 convolution and spline coupling, on nflows (section 4.2).

`spline_flow(..., plain=True)` is made of nflows' own transforms alone and reads like the paper. Without `plain` the
same modules with the same parameters take three short cuts: the spline of `harmony_lite.nets.spline`, convolutions with
the channels last, and every run of ActNorms and 1x1 convolutions as one convolution with one log-determinant. A
state_dict of one loads into the other, and what they compute is the same up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from nflows.distributions import StandardNormal
from nflows.flows import Flow
from nflows.nn.nets import ConvResidualNet
from nflows.transforms import (
    ActNorm,
    CompositeTransform,
    MultiscaleCompositeTransform,
    OneByOneConvolution,
    PiecewiseRationalQuadraticCouplingTransform,
    SqueezeTransform,
    Transform,
)
from torch import Tensor, nn

from harmony_lite.nets.fused_level import FusedLevel, IndexedConvolution, StoredActNorm
from harmony_lite.nets.spline import rational_quadratic_spline

__all__ = ["MIXINGS", "SplineCoupling", "SplineFlow", "spline_flow"]

# where 1x1 convolutions stand: before every coupling and once at the end of a level, as the released code has it; or on
# both sides of every coupling, as the paper prints it
MIXINGS = ("released", "paper")


class SplineFlow(Flow):
    """A flow between images and standard normal noise, with both ways and the density: `log_prob`, `sample(n)`."""

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """f: images (B, C, H, W) to latents (B, C H W), and log |det df/dx| (B,)."""
        return self._transform(images)

    def decode(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """f^-1: latents (B, C H W) to images (B, C, H, W), and log |det df^-1/dz| (B,). In evaluation mode only."""
        return self._transform.inverse(latents)


def spline_flow(
    shape: Sequence[int],
    *,
    levels: int,
    steps: int,
    hidden: int,
    blocks: int = 3,
    bins: int = 8,
    tail_bound: float = 3.0,
    mixing: str = "released",
    plain: bool = False,
) -> SplineFlow:
    """A flow between images and standard normal noise.

    Each level folds 2 x 2 pixels into four channels, takes its steps, and sends half of the channels to the noise; the
    last level sends all. BlindHarmony's own is `spline_flow((1, 144, 176), levels=4, steps=7, hidden=96)`.

    Args:
        shape: channels, height and width of an image; height and width divisible by 2 ** levels.
        levels: how often the image is folded.
        steps: of ActNorm, 1x1 convolution and coupling in each level.
        hidden: channels of the networks in the couplings.
        blocks: residual blocks of each, with batch normalization.
        bins: K of the splines.
        tail_bound: B of the splines.
        mixing: of `MIXINGS`.
        plain: nflows' own transforms only.

    Returns:
        The flow; `encode`, `decode`, `log_prob(images)` and `sample(n)`. Batch normalization makes training and
        evaluation two different densities: decode in `eval()` only.

    Raises:
        ValueError: sizes that do not fit, or an unknown mixing.

    >>> flow = spline_flow((1, 8, 8), levels=2, steps=1, hidden=4).eval()
    >>> flow.log_prob(torch.zeros(3, 1, 8, 8)).shape
    torch.Size([3])
    """
    _check(shape, levels, mixing)
    channels, height, width = shape
    transform = MultiscaleCompositeTransform(levels)
    for _ in range(levels):
        channels, height, width = 4 * channels, height // 2, width // 2
        parts = list(_level(channels, steps, hidden, blocks, bins, tail_bound, mixing, plain))
        level = CompositeTransform(parts) if plain else FusedLevel(parts)
        channels, height, width = transform.add_transform(level, (channels, height, width)) or (channels, height, width)
    flow = SplineFlow(transform, StandardNormal([math.prod(shape)]))
    return flow if plain else flow.to(memory_format=torch.channels_last)


def _level(
    channels: int, steps: int, hidden: int, blocks: int, bins: int, tail_bound: float, mixing: str, plain: bool
) -> Iterator[Transform]:
    """The transforms of one level in order."""

    def network(known: int, wanted: int) -> nn.Module:
        return ConvResidualNet(known, wanted, hidden_channels=hidden, num_blocks=blocks, use_batch_norm=True)

    coupling = PiecewiseRationalQuadraticCouplingTransform if plain else SplineCoupling
    norm, convolution = (ActNorm, OneByOneConvolution) if plain else (StoredActNorm, IndexedConvolution)
    changed = [1] * (channels // 2) + [0] * (channels - channels // 2)  # the first half, by what the second half says
    yield SqueezeTransform()
    for _ in range(steps):
        yield norm(channels)
        yield convolution(channels)
        yield coupling(changed, network, num_bins=bins, tails="linear", tail_bound=tail_bound)
        if mixing == "paper":
            yield convolution(channels)
    if mixing == "released":
        yield convolution(channels)


class SplineCoupling(PiecewiseRationalQuadraticCouplingTransform):
    """nflows' coupling with the spline of this package; the first half of the channels is changed."""

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) to the same shape and the log-determinant (B,)."""
        return self._both(inputs, inverse=False)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The way back; in evaluation mode only does the network say the same as on the way there."""
        return self._both(inputs, inverse=True)

    def _both(self, inputs: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        changed, kept = inputs.split([self.num_transform_features, self.num_identity_features], dim=1)
        parameters = self.transform_net(kept.contiguous(memory_format=torch.channels_last))
        batch, channels, height, width = changed.shape
        parameters = parameters.contiguous().view(
            batch, channels, 3 * self.num_bins - 1, height, width
        )  # bins on axis 2
        widths, heights, slopes = parameters.split([self.num_bins, self.num_bins, self.num_bins - 1], dim=2)
        scale = 1 / math.sqrt(self.transform_net.hidden_channels)  # as nflows: else the first splines are too wild
        outputs, log_derivative = rational_quadratic_spline(
            changed.contiguous(), widths * scale, heights * scale, slopes, inverse=inverse, tail_bound=self.tail_bound
        )
        return torch.cat([outputs, kept], dim=1), log_derivative.flatten(1).sum(1)


def _check(shape: Sequence[int], levels: int, mixing: str) -> None:
    if mixing not in MIXINGS:
        raise ValueError(f"mixing: found {mixing!r}, wanted one of {', '.join(MIXINGS)}")
    folded = 2**levels
    if len(shape) != 3 or levels < 1 or shape[1] % folded or shape[2] % folded:
        raise ValueError(
            f"shape: found {tuple(shape)} for {levels} levels, wanted channels, height and width, the last two "
            f"divisible by {folded}"
        )
