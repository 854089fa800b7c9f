"""Three methods without training: one curve for an image, so that a summary of its intensities fits the target's.

`histogram-matching` fits the whole histogram, `affine-match` the mean and standard deviation, `percentile` the 1st and
99th percentile. Each summary is taken inside the mask. The target's summary, its *standard*, is the mean over the
target's training people, or that of one reference. They are what any learned method has to beat, and the first one is
blind to every monotone intensity map: its result depends on the order of the voxels only.

Two variants. `volume`: one curve for the whole image. `slice`: one curve for each axial slice, fitted to the standard
of the target's slices at the same height of the brain; slices without their volume come person by person and upwards
then, one for each height, as `harmony_lite.images.slices.axial_slices` gives them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from harmony_lite.cohort import OneReference, Scans
from harmony_lite.images.intake import take_in
from harmony_lite.methods.classical.standards import Curve, OneStandard
from harmony_lite.profiles import active

__all__ = ["AffineMatch", "HistogramMatching", "MatchingSettings", "Percentile"]

FEWEST_VOXELS = 64  # a slice with fewer inside the mask takes its neighbour's curve: its own would be noise
MOST_KNOTS = 1 << 16  # of a histogram-matching curve; beyond that many distinct values it is thinned evenly


@dataclass(frozen=True)
class MatchingSettings:
    """What the three methods share.

    Attributes:
        per_slice: one curve for each axial slice rather than one for the image.
        positions: heights of the brain, bottom to top, that have a standard of their own (with `per_slice`).
        points: of the stored quantile function of histogram matching.
    """

    per_slice: bool = False
    positions: int = 20
    points: int = 1024


class _Matching(OneStandard):
    """Everything but the summary and the curve."""

    variants: ClassVar[tuple[str, ...]] = ("volume", "slice")
    takes_negatives: ClassVar[bool] = True  # each summary moves with the intensities

    def __init__(self, settings: MatchingSettings | None = None) -> None:
        self.settings = settings or MatchingSettings()

    @classmethod
    def from_variant(cls, variant: str) -> Self:
        """`volume` or `slice`; the heights of the latter are as many as the active profile's slices."""
        return cls(MatchingSettings(per_slice=variant == "slice", positions=active().slices))

    @abstractmethod
    def summary(self, values: np.ndarray) -> np.ndarray:
        """The numbers that this method fits, `(length,)`, of intensities `(n,)`."""

    def learn(self, people: Sequence[np.ndarray]) -> np.ndarray:
        """The mean summary."""
        return np.mean([self.summary(values) for values in people], axis=0)

    # ----------------------------------------------------------------------------------- the variant slice by slice

    def to_reference(self, reference: Tensor, mask: Tensor | None = None) -> Self:
        """As for every method; in the variant `slice` the slices of one person are a reference too."""
        if not (self.settings.per_slice and reference.ndim == 4):
            return super().to_reference(reference, mask)
        taken = take_in(reference, mask, what="reference")
        settings = replace(self.settings, positions=len(reference))
        return type(self)(settings).fit(OneReference(Scans(taken.images, taken.mask)))

    def _standard_of(self, images: Tensor, mask: Tensor) -> Tensor:
        """(length,), or (positions, length): one row per height."""
        if not self.settings.per_slice:
            return super()._standard_of(images, mask)
        positions = self.settings.positions
        pairs = [(i[0].cpu().numpy(), m[0].cpu().numpy()) for i, m in zip(images, mask, strict=True)]
        if images.ndim == 5:
            found = [np.stack([self.summary(part) for part in _bands(*pair, positions)]) for pair in pairs]
        else:
            _check_count(len(pairs), positions)
            rows = np.stack([self.summary(image[inside]) for image, inside in pairs])
            found = list(rows.reshape(-1, positions, rows.shape[1]))
        return torch.from_numpy(np.mean(found, axis=0).astype(np.float32))

    def _harmonize_any(self, images: Tensor, mask: Tensor, scanner: str | None) -> Tensor:
        if self.settings.per_slice and images.ndim == 4:
            _check_count(len(images), len(self._standard))
        return super()._harmonize_any(images, mask, scanner)

    def _harmonized(self, image: np.ndarray, inside: np.ndarray, index: int) -> np.ndarray:
        if not self.settings.per_slice:
            return super()._harmonized(image, inside, index)
        standards = self._standard.numpy()
        if image.ndim == 2:
            return self.curve(image[inside], standards[index % len(standards)])(image)
        return self._slicewise(image, inside, standards)

    def _slicewise(self, image: np.ndarray, inside: np.ndarray, standards: np.ndarray) -> np.ndarray:
        """Each axial slice by its own curve; the standard is interpolated between the two nearest heights."""
        usable = [k for k in range(image.shape[-1]) if _has_contrast(image[..., k][inside[..., k]])]
        if not usable:
            raise ValueError(f"found no slice with {FEWEST_VOXELS} voxels and contrast inside, wanted some")
        first, last = _axial_range(inside)
        curves = {}
        for k in usable:
            height = np.clip((k + 0.5 - first) / (last - first) * len(standards) - 0.5, 0, len(standards) - 1)
            below = int(height)
            above = min(below + 1, len(standards) - 1)
            standard = standards[below] + (height - below) * (standards[above] - standards[below])
            curves[k] = self.curve(image[..., k][inside[..., k]], standard)
        nearest = [min(usable, key=lambda other: abs(other - k)) for k in range(image.shape[-1])]
        return np.stack([curves[near](image[..., k]) for k, near in enumerate(nearest)], axis=-1)

    def _fits(self, standard: Tensor) -> bool:
        return standard.ndim == 1 + self.settings.per_slice and standard.shape[-1] == self.length


class HistogramMatching(_Matching):
    """Give an image the target's histogram (scikit-image's `match_histograms` inside the mask).

    The stored standard is the target's quantile function at 1024 points, the mean of the people's quantile functions;
    a reference is summarized in the same way.

    >>> from harmony_lite.cohort import Scans, TargetOnly
    >>> images = torch.arange(64.0).reshape(1, 1, 8, 8)
    >>> inside = torch.ones_like(images).bool()
    >>> method = HistogramMatching().fit(TargetOnly(Scans(images, inside)))
    >>> harmonized = method.harmonize(images**3, mask=inside)
    >>> bool((harmonized - images).abs().max() < 1)
    True
    """

    name: ClassVar[str] = "histogram-matching"

    @property
    def length(self) -> int:
        """As many quantiles as the settings say."""
        return self.settings.points

    def summary(self, values: np.ndarray) -> np.ndarray:
        """Quantile function `(points,)` at 1/points, 2/points, ..., 1, where `match_histograms` reads it."""
        return np.quantile(values, np.arange(1, self.settings.points + 1) / self.settings.points)

    def curve(self, values: np.ndarray, standard: np.ndarray) -> Curve:
        """The non-decreasing curve from the values' quantiles to the standard's.

        Below the lowest value it runs to 0, on the straight line through 0 and the lowest thousandth (or with the mean
        slope where that is no way down): the lowest value itself may be one odd voxel. Above the highest one it runs on
        with the mean slope.
        """
        from skimage.exposure import match_histograms

        matched = match_histograms(values, standard)
        knots, index = np.unique(values, return_index=True)
        targets = matched[index]
        thin = np.unique(np.linspace(0, len(knots) - 1, min(len(knots), MOST_KNOTS)).round().astype(int))
        knots, targets = knots[thin].astype(np.float64), targets[thin].astype(np.float64)
        slope = (targets[-1] - targets[0]) / (knots[-1] - knots[0])
        low = float(np.quantile(values, 1 / self.settings.points))
        matched_low = float(np.interp(low, knots, targets))
        runs_to_0 = knots[0] > 0 and targets[0] >= 0 and low > 0 and matched_low > 0
        if runs_to_0:  # two more knots, the upper one where the line meets the curve
            place = 0.9 * knots[0]
            knots = np.concatenate([[0.0, place], knots])
            targets = np.concatenate([[0.0, min(place * matched_low / low, targets[0])], targets])
        down = matched_low / low if runs_to_0 else slope

        def apply(intensities: np.ndarray) -> np.ndarray:
            result = np.interp(intensities, knots, targets)
            result += down * np.minimum(intensities - knots[0], 0)
            return result + slope * np.maximum(intensities - knots[-1], 0)

        return apply


class AffineMatch(_Matching):
    """Give an image the target's mean and standard deviation inside the mask: a gain and an offset.

    >>> from harmony_lite.cohort import Scans, TargetOnly
    >>> images = torch.arange(64.0).reshape(1, 1, 8, 8)
    >>> inside = torch.ones_like(images).bool()
    >>> method = AffineMatch().fit(TargetOnly(Scans(images, inside)))
    >>> harmonized = method.harmonize(3 * images + 5, mask=inside)
    >>> bool((harmonized - images).abs().max() < 1e-4)
    True
    """

    name: ClassVar[str] = "affine-match"
    is_straight_line: ClassVar[bool] = True

    @property
    def length(self) -> int:
        """Mean and deviation."""
        return 2

    def summary(self, values: np.ndarray) -> np.ndarray:
        """Mean and standard deviation (population)."""
        return np.array([values.mean(dtype=np.float64), values.std(dtype=np.float64)])

    def curve(self, values: np.ndarray, standard: np.ndarray) -> Curve:
        """The straight line that moves mean and deviation to the standard's."""
        mean, deviation = self.summary(values)
        gain = standard[1] / deviation
        return lambda intensities: standard[0] + gain * (intensities - mean)


class Percentile(_Matching):
    """Give an image the target's 1st and 99th percentile inside the mask; values beyond them are continued, not cut.

    >>> from harmony_lite.cohort import Scans, TargetOnly
    >>> images = torch.arange(64.0).reshape(1, 1, 8, 8)
    >>> inside = torch.ones_like(images).bool()
    >>> method = Percentile().fit(TargetOnly(Scans(images, inside)))
    >>> harmonized = method.harmonize(3 * images + 5, mask=inside)
    >>> bool((harmonized - images).abs().max() < 1e-4)
    True
    """

    name: ClassVar[str] = "percentile"
    is_straight_line: ClassVar[bool] = True

    @property
    def length(self) -> int:
        """Two percentiles."""
        return 2

    def summary(self, values: np.ndarray) -> np.ndarray:
        """The 1st and 99th percentile."""
        return np.percentile(values, [1, 99])

    def curve(self, values: np.ndarray, standard: np.ndarray) -> Curve:
        """The straight line through the two pairs of percentiles."""
        low, high = self.summary(values)
        if high == low:
            raise ValueError(f"found the 1st and 99th percentile both at {low:g}, wanted them apart")
        gain = (standard[1] - standard[0]) / (high - low)
        return lambda intensities: standard[0] + gain * (intensities - low)


def _bands(image: np.ndarray, inside: np.ndarray, positions: int) -> list[np.ndarray]:
    """In-mask intensities of `positions` equal parts of the mask's axial range, bottom to top."""
    first, last = _axial_range(inside)
    if last - first < positions:
        raise ValueError(f"found {last - first} axial slices inside the mask, wanted at least {positions}")
    edges = first + np.arange(positions + 1) * (last - first) // positions
    parts = [slice(low, high) for low, high in zip(edges[:-1], edges[1:], strict=True)]
    return [image[..., part][inside[..., part]] for part in parts]


def _axial_range(inside: np.ndarray) -> tuple[int, int]:
    occupied = np.flatnonzero(inside.any(axis=(0, 1)))
    return int(occupied[0]), int(occupied[-1]) + 1


def _has_contrast(values: np.ndarray) -> bool:
    return len(values) >= FEWEST_VOXELS and float(np.ptp(np.percentile(values, [1, 99]))) > 0


def _check_count(slices: int, positions: int) -> None:
    if slices % positions:
        raise ValueError(f"images: found {slices} slices, wanted a multiple of {positions}, one per height")
