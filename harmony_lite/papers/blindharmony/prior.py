"""The prior of BlindHarmony: a spline flow that knows what slices of the target look like.

Source: H. Jeong, H. Byun, D. U. Kang, J. Lee, "BlindHarmony: 'Blind' Harmonization for MR Images via Flow model", ICCV
2023, sections 3.2 and 4.2, supplement 2.1. Training maximizes the likelihood of the target's slices (Equations 6 to 8);
`harmony_lite.papers.blindharmony.optimization` then brings other slices closer to them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from harmony_lite.nets.draws import mirrored_batch
from harmony_lite.nets.flows import spline_flow
from harmony_lite.training import CURVE_POINTS, History, train

__all__ = ["SIZES", "Encoding", "FlowSettings", "bits_per_dimension", "new_flow", "train_prior"]

GRADIENT_CLIP = 50.0  # of the gradient's norm: the first steps of a spline flow are wild

# ---------------------------------------------------------------------------------------------------------- settings


@dataclass(frozen=True)
class FlowSettings:
    """The prior and its training; the defaults are the paper's (sections 3.3 and 4.2, supplement 2.1).

    Attributes:
        levels: of the multiscale flow, each folding 2 x 2 pixels.
        steps: couplings in each level.
        hidden: channels in the couplings' networks; the paper prints none, 96 gives the released parameter count.
        mixing: "paper" has a 1x1 convolution on both sides of each coupling, "released" one before.
        bits: grey levels are 2 ** bits; the paper prints none, the released code takes 12.
        learning_rate: of Adam, annealed to 0 along a cosine.
        training_steps: 20,000 printed here, 10,000 in the later paper and the released script.
        batch: slices; the released code takes 256.
        validation_share: of the people, kept from training to choose the best weights; whole people, where the
            released code splits slices.
    """

    levels: int = 4
    steps: int = 7
    hidden: int = 96
    mixing: str = "released"
    bits: int = 8
    learning_rate: float = 5e-4
    training_steps: int = 20_000
    batch: int = 256
    validation_share: float = 0.125


SIZES = {
    "quick": FlowSettings(
        levels=4,  # 80 x 96 pixels down to 5 x 6
        steps=4,
        hidden=32,  # 1.0 million parameters
        training_steps=2400,  # three quarters of an hour on one core
        batch=16,
    ),
    "gpu": FlowSettings(hidden=48, training_steps=4000, batch=64),  # 3.8 million parameters: under 10 MB
    "full": FlowSettings(),
    "tiny": FlowSettings(levels=2, steps=1, hidden=6, training_steps=20, batch=4),
}


# ------------------------------------------------------------------------------------------- grey levels and density


@dataclass(frozen=True)
class Encoding:
    """Intensities in [0, 1] as the flow sees them: grey levels from -1/2 to 1/2.

    >>> encoding = Encoding(bits=8)
    >>> image = torch.tensor([0.0, 0.5, 1.0])
    >>> torch.allclose(encoding.decode(encoding.encode(image)), image)
    True
    """

    bits: int = 8

    @property
    def levels(self) -> int:
        """How many grey levels there are."""
        return 2**self.bits

    def encode(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """[0, 1] to [-1/2, 1/2]: the middle of the grey level, or with noise in [0, 1) a place within it."""
        scaled = images * (self.levels - 1)
        return ((scaled + 0.5) if noise is None else (scaled.floor() + noise)) / self.levels - 0.5

    def decode(self, encoded: Tensor, *, floor: bool = False) -> Tensor:
        """Back to intensities; `floor` rounds down to a grey level, as the released code does."""
        scaled = (encoded + 0.5) * self.levels
        return (scaled.floor() if floor else scaled - 0.5) / (self.levels - 1)


def bits_per_dimension(flow: Any, images: Tensor, encoding: Encoding, noise: Tensor) -> Tensor:
    """Negative log-likelihood of grey levels, Equation 8 in bits per pixel: (B,) from images (B, 1, H, W) in [0, 1].

    Uniform noise spreads a level over its width (Theis et al. 2016); each level is 1 / levels wide for the flow, which
    adds `bits` to every pixel.
    """
    log_density = flow.log_prob(encoding.encode(images, noise))
    return -log_density / (math.log(2) * images[0].numel()) + encoding.bits


# ------------------------------------------------------------------------------------------------ flow and training


def new_flow(prior: FlowSettings, size: Sequence[int]) -> Any:
    """An untrained flow on slices of height and width `size`."""
    return spline_flow((1, *size), levels=prior.levels, steps=prior.steps, hidden=prior.hidden, mixing=prior.mixing)


def train_prior(
    flow: Any,
    training: Tensor,
    validation: Tensor,
    prior: FlowSettings,
    generator: torch.Generator,
    checkpoint: str | Path | None,
    progress: bool,
    *,
    steps: int | None = None,
    capture: bool = True,
) -> History:
    """Maximize the likelihood of slices (B, 1, H, W) in [0, 1] (Equations 6 to 8), in bits per pixel.

    `steps` stops early, on the way of the whole schedule; `capture` as in `harmony_lite.training.train`.
    """
    encoding = Encoding(prior.bits)
    optimizer = Adam(flow.parameters(), lr=prior.learning_rate)

    def draw_batch(slices: Tensor, generator: torch.Generator) -> Tensor:
        return mirrored_batch([slices], prior.batch, generator)[0]

    def batch_loss(model: Any, batch: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.rand(batch.shape, generator=generator, device=generator.device)
        return bits_per_dimension(model, batch, encoding, noise).mean()

    def validate(model: Any) -> float:
        noise = torch.rand(validation.shape, generator=torch.Generator().manual_seed(0))
        device = next(model.parameters()).device
        values = [
            bits_per_dimension(model, chunk.to(device), encoding, part.to(device))
            for chunk, part in zip(validation.split(32), noise.split(32), strict=True)
        ]
        return float(torch.cat(values).mean())

    return train(
        flow.train(), optimizer, batch_loss, draw_batch,
        steps=steps or prior.training_steps, generator=generator, data=training,
        scheduler=CosineAnnealingLR(optimizer, prior.training_steps),
        validate=validate, validate_every=max(1, prior.training_steps // CURVE_POINTS), unit="bits per pixel",
        checkpoint=checkpoint, recipe={name: getattr(prior, name) for name in prior.__dataclass_fields__},
        gradient_clip=GRADIENT_CLIP, capture=capture, progress=progress,
    )  # fmt: skip
