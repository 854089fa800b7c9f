"""MISPEL's losses, Equations 2 to 6, on slices of the same people on M scanners."""

from __future__ import annotations

import torch
from torch import Tensor

from harmony_lite.papers.mispel.settings import MispelSettings

__all__ = ["coupling_loss", "harmonization_loss", "reconstruction_loss", "step_two_loss"]


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
    first, second = torch.triu_indices(scanners, scanners, 1, device=outputs.device)
    differences = _mean((outputs[:, first] - outputs[:, second]).abs(), brain)  # one for each pair
    return differences.sum() / scanners if pairs_over_scanners else differences.mean()


def step_two_loss(
    images: Tensor, outputs: Tensor, settings: MispelSettings, brain: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Equation 6, and its two terms before they are weighted: (loss, reconstruction, harmonization)."""
    reconstruction = reconstruction_loss(images, outputs, brain)
    harmonization = harmonization_loss(outputs, brain, pairs_over_scanners=settings.pairs_over_scanners)
    return settings.lambda3 * reconstruction + settings.lambda4 * harmonization, reconstruction, harmonization
