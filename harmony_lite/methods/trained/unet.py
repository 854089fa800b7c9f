"""U-Net trained on pairs: the supervised comparator of BlindHarmony (Jeong et al., ICCV 2023, supplement 2.2).

It needs what a blind method does without: the same people on the target and on the very source scanner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from harmony_lite.cohort import Needs
from harmony_lite.methods.trained.domain_networks import Lesson, Pieces, SliceNetworks
from harmony_lite.nets.draws import first_weights, in_chunks, mirrored_batch
from harmony_lite.nets.unet import UNet
from harmony_lite.profiles import sized
from harmony_lite.training import DECIBEL

__all__ = ["SIZES", "SupervisedSettings", "UNetHarmonizer"]


@dataclass(frozen=True)
class SupervisedSettings:
    """The network and its training.

    Attributes:
        width: channels at full resolution; not printed.
        learning_rate: of Adam (supplement 2.2), annealed to 0 along a cosine, where the paper names no schedule.
        training_steps: the paper prints 120 epochs of up to 76,775 slices; so many are of that order.
        batch: slices; not printed.
        validation_share: of the people, held out to choose the best weights; not printed.
    """

    width: int = 64
    learning_rate: float = 1e-3
    training_steps: int = 120_000
    batch: int = 64
    validation_share: float = 0.125


SIZES = {
    "quick": SupervisedSettings(width=16, training_steps=1500, batch=8),  # 0.84 million parameters a network
    "gpu": SupervisedSettings(width=18, training_steps=2500),  # four networks stay under 10 MB
    "full": SupervisedSettings(),
    "tiny": SupervisedSettings(width=3, training_steps=20, batch=4),
}


class UNetHarmonizer(SliceNetworks):
    """A U-Net from source slices to target slices, by the L1 loss on pairs."""

    name: ClassVar[str] = "unet"
    needs: ClassVar[Needs] = Needs.PAIRED

    @classmethod
    def from_variant(cls, variant: str) -> Self:
        """`scanners` or `maps`: the same settings, trained on other domains."""
        return cls(sized(SIZES))

    def _new_network(self) -> nn.Module:
        return UNet(self.settings.width)

    def _lesson(self, target: Pieces, source: Pieces, generator: torch.Generator) -> Lesson:
        settings = self.settings
        for wanted, found in zip(target, source, strict=True):
            if wanted is not None and len(wanted) != len(found):
                raise ValueError(f"pairs: found {len(found)} source slices, wanted {len(wanted)}, as of the target")
        network = first_weights(self._new_network, generator)
        optimizer = Adam(network.parameters(), lr=settings.learning_rate)

        def draw_batch(pairs: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor]:
            return mirrored_batch(pairs, settings.batch, generator)

        def batch_loss(model: nn.Module, batch: tuple[Tensor, Tensor], _: torch.Generator) -> Tensor:
            inputs, wanted = batch
            return (model(inputs) - wanted).abs().mean()

        def validate(model: nn.Module) -> float:
            found = in_chunks(model, source.held_out, next(model.parameters()).device)
            return float(10 * (found - target.held_out).square().mean().log10())  # minus a PSNR

        return Lesson(
            network, network, optimizer, (source.training, target.training), draw_batch, batch_loss, validate, DECIBEL,
            scheduler=CosineAnnealingLR(optimizer, settings.training_steps),
        )  # fmt: skip
