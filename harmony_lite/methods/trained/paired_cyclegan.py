"""Paired style transfer: CycleGAN's networks on pairs, BlindHarmonyDiff's comparator (Jeong et al., 2025, S3.3).

The supplement calls it "a 2D paired CycleGAN" and prints CycleGAN's three losses and no other. So pairs enter by what
is drawn: both domains of a batch show the same slices of the same people. And they choose the best weights, which pairs
allow: by the error itself.
"""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.optim import Adam

from harmony_lite.cohort import Needs, Scans
from harmony_lite.images.slices import brain_slices, through_slices
from harmony_lite.methods.trained.cyclegan import SIZES, Generator, Players, two_player_loss
from harmony_lite.methods.trained.domain_networks import Lesson, Pieces, VolumeNetworks
from harmony_lite.nets.draws import first_weights, in_chunks, mirrored_batch
from harmony_lite.profiles import sized
from harmony_lite.training import DECIBEL

__all__ = ["PairedCycleGAN"]


class PairedCycleGAN(VolumeNetworks):
    """A generator from source slices to target slices, of volumes that are scaled as a whole."""

    name: ClassVar[str] = "paired-cyclegan"
    needs: ClassVar[Needs] = Needs.PAIRED

    @classmethod
    def from_variant(cls, variant: str) -> Self:
        """`scanners`: trained on those of BlindHarmonyDiff's tables."""
        return cls(sized(SIZES))

    def _new_network(self) -> nn.Module:
        return Generator(self.settings.width)

    def _pieces(self, scans: Scans) -> Tensor:
        return brain_slices(self._scaled(scans), scans.mask)

    def _lesson(self, target: Pieces, source: Pieces, generator: torch.Generator) -> Lesson:
        settings = self.settings
        if len(target.training) != len(source.training):
            raise ValueError(f"pairs: found {len(source.training)} source slices, wanted {len(target.training)}")
        if any(side % 4 for side in target.training.shape[2:]):
            raise ValueError(f"slices: found {tuple(target.training.shape[2:])} pixels, wanted multiples of 4")
        players = first_weights(lambda: Players(settings.width), generator)
        optimizer = Adam(players.parameters(), lr=settings.learning_rate, betas=(0.5, 0.999))

        def draw_batch(pairs: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor]:
            return mirrored_batch(pairs, settings.batch, generator)

        def batch_loss(model: Players, batch: tuple[Tensor, Tensor], _: torch.Generator) -> Tensor:
            return two_player_loss(model, *batch, settings)

        def validate(model: Players) -> float:
            found = in_chunks(model.to_target, source.held_out, next(model.parameters()).device)
            return float(10 * (found - target.held_out).square().mean().log10())  # minus a PSNR

        data = target.training, source.training
        return Lesson(players, players.to_target, optimizer, data, draw_batch, batch_loss, validate, DECIBEL)

    def _mapped(self, network: nn.Module, scaled: Tensor, mask: Tensor) -> Tensor:
        return through_slices(scaled, mask, lambda slices, *_: network(slices))
