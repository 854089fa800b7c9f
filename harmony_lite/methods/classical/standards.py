"""A standard and a curve: what a method learns of the target as a handful of numbers, and how an image gets there.

The standard is learned from the target's training people, or from one reference. Each image then goes through one
increasing curve, found inside its mask, that brings it to the standard. Voxels outside the mask go through the same
curve, continued, so that no seam appears at the mask's border; those that are exactly 0 there, the background of a
masked scan, stay 0. Nothing is clipped.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from harmony_lite.cohort import Needs, OneReference, TargetOnly
from harmony_lite.images.checks import check_images, errors_about
from harmony_lite.methods.protocol import Harmonizer, check_names
from harmony_lite.methods.shipping import Shipping

__all__ = ["Curve", "OneStandard", "in_slabs"]

Curve = Callable[[np.ndarray], np.ndarray]


class OneStandard(Harmonizer):
    """Everything but what is learned of the target, and the curve."""

    needs: ClassVar[Needs] = Needs.TARGET_ONLY
    variants: ClassVar[tuple[str, ...]] = ("volume",)
    shipping: ClassVar[Shipping | None] = Shipping(by_profile=False)  # a handful of intensities, whatever the grid
    reference_is_enough: ClassVar[bool] = True

    _standard: Tensor | None = None

    @classmethod
    def from_variant(cls, variant: str) -> Self:
        """One curve for the whole image: `volume` is the only variant."""
        return cls()

    # ----------------------------------------------------------------------------------------- what a method fills in

    @property
    @abstractmethod
    def length(self) -> int:
        """How many numbers the standard has."""

    @abstractmethod
    def learn(self, people: Sequence[np.ndarray]) -> np.ndarray:
        """The standard `(length,)` of people's intensities `(n,)` inside their masks; ValueError names the person."""

    @abstractmethod
    def curve(self, values: np.ndarray, standard: np.ndarray) -> Curve:
        """The curve that brings intensities `(n,)` to the standard; it takes and gives arrays of any shape."""

    # ---------------------------------------------------------------------------------------------------------- fit

    def fit(self, view: TargetOnly | OneReference, *, generator: torch.Generator | None = None) -> Self:
        """Take the standard of the target's people, or that of one reference and its mask.

        Nothing is random; `generator` is not used.

        Raises:
            ValueError: scans that are not finite, have no contrast inside the mask, or too few grey levels there.
        """
        is_reference = isinstance(view, OneReference)
        scans, what = (view.reference, "reference") if is_reference else (view.target, "target scans")
        check_images(scans.images, scans.mask, what=what)
        with errors_about(what):
            self._standard = self._standard_of(scans.images, scans.mask)
        return self

    def _standard_of(self, images: Tensor, mask: Tensor) -> Tensor:
        people = [image[inside].float().cpu().numpy() for image, inside in zip(images, mask, strict=True)]
        return torch.from_numpy(self.learn(people).astype(np.float32))

    # ------------------------------------------------------------------------------------------------------ harmonize

    def _harmonize_any(self, images: Tensor, mask: Tensor, scanner: str | None) -> Tensor:
        done = []
        for index, (image, inside) in enumerate(zip(images.cpu(), mask.cpu(), strict=True)):
            values, brain = image[0].numpy(), inside[0].numpy()
            with errors_about(f"images: image {index}"):
                result = self._harmonized(values, brain, index)
            result[~brain & (values == 0)] = 0
            done.append(torch.from_numpy(result.astype(np.float32, copy=False)))
        return done[0][None, None] if len(done) == 1 else torch.stack(done)[:, None]

    def _harmonize(self, images: Tensor, mask: Tensor, scanner: str | None) -> Tensor:
        return self._harmonize_any(images, mask, scanner)

    def _harmonized(self, image: np.ndarray, inside: np.ndarray, index: int) -> np.ndarray:
        """One image, of the standard that belongs to its index."""
        return in_slabs(self.curve(image[inside], self._standard.numpy()), image)

    # ---------------------------------------------------------------------------------------------------------- state

    @property
    def is_fitted(self) -> bool:
        """Whether there is a standard."""
        return self._standard is not None

    def state(self) -> dict[str, Tensor]:
        """`standard` (length,), in the target's units; empty before `fit`."""
        return {} if self._standard is None else {"standard": self._standard.clone()}

    def load_state(self, state: dict[str, Tensor]) -> Self:
        """Take over a standard.

        Raises:
            ValueError: other names, or a tensor of another shape.
        """
        check_names(self.name, state, {"standard"})
        standard = state["standard"].float()
        if not self._fits(standard):
            wanted = f"(..., {self.length})" if standard.ndim > 1 else f"({self.length},)"
            raise ValueError(f"{self.name}: found a standard of shape {tuple(standard.shape)}, wanted {wanted}")
        self._standard = standard
        return self

    def _fits(self, standard: Tensor) -> bool:
        return standard.shape == (self.length,)


def in_slabs(curve: Curve, image: np.ndarray) -> np.ndarray:
    """An image through a curve, slab by slab of its first axis: float32, for curves compute in double precision."""
    result = np.empty(image.shape, np.float32)
    for into, slab in zip(result, image, strict=True):
        into[:] = curve(slab)
    return result
