"""N4 alone: the receive field is taken out, and the target's percentiles are matched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from harmony_lite.cohort import Needs, OneReference, TargetOnly
from harmony_lite.images.normalize import foreground, n4
from harmony_lite.methods.base import Harmonizer, check_names, register
from harmony_lite.methods.classical import Percentile
from harmony_lite.methods.template_grid import check_volumes

__all__ = ["N4", "N4Settings", "without_field"]


@dataclass(frozen=True)
class N4Settings:
    """How finely the receive field is looked for.

    Attributes:
        working_size: voxels along the longest axis of the copy that the field is fitted on, about: of 2 mm the copy
            takes every 3rd voxel, of 1 mm every 6th. A finer one took three times as long and corrected no better.
        iterations: at most so many on each of the fitting levels.
    """

    working_size: int = 32
    iterations: tuple[int, ...] = (50, 50, 50, 50)


def without_field(images: Tensor, mask: Tensor, settings: N4Settings | None = None) -> Tensor:
    """Volumes (N, 1, D, H, W) with the field divided out, in their own units; `mask` bool, same shape."""
    settings = settings or N4Settings()
    shrink = max(1, round(max(images.shape[2:]) / settings.working_size))
    return n4(images, mask, shrink=shrink, iterations=settings.iterations)


@register
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
    profile_matters: ClassVar[bool] = False  # two intensities

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
            ValueError: as `harmony_lite.methods.classical.Percentile.fit`.
        """
        self._percentile.fit(view)
        return self

    def harmonize(
        self,
        images: Tensor,
        *,
        reference: Tensor | None = None,
        scanner: str | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Correct the field of volumes, then match their percentiles.

        Args:
            images: `(N, 1, D, H, W)`, scanner units, none below 0.
            reference: one image, whose percentiles are matched instead; its foreground is found by itself.
            scanner: accepted for the sake of one protocol; every source is treated alike.
            mask: bool, same shape as `images`: where the field is fitted; the foreground where absent.

        Returns:
            Same shape, float32, in the target's units.

        Raises:
            ValueError: images that are not volumes, not finite, negative or without contrast; a mask of another shape;
                neither a reference nor a standard.
        """
        check_volumes(images, mask)
        if reference is None and not self._percentile.state():
            raise ValueError(f"{self.name}: found no standard, wanted a reference image, `fit`, or loaded weights")
        images = images.detach().float()
        mask = foreground(images) if mask is None else mask
        corrected = without_field(images, mask, self.settings)
        return self._percentile.harmonize(corrected, reference=reference, mask=mask)

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
