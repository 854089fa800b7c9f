"""The two trainings on the target's slices alone: the guided flow (Equation 4), and the harmonizer (Equation 5).

Source: F. Beizaee et al., "Harmonizing Flows", 2023, sections 3.1, 3.2 and 4.1. Neither needs the other.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from harmony_lite.images.intensity_maps import MAPS
from harmony_lite.nets.draws import mirrored_batch
from harmony_lite.papers.harmonizing_flows.augmentation import PRETRAINING, augmented
from harmony_lite.papers.harmonizing_flows.flow import GuidedFlow, bits_per_dimension
from harmony_lite.papers.harmonizing_flows.guiding import guided_step
from harmony_lite.papers.harmonizing_flows.network import HarmonizerNetwork
from harmony_lite.papers.harmonizing_flows.settings import FlowSettings, NetworkSettings
from harmony_lite.training import CURVE_POINTS, History, train

__all__ = ["likelier_than_target", "mean_bits", "other_looks", "pretrain", "train_flow"]

TOP = 255.0
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
    such weights those with the fewest bits. The paper keeps the last weights. `steps` stops early, on the way of the
    whole schedule.
    """
    optimizer = Adam(flow.parameters(), lr=settings.learning_rate)
    looked_at = _spread(validation, LOOKED_AT)

    def draw_batch(slices: Tensor, generator: torch.Generator) -> Tensor:
        return mirrored_batch([slices], settings.batch, generator)[0]

    def batch_loss(model: GuidedFlow, levels: Tensor, generator: torch.Generator) -> Tensor:
        return guided_step(model, levels, settings, generator)

    def validate(model: GuidedFlow) -> float:
        failing, bits = likelier_than_target(model, looked_at)
        return len(failing) + bits / 100

    return train(
        flow.train(), optimizer, batch_loss, draw_batch,
        steps=steps or settings.training_steps, generator=generator, data=training,
        scheduler=_halving(optimizer, settings.training_steps, settings.halvings),
        validate=validate, validate_every=max(1, settings.training_steps // CURVE_POINTS),
        unit="looks as likely as the target's, and a hundredth of its bits",
        checkpoint=checkpoint, recipe=_plain(settings), gradient_clip=settings.gradient_clip, progress=progress,
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
    looked_at = _spread(validation, LOOKED_AT)

    def draw_batch(slices: Tensor, generator: torch.Generator) -> Tensor:
        return mirrored_batch([slices], settings.batch, generator)[0]

    def batch_loss(model: HarmonizerNetwork, levels: Tensor, generator: torch.Generator) -> Tensor:
        return functional.mse_loss(model(augmented(levels, PRETRAINING, generator)), levels)

    def validate(model: HarmonizerNetwork) -> float:
        device = next(model.parameters()).device
        chance = torch.Generator().manual_seed(0)
        changed = augmented(looked_at, PRETRAINING, chance)
        pairs = zip(changed.split(32), looked_at.split(32), strict=True)
        errors = [(model(x.to(device)).cpu() - y).square().flatten(1).mean(1) for x, y in pairs]
        return float(torch.cat(errors).mean())

    return train(
        network.train(), optimizer, batch_loss, draw_batch,
        steps=steps or settings.training_steps, generator=generator, data=training,
        scheduler=_halving(optimizer, settings.training_steps, settings.halvings),
        validate=validate, validate_every=max(1, settings.training_steps // CURVE_POINTS),
        unit="squared grey levels", checkpoint=checkpoint, recipe=_plain(settings), progress=progress,
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
    bits = mean_bits(flow, levels)
    return [name for name, values in other_looks(levels).items() if mean_bits(flow, values) <= bits], bits


@torch.no_grad()
def mean_bits(flow: GuidedFlow, levels: Tensor) -> float:
    """Bits per dimension, mean over slices (B, 1, H, W), with noise of seed 0."""
    uniform = torch.rand(levels.shape, generator=torch.Generator().manual_seed(0))
    device = next(flow.parameters()).device
    parts = zip(levels.split(32), uniform.split(32), strict=True)
    return float(torch.cat([bits_per_dimension(flow, x.to(device), u.to(device)) for x, u in parts]).mean())


def _spread(slices: Tensor, most: int) -> Tensor:
    """At most so many slices, evenly spread."""
    return slices[torch.linspace(0, len(slices) - 1, min(most, len(slices))).round().long()]


def _halving(optimizer: Adam, steps: int, halvings: int) -> LambdaLR:
    return LambdaLR(optimizer, lambda step: 0.5 ** (step * (halvings + 1) // steps))


def _plain(settings: FlowSettings | NetworkSettings) -> dict[str, str]:
    return {name: repr(value) for name, value in vars(settings).items()}
