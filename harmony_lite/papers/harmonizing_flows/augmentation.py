"""Slices with another look: what the flow is guided away from, and what the harmonizer learns to undo.

Source: F. Beizaee et al., "Harmonizing Flows", 2023, section 3.1 and 3.2, f_aug: brightness, contrast, multiplication
and random increasing curves. The paper prints no numbers; these are the public code's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from harmony_lite.images.intensity_maps import TOP, random_tables

__all__ = ["DISTANCES", "GUIDING", "PRETRAINING", "Changes", "augmented", "dissimilarity"]

# section 3.1 says "mean squared distance"; the public code takes the mean and the deviation of the absolute difference
DISTANCES = ("mean squared", "mean and two deviations")


@dataclass(frozen=True)
class Changes:
    """How far each change goes, and how often it happens.

    Attributes:
        brightness: grey levels that are added or taken away at most.
        factors: smallest and largest number to multiply with.
        powers: smallest and largest gamma.
        share: of the slices that each of the three happens to, independently.
        by_curve_alone: share of the slices under a random curve and nothing else.
        by_both: share of the slices with the three changes first and then a curve; the rest has the three alone.
    """

    brightness: float = 30.0
    factors: tuple[float, float] = (0.5, 1.5)
    powers: tuple[float, float] = (0.5, 1.5)
    share: float = 0.6
    by_curve_alone: float = 0.5
    by_both: float = 0.0


GUIDING = Changes()
PRETRAINING = Changes(factors=(0.5, 2.0), share=0.75, by_curve_alone=0.4, by_both=0.2)


def augmented(levels: Tensor, changes: Changes, generator: torch.Generator) -> Tensor:
    """Each slice changed in its own way, in whole grey levels from 0 to 255; the background stays 0.

    Computed in floating point, so that nothing can wrap around 255 as it does in the public code's 8 bits.

    Args:
        levels: (B, 1, H, W), 0 to 255; 0 is background.
        changes: which, and how far.
        generator: of the draws, on the slices' device.
    """
    batch = len(levels)

    def drawn(low: float, high: float) -> Tensor:
        uniform = torch.rand(batch, 1, 1, 1, generator=generator, device=generator.device)
        return low + (high - low) * uniform

    def happens() -> Tensor:
        return drawn(0, 1) < changes.share

    x = levels + drawn(-changes.brightness, changes.brightness) * happens()
    x = torch.where(happens(), x * drawn(*changes.factors), x).clamp(0, TOP)
    x = torch.where(happens(), TOP * (x / TOP).pow(drawn(*changes.powers)), x)
    tables = random_tables(batch, generator)
    kind = drawn(0, 1)  # first curve alone, then both, then the three alone
    is_curve_alone = kind < changes.by_curve_alone
    start = torch.where(is_curve_alone, levels, x).round()
    curved = torch.gather(tables, 1, start.long().flatten(1)).view_as(levels)
    x = torch.where(kind < changes.by_curve_alone + changes.by_both, curved, x)
    return x.round().clamp(0, TOP) * (levels > 0)


def dissimilarity(changed: Tensor, levels: Tensor, distance: str = DISTANCES[0]) -> Tensor:
    """How far a changed slice is from the original, inside its foreground, (B,).

    Args:
        changed: (B, 1, H, W), 0 to 255.
        levels: the original.
        distance: of `DISTANCES`: squared grey levels, or grey levels.

    Raises:
        ValueError: another distance.

    >>> levels = torch.full((1, 1, 2, 2), 100.0)
    >>> dissimilarity(levels + 3, levels), dissimilarity(levels + 3, levels, "mean and two deviations")
    (tensor([9.]), tensor([3.]))
    """
    if distance not in DISTANCES:
        raise ValueError(f"distance: found {distance!r}, wanted one of {', '.join(map(repr, DISTANCES))}")
    inside = (levels > 0).flatten(1)
    count = inside.sum(1).clamp_min(1)
    apart = (changed - levels).abs().flatten(1) * inside
    if distance == DISTANCES[0]:
        return apart.square().sum(1) / count
    mean = apart.sum(1) / count
    deviation = ((apart - mean[:, None]).square() * inside).sum(1).div(count).sqrt()
    return mean + 2 * deviation
