"""Training of style transfer: copying first, then StarGAN v2's two players with one domain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from harmony_lite.methods.trained.cyclegan import histogram_distance
from harmony_lite.methods.trained.style_transfer.networks import Artist, StyleTransferSettings, reader
from harmony_lite.nets.averaged import Averaged
from harmony_lite.nets.draws import evenly_spread, first_weights, mirrored_batch
from harmony_lite.training import CURVE_POINTS, History, train

__all__ = ["Players", "learn_to_copy", "one_domain_criterion", "play", "players_loss"]

LOOKED_AT = 32  # slices of each site held out, at each validation
BETAS, WEIGHT_DECAY = (0.0, 0.99), 1e-4  # of Adam, as in StarGAN v2


def learn_to_copy(
    artist: Artist,
    data: Tensor,
    settings: StyleTransferSettings,
    generator: torch.Generator,
    checkpoint: Path | None,
    progress: bool,
    *,
    steps: int | None = None,
) -> History:
    """Teach generator and encoder to draw slices (B, 3, D, H) in their own style; not in the paper.

    The players then begin with something like a brain. What a style is for they still have to learn: brightness passes
    by the normalizations, beside each block, and copying needs no style.
    """
    optimizer = Adam(
        [*artist.generator.parameters(), *artist.encoder.parameters()], lr=settings.copying_rate, betas=BETAS
    )

    def batch_loss(model: Artist, slices: Tensor, _: torch.Generator) -> Tensor:
        return (model.copy(slices) - slices).abs().mean()

    return train(
        artist.train(), optimizer, batch_loss, lambda data, draw: mirrored_batch([data], settings.batch, draw)[0],
        data=data, steps=steps or settings.copying_steps, generator=generator,
        scheduler=CosineAnnealingLR(optimizer, settings.copying_steps),
        checkpoint=checkpoint, recipe=vars(settings), progress=progress,
    )  # fmt: skip


class Players(nn.Module):
    """Both players, and the moving average of the first, so that one optimizer and one checkpoint hold them all."""

    def __init__(self, artist: Artist, judge: nn.Module, decay: float) -> None:
        super().__init__()
        self.artist, self.judge = Averaged(artist, decay), judge


def play(
    artist: Artist,
    training: Tensor,
    validation: Sequence[Tensor],
    settings: StyleTransferSettings,
    generator: torch.Generator,
    checkpoint: Path | None,
    progress: bool,
    *,
    steps: int | None = None,
) -> tuple[Artist, History]:
    """Train an artist against a judge; returns the average of its weights, at its best on the people held out.

    Args:
        artist: with first weights, or one that can copy.
        training: slices (B, 3, D, H) of all sites.
        validation: the same of each site's people who are held out; without any the last weights stay.
        settings: the networks' and the losses'.
        generator: of the judge's first weights, batches and latent numbers.
        checkpoint: file from which an interrupted training goes on.
        progress: show a bar.
        steps: stop early, on the way of the schedule.
    """
    judge = first_weights(lambda: reader(settings, 1), generator)
    players = Players(artist, judge, settings.decay)
    drawing = [*artist.generator.parameters(), *artist.encoder.parameters()]
    optimizer = Adam(
        [
            {"params": [*drawing, *judge.parameters()]},
            {"params": artist.mapping.parameters(), "lr": settings.learning_rate / 100},
        ],
        lr=settings.learning_rate,
        betas=BETAS,
        weight_decay=WEIGHT_DECAY,
    )

    def draw_batch(data: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return tuple(mirrored_batch([data], settings.batch, generator)[0] for _ in range(2))

    def batch_loss(model: Players, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
        model.artist.follow()
        return players_loss(model, *batch, settings, generator)

    history = train(
        players.train(), optimizer, batch_loss, draw_batch,
        data=training, steps=steps or settings.training_steps, generator=generator,
        validate=(lambda model: one_domain_criterion(model.artist.average, validation)) if validation else None,
        validate_every=max(1, settings.training_steps // CURVE_POINTS),
        unit="histogram distance and cycle error", checkpoint=checkpoint, recipe=vars(settings), progress=progress,
    )  # fmt: skip
    return players.artist.average, history


def players_loss(
    players: Players, slices: Tensor, others: Tensor, settings: StyleTransferSettings, generator: torch.Generator
) -> Tensor:
    """Losses of StarGAN v2 with one domain: adversarial, style, diversity, cycle, and the judge's own.

    Half of the styles are drawn by the mapping network, half are read from other slices. One sum serves both players,
    as in our CycleGAN: each looks at the other's weights as they are held.

    Args:
        players: in training mode.
        slices: (B, 3, D, H), to be drawn in another style.
        others: the same of other people, for styles.
        settings: weights of the losses.
        generator: of latent numbers.
    """
    artist, judge, half = players.artist.network, players.judge, len(slices) // 2
    latent = torch.randn(2, len(slices), settings.latent, generator=generator, device=slices.device)
    style, second = (
        torch.cat([artist.mapping(z[:half]), artist.encoder(o[half:])])
        for z, o in zip(latent, (others, others.roll(1, 0)), strict=True)
    )
    made, otherwise = artist.generator(slices, style), artist.generator(slices, second).detach()
    held = {name: weight.detach() for name, weight in judge.named_parameters()}
    adversarial = functional.softplus(-functional_call(judge, held, (made,))).mean()
    found_again = (artist.encoder(made) - style).abs().mean()
    left = (1 - players.artist.steps / settings.training_steps).clamp_min(0)
    diversity = -left * (made - otherwise).abs().mean()
    cycle = (artist.generator(made, artist.encoder(slices)) - slices).abs().mean()
    return (
        adversarial
        + settings.style_weight * found_again
        + settings.diversity * diversity
        + settings.cycle * cycle
        + _judged(judge, slices, made.detach(), settings.gradient)
    )


def _judged(judge: nn.Module, real: Tensor, made: Tensor, gradient: float) -> Tensor:
    """The judge's loss, and its squared gradient at real slices (R1)."""
    real = real.detach().requires_grad_()
    scores = judge(real)
    (slope,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
    told_apart = functional.softplus(-scores).mean() + functional.softplus(judge(made)).mean()
    return told_apart + gradient / 2 * slope.square().sum((1, 2, 3)).mean()


def one_domain_criterion(artist: Artist, sites: Sequence[Tensor]) -> float:
    """How far slices drawn in another site's style are from that site's, without a pair; smaller is better.

    Distance between histograms, plus the error of the way back, mean over neighbouring pairs of sites.

    Args:
        artist: in evaluation mode.
        sites: slices (B, 3, D, H) of each site, of people who are held out.
    """
    device, total = next(artist.parameters()).device, 0.0
    looks = [evenly_spread(slices, LOOKED_AT).to(device) for slices in sites]
    styles = [artist.encoder(slices).mean(0, keepdim=True) for slices in looks]
    for here in range(len(sites)):
        there = (here + 1) % len(sites)
        slices, goal = looks[here], looks[there]
        made = artist.generator(slices, styles[there].expand(len(slices), -1))
        back = artist.generator(made, styles[here].expand(len(slices), -1))
        inside = slices > 0
        distance = histogram_distance(made[inside].cpu(), goal[goal > 0].cpu())
        total += float(distance + (back - slices)[inside].abs().mean().cpu())
    return total / len(sites)
