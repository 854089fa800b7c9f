"""Harmonizing Flows' tables (Beizaee et al., 2023): four sites in turn train the segmentation, the others come to it.

Setting A has the first site as the target and harmonizes the other three to it, and so on. Dice and modified Hausdorff
distance are averaged over fourteen labels and the three other sites. Every row is judged by S_Phi, a network that has
seen the target alone (`judges.py`); BigAug and TENT are judges of their own, AUE asks S_Phi about changed copies.

"Ours" is the variant `ours`, adapted to each site until the target's bits are reached or forty steps are taken, as that
variant does. The paper's row goes by the smallest entropy, which its Tables 1 and 3 share; that rule stands in Table 3
here, and on validation people it was seen to keep the first step. Adaptation sees the validation people on the site and
no label; the paper adapts on the test people themselves.

In Table 4 and the distances after N4, classical methods are fitted anew to corrected scans and the harmonizer is
adapted anew. The networks are those of Table 1, which were trained on scans as they are; the paper trains all of them
again. Style transfer takes all four sites for one domain, so its one network serves every setting, and a scan of the
target's first training person says the style.

A condition of our own, "A shaded", has setting A's sites with a strong field over them, which no curve takes back.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from statistics import fmean

from torch import Tensor

from harmony_lite.cohort import Cohort
from harmony_lite.evaluate import metrics
from harmony_lite.evaluate.fits import Fit, Fitted
from harmony_lite.evaluate.measuring import TIER_SCANNERS, Entry, Measurement, averages, beside
from harmony_lite.papers.harmonizing_flows.judges import BIGAUG, judge, small_changes
from harmony_lite.papers.harmonizing_flows.sites import (
    ENTROPY,
    ORACLE,
    PLATEAU,
    SOURCE_BITS,
    STRUCTURES,
    SiteFit,
    shaded,
)
from harmony_lite.papers.published import load
from harmony_lite.tasks.structures import StructureUNet

__all__ = ["FITS", "PEOPLE_ON", "measure"]

SETTINGS = load("harmonizing_flows").conditions  # the target first
PEOPLE_ON = SETTINGS["A"]
SHADED = "A shaded"
LOST = 50.0  # mm: the modified Hausdorff distance of a structure that is not found at all, which has none
COPIES = 3  # changed copies that AUE adds to each scan
PRINTED = (
    Entry("Hist matching", "histogram-matching", "volume"),
    Entry("Combat", "combat", "target"),
    Entry("Style-transfer", "style-transfer", "sites"),
    Entry("Cycle-GAN", "cyclegan", "scanners"),
)
ONE_FOR_ALL = "style-transfer"  # its one network serves every target
AS_TRAINED = (ONE_FOR_ALL, "cyclegan")  # whose networks are Table 1's in either table
OURS = ("harmonizing-flows", "ours")
ADDED = beside("field-swap", "affine-match")
AFTER_N4 = (*PRINTED, *beside("field-swap"))
UNTOUCHED, ITSELF = "Baseline", "training site itself"


# Rows of `_Setting` by the names that each table has for them
TABLE_1 = {
    name: name for name in (UNTOUCHED, "AUE", "Hist matching", "Combat", "BigAug", "Style-transfer", "Cycle-GAN")
} | {"Ours": SOURCE_BITS}  # fmt: skip
TABLE_2 = {
    "Without harmonization": UNTOUCHED,
    "Pre-trained harmonizer": "pre-trained",
    "Adapting using NF": SOURCE_BITS,
}
TABLE_3 = {
    "Minimum Entropy": ENTROPY,
    "Source BPD": SOURCE_BITS,
    "Oracle (best epoch)": ORACLE,
    "entropy plateau": PLATEAU,
}
TTA = {"TENT": "TENT", "Ours": SOURCE_BITS}
WITH_DISTANCE = {*TABLE_1.values(), ITSELF}


def _fit_of(entry: Entry, sites: tuple[str, ...], *, corrected: bool = False) -> Fit:
    """What a comparator is fitted to in one setting; style transfer is in every setting what it is in the first."""
    seen = PEOPLE_ON if entry.method == ONE_FOR_ALL else sites
    return entry.fit(seen, corrected=corrected and entry.method not in AS_TRAINED)


def _fits() -> Iterator[Fit]:
    for sites in SETTINGS.values():
        target, *others = sites
        yield Fit(*OURS, (target,))
        yield from (_fit_of(entry, sites) for entry in (*PRINTED, *ADDED))
        yield from (_fit_of(entry, sites, corrected=True) for entry in AFTER_N4 if entry.method not in AS_TRAINED)
        for corrected in (False, True):
            yield from (SiteFit("site", "", (target, site), corrected) for site in others)
    target, *others = SETTINGS["A"]
    yield from (SiteFit("site", "", (target, site), is_shaded=True) for site in others)


FITS = tuple(dict.fromkeys(_fits()))


def measure(person: Cohort, fitted: Fitted, rows: Collection[str] = ()) -> Iterator[Measurement]:
    """All tables, and the numbers of the text, for one person on all four sites.

    With `rows`, which name comparators, these alone and the baseline.
    """
    corrected = fitted.without_fields(person)
    plain = {name: list(_Setting(person, sites, fitted).rows(rows)) for name, sites in SETTINGS.items()}
    after_n4 = {
        name: list(_Setting(corrected, sites, fitted, corrected=True).rows(rows)) for name, sites in SETTINGS.items()
    }
    in_shade = {SHADED: list(_Setting(person, SETTINGS["A"], fitted, is_shaded=True).rows(rows))}
    added = {entry.row: entry.row for entry in ADDED}
    ours = added | {ITSELF: ITSELF}
    yield from _cells("Table 1", "dsc", plain, TABLE_1 | ours)
    yield from _cells("Table 1", "dsc", in_shade, TABLE_1 | added)
    yield from _cells("Table 1", "hd", plain, TABLE_1 | {ITSELF: ITSELF})
    yield from _cells("Table 2", "dsc", plain, TABLE_2)
    yield from _cells("Table 3", "dsc", plain, TABLE_3)
    yield from _cells("Table 4", "dsc", after_n4, TABLE_1 | ours)
    # of the following the paper prints the average alone
    for place, kind, settings, names in (
        ("section 4.2, N4", "hd", after_n4, {name: row for name, row in TABLE_1.items() if name != "AUE"}),
        ("section 4.2, TTA", "dsc", plain, TTA),
    ):
        yield from (one for one in _cells(place, kind, settings, names) if one.condition == "Average")


@dataclass(frozen=True)
class _Judged:
    """What one row's segmentations are worth in one setting.

    Attributes:
        row: its name.
        head: a measurement with method, judge and target, and no place, measure or value.
        values: "dsc", the Dice in per cent, and where a table asks for it "hd", the modified Hausdorff distance in mm:
            means over labels and sites.
    """

    row: str
    head: Measurement
    values: dict[str, float]


class _Setting:
    """One target and its three sites: every row, for one person."""

    def __init__(
        self,
        person: Cohort,
        sites: tuple[str, ...],
        fitted: Fitted,
        *,
        corrected: bool = False,
        is_shaded: bool = False,
    ) -> None:
        self.person, self.sites, self.fitted = person, sites, fitted
        self.corrected, self.is_shaded = corrected, is_shaded
        self.target, *self.others = sites
        self.masks = {site: person.masks(site) for site in self.others}
        scans = {site: person.scans(site) for site in self.others}
        self.scans = {site: shaded(scan, self.masks[site]) if is_shaded else scan for site, scan in scans.items()}
        self.judge = judge(self.target)

    def rows(self, some: Collection[str] = ()) -> Iterator[_Judged]:
        """In the tables' order; with the names of some comparators, the baseline and these."""
        sites = self.others
        yield self._of(UNTOUCHED, {site: self._segmented(self.scans[site]) for site in sites})
        if some:
            yield from self._of_comparators(some)
            return
        averaged = {
            site: self.judge.averaged(self.scans[site], self.person.mask, small_changes, times=COPIES) for site in sites
        }
        yield self._of("AUE", averaged)
        yield self._of(
            "BigAug", {site: self._segmented(self.scans[site], judge(self.target, BIGAUG)) for site in sites}
        )
        yield from self._of_comparators()
        yield from self._of_flows()
        if not self.is_shaded:
            yield self._of(ITSELF, {self.target: self._segmented(self.person.scans(self.target))})

    def _of_comparators(self, some: Collection[str] = ()) -> Iterator[_Judged]:
        """What each comparator makes of the three sites, or some of them do."""
        for entry in AFTER_N4 if self.corrected else (*PRINTED, *ADDED):
            if not some or entry.row in some:
                found = {site: self._segmented(self._harmonized(entry, site)) for site in self.others}
                yield self._of(entry.row, found, entry.method, entry.variant)

    def _of_flows(self) -> Iterator[_Judged]:
        """The harmonizer as pre-trained and by each rule, and TENT."""
        fits = {
            site: SiteFit("site", "", (self.target, site), self.corrected, is_shaded=self.is_shaded)
            for site in self.others
        }
        adapted = {site: self.fitted(fit) for site, fit in fits.items()}
        known: dict[tuple[str, int], Tensor] = {}  # two rules may keep one step; 0 is the pre-trained harmonizer

        def at(site: str, stop: str) -> Tensor:
            method = adapted[site].methods[stop]
            if (step := (site, method.adaptation.kept)) not in known:
                known[step] = self._segmented(method.harmonize(self.scans[site], mask=self.masks[site]))
            return known[step]

        for stop in (SOURCE_BITS,) if self.corrected or self.is_shaded else (ENTROPY, SOURCE_BITS, ORACLE, PLATEAU):
            yield self._of(stop, {site: at(site, stop) for site in self.others}, *OURS)
        if self.corrected or self.is_shaded:
            return
        method = self.fitted(Fit(*OURS, (self.target,)))
        first = {
            site: self._segmented(method.harmonize(self.scans[site], mask=self.masks[site])) for site in self.others
        }
        yield self._of("pre-trained", first, *OURS)
        yield self._of("TENT", {site: self._segmented(self.scans[site], adapted[site].tent) for site in self.others})

    def _harmonized(self, entry: Entry, site: str) -> Tensor:
        method = self.fitted(_fit_of(entry, self.sites, corrected=self.corrected))
        if method.takes_reference:
            method = method.to_reference(self.fitted.reference(self.target, corrected=self.corrected))
        return method.harmonize(self.scans[site], scanner=site, mask=self.masks[site])

    def _segmented(self, image: Tensor, by: StructureUNet | None = None) -> Tensor:
        return (by or self.judge).segment(image, self.person.mask)

    def _of(self, row: str, found: dict[str, Tensor], method: str = "", variant: str = "") -> _Judged:
        truth, spacing = self.person.labels, self.fitted.profile.spacing
        shares = [float(metrics.dice(labels, truth, labels=STRUCTURES).mean()) for labels in found.values()]
        values = {"dsc": 100 * fmean(shares)}
        if row in WITH_DISTANCE and not self.is_shaded:
            values["hd"] = fmean(_distance(labels, truth, spacing) for labels in found.values())
        of = "" if method == ONE_FOR_ALL else self.target  # whose weights
        head = Measurement("", "", "", "", TIER_SCANNERS, method, variant, StructureUNet.classifier, math.nan, of)
        return _Judged(row, head, values)


def _cells(
    place: str, measure: str, settings: dict[str, list[_Judged]], names: dict[str, str]
) -> Iterator[Measurement]:
    """A table's cells of one measure: `names` are the table's, each with that of a row of `_Setting`."""
    cells = [
        replace(one.head, place=place, measure=measure, row=name, condition=setting, value=one.values[measure])
        for setting, rows in settings.items()
        for name, row in names.items()
        for one in rows
        if one.row == row
    ]
    yield from cells
    yield from averages(cells, tuple(SETTINGS), "Average")


def _distance(found: Tensor, truth: Tensor, spacing: float) -> float:
    """Mean over the labels of the modified Hausdorff distance, mm; a structure that is not found counts as `LOST`."""
    distances = metrics.modified_hausdorff(found, truth, spacing=spacing, labels=STRUCTURES)
    return float(distances.clamp_max(LOST).mean())
