"""MISPEL's networks, losses and two steps (Eshaghzadeh Torbati et al., ICCV Workshops 2021): Equations 1 to 6.

Each of M scanners has an encoder, a U-Net that takes an axial slice apart into L images, its embeddings, and a decoder,
L numbers that weigh them together again (Equation 1). Step 1 of Algorithm 1 trains both on scans of the same people on
all scanners: what comes out is what went in, and the embeddings of different scanners are alike. Step 2 leaves the
encoders as they are and moves the M x L weights until the scanners' images agree.

In this file: settings; encoder and decoder; the losses; step 1; step 2 by gradient. Step 2 without a step is in
`harmony_lite.methods.decoder_optimum`, the method that is made of it all in `harmony_lite.methods.mispel`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from harmony_lite.training import History, train

__all__ = [
    "VARIANTS", "Encoder", "MispelSettings", "PairedSlices", "Units", "coupling_loss", "embeddings_of", "fit_decoders",
    "harmonization_loss", "learn_embeddings", "reconstruction_loss", "step_two_loss",
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
        rows = self.weights[:, None] @ embeddings.flatten(3)  # (M, 1, L) @ (B, M, L, H W)
        images = rows[:, :, 0].unflatten(-1, embeddings.shape[-2:])
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
            which scanners do not have in common: 0 where they agree, (M - 1) / M where they have nothing in common but
            the mean.

    >>> z = torch.zeros(1, 2, 1, 1, 2)
    >>> z[0, 0] = torch.tensor([[1.0, 3.0]])
    >>> float(coupling_loss(z)), round(float(coupling_loss(z, scale_free=True)), 4)
    (1.25, 0.8333)
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
    first, second = torch.combinations(torch.arange(scanners, device=outputs.device)).T
    differences = _mean((outputs[:, first] - outputs[:, second]).abs(), brain)  # one for each pair
    return differences.sum() / scanners if pairs_over_scanners else differences.mean()


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
