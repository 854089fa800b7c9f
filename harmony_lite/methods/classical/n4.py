"""N4 alone: the receive field is taken out, and the target's percentiles are matched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from harmony_lite.cohort import Needs, OneReference, TargetOnly
from harmony_lite.images.bias_field import ITERATIONS, WORKING_SIZE, without_field
from harmony_lite.methods.classical.matching import Percentile
from harmony_lite.methods.protocol import Harmonizer, check_names
from harmony_lite.methods.shipping import Shipping

__all__ = ["N4", "N4Settings"]


@dataclass(frozen=True)
class N4Settings:
    """How finely the receive field is looked for.

    Attributes:
        working_size: voxels along the longest axis of the copy that the field is fitted on, about: of 2 mm the copy
            takes every 3rd voxel, of 1 mm every 6th. A finer one took three times as long and corrected no better.
        iterations: at most so many on each of the fitting levels.
    """

    working_size: int = WORKING_SIZE
    iterations: tuple[int, ...] = ITERATIONS


class N4(Harmonizer):
    """Take the receive field out with N4, then match the 1st and 99th percentile to the target's.

    Source: N. J. Tustison et al., IEEE TMI 29, 1310-1320, 2010, by SimpleITK. Harmonizing Flows uses it before its
    methods (its table on bias-corrected scans); alone it says how much of a scanner's effect is shading. The target's
    percentiles are those of its scans as they come, which keep their own field.
    """

    name: ClassVar[str] = "n4"
    needs: ClassVar[Needs] = Needs.TARGET_ONLY
    variants: ClassVar[tuple[str, ...]] = ("volume",)
    reference_is_enough: ClassVar[bool] = True
    shipping: ClassVar[Shipping | None] = Shipping(by_profile=False)  # two intensities

    def __init__(self, settings: N4Settings | None = None) -> None:
        self.settings = settings or N4Settings()
        self._percentile = Percentile()

    @classmethod
    def from_variant(cls, variant: str) -> Self:
        """`volume` is the only variant."""
        return cls()

    def fit(self, view: TargetOnly | OneReference, *, generator: torch.Generator | None = None) -> Self:
        """Take the target's 1st and 99th percentile; nothing is random.

        Raises:
            ValueError: as `harmony_lite.methods.classical.matching.Percentile.fit`.
        """
        self._percentile.fit(view)
        return self

    def _harmonize(self, images: Tensor, mask: Tensor, scanner: str | None) -> Tensor:
        corrected = without_field(images, mask, **vars(self.settings))
        return self._percentile.harmonize(corrected, mask=mask)

    @property
    def is_fitted(self) -> bool:
        """Whether there are percentiles to match."""
        return self._percentile.is_fitted

    def state(self) -> dict[str, Tensor]:
        """`standard` (2,): the target's percentiles, in its units."""
        return self._percentile.state()

    def load_state(self, state: dict[str, Tensor]) -> Self:
        """Take over percentiles.

        Raises:
            ValueError: other names, or a tensor of another shape.
        """
        check_names(self.name, state, {"standard"})
        self._percentile.load_state(state)
        return self
