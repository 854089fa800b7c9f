"""Three methods without training: one curve for an image, so that a summary of its intensities fits the target's.

`histogram-matching` fits the whole histogram, `affine-match` the mean and standard deviation, `percentile` the 1st and
99th percentile. Each summary is taken inside the mask. The target's summary, its *standard*, is the mean over the
target's training people, or that of one reference. They are what any learned method has to beat, and the first one is
blind to every monotone intensity map: its result depends on the order of the voxels only.

Two variants. `volume`: one curve for the whole image. `slice`: one curve for each axial slice, fitted to the standard
of the target's slices at the same height of the brain.

Voxels outside the mask go through the same curve, continued, so that no seam appears at the mask's border; those that
are exactly 0 there, the background of a masked scan, stay 0. Nothing is clipped: a dark voxel may become negative.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from harmony_lite.cohort import Needs, OneReference, TargetOnly
from harmony_lite.images.normalize import foreground
from harmony_lite.methods.base import Harmonizer, check_images, check_names, register
from harmony_lite.profiles import active

__all__ = ["AffineMatch", "HistogramMatching", "Percentile", "Settings"]

Curve = Callable[[np.ndarray], np.ndarray]

FEWEST_VOXELS = 64  # a slice with fewer inside the mask takes its neighbour's curve: its own would be noise
MOST_KNOTS = 1 << 16  # of a histogram-matching curve; beyond that many distinct values it is thinned evenly


@dataclass(frozen=True)
class Settings:
    """What the three methods share.

    Attributes:
        per_slice: one curve for each axial slice rather than one for the image.
        positions: heights of the brain, bottom to top, that have a standard of their own (with `per_slice`).
        points: of the stored quantile function of histogram matching.
    """

    per_slice: bool = False
    positions: int = 20
    points: int = 1024


class _Classical(Harmonizer):
    """Everything but the summary and the curve."""

    needs: ClassVar[Needs] = Needs.TARGET_ONLY
    variants: ClassVar[tuple[str, ...]] = ("volume", "slice")
    reference_is_enough: ClassVar[bool] = True  # needs no weights when one reference image is given
    profile_matters: ClassVar[bool] = False  # a standard is a handful of intensities, whatever the grid

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self._standard: Tensor | None = None

    @classmethod
    def from_variant(cls, variant: str) -> Self:
        """`volume` or `slice`; the heights of the latter are as many as the active profile's slices."""
        return cls(Settings(per_slice=variant == "slice", positions=active().slices))

    @abstractmethod
    def summary(self, values: np.ndarray) -> np.ndarray:
        """The numbers that this method fits, `(K,)`, of intensities `(n,)`."""

    @abstractmethod
    def curve(self, values: np.ndarray, standard: np.ndarray) -> Curve:
        """The curve that gives intensities `(n,)` the summary `standard`; it takes and gives arrays of any length."""

    def fit(self, view: TargetOnly | OneReference, *, generator: torch.Generator | None = None) -> Self:
        """Take the mean summary of the target's people, or that of one reference and its mask.

        Nothing is random; `generator` is not used.

        Raises:
            ValueError: scans that are not finite or have no contrast inside the mask.
        """
        scans = view.reference if isinstance(view, OneReference) else view.target
        check_images(scans.images, scans.mask, what="target scans")
        self._standard = self._summarize(scans.images, scans.mask)
        return self

    def harmonize(
        self,
        images: Tensor,
        *,
        reference: Tensor | None = None,
        scanner: str | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Bring images to the standard.

        Args:
            images: `(N, 1, D, H, W)` volumes, or `(N, 1, H, W)` slices, each an image of its own; scanner units. Slices
                of the variant `slice` come person by person and upwards, one for each height, as
                `harmony_lite.images.normalize.axial_slices` gives them.
            reference: the standard is taken from it instead; `(1, 1, D, H, W)`, `(1, 1, H, W)`, or in the variant
                `slice` the slices of one person. Its foreground is found by itself.
            scanner: accepted for the sake of one protocol; these methods treat every source alike.
            mask: bool, same shape as `images`; the foreground where absent.

        Returns:
            Same shape, float32, in the target's units.

        Raises:
            ValueError: images that are not finite, without contrast, or of another rank; a mask or a reference that
                does not fit; neither a reference nor a standard.
        """
        check_images(images, mask)
        images = images.float()
        standard = self._standard_for(reference)
        mask = foreground(images) if mask is None else mask
        if self.settings.per_slice and images.ndim == 4 and len(images) % len(standard):
            raise ValueError(
                f"images: found {len(images)} slices, wanted a multiple of {len(standard)}, one per height"
            )
        done = [
            self._one(image[0].cpu().numpy(), inside[0].cpu().numpy(), standard, index)
            for index, (image, inside) in enumerate(zip(images.detach(), mask, strict=True))
        ]
        return torch.from_numpy(np.stack(done))[:, None].to(images.device)

    def state(self) -> dict[str, Tensor]:
        """The standard: `(K,)`, or `(positions, K)` in the variant `slice`, in the target's units."""
        return {} if self._standard is None else {"standard": self._standard.clone()}

    def load_state(self, state: dict[str, Tensor]) -> Self:
        """Take over a standard.

        Raises:
            ValueError: other names, or a tensor of another rank or length.
        """
        check_names(self.name, state, {"standard"})
        standard = state["standard"].float()
        length = len(self.summary(np.linspace(0, 1, 100)))
        if standard.ndim != 1 + self.settings.per_slice or standard.shape[-1] != length:
            wanted = f"(positions, {length})" if self.settings.per_slice else f"({length},)"
            raise ValueError(f"{self.name}: found a standard of shape {tuple(standard.shape)}, wanted {wanted}")
        self._standard = standard
        return self

    def _standard_for(self, reference: Tensor | None) -> np.ndarray:
        if reference is not None:
            check_images(reference, what="reference")
            if len(reference) != 1 and not (self.settings.per_slice and reference.ndim == 4):
                raise ValueError(f"reference: found {len(reference)} images, wanted one")
            positions = len(reference) if reference.ndim == 4 else None
            return self._summarize(reference.float(), foreground(reference), positions).numpy()
        if self._standard is None:
            raise ValueError(f"{self.name}: found no standard, wanted a reference image, `fit`, or loaded weights")
        return self._standard.numpy()

    def _summarize(self, images: Tensor, mask: Tensor, positions: int | None = None) -> Tensor:
        """Mean summary over people: `(K,)`, or `(positions, K)` with one row per height."""
        positions = positions or self.settings.positions
        pairs = [(i[0].cpu().numpy(), m[0].cpu().numpy()) for i, m in zip(images, mask, strict=True)]
        if not self.settings.per_slice:
            found = [self.summary(image[inside]) for image, inside in pairs]
        elif images.ndim == 5:
            found = [np.stack([self.summary(part) for part in _bands(*pair, positions)]) for pair in pairs]
        else:
            if len(pairs) % positions:
                raise ValueError(f"images: found {len(pairs)} slices, wanted a multiple of {positions}, one per height")
            rows = np.stack([self.summary(image[inside]) for image, inside in pairs])
            found = list(rows.reshape(-1, positions, rows.shape[1]))
        return torch.from_numpy(np.mean(found, axis=0).astype(np.float32))

    def _one(self, image: np.ndarray, inside: np.ndarray, standard: np.ndarray, index: int) -> np.ndarray:
        if self.settings.per_slice and image.ndim == 3:
            result = self._slicewise(image, inside, standard)
        else:
            wanted = standard[index % len(standard)] if self.settings.per_slice else standard
            result = self.curve(image[inside], wanted)(image)
        result[~inside & (image == 0)] = 0
        return result.astype(np.float32)

    def _slicewise(self, image: np.ndarray, inside: np.ndarray, standards: np.ndarray) -> np.ndarray:
        """Each axial slice by its own curve; the standard is interpolated between the two nearest heights."""
        usable = [k for k in range(image.shape[-1]) if _has_contrast(image[..., k][inside[..., k]])]
        if not usable:
            raise ValueError(f"images: found no slice with {FEWEST_VOXELS} voxels and contrast inside, wanted some")
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


@register
class HistogramMatching(_Classical):
    """Give an image the target's histogram (scikit-image's `match_histograms` inside the mask).

    The stored standard is the target's quantile function at 1024 points, the mean of the people's quantile functions;
    a reference is summarized in the same way.

    >>> from harmony_lite.cohort import Scans
    >>> images = torch.arange(64.0).reshape(1, 1, 8, 8)
    >>> inside = torch.ones_like(images).bool()
    >>> method = HistogramMatching().fit(TargetOnly(Scans(images, inside)))
    >>> harmonized = method.harmonize(images**3, mask=inside)
    >>> bool((harmonized - images).abs().max() < 1)
    True
    """

    name: ClassVar[str] = "histogram-matching"

    def summary(self, values: np.ndarray) -> np.ndarray:
        """Quantile function `(points,)` at 1/points, 2/points, ..., 1, where `match_histograms` reads it."""
        return np.quantile(values, np.arange(1, self.settings.points + 1) / self.settings.points)

    def curve(self, values: np.ndarray, standard: np.ndarray) -> Curve:
        """The non-decreasing curve from the values' quantiles to the standard's.

        Below the lowest value it runs straight to 0 (or with the mean slope where that is no way down), above the
        highest one on with the mean slope.
        """
        from skimage.exposure import match_histograms

        matched = match_histograms(values, standard)
        knots, index = np.unique(values, return_index=True)
        targets = matched[index]
        thin = np.unique(np.linspace(0, len(knots) - 1, min(len(knots), MOST_KNOTS)).round().astype(int))
        knots, targets = knots[thin].astype(np.float64), targets[thin].astype(np.float64)
        slope = (targets[-1] - targets[0]) / (knots[-1] - knots[0])
        down = targets[0] / knots[0] if knots[0] > 0 and targets[0] >= 0 else slope

        def apply(intensities: np.ndarray) -> np.ndarray:
            result = np.interp(intensities, knots, targets)
            result += down * np.minimum(intensities - knots[0], 0)
            return result + slope * np.maximum(intensities - knots[-1], 0)

        return apply


@register
class AffineMatch(_Classical):
    """Give an image the target's mean and standard deviation inside the mask: a gain and an offset.

    >>> from harmony_lite.cohort import Scans
    >>> images = torch.arange(64.0).reshape(1, 1, 8, 8)
    >>> inside = torch.ones_like(images).bool()
    >>> method = AffineMatch().fit(TargetOnly(Scans(images, inside)))
    >>> harmonized = method.harmonize(3 * images + 5, mask=inside)
    >>> bool((harmonized - images).abs().max() < 1e-4)
    True
    """

    name: ClassVar[str] = "affine-match"

    def summary(self, values: np.ndarray) -> np.ndarray:
        """Mean and standard deviation (population)."""
        return np.array([values.mean(dtype=np.float64), values.std(dtype=np.float64)])

    def curve(self, values: np.ndarray, standard: np.ndarray) -> Curve:
        """The straight line that moves mean and deviation to the standard's."""
        mean, deviation = self.summary(values)
        gain = standard[1] / deviation
        return lambda intensities: standard[0] + gain * (intensities - mean)


@register
class Percentile(_Classical):
    """Give an image the target's 1st and 99th percentile inside the mask; values beyond them are continued, not cut.

    >>> from harmony_lite.cohort import Scans
    >>> images = torch.arange(64.0).reshape(1, 1, 8, 8)
    >>> inside = torch.ones_like(images).bool()
    >>> method = Percentile().fit(TargetOnly(Scans(images, inside)))
    >>> harmonized = method.harmonize(3 * images + 5, mask=inside)
    >>> bool((harmonized - images).abs().max() < 1e-4)
    True
    """

    name: ClassVar[str] = "percentile"

    def summary(self, values: np.ndarray) -> np.ndarray:
        """The 1st and 99th percentile."""
        return np.percentile(values, [1, 99])

    def curve(self, values: np.ndarray, standard: np.ndarray) -> Curve:
        """The straight line through the two pairs of percentiles."""
        low, high = self.summary(values)
        if high == low:
            raise ValueError(f"images: found the 1st and 99th percentile both at {low:g}, wanted them apart")
        gain = (standard[1] - standard[0]) / (high - low)
        return lambda intensities: standard[0] + gain * (intensities - low)


def _bands(image: np.ndarray, inside: np.ndarray, positions: int) -> list[np.ndarray]:
    """In-mask intensities of `positions` equal parts of the mask's axial range, bottom to top."""
    first, last = _axial_range(inside)
    if last - first < positions:
        raise ValueError(f"images: found {last - first} axial slices inside the mask, wanted at least {positions}")
    edges = first + np.arange(positions + 1) * (last - first) // positions
    parts = [slice(low, high) for low, high in zip(edges[:-1], edges[1:], strict=True)]
    return [image[..., part][inside[..., part]] for part in parts]


def _axial_range(inside: np.ndarray) -> tuple[int, int]:
    occupied = np.flatnonzero(inside.any(axis=(0, 1)))
    return int(occupied[0]), int(occupied[-1]) + 1


def _has_contrast(values: np.ndarray) -> bool:
    return len(values) >= FEWEST_VOXELS and float(np.ptp(np.percentile(values, [1, 99]))) > 0
