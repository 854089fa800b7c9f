"""Nyul's standard scale, by the package intensity-normalization.

Eleven percentiles are moved to a standard scale, with straight lines between. The published scale runs from 1 to 100;
here it is brought to the target's units.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harmony_lite.images.checks import errors_about
from harmony_lite.methods.classical.standards import Curve, OneStandard

if TYPE_CHECKING:
    from intensity_normalization import NyulNormalizer

__all__ = ["Nyul", "NyulSettings"]


@dataclass(frozen=True)
class NyulSettings:
    """Where the landmarks lie; the package's own choice.

    Attributes:
        low: first landmark, a percentile inside the mask.
        high: last landmark.
        first_decile: landmark after the first; from here to `last_decile` in steps of `step`.
        last_decile: landmark before the last.
        step: per cent.
    """

    low: float = 1.0
    high: float = 99.0
    first_decile: float = 10.0
    last_decile: float = 90.0
    step: float = 10.0

    @property
    def percentiles(self) -> np.ndarray:
        """All landmarks, `(11,)` with the defaults."""
        return np.array([self.low, *np.arange(self.first_decile, self.last_decile + self.step, self.step), self.high])


class Nyul(OneStandard):
    """Nyul's standard scale: eleven percentiles moved to the target's, straight lines between and beyond them.

    Source: L. G. Nyul, J. K. Udupa, X. Zhang, IEEE TMI 19, 143-150, 2000 (which HAIL cites for what it compares with),
    by `NyulNormalizer` of intensity-normalization. Its output range, 1 to 100 by default, is here the mean 1st and
    99th percentile of the target's people, so that what comes out is in the target's units.

    >>> import torch
    >>> from harmony_lite.cohort import Scans, TargetOnly
    >>> images = torch.arange(256.0).reshape(1, 1, 16, 16)
    >>> inside = torch.ones_like(images).bool()
    >>> method = Nyul().fit(TargetOnly(Scans(images, inside)))
    >>> harmonized = method.harmonize(3 * images + 5, mask=inside)
    >>> bool((harmonized - images).abs().max() < 1e-3)
    True
    """

    name: ClassVar[str] = "nyul"
    takes_negatives: ClassVar[bool] = True

    def __init__(self, settings: NyulSettings | None = None) -> None:
        self.settings = settings or NyulSettings()

    @property
    def length(self) -> int:
        """One number for each landmark."""
        return len(self.settings.percentiles)

    def learn(self, people: Sequence[np.ndarray]) -> np.ndarray:
        """The standard scale: the people's mean landmarks."""
        from intensity_normalization import create_image

        for index, values in enumerate(people):
            with errors_about(f"person {index}"):
                self._landmarks(values)
        ends = np.mean([np.percentile(values, [self.settings.low, self.settings.high]) for values in people], axis=0)
        images = [create_image(values) for values in people]
        normalizer = self._normalizer(*map(float, ends))
        # without a mask the package takes what is above 0
        normalizer.fit_population(images, [create_image(np.ones_like(values)) for values in people])
        return np.asarray(normalizer.standard_scale)

    def curve(self, values: np.ndarray, standard: np.ndarray) -> Curve:
        """Straight lines from landmark to landmark, and on beyond the outermost two."""
        from intensity_normalization import create_image

        landmarks = self._landmarks(values)
        normalizer = self._normalizer(float(standard[0]), float(standard[-1]))
        normalizer.load_standard_histogram(_as_saved(standard, self.settings.percentiles))
        # the package finds the landmarks in the image that it transforms: both go in, and the landmarks' are masked.
        # It is asked at the landmarks and one step beyond; between them its curve is straight.
        step = landmarks[-1] - landmarks[0]
        knots = np.concatenate([[landmarks[0] - step], landmarks, [landmarks[-1] + step]])
        # For the landmarks, quantiles stand in for the values where they have the same ones: a scan is large
        few = np.percentile(values, np.linspace(0, 100, 1001))
        stands = np.allclose(np.percentile(few, self.settings.percentiles), landmarks, rtol=1e-7, atol=0)
        sample = few if stands else values
        both = np.concatenate([sample, knots])
        counted = np.arange(len(both)) < len(sample)
        done = np.asarray(normalizer.transform(create_image(both), create_image(counted)).get_data())
        targets = done[len(sample) :].astype(np.float64)
        first, last = (np.diff(targets)[end] / step for end in (0, -1))

        def apply(intensities: np.ndarray) -> np.ndarray:
            result = np.interp(intensities, knots, targets)
            result += first * np.minimum(intensities - knots[0], 0)
            return result + last * np.maximum(intensities - knots[-1], 0)

        return apply

    def _landmarks(self, values: np.ndarray) -> np.ndarray:
        """Landmarks of intensities; those that coincide are refused: between them the package would divide by zero."""
        percentiles = self.settings.percentiles
        landmarks = np.percentile(values, percentiles)
        same = np.flatnonzero(np.diff(landmarks) <= 0)
        if len(same):
            first = same[0]
            raise ValueError(
                f"found the percentiles {percentiles[first]:g} and {percentiles[first + 1]:g} inside the mask both at "
                f"{landmarks[first]:g}, wanted them apart"
            )
        return landmarks

    def _normalizer(self, low: float, high: float) -> NyulNormalizer:
        from intensity_normalization import NyulNormalizer

        chosen = self.settings
        return NyulNormalizer(
            output_min_value=low,
            output_max_value=high,
            min_percentile=chosen.low,
            max_percentile=chosen.high,
            percentile_after_min=chosen.first_decile,
            percentile_before_max=chosen.last_decile,
            percentile_step=chosen.step,
        )


def _as_saved(standard: np.ndarray, percentiles: np.ndarray) -> Any:
    """What the package saves, in memory: the one public way to give it a standard that it did not fit just now."""
    buffer = io.BytesIO()
    np.save(buffer, np.vstack([standard, percentiles]))
    buffer.seek(0)
    return buffer
