"""What a method is: its settings, what it may see, how it is fitted, how it harmonizes.

Every method of the package, from a straight line to a flow, answers to this protocol, so that one report, one
command line and one ledger serve them all. What a method may see is fixed by `needs`; the cohort hands over exactly
that (`harmony_lite.cohort.Cohort.view`) and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from harmony_lite import weights
from harmony_lite.cohort import Needs
from harmony_lite.profiles import QUICK, active
from harmony_lite.simulate import preset

__all__ = ["Harmonizer", "check_images", "check_names", "load_method", "method_class", "names", "register"]

_METHODS: dict[str, type[Harmonizer]] = {}


class Harmonizer(ABC):
    """A method: settings in, `fit` on what it may see, `harmonize` on what comes.

    Class attributes:
        name: the method's name, hyphenated, as the command line takes it.
        needs: what `fit` is given (`Needs`); a blind method says `Needs.TARGET_ONLY`.
        variants: the readings of the method that can be asked for, the default one first.
        shipped_variants: those that have weights of their own; empty where every variant has.
        reference_is_enough: whether one reference image replaces fitting and shipped weights.
        shipped_target: the first scanner of those that shipped weights were made on.
        is_shipped: whether weights come with the package; False for what is fitted on the scanners in question.
        profile_matters: whether weights depend on the profile; those that do not are shipped once, made in `quick`.
        is_slicewise: whether every axial slice is harmonized by itself, in [0, 1], so that a mask may leave heights
            out; `tops` (W,) then says what 1 becomes in the target's units at each height.
        on_template_grid: whether `harmonize` takes volumes on the model's grid only, in the template's place; the
            command line brings a scan on another grid there and the change back (`harmony_lite.methods.own_grid`).
        is_trained: whether `fit` takes many steps and a `checkpoint` from which an interrupted one goes on; then it
            leaves a `history`.
    """

    name: ClassVar[str]
    needs: ClassVar[Needs]
    variants: ClassVar[tuple[str, ...]]
    shipped_variants: ClassVar[tuple[str, ...]] = ()
    reference_is_enough: ClassVar[bool] = False
    shipped_target: ClassVar[str] = "oasis_trio"
    is_shipped: ClassVar[bool] = True
    profile_matters: ClassVar[bool] = True
    is_slicewise: ClassVar[bool] = False
    on_template_grid: ClassVar[bool] = False
    is_trained: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def from_variant(cls, variant: str) -> Self:
        """An unfitted method with the settings of one of `variants`."""

    @classmethod
    def shipped_weights(cls, variant: str) -> Path:
        """Path of the weights for the active profile; variants that differ in settings only share one file.

        Raises:
            FileNotFoundError: none are shipped for this variant and profile.
        """
        own = variant if variant in (cls.shipped_variants or cls.variants) else cls.shipped_variants[0]
        return weights.shipped(cls.name, own, active().name if cls.profile_matters else QUICK.name)

    @abstractmethod
    def fit(self, view: Any, *, generator: torch.Generator | None = None) -> Self:
        """Learn from a cohort's view (`Cohort.view(self.needs)`); returns itself."""

    @abstractmethod
    def harmonize(
        self,
        images: Tensor,
        *,
        reference: Tensor | None = None,
        scanner: str | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Bring images to the target domain.

        Args:
            images: `(N, 1, D, H, W)` volumes or `(N, 1, H, W)` slices, float32, scanner units.
            reference: one image of the target domain, for one-shot methods and for standards taken from one image.
            scanner: the source scanner's name, for methods that are trained on named scanners.
            mask: bool, same shape as `images`; where it is absent the method finds the foreground itself.

        Returns:
            Same shape, float32, in the target scanner's units.

        Raises:
            ValueError: images that are not finite, constant, or of another rank; a mask of another shape.
        """

    def check_scanner(self, scanner: str | None) -> None:
        """Refuse a name that this method can do nothing with (ValueError), before anything long begins.

        Methods that treat every source alike take the name of any preset, or none.
        """
        if scanner is not None:
            preset(scanner)

    def first_steps(self, view: Any) -> float:
        """One number that the beginning of the recipe gives on a view; a card keeps it, and a test repeats it.

        For what is not trained step by step it is the mean of everything that a fit learns.
        """
        return float(torch.cat([tensor.flatten() for tensor in self.fit(view).state().values()]).mean())

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """What `fit` learned, as named tensors."""

    @abstractmethod
    def load_state(self, state: dict[str, Tensor]) -> Self:
        """Take over what an earlier `fit` learned; returns itself."""

    def load(self, path: str | Path) -> Self:
        """Read weights with their card (`harmony_lite.weights.load`); a hash that does not fit is refused."""
        state, _ = weights.load(Path(path))
        return self.load_state(state)


def register(cls: type[Harmonizer]) -> type[Harmonizer]:
    """Class decorator: make a method known by its name."""
    _METHODS[cls.name] = cls
    return cls


def names() -> list[str]:
    """Names of all methods, hyphenated."""
    return sorted(_METHODS)


def method_class(name: str) -> type[Harmonizer]:
    """The class behind a name; hyphens and underscores are both accepted.

    Raises:
        ValueError: an unknown name; the message lists the known ones.
    """
    key = name.replace("_", "-").lower()
    if key not in _METHODS:
        raise ValueError(f"unknown method {name!r}; known methods: {', '.join(names())}")
    return _METHODS[key]


def load_method(name: str, variant: str | None = None, *, fitted: bool = True) -> Harmonizer:
    """A method by name, with the weights that are shipped for the active profile.

    Args:
        name: as in `names()`; hyphens and underscores are both accepted.
        variant: one of the method's `variants`; the first one when absent.
        fitted: False gives the method unfitted, for `fit`.

    Raises:
        ValueError: unknown name or variant (found and wanted are named).
        FileNotFoundError: no weights are shipped for this method, variant and profile.
    """
    cls = method_class(name)
    variant = cls.variants[0] if variant is None else variant
    if variant not in cls.variants:
        raise ValueError(f"unknown variant {variant!r} of {cls.name}; known variants: {', '.join(cls.variants)}")
    method = cls.from_variant(variant)
    return method.load(cls.shipped_weights(variant)) if fitted else method


def check_images(images: Tensor, mask: Tensor | None = None, *, what: str = "images") -> None:
    """Refuse what no method can work on.

    Raises:
        ValueError: wrong rank, more than one channel, not finite, an image without contrast, a mask of another shape
            or an empty one; each message says what was found and what was wanted.
    """
    if images.ndim not in (4, 5) or images.shape[1] != 1:
        raise ValueError(f"{what}: found shape {tuple(images.shape)}, wanted (N, 1, H, W) or (N, 1, D, H, W)")
    bad = int((~torch.isfinite(images)).sum())
    if bad:
        raise ValueError(f"{what}: found {bad} values that are NaN or infinite, wanted finite values")
    if mask is not None and mask.shape != images.shape:
        raise ValueError(f"mask: found shape {tuple(mask.shape)}, wanted the images' {tuple(images.shape)}")
    for index, image in enumerate(images):
        inside = image if mask is None else image[mask[index]]
        if inside.numel() == 0:
            raise ValueError(f"mask: found no voxel inside for image {index}, wanted at least one")
        if inside.max() == inside.min():
            raise ValueError(
                f"{what}: found image {index} constant at {float(inside.max()):g}, wanted one with contrast"
            )


def check_names(method: str, state: dict[str, Tensor], wanted: set[str]) -> None:
    """Refuse a state with other tensors than those `wanted` (ValueError)."""
    if set(state) != wanted:
        raise ValueError(f"{method}: found the tensors {sorted(state)}, wanted {sorted(wanted)}")
