"""Style transfer of Liu et al. (2021): a comparator of HAIL and of Harmonizing Flows. All sites are one domain.

Source: M. Liu, P. Maiti, S. Thomopoulos, A. Zhu, Y. Chai, H. Kim, N. Jahanshad, "Style transfer using generative
adversarial networks for multi-site MRI harmonization", MICCAI 2021: StarGAN v2 (Y. Choi, Y. Uh, J. Yoo, J.-W. Ha,
CVPR 2020) with one domain. A generator draws a scan's anatomy in the style that an encoder reads from another scan.

Three adjacent slices are three channels, and each slice is the mean of its three appearances, as in the paper. The
paper averages over three orientations; here slices are axial. In the profile `quick` the networks are small and trained
for minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.optim import Adam

from harmony_lite.cohort import Needs, Scans, Unpaired
from harmony_lite.images.checks import check_volumes
from harmony_lite.images.normalize import foreground, pad_to_multiple, percentiles, subject_percentile
from harmony_lite.methods.protocol import Harmonizer, Shipping, check_tensors
from harmony_lite.methods.trained.cyclegan import histogram_distance
from harmony_lite.nets.averaged import Averaged
from harmony_lite.nets.draws import evenly_spread, first_weights, held_out, mirrored_batch
from harmony_lite.profiles import sized
from harmony_lite.training import CURVE_POINTS, History, train

__all__ = ["SIZES", "Artist", "StyleTransfer", "StyleTransferSettings", "neighbours", "players_loss", "unstacked"]

ADJACENT = 3  # slices that are shown together
SLOPE = 0.2  # of the leaky ReLU, as in StarGAN v2
LOOKED_AT = 32  # slices of each site held out, at each validation
HALVED = 4  # by which a slice's sides have to be divisible

# ---------------------------------------------------------------------------------------------------------- settings


@dataclass(frozen=True)
class StyleTransferSettings:
    """The networks and their training; numbers of the paper where it prints them, else of StarGAN v2.

    Attributes:
        width: channels at full resolution, doubled at each of two halvings.
        style: numbers of a style.
        latent: numbers from which the mapping network draws a style.
        learning_rate: of Adam; the mapping network's is a hundredth.
        training_steps: of `batch` slices.
        batch: slices.
        cycle: weight of the way back.
        style_weight: weight of finding the style again.
        diversity: weight of two styles' difference; it falls to 0 along the training.
        gradient: weight of the discriminator's squared gradient at real slices (R1).
        decay: of the moving average of the weights.
        validation_share: of the people, held out to choose the best weights.
    """

    width: int = 64
    style: int = 64
    latent: int = 16
    learning_rate: float = 1e-4
    training_steps: int = 200_000
    batch: int = 4
    cycle: float = 100.0
    style_weight: float = 1.0
    diversity: float = 1.0
    gradient: float = 1.0
    decay: float = 0.999
    validation_share: float = 0.125


SIZES = {
    # so few steps want more than the printed learning rate, as CycleGAN's do
    "quick": StyleTransferSettings(width=8, style=16, learning_rate=4e-4, training_steps=700, decay=0.99),
    "gpu": StyleTransferSettings(width=32, learning_rate=2e-4, training_steps=6000, batch=8, decay=0.995),
    "full": StyleTransferSettings(),
    "tiny": StyleTransferSettings(width=2, style=3, latent=2, training_steps=20, batch=2, decay=0.9),
}

# ------------------------------------------------------------------------------------------------------------ layers


class _Styled(nn.Module):
    """Instance normalization whose gain and offset a style says (AdaIN); without a style, learned ones."""

    def __init__(self, channels: int, style: int) -> None:
        super().__init__()
        self.normalize = nn.InstanceNorm2d(channels, affine=not style)
        self.from_style = nn.Linear(style, 2 * channels) if style else None

    def forward(self, x: Tensor, style: Tensor | None) -> Tensor:
        x = self.normalize(x)
        if self.from_style is None:
            return x
        gain, offset = self.from_style(style)[..., None, None].chunk(2, 1)
        return (1 + gain) * x + offset


class _Residual(nn.Module):
    """Twice a normalization, leaky ReLU and a convolution, and the input; halved, kept or doubled in size."""

    def __init__(self, inputs: int, outputs: int, *, style: int = 0, resize: str = "", normalized: bool = True) -> None:
        super().__init__()
        self.resize = resize
        self.normalize = nn.ModuleList(
            _Styled(channels, style) if normalized else nn.Identity() for channels in (inputs, outputs)
        )
        self.convolutions = nn.ModuleList(nn.Conv2d(a, outputs, 3, padding=1) for a in (inputs, outputs))
        self.beside = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, style: Tensor | None = None) -> Tensor:
        y = x
        for position, (normalize, convolution) in enumerate(zip(self.normalize, self.convolutions, strict=True)):
            y = normalize(y, style) if isinstance(normalize, _Styled) else y
            y = functional.leaky_relu(y, SLOPE)
            if position == 0:
                x, y = (self._resized(part) for part in (x, y))
            y = convolution(y)
        return (self.beside(x) + y) / 2**0.5  # of unit variance, as StarGAN v2 has it

    def _resized(self, x: Tensor) -> Tensor:
        if self.resize == "halve":
            return functional.avg_pool2d(x, 2)
        return functional.interpolate(x, scale_factor=2, mode="nearest") if self.resize == "double" else x


class _Generator(nn.Module):
    """Three slices (B, 3, H, W) and a style to three slices; what it draws is added to the slices and begins at 0.

    That last is ours, as in our CycleGAN: a small generator would spend its short training on learning to copy.
    """

    def __init__(self, settings: StyleTransferSettings) -> None:
        super().__init__()
        w, style = settings.width, settings.style
        self.first = nn.Conv2d(ADJACENT, w, 3, padding=1)
        self.down = nn.Sequential(
            _Residual(w, 2 * w, resize="halve"), _Residual(2 * w, 4 * w, resize="halve"), _Residual(4 * w, 4 * w)
        )
        self.up = nn.ModuleList(
            [
                _Residual(4 * w, 4 * w, style=style),
                _Residual(4 * w, 2 * w, style=style, resize="double"),
                _Residual(2 * w, w, style=style, resize="double"),
            ]
        )
        self.last = nn.Conv2d(w, ADJACENT, 1)
        for weight in self.last.parameters():
            nn.init.zeros_(weight)

    def forward(self, slices: Tensor, style: Tensor) -> Tensor:
        x = self.down(self.first(slices))
        for block in self.up:
            x = block(x, style)
        return slices + self.last(functional.leaky_relu(x, SLOPE))


def _reader(settings: StyleTransferSettings, outputs: int) -> nn.Sequential:
    """Three slices to so many numbers: a style, or the score of a discriminator."""
    w = settings.width
    return nn.Sequential(
        nn.Conv2d(ADJACENT, w, 3, padding=1),
        *(_Residual(a, b, resize="halve", normalized=False) for a, b in ((w, 2 * w), (2 * w, 4 * w), (4 * w, 4 * w))),
        nn.LeakyReLU(SLOPE),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * w, outputs),
    )


class Artist(nn.Module):
    """What is kept of a training: the generator, the encoder that reads a style, the mapping that draws one."""

    def __init__(self, settings: StyleTransferSettings) -> None:
        super().__init__()
        self.generator, self.encoder = _Generator(settings), _reader(settings, settings.style)
        hidden = 4 * settings.style
        self.mapping = nn.Sequential(
            nn.Linear(settings.latent, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, settings.style),
        )  # fmt: skip


class _Players(nn.Module):
    """Both players, and the moving average of the first, so that one optimizer and one checkpoint hold them all."""

    def __init__(self, settings: StyleTransferSettings) -> None:
        super().__init__()
        self.artist, self.judge = Averaged(Artist(settings), settings.decay), _reader(settings, 1)


# -------------------------------------------------------------------------------------------------------------- loss


def players_loss(
    players: _Players, slices: Tensor, others: Tensor, settings: StyleTransferSettings, generator: torch.Generator
) -> Tensor:
    """Losses of StarGAN v2 with one domain: adversarial, style, diversity, cycle, and the discriminator's own.

    Half of the styles are drawn by the mapping network, half are read from other slices. One sum serves both players,
    as in our CycleGAN: each looks at the other's weights as they are held.

    Args:
        players: in training mode.
        slices: (B, 3, H, W), to be drawn in another style.
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
    real = slices.detach().requires_grad_()
    scores = judge(real)
    (slope,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
    judged = functional.softplus(-scores).mean() + functional.softplus(judge(made.detach())).mean()
    judged = judged + settings.gradient / 2 * slope.square().sum((1, 2, 3)).mean()
    return (
        adversarial
        + settings.style_weight * found_again
        + settings.diversity * diversity
        + settings.cycle * cycle
        + judged
    )


# ----------------------------------------------------------------------------------------------------------- slices


def neighbours(volumes: Tensor) -> Tensor:
    """Each axial slice with the one below and the one above: (N, 1, D, H, W) to (N, W, 3, D, H); ends are repeated.

    >>> neighbours(torch.arange(3.0).reshape(1, 1, 1, 1, 3)).flatten(2).tolist()
    [[[0.0, 0.0, 1.0], [0.0, 1.0, 2.0], [1.0, 2.0, 2.0]]]
    """
    slices = volumes[:, 0].movedim(-1, 1)  # (N, W, D, H)
    return torch.stack(
        [torch.cat([slices[:, :1], slices[:, :-1]], 1), slices, torch.cat([slices[:, 1:], slices[:, -1:]], 1)], 2
    )


def unstacked(stacks: Tensor) -> Tensor:
    """Every slice as the mean of its appearances: (W, 3, D, H) to (1, 1, D, H, W).

    >>> unstacked(neighbours(torch.arange(3.0).reshape(1, 1, 1, 1, 3))[0]).flatten().tolist()
    [0.0, 1.0, 2.0]
    """
    below, own, above = stacks.unbind(1)  # of each stack
    total, count = own.clone(), torch.ones(len(own), 1, 1, device=own.device)
    total[1:] += above[:-1]
    total[:-1] += below[1:]
    count[1:] += 1
    count[:-1] += 1
    return (total / count).movedim(0, -1)[None, None]


# -------------------------------------------------------------------------------------------------------- the method


class StyleTransfer(Harmonizer):
    """A generator that draws a scan's slices in the style of one reference scan; all sites are one domain.

    Scans are scaled to [0, 1] each by its own 1st and 99th percentiles; the result takes the reference's units, and is
    0 outside the mask. A reference's style is the mean over its slices. Without a reference, the target is the first
    site of the fit, by one training person's scan.
    """

    name: ClassVar[str] = "style-transfer"
    needs: ClassVar[Needs] = Needs.UNPAIRED
    variants: ClassVar[tuple[str, ...]] = ("sites",)
    shipping: ClassVar[Shipping | None] = Shipping(target="hail_a")
    takes_reference: ClassVar[bool] = True
    is_trained: ClassVar[bool] = True

    def __init__(self, settings: StyleTransferSettings | None = None) -> None:
        self.settings = settings or StyleTransferSettings()
        self.histories: dict[str, History] = {}
        self._artist: Artist | None = None
        self._style = torch.zeros(0)  # of the reference, (S,)
        self._ends = (0.0, 1.0)  # what 0 and 1 become, in its units

    @classmethod
    def from_variant(cls, variant: str) -> Self:
        """`sites`: trained on those of HAIL that its phase 2 sees."""
        return cls(sized(SIZES))

    # ------------------------------------------------------------------------------------------------------------ fit

    def fit(
        self,
        view: Unpaired,
        *,
        generator: torch.Generator | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = True,
    ) -> Self:
        """Train on slices of all sites together. The last people of each are held out, and choose the best weights.

        Args:
            view: sites with different people; the first one is the usual target.
            generator: of first weights, batches and latent numbers; seed 0 when None.
            checkpoint: file from which an interrupted training goes on.
            progress: show a bar.

        Raises:
            ValueError: scans that are not volumes, not finite, without contrast or on different grids.
        """
        self._artist, history = self._trained(view, generator or torch.Generator().manual_seed(0), checkpoint, progress)
        self.histories = {"players": history}
        self._take_reference(Scans(view.target.images[:1], view.target.mask[:1]))
        return self

    def fingerprint(self, view: Unpaired) -> float:
        """Loss, mean over the first three batches."""
        _, history = self._trained(view, torch.Generator().manual_seed(0), None, False, steps=3)
        return sum(history.losses) / len(history.losses)

    def _trained(
        self,
        view: Unpaired,
        generator: torch.Generator,
        checkpoint: str | Path | None,
        progress: bool,
        *,
        steps: int | None = None,
    ) -> tuple[Artist, History]:
        settings, training, validation = self.settings, [], []
        for name, scans in {"the target": view.target, **view.sources}.items():
            check_volumes(scans.images, scans.mask, what=f"scans of {name}")
            people = len(scans.images)
            last = held_out(people, settings.validation_share) if people > 1 else slice(people, people)
            training.append(self._stacks(Scans(scans.images[: last.start], scans.mask[: last.start])))
            if people > 1:
                validation.append(self._stacks(Scans(scans.images[last], scans.mask[last])))
        if len({part.shape[1:] for part in training}) > 1:
            raise ValueError("scans: found sites on different grids, wanted one grid")
        players = first_weights(lambda: _Players(settings), generator)
        artist = players.artist.network
        optimizer = Adam(
            [
                {"params": [*artist.generator.parameters(), *artist.encoder.parameters(), *players.judge.parameters()]},
                {"params": artist.mapping.parameters(), "lr": settings.learning_rate / 100},
            ],
            lr=settings.learning_rate,
            betas=(0.0, 0.99),
            weight_decay=1e-4,
        )

        def draw_batch(data: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            return tuple(mirrored_batch([data], settings.batch, generator)[0] for _ in range(2))

        def batch_loss(model: _Players, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
            model.artist.follow()
            return players_loss(model, *batch, settings, generator)

        def validate(model: _Players) -> float:
            return one_domain_criterion(model.artist.average, validation)

        history = train(
            players.train(), optimizer, batch_loss, draw_batch, data=torch.cat(training),
            steps=steps or settings.training_steps, generator=generator,
            validate=validate if len(validation) == len(training) else None,
            validate_every=max(1, settings.training_steps // CURVE_POINTS),
            unit="histogram distance and cycle error", checkpoint=checkpoint, recipe=vars(settings), progress=progress,
        )  # fmt: skip
        return players.artist.average.eval().cpu(), history

    def _stacks(self, scans: Scans) -> Tensor:
        """Slices with brain, each with its neighbours: (B, 3, D, H), sides that can be halved twice."""
        scaled = subject_percentile(scans.images.float(), scans.mask) * scans.mask
        return pad_to_multiple(neighbours(scaled)[scans.mask[:, 0].any((1, 2))], HALVED)[0]

    # ------------------------------------------------------------------------------------------------------ harmonize

    def _fitted_to(self, reference: Tensor) -> Self:
        self.check_fitted()
        volume = reference if reference.ndim == 5 else reference[..., None]
        other = type(self)(self.settings)
        other._artist = self._artist
        other._take_reference(Scans(volume, foreground(volume)))
        return other

    @torch.no_grad()
    def _take_reference(self, reference: Scans) -> None:
        stacks = self._stacks(reference)
        encoder = self._artist.encoder.to(stacks.device)
        self._style = torch.cat([encoder(part) for part in stacks.split(32)]).mean(0).cpu()
        self._ends = tuple(float(end) for end in percentiles(reference.images.float(), reference.mask))

    def _harmonize(self, images: Tensor, mask: Tensor, scanner: str | None) -> Tensor:
        (low, high), generator = self._ends, self._artist.generator.to(images.device)
        style = self._style.to(images.device)
        scaled = subject_percentile(images, mask) * mask
        found = []
        for stacks in neighbours(scaled):
            padded, crop = pad_to_multiple(stacks, HALVED)
            drawn = [generator(part, style.expand(len(part), -1)) for part in padded.split(32)]
            found.append(unstacked(crop(torch.cat(drawn))))
        return (low + torch.cat(found) * (high - low)) * mask

    # ---------------------------------------------------------------------------------------------------------- state

    @property
    def is_fitted(self) -> bool:
        """Whether there are networks."""
        return self._artist is not None

    def state(self) -> dict[str, Tensor]:
        """`artist/NAME` of the networks; `style` (S,) and `ends` (2,) of the usual reference."""
        self.check_fitted()
        named = {f"artist/{name}": value for name, value in self._artist.state_dict().items()}
        return {**named, "style": self._style.clone(), "ends": torch.tensor(self._ends)}

    def load_state(self, state: dict[str, Tensor]) -> Self:
        """Take over what an earlier fit learned; the settings have to be those of that fit.

        Raises:
            ValueError: other tensors than networks of these settings have.
        """
        artist = Artist(self.settings)
        wanted = {f"artist/{name}": value for name, value in artist.state_dict().items()}
        check_tensors(self.name, state, wanted, {"style": 1, "ends": 1})
        artist.load_state_dict({name: state[f"artist/{name}"] for name in artist.state_dict()})
        self._artist, self._style = artist.eval(), state["style"]
        self._ends = tuple(state["ends"].tolist())
        return self


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
