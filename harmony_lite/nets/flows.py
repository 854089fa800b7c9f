"""The image flow of BlindHarmony: levels of ActNorm, 1x1 convolution and spline coupling, on nflows (section 4.2).

`spline_flow(..., plain=True)` is made of nflows' own transforms alone and reads like the paper. Without `plain` the
same modules with the same parameters take three short cuts: the spline of `harmony_lite.nets.spline`, convolutions with
the channels last, and every run of ActNorms and 1x1 convolutions as one convolution with one log-determinant. A
state_dict of one loads into the other, and what they compute is the same up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

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
from torch.nn import functional

from harmony_lite.nets.spline import rational_quadratic_spline

__all__ = ["MIXINGS", "FusedLevel", "SplineCoupling", "spline_flow"]

# where 1x1 convolutions stand: before every coupling and once at the end of a level, as the released code has it; or on
# both sides of every coupling, as the paper prints it
MIXINGS = ("released", "paper")


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
) -> Flow:
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
        The flow; `log_prob(images)`, `sample(n)`, and its transform's `forward` and `inverse`. Batch normalization
        makes training and evaluation two different densities: invert in `eval()` only.

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
    flow = Flow(transform, StandardNormal([math.prod(shape)]))
    return flow if plain else flow.to(memory_format=torch.channels_last)


def _level(
    channels: int, steps: int, hidden: int, blocks: int, bins: int, tail_bound: float, mixing: str, plain: bool
) -> Iterator[Transform]:
    """The transforms of one level in order."""

    def network(known: int, wanted: int) -> nn.Module:
        return ConvResidualNet(known, wanted, hidden_channels=hidden, num_blocks=blocks, use_batch_norm=True)

    coupling = PiecewiseRationalQuadraticCouplingTransform if plain else SplineCoupling
    changed = [1] * (channels // 2) + [0] * (channels - channels // 2)  # the first half, by what the second half says
    yield SqueezeTransform()
    for _ in range(steps):
        yield ActNorm(channels)
        yield OneByOneConvolution(channels)
        yield coupling(changed, network, num_bins=bins, tails="linear", tail_bound=tail_bound)
        if mixing == "paper":
            yield OneByOneConvolution(channels)
    if mixing == "released":
        yield OneByOneConvolution(channels)


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
        said = self.transform_net(kept.contiguous(memory_format=torch.channels_last))
        batch, channels, height, width = changed.shape
        said = said.contiguous().view(batch, channels, 3 * self.num_bins - 1, height, width)  # bins on axis 2
        widths, heights, slopes = said.split([self.num_bins, self.num_bins, self.num_bins - 1], dim=2)
        scale = 1 / math.sqrt(self.transform_net.hidden_channels)  # as nflows: else the first splines are too wild
        outputs, log_derivative = rational_quadratic_spline(
            changed.contiguous(), widths * scale, heights * scale, slopes, inverse=inverse, tail_bound=self.tail_bound
        )
        return torch.cat([outputs, kept], dim=1), log_derivative.flatten(1).sum(1)


class FusedLevel(CompositeTransform):
    """A level in which every run of ActNorms and 1x1 convolutions is one convolution.

    ActNorm multiplies and shifts channels, a 1x1 convolution mixes them: both are `W x + b` at every pixel, so a run of
    them is one such map, and its log-determinant per pixel is the sum of theirs. It is multiplied out from the
    parameters at each call while they may change; in evaluation mode without gradients it is kept until a parameter
    has changed, `train()` is called, or the flow moves to another device or type.
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        super().__init__(transforms)
        self._kept: dict[tuple[int, bool], tuple[tuple, tuple[Tensor, Tensor, Tensor]]] = {}
        self._runs = [
            (is_linear, list(positions))
            for is_linear, positions in groupby(range(len(self._transforms)), self._is_linear_at)
        ]

    def _is_linear_at(self, position: int) -> bool:
        return isinstance(self._transforms[position], ActNorm | OneByOneConvolution)

    def train(self, mode: bool = True) -> FusedLevel:
        """Training or evaluation mode; whatever was multiplied out is forgotten."""
        self._kept.clear()
        return super().train(mode)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) to (B, 4C, H/2, W/2) and the log-determinant (B,)."""
        return self._through(inputs, inverse=False)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The way back."""
        return self._through(inputs, inverse=True)

    def _through(self, values: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        total = values.new_zeros(len(values))
        for is_linear, positions in reversed(self._runs) if inverse else self._runs:
            if is_linear and self._are_initialized(positions):
                weight, bias, per_pixel = self._fused(positions, inverse)
                total = total + per_pixel * values[0, 0].numel()
                values = functional.conv2d(values, weight[:, :, None, None], bias)
                continue
            for position in reversed(positions) if inverse else positions:
                transform = self._transforms[position]
                values, log_det = (transform.inverse if inverse else transform)(values)
                total = total + log_det
        return values, total

    def _are_initialized(self, positions: Sequence[int]) -> bool:
        """ActNorm takes its first values from the first batch in training, which it has to see by itself."""
        norms = [self._transforms[p] for p in positions if isinstance(self._transforms[p], ActNorm)]
        return not self.training or all(norm.initialized for norm in norms)

    def _fused(self, positions: Sequence[int], inverse: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Weight (C, C), bias (C,) and log-determinant per pixel of a run, one way or the other."""
        if self.training or torch.is_grad_enabled():
            return self._multiplied_out(positions, inverse)
        key = positions[0], inverse
        parameters = [p for position in positions for p in self._transforms[position].parameters()]
        state = tuple((p.data_ptr(), p._version, p.dtype) for p in parameters)  # any change in place raises the version
        if self._kept.get(key, (None,))[0] != state:
            self._kept[key] = state, self._multiplied_out(positions, inverse)
        return self._kept[key][1]

    def _multiplied_out(self, positions: Sequence[int], inverse: bool) -> tuple[Tensor, Tensor, Tensor]:
        weight, bias, per_pixel = _as_map(self._transforms[positions[0]])
        for position in positions[1:]:
            after, shift, log_det = _as_map(self._transforms[position])
            weight, bias, per_pixel = after @ weight, after @ bias + shift, per_pixel + log_det
        if inverse:
            weight = torch.linalg.inv(weight)
            return weight, -(weight @ bias), -per_pixel
        return weight, bias, per_pixel


def _as_map(transform: ActNorm | OneByOneConvolution) -> tuple[Tensor, Tensor, Tensor]:
    """`W x + b` at a pixel, and the logarithm of |det W|: (C, C), (C,) and a number."""
    if isinstance(transform, ActNorm):
        return torch.diag(transform.scale), transform.shift, transform.log_scale.sum()
    lower, upper = transform._create_lower_upper()
    permuted = (lower @ upper)[:, torch.argsort(transform.permutation._permutation)]  # nflows permutes first
    return permuted, transform.bias, transform.logabsdet()


def _check(shape: Sequence[int], levels: int, mixing: str) -> None:
    if mixing not in MIXINGS:
        raise ValueError(f"mixing: found {mixing!r}, wanted one of {', '.join(MIXINGS)}")
    folded = 2**levels
    if len(shape) != 3 or levels < 1 or shape[1] % folded or shape[2] % folded:
        raise ValueError(
            f"shape: found {tuple(shape)} for {levels} levels, wanted channels, height and width, the last two "
            f"divisible by {folded}"
        )
