"""Rectified flow: a straight way from noise to the target's image, and the network that learns its direction.

Source: H. Jeong et al., "Efficient and robust 3D blind harmonization for large domain gaps", 2025, section 3.3,
Equations 5 and 6; X. Liu, C. Gong, Q. Liu, "Flow Straight and Fast", ICLR 2023.
"""

from __future__ import annotations

from math import cos, pi
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from harmony_lite.nets.averaged import Averaged
from harmony_lite.papers.blindharmonydiff.patches import Patches, draw_patches, strides_for
from harmony_lite.papers.blindharmonydiff.settings import TrainingSettings
from harmony_lite.training import CURVE_POINTS, History, train

__all__ = ["on_the_way", "train_flow", "velocity_loss"]

LOOKED_AT = 8  # batches of the people held out, in each look at the network


def on_the_way(noise: Tensor, images: Tensor, time: Tensor) -> Tensor:
    """Equation 5: x_t = t x_1 + (1 - t) x_0, for noise x_0 and images x_1, (B, ...), at times (B,)."""
    time = time[(..., *[None] * (images.ndim - 1))]
    return time * images + (1 - time) * noise


def velocity_loss(
    network: nn.Module, patches: Patches, generator: torch.Generator, *, time_power: float = 1.0
) -> Tensor:
    """Equation 6 on a batch: the mean squared difference of the network's velocity and x_1 - x_0, at random times.

    Args:
        network: the velocity.
        patches: images, edges and coordinates.
        generator: of noise and times.
        time_power: times are 1 - u ** time_power for even u: 1 draws them evenly, as the equation has it.
    """
    images = patches.images
    noise = torch.randn(images.shape, generator=generator, device=images.device)
    time = 1 - torch.rand(len(images), generator=generator, device=images.device) ** time_power
    velocity = network(on_the_way(noise, images, time), time, patches.conditions)
    return (velocity - (images - noise)).square().mean()


def train_flow(
    model: Averaged,
    training: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    settings: TrainingSettings,
    generator: torch.Generator,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    *,
    steps: int | None = None,
) -> History:
    """Train on images and edges, (N, D, H, W) each; the average of best loss on the people held out is kept.

    `steps` stops early, on the way of the whole schedule.
    """
    strides = strides_for(training[0].shape[1:], settings.patches)
    optimizer = Adam(model.network.parameters(), lr=settings.learning_rate)

    def draw_batch(data: tuple[Tensor, Tensor, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        return vars(draw_patches(*data, settings.patches, settings.batch, generator))

    def batch_loss(model: Averaged, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        model.follow()
        return velocity_loss(model.network, Patches(**batch), generator, time_power=settings.time_power)

    def validate(model: Averaged) -> float:
        device = next(model.parameters()).device
        chance = torch.Generator(device).manual_seed(0)  # the same patches, noise and times at each look
        held_out = [tensor.to(device) for tensor in (*validation, strides)]
        drawn = (draw_patches(*held_out, settings.patches, settings.batch, chance) for _ in range(LOOKED_AT))
        losses = (velocity_loss(model.average, patches, chance, time_power=settings.time_power) for patches in drawn)
        return fmean(map(float, losses))

    def rate(step: int) -> float:
        """Of the learning rate, a short way up, and then down along a cosine where the settings say so."""
        risen = min(1.0, (step + 1) / settings.warm_up) if settings.warm_up else 1.0
        return risen * (0.5 + 0.5 * cos(pi * step / settings.training_steps) if settings.anneals else 1.0)

    return train(
        model.train(), optimizer, batch_loss, draw_batch, data=(*training, strides),
        steps=steps or settings.training_steps, generator=generator, scheduler=LambdaLR(optimizer, rate),
        validate=validate, validate_every=max(1, settings.training_steps // CURVE_POINTS),
        unit="squared error of the velocity", checkpoint=checkpoint,
        recipe={name: repr(value) for name, value in vars(settings).items()}, precision=settings.precision,
        gradient_clip=settings.gradient_clip, progress=progress,
    )  # fmt: skip
