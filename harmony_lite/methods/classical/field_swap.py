"""Field swap: the source's shading off, the target's tone curve and the target's mean shading on. No network."""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from torch import Tensor

from harmony_lite.cohort import Needs, Scans, TargetOnly
from harmony_lite.images.bias_field import without_field
from harmony_lite.images.checks import check_volumes
from harmony_lite.methods.averaged_image import check_grid, check_packed, packed_image, unpacked_image, without_height
from harmony_lite.methods.classical.matching import HistogramMatching
from harmony_lite.methods.classical.n4 import N4Settings
from harmony_lite.methods.protocol import Harmonizer, check_names
from harmony_lite.methods.shipping import Shipping

__all__ = ["FieldSwap"]

FIELD_BYTES = 6_000  # of the mean field in a weights file: it is smooth
LEAST = 1e-6  # of the brightest voxel: below, a ratio of two values says nothing


class FieldSwap(Harmonizer):
    """N4 on the scan, histogram matching to target people after N4, then the target people's mean N4 field put on.

    Source: no paper of the five; measured here. Most of the difference between two scanners is one tone curve and two
    smooth fields, so this takes both away. N4 (N. J. Tustison et al., IEEE TMI 29, 2010) finds the source's field;
    the target's is the geometric mean over its people, in the template's place.

    What it gives up: histogram matching gives everybody the target's mean histogram, and with it nearly the target's
    tissue volumes; a rescan of the target itself gets worse.
    """

    name: ClassVar[str] = "field-swap"
    needs: ClassVar[Needs] = Needs.TARGET_ONLY
    variants: ClassVar[tuple[str, ...]] = ("volume",)
    shipping: ClassVar[Shipping | None] = Shipping()
    on_template_grid: ClassVar[bool] = True

    def __init__(self, settings: N4Settings | None = None) -> None:
        self.settings = settings or N4Settings()
        self._matching = HistogramMatching()
        self._packed: dict[str, Tensor] = {}  # the mean field as a file keeps it, in 8 bits
        self._field: Tensor | None = None  # (D, H, W): what the target's scanner multiplies by; 0 without brain

    @classmethod
    def from_variant(cls, variant: str) -> Self:
        """`volume` is the only variant."""
        return cls()

    def fit(self, view: TargetOnly, *, generator: torch.Generator | None = None) -> Self:
        """N4 on the target's people: their histogram after it, and their mean field; nothing is random.

        Raises:
            ValueError: scans that are not volumes, not finite, negative or without contrast.
        """
        scans = view.target
        check_volumes(scans.images, scans.mask, what="target scans")
        corrected = without_field(scans.images, scans.mask, **vars(self.settings))
        self._matching = HistogramMatching().fit(TargetOnly(Scans(corrected, scans.mask)))
        field = mean_field(scans.images, corrected, scans.mask)
        self._packed = packed_image(field, field > 0, most_bytes=FIELD_BYTES)
        self._field = unpacked_image(self._packed)  # as a file keeps it, so that loading changes nothing
        return self

    def _harmonize(self, images: Tensor, mask: Tensor, scanner: str | None) -> Tensor:
        check_grid(images, self._field.shape)
        field = without_height(self._field) if images.shape[-1] == 1 else self._field
        corrected = without_field(images, mask, **vars(self.settings))
        matched = self._matching.harmonize(corrected, mask=mask)
        return matched * torch.where(field > 0, field, 1.0).to(matched)

    @property
    def field(self) -> Tensor:
        """(D, H, W): what the target's scanner multiplies by on average; 0 where no target person has brain."""
        self.check_fitted()
        return self._field

    @property
    def is_fitted(self) -> bool:
        """Whether there is a histogram to match and a field to put on."""
        return self._field is not None

    def state(self) -> dict[str, Tensor]:
        """`standard`: the target's quantiles after N4; `field.NAME`: the mean field, packed."""
        self.check_fitted()
        return {**self._matching.state(), **{f"field.{name}": value.clone() for name, value in self._packed.items()}}

    def load_state(self, state: dict[str, Tensor]) -> Self:
        """Take over what an earlier fit learned.

        Raises:
            ValueError: other names, or tensors of other shapes.
        """
        packed = {name.removeprefix("field."): value for name, value in state.items() if name.startswith("field.")}
        rest = {name: value for name, value in state.items() if not name.startswith("field.")}
        check_names(self.name, rest, {"standard"})
        check_packed(self.name, packed)
        self._matching = HistogramMatching().load_state(rest)
        self._packed, self._field = packed, unpacked_image(packed)
        return self


def mean_field(images: Tensor, corrected: Tensor, mask: Tensor) -> Tensor:
    """Geometric mean over people of what a correction divided out, (D, H, W); 0 where nobody has brain.

    Args:
        images: (N, 1, D, H, W), as they came.
        corrected: same shape, after the correction.
        mask: bool, same shape: the brain.
    """
    known = mask & (corrected > LEAST * corrected.amax()) & (images > 0)
    logs = torch.where(known, images.clamp_min(1e-30).log() - corrected.clamp_min(1e-30).log(), 0.0)
    count = known.sum((0, 1))
    return torch.where(count > 0, (logs.sum((0, 1)) / count.clamp_min(1)).exp(), 0.0)
