"""MISPEL: embeddings that hold the anatomy, decoders that agree on a look.

Source: M. Eshaghzadeh Torbati, D. L. Tudorascu, D. S. Minhas, P. Maillard, C. S. DeCarli, S. J. Hwang, "Multi-scanner
Harmonization of Paired Neuroimaging Data via Structure Preserving Embedding Learning", ICCV Workshops 2021. Each of M
scanners has an encoder, a U-Net that takes an axial slice apart into L images, its embeddings, and a decoder, L numbers
that weigh them together again (Equation 1). Step 1 trains both on scans of the same people on all scanners: what comes
out is what went in, and the embeddings of different scanners are alike. Step 2 leaves the encoders as they are and
moves the M x L weights until the scanners' images agree. No scanner is the target.

In this file: settings; encoder and decoder; the losses; step 1; step 2, by gradient and solved; the method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from harmony_lite.cohort import Needs, SeveralScanners
from harmony_lite.images.normalize import axial_slices, foreground
from harmony_lite.methods.base import Harmonizer, check_names, register
from harmony_lite.methods.bias_correction import without_field
from harmony_lite.methods.own_grid import model_grid
from harmony_lite.methods.template_grid import check_volumes
from harmony_lite.profiles import active
from harmony_lite.training import History, train

__all__ = [
    "VARIANTS", "Encoder", "Mispel", "MispelSettings", "PairedSlices", "Units", "coupling_loss", "embeddings_of",
    "fit_decoders", "harmonization_loss", "learn_embeddings", "reconstruction_loss", "solved_weights", "step_two_loss",
]  # fmt: skip

SLOPE = 0.3  # of LeakyReLU; the paper says "U-Net", the public code takes Keras' default


@dataclass(frozen=True)
class MispelSettings:
    """What the paper fixes, and where the variants depart from it.

    Attributes:
        width: channels of the U-Net at full resolution, doubled at each of two poolings; not printed, 32 in the public
            code.
        embeddings: L (section 4.2).
        lambda1: weight of reconstruction in step 1 (Equation 4).
        lambda2: weight of coupling in step 1.
        lambda3: weight of reconstruction in step 2 (Equation 6).
        lambda4: weight of harmonization in step 2.
        learning_rate: of Adam, in both steps.
        epochs: T1 and T2 of Algorithm 1.
        batch: slices.
        slices: axial positions of each person; the paper takes all.
        first_weights: standard deviation of the decoders' first weights; not printed, 0.05 in the public code.
        bias_correction: whether `fit` and `harmonize` run N4 first (section 4.1); False for scans that had it already.
        rectified: ReLU after the decoder, which Equation 1 does not have.
        pairs_over_scanners: the sum over pairs divided by M, where Equation 5 has their mean.
        scale_free: coupling as the share of the embeddings' variance that scanners do not have in common.
        brain_only: losses over the voxels that are brain on every scanner, and the brain's mean as the unit; the paper
            has the whole frame in both.
        solved: step 2 solved to its optimum instead of descended.
    """

    width: int = 32
    embeddings: int = 6
    lambda1: float = 1.0
    lambda2: float = 0.3
    lambda3: float = 1.0
    lambda4: float = 4.0
    learning_rate: float = 1e-3
    epochs: tuple[int, int] = (100, 100)
    batch: int = 4
    slices: int = 181
    first_weights: float = 0.05
    bias_correction: bool = True
    rectified: bool = False
    pairs_over_scanners: bool = False
    scale_free: bool = False
    brain_only: bool = False
    solved: bool = False


VARIANTS: dict[str, dict[str, Any]] = {
    "ours": {"lambda2": 10.0, "scale_free": True, "brain_only": True, "solved": True},
    "paper": {},
    # step 2 of the public code never gets its own weights: reconstruction keeps lambda1 and harmonization has 0
    "released": {"lambda4": 0.0, "rectified": True, "pairs_over_scanners": True},
}


# -------------------------------------------------------------------------------------------------- encoder and decoder


class Encoder(nn.Module):
    """Enc_i: slices (B, 1, H, W) to embeddings (B, L, H, W), by a U-Net with two poolings.

    Sides that cannot be halved twice are filled up with 0 meanwhile.

    >>> encoder = Encoder(width=32, embeddings=6)
    >>> sum(weight.numel() for weight in encoder.parameters())
    518854
    """

    def __init__(self, width: int, embeddings: int) -> None:
        super().__init__()
        self.first = _two_convolutions(1, width)
        self.second = _two_convolutions(width, 2 * width)
        self.bottom = _two_convolutions(2 * width, 4 * width)
        self.to_second = nn.Conv2d(4 * width, 2 * width, 3, padding=1)
        self.second_again = _two_convolutions(4 * width, 2 * width)
        self.to_first = nn.Conv2d(2 * width, width, 3, padding=1)
        self.first_again = _two_convolutions(2 * width, width)
        self.head = nn.Conv2d(width, embeddings, 3, padding=1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):  # Keras' first weights, as in the public code
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, slices: Tensor) -> Tensor:
        """Same height and width as the slices."""
        height, width = slices.shape[2:]
        full = self.first(functional.pad(slices, (0, -width % 4, 0, -height % 4)))
        half = self.second(functional.max_pool2d(full, 2))
        x = self.bottom(functional.max_pool2d(half, 2))
        x = self.to_second(functional.interpolate(x, scale_factor=2))  # nearest
        x = self.second_again(torch.cat([half, x], 1))
        x = self.to_first(functional.interpolate(x, scale_factor=2))
        x = self.first_again(torch.cat([full, x], 1))
        return functional.leaky_relu(self.head(x), SLOPE)[..., :height, :width]


def _two_convolutions(inputs: int, outputs: int) -> nn.Sequential:
    first, second = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
    return nn.Sequential(first, nn.LeakyReLU(SLOPE), second, nn.LeakyReLU(SLOPE))


class Units(nn.Module):
    """M encoders with their decoders; `weights` (M, L) are the paper's gamma.

    Args:
        scanners: M.
        settings: width, embeddings, first weights, ReLU.
    """

    def __init__(self, scanners: int, settings: MispelSettings) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(Encoder(settings.width, settings.embeddings) for _ in range(scanners))
        self.weights = nn.Parameter(settings.first_weights * torch.randn(scanners, settings.embeddings))
        self.rectified = settings.rectified
        self.encoders.to(memory_format=torch.channels_last)  # a quarter faster on a processor

    def embed(self, slices: Tensor) -> Tensor:
        """Z of slices (B, M, H, W), one of each scanner: (B, M, L, H, W)."""
        return torch.stack([encoder(slices[:, i, None]) for i, encoder in enumerate(self.encoders)], 1).contiguous()

    def decode(self, embeddings: Tensor) -> Tensor:
        """Equation 1: embeddings (B, M, L, H, W) to images (B, M, H, W), a weighted sum for each scanner."""
        images = (embeddings * self.weights[..., None, None]).sum(2)
        return images.relu() if self.rectified else images


# -------------------------------------------------------------------------------------------------------------- losses


def _mean(values: Tensor, brain: Tensor | None) -> Tensor:
    """Mean over slices and pixels of (B, ..., H, W), of all pixels or of those in `brain` (B, 1, H, W)."""
    if brain is None:
        return values.mean((0, -2, -1))
    inside = brain.to(values).reshape(len(brain), *[1] * (values.ndim - 3), *brain.shape[-2:])
    return (values * inside).sum((0, -2, -1)) / inside.sum().clamp_min(1)


def reconstruction_loss(images: Tensor, outputs: Tensor, brain: Tensor | None = None) -> Tensor:
    """Equation 2: mean absolute error of images (B, M, H, W), summed over scanners.

    Args:
        images: what went in, any units.
        outputs: what came out, same shape.
        brain: bool (B, 1, H, W): pixels that count; all of them where absent.
    """
    return _mean((images - outputs).abs(), brain).sum()


def coupling_loss(embeddings: Tensor, brain: Tensor | None = None, *, scale_free: bool = False) -> Tensor:
    """Equation 3: variance of embeddings (B, M, L, H, W) across scanners, mean over embeddings and pixels.

    Nothing there fixes the embeddings' scale: divided by c, with weights times c, they reconstruct the same image at
    1/c^2 of this loss.

    Args:
        embeddings: of the same slices on M scanners.
        brain: bool (B, 1, H, W): pixels that count; all of them where absent.
        scale_free: divide by the embedding's own variance over scanners, slices and pixels. That leaves the share
            which scanners do not have in common: 0 where they agree, 1 where each goes its own way.

    >>> z = torch.zeros(1, 2, 1, 1, 2)
    >>> z[0, 0] = torch.tensor([1.0, 3.0])
    >>> float(coupling_loss(z)), float(coupling_loss(z, scale_free=True))
    (1.25, 0.8333333730697632)
    """
    across = _mean((embeddings - embeddings.mean(1, keepdim=True)).square().mean(1), brain)  # (L,)
    if not scale_free:
        return across.mean()
    mean = _mean(embeddings.mean(1), brain)
    own = _mean(embeddings.square().mean(1), brain) - mean.square()
    return (across / own.clamp_min(1e-8)).mean()


def harmonization_loss(outputs: Tensor, brain: Tensor | None = None, *, pairs_over_scanners: bool = False) -> Tensor:
    """Equation 5: mean absolute difference of every two scanners' outputs (B, M, H, W), mean over pairs.

    Args:
        outputs: of the decoders.
        brain: bool (B, 1, H, W): pixels that count; all of them where absent.
        pairs_over_scanners: divide the sum over pairs by M, as the public code does: (M - 1) / 2 times as much.
    """
    scanners = outputs.shape[1]
    pairs = list(combinations(range(scanners), 2))
    total = sum(_mean((outputs[:, i] - outputs[:, k]).abs(), brain) for i, k in pairs)
    return total / (scanners if pairs_over_scanners else len(pairs))


def step_two_loss(
    images: Tensor, outputs: Tensor, settings: MispelSettings, brain: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Equation 6, and its two terms before they are weighted: (loss, reconstruction, harmonization)."""
    reconstruction = reconstruction_loss(images, outputs, brain)
    harmonization = harmonization_loss(outputs, brain, pairs_over_scanners=settings.pairs_over_scanners)
    return settings.lambda3 * reconstruction + settings.lambda4 * harmonization, reconstruction, harmonization


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
    with torch.random.fork_rng():
        torch.manual_seed(generator.initial_seed())  # first weights are drawn from torch's global state
        units = Units(len(slices.scanners), settings)

    def batch_loss(units: Units, batch: tuple[Tensor, Tensor | None], _: torch.Generator) -> Tensor:
        images, brain = batch
        embeddings = units.embed(images)
        reconstruction = reconstruction_loss(images, units.decode(embeddings), brain)
        coupling = coupling_loss(embeddings, brain, scale_free=settings.scale_free)
        return settings.lambda1 * reconstruction + settings.lambda2 * coupling  # Equation 4

    def draw_batch(generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        return _taken(_drawn(slices, settings, generator), slices.images, slices.counted(settings))

    history = train(
        units.train(), Adam(units.parameters(), lr=settings.learning_rate), batch_loss, draw_batch,
        steps=steps or _steps(slices, settings, 0), generator=generator,
        checkpoint=checkpoint, recipe=vars(settings), progress=progress,
    )  # fmt: skip
    return units.eval(), history


def _steps(slices: PairedSlices, settings: MispelSettings, step: int) -> int:
    return settings.epochs[step] * -(-len(slices.images) // settings.batch)


def _drawn(slices: PairedSlices, settings: MispelSettings, generator: torch.Generator) -> Tensor:
    return torch.randint(len(slices.images), (settings.batch,), generator=generator)


def _taken(chosen: Tensor, *tensors: Tensor | None) -> tuple[Tensor | None, ...]:
    return tuple(None if tensor is None else tensor[chosen] for tensor in tensors)


# -------------------------------------------------------------------------------------------------------------- step 2


@torch.no_grad()
def embeddings_of(units: Units, images: Tensor, batch: int = 16) -> Tensor:
    """Z of many slices (N, M, H, W), some at a time: (N, M, L, H, W)."""
    device = units.weights.device
    return torch.cat([units.embed(part.to(device)).cpu() for part in images.split(batch)])


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

    def draw_batch(generator: torch.Generator) -> tuple[Tensor | None, ...]:
        chosen = _drawn(slices, settings, generator)
        return _taken(chosen, slices.images, slices.counted(settings), embeddings)

    units.encoders.requires_grad_(False)
    try:
        return train(
            units.eval(), Adam([units.weights], lr=settings.learning_rate), batch_loss, draw_batch,
            steps=steps or _steps(slices, settings, 1), generator=generator,
            checkpoint=checkpoint, recipe=vars(settings), progress=progress,
        )  # fmt: skip
    finally:
        units.encoders.requires_grad_(True)


def solved_weights(
    embeddings: Tensor,
    images: Tensor,
    settings: MispelSettings,
    *,
    absolute: bool = True,
    rounds: int = 60,
) -> Tensor:
    r"""The optimum of Equation 6 over some pixels: step 2 without a step, since only M x L numbers are sought.

    $\sum_i \lambda_3 |x_i - z_i \gamma_i| + \lambda_4 \frac{2}{M (M-1)} \sum_{i<k} |z_i \gamma_i - z_k \gamma_k|$ is
    linear inside absolute values. It is solved as a series of weighted least-squares problems in which each residual
    has the weight $1 / |r|$ of the round before (iteratively reweighted least squares: Schlossmacher, JASA 68, 1973).

    Args:
        embeddings: (P, M, L) of P pixels.
        images: (P, M).
        settings: weights of the two terms; its ReLU is left out.
        absolute: False squares the differences: the least-squares optimum, one round.
        rounds: of reweighting.

    Returns:
        (M, L), the best of all rounds.

    Raises:
        ValueError: shapes that do not fit, fewer pixels than numbers sought.
    """
    pixels, scanners, count = embeddings.shape
    if images.shape != (pixels, scanners):
        raise ValueError(f"images: found shape {tuple(images.shape)}, wanted {(pixels, scanners)}")
    if pixels < scanners * count:
        raise ValueError(f"embeddings: found {pixels} pixels, wanted at least {scanners * count}, the numbers sought")
    z, x = embeddings.double().permute(1, 2, 0), images.double().T  # (M, L, P), (M, P)
    divisor = scanners if settings.pairs_over_scanners else scanners * (scanners - 1) / 2
    between = settings.lambda4 / divisor
    pairs = list(combinations(range(scanners), 2))
    weights, best, smallest = torch.zeros(scanners, count), None, float("inf")
    own, pair = torch.ones_like(x), torch.ones(len(pairs), pixels, dtype=x.dtype)  # reweighting
    for _ in range(rounds if absolute else 1):
        weights = _least_squares(z, x, settings.lambda3 * own, between * pair, pairs)
        outputs = torch.einsum("mlp,ml->mp", z, weights)
        residuals = (x - outputs).abs()
        differences = torch.stack([(outputs[i] - outputs[k]).abs() for i, k in pairs])
        loss = float(settings.lambda3 * residuals.mean(1).sum() + between * differences.mean(1).sum())
        if loss < smallest or not absolute:
            best, smallest = weights, loss
        floor = 1e-4 * x.abs().mean()  # a residual of 0 would take all the weight
        own, pair = 1 / residuals.clamp_min(floor), 1 / differences.clamp_min(floor)
    return best.float()


def _least_squares(z: Tensor, x: Tensor, own: Tensor, between: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Gamma (M, L) that minimizes the weighted squares of x - z gamma and of the differences of pairs."""
    scanners, count, _ = z.shape
    left, right = z.new_zeros(scanners, count, scanners, count), z.new_zeros(scanners, count)
    for i in range(scanners):
        weighted = z[i] * own[i]
        left[i, :, i] += weighted @ z[i].T
        right[i] = weighted @ x[i]
    for (i, k), weight in zip(pairs, between, strict=True):
        for one, other in ((i, k), (k, i)):
            weighted = z[one] * weight
            left[one, :, one] += weighted @ z[one].T
            left[one, :, other] -= weighted @ z[other].T
    left = left.reshape(scanners * count, -1)
    left.diagonal().mul_(1 + 1e-10)  # embeddings may be alike
    return torch.linalg.lstsq(left, right.reshape(-1, 1), driver="gelsd").solution.reshape(scanners, count)


def _pixels(units: Units, slices: PairedSlices, generator: torch.Generator, most: int) -> tuple[Tensor, Tensor]:
    """Embeddings (P, M, L) and images (P, M) of brain pixels drawn from all slices."""
    found = []
    for images, brain in zip(slices.images.split(16), slices.brain.split(16), strict=True):
        inside = brain[:, 0]
        embeddings = embeddings_of(units, images).permute(0, 3, 4, 1, 2)[inside]
        kept = torch.randperm(len(embeddings), generator=generator)[: -(-most * len(images) // len(slices.images))]
        found.append((embeddings[kept], images.permute(0, 2, 3, 1)[inside][kept]))
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))


# ---------------------------------------------------------------------------------------------------------- the method


@register
class Mispel(Harmonizer):
    """An encoder and a decoder for each named scanner; `harmonize(images, scanner=NAME)` takes those of that name.

    Source: see the module. Volumes in and out, one axial slice after another: N4, the mask, division by the mean
    (section 4.1), then Dec_i(Enc_i(X)). A decoder can go a little below 0.

    The variants: `paper` as printed; `released` with ReLU after the decoder, and a step 2 that only reconstructs, as
    the public code's does; `ours` with coupling that does not depend on the embeddings' scale, losses over the brain,
    and a step 2 that is solved.
    """

    name: ClassVar[str] = "mispel"
    needs: ClassVar[Needs] = Needs.SEVERAL_SCANNERS
    variants: ClassVar[tuple[str, ...]] = tuple(VARIANTS)
    shipped_target: ClassVar[str] = "mispel_ge"
    is_trained: ClassVar[bool] = True

    def __init__(self, settings: MispelSettings | None = None) -> None:
        self.settings = settings or MispelSettings()
        self.histories: dict[str, History] = {}  # "step 1", "step 2"
        self.units: Units | None = None
        self.scanners: tuple[str, ...] = ()
        self._unit = 1.0  # what 1 becomes: the mean by which scans of the first scanner were divided
        self._grid: tuple[int, ...] = ()  # (D, H, W) of the training scans

    @classmethod
    def from_variant(cls, variant: str) -> Self:
        """One of `VARIANTS`, as large and as long as the active profile says."""
        profile = active()
        return cls(
            MispelSettings(
                width=profile.mispel_width,
                epochs=profile.mispel_epochs,
                slices=profile.slices,
                **VARIANTS[variant],
            )
        )

    @property
    def on_template_grid(self) -> bool:
        """True after training on the model's grid; scans of one's own have to lie on the grid of their training."""
        return not self._grid or self._grid == model_grid()[0]

    def on_corrected(self) -> Self:
        """The same method for scans that have been through N4 already."""
        other = type(self)(replace(self.settings, bias_correction=False))
        return other.load_state(self.state()) if self.units is not None else other

    # --------------------------------------------------------------------------------------------------------- images

    def divided(self, images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Section 4.1: N4, the mask, division by the mean.

        Args:
            images: (N, 1, D, H, W), scanner units.
            mask: bool, same shape: the brain.

        Returns:
            What the encoders take, same shape, and the divisors (N,): the mean of all voxels, zeros around the brain
            included, or that of the brain (`brain_only`).
        """
        images = images.detach().float()
        if self.settings.bias_correction:
            images = without_field(images.clamp_min(0), mask)
        images = images * mask
        count = mask.flatten(1).sum(1) if self.settings.brain_only else images[0].numel()
        divisors = images.flatten(1).sum(1) / count
        if bool((divisors <= 0).any()):
            raise ValueError(f"images: found a mean of {float(divisors.min()):g}, wanted a positive one to divide by")
        return images / divisors[:, None, None, None, None], divisors

    def slices_of(self, view: SeveralScanners) -> PairedSlices:
        """Evenly spaced axial slices of each person on every scanner, as `fit` takes them.

        Raises:
            ValueError: fewer than two scanners, unequal numbers of people, scans on different grids.
        """
        return self._prepared(view)[0]

    def _prepared(self, view: SeveralScanners) -> tuple[PairedSlices, float]:
        """The slices, and the mean divisor of the first scanner."""
        _check_pairs(view)
        brain = torch.stack([scans.mask for scans in view.scanners.values()]).all(0)  # on every scanner
        positions, images, unit = None, [], None
        for scans in view.scanners.values():
            divided, divisors = self.divided(scans.images, scans.mask)
            taken, positions = axial_slices(divided, self.settings.slices, mask=brain, positions=positions)
            images.append(taken)
            unit = float(divisors.mean()) if unit is None else unit
        inside = axial_slices(brain, self.settings.slices, positions=positions)[0]
        return PairedSlices(torch.cat(images, 1), inside, tuple(view.scanners)), unit

    # ------------------------------------------------------------------------------------------------------------ fit

    def fit(
        self,
        view: SeveralScanners,
        *,
        generator: torch.Generator | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = True,
    ) -> Self:
        """Both steps of Algorithm 1.

        Args:
            view: the same people, registered to each other, on two scanners or more; the first gives the units.
            generator: of first weights and batches; seed 0 when None.
            checkpoint: file from which an interrupted training goes on; each step adds its name to it.
            progress: show a bar for each step.

        Raises:
            ValueError: one scanner only, unequal numbers of people, scans on different grids, not finite, without
                contrast, or with fewer heights than slices are wanted.
        """
        generator = generator or torch.Generator().manual_seed(0)
        slices, self._unit = self._prepared(view)
        self._grid, self.scanners = tuple(next(iter(view.scanners.values())).images.shape[2:]), slices.scanners
        files = [
            None if checkpoint is None else Path(checkpoint).with_suffix(f".step{step}{Path(checkpoint).suffix}")
            for step in (1, 2)
        ]
        self.units, first = learn_embeddings(
            slices, self.settings, generator=generator, checkpoint=files[0], progress=progress
        )
        self.histories = {"step 1": first}
        if self.settings.solved:
            self.solve_step_two(slices)
        else:
            self.histories["step 2"] = fit_decoders(
                self.units, slices, self.settings, generator=generator, checkpoint=files[1], progress=progress
            )
        self.units.eval().cpu()
        return self

    def solve_step_two(self, slices: PairedSlices, *, absolute: bool = True, most: int = 100_000) -> Self:
        """Give the decoders the optimum of Equation 6 on brain pixels.

        Args:
            slices: of training people.
            absolute: False for the least-squares optimum.
            most: pixels to be drawn, seed 0.
        """
        pixels = _pixels(self.units, slices, torch.Generator().manual_seed(0), most)
        with torch.no_grad():
            self.units.weights.copy_(solved_weights(*pixels, self.settings, absolute=absolute))
        return self

    def first_steps(self, view: SeveralScanners) -> float:
        """Loss of step 1, mean over the first three batches."""
        slices = self.slices_of(view)
        generator = torch.Generator().manual_seed(0)
        _, history = learn_embeddings(slices, self.settings, generator=generator, progress=False, steps=3)
        return sum(history.losses) / len(history.losses)

    @property
    def history(self) -> History:
        """Both steps in a row."""
        losses = [loss for history in self.histories.values() for loss in history.losses]
        return History(losses, seconds=sum(history.seconds for history in self.histories.values()))

    # ------------------------------------------------------------------------------------------------------ harmonize

    @torch.no_grad()
    def harmonize(
        self,
        images: Tensor,
        *,
        reference: Tensor | None = None,
        scanner: str | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Bring volumes of a known scanner to the look that the scanners agreed on.

        Args:
            images: `(N, 1, D, H, W)` on the grid of the training scans, scanner units.
            reference: not used; there is no target.
            scanner: which encoder and decoder to take.
            mask: bool, same shape: the brain; the foreground where absent.

        Returns:
            Same shape, float32, 0 outside the mask, in the units of the fit's first scanner.

        Raises:
            ValueError: images that are not volumes, not finite or without contrast; another grid than that of the
                training scans; an unknown scanner or none; no weights.
        """
        check_volumes(images, mask)
        index = self._index(scanner)
        if tuple(images.shape[2:]) != self._grid:
            raise ValueError(
                f"images: found a grid of {tuple(images.shape[2:])} voxels, wanted {self._grid}, as the training scans"
            )
        mask = foreground(images.float()) if mask is None else mask
        divided, _ = self.divided(images, mask)
        units, result = self.units.to(images.device), torch.zeros_like(divided)
        for person, inside in enumerate(mask):
            heights = inside.flatten(0, 2).any(0).nonzero().squeeze(1)
            slices = divided[person, 0][..., heights].permute(2, 0, 1)[:, None]  # (B, 1, D, H)
            embeddings = torch.cat([units.encoders[index](part) for part in slices.split(32)])
            outputs = torch.einsum("blhw,l->bhw", embeddings, units.weights[index])
            result[person, 0][..., heights] = (outputs.relu() if units.rectified else outputs).permute(1, 2, 0)
        return result * mask * self._unit

    def check_scanner(self, scanner: str | None) -> None:
        """Refuse a scanner that there is no encoder for (ValueError)."""
        self._index(scanner)

    def _index(self, scanner: str | None) -> int:
        if self.units is None:
            raise ValueError(f"{self.name}: found no network, wanted `fit` or loaded weights")
        for name in (scanner, f"mispel_{scanner}"):
            if name in self.scanners:
                return self.scanners.index(name)
        known = ", ".join(self.scanners)
        raise ValueError(f"scanner: found {scanner!r}, wanted one that {self.name} was trained on: {known}")

    # ---------------------------------------------------------------------------------------------------------- state

    def state(self) -> dict[str, Tensor]:
        """`SCANNER/NAME` of each encoder, `SCANNER/weights` (L,) of each decoder, `unit` (1,), `grid` (3,)."""
        if self.units is None:
            raise ValueError(f"{self.name}: found no network, wanted `fit` or loaded weights")
        return {
            **_by_scanner(self.units, self.scanners),
            "unit": torch.tensor([self._unit]),
            "grid": torch.tensor(self._grid),
        }

    def load_state(self, state: dict[str, Tensor]) -> Self:
        """Take over what an earlier fit learned; the settings have to be those of that fit.

        Raises:
            ValueError: other tensors than encoders and decoders of these settings have.
        """
        scanners = tuple(dict.fromkeys(name.partition("/")[0] for name in state if "/" in name))
        units = Units(len(scanners), self.settings)
        expected = _by_scanner(units, scanners)
        check_names(self.name, state, {*expected, "unit", "grid"})
        for name, wanted in expected.items():
            if state[name].shape != wanted.shape:
                found = f"{name} of shape {tuple(state[name].shape)}"
                raise ValueError(f"{self.name}: found {found}, wanted {tuple(wanted.shape)}, as the settings say")
            with torch.no_grad():
                wanted.copy_(state[name])
        self.units, self.scanners = units.eval(), scanners
        self._unit, self._grid = float(state["unit"]), tuple(state["grid"].tolist())
        return self


def _by_scanner(units: Units, scanners: Sequence[str]) -> dict[str, Tensor]:
    """The tensors of `units` themselves, by scanner."""
    named = {}
    for scanner, encoder, weights in zip(scanners, units.encoders, units.weights, strict=True):
        named |= {f"{scanner}/{name}": value for name, value in encoder.state_dict().items()}
        named[f"{scanner}/weights"] = weights.detach()
    return named


def _check_pairs(view: SeveralScanners) -> None:
    """Refuse what is not the same people on several scanners, on one grid (ValueError)."""
    if len(view.scanners) < 2:
        raise ValueError(f"scanners: found {', '.join(view.scanners) or 'none'}, wanted at least two")
    for name, scans in view.scanners.items():
        check_volumes(scans.images, scans.mask, f"scans of {name}")
    first, *others = view.scanners
    shape = view.scanners[first].images.shape
    for name in others:
        found = view.scanners[name].images.shape
        if found[0] != shape[0]:
            raise ValueError(
                f"pairs: found {found[0]} people on {name} and {shape[0]} on {first}, wanted the same people on both"
            )
        if found != shape:
            raise ValueError(
                f"pairs: found a grid of {tuple(found[2:])} voxels on {name} and {tuple(shape[2:])} on {first}, "
                "wanted scans registered to each other on one grid"
            )
