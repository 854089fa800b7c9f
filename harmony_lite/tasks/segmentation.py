"""White matter by a U-Net that has seen the target domain only: what BlindHarmony's Table 3 judges by.

Source: Jeong et al., ICCV 2023, section 4.4. Their labels are FSL FAST's; here they are the true tissue of simulated
people. Slices are scaled by their own minimum and maximum, as everywhere in that paper, so the network meets another
scanner's contrast and nothing else: whoever brings contrast closer to the target's is segmented better.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from harmony_lite import weights
from harmony_lite.images.checks import check_mask
from harmony_lite.images.normalize import slice_minmax
from harmony_lite.images.slices import brain_slices, through_slices
from harmony_lite.nets.draws import first_weights, held_out, in_chunks, mirrored_batch
from harmony_lite.nets.unet import UNet
from harmony_lite.profiles import active, sized
from harmony_lite.training import CURVE_POINTS, History, train

__all__ = ["SegmentationSettings", "WhiteMatterUNet"]


@dataclass(frozen=True)
class SegmentationSettings:
    """The network and its training; the paper says "U-Net" and no number.

    Attributes:
        width: channels at full resolution.
        learning_rate: of Adam, annealed to 0 along a cosine.
        training_steps: of the loss below.
        batch: slices.
        validation_share: of the people, held out to choose the best weights.
    """

    width: int = 64
    learning_rate: float = 1e-3
    training_steps: int = 20_000
    batch: int = 64
    validation_share: float = 0.125


SIZES = {
    "quick": SegmentationSettings(width=16, training_steps=1500, batch=8),
    "gpu": SegmentationSettings(width=32, training_steps=3000),
    "full": SegmentationSettings(training_steps=120_000),
    "tiny": SegmentationSettings(width=3, training_steps=20, batch=4),
}


class WhiteMatterUNet:
    """Which voxels are white matter, slice by slice, by binary cross-entropy on the target's slices.

    Example: `WhiteMatterUNet.shipped().segment(scans, mask)`.
    """

    name = "white-matter-unet"
    variant = "target"
    classifier = "white-matter U-Net"
    is_trained = True

    def __init__(self, settings: SegmentationSettings | None = None) -> None:
        self.settings = settings or sized(SIZES)
        self.histories: dict[str, History] = {}
        self._network: UNet | None = None

    @classmethod
    def shipped(cls) -> Self:
        """With the weights that come for the active profile.

        Raises:
            FileNotFoundError: none are shipped for it.
        """
        return cls().load(weights.shipped(cls.name, cls.variant, active().name))

    def load(self, path: str | Path) -> Self:
        """Read weights with their card; returns itself, with the settings of the card.

        Raises:
            FileNotFoundError, ValueError: as `harmony_lite.weights.load`; a network of another form.
        """
        state, card = weights.load(path)
        return self.take_settings(card.settings).load_state(state)

    def take_settings(self, stored: Mapping[str, Any]) -> Self:
        """Take over the settings that a card holds; returns itself."""
        self.settings = weights.settings_as_stored(self.settings, stored)
        return self

    def fit(
        self,
        scans: Tensor,
        mask: Tensor,
        white: Tensor,
        *,
        generator: torch.Generator | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = True,
        steps: int | None = None,
    ) -> Self:
        """Train on scans of the target domain; the last people are held out and choose the best weights.

        Args:
            scans: (N, 1, D, H, W), any units.
            mask: bool, same shape: the brain.
            white: bool, same shape: white matter.
            generator: of first weights and batches; seed 0 when None.
            checkpoint: file from which an interrupted training goes on.
            progress: show a bar.
            steps: stop early, on the way of the whole schedule.

        Raises:
            ValueError: shapes that differ, scans without contrast, fewer than two people.
        """
        for name, other in (("mask", mask), ("white", white)):
            if other.shape != scans.shape:
                raise ValueError(f"{name}: found shape {tuple(other.shape)}, wanted the scans' {tuple(scans.shape)}")
        settings, generator = self.settings, generator or torch.Generator().manual_seed(0)
        last = held_out(len(scans), settings.validation_share)
        scaled = slice_minmax(scans * mask)
        (images, truth), (held, held_truth) = (
            [brain_slices(volumes[people], mask[people]) for volumes in (scaled, white.float())]
            for people in (slice(last.start), last)
        )
        self._network = first_weights(lambda: UNet(settings.width), generator)
        optimizer = Adam(self._network.parameters(), lr=settings.learning_rate)

        def draw_batch(pairs: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor]:
            return mirrored_batch(pairs, settings.batch, generator)

        def batch_loss(model: UNet, batch: tuple[Tensor, Tensor], _: torch.Generator) -> Tensor:
            return functional.binary_cross_entropy_with_logits(model(batch[0]), batch[1])

        def validate(model: UNet) -> float:
            logits = in_chunks(model, held, next(model.parameters()).device)
            return float(functional.binary_cross_entropy_with_logits(logits, held_truth))

        history = train(
            self._network.train(), optimizer, batch_loss, draw_batch,
            steps=steps or settings.training_steps, generator=generator, data=(images, truth),
            validate=validate, validate_every=max(1, settings.training_steps // CURVE_POINTS), unit="cross-entropy",
            scheduler=CosineAnnealingLR(optimizer, settings.training_steps),
            checkpoint=checkpoint, recipe=vars(settings), progress=progress,
        )  # fmt: skip
        self.histories = {self.variant: history}
        self._network.eval()
        return self

    @property
    def history(self) -> History:
        """Of the training."""
        return History.joined(self.histories.values())

    @torch.no_grad()
    def segment(self, images: Tensor, mask: Tensor) -> Tensor:
        """White matter of volumes.

        Args:
            images: (N, 1, D, H, W), any units.
            mask: bool, same shape: the brain; slices without any are left empty.

        Returns:
            bool, same shape, inside the mask.

        Raises:
            ValueError: no weights, shapes that differ, images without contrast.
        """
        if self._network is None:
            raise ValueError(f"{self.classifier}: found no network, wanted `fit` or the shipped weights")
        check_mask(mask, images)
        network = self._network.to(images.device)
        logits = through_slices(slice_minmax(images * mask), mask, lambda slices, *_: network(slices))
        return (logits > 0) & mask

    def state(self) -> dict[str, Tensor]:
        """The network's tensors."""
        if self._network is None:
            raise ValueError(f"{self.classifier}: found no network, wanted `fit` or the shipped weights")
        return weights.without_counters(self._network)

    def load_state(self, state: dict[str, Tensor]) -> Self:
        """Take over what an earlier fit learned.

        Raises:
            ValueError: a network of another form.
        """
        network = UNet(self.settings.width)
        if set(state) != set(weights.without_counters(network)):
            raise ValueError(f"{self.classifier}: found {len(state)} tensors, wanted those of a U-Net")
        try:
            network.load_state_dict(state, strict=False)
        except RuntimeError as error:
            raise ValueError(f"{self.classifier}: found a network of another form: {error}") from error
        self._network = network.eval()
        return self
