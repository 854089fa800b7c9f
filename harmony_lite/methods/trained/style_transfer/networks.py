"""Settings and networks of style transfer (Liu et al., 2021, after StarGAN v2): generator, encoder, mapping, judge.

Instance normalization takes brightness and contrast of a slice out of what each block adds. In the second half of the
generator a style puts others in: it says the gain and the offset of every normalization there.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from harmony_lite.nets.draws import in_chunks

__all__ = ["ADJACENT", "SIZES", "Artist", "Generator", "StyleTransferSettings", "reader"]

ADJACENT = 3  # slices that are shown together
SLOPE = 0.2  # of the leaky ReLU, as in StarGAN v2
READ_HALVINGS = 3  # of the encoder and the judge, before they take the mean over the slice
WIDEST = 8  # times the width at full resolution, as in StarGAN v2

# ---------------------------------------------------------------------------------------------------------- settings


@dataclass(frozen=True)
class StyleTransferSettings:
    """The networks and their training; numbers of the paper where it prints them, else of StarGAN v2.

    Attributes:
        width: channels at full resolution, doubled at each halving up to eight times as many.
        halvings: of the generator.
        style: numbers of a style.
        latent: numbers from which the mapping network draws a style.
        copying_steps: in which the generator first learns to draw slices in their own style; 0 in the paper.
        copying_rate: learning rate of those steps.
        learning_rate: of Adam; the mapping network's is a hundredth.
        training_steps: of the two players.
        batch: slices.
        cycle: weight of the way back.
        style_weight: weight of finding the style again.
        diversity: weight of two styles' difference; it falls to 0 along the training.
        gradient: weight of the judge's squared gradient at real slices (R1).
        decay: of the moving average of the weights.
        validation_share: of the people, held out to choose the best weights.
    """

    width: int = 64
    halvings: int = 4
    style: int = 64
    latent: int = 16
    copying_steps: int = 0
    copying_rate: float = 1e-3
    learning_rate: float = 1e-4
    training_steps: int = 200_000
    batch: int = 4
    cycle: float = 100.0
    style_weight: float = 1.0
    diversity: float = 1.0
    gradient: float = 1.0
    decay: float = 0.999
    validation_share: float = 0.125


SIZES = {
    # So few steps want more than the printed learning rate, as CycleGAN's do, and they want to begin with copying: from
    # random weights 700 steps drew no brain (correlation with the input -0.5), and a generator whose output is added to
    # its input, as our CycleGAN's is, stayed at its input, where the way back costs nothing.
    "quick": StyleTransferSettings(
        width=12, halvings=1, style=16, copying_steps=3000, learning_rate=4e-4, training_steps=3000, decay=0.99
    ),
    "gpu": StyleTransferSettings(
        width=32, halvings=2, copying_steps=4000, learning_rate=2e-4, training_steps=12_000, batch=8, decay=0.995
    ),
    "full": StyleTransferSettings(),
    "tiny": StyleTransferSettings(
        width=2, halvings=1, style=3, latent=2, copying_steps=10, training_steps=10, batch=2, decay=0.9
    ),
}

# ------------------------------------------------------------------------------------------------------------ layers


class _Styled(nn.Module):
    """Instance normalization whose gain and offset a style says (AdaIN); without a style, learned ones."""

    def __init__(self, channels: int, style: int) -> None:
        super().__init__()
        self.normalize = nn.InstanceNorm2d(channels, affine=not style)
        self.from_style = nn.Linear(style, 2 * channels) if style else None

    def forward(self, x: Tensor, style: Tensor | None) -> Tensor:
        x = self.normalize(x)
        if self.from_style is None:
            return x
        gain, offset = self.from_style(style)[..., None, None].chunk(2, 1)  # (B, C, 1, 1) each
        return (1 + gain) * x + offset


class _Residual(nn.Module):
    """Twice a normalization, leaky ReLU and a convolution, and the input; halved, kept or doubled in size."""

    def __init__(self, inputs: int, outputs: int, *, style: int = 0, resize: str = "", normalized: bool = True) -> None:
        super().__init__()
        self.resize = resize
        self.normalize = nn.ModuleList(
            _Styled(channels, style) if normalized else nn.Identity() for channels in (inputs, outputs)
        )
        self.convolutions = nn.ModuleList(nn.Conv2d(a, outputs, 3, padding=1) for a in (inputs, outputs))
        self.beside = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, style: Tensor | None = None) -> Tensor:
        y = x
        for position, (normalize, convolution) in enumerate(zip(self.normalize, self.convolutions, strict=True)):
            y = normalize(y, style) if isinstance(normalize, _Styled) else y
            y = functional.leaky_relu(y, SLOPE)
            if position == 0:
                x, y = (self._resized(part) for part in (x, y))
            y = convolution(y)
        return (self.beside(x) + y) / 2**0.5  # of unit variance, as StarGAN v2 has it

    def _resized(self, x: Tensor) -> Tensor:
        if self.resize == "halve":
            return functional.avg_pool2d(x, 2)
        return functional.interpolate(x, scale_factor=2, mode="nearest") if self.resize == "double" else x


# ---------------------------------------------------------------------------------------------------------- networks


class Generator(nn.Module):
    """Three neighbouring slices (B, 3, H, W) and a style (B, S) to three slices in that style.

    Height and width have to be divisible by two to the power of `halvings`. StarGAN v2 has two blocks of each kind
    between its halvings and its doublings; here is one of each.
    """

    def __init__(self, settings: StyleTransferSettings) -> None:
        super().__init__()
        style = settings.style
        widths = [settings.width * min(2**level, WIDEST) for level in range(settings.halvings + 1)]
        deepest = widths[-1]
        self.first = nn.Conv2d(ADJACENT, widths[0], 3, padding=1)
        self.down = nn.Sequential(
            *(_Residual(a, b, resize="halve") for a, b in pairwise(widths)), _Residual(deepest, deepest)
        )
        self.up = nn.ModuleList(
            [
                _Residual(deepest, deepest, style=style),
                *(_Residual(a, b, style=style, resize="double") for a, b in pairwise(reversed(widths))),
            ]
        )
        self.last = nn.Conv2d(widths[0], ADJACENT, 1)

    def forward(self, slices: Tensor, style: Tensor) -> Tensor:
        """Slices in the style, same shape; nothing keeps them in [0, 1]."""
        x = self.down(self.first(slices))
        for block in self.up:
            x = block(x, style)
        return self.last(functional.leaky_relu(x, SLOPE))


def reader(settings: StyleTransferSettings, outputs: int) -> nn.Sequential:
    """Three slices (B, 3, H, W) to so many numbers: a style (B, S), or the judge's score (B, 1).

    No normalization: how bright a slice is, and how much contrast it has, is what there is to read.
    """
    widths = [settings.width * min(2**level, 4) for level in range(READ_HALVINGS + 1)]
    return nn.Sequential(
        nn.Conv2d(ADJACENT, widths[0], 3, padding=1),
        *(_Residual(a, b, resize="halve", normalized=False) for a, b in pairwise(widths)),
        nn.LeakyReLU(SLOPE),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(widths[-1], outputs),
    )


class Artist(nn.Module):
    """What is kept of a training: the generator, the encoder that reads a style, the mapping that draws one."""

    def __init__(self, settings: StyleTransferSettings) -> None:
        super().__init__()
        self.generator, self.encoder = Generator(settings), reader(settings, settings.style)
        hidden = 4 * settings.style
        self.mapping = nn.Sequential(
            nn.Linear(settings.latent, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, settings.style),
        )  # fmt: skip

    def copy(self, slices: Tensor) -> Tensor:
        """Slices (B, 3, H, W) drawn in their own style."""
        return self.generator(slices, self.encoder(slices))

    @torch.no_grad()
    def style_of(self, stacks: Tensor) -> Tensor:
        """(S,), on the CPU: the mean style of a volume's stacks of slices (B, 3, H, W)."""
        return in_chunks(self.encoder, stacks, stacks.device).mean(0)
