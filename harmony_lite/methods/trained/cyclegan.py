"""CycleGAN: the unsupervised comparator of BlindHarmony (Jeong et al., ICCV 2023, supplement 2.3).

Source: J.-Y. Zhu, T. Park, P. Isola, A. A. Efros, "Unpaired Image-to-Image Translation using Cycle-Consistent
Adversarial Networks", ICCV 2017, in the sizes of the supplement. It sees slices of both domains, of different people.

In the profile `quick` each network is trained for minutes; the weights of the best validation are kept, since an
adversarial training that goes on can get worse. Nothing follows from it for a training of the paper's length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Adam

from harmony_lite.cohort import Needs
from harmony_lite.methods.shipping import Shipping
from harmony_lite.methods.trained.domain_networks import Lesson, Pieces, SliceNetworks
from harmony_lite.nets.draws import first_weights, in_chunks, mirrored_batch
from harmony_lite.profiles import sized

__all__ = ["SIZES", "AdversarialSettings", "CycleGAN", "Generator", "Players", "discriminator", "histogram_distance"]
__all__ += ["two_player_loss", "unpaired_criterion"]

RESIDUAL_BLOCKS = 9  # supplement 2.3
SLOPE = 0.2  # of the leaky ReLU, as in the CycleGAN paper

# ---------------------------------------------------------------------------------------------------------- settings


@dataclass(frozen=True)
class AdversarialSettings:
    """The networks and their training.

    Attributes:
        width: channels of the first convolution; twice as many in the residual blocks. Not printed.
        learning_rate: of Adam (supplement 2.3).
        training_steps: the paper prints 40 epochs of 75,240 slices.
        batch: slices of each domain; not printed.
        cycle: weight of the cycle loss; this one and the next as in the CycleGAN paper.
        identity: weight of the identity loss.
        validation_share: of the people, held out to choose the best weights; not printed.
    """

    width: int = 128
    learning_rate: float = 2e-4
    training_steps: int = 100_000
    batch: int = 4
    cycle: float = 10.0
    identity: float = 5.0
    validation_share: float = 0.125


SIZES = {
    # so few steps want twice the printed learning rate; five times made the training swing (validation people)
    "quick": AdversarialSettings(width=12, training_steps=600, batch=4, learning_rate=4e-4),
    "gpu": AdversarialSettings(width=32, training_steps=1500, batch=16),
    # supplement 2.3: the printed learning rate, and 40 epochs of 75,240 slices, which are 376,000 steps of 8
    "full": AdversarialSettings(training_steps=200_000, batch=8, learning_rate=2e-4),
    "tiny": AdversarialSettings(width=2, training_steps=20, batch=2),
}

# ------------------------------------------------------------------------------------------------------------ layers


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_normalized(channels, channels), *_normalized(channels, channels)[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Generator(nn.Module):
    """Slices (B, 1, H, W) in [0, 1] to slices about there: two convolutions, nine residual blocks, three convolutions.

    The first two halve the image and the next two double it, as the CycleGAN paper's do; the supplement gives the
    numbers of convolutions and not their strides. What they find is added to the slice and begins at 0. That is ours:
    without it a small generator spends its short training on learning to copy (1,200 steps, validation: 15 dB where the
    untouched source has 25).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        doubled = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        last = nn.Conv2d(width, 1, 3, padding=1)
        for weight in last.parameters():
            nn.init.zeros_(weight)
        self.change = nn.Sequential(
            *_normalized(1, width, stride=2),
            *_normalized(width, 2 * width, stride=2),
            *(_Residual(2 * width) for _ in range(RESIDUAL_BLOCKS)),
            doubled,
            *_normalized(2 * width, width),
            doubled,
            *_normalized(width, width),
            last,
        )

    def forward(self, slices: Tensor) -> Tensor:
        """The slices and their change; height and width divisible by 4."""
        return slices + self.change(slices)


def discriminator(width: int) -> nn.Sequential:
    """Slices (B, 1, H, W) to a map of scores, 1 for what looks real: five convolutions (supplement 2.3).

    The supplement counts four instance normalizations; here are three, as in the CycleGAN paper, which has none after
    the first convolution. One there takes brightness and contrast away before anything has looked at them, and these
    are what two scanners differ in first: on the Vision's validation people 600 steps of the profile `quick` gain at
    most 0.6 dB with it, and 1.7 dB without.
    """
    layers: list[nn.Module] = []
    widths = (1, width, 2 * width, 4 * width, 4 * width)
    for position, (inputs, outputs) in enumerate(zip(widths, widths[1:], strict=False)):
        stride = 2 if position < 3 else 1
        normalization = [nn.InstanceNorm2d(outputs)] if position else []
        layers += [nn.Conv2d(inputs, outputs, 4, stride, 1), *normalization, nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 1))


def _normalized(inputs: int, outputs: int, *, stride: int = 1) -> list[nn.Module]:
    # instance normalization brings no offset of its own, but takes away the convolution's
    return [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.InstanceNorm2d(outputs), nn.ReLU()]


# -------------------------------------------------------------------------------------------------------------- loss


class Players(nn.Module):
    """Both generators and both discriminators, so that one optimizer and one checkpoint hold them all."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_target, self.to_source = Generator(width), Generator(width)
        self.judge_target, self.judge_source = discriminator(width), discriminator(width)


def two_player_loss(players: Players, target: Tensor, source: Tensor, settings: AdversarialSettings) -> Tensor:
    """Adversarial (least squares), cycle and identity losses of both directions, and the discriminators' own.

    One sum serves both players: generators are judged by discriminators whose weights are held, and discriminators look
    at images that are held. Both then step at once, where the CycleGAN paper steps one after the other.
    """
    total = target.new_zeros(())
    directions = (
        (players.to_target, players.to_source, players.judge_target, source, target),
        (players.to_source, players.to_target, players.judge_source, target, source),
    )
    for there, back, judge, start, goal in directions:
        made = there(start)
        held = {name: weight.detach() for name, weight in judge.named_parameters()}
        adversarial = (functional_call(judge, held, (made,)) - 1).square().mean()
        cycle = (back(made) - start).abs().mean()
        identity = (there(goal) - goal).abs().mean()
        judged = (judge(goal) - 1).square().mean() + judge(made.detach()).square().mean()
        total = total + adversarial + settings.cycle * cycle + settings.identity * identity + judged / 2
    return total


# -------------------------------------------------------------------------------------------------------- validation


def unpaired_criterion(players: Players, target: Tensor, source: Tensor) -> float:
    """How far a generator's slices are from the target's, without a pair; smaller is better.

    Distance between the histograms of what the generator makes and of target slices, plus the cycle error, both inside
    the foreground. An adversarial loss says little about which weights are best; the paper keeps the last ones.

    Args:
        players: in evaluation mode.
        target: (B, 1, D, H) in [0, 1], of people who are held out.
        source: the same of other people.
    """
    device = next(players.parameters()).device
    made = in_chunks(players.to_target, source, device)
    back = in_chunks(players.to_source, made, device)
    inside = source > 0
    cycle = (back - source)[inside].abs().mean()
    return float(histogram_distance(made[inside].clamp(0, 1), target[target > 0]) + cycle)


def histogram_distance(one: Tensor, other: Tensor, *, levels: int = 512) -> Tensor:
    """First Wasserstein distance between the values of two tensors, by the mean difference of their quantiles.

    >>> values = torch.linspace(0, 1, 101)
    >>> round(float(histogram_distance(values, values + 0.25)), 4)
    0.25
    """
    shares = (torch.arange(levels) + 0.5) / levels
    return (_quantiles(one, shares) - _quantiles(other, shares)).abs().mean()


def _quantiles(values: Tensor, shares: Tensor) -> Tensor:
    ordered = values.flatten().sort().values  # torch.quantile takes 16 million values at most
    return ordered[(shares * len(ordered)).long()]


# -------------------------------------------------------------------------------------------------------- the method


class CycleGAN(SliceNetworks):
    """A generator from source slices to target slices, trained against a discriminator and its own way back."""

    name: ClassVar[str] = "cyclegan"
    needs: ClassVar[Needs] = Needs.UNPAIRED
    shipping: ClassVar[Shipping | None] = Shipping(
        also=tuple(("scanners", site) for site in ("abide_caltech", "abide_kki", "abide_pitt", "abide_nyu"))
    )

    @classmethod
    def from_variant(cls, variant: str) -> Self:
        """`scanners` or `maps`: the same settings, trained on other domains."""
        return cls(sized(SIZES))

    def _new_network(self) -> nn.Module:
        return Generator(self.settings.width)

    def _lesson(self, target: Pieces, source: Pieces, generator: torch.Generator) -> Lesson:
        settings, size = self.settings, target.training.shape[2:]
        if any(side % 4 for side in size):
            raise ValueError(f"slices: found {tuple(size)} pixels, wanted multiples of 4")
        players = first_weights(lambda: Players(settings.width), generator)
        optimizer = Adam(players.parameters(), lr=settings.learning_rate, betas=(0.5, 0.999))

        def draw_batch(domains: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor]:
            return tuple(mirrored_batch([slices], settings.batch, generator)[0] for slices in domains)

        def batch_loss(model: Players, batch: tuple[Tensor, Tensor], _: torch.Generator) -> Tensor:
            return two_player_loss(model, *batch, settings)

        def validate(model: Players) -> float:
            return unpaired_criterion(model, target.held_out, source.held_out)

        return Lesson(
            players, players.to_target, optimizer, (target.training, source.training), draw_batch, batch_loss, validate,
            "histogram distance and cycle error",
        )  # fmt: skip
