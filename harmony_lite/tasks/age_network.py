"""Age of a person from the whole scan by a network that has seen the target only: BlindHarmonyDiff's second task.

Source: H. Jeong et al., "Efficient and robust 3D blind harmonization for large domain gaps", 2025, section 4.5 and
supplement S3.6, after J. H. Cole et al., NeuroImage 163, 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from harmony_lite.images.checks import check_mask
from harmony_lite.images.normalize import subject_percentile
from harmony_lite.nets.draws import first_weights, held_out
from harmony_lite.nets.volume_norm import VolumeNorm
from harmony_lite.profiles import sized
from harmony_lite.tasks.target_network import TargetNetwork
from harmony_lite.training import CURVE_POINTS, train

__all__ = ["AgeCNN", "AgeNetwork", "AgeSettings"]


@dataclass(frozen=True)
class AgeSettings:
    """The network and its training (supplement S3.6).

    Attributes:
        width: channels of the first block; they double from block to block.
        blocks: how many.
        pooling: voxels a side that are averaged before the first block; 1 for none, as in the paper.
        optimizer: "sgd" with a fixed learning rate as printed, or "adam", whose rate falls along a cosine.
        learning_rate: of it.
        training_steps: not printed.
        batch: scans; not printed.
        validation_share: of the people, held out to choose the best weights.
    """

    width: int = 8
    blocks: int = 5
    pooling: int = 1
    optimizer: str = "sgd"
    learning_rate: float = 1e-4
    training_steps: int = 20_000
    batch: int = 8
    validation_share: float = 0.04


SIZES = {
    "quick": AgeSettings(
        blocks=4, pooling=2, optimizer="adam", learning_rate=2e-3, training_steps=1500, validation_share=0.15
    ),
    "gpu": AgeSettings(optimizer="adam", learning_rate=1e-3, training_steps=1500, validation_share=0.15),
    "full": AgeSettings(),
    "tiny": AgeSettings(2, 2, 2, "adam", 1e-3, training_steps=20, batch=2, validation_share=0.3),
}


class AgeCNN(nn.Module):
    """Volumes (B, 1, D, H, W) to years (B,): blocks of two convolutions, one normalization and a pooling, then a line.

    Args:
        sides: of the volumes.
        settings: width and blocks.
    """

    def __init__(self, sides: Sequence[int], settings: AgeSettings) -> None:
        super().__init__()
        widths = [1, *(settings.width * 2**block for block in range(settings.blocks))]
        self.blocks = nn.Sequential(*(_block(a, b) for a, b in pairwise(widths)))
        left = [side // 2**settings.blocks for side in sides]
        if min(left) < 1:
            raise ValueError(
                f"scans: found {tuple(sides)} voxels, wanted sides that can be halved {settings.blocks} times"
            )
        self.last = nn.Linear(widths[-1] * left[0] * left[1] * left[2], 1)
        self.register_buffer("moments", torch.tensor([0.0, 1.0]))  # mean and deviation of the training people's ages
        self.to(memory_format=torch.channels_last_3d)  # twice as fast on a CPU

    def forward(self, volumes: Tensor) -> Tensor:
        """Years."""
        mean, deviation = self.moments
        return mean + deviation * self.last(self.blocks(volumes).flatten(1))[:, 0]


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, padding=1),
        nn.ReLU(),
        nn.Conv3d(outputs, outputs, 3, padding=1, bias=False),  # normalization brings its own offset
        VolumeNorm(outputs),
        nn.ReLU(),
        nn.MaxPool3d(2),
    )


class AgeNetwork(TargetNetwork):
    """Years from a skull-stripped scan on the model's grid, by the L1 loss.

    Every scan is scaled by its own 1st and 99th percentiles. Example: `AgeNetwork.shipped().predict(scans, mask)`.
    """

    name = "age-network"
    classifier = "age CNN"

    def __init__(self, settings: AgeSettings | None = None) -> None:
        super().__init__(settings or sized(SIZES))
        self._grid: tuple[int, ...] = ()

    def _new_network(self) -> AgeCNN:
        return AgeCNN([side // self.settings.pooling for side in self._grid], self.settings)

    def _prepared(self, scans: Tensor, mask: Tensor) -> Tensor:
        return functional.avg_pool3d(subject_percentile(scans, mask) * mask, self.settings.pooling)

    def fit(
        self,
        scans: Tensor,
        mask: Tensor,
        ages: Tensor,
        *,
        generator: torch.Generator | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = True,
        steps: int | None = None,
    ) -> Self:
        """Train on scans of the target domain; the last people are held out and choose the best weights.

        Args:
            scans: (N, 1, D, H, W), any units, on one grid in template space.
            mask: bool, same shape: the brain.
            ages: (N,) years.
            generator: of first weights and batches; seed 0 when None.
            checkpoint: file from which an interrupted training goes on.
            progress: show a bar.
            steps: stop early, on the way of the whole schedule.

        Raises:
            ValueError: shapes that differ, ages that are not finite, scans without contrast, fewer than two people.
        """
        check_mask(mask, scans)
        if ages.shape != (len(scans),) or not bool(torch.isfinite(ages).all()):
            raise ValueError(f"ages: found {tuple(ages.shape)}, wanted {len(scans)} finite numbers, one for each scan")
        settings, generator = self.settings, generator or torch.Generator().manual_seed(0)
        self._grid = tuple(scans.shape[2:])
        last, volumes, years = (
            held_out(len(scans), settings.validation_share),
            self._prepared(scans, mask),
            ages.float(),
        )
        training = slice(last.start)
        self._network = first_weights(self._new_network, generator)
        self._network.moments.copy_(
            torch.stack([years[training].mean(), years[training].std(correction=0).clamp_min(1)])
        )
        optimizer = {"sgd": SGD, "adam": Adam}[settings.optimizer](
            self._network.parameters(), lr=settings.learning_rate
        )

        def draw_batch(data: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor]:
            volumes, years = data
            chosen = torch.randint(len(volumes), (settings.batch,), generator=generator, device=volumes.device)
            mirrored = torch.rand(settings.batch, generator=generator, device=volumes.device) < 0.5
            drawn = volumes[chosen]
            return torch.where(mirrored[:, None, None, None, None], drawn.flip(2), drawn), years[chosen]

        def batch_loss(model: AgeCNN, batch: tuple[Tensor, Tensor], _: torch.Generator) -> Tensor:
            return (model(batch[0]) - batch[1]).abs().mean()

        def validate(model: AgeCNN) -> float:
            device = next(model.parameters()).device
            return float((model(volumes[last].to(device)).cpu() - years[last]).abs().mean())

        history = train(
            self._network.train(), optimizer, batch_loss, draw_batch, data=(volumes[training], years[training]),
            steps=steps or settings.training_steps, generator=generator, validate=validate, unit="years",
            validate_every=max(1, settings.training_steps // CURVE_POINTS), checkpoint=checkpoint,
            scheduler=CosineAnnealingLR(optimizer, settings.training_steps) if settings.optimizer == "adam" else None,
            recipe=vars(settings), progress=progress,
        )  # fmt: skip
        self.histories = {self.variant: history}
        self._network.eval().cpu()
        return self

    @torch.no_grad()
    def predict(self, images: Tensor, mask: Tensor) -> Tensor:
        """Years, (N,), of volumes (N, 1, D, H, W) in any units, with a mask of the brain.

        Raises:
            ValueError: no weights, shapes that differ, another grid than that of the fit, images without contrast.
        """
        check_mask(mask, images)
        network = self.network.to(images.device)
        if images.shape[2:] != self._grid:
            raise ValueError(f"images: found a grid of {tuple(images.shape[2:])}, wanted {self._grid}, that of the fit")
        return network(self._prepared(images, mask))

    def state(self) -> dict[str, Tensor]:
        """The network's tensors, and `grid` (3,)."""
        return {**super().state(), "grid": torch.tensor(self._grid)}

    def load_state(self, state: dict[str, Tensor]) -> Self:
        """Take over what an earlier fit learned.

        Raises:
            ValueError: a network of another form.
        """
        if "grid" not in state or state["grid"].shape != (3,):
            raise ValueError(f"{self.classifier}: found no grid of three sides, wanted weights of this network")
        self._grid = tuple(state["grid"].tolist())
        return super().load_state({name: value for name, value in state.items() if name != "grid"})
