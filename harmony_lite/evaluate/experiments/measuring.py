"""What the papers' experiments share: one measured number, the rows beside a paper's own, measures and averages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from torch import Tensor

from harmony_lite.cohort import Cohort
from harmony_lite.evaluate import metrics
from harmony_lite.evaluate.experiments.fits import Fit, Fitted, largest_tissue
from harmony_lite.methods import method_class
from harmony_lite.simulate import LABELS
from harmony_lite.tasks.brain_age import shares_of_brain

__all__ = [
    "MAPS", "RESCAN", "SCANNERS", "STRAIGHT_LINES", "Compared", "Entry", "Measurement", "age_error", "averages",
    "beside", "fits_of", "images_of", "rescanned", "scaled_by_itself", "tissue_overlap",
]  # fmt: skip

MAPS, SCANNERS = "i", "ii"  # data tiers
RESCAN = "rescan"
# methods whose result is a straight line of the scan: a classifier that scales every scan by itself sees no difference
STRAIGHT_LINES = ("affine-match", "percentile", "white-stripe")


@dataclass(frozen=True)
class Measurement:
    """One number of one person, in one cell of a table.

    Attributes:
        place: "Table 1".
        measure: as the paper's table calls it.
        row: the paper's name where it prints the row, else the method's.
        condition: of the table.
        tier: "i" intensity maps, "ii" simulated scanners, "iii" real scans.
        method: name of the method, or empty for rows without one.
        variant: of the method.
        by: what judged, where that is a classifier; two of them never share a table.
        value: in the measure's unit.
    """

    place: str
    measure: str
    row: str
    condition: str
    tier: str
    method: str
    variant: str
    by: str
    value: float


@dataclass(frozen=True)
class Entry:
    """A row of a table and the method behind it."""

    row: str
    method: str
    variant: str

    def fit(self, scanners: Sequence[str], *, corrected: bool = False) -> Fit:
        """What this row's method has to be fitted to; the target first."""
        return Fit(self.method, self.variant, tuple(scanners), corrected)


@dataclass(frozen=True)
class Compared:
    """An image of one row, on the target's grid and in its units."""

    row: str
    image: Tensor
    method: str = ""
    variant: str = ""


def beside(*methods: str) -> tuple[Entry, ...]:
    """Rows that a paper does not print, named by method and, where there are several, variant: "ssimh (slice)"."""
    return tuple(_beside(*name.partition(":")[::2]) for name in methods)


def _beside(name: str, variant: str) -> Entry:
    variants = method_class(name).variants
    variant = variant or variants[0]
    return Entry(f"{name} ({variant})" if len(variants) > 1 else name, name, variant)


def fits_of(entries: Iterable[Entry], scanners: Sequence[str], *, corrected: bool = False) -> tuple[Fit, ...]:
    """Everything that some rows have to be fitted to."""
    return tuple(entry.fit(scanners, corrected=corrected) for entry in entries)


def images_of(
    person: Cohort, scanner: str, entries: Iterable[Entry], fitted: Fitted, scanners: Sequence[str], untouched: str
) -> Iterator[Compared]:
    """One person's scan on a source scanner, scaled by itself alone and after each method.

    Args:
        person: one person.
        scanner: the source.
        entries: rows with methods.
        fitted: where the methods come from.
        scanners: of the fits, the target first.
        untouched: the paper's name for the source's row.
    """
    source, own_mask = person.scans(scanner), person.masks(scanner)
    yield Compared(untouched, scaled_by_itself(source, own_mask, fitted, scanners))
    for entry in entries:
        method = fitted(entry.fit(scanners))
        yield Compared(entry.row, method.harmonize(source, scanner=scanner, mask=own_mask), entry.method, entry.variant)


def scaled_by_itself(scan: Tensor, mask: Tensor, fitted: Fitted, scanners: Sequence[str]) -> Tensor:
    """A scan (1, 1, D, H, W) with its own 1st and 99th percentiles brought to those of the target's training people.

    The papers scale every scan by itself before anything else, the target's too: the gain of a session, which no
    method could know, then stands in no row.
    """
    return fitted(Fit("percentile", "volume", tuple(scanners))).harmonize(scan, mask=mask)


def rescanned(person: Cohort, fitted: Fitted, scanners: Sequence[str]) -> Compared:
    """The same person again on the target scanner: the floor of PSNR and SSIM in every table of scanners."""
    again = person.scans(person.scanners[0], repeat=1)
    return Compared(RESCAN, scaled_by_itself(again, person.mask, fitted, scanners))


def tissue_overlap(person: Cohort, image: Tensor, fitted: Fitted, target: str) -> tuple[dict[str, float], str]:
    """Overlap of CSF, GM and WM, found by the atlas of the target's training people, with the truth.

    Returns:
        Mean Dice of the three tissues as "dice", intersection over union of white matter as "iou"; and the classifier.
    """
    atlas = fitted(Fit("atlas", "tissues", (target,)))
    found, truth = atlas.segment(image, person.mask), largest_tissue(person)
    values = {
        "dice": float(metrics.dice(found, truth, labels=[1, 2, 3]).mean()),
        "iou": float(metrics.iou(found, truth, labels=[3]).mean()),
    }
    return values, atlas.classifier


def age_error(person: Cohort, image: Tensor, fitted: Fitted, target: str) -> tuple[float, str]:
    """Years between a person's age and the one told from the volumes that the target's atlas finds; and by what."""
    atlas, age = (fitted(Fit(name, "labels", (target,))) for name in ("atlas", "age"))
    told = age.predict(shares_of_brain(atlas.segment(image, person.mask), len(LABELS) - 1))
    return float(metrics.mae(told, person.ages.double())), f"{age.name}, found by an {atlas.classifier}"


def averages(
    found: Sequence[Measurement], conditions: Sequence[str], name: str, *, place: str | None = None
) -> Iterator[Measurement]:
    """The mean over some conditions for each measure and row of a table, as a condition of its own.

    Args:
        found: measurements of one table.
        conditions: to be averaged over; a row that lacks one is left out.
        name: of the new condition.
        place: where the average stands, if not in the table itself.
    """
    groups: dict[tuple[str, str], list[Measurement]] = {}
    for one in found:
        if one.condition in conditions:
            groups.setdefault((one.measure, one.row), []).append(one)
    for group in groups.values():
        if len(group) == len(conditions):
            mean = fmean(one.value for one in group)
            yield replace(group[0], place=place or group[0].place, condition=name, value=mean)
