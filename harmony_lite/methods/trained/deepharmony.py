"""DeepHarmony: a 3D U-Net on pairs, BlindHarmonyDiff's supervised comparator (Jeong et al., 2025, supplement S3.2).

Source: B. E. Dewey et al., "DeepHarmony: A deep learning approach to contrast harmonization across scanner changes",
Magnetic Resonance Imaging 64, 2019. It needs what a blind method does without: the same people on the target and on the
very source scanner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from harmony_lite.cohort import Needs, Scans
from harmony_lite.images.normalize import pad_to_multiple
from harmony_lite.methods.trained.domain_networks import Lesson, Pieces, VolumeNetworks
from harmony_lite.nets.draws import first_weights
from harmony_lite.nets.volume_norm import VolumeNorm
from harmony_lite.profiles import sized
from harmony_lite.training import DECIBEL

__all__ = ["OPTIMIZERS", "SIZES", "DeepHarmony", "VolumeSettings", "VolumeUNet"]

OPTIMIZERS = {"sgd": SGD, "adam": Adam}

# ---------------------------------------------------------------------------------------------------------- settings


@dataclass(frozen=True)
class VolumeSettings:
    """The network and its training.

    Attributes:
        width: channels at full resolution; they double from level to level. Not printed.
        levels: how often a volume is halved.
        side: of the convolutions.
        optimizer: of `OPTIMIZERS`.
        learning_rate: fixed with "sgd", as printed; annealed to 0 along a cosine with "adam".
        training_steps: not printed.
        batch: crops; not printed.
        crop: voxels a side; not printed.
        validation_share: of the people, held out to choose the best weights; 18 of 342 pairs in the paper.
    """

    width: int = 16
    levels: int = 4
    side: int = 5
    optimizer: str = "sgd"
    learning_rate: float = 1e-3
    training_steps: int = 60_000
    batch: int = 4
    crop: int = 64
    validation_share: float = 0.05

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            wanted = ", ".join(map(repr, OPTIMIZERS))
            raise ValueError(f"optimizer: found {self.optimizer!r}, wanted one of {wanted}")


SIZES = {
    # so few steps want Adam, and convolutions that cost a fifth
    "quick": VolumeSettings(
        width=8, levels=3, side=3, optimizer="adam", training_steps=1200, batch=2, crop=32, validation_share=0.125
    ),
    "gpu": VolumeSettings(
        width=10, levels=3, side=3, optimizer="adam", training_steps=2500, crop=48, validation_share=0.0625
    ),
    "full": VolumeSettings(),
    "tiny": VolumeSettings(
        width=3, levels=2, side=3, optimizer="adam", training_steps=20, batch=2, crop=8, validation_share=0.125
    ),
}

# ------------------------------------------------------------------------------------------------------------ network


class VolumeUNet(nn.Module):
    """Volumes (B, 1, D, H, W) to volumes of the same size, any range.

    Down by maximum pooling and up by transposed convolutions, in each level twice a convolution, batch normalization
    and leaky ReLU. The last convolution is given the input once more, as Dewey et al. have it; the supplement is
    silent.

    >>> VolumeUNet(2, levels=2, side=3)(torch.zeros(2, 1, 8, 12, 10)).shape
    torch.Size([2, 1, 8, 12, 10])
    """

    def __init__(self, width: int, *, levels: int, side: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(levels + 1)]
        self.divisor = 2**levels
        self.first = _two_convolutions(1, width, side)
        self.down = nn.ModuleList(_two_convolutions(a, b, side) for a, b in zip(widths, widths[1:], strict=False))
        below = list(reversed(widths))
        self.larger = nn.ModuleList(
            nn.ConvTranspose3d(a, b, 2, stride=2) for a, b in zip(below, below[1:], strict=False)
        )
        self.up = nn.ModuleList(_two_convolutions(2 * b, b, side) for b in below[1:])
        self.last = nn.Conv3d(width + 1, 1, 1)
        self.to(memory_format=torch.channels_last_3d)  # twice as fast on a CPU

    def forward(self, volumes: Tensor) -> Tensor:
        """Sides that cannot be halved so often are filled up with 0 meanwhile."""
        filled, crop = pad_to_multiple(volumes, self.divisor)
        features = [self.first(filled)]
        for block in self.down:
            features.append(block(nn.functional.max_pool3d(features[-1], 2)))  # half the side each time
        x = features.pop()
        for larger, block in zip(self.larger, self.up, strict=True):
            x = block(torch.cat([features.pop(), larger(x)], 1))
        return crop(self.last(torch.cat([x, filled], 1)))


def _two_convolutions(inputs: int, outputs: int, side: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        # normalization brings its own offset
        convolution = nn.Conv3d(channels, outputs, side, padding=side // 2, bias=False)
        layers += [convolution, VolumeNorm(outputs), nn.LeakyReLU()]
    return nn.Sequential(*layers)


# --------------------------------------------------------------------------------------------------------- the method


class DeepHarmony(VolumeNetworks):
    """A 3D U-Net from source volumes to target volumes, by the L1 loss on pairs; trained on crops."""

    name: ClassVar[str] = "deepharmony"
    needs: ClassVar[Needs] = Needs.PAIRED

    @classmethod
    def from_variant(cls, variant: str) -> Self:
        """`scanners`: trained on those of BlindHarmonyDiff's tables."""
        return cls(sized(SIZES))

    def _new_network(self) -> VolumeUNet:
        return VolumeUNet(self.settings.width, levels=self.settings.levels, side=self.settings.side)

    def _pieces(self, scans: Scans) -> Tensor:
        return self._scaled(scans)

    def _lesson(self, target: Pieces, source: Pieces, generator: torch.Generator) -> Lesson:
        settings, sides = self.settings, target.training.shape[2:]
        if len(target.training) != len(source.training):
            raise ValueError(f"pairs: found {len(source.training)} source volumes, wanted {len(target.training)}")
        if min(sides) < settings.crop:
            raise ValueError(f"target scans: found a grid of {tuple(sides)} voxels, wanted {settings.crop} a side")
        network = first_weights(self._new_network, generator)
        optimizer = OPTIMIZERS[settings.optimizer](network.parameters(), lr=settings.learning_rate)
        anneals = settings.optimizer == "adam"

        def draw_batch(pairs: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor]:
            return mirrored_crops(pairs, settings.crop, settings.batch, generator)

        def batch_loss(model: nn.Module, batch: tuple[Tensor, Tensor], _: torch.Generator) -> Tensor:
            inputs, wanted = batch
            return (model(inputs) - wanted).abs().mean()

        def validate(model: nn.Module) -> float:
            device = next(model.parameters()).device
            found = torch.cat([model(volume.to(device)).cpu() for volume in source.held_out.split(1)])
            return float(10 * (found - target.held_out).square().mean().log10())  # minus a PSNR

        return Lesson(
            network, network, optimizer, (source.training, target.training), draw_batch, batch_loss, validate, DECIBEL,
            scheduler=CosineAnnealingLR(optimizer, settings.training_steps) if anneals else None,
        )  # fmt: skip

    def _mapped(self, network: nn.Module, scaled: Tensor, mask: Tensor) -> Tensor:
        return torch.cat([network(volume) for volume in scaled.split(1)])  # a volume at a time: memory


def mirrored_crops(
    volumes: tuple[Tensor, ...], side: int, batch: int, generator: torch.Generator
) -> tuple[Tensor, ...]:
    """The same random crops of several tensors (N, 1, D, H, W), half of them mirrored left to right.

    Args:
        volumes: of one shape.
        side: voxels.
        batch: how many crops, drawn with replacement.
        generator: of the draw, on the tensors' device.
    """
    device, sides = volumes[0].device, volumes[0].shape[2:]

    def chance() -> Tensor:
        return torch.rand(batch, 1, generator=generator, device=device)

    person = (chance() * len(volumes[0])).long()
    x, y, z = ((chance() * (size - side + 1)).long() + torch.arange(side, device=device) for size in sides)
    x = torch.where(chance() < 0.5, x.flip(1), x)
    where = person[..., None, None], x[..., None, None], y[:, None, :, None], z[:, None, None]
    return tuple(tensor[:, 0][where][:, None] for tensor in volumes)
