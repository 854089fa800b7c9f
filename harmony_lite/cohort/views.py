"""What a method may see of a cohort when it is fitted: a kind of view for each need, and nothing beyond it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from torch import Tensor

__all__ = ["Needs", "OneReference", "Paired", "Scans", "SeveralScanners", "TargetOnly", "Unpaired", "View"]


class Needs(StrEnum):
    """What a method may see when it is fitted."""

    TARGET_ONLY = "target only"
    ONE_REFERENCE = "one reference"
    UNPAIRED = "unpaired domains"
    PAIRED = "paired scans"
    SEVERAL_SCANNERS = "several scanners of the same people"


@dataclass(frozen=True)
class Scans:
    """Images of one scanner: `images` (N, 1, D, H, W) float32 in scanner units, `mask` the brain, bool, same shape."""

    images: Tensor
    mask: Tensor


@dataclass(frozen=True)
class TargetOnly:
    """Scans of the target domain and nothing else: what a blind method is fitted on."""

    target: Scans


@dataclass(frozen=True)
class OneReference:
    """One scan of the target domain (N = 1)."""

    reference: Scans


@dataclass(frozen=True)
class Unpaired:
    """Target and source domains: nobody of a source is in the target; sources may have people in common."""

    target: Scans
    sources: dict[str, Scans]


@dataclass(frozen=True)
class Paired:
    """The same people, in the same order, on the target and on each source scanner."""

    target: Scans
    sources: dict[str, Scans]


@dataclass(frozen=True)
class SeveralScanners:
    """The same people, in the same order, on every scanner; no scanner is the target."""

    scanners: dict[str, Scans]


View = TargetOnly | OneReference | Unpaired | Paired | SeveralScanners
