"""Equation 4: slices of the target get more likely, slices that look otherwise less likely.

Source: F. Beizaee et al., "Harmonizing Flows", 2023, section 3.1. A flow trained on likelihood alone prefers flat and
smooth slices to the target's own; the guiding term teaches it the look.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harmony_lite.papers.harmonizing_flows.augmentation import GUIDING, augmented, dissimilarity
from harmony_lite.papers.harmonizing_flows.flow import GuidedFlow, bits_per_dimension
from harmony_lite.papers.harmonizing_flows.settings import FlowSettings

__all__ = ["guided_batch", "guided_loss", "guided_step"]


def guided_batch(levels: Tensor, settings: FlowSettings, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A batch some of whose slices have another look.

    Args:
        levels: (B, 1, H, W), 0 to 255.
        settings: share of changed slices, distance and threshold; a change that is too small is taken back.
        generator: of the draws, on the slices' device.

    Returns:
        (B, 1, H, W), and bool (B,): which are changed.
    """
    changed = augmented(levels, GUIDING, generator)
    chosen = torch.rand(len(levels), generator=generator, device=generator.device) < settings.negatives
    is_changed = chosen & (dissimilarity(changed, levels, settings.distance) > settings.threshold)
    return torch.where(is_changed[:, None, None, None], changed, levels), is_changed


def guided_loss(bits: Tensor, is_changed: Tensor, settings: FlowSettings) -> Tensor:
    """Equation 4 in bits per dimension, mean over the batch.

    A changed slice counts as minus its bits up to the margin c; beyond, it has no gradient.

    Args:
        bits: per dimension, (B,).
        is_changed: bool (B,).
        settings: the margin.

    >>> bits, changed = torch.tensor([2.0, 5.0]), torch.tensor([False, True])
    >>> guided_loss(bits, changed, FlowSettings(margin=3.0))
    tensor(-0.5000)
    """
    if settings.above_target is None:
        held = bits.clamp_max(settings.margin)
    else:
        ordinary = (bits * ~is_changed).sum() / (~is_changed).sum().clamp_min(1)
        held = torch.minimum(bits, (ordinary + settings.above_target).detach())
    return torch.where(is_changed, -held, bits).mean()


def guided_step(flow: GuidedFlow, levels: Tensor, settings: FlowSettings, generator: torch.Generator) -> Tensor:
    """The loss of slices (B, 1, H, W) in 0 to 255, with changes and noise from the generator."""
    batch, is_changed = guided_batch(levels, settings, generator)
    uniform = torch.rand(levels.shape, generator=generator, device=generator.device)
    return guided_loss(bits_per_dimension(flow, batch, uniform), is_changed, settings)
