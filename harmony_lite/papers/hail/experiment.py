"""HAIL's Table 2 (Parida et al., 2023) for methods that know one reference scan: six pairs of three sites.

The paper prints no classical row; histogram matching and straight lines to the one reference are the rows that a reader
needs. Distances of histograms are taken inside the brain, each image scaled by its own 1st and 99th percentiles and
the harmonized one by the reference's (so percentile scaling alone is 0 and 100 by construction, and is no row); the
paper takes whole heads after N4 and scales by minimum and maximum. Volumes are those of DIPY's tissue classifier, where
the paper takes FreeSurfer's; its classes shift with an offset, so the harmonized scan is first brought back to the
input's percentiles, and a straight line changes no volume.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from harmony_lite.cohort import Cohort
from harmony_lite.evaluate import metrics
from harmony_lite.evaluate.fits import Fitted
from harmony_lite.evaluate.measuring import Compared, Measurement, averages, beside
from harmony_lite.evaluate.report import percentile_matched
from harmony_lite.images.normalize import foreground, percentiles
from harmony_lite.methods import load_method
from harmony_lite.papers.published import load
from harmony_lite.tasks.tissue import Tissues, segment_tissues

__all__ = ["FITS", "PEOPLE_ON", "measure"]

PAIRS = load("hail").conditions  # input, target
PEOPLE_ON = ("hail_a", "hail_b", "hail_c")
SEEN, UNSEEN = ("A to B", "B to A"), ("A to C", "C to A", "B to C", "C to B")
ENTRIES = beside("histogram-matching", "affine-match", "nyul")
FITS = ()  # one reference takes the place of a fit


def measure(person: Cohort, fitted: Fitted) -> Iterator[Measurement]:
    """Table 2 with its averages, for one person on all three sites."""
    found = list(_pairs(person, fitted))
    yield from found
    for name, conditions in (("seen average", SEEN), ("unseen average", UNSEEN), ("overall", tuple(PAIRS))):
        yield from averages(found, conditions, name)


def _pairs(person: Cohort, fitted: Fitted) -> Iterator[Measurement]:
    scans = {site: person.scans(site) for site in PEOPLE_ON}
    tissues = {site: _tissues(scan, person, fitted) for site, scan in scans.items()}
    for condition, (source, target) in PAIRS.items():
        reference = fitted.reference(target)
        head = foreground(reference)
        low, high = percentiles(reference, head)
        source_low, source_high = percentiles(scans[source], person.mask)
        before = (scans[source] - source_low) / (source_high - source_low)
        for entry in ENTRIES:
            method = load_method(entry.method, entry.variant, fitted=False)
            image = method.harmonize(scans[source], reference=reference, mask=person.mask)
            one = Compared(entry.row, image, entry.method, entry.variant)
            moved, left = metrics.nwd(
                before, (image - low) / (high - low), (reference - low) / (high - low), person.mask, target_mask=head
            )
            yield from one.cells("Table 2", condition, {"nWD(i,p)": float(moved), "nWD(t,p)": float(left)})
            if one.is_straight_line:
                continue
            back = percentile_matched(image, person.mask, scans[source], person.mask) * person.mask
            after = _tissues(back.clamp_min(0), person, fitted)
            change = metrics.ravd(after.labels, tissues[source].labels, labels=[2, 3])[0].tolist()
            volumes = dict(zip(("rAVD(GM)", "rAVD(WM)"), change, strict=True))
            yield from one.cells("Table 2", condition, volumes, by=after.classifier)


def _tissues(scan: Tensor, person: Cohort, fitted: Fitted) -> Tissues:
    return segment_tissues(scan, person.mask, spacing=fitted.profile.spacing, classifier="dipy")
