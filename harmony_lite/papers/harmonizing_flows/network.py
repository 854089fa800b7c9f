"""The harmonizer's network: one factor for the whole slice, and something to add at each pixel.

Source: F. Beizaee et al., "Harmonizing Flows", 2023, section 3.2 and 4.1: h(x) = alpha x + beta, where beta is the last
layer of a U-Net of five levels and alpha a number from its smallest level.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from harmony_lite.papers.harmonizing_flows.layers import ConcatELU, UShape

__all__ = ["HarmonizerNetwork"]


class HarmonizerNetwork(nn.Module):
    """Slices (B, 1, H, W) to slices of the same size; sides divisible by 16 with five levels.

    The public code averages 14 x 14 values of the smallest level, which is all of them for slices of 224 x 224 only and
    fails for smaller ones; here it is all of them for any size, with the same parameters.

    Args:
        widths: channels of each level (section 4.1).
        identity: alpha is one more than the network says, and the last layers begin at 0, so that training begins with
            h(x) = x; not in the paper.
        unit: grey levels that the network sees as 1; 1 in the public code, whose networks see 0 to 255.

    >>> sum(weight.numel() for weight in HarmonizerNetwork().parameters())
    816594
    """

    def __init__(
        self, widths: Sequence[int] = (16, 32, 48, 64, 64), *, identity: bool = False, unit: float = 1.0
    ) -> None:
        super().__init__()
        self.body = UShape(nn.Conv2d(1, widths[0], 3, padding=1), widths, _level)
        self.alpha = nn.Conv2d(widths[-1], 1, 1)
        self.beta = nn.Conv2d(widths[0], 1, 1)
        if identity:
            for weight in (*self.alpha.parameters(), *self.beta.parameters()):
                nn.init.zeros_(weight)
        self.identity, self.unit, self.divisor = float(identity), unit, 2 ** (len(widths) - 1)

    def forward(self, slices: Tensor) -> Tensor:
        """h(x) = alpha x + beta, grey levels in and out, unbounded.

        Raises:
            ValueError: sides that cannot be halved so often.
        """
        alpha, beta = self.factor_and_offset(slices)
        return alpha * slices + beta

    def factor_and_offset(self, slices: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha (B, 1, 1, 1) and beta (B, 1, H, W), beta in grey levels."""
        if any(side % self.divisor for side in slices.shape[2:]):
            found = tuple(slices.shape[2:])
            raise ValueError(f"slices: found {found} pixels, wanted height and width divisible by {self.divisor}")
        features, bottom = self.body(slices / self.unit)
        alpha = self.alpha(bottom.mean((2, 3), keepdim=True)) + self.identity
        return alpha, self.beta(features) * self.unit


def _level(inputs: int, outputs: int) -> nn.Module:
    """A level: twice ConcatELU and a convolution."""
    return nn.Sequential(
        ConcatELU(), nn.Conv2d(2 * inputs, outputs, 3, padding=1),
        ConcatELU(), nn.Conv2d(2 * outputs, outputs, 3, padding=1),
    )  # fmt: skip
