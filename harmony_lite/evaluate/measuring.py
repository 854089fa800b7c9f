"""What the papers' experiments share: one measured number, the rows beside a paper's own, measures and averages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from harmony_lite.cohort import Cohort
from harmony_lite.evaluate import metrics
from harmony_lite.evaluate.fits import Fit, Fitted, People
from harmony_lite.images.normalize import foreground, percentiles, slice_minmax, subject_percentile
from harmony_lite.images.slices import axial_slices, even_positions
from harmony_lite.methods import method_class
from harmony_lite.simulate import LABELS
from harmony_lite.splits import people
from harmony_lite.tasks.brain_age import shares_of_brain
from harmony_lite.tasks.segmentation import WhiteMatterUNet

__all__ = [
    "RESCAN", "TIER_MAPS", "TIER_REAL", "TIER_SCANNERS", "Compared", "Entry", "Measurement", "age_error", "at_heights",
    "averages", "beside", "fits_of", "histogram_distances", "images_of", "measured_in_slices", "rescanned",
    "scaled_by_itself", "tissue_overlap", "white_matter_overlap",
]  # fmt: skip

TIER_MAPS, TIER_SCANNERS, TIER_REAL = "i", "ii", "iii"
RESCAN = "rescan"
WHITE = 3  # of `Cohort.largest_tissue`
Values = dict[str, float]


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
        target: the scanner that images were brought to, in a table that has several; empty elsewhere.
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
    target: str = ""


@dataclass(frozen=True)
class Entry:
    """A row of a table and the method behind it.

    Attributes:
        row: the paper's name where it prints the row.
        method: its name.
        variant: of the method.
        domain: the source domain whose network is taken, whatever the scan is of; that of the scan when empty.
        changes: settings of the loop that differ from the variant's, by name.
    """

    row: str
    method: str
    variant: str
    domain: str = ""
    changes: tuple[tuple[str, Any], ...] = ()

    def harmonized(
        self,
        scan: Tensor,
        scanner: str,
        mask: Tensor,
        fitted: Fitted,
        scanners: Sequence[str],
        slices: int | None = None,
    ) -> Compared:
        """A scan (1, 1, D, H, W) after this row's method.

        Args:
            scan: of the source.
            scanner: its name.
            mask: the brain.
            fitted: where the method comes from.
            scanners: of the fit, the target first.
            slices: how many axial slices will be measured; a method that takes every slice by itself leaves out the
                others, which stay 0.
        """
        method = fitted(self.fit(scanners))
        if self.changes:
            method = method.with_loop(**dict(self.changes))
        inside = at_heights(mask, slices) if slices and method.is_slicewise else mask
        image = method.harmonize(scan, scanner=self.domain or scanner, mask=inside)
        return Compared(self.row, image, self.method, self.variant, method.tops if method.is_slicewise else None)

    def fit(self, scanners: Sequence[str], *, corrected: bool = False, people: People = people) -> Fit:
        """What this row's method has to be fitted to; the target first. The others as in `Fit`."""
        return Fit(self.method, self.variant, tuple(scanners), corrected, people)


@dataclass(frozen=True)
class Compared:
    """An image of one row, on the target's grid.

    Attributes:
        row: its name.
        image: (1, 1, D, H, W), in the target's units.
        method: that made it.
        variant: of the method.
        tops: (W,): what 1 of a slice in [0, 1] is in these units, where the method works on such slices.
    """

    row: str
    image: Tensor
    method: str = ""
    variant: str = ""
    tops: Tensor | None = None

    def cells(
        self, place: str, condition: str, values: Mapping[str, float], *, tier: str = TIER_SCANNERS, by: str = ""
    ) -> Iterator[Measurement]:
        """One measurement of this row for each value, by the measures' names."""
        for name, value in values.items():
            yield Measurement(place, name, self.row, condition, tier, self.method, self.variant, by, value)

    @property
    def is_straight_line(self) -> bool:
        """Whether the image is a straight line of the scan: a classifier that scales every scan by itself sees none."""
        return bool(self.method) and method_class(self.method).is_straight_line


def beside(*methods: str) -> tuple[Entry, ...]:
    """Rows that a paper does not print, named by method and, where there are several, variant: "ssimh (slice)"."""
    return tuple(_beside(*name.partition(":")[::2]) for name in methods)


def _beside(name: str, variant: str) -> Entry:
    variants = method_class(name).variants
    variant = variant or variants[0]
    return Entry(f"{name} ({variant})" if len(variants) > 1 else name, name, variant)


def fits_of(entries: Iterable[Entry], scanners: Sequence[str], **how: Any) -> tuple[Fit, ...]:
    """Everything that some rows have to be fitted to, `how` as in `Entry.fit`."""
    return tuple(entry.fit(scanners, **how) for entry in entries)


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
        yield entry.harmonized(source, scanner, own_mask, fitted, scanners)


def at_heights(mask: Tensor, slices: int) -> Tensor:
    """A mask (1, 1, D, H, W) at the evenly spaced axial positions that are measured, empty at the others."""
    positions = even_positions(mask, slices)[0]
    kept = torch.zeros(mask.shape[-1], dtype=torch.bool)
    kept[positions] = True
    return mask & kept


def measured_in_slices(one: Compared, target: Tensor, mask: Tensor, measures: Sequence[str], slices: int) -> Values:
    """PSNR and SSIM in axial slices, each in [0, 1], BlindHarmony's scale (section 4.1): 1 is the range.

    The target's slices, and those of a source or of a method that knows no such scale, are divided by their own
    maximum; a method that gives slices in [0, 1] is taken at its word.

    Args:
        one: the image; negative values count as 0, as does everything outside the mask.
        target: (1, 1, D, H, W).
        mask: bool, same shape: the brain.
        measures: of "psnr" and "ssim".
        slices: how many, evenly spaced over the mask.

    Returns:
        The mean over the slices, by measure.
    """
    truth, positions = axial_slices(slice_minmax(target.clamp_min(0) * mask), slices, mask=mask)
    image = one.image.clamp_min(0) * mask
    scaled = slice_minmax(image) if one.tops is None else image / one.tops.clamp_min(1e-6)
    found, inside = (axial_slices(volume, slices, positions=positions)[0] for volume in (scaled, mask))
    return {name: float(getattr(metrics, name)(found, truth, inside, data_range=1.0).mean()) for name in measures}


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


def histogram_distances(scan: Tensor, image: Tensor, reference: Tensor, mask: Tensor) -> Values:
    """HAIL's Equation 1 inside the brain, in per cent: how far an image moved from its scan, and how far it still is.

    The scan is scaled to [0, 1] by its own 1st and 99th percentiles, image and reference by the reference's, so that
    percentile scaling alone is 0 and 100.

    Args:
        scan: (1, 1, D, H, W), before harmonizing.
        image: same shape, after it, in the reference's units.
        reference: (1, 1, D, H, W) of any sides, somebody's scan on the target.
        mask: bool, the brain in the scan; that of the reference is its foreground.

    Returns:
        "nWD(i,p)" and "nWD(t,p)".
    """
    head = foreground(reference)
    low, high = percentiles(reference, head)
    after, wanted = ((one - low) / (high - low) for one in (image, reference))
    moved, left = metrics.nwd(subject_percentile(scan, mask), after, wanted, mask, target_mask=head)
    return {"nWD(i,p)": float(moved), "nWD(t,p)": float(left)}


def white_matter_overlap(person: Cohort, image: Tensor, slices: int) -> tuple[float, str]:
    """Overlap of the white matter that the target's U-Net finds with the true one, in axial slices; and the network.

    Returns:
        Intersection over union of all voxels of so many evenly spaced slices, and the classifier's name.
    """
    inside, network = at_heights(person.mask, slices), WhiteMatterUNet.shipped()
    found, truth = network.segment(image, inside), (person.largest_tissue == WHITE) & inside
    return float(metrics.iou(found.to(torch.uint8), truth.to(torch.uint8), labels=[1]).mean()), network.classifier


def tissue_overlap(person: Cohort, image: Tensor, fitted: Fitted, target: str) -> tuple[float, str]:
    """Mean Dice of CSF, GM and WM, found by the atlas of the target's training people, with the truth; and by what."""
    atlas = fitted(Fit("atlas", "tissues", (target,)))
    found, truth = atlas.segment(image, person.mask), person.largest_tissue
    return float(metrics.dice(found, truth, labels=[1, 2, 3]).mean()), atlas.classifier


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
            yield replace(group[0], place=place or group[0].place, condition=name, value=mean, target="")
