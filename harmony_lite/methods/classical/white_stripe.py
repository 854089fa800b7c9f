"""The white stripe, by the package intensity-normalization: the peak of normal white matter and the spread around it.

The published scale is a z-score; here it is brought to the target's units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from harmony_lite.images.checks import errors_about
from harmony_lite.methods.classical.standards import Curve, OneStandard

if TYPE_CHECKING:
    from intensity_normalization import WhiteStripeNormalizer

__all__ = ["WhiteStripe", "WhiteStripeSettings", "white_stripe"]


@dataclass(frozen=True)
class WhiteStripeSettings:
    """How wide the stripe is.

    Attributes:
        width: of the stripe on each side of the peak, as a fraction of the voxels inside the mask (Shinohara et al.
            2014 call it tau and take 0.05).
    """

    width: float = 0.05


class WhiteStripe(OneStandard):
    """The peak of normal white matter and the spread around it, moved to the target's.

    Source: R. T. Shinohara et al., NeuroImage: Clinical 6, 9-19, 2014 (MISPEL's comparator), for T1 images by
    `WhiteStripeNormalizer` of intensity-normalization. The published scale is a z-score by the stripe's mean and
    deviation; that one is multiplied by the target people's mean deviation and put at their mean stripe.

    >>> import torch
    >>> from harmony_lite.cohort import Scans, TargetOnly
    >>> generator = torch.Generator().manual_seed(0)
    >>> images = 100 + 10 * torch.randn(1, 1, 32, 32, generator=generator)
    >>> inside = torch.ones_like(images).bool()
    >>> method = WhiteStripe().fit(TargetOnly(Scans(images, inside)))
    >>> harmonized = method.harmonize(3 * images + 5, mask=inside)
    >>> bool((harmonized - images).abs().max() < 1e-2)
    True
    """

    name: ClassVar[str] = "white-stripe"
    takes_negatives: ClassVar[bool] = True
    is_straight_line: ClassVar[bool] = True

    def __init__(self, settings: WhiteStripeSettings | None = None) -> None:
        self.settings = settings or WhiteStripeSettings()

    @property
    def length(self) -> int:
        """Mean and deviation."""
        return 2

    def learn(self, people: Sequence[np.ndarray]) -> np.ndarray:
        """Mean and deviation of the stripe, mean over the people."""
        stripes = []
        for index, values in enumerate(people):
            with errors_about(f"person {index}"):
                stripes.append(white_stripe(values, self.settings.width))
        return np.mean([(stripe.mean, stripe.std) for stripe in stripes], axis=0)

    def curve(self, values: np.ndarray, standard: np.ndarray) -> Curve:
        """The straight line that moves the stripe's mean and deviation to the standard's."""
        from intensity_normalization import create_image

        stripe = white_stripe(values, self.settings.width)
        return lambda intensities: stripe.transform(create_image(intensities)).get_data() * standard[1] + standard[0]


def white_stripe(values: np.ndarray, width: float = 0.05) -> WhiteStripeNormalizer:
    """The white stripe of intensities `(n,)`, all of which are inside the mask; its `mean` and `std`.

    Raises:
        ValueError: no peak of white matter.
    """
    from intensity_normalization import WhiteStripeNormalizer, create_image
    from intensity_normalization.domain.exceptions import NormalizationError

    line = values.reshape(-1, 1, 1)
    try:
        return WhiteStripeNormalizer(width=width).fit(create_image(line), create_image(np.ones_like(line)))
    except NormalizationError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"found no white stripe inside the mask ({reason}), wanted a peak of white matter") from error
