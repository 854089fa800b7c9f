"""Harmonizing Flows' tables (Beizaee et al., 2023) without its own method: four sites in turn train the segmentation.

Setting A trains on the first site and harmonizes the other three to it, and so on. Tables 1 and 4 (after N4): Dice and
modified Hausdorff distance, averaged over fourteen labels and the three other sites. The paper judges by a segmentation
network of coronal slices; here the atlas of `harmony_lite.tasks.atlas` is trained on the same scans, which suffers from
another site's contrast too, but knows the template and has less to lose.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import fmean

from torch import Tensor

from harmony_lite.cohort import Cohort
from harmony_lite.evaluate import metrics
from harmony_lite.evaluate.fits import Fit, Fitted
from harmony_lite.evaluate.measuring import TIER_SCANNERS, Entry, Measurement, averages, beside
from harmony_lite.papers.published import load
from harmony_lite.simulate import LABELS

__all__ = ["FITS", "PEOPLE_ON", "measure"]

SETTINGS = load("harmonizing_flows").conditions  # the training site first
PEOPLE_ON = SETTINGS["A"]
STRUCTURES = tuple(range(1, len(LABELS)))
ENTRIES = (
    Entry("Hist matching", "histogram-matching", "volume"),
    Entry("Combat", "combat", "target"),
    *beside("nyul"),  # straight lines change nothing: the atlas scales every scan by its own percentiles
)
UNTOUCHED, ITSELF = "Baseline", "training site itself"
FITS = tuple(
    fit
    for sites in SETTINGS.values()
    for corrected in (False, True)
    for fit in (
        Fit("atlas", "labels", sites[:1], corrected),
        *(entry.fit(sites, corrected=corrected) for entry in ENTRIES),
    )
)


def measure(person: Cohort, fitted: Fitted) -> Iterator[Measurement]:
    """Tables 1 and 4 and the Hausdorff distances in the text, for one person on all four sites."""
    tables = (
        ("Table 1", "Table 1", person, False),
        ("Table 4", "section 4.2, N4", fitted.without_fields(person), True),
    )
    for dice_place, hausdorff_place, scans, corrected in tables:
        found = [one for sites in SETTINGS.items() for one in _in_setting(*sites, scans, fitted, corrected)]
        dice = [replace(one.head, place=dice_place, measure="dsc", value=one.dice) for one in found]
        distance = [replace(one.head, place=hausdorff_place, measure="hd", value=one.distance) for one in found]
        yield from (*dice, *averages(dice, tuple(SETTINGS), "Average"))
        if not corrected:  # after N4 the paper prints the average alone
            yield from distance
        yield from averages(distance, tuple(SETTINGS), "Average")


@dataclass(frozen=True)
class _Judged:
    """What one row's segmentations are worth in one setting.

    Attributes:
        head: a measurement with row, condition, method and judge, and no value.
        dice: mean over labels and sites, per cent.
        distance: modified Hausdorff distance, likewise, mm.
    """

    head: Measurement
    dice: float
    distance: float


def _in_setting(
    setting: str, sites: tuple[str, ...], person: Cohort, fitted: Fitted, corrected: bool
) -> Iterator[_Judged]:
    """Every row of one setting."""
    target, *others = sites
    atlas = fitted(Fit("atlas", "labels", (target,), corrected))

    def judged(row: str, images: list[Tensor], method: str = "", variant: str = "") -> _Judged:
        both = [
            _agreement(atlas.segment(image, person.mask), person.labels, fitted.profile.spacing) for image in images
        ]
        head = Measurement("", "", row, setting, TIER_SCANNERS, method, variant, atlas.classifier, math.nan)
        return _Judged(head, fmean(dice for dice, _ in both), fmean(distance for _, distance in both))

    scans = {site: person.scans(site) for site in others}
    yield judged(UNTOUCHED, list(scans.values()))
    for entry in ENTRIES:
        method = fitted(entry.fit(sites, corrected=corrected))
        images = [method.harmonize(scan, scanner=site, mask=person.mask) for site, scan in scans.items()]
        yield judged(entry.row, images, entry.method, entry.variant)
    yield judged(ITSELF, [person.scans(target)])


def _agreement(found: Tensor, truth: Tensor, spacing: float) -> tuple[float, float]:
    """Mean over the labels of Dice (per cent) and of the modified Hausdorff distance (mm)."""
    dice = 100 * float(metrics.dice(found, truth, labels=STRUCTURES).mean())
    distance = float(metrics.modified_hausdorff(found, truth, spacing=spacing, labels=STRUCTURES).mean())
    if not math.isfinite(distance):
        raise ValueError("segmentation: found a label without a voxel, wanted all of them in every scan")
    return dice, distance
