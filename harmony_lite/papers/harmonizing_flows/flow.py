"""The flow of Harmonizing Flows: how likely a slice is under the target domain (the paper's source).

Source: F. Beizaee, C. Desrosiers, G. A. Lodygensky, J. Dolz, "Harmonizing Flows: Unsupervised MR Harmonization Based on
Normalizing Flows", 2023, section 3.1 and 4.1, Equations 1 to 3. A slice of 256 grey levels gets noise that a first
small flow has learned to shape (variational dequantization), then passes twelve affine couplings, whose networks are
U-shaped. No part is dropped on the way: all pixels reach the noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from harmony_lite.papers.harmonizing_flows.layers import ChannelNorm, ConcatELU, UShape

__all__ = ["FORMS", "AffineCoupling", "FlowSizes", "GuidedFlow", "bits_per_dimension", "checkerboard", "mean_bits"]

LEVELS = 256  # grey levels (section 4.1)
BOUNDARY = 1e-5  # a logit's distance from 0 and 1; the public code's
# Equation 3 as printed, and as the public code has it
FORMS = ("z exp(s) + t", "(z + t) exp(s)")

# ---------------------------------------------------------------------------------------------------------- settings


@dataclass(frozen=True)
class FlowSizes:
    """How big the flow is; the defaults are the paper's (section 4.1).

    Attributes:
        widths: channels of each level of the couplings' networks; four levels are printed, the channels are the public
            code's, whose 4.02 million parameters they give.
        couplings: in each of the four stages: dequantization, checkerboard, and channels after either squeeze.
        dequantization: "variational" as in the paper; "uniform" leaves its four couplings out.
        form: of `FORMS`.
        first_scale: factor on the last layers' first weights; 0 begins with the identity, which the paper does not say.
    """

    widths: tuple[int, ...] = (16, 32, 48, 64)
    couplings: int = 4
    dequantization: str = "variational"
    form: str = FORMS[0]
    first_scale: float = 1.0

    def __post_init__(self) -> None:
        if self.dequantization not in ("variational", "uniform"):
            raise ValueError(f"dequantization: found {self.dequantization!r}, wanted 'variational' or 'uniform'")
        if self.form not in FORMS:
            raise ValueError(f"form: found {self.form!r}, wanted one of {', '.join(map(repr, FORMS))}")


# ---------------------------------------------------------------------------------------------------------- couplings


class AffineCoupling(nn.Module):
    """Equation 3: one part of the values stays, and says how the other is scaled and shifted.

    The scale is bounded, s = b tanh(s' / b), with a bound b = exp(.) for each channel that is learned.

    Args:
        kept: which values stay, bool (C, 1, 1) or (1, H, W).
        channels: C.
        sizes: of the network.
        conditions: channels that the network sees besides.
    """

    def __init__(self, kept: Tensor, channels: int, sizes: FlowSizes, conditions: int = 0) -> None:
        super().__init__()
        self.register_buffer("kept", kept.float(), persistent=False)
        self.log_bound = nn.Parameter(torch.zeros(channels, 1, 1))
        first = _level(channels + conditions, sizes.widths[0])
        self.network = UShape(first, sizes.widths, _level)
        self.last = nn.Conv2d(sizes.widths[0], 2 * channels, 1)
        self.shift_first = sizes.form == FORMS[1]
        with torch.no_grad():
            for parameter in self.last.parameters():
                parameter.mul_(sizes.first_scale)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) to the same shape, and the log-determinant (B,)."""
        scale, shift = self._scale_and_shift(z, condition)
        moved = (z + shift) * scale.exp() if self.shift_first else z * scale.exp() + shift
        return moved, scale.flatten(1).sum(1)

    def inverse(self, y: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The way back, and its log-determinant."""
        scale, shift = self._scale_and_shift(y, condition)
        back = y * (-scale).exp() - shift if self.shift_first else (y - shift) * (-scale).exp()
        return back, -scale.flatten(1).sum(1)

    def _scale_and_shift(self, values: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        seen = values * self.kept
        features, _ = self.network(seen if condition is None else torch.cat([seen, condition], 1))
        scale, shift = self.last(features).chunk(2, 1)
        bound = self.log_bound.exp()
        changed = 1 - self.kept
        return bound * torch.tanh(scale / bound) * changed, shift * changed


def _level(inputs: int, outputs: int) -> nn.Module:
    """A level of a coupling's network: ConcatELU, convolution, normalization."""
    return nn.Sequential(ConcatELU(), nn.Conv2d(2 * inputs, outputs, 3, padding=1), ChannelNorm(outputs))


def checkerboard(height: int, width: int, *, inverted: bool = False) -> Tensor:
    """Every other pixel, bool (1, H, W).

    >>> checkerboard(2, 3).int()
    tensor([[[0, 1, 0],
             [1, 0, 1]]], dtype=torch.int32)
    """
    odd = (torch.arange(height)[:, None] + torch.arange(width)) % 2 == 1
    return (odd != inverted)[None]


# ---------------------------------------------------------------------------------------------------------- the flow


class GuidedFlow(nn.Module):
    """Slices of 256 grey levels to standard normal noise of as many values.

    Args:
        size: height and width of a slice, divisible by 4 times 2 to the number of a network's levels less one.
        sizes: of its networks.

    Raises:
        ValueError: a slice that cannot be halved so often.
    """

    def __init__(self, size: Sequence[int], sizes: FlowSizes) -> None:
        super().__init__()
        divisor = 4 * 2 ** (len(sizes.widths) - 1)
        if len(size) != 2 or any(side < divisor or side % divisor for side in size):
            raise ValueError(f"size: found {tuple(size)}, wanted height and width divisible by {divisor}")
        self.size, self.sizes = tuple(size), sizes
        boards = [checkerboard(*size, inverted=bool(i % 2)) for i in range(sizes.couplings)]
        is_learned = sizes.dequantization == "variational"
        self.noise = nn.ModuleList(AffineCoupling(board, 1, sizes, conditions=1) for board in boards if is_learned)
        self.stages = nn.ModuleList(
            (
                nn.ModuleList(AffineCoupling(board, 1, sizes) for board in boards),
                nn.ModuleList(_channel_couplings(4, sizes)),
                nn.ModuleList(_channel_couplings(16, sizes)),
            )
        )

    def encode(self, continuous: Tensor) -> tuple[Tensor, Tensor]:
        """Values in [0, 1] (B, 1, H, W) to noise (B, 16, H/4, W/4), and the log-determinant (B,)."""
        z, log_det = _logit(continuous)
        for number, stage in enumerate(self.stages):
            z = functional.pixel_unshuffle(z, 2) if number else z  # squeeze: (B, C, H, W) to (B, 4C, H/2, W/2)
            for coupling in stage:
                z, change = coupling(z)
                log_det = log_det + change
        return z, log_det

    def decode(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The way back, and its log-determinant."""
        z, log_det = noise, noise.new_zeros(len(noise))
        for number, stage in reversed(list(enumerate(self.stages))):
            for coupling in reversed(stage):
                z, change = coupling.inverse(z)
                log_det = log_det + change
            z = functional.pixel_shuffle(z, 2) if number else z
        inner, change = _sigmoid(z)
        values = (inner - BOUNDARY / 2) / (1 - BOUNDARY)  # the way back of `_logit`
        return values, log_det + change - noise[0].numel() * math.log(1 - BOUNDARY)

    def dequantized(self, levels: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Grey levels with noise added, scaled to [0, 1], and what the noise takes from the log-density (B,).

        Args:
            levels: (B, 1, H, W) in 0 to 255; the harmonizer's are no whole numbers, and have gradients.
            uniform: noise in [0, 1), same shape.
        """
        noise, log_det = uniform, uniform.new_zeros(len(uniform))
        if len(self.noise):
            noise, log_det = _logit(uniform)
            condition = levels / ((LEVELS - 1) / 2) - 1  # [-1, 1]
            for coupling in self.noise:
                noise, change = coupling(noise, condition)
                log_det = log_det + change
            noise, change = _sigmoid(noise)
            log_det = log_det + change
        # -log q(noise | levels) of noise that began with density 1 is the log-determinant of its way
        return (levels + noise) / LEVELS, log_det - levels[0].numel() * math.log(LEVELS)

    def log_likelihood(self, levels: Tensor, uniform: Tensor) -> Tensor:
        """A lower bound of log p of grey levels, Equations 1 and 2, (B,) in nats."""
        continuous, from_noise = self.dequantized(levels, uniform)
        z, log_det = self.encode(continuous)
        normal = -0.5 * (z.square() + math.log(2 * math.pi)).flatten(1).sum(1)
        return normal + log_det + from_noise


def bits_per_dimension(flow: GuidedFlow, levels: Tensor, uniform: Tensor) -> Tensor:
    """Minus the log-likelihood in bits per pixel, (B,) (section 3.2)."""
    return -flow.log_likelihood(levels, uniform) / (math.log(2) * levels[0].numel())


@torch.no_grad()
def mean_bits(flow: GuidedFlow, levels: Tensor, uniform: Tensor) -> float:
    """Bits per dimension, mean over slices (B, 1, H, W) with noise of the same shape, some at a time."""
    device = next(flow.parameters()).device
    parts = zip(levels.split(32), uniform.split(32), strict=True)
    return float(torch.cat([bits_per_dimension(flow, x.to(device), u.to(device)) for x, u in parts]).mean())


def _channel_couplings(channels: int, sizes: FlowSizes) -> Iterator[AffineCoupling]:
    first_half = (torch.arange(channels) < channels // 2)[:, None, None]
    for number in range(sizes.couplings):
        yield AffineCoupling(first_half if number % 2 else ~first_half, channels, sizes)


def _logit(values: Tensor) -> tuple[Tensor, Tensor]:
    """[0, 1] to the line; values are first drawn in a little, so that 0 and 1 stay finite."""
    inner = values * (1 - BOUNDARY) + BOUNDARY / 2
    log_derivative = math.log(1 - BOUNDARY) - inner.log() - (1 - inner).log()
    return torch.logit(inner), log_derivative.flatten(1).sum(1)


def _sigmoid(line: Tensor) -> tuple[Tensor, Tensor]:
    """The line to (0, 1)."""
    log_derivative = functional.logsigmoid(line) + functional.logsigmoid(-line)
    return torch.sigmoid(line), log_derivative.flatten(1).sum(1)
