"""Who the people are, and what is fitted to the training ones before held-out ones are measured."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from harmony_lite import weights
from harmony_lite.cohort import Cohort, Needs
from harmony_lite.cohort_sources import Source, drawn_age
from harmony_lite.methods import load_method, method_class
from harmony_lite.methods.bias_correction import without_field
from harmony_lite.profiles import Profile, active
from harmony_lite.simulate import LABELS
from harmony_lite.storage import written_whole
from harmony_lite.tasks.atlas import AtlasClassifier
from harmony_lite.tasks.brain_age import AgeFromVolumes, shares_of_brain
from harmony_lite.tasks.tissue import CLASSES

__all__ = ["Fit", "Fitted", "largest_tissue", "people", "travelling_people"]

TRAVELLING_AGES = (51.0, 78.0)  # years
JUDGES = {"atlas": AtlasClassifier, "age": AgeFromVolumes}  # what judges images, fitted to the target's scans


def people(scanners: Sequence[str], profile: Profile | None = None) -> tuple[Cohort, Cohort, Cohort]:
    """Training, validation and test people of a profile on some scanners, the target first.

    Person `i` of a seed is the same whatever the scanners, so these are the people that shipped weights were trained
    on, those that chose between settings, and those that nobody has looked at.
    """
    profile = profile or active()
    sizes = (profile.train_subjects, profile.validation_subjects, profile.test_subjects)
    everybody = Cohort.simulate(sum(sizes), scanners, spacing=profile.spacing, seed=profile.seed)
    return everybody.split(*sizes)


def travelling_people(
    scanners: Sequence[str], profile: Profile | None = None, *, misregistration: float | None = None
) -> tuple[Cohort, Cohort, Cohort]:
    """As `people`, aged 51 to 78 and with as many test people as MISPEL's cohort has (Torbati et al., section 4.1).

    Person `i` has the anatomy of person `i` there at another age. Ages are even over the range; the paper's median is
    72. A third of the paper's people are patients with Alzheimer's disease; nobody is here.
    """
    profile = profile or active()
    sizes = (profile.train_subjects, profile.validation_subjects, profile.travelling_subjects)
    youngest, oldest = TRAVELLING_AGES
    drawn = [(drawn_age(profile.seed, i) - 20) / 60 for i in range(sum(sizes))]  # evenly from 0 to 1
    ages = [round(youngest + share * (oldest - youngest), 1) for share in drawn]
    everybody = Cohort.simulate(
        sum(sizes), scanners, profile.spacing, profile.seed, ages=ages, misregistration=misregistration
    )
    return everybody.split(*sizes)


def largest_tissue(person: Cohort) -> Tensor:
    """(N, 1, D, H, W) uint8: 0 outside the brain, else 1 CSF, 2 GM or 3 WM, whichever fraction is the largest."""
    return ((person.tissues.argmax(1, keepdim=True) + 1) * person.mask).to(torch.uint8)


@dataclass(frozen=True)
class Fit:
    """One thing to be fitted.

    Attributes:
        name: of a method, or of a judge: "atlas" for the classifier of `harmony_lite.tasks.atlas`, "age" for the
            regression of `harmony_lite.tasks.brain_age` on what that classifier finds.
        variant: of the method; or what the atlas tells apart, "tissues" or "labels".
        scanners: the target first; a method that needs the target only sees no other.
        corrected: every scan after N4 bias correction.
        travelling: on the people of `travelling_people`.
    """

    name: str
    variant: str
    scanners: tuple[str, ...]
    corrected: bool = False
    travelling: bool = False

    @property
    def is_shipped(self) -> bool:
        """Whether the package carries this one, so that nothing is left to fit."""
        if self.name in JUDGES or self.corrected or not method_class(self.name).is_shipped:
            return False
        return self.scanners[0] == method_class(self.name).shipped_target

    def shipped_hash(self) -> str:
        """SHA-256 of the shipped weights; empty where there is something to fit."""
        if not self.is_shipped:
            return ""
        return weights.load(method_class(self.name).shipped_weights(self.variant))[1].sha256

    @property
    def label(self) -> str:
        """A file's name for it."""
        seen = self.scanners if self.name not in JUDGES and self._sees_all else self.scanners[:1]
        marks = [mark for mark, is_so in (("n4", self.corrected), ("travelling", self.travelling)) if is_so]
        return ".".join([self.name, self.variant, "+".join(seen), *marks])

    @property
    def _sees_all(self) -> bool:
        return method_class(self.name).needs is Needs.SEVERAL_SCANNERS


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
            self._known[fit] = load_method(fit.name, fit.variant) if fit.is_shipped else self._from_file_or_people(fit)
        return self._known[fit]

    def reference(self, scanner: str) -> Tensor:
        """(1, 1, D, H, W): the one scan that one-shot methods are given, of the first training person."""
        return people([scanner], self.profile)[0].subset([0]).scans(scanner)

    def without_fields(self, cohort: Cohort) -> Cohort:
        """The same people and scanners after N4 bias correction; a scan is corrected once and kept as a file."""
        return replace(cohort, _source=_CorrectedPeople(cohort._source, self.folder / "n4"))

    def _path(self, fit: Fit) -> Path:
        return self.folder / f"{fit.label}.safetensors"

    def _from_file_or_people(self, fit: Fit) -> Any:
        is_judge = fit.name in JUDGES
        unfitted = JUDGES[fit.name]() if is_judge else load_method(fit.name, fit.variant, fitted=False)
        if not self._path(fit).is_file():
            training = (travelling_people if fit.travelling else people)(fit.scanners, self.profile)[0]
            if fit.corrected:
                training = self.without_fields(training)
            if is_judge:
                fitted = self._fit_judge(unfitted, fit, training)
            else:
                fitted = unfitted.fit(training.view(unfitted.needs))
            self.folder.mkdir(parents=True, exist_ok=True)
            with written_whole(self._path(fit)) as part:
                part.write_bytes(safetensors.torch.save(fitted.state()))
        return unfitted.load_state(safetensors.torch.load(self._path(fit).read_bytes()))

    def _fit_judge(self, judge: Any, fit: Fit, training: Cohort) -> Any:
        scans, mask = training.scans(training.scanners[0]), training.mask
        if fit.name == "atlas":
            truth = largest_tissue(training) if fit.variant == "tissues" else training.labels
            return judge.fit(scans, mask, truth, spacing=self.profile.spacing)
        atlas = self(replace(fit, name="atlas"))
        kinds = len(LABELS) - 1 if fit.variant == "labels" else len(CLASSES)
        return judge.fit(shares_of_brain(atlas.segment(scans, mask), kinds), training.ages)


@dataclass(frozen=True)
class _CorrectedPeople:
    """A source of people whose scans come without their receive field."""

    source: Source
    folder: Path

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def with_scanners(self, scanners: tuple[str, ...]) -> _CorrectedPeople:
        return replace(self, source=self.source.with_scanners(scanners))

    def scan(self, person: int, scanner: str, repeat: int) -> Tensor:
        scan = self.source.scan(person, scanner, repeat)
        which = hashlib.sha256(scan.numpy().tobytes()).hexdigest()[:16]  # of one name there are people of several ages
        path = self.folder / f"{self.source.names[person]}.{scanner}.{repeat}.{which}.safetensors"
        if not path.is_file():
            corrected = without_field(scan[None], self.source.mask(person, scanner)[None])[0]
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as part:
                part.write_bytes(safetensors.torch.save({"scan": corrected.contiguous()}))
        return safetensors.torch.load(path.read_bytes())["scan"]
