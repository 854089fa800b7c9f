"""HAIL's Tables 2 and 3 (Parida et al., 2023): six pairs of three sites, one reference scan for each.

Phase 2 has seen sites A and B; site C is new to it, though not to phase 1, as in the paper (`c-unseen` is a row whose
phase 1 has not seen it either). The rows beside have the same one reference, but for field swap, which is fitted to the
target's training people.

Distances of histograms are taken inside the brain, each image scaled by its own 1st and 99th percentiles and the
harmonized one by the reference's (so percentile scaling alone is 0 and 100 by construction, and is no row); the paper
takes whole heads after N4 and scales by minimum and maximum. Volumes are those of DIPY's tissue classifier, where the
paper takes FreeSurfer's; its classes shift with an offset, so the harmonized scan is first brought back to the input's
percentiles, and a straight line changes no volume. What the paper does not have stands beside: correlation with the
input, since damage moves a histogram too; overlap of the three tissues with the true ones; and the PSNR to the
person's own scan on the target.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace

from torch import Tensor

from harmony_lite.cohort import Cohort
from harmony_lite.evaluate import metrics
from harmony_lite.evaluate.fits import Fitted
from harmony_lite.evaluate.measuring import Compared, Entry, Measurement, averages, beside, histogram_distances
from harmony_lite.evaluate.report import percentile_matched
from harmony_lite.images.normalize import foreground, percentiles, subject_percentile
from harmony_lite.methods import load_method
from harmony_lite.papers.published import load
from harmony_lite.tasks.tissue import Tissues, segment_tissues

__all__ = ["FITS", "PAIRS", "PEOPLE_ON", "measure"]

PAIRS = load("hail").conditions  # input, target
PEOPLE_ON = ("hail_a", "hail_b", "hail_c")
SEEN, UNSEEN = ("A to B", "B to A"), ("A to C", "C to A", "B to C", "C to B")
NAME = "hail"
ITSELF, WITHOUT = Entry("HAIL", NAME, "ours"), Entry("without loss", NAME, "no-consistency")
GAN = Entry("Liu et al.", "style-transfer", "sites")
ONE_SHOT = beside("histogram-matching", "affine-match", "nyul")
ON_TARGET = beside("field-swap")
TRAINED = (ITSELF, GAN, WITHOUT, *beside("hail:paper", "hail:c-unseen"))
TABLE_3 = {ITSELF.row: "with loss", WITHOUT.row: WITHOUT.row}
FITS = (
    *(entry.fit(PEOPLE_ON) for entry in TRAINED),
    *(entry.fit((site,)) for site in PEOPLE_ON for entry in ON_TARGET),
)


def measure(person: Cohort, fitted: Fitted, rows: Collection[str] = ()) -> Iterator[Measurement]:
    """Tables 2 and 3 with their averages, for one person on all three sites.

    With `rows`, by their names in Table 2, these alone and the source.
    """
    found = list(_pairs(person, fitted, rows))
    table_3 = [replace(one, place="Table 3", row=TABLE_3[one.row]) for one in found if one.row in TABLE_3]
    table_2 = [one for one in found if one.row != WITHOUT.row]
    for table in (table_2, table_3):
        yield from table
        for name, conditions in (("seen average", SEEN), ("unseen average", UNSEEN), ("overall", tuple(PAIRS))):
            yield from averages(table, conditions, name)


def _pairs(person: Cohort, fitted: Fitted, rows: Collection[str]) -> Iterator[Measurement]:
    entries = [entry for entry in (*TRAINED, *ONE_SHOT, *ON_TARGET) if not rows or entry.row in rows]
    tissues = {site: _tissues(person.scans(site), person, fitted) for site in PEOPLE_ON}
    for condition, (source, target) in PAIRS.items():
        scan, reference = person.scans(source), fitted.reference(target)
        yield from _overlap(Compared("Source", scan), condition, tissues[source], person)
        for entry in entries:
            one = Compared(entry.row, _harmonized(entry, person, source, target, fitted), entry.method, entry.variant)
            yield from one.cells("Table 2", condition, histogram_distances(scan, one.image, reference, person.mask))
            yield from one.cells("Table 2", condition, _anatomy(person, source, target, one.image, reference))
            if one.is_straight_line:
                continue
            back = percentile_matched(one.image, person.mask, scan, person.mask) * person.mask
            after = _tissues(back.clamp_min(0), person, fitted)
            change = metrics.ravd(after.labels, tissues[source].labels, labels=[2, 3])[0].tolist()
            volumes = dict(zip(("rAVD(GM)", "rAVD(WM)"), change, strict=True))
            yield from one.cells("Table 2", condition, volumes, by=after.classifier)
            yield from _overlap(one, condition, after, person)


def _harmonized(entry: Entry, person: Cohort, source: str, target: str, fitted: Fitted) -> Tensor:
    """One person's scan on the source after this row's method."""
    scan, mask, reference = person.scans(source), person.mask, fitted.reference(target)
    if entry in ON_TARGET:
        return fitted(entry.fit((target,))).harmonize(scan, mask=mask)
    is_trained = entry in TRAINED
    method = fitted(entry.fit(PEOPLE_ON)) if is_trained else load_method(entry.method, entry.variant, fitted=False)
    return method.harmonize(scan, reference=reference, mask=mask)


def _anatomy(person: Cohort, source: str, target: str, image: Tensor, reference: Tensor) -> dict[str, float]:
    """Correlation with the input, and PSNR to the person's own scan on the target, each scaled by itself."""
    low, high = percentiles(reference, foreground(reference))
    truth = subject_percentile(person.scans(target), person.mask)
    scaled = (image - low) / (high - low)
    return {
        "correlation with the input": float(metrics.ncc(image, person.scans(source), person.mask)),
        "psnr": float(metrics.psnr(scaled, truth, person.mask, data_range=1.0)),
    }


def _overlap(one: Compared, condition: str, found: Tissues, person: Cohort) -> Iterator[Measurement]:
    """Dice of CSF, grey and white matter with the true tissues, mean of the three."""
    overlap = metrics.dice(found.labels, person.largest_tissue, labels=[1, 2, 3]).mean()
    yield from one.cells("Table 2", condition, {"dice with the truth": float(overlap)}, by=found.classifier)


def _tissues(scan: Tensor, person: Cohort, fitted: Fitted) -> Tissues:
    return segment_tissues(scan, person.mask, spacing=fitted.profile.spacing, classifier="dipy")
