"""What is fitted to training people before held-out ones are measured, and where it is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from harmony_lite import weights
from harmony_lite.cohort import Cohort, Needs
from harmony_lite.methods import load_method, method_class
from harmony_lite.profiles import Profile, active
from harmony_lite.simulate import LABELS
from harmony_lite.splits import people
from harmony_lite.storage import written_whole
from harmony_lite.tasks.atlas import AtlasClassifier
from harmony_lite.tasks.brain_age import AgeFromVolumes, shares_of_brain
from harmony_lite.tasks.tissue import CLASSES

__all__ = ["Fit", "Fitted"]

People = Callable[[Sequence[str], Profile | None], tuple[Cohort, Cohort, Cohort]]
JUDGES = {"atlas": AtlasClassifier, "age": AgeFromVolumes}  # what judges images, fitted to the target's scans


@dataclass(frozen=True)
class Fit:
    """One thing to be fitted. An experiment may derive from it, for what is neither method nor judge.

    Attributes:
        name: of a method, or of a judge: "atlas" for the classifier of `harmony_lite.tasks.atlas`, "age" for the
            regression of `harmony_lite.tasks.brain_age` on what that classifier finds.
        variant: of the method; or what the atlas tells apart, "tissues" or "labels".
        scanners: the target first; a method that needs the target only sees no other.
        corrected: every scan after N4 bias correction.
        people: whose split the training people are taken from: scanners and profile to training, validation and test.
    """

    name: str
    variant: str
    scanners: tuple[str, ...]
    corrected: bool = False
    people: People = people

    @property
    def is_shipped(self) -> bool:
        """Whether the package carries this one, so that nothing is left to fit."""
        if self.name in JUDGES or self.corrected:
            return False
        shipping = method_class(self.name).shipping
        return shipping is not None and self.scanners[0] in shipping.targets(self.variant)

    def shipped_hash(self) -> str:
        """SHA-256 of the shipped weights; empty where there is something to fit."""
        if not self.is_shipped:
            return ""
        return weights.load(method_class(self.name).shipped_weights(self.variant, self.scanners[0]))[1].sha256

    @property
    def label(self) -> str:
        """A file's name for it."""
        seen = self.scanners if self.name not in JUDGES and self._sees_all else self.scanners[:1]
        marks = ["n4"] * self.corrected + [self.people.__name__] * (self.people is not people)
        return ".".join([self.name, self.variant, "+".join(seen), *marks])

    @property
    def _sees_all(self) -> bool:
        return method_class(self.name).needs is Needs.SEVERAL_SCANNERS

    def unfitted(self) -> Any:
        """The method or the judge, with no weights."""
        return JUDGES[self.name]() if self.name in JUDGES else load_method(self.name, self.variant, fitted=False)

    def fitted(self, others: Fitted) -> Any:
        """The method or the judge, fitted to training people; `others` has what that needs in its turn."""
        training = self.people(self.scanners, others.profile)[0]
        if self.corrected:
            training = others.without_fields(training)
        if self.name in JUDGES:
            return self._judge(training, others)
        method = self.unfitted()
        return method.fit(training.view(method.needs))

    def _judge(self, training: Cohort, others: Fitted) -> Any:
        judge, scans, mask = self.unfitted(), training.scans(training.scanners[0]), training.mask
        if self.name == "atlas":
            truth = training.largest_tissue if self.variant == "tissues" else training.labels
            return judge.fit(scans, mask, truth, spacing=others.profile.spacing)
        atlas = others(replace(self, name="atlas"))
        kinds = len(LABELS) - 1 if self.variant == "labels" else len(CLASSES)
        return judge.fit(shares_of_brain(atlas.segment(scans, mask), kinds), training.ages)


class Fitted:
    """Methods and classifiers after their fit, kept as files so that several processes share them.

    Args:
        folder: where the files are; made where it is absent.
        profile: whose people they are fitted to.
    """

    def __init__(self, folder: str | Path, profile: Profile | None = None) -> None:
        self.folder = Path(folder)
        self.profile = profile or active()
        self._known: dict[Fit, Any] = {}

    def __call__(self, fit: Fit) -> Any:
        """The fitted thing: shipped, from its file, or fitted now and written."""
        if fit not in self._known:
            self._known[fit] = self._shipped(fit) if fit.is_shipped else self._from_file_or_people(fit)
        return self._known[fit]

    def reference(self, scanner: str, *, corrected: bool = False) -> Tensor:
        """(1, 1, D, H, W): the one scan that one-shot methods are given, of the first training person; or after N4."""
        person = people([scanner], self.profile)[0].subset([0])
        return (self.without_fields(person) if corrected else person).scans(scanner)

    def without_fields(self, cohort: Cohort) -> Cohort:
        """The same people and scanners after N4 bias correction; a scan is corrected once and kept as a file."""
        return cohort.corrected(self.folder / "n4")

    def _shipped(self, fit: Fit) -> Any:
        return load_method(fit.name, fit.variant, target=fit.scanners[0])

    def _from_file_or_people(self, fit: Fit) -> Any:
        path = self.folder / f"{fit.label}.safetensors"
        if not path.is_file():
            made = fit.fitted(self)
            self.folder.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as part:
                part.write_bytes(safetensors.torch.save(made.state()))
        return fit.unfitted().load_state(safetensors.torch.load(path.read_bytes()))
