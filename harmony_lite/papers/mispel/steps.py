"""MISPEL's two steps (Algorithm 1), by gradient.

Step 1 trains encoders and decoders on scans of the same people on all scanners: what comes out is what went in, and the
embeddings of different scanners are alike. Step 2 leaves the encoders as they are and moves the M x L weights of the
decoders until the scanners' images agree. decoder_optimum.py solves step 2 without a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Adam

from harmony_lite.nets.draws import first_weights
from harmony_lite.papers.mispel.losses import coupling_loss, reconstruction_loss, step_two_loss
from harmony_lite.papers.mispel.networks import Units, embeddings_of
from harmony_lite.papers.mispel.settings import MispelSettings
from harmony_lite.training import History, train

__all__ = ["PairedSlices", "fit_decoders", "learn_embeddings"]


# -------------------------------------------------------------------------------------------------------------- step 1


@dataclass(frozen=True)
class PairedSlices:
    """Slices of the same people on M scanners.

    Attributes:
        images: (N, M, H, W), each scan divided by its mean.
        brain: bool (N, 1, H, W): brain on every scanner.
        scanners: M names.
    """

    images: Tensor
    brain: Tensor
    scanners: tuple[str, ...]

    def counted(self, settings: MispelSettings) -> Tensor | None:
        """The pixels that losses are taken over: the brain's, or None for all."""
        return self.brain if settings.brain_only else None


def learn_embeddings(
    slices: PairedSlices,
    settings: MispelSettings,
    *,
    generator: torch.Generator,
    checkpoint: Path | None = None,
    progress: bool = True,
    steps: int | None = None,
) -> tuple[Units, History]:
    """Step 1 of Algorithm 1: encoders and decoders together, on Equation 4.

    Args:
        slices: of training people.
        settings: of the variant.
        generator: of first weights and batches.
        checkpoint: file from which an interrupted training goes on.
        progress: show a bar.
        steps: batches in all; T1 epochs when None.
    """
    units = first_weights(lambda: Units(len(slices.scanners), settings), generator)

    def batch_loss(units: Units, batch: tuple[Tensor, Tensor | None], _: torch.Generator) -> Tensor:
        images, brain = batch
        embeddings = units.embed(images)
        reconstruction = reconstruction_loss(images, units.decode(embeddings), brain)
        coupling = coupling_loss(embeddings, brain, scale_free=settings.scale_free)
        return settings.lambda1 * reconstruction + settings.lambda2 * coupling  # Equation 4

    def draw_batch(data: tuple[Tensor, Tensor | None], generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        return _taken(_drawn(slices, settings, generator), *data)

    history = train(
        units.train(), Adam(units.parameters(), lr=settings.learning_rate), batch_loss, draw_batch,
        steps=steps or _steps(slices, settings, 0), generator=generator,
        data=(slices.images, slices.counted(settings)),
        checkpoint=checkpoint, recipe=vars(settings), progress=progress,
    )  # fmt: skip
    return units.eval(), history


def _steps(slices: PairedSlices, settings: MispelSettings, step: int) -> int:
    return settings.epochs[step] * -(-len(slices.images) // settings.batch)


def _drawn(slices: PairedSlices, settings: MispelSettings, generator: torch.Generator) -> Tensor:
    return torch.randint(len(slices.images), (settings.batch,), generator=generator, device=generator.device)


def _taken(chosen: Tensor, *tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    return tuple(None if tensor is None else tensor[chosen] for tensor in tensors)


# -------------------------------------------------------------------------------------------------------------- step 2


def fit_decoders(
    units: Units,
    slices: PairedSlices,
    settings: MispelSettings,
    *,
    generator: torch.Generator,
    cached: bool = True,
    checkpoint: Path | None = None,
    progress: bool = True,
    steps: int | None = None,
) -> History:
    """Step 2 of Algorithm 1: the decoders alone, in place, by Adam on Equation 6; encoders stay bit for bit.

    Args:
        units: after step 1.
        slices: of training people.
        settings: of the variant.
        generator: of batches.
        cached: embed every slice once instead of in every step; the losses are the same, and memory holds L images for
            each one.
        checkpoint: file from which an interrupted training goes on.
        progress: show a bar.
        steps: batches in all; T2 epochs when None.
    """
    embeddings = embeddings_of(units, slices.images) if cached else None

    def batch_loss(units: Units, batch: tuple[Tensor | None, ...], _: torch.Generator) -> Tensor:
        images, brain, embedded = batch
        if embedded is None:
            embedded = units.embed(images)
        return step_two_loss(images, units.decode(embedded), settings, brain)[0]

    def draw_batch(data: tuple[Tensor | None, ...], generator: torch.Generator) -> tuple[Tensor | None, ...]:
        return _taken(_drawn(slices, settings, generator), *data)

    units.encoders.requires_grad_(False)
    try:
        return train(
            units.eval(), Adam([units.weights], lr=settings.learning_rate), batch_loss, draw_batch,
            steps=steps or _steps(slices, settings, 1), generator=generator,
            data=(slices.images, slices.counted(settings), embeddings),
            checkpoint=checkpoint, recipe=vars(settings), progress=progress,
        )  # fmt: skip
    finally:
        units.encoders.requires_grad_(True)
