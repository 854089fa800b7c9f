"""MISPEL's Tables 2 and 3 (Torbati et al., 2021) without its own method: each person on four scanners.

Every scan goes through N4 first, as in the paper, whose RAW is a scan after N4 divided by its mean; White Stripe and
RAVEL are fitted to other people than those measured. Table 2: SSIM of each two scans of a person, inside the brain,
over the range that the two have together. Table 3: by how much the volumes of three tissues differ, found by DIPY's
classifier with every voxel in the likeliest tissue; the paper takes FSL FAST and counts voxels above a posterior of
0.8, by which CSF is not usable here. DIPY's classes shift with an offset, so each result is first brought back to the
percentiles of its own RAW scan: a straight line changes no volume. Histogram matching makes volumes equal by
construction, whatever the anatomy.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from harmony_lite.cohort import Cohort
from harmony_lite.evaluate import metrics
from harmony_lite.evaluate.experiments.fits import Fitted
from harmony_lite.evaluate.experiments.measuring import SCANNERS, Compared, Entry, Measurement, beside, fits_of
from harmony_lite.evaluate.published import load
from harmony_lite.evaluate.report import percentile_matched
from harmony_lite.images.normalize import divide_by_mean
from harmony_lite.tasks.tissue import CLASSES, segment_tissues, volumes_ml

__all__ = ["FITS", "PEOPLE_ON", "measure"]

PAIRS = load("mispel").conditions
PEOPLE_ON = ("mispel_ge", "mispel_philips", "mispel_prisma", "mispel_trio")
ENTRIES = (
    Entry("WS", "white-stripe", "volume"),
    Entry("RAVEL", "ravel", "released"),
    *beside("ravel:ours", "affine-match", "histogram-matching", "combat"),
)
FITS = fits_of(ENTRIES, PEOPLE_ON, corrected=True)


def measure(person: Cohort, fitted: Fitted) -> Iterator[Measurement]:
    """Tables 2 and 3 for one person on all four scanners."""
    person = fitted.without_fields(person)
    rows = [[Compared("RAW", divide_by_mean(person.scans(scanner))) for scanner in PEOPLE_ON]]
    for entry in ENTRIES:
        method = fitted(entry.fit(PEOPLE_ON, corrected=True))
        rows.append(
            [
                Compared(entry.row, method.harmonize(person.scans(s), scanner=s, mask=person.mask), *_names(entry))
                for s in PEOPLE_ON
            ]
        )
    for row in rows:
        yield from _of_row(dict(zip(PEOPLE_ON, row, strict=True)), person, fitted)


def _of_row(images: dict[str, Compared], person: Cohort, fitted: Fitted) -> Iterator[Measurement]:
    volumes, classifier = {}, ""
    for scanner, one in images.items():
        raw = person.scans(scanner)
        scan = (percentile_matched(one.image, person.mask, raw, person.mask) * person.mask).clamp_min(0)
        tissues = segment_tissues(scan, person.mask, spacing=fitted.profile.spacing, classifier="dipy")
        volumes[scanner], classifier = volumes_ml(tissues, fitted.profile.spacing).iloc[0], tissues.classifier
    for condition, (first, second) in PAIRS.items():
        one = images[first]
        measures_volume = one.method != "affine-match"  # its volumes are those of RAW
        kind = (one.row, condition, SCANNERS, one.method, one.variant)
        yield Measurement("Table 2", "ssim", *kind, "", _ssim(one.image, images[second].image, person.mask))
        for tissue in CLASSES if measures_volume else ():
            change = abs(float(volumes[first][tissue] - volumes[second][tissue]))
            yield Measurement("Table 3", f"volume difference {tissue}", *kind, classifier, change)


def _ssim(first: Tensor, second: Tensor, mask: Tensor) -> float:
    inside = (first[mask], second[mask])
    data_range = max(float(values.max()) for values in inside) - min(float(values.min()) for values in inside)
    return float(metrics.ssim(first * mask, second * mask, mask, data_range=data_range)[0])


def _names(entry: Entry) -> tuple[str, str]:
    return entry.method, entry.variant
