"""The two phases of HAIL's training (Parida et al., 2023, section 2.1): features first, then their transfer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from harmony_lite.nets.draws import first_weights
from harmony_lite.papers.hail.adain import adain, style_of, weights_at
from harmony_lite.papers.hail.losses import content_loss, likeness_loss, style_loss
from harmony_lite.papers.hail.networks import AutoEncoder, Decoder, Encoder
from harmony_lite.papers.hail.settings import CONTENTS, STATISTICS, HailSettings
from harmony_lite.training import CURVE_POINTS, History, train

__all__ = ["Phase", "PlateauDecay", "Sites", "Transfer", "drawn_pairs", "phase_1", "phase_2"]

Data = tuple[Tensor, Tensor, Tensor, Tensor]  # as `Sites.tensors` has it
LOOKED_AT = 4  # batches of the people held out, at each validation


@dataclass(frozen=True)
class Sites:
    """Scaled scans of several sites, nobody needed on more than one.

    Attributes:
        volumes: (P, D, H, W) in [0, 1] about, of all sites one after the other.
        masks: bool, same shape.
        counts: how many of the P are of each site.
    """

    volumes: Tensor
    masks: Tensor
    counts: tuple[int, ...]

    def first(self, sites: int | None) -> Sites:
        """The first so many sites alone; all for None."""
        counts = self.counts[:sites]
        people = sum(counts)
        return Sites(self.volumes[:people], self.masks[:people], counts)

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What batches are drawn from: volumes, masks, where each site's people begin, and how many they are."""
        counts = torch.tensor(self.counts)
        return self.volumes, self.masks, counts.cumsum(0) - counts, counts


# -------------------------------------------------------------------------------------------------------------- crops


def crops(data: Data, people: Tensor, corners: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Cubes of some people's volumes and masks, (B, 1, side, side, side) each; corners are (B, 3) voxels."""
    along = torch.arange(side, device=people.device)
    x, y, z = (corners[:, axis, None] + along for axis in range(3))
    where = people[:, None, None, None], x[:, :, None, None], y[:, None, :, None], z[:, None, None, :]
    volumes, masks, *_ = data
    return volumes[where][:, None], masks[where][:, None].to(volumes.dtype)


def drawn_corners(sides: Sequence[int], side: int, batch: int, generator: torch.Generator) -> Tensor:
    """Where cubes of a side begin, (B, 3), each place as likely as another.

    Raises:
        ValueError: volumes smaller than a crop.
    """
    if min(sides) < side:
        raise ValueError(
            f"scans: found a grid of {tuple(sides)} voxels, wanted at least {side} along each axis, a crop"
        )
    room = [torch.randint(n - side + 1, (batch,), generator=generator, device=generator.device) for n in sides]
    return torch.stack(room, 1)


# -------------------------------------------------------------------------------------------------------- both phases


class PlateauDecay(LRScheduler):
    """A learning rate that is multiplied by `decay` whenever a validation is no better than the best so far.

    It is told of validations by `see`; a checkpoint keeps what it knows.
    """

    def __init__(self, optimizer: Optimizer, decay: float) -> None:
        self._factor, self._lowest, self.decay = 1.0, float("inf"), decay
        super().__init__(optimizer)

    def see(self, value: float) -> None:
        """Take note of a validation."""
        if value >= self._lowest:
            self._factor *= self.decay
        self._lowest = min(self._lowest, value)

    def get_lr(self) -> list[float]:
        """The learning rates of now."""
        return [rate * self._factor for rate in self.base_lrs]


@dataclass
class Phase:
    """One of the two trainings, ready to run: what is drawn from whom, and what is minimized."""

    model: nn.Module
    trained: nn.Module  # the part of it that learns
    draw_batch: Callable[[Data, torch.Generator], Any]
    batch_loss: Callable[[Any, Any, torch.Generator], Tensor]
    unit: str
    learning_rate: float
    decay: float
    steps: int

    def train(
        self,
        training: Sites,
        held_out: Sites,
        settings: HailSettings,
        generator: torch.Generator,
        checkpoint: Path | None = None,
        progress: bool = True,
        *,
        steps: int | None = None,
        capture: bool = True,
    ) -> History:
        """Train; the weights of the best validation are kept.

        `steps` stops early, on the way of the whole schedule; `capture` is that of `harmony_lite.training.train`.
        """
        self.model.to(memory_format=torch.channels_last_3d)  # a quarter faster on a CPU
        optimizer = AdamW(self.trained.parameters(), lr=self.learning_rate, fused=True)
        scheduler = PlateauDecay(optimizer, self.decay)

        def validate(model: nn.Module) -> float:
            device = next(model.parameters()).device
            chance = torch.Generator(device).manual_seed(0)  # the same crops at each look
            data = tuple(tensor.to(device) for tensor in held_out.tensors())
            batches = (self.draw_batch(data, chance) for _ in range(LOOKED_AT))
            value = fmean(float(self.batch_loss(model, batch, chance)) for batch in batches)
            scheduler.see(value)
            return value

        return train(
            self.model.train(), optimizer, self.batch_loss, self.draw_batch, data=training.tensors(),
            steps=steps or self.steps, generator=generator, scheduler=scheduler,
            validate=validate if all(held_out.counts) else None,
            validate_every=max(1, self.steps // CURVE_POINTS), unit=self.unit, checkpoint=checkpoint,
            recipe={"settings": repr(settings)}, precision=settings.precision, capture=capture,
            progress=progress,
        )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ phase 1


def phase_1(settings: HailSettings, generator: torch.Generator) -> Phase:
    """Encoder and decoder give back crops of every site."""
    features = settings.features
    model = first_weights(lambda: AutoEncoder(settings.network), generator)

    def draw_batch(data: Data, generator: torch.Generator) -> Tensor:
        corners = drawn_corners(data[0].shape[1:], features.crop, features.batch, generator)
        people = torch.randint(len(data[0]), (features.batch,), generator=generator, device=generator.device)
        return crops(data, people, corners, features.crop)[0]

    def batch_loss(model: AutoEncoder, batch: Tensor, _: torch.Generator) -> Tensor:
        return likeness_loss(model(batch), batch)

    return Phase(
        model, model, draw_batch, batch_loss, "L1 + 1 - SSIM", features.learning_rate, 1.0, features.training_steps
    )


# ------------------------------------------------------------------------------------------------------------ phase 2


class Transfer(nn.Module):
    """The twin network of Figure 1: one frozen encoder for input and target, AdaIN, a decoder that is trained."""

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder.requires_grad_(False), decoder

    def losses(
        self, inputs: tuple[Tensor, Tensor], targets: tuple[Tensor, Tensor], settings: HailSettings
    ) -> dict[str, Tensor]:
        """Content, style and consistency, without their weights, of crops and their masks, (B, 1, d, h, w) each."""
        masks = [part[1] if settings.statistics == STATISTICS[0] else None for part in (inputs, targets)]
        own, wanted = (self.encoder(part[0]) for part in (inputs, targets))
        styles = [
            style_of(levels[-1], None if mask is None else weights_at(mask, levels[-1]))
            for levels, mask in zip((own, wanted), masks, strict=True)
        ]
        moved = adain(own[-1], *styles)
        found = self.encoder(self.decoder(moved))
        held_against = own[-1] if settings.transfer.held_against == CONTENTS[0] else moved
        losses = {"content": content_loss(found[-1], held_against), "style": style_loss(found, wanted, masks)}
        if settings.transfer.consistency:
            losses["consistency"] = likeness_loss(self.decoder(own[-1]), inputs[0])
        return losses


def phase_2(features: AutoEncoder, settings: HailSettings, generator: torch.Generator) -> Phase:
    """The decoder learns to draw crops of one site in the look of another, in both directions at once."""
    transfer = settings.transfer
    decoder = first_weights(lambda: Decoder(settings.network), generator)
    if transfer.keeps_decoder:
        decoder.load_state_dict(features.decoder.state_dict())
    model = Transfer(features.encoder, decoder)
    weights = {"content": transfer.content, "style": transfer.style, "consistency": transfer.consistency}

    def draw_batch(data: Data, generator: torch.Generator) -> tuple[Tensor, ...]:
        corners = drawn_corners(data[0].shape[1:], transfer.crop, transfer.batch, generator)
        inputs, targets = drawn_pairs(*data[2:], transfer.batch, generator)
        return *crops(data, inputs, corners, transfer.crop), *crops(data, targets, corners, transfer.crop)

    def batch_loss(model: Transfer, batch: tuple[Tensor, ...], _: torch.Generator) -> Tensor:
        found = model.losses(batch[:2], batch[2:], settings)
        return sum(weights[name] * loss for name, loss in found.items()) / sum(weights.values())

    return Phase(
        model, decoder, draw_batch, batch_loss, "weighted loss", transfer.learning_rate, transfer.decay,
        transfer.training_steps,
    )  # fmt: skip


def drawn_pairs(firsts: Tensor, counts: Tensor, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """People for inputs and for targets, (B,) each, of two different sites; every other pair goes the other way."""
    sites, device = len(counts), counts.device
    one = torch.randint(sites, (batch,), generator=generator, device=device)
    other = (one + 1 + torch.randint(sites - 1, (batch,), generator=generator, device=device)) % sites
    turned = (one > other) == (torch.arange(batch, device=device) % 2 == 0)  # the lower site first, then the higher
    chosen = torch.where(turned, other, one), torch.where(turned, one, other)
    chance = [torch.rand(batch, generator=generator, device=device) for _ in chosen]
    return tuple(firsts[site] + (share * counts[site]).long() for site, share in zip(chosen, chance, strict=True))
