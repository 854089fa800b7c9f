"""The two trainings on the target's slices alone: the guided flow (Equation 4), and the harmonizer (Equation 5).

Source: F. Beizaee et al., "Harmonizing Flows", 2023, sections 3.1, 3.2 and 4.1. Neither needs the other.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from harmony_lite.images.intensity_maps import MAPS, TOP
from harmony_lite.nets.draws import evenly_spread, in_chunks, mirrored_batch
from harmony_lite.papers.harmonizing_flows.augmentation import PRETRAINING, augmented
from harmony_lite.papers.harmonizing_flows.flow import GuidedFlow, mean_bits
from harmony_lite.papers.harmonizing_flows.guiding import guided_step
from harmony_lite.papers.harmonizing_flows.network import HarmonizerNetwork
from harmony_lite.papers.harmonizing_flows.settings import FlowSettings, NetworkSettings
from harmony_lite.training import CURVE_POINTS, History, train

__all__ = ["bits_of", "likelier_than_target", "other_looks", "pretrain", "train_flow"]

LOOKS_AND_BITS = "looks as likely as the target's, and a hundredth of its bits"
LOOKED_AT = 48  # slices of the people held out, in each look at a flow


def train_flow(
    flow: GuidedFlow,
    training: Tensor,
    validation: Tensor,
    settings: FlowSettings,
    generator: torch.Generator,
    checkpoint: Path | None = None,
    progress: bool = True,
    *,
    steps: int | None = None,
) -> History:
    """Equation 4 on slices (B, 1, H, W) of 0 to 255.

    Guidance is noisy: a look that was unlikely at one step may be likely again some steps later. The weights that stay
    are those to which the fewest of `other_looks` of the people held out are as likely as the target's own, and among
    such weights those with the fewest bits. Without guidance the bits alone choose. The paper keeps the last weights.
    `steps` stops early, on the way of the
    whole schedule.
    """
    optimizer = Adam(flow.parameters(), lr=settings.learning_rate)
    looked_at = evenly_spread(validation, LOOKED_AT)

    def batch_loss(model: GuidedFlow, levels: Tensor, generator: torch.Generator) -> Tensor:
        return guided_step(model, levels, settings, generator)

    def validate(model: GuidedFlow) -> float:
        if not settings.negatives:
            return bits_of(model, looked_at)
        failing, bits = likelier_than_target(model, looked_at)
        return len(failing) + bits / 100

    return _trained(
        flow, optimizer, batch_loss, training, settings,
        generator=generator, steps=steps or settings.training_steps, checkpoint=checkpoint, progress=progress,
        validate=validate, unit=LOOKS_AND_BITS if settings.negatives else "bits per dimension",
        gradient_clip=settings.gradient_clip,
    )  # fmt: skip


def pretrain(
    network: HarmonizerNetwork,
    training: Tensor,
    validation: Tensor,
    settings: NetworkSettings,
    generator: torch.Generator,
    checkpoint: Path | None = None,
    progress: bool = True,
    *,
    steps: int | None = None,
) -> History:
    """Equation 5: changed slices (B, 1, H, W) of 0 to 255 are brought back; the error is in squared grey levels."""
    optimizer = Adam(network.parameters(), lr=settings.learning_rate, betas=(0.9, settings.beta2))
    looked_at = evenly_spread(validation, LOOKED_AT)

    def batch_loss(model: HarmonizerNetwork, levels: Tensor, generator: torch.Generator) -> Tensor:
        return functional.mse_loss(model(augmented(levels, PRETRAINING, generator)), levels)

    def validate(model: HarmonizerNetwork) -> float:
        changed = augmented(looked_at, PRETRAINING, torch.Generator().manual_seed(0))
        return float(functional.mse_loss(in_chunks(model, changed, next(model.parameters()).device), looked_at))

    return _trained(
        network, optimizer, batch_loss, training, settings,
        generator=generator, steps=steps or settings.training_steps, checkpoint=checkpoint, progress=progress,
        validate=validate, unit="squared grey levels", gradient_clip=settings.gradient_clip,
    )  # fmt: skip


def _trained(
    model: nn.Module,
    optimizer: Adam,
    batch_loss: Callable[[Any, Tensor, torch.Generator], Tensor],
    slices: Tensor,
    settings: FlowSettings | NetworkSettings,
    **options: Any,
) -> History:
    """What both trainings share: batches half of which are mirrored, and a learning rate that is halved on the way."""

    def draw_batch(slices: Tensor, generator: torch.Generator) -> Tensor:
        return mirrored_batch([slices], settings.batch, generator)[0]

    steps, halvings = settings.training_steps, settings.halvings
    return train(
        model.train(), optimizer, batch_loss, draw_batch, data=slices,
        scheduler=LambdaLR(optimizer, lambda step: 0.5 ** (step * (halvings + 1) // steps)),
        validate_every=max(1, steps // CURVE_POINTS),
        recipe={name: repr(value) for name, value in vars(settings).items()}, **options,
    )  # fmt: skip


# -------------------------------------------------------------------------------------------------------- validation


def other_looks(levels: Tensor) -> dict[str, Tensor]:
    """Slices (B, 1, H, W) of 0 to 255 with another look, by name: four tone curves, an S-curve, and noise."""
    unit, inside = levels / TOP, levels > 0
    curved = {name: curve(unit) for name, curve in MAPS.items()} | {"S-curve": unit * unit * (3 - 2 * unit)}
    noise = torch.randn(levels.shape, generator=torch.Generator().manual_seed(0)).to(levels)
    looks = {name: values * TOP for name, values in curved.items()} | {"noise": levels + 8 * noise}
    return {name: values.round().clamp(0, TOP) * inside for name, values in looks.items()}


def likelier_than_target(flow: GuidedFlow, levels: Tensor) -> tuple[list[str], float]:
    """The names of `other_looks` that cost no more bits than the slices as they are, and the bits of the latter."""
    bits = bits_of(flow, levels)
    return [name for name, values in other_looks(levels).items() if bits_of(flow, values) <= bits], bits


def bits_of(flow: GuidedFlow, levels: Tensor) -> float:
    """Bits per dimension, mean over slices (B, 1, H, W), with noise of seed 0: the same noise for every look."""
    return mean_bits(flow, levels, torch.rand(levels.shape, generator=torch.Generator().manual_seed(0)))
