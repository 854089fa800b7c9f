"""Two intensity standards: Nyul's landmarks and the white stripe, by the package intensity-normalization.

Both give an image one increasing curve, found inside its mask, so the order of its intensities stays as it is. `nyul`
moves eleven percentiles to a standard scale and runs straight between them; `white-stripe` takes the peak of normal
white matter and the spread around it, a straight line. Neither publishes a scale in scanner units, Nyul's runs from 1
to 100 and the stripe's is a z-score, so each is brought to the target's: the standard is fitted on the target's
training people, or on one reference.

Voxels outside the mask go through the same curve, continued; those that are exactly 0 there, the background of a
masked scan, stay 0 (Nyul's curve alone would carry them below it). Nothing is clipped.
"""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from harmony_lite.cohort import Needs, OneReference, TargetOnly
from harmony_lite.images.normalize import foreground
from harmony_lite.methods.base import Harmonizer, check_images, check_names, register

if TYPE_CHECKING:
    from intensity_normalization import NyulNormalizer, WhiteStripeNormalizer

__all__ = ["Nyul", "NyulSettings", "WhiteStripe", "WhiteStripeSettings"]


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


@dataclass(frozen=True)
class WhiteStripeSettings:
    """How wide the stripe is.

    Attributes:
        width: of the stripe on each side of the peak, as a fraction of the voxels inside the mask (Shinohara et al.
            2014 call it tau and take 0.05).
    """

    width: float = 0.05


class _Standard(Harmonizer):
    """Everything but what is learned of the target and how it is used."""

    needs: ClassVar[Needs] = Needs.TARGET_ONLY
    variants: ClassVar[tuple[str, ...]] = ("volume",)
    reference_is_enough: ClassVar[bool] = True  # one person's landmarks, or one white stripe, are a standard
    profile_matters: ClassVar[bool] = False  # a handful of intensities, whatever the grid

    settings: Any
    _standard: Tensor | None = None

    @classmethod
    def from_variant(cls, variant: str) -> Self:
        """One curve for the whole image: `volume` is the only variant."""
        return cls()

    @property
    @abstractmethod
    def length(self) -> int:
        """How many numbers the standard has."""

    @abstractmethod
    def _learn(self, people: Sequence[np.ndarray], what: str) -> np.ndarray:
        """The standard `(length,)` of people's intensities inside their masks."""

    @abstractmethod
    def _apply(self, image: np.ndarray, inside: np.ndarray, standard: np.ndarray, what: str) -> np.ndarray:
        """The whole image by the curve that takes the intensities `inside` the mask to the standard."""

    def fit(self, view: TargetOnly | OneReference, *, generator: torch.Generator | None = None) -> Self:
        """Take the standard of the target's people, or that of one reference and its mask.

        Nothing is random; `generator` is not used.

        Raises:
            ValueError: scans that are not finite, have no contrast inside the mask, or too few grey levels there.
        """
        scans = view.reference if isinstance(view, OneReference) else view.target
        check_images(scans.images, scans.mask, what="target scans")
        self._standard = self._learn_from(scans.images, scans.mask, "target scans")
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
            images: `(N, 1, D, H, W)` volumes, or `(N, 1, H, W)` slices, each an image of its own; scanner units.
            reference: one image, from which the standard is taken instead; its foreground is found by itself.
            scanner: accepted for the sake of one protocol; every source is treated alike.
            mask: bool, same shape as `images`; the foreground where absent.

        Returns:
            Same shape, float32, in the target's units.

        Raises:
            ValueError: images that are not finite, without contrast, of another rank, or with too few grey levels;
                a mask of another shape; several references; neither a reference nor a standard.
        """
        check_images(images, mask)
        standard = self._standard_for(reference)
        mask = foreground(images.float()) if mask is None else mask
        done = []
        for index, (image, inside) in enumerate(zip(images.detach().float().cpu(), mask.cpu(), strict=True)):
            result = self._apply(image.numpy(), inside.numpy(), standard, f"image {index}")
            result[((image == 0) & ~inside).numpy()] = 0
            done.append(torch.from_numpy(result.astype(np.float32)))
        return torch.stack(done).to(images.device)

    def state(self) -> dict[str, Tensor]:
        """The standard in the target's units: the landmarks `(11,)` or the stripe's mean and deviation `(2,)`."""
        return {} if self._standard is None else {"standard": self._standard.clone()}

    def load_state(self, state: dict[str, Tensor]) -> Self:
        """Take over a standard.

        Raises:
            ValueError: other names, or a tensor of another shape.
        """
        check_names(self.name, state, {"standard"})
        standard = state["standard"].float()
        if standard.shape != (self.length,):
            raise ValueError(f"{self.name}: found a standard of shape {tuple(standard.shape)}, wanted ({self.length},)")
        self._standard = standard
        return self

    def _standard_for(self, reference: Tensor | None) -> np.ndarray:
        if reference is not None:
            check_images(reference, what="reference")
            if len(reference) != 1:
                raise ValueError(f"reference: found {len(reference)} images, wanted one")
            return self._learn_from(reference, foreground(reference.float()), "reference").numpy()
        if self._standard is None:
            raise ValueError(f"{self.name}: found no standard, wanted a reference image, `fit`, or loaded weights")
        return self._standard.numpy()

    def _learn_from(self, images: Tensor, mask: Tensor, what: str) -> Tensor:
        people = [image[inside].float().cpu().numpy() for image, inside in zip(images, mask, strict=True)]
        return torch.from_numpy(self._learn(people, what).astype(np.float32))


@register
class Nyul(_Standard):
    """Nyul's standard scale: eleven percentiles moved to the target's, straight lines between and beyond them.

    Source: L. G. Nyul, J. K. Udupa, X. Zhang, IEEE TMI 19, 143-150, 2000 (which HAIL cites for what it compares with),
    by `NyulNormalizer` of intensity-normalization. Its output range, 1 to 100 by default, is here the mean 1st and
    99th percentile of the target's people, so that what comes out is in the target's units.

    >>> from harmony_lite.cohort import Scans
    >>> images = torch.arange(256.0).reshape(1, 1, 16, 16)
    >>> inside = torch.ones_like(images).bool()
    >>> method = Nyul().fit(TargetOnly(Scans(images, inside)))
    >>> harmonized = method.harmonize(3 * images + 5, mask=inside)
    >>> bool((harmonized - images).abs().max() < 1e-3)
    True
    """

    name: ClassVar[str] = "nyul"

    def __init__(self, settings: NyulSettings | None = None) -> None:
        self.settings = settings or NyulSettings()

    @property
    def length(self) -> int:
        """One number for each landmark."""
        return len(self.settings.percentiles)

    def _learn(self, people: Sequence[np.ndarray], what: str) -> np.ndarray:
        from intensity_normalization import create_image

        for index, values in enumerate(people):
            self._check_landmarks(values, f"{what}: person {index}")
        ends = np.mean([np.percentile(values, [self.settings.low, self.settings.high]) for values in people], axis=0)
        images = [create_image(values) for values in people]
        normalizer = self._normalizer(*map(float, ends))
        # without a mask the package takes what is above 0
        normalizer.fit_population(images, [create_image(np.ones_like(values)) for values in people])
        return np.asarray(normalizer.standard_scale)

    def _apply(self, image: np.ndarray, inside: np.ndarray, standard: np.ndarray, what: str) -> np.ndarray:
        from intensity_normalization import create_image

        self._check_landmarks(image[inside], f"images: {what}")
        normalizer = self._normalizer(float(standard[0]), float(standard[-1]))
        normalizer.load_standard_histogram(_as_saved(standard, self.settings.percentiles))
        return normalizer.transform(create_image(image), create_image(inside)).get_data()

    def _check_landmarks(self, values: np.ndarray, what: str) -> None:
        """Refuse landmarks that coincide: between them the package divides by zero and gives NaN."""
        percentiles = self.settings.percentiles
        landmarks = np.percentile(values, percentiles)
        same = np.flatnonzero(np.diff(landmarks) <= 0)
        if len(same):
            first = same[0]
            raise ValueError(
                f"{what}: found the percentiles {percentiles[first]:g} and {percentiles[first + 1]:g} inside the mask "
                f"both at {landmarks[first]:g}, wanted them apart"
            )

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


@register
class WhiteStripe(_Standard):
    """The peak of normal white matter and the spread around it, moved to the target's.

    Source: R. T. Shinohara et al., NeuroImage: Clinical 6, 9-19, 2014 (MISPEL's comparator), for T1 images by
    `WhiteStripeNormalizer` of intensity-normalization. The published scale is a z-score by the stripe's mean and
    deviation; that one is multiplied by the target people's mean deviation and put at their mean stripe.

    >>> from harmony_lite.cohort import Scans
    >>> generator = torch.Generator().manual_seed(0)
    >>> images = 100 + 10 * torch.randn(1, 1, 32, 32, generator=generator)
    >>> inside = torch.ones_like(images).bool()
    >>> method = WhiteStripe().fit(TargetOnly(Scans(images, inside)))
    >>> harmonized = method.harmonize(3 * images + 5, mask=inside)
    >>> bool((harmonized - images).abs().max() < 1e-2)
    True
    """

    name: ClassVar[str] = "white-stripe"

    def __init__(self, settings: WhiteStripeSettings | None = None) -> None:
        self.settings = settings or WhiteStripeSettings()

    @property
    def length(self) -> int:
        """Mean and deviation."""
        return 2

    def _learn(self, people: Sequence[np.ndarray], what: str) -> np.ndarray:
        stripes = [self._stripe(values, f"{what}: person {index}") for index, values in enumerate(people)]
        return np.mean([(stripe.mean, stripe.std) for stripe in stripes], axis=0)

    def _apply(self, image: np.ndarray, inside: np.ndarray, standard: np.ndarray, what: str) -> np.ndarray:
        from intensity_normalization import create_image

        stripe = self._stripe(image[inside], f"images: {what}")
        return stripe.transform(create_image(image)).get_data() * standard[1] + standard[0]

    def _stripe(self, values: np.ndarray, what: str) -> WhiteStripeNormalizer:
        """The stripe of intensities `(n,)`, all of which are inside."""
        from intensity_normalization import WhiteStripeNormalizer, create_image
        from intensity_normalization.domain.exceptions import NormalizationError

        normalizer = WhiteStripeNormalizer(width=self.settings.width)
        try:
            return normalizer.fit(create_image(values), create_image(np.ones_like(values)))
        except NormalizationError as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"{what}: found no white stripe inside the mask ({reason}), wanted a peak of white matter"
            ) from error


def _as_saved(standard: np.ndarray, percentiles: np.ndarray) -> Any:
    """What the package saves, in memory: the one public way to give it a standard that it did not fit just now."""
    buffer = io.BytesIO()
    np.save(buffer, np.vstack([standard, percentiles]))
    buffer.seek(0)
    return buffer
