"""What a method is: its settings, what it may see, how it is fitted, how it harmonizes.

Every method, from a straight line to a flow, answers to this protocol, so that one report, one command line and one
ledger serve them all. What a method may see is fixed by `needs`; the cohort hands over exactly that (`Cohort.view`).
`harmonize` is the same for all: it checks what comes in and calls the method's own `_harmonize`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from harmony_lite import weights
from harmony_lite.cohort import Needs, OneReference, Scans
from harmony_lite.images.intake import take_in
from harmony_lite.methods.shipping import Shipping
from harmony_lite.profiles import QUICK, active
from harmony_lite.simulate import full_name, preset
from harmony_lite.training import History

__all__ = ["Harmonizer", "check_names", "check_tensors"]


class Harmonizer(ABC):
    """A method: settings in, `fit` on what it may see, `harmonize` on what comes.

    A method has to say `name`, `needs`, `variants`, and to define `from_variant`, `fit`, `_harmonize`, `is_fitted`,
    `state` and `load_state`. Its constructor takes `settings`, which may be None. The smallest method:

        from harmony_lite.cohort import Needs
        from harmony_lite.images.normalize import means
        from harmony_lite.methods import Harmonizer

        class MeanMatch(Harmonizer):
            name, needs, variants = "mean-match", Needs.TARGET_ONLY, ("volume",)

            def __init__(self, settings=None):
                self.settings, self.mean = settings, None

            @classmethod
            def from_variant(cls, variant):
                return cls()

            def fit(self, view, *, generator=None):
                self.mean = view.target.images[view.target.mask].mean()
                return self

            def _harmonize(self, images, mask, scanner):
                return images * (self.mean / means(images, mask))[:, None, None, None, None]

            @property
            def is_fitted(self):
                return self.mean is not None

            def state(self):
                return {"mean": self.mean[None]}

            def load_state(self, state):
                self.mean = state["mean"][0]
                return self

    Class attributes:
        name: the method's name, hyphenated, as the command line takes it.
        needs: what `fit` is given (`Needs`); a blind method says `Needs.TARGET_ONLY`.
        variants: the readings of the method that can be asked for, the default one first.
        shipping: which weights come with the package; None where there are none.
        reference_is_enough: whether one reference image replaces fitting and shipped weights.
        takes_reference: whether a fitted method can be sent to another target by one image of it.
        takes_slices: whether slices without their volume can be harmonized.
        is_slicewise: whether every axial slice is harmonized by itself, in [0, 1], so that a mask may exclude whole
            slices. Such a method has a property `tops`, (W,): what 1 becomes in the target's units at each axial
            position, 0 where the position is not harmonized.
        on_template_grid: whether `harmonize` takes volumes on the model's grid only, in the template's place; the
            command line brings a scan on another grid there and the change back (`harmony_lite.methods.own_grid`).
        is_straight_line: whether a volume gets a gain and an offset and nothing else, in the default variant.
        takes_negatives: whether an image keeps its meaning when intensities are shifted below 0; otherwise a few of
            them become 0 and more are refused.
        steps_by_sign: whether steps go by the sign of a gradient, so that rounding may move a few voxels by a step.
        is_trained: whether `fit` takes many steps. Then its signature is `fit(view, *, generator=None,
            checkpoint=None, progress=True)`, a second call with the same `checkpoint` (a path) goes on where the first
            was interrupted, and the method has `histories` afterwards, one of each part that was trained, by name.
        adapts: whether `adapted` makes a method for one site out of this one, from some scans of that site alone.
    """

    name: ClassVar[str]
    needs: ClassVar[Needs]
    variants: ClassVar[tuple[str, ...]]
    shipping: ClassVar[Shipping | None] = None
    reference_is_enough: ClassVar[bool] = False
    takes_reference: ClassVar[bool] = False
    takes_slices: ClassVar[bool] = True
    is_slicewise: ClassVar[bool] = False
    on_template_grid: ClassVar[bool] = False
    is_straight_line: ClassVar[bool] = False
    takes_negatives: ClassVar[bool] = False
    steps_by_sign: ClassVar[bool] = False
    is_trained: ClassVar[bool] = False
    adapts: ClassVar[bool] = False

    settings: Any  # what the weights depend on
    histories: Mapping[str, History] = {}  # of each part that was trained

    @classmethod
    @abstractmethod
    def from_variant(cls, variant: str) -> Self:
        """An unfitted method with the settings of one of `variants`."""

    @classmethod
    def shipped_weights(cls, variant: str, target: str | None = None) -> Path:
        """Path of the weights for the active profile, and for the usual target where none is named.

        A variant without a file of its own may take another's (`Shipping.shared`). A user's own weights in the cache
        folder come before those of the package.

        Raises:
            ValueError: no weights for this target.
            FileNotFoundError: there are none for this variant and profile; the message says how to get some.
        """
        shipping = cls.shipping or Shipping()
        with_weights = shipping.variants or cls.variants
        file_of = with_weights[0] if shipping.shared and variant not in with_weights else variant
        targets = shipping.targets(file_of)
        if target not in (None, *targets):
            raise ValueError(f"target of {cls.name}: found {target!r}, wanted one of {', '.join(targets)}")
        name = file_of if target in (None, shipping.target) else f"{file_of}.{target}"
        try:
            return weights.shipped(cls.name, name, active().name if shipping.by_profile else QUICK.name)
        except FileNotFoundError as error:
            if cls.shipping is not None and file_of in with_weights:
                raise
            raise FileNotFoundError(
                f"{cls.name}: found no weights, none are shipped; wanted a fit on scans of the scanners in question: "
                f"load_method({cls.name!r}, {variant!r}, fitted=False).fit(cohort.view(Needs.{cls.needs.name}))"
            ) from error

    @abstractmethod
    def fit(self, view: Any, *, generator: torch.Generator | None = None) -> Self:
        """Learn from a cohort's view (`Cohort.view(self.needs)`); returns itself."""

    # ------------------------------------------------------------------------------------------------------ harmonize

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
            images: `(N, 1, D, H, W)` volumes or `(N, 1, H, W)` slices, scanner units. A slice comes without
                its axial position: a method that depends on the position takes the mean over all positions. NaN or a
                constant negative value around the head is background and comes back as it was; a hot voxel is replaced
                (`harmony_lite.images.intake`).
            reference: one image of the target domain, which takes the place of the target's training people, or
                names another target for a fitted method; its foreground is found by itself.
            scanner: the source scanner's name, short or whole, for methods that are fitted to named scanners.
            mask: bool, same shape as `images`: the brain; the foreground where absent.

        Returns:
            Same shape, float32, on the same device, in the target scanner's units.

        Raises:
            ValueError: images that are not finite, constant, below 0 where the method cannot take that, or of another
                rank or grid than it takes; a mask or a reference that does not fit; a reference where the method is
                fitted on its target; a scanner that the method does not know; a method that is not fitted.
        """
        taken = take_in(images, mask, takes_negatives=self.takes_negatives)
        if reference is not None:
            return self.to_reference(reference).harmonize(images, scanner=scanner, mask=mask)
        self.check_fitted()
        scanner = self._source(scanner)
        if images.ndim == 4 and not self.takes_slices:
            raise ValueError(f"images: found slices {tuple(images.shape)}, wanted volumes (N, 1, D, H, W)")
        with torch.no_grad():
            harmonized = self._harmonize_any(taken.images, taken.mask, scanner).to(images.device, torch.float32)
            return taken.give_back(harmonized)

    def _harmonize_any(self, images: Tensor, mask: Tensor, scanner: str | None) -> Tensor:
        """Slices as volumes of one axial slice; a method that tells the two apart changes this."""
        if images.ndim == 5:
            return self._harmonize(images, mask, scanner)
        return self._harmonize(images[..., None], mask[..., None], scanner)[..., 0]

    @abstractmethod
    def _harmonize(self, images: Tensor, mask: Tensor, scanner: str | None) -> Tensor:
        """What the method does to checked images.

        Args:
            images: `(N, 1, D, H, W)` float32, finite, with contrast. W = 1 is a slice, whose axial position is unknown.
            mask: bool, same shape.
            scanner: of `scanners` where the method has any.
        """

    def to_reference(self, reference: Tensor, mask: Tensor | None = None) -> Self:
        """The same method with one image as its target, `(1, 1, D, H, W)` or `(1, 1, H, W)`, and its brain.

        Raises:
            ValueError: a method that takes no reference, or wants weights first; several images, one without contrast.
        """
        if not (self.reference_is_enough or self.takes_reference):
            stays = f"{self.name} is fitted on its target, which stays the target"
            raise ValueError(f"reference: found an image, wanted none: {stays}")
        taken = take_in(reference, mask, what="reference", takes_negatives=self.takes_negatives)
        if len(reference) != 1:
            raise ValueError(f"reference: found {len(reference)} images, wanted one")
        return self._fitted_to(Scans(taken.images, taken.mask))

    def _fitted_to(self, reference: Scans) -> Self:
        if reference.images.ndim == 4:
            reference = Scans(reference.images[..., None], reference.mask[..., None])
        return type(self)(self.settings).fit(OneReference(reference))

    def adapted(self, images: Tensor, mask: Tensor, *, progress: bool = True) -> Self:
        """A method for one site, adapted on some scans of it; this one stays as it is.

        Args:
            images: `(N, 1, D, H, W)`, scanner units.
            mask: bool, same shape: the brain.
            progress: show a bar.

        Raises:
            ValueError: a method that does not adapt, or scans that it cannot adapt on.
        """
        raise ValueError(f"{self.name}: found scans to adapt on, wanted none: this method does not adapt")

    @property
    def scanners(self) -> tuple[str, ...]:
        """The source scanners that `harmonize` tells apart; empty where it treats every source alike."""
        return ()

    def check_scanner(self, scanner: str | None) -> None:
        """Refuse a name that this method can do nothing with (ValueError), before anything long begins.

        Methods that treat every source alike take the name of any preset, or none.
        """
        if self.scanners:
            self._source(scanner)
        elif scanner is not None:
            preset(scanner)

    def _source(self, scanner: str | None) -> str | None:
        """The whole name of the scanner that is meant; the only one there is may be left out."""
        if not self.scanners:
            return scanner
        if scanner is None and len(self.scanners) == 1:
            return self.scanners[0]
        return full_name(scanner, self.scanners, f"one that {self.name} was fitted to")

    # ---------------------------------------------------------------------------------------------------------- state

    @property
    @abstractmethod
    def is_fitted(self) -> bool:
        """Whether `fit` or `load_state` has been called."""

    def check_fitted(self) -> None:
        """Refuse what needs weights before there are any (ValueError)."""
        if not self.is_fitted:
            wanted = "a reference image, `fit`, or" if self.reference_is_enough else "`fit` or"
            raise ValueError(f"{self.name}: found no weights, wanted {wanted} loaded weights")

    def fingerprint(self, view: Any) -> float:
        """One number by which a test recognises the beginning of the training; the weights' card keeps it.

        For a trained method it is a mean loss over the first steps; for others the mean of all that a fit learns.
        """
        return float(torch.cat([tensor.flatten() for tensor in self.fit(view).state().values()]).mean())

    @property
    def history(self) -> History:
        """All trainings in a row."""
        return History.joined(self.histories.values())

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """What `fit` learned, as named tensors; empty, or ValueError, before."""

    @abstractmethod
    def load_state(self, state: dict[str, Tensor]) -> Self:
        """Take over what an earlier `fit` learned; returns itself."""

    def load(self, path: str | Path) -> Self:
        """Read weights with their card (`harmony_lite.weights.load`); returns itself, with the settings of the card.

        The network is as large as the card says, whatever the active profile.

        Raises:
            FileNotFoundError: no weights, or no card.
            ValueError: a hash that does not fit, settings or tensors of another method or of another form.
        """
        state, card = weights.load(Path(path))
        return self.take_settings(card.settings).load_state(state)

    def take_settings(self, stored: Mapping[str, Any]) -> Self:
        """Take over the settings that a card holds; returns itself. A card of a method without settings holds none."""
        if stored:
            self.settings = weights.settings_as_stored(self.settings, stored)
        return self


def check_names(method: str, state: dict[str, Tensor], wanted: set[str]) -> None:
    """Refuse a state with other tensors than those `wanted` (ValueError)."""
    if set(state) != wanted:
        raise ValueError(f"{method}: found the tensors {sorted(state)}, wanted {sorted(wanted)}")


def check_tensors(method: str, state: dict[str, Tensor], wanted: dict[str, Tensor], others: dict[str, int]) -> None:
    """Refuse a state with other names than `wanted` and `others`, or tensors of other shapes (ValueError).

    Args:
        method: name in the message.
        state: what was loaded.
        wanted: a network's tensors by name.
        others: the other tensors' names, each with how many axes it has.
    """
    check_names(method, state, {*wanted, *others})
    for name, tensor in wanted.items():
        if state[name].shape != tensor.shape:
            found = f"{name} of shape {tuple(state[name].shape)}"
            raise ValueError(f"{method}: found {found}, wanted {tuple(tensor.shape)}, as the settings say")
    for name, axes in others.items():
        if state[name].ndim != axes:
            raise ValueError(f"{method}: found {name} of shape {tuple(state[name].shape)}, wanted {axes} axes")
