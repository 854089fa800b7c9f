"""MISPEL's Tables 2 and 3 and its Figures 3, 5 and 6 (Torbati et al., 2021): each person on four scanners.

The people are a travelling cohort like the paper's, 18 aged 51 to 78, but held out: methods are fitted to 24 others.
Every scan goes through N4 first, as in the paper, whose RAW is a scan after N4 divided by its mean. Table 2: SSIM of
each two scans of a person, inside the brain, over the range that the two have together. Table 3 and Figure 6: by how
much the volumes of three tissues differ and how far the tissues overlap, found by DIPY's classifier with every voxel in
the likeliest tissue; the paper takes FSL FAST and counts voxels above a posterior of 0.8, by which CSF is not usable
here. DIPY's classes shift with an offset, so each result is first brought back to the percentiles of its own RAW scan:
a straight line changes no volume. Histogram matching brings every person to one distribution of intensities, and with
it nearly to one set of volumes, whatever the anatomy.

MISPEL's row is the paper's reading; `ours` and `released` stand beside. So do controls that the paper lacks: RAW
blurred until its SSIM is that of either reading, and a tone curve for each scanner. `ANATOMY` holds what a blur cannot
buy: how far contrast between tissues differs over the scanners, fine noise, contrast of lesions, overlap with the
truth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from harmony_lite.cohort import Cohort
from harmony_lite.evaluate import metrics
from harmony_lite.evaluate.contrast import blurred, fine_noise, lesion_contrast, tissue_ratios
from harmony_lite.evaluate.fits import Fitted
from harmony_lite.evaluate.measuring import RESCAN, Compared, Entry, Measurement, beside, fits_of
from harmony_lite.evaluate.report import percentile_matched
from harmony_lite.images.normalize import divide_by_mean
from harmony_lite.methods import Harmonizer
from harmony_lite.papers.published import load
from harmony_lite.papers.sweeps import sweeps as sweeps_of
from harmony_lite.splits import travelling_people
from harmony_lite.tasks.tissue import CLASSES, segment_tissues, volumes_ml

__all__ = [
    "ANATOMY", "BLURS", "FITS", "ITSELF", "OURS", "PAIRS", "PEOPLE", "PEOPLE_ON", "RAW", "RELEASED", "before_and_after",
    "blur_of", "measure", "measured_rows", "pair_ssim", "rows_of", "sweeps", "without_segmentation",
]  # fmt: skip

PAIRS = load("mispel").conditions
PEOPLE_ON = ("mispel_ge", "mispel_philips", "mispel_prisma", "mispel_trio")
PEOPLE = travelling_people
SHORT = {scanner: scanner.removeprefix("mispel_") for scanner in PEOPLE_ON}
RAW, ANATOMY = "RAW", "anatomy"
LESION = 0.25  # of a voxel: with half of it, one of the 18 people would have no lesion
ITSELF, OURS, RELEASED = (Entry(*names) for names in (
    ("MISPEL", "mispel", "paper"), ("mispel (ours)", "mispel", "ours"), ("mispel (released)", "mispel", "released"),
))  # fmt: skip
OTHERS = (
    Entry("WS", "white-stripe", "volume"),
    Entry("RAVEL", "ravel", "released"),
    *beside("affine-match", "histogram-matching", "combat", "tone-curve"),
)
ENTRIES = (ITSELF, OURS, RELEASED, *OTHERS)
FITTED_TO = {"corrected": True, "people": travelling_people}
FITS = (*fits_of((ITSELF, OURS, RELEASED), PEOPLE_ON), *fits_of(OTHERS, PEOPLE_ON, **FITTED_TO))
# sd in voxels, by which RAW's SSIM of six pairs is that of the row on the validation people (`blur_of`)
BLURS = {"RAW blurred as MISPEL": 0.36, "RAW blurred as ours": 0.42}
NO_N4 = "RAW without N4"
# affine match has RAW's volumes; of the others nothing is said that needs a classifier
NOT_SEGMENTED = ("affine-match (volume)", RELEASED.row, NO_N4, "RAW blurred as MISPEL")


def measured_rows(rows: Sequence[Mapping], measure: str, row: str) -> np.ndarray:
    """Values per person of one row, mean over its conditions; KeyError where the results lack it."""
    place, _, name = measure.partition(" | ")
    found = [r["values"] for r in rows if (r["place"], r["measure"], r["row"]) == (place, name, row)]
    if not found:
        raise KeyError(f"{measure} | {row}: found no such row in the results")
    return np.mean(found, axis=0)


def sweeps(profile: str | None = None) -> dict[str, dict[str, Any]]:
    """What `data_scripts/sweep_mispel.py` measured: as `harmony_lite.papers.sweeps.sweeps`, and losses."""
    return sweeps_of("mispel", profile)


# ------------------------------------------------------------------------------------------------------------ measuring


def measure(person: Cohort, fitted: Fitted) -> Iterator[Measurement]:
    """Everything for one person on all four scanners."""
    clean = fitted.without_fields(person)
    for row in rows_of(person, fitted):
        yield from _of_row(row, clean, fitted)
    yield from _floor(clean, fitted)


def rows_of(
    person: Cohort, fitted: Fitted, entries: Sequence[Entry] = ENTRIES, *, controls: bool = True
) -> Iterator[dict[str, Compared]]:
    """RAW, each method, and the controls: a person's images by scanner.

    Args:
        person: one person on `PEOPLE_ON`, scans as they come.
        fitted: where methods come from.
        entries: rows with methods.
        controls: RAW without N4 and the blurred ones too.
    """
    clean = fitted.without_fields(person)
    raw = {scanner: divide_by_mean(clean.scans(scanner)) for scanner in PEOPLE_ON}
    yield {scanner: Compared(RAW, image) for scanner, image in raw.items()}
    for entry in entries:
        if entry.method == ITSELF.method:
            method = fitted(entry.fit(PEOPLE_ON)).on_corrected()
        else:
            method = fitted(entry.fit(PEOPLE_ON, **FITTED_TO))
        kind = (entry.method, entry.variant)
        yield {
            s: Compared(entry.row, method.harmonize(clean.scans(s), scanner=s, mask=person.mask), *kind)
            for s in PEOPLE_ON
        }
    if controls:
        yield {scanner: Compared(NO_N4, divide_by_mean(person.scans(scanner))) for scanner in PEOPLE_ON}
        for row, sigma in BLURS.items():
            yield {scanner: Compared(row, blurred(image, person.mask, sigma)) for scanner, image in raw.items()}


def blur_of(ssim: float, people: Cohort, *, rounds: int = 8) -> float:
    """The blur in voxels after which RAW has that mean SSIM over pairs and people, by bisection between 0 and 2.

    Args:
        ssim: wanted, above RAW's own.
        people: after N4; `BLURS` were found on validation people.
        rounds: each halves the uncertainty.
    """
    low, high = 0.0, 2.0
    for _ in range(rounds):
        sigma, found = (low + high) / 2, []
        for i in range(len(people)):
            person = people.subset([i])
            images = [blurred(divide_by_mean(person.scans(s)), person.mask, sigma) for s in PEOPLE_ON]
            found += [pair_ssim(*pair, person.mask) for pair in combinations(images, 2)]
        low, high = (sigma, high) if fmean(found) < ssim else (low, sigma)
    return (low + high) / 2


def pair_ssim(first: Tensor, second: Tensor, mask: Tensor) -> float:
    """SSIM of two volumes inside the mask, over the range of both together."""
    inside = (first[mask], second[mask])
    data_range = max(float(values.max()) for values in inside) - min(float(values.min()) for values in inside)
    return float(metrics.ssim(first * mask, second * mask, mask, data_range=data_range)[0])


def _of_row(images: dict[str, Compared], person: Cohort, fitted: Fitted) -> Iterator[Measurement]:
    """Both tables, Figures 3 and 6, and anatomy for one row; `person` after N4."""
    one = next(iter(images.values()))
    kept = {scanner: _kept(image.image, person) for scanner, image in images.items()}
    for scanner, values in kept.items():
        yield from one.cells(ANATOMY, SHORT[scanner], values)
    yield from one.cells(ANATOMY, "four scanners", _spreads(kept))
    for condition, pair in PAIRS.items():
        value = pair_ssim(*(images[scanner].image for scanner in pair), person.mask)
        yield from one.cells("Table 2", condition, {"ssim": value})
    if one.row not in NOT_SEGMENTED:
        yield from _of_segmented_row(images, person, fitted)


def _of_segmented_row(images: dict[str, Compared], person: Cohort, fitted: Fitted) -> Iterator[Measurement]:
    """Table 3 and Figures 3 and 6: volumes of three tissues, and their overlap between scanners and with the truth."""
    one, truth = next(iter(images.values())), person.largest_tissue
    labels, volumes, classifier = {}, {}, ""
    for scanner, image in images.items():
        labels[scanner], volumes[scanner], classifier = _segmented(image.image, person, scanner, fitted)
        overlap = _overlaps(labels[scanner], truth)
        for tissue in CLASSES:
            yield from one.cells(ANATOMY, SHORT[scanner], {f"dice to truth {tissue}": overlap[tissue]}, by=classifier)
            volume = {f"volume {tissue}": float(volumes[scanner][tissue])}
            yield from one.cells("Figure 3", SHORT[scanner], volume, by=classifier)
    for condition, (first, second) in PAIRS.items():
        overlap = _overlaps(labels[first], labels[second])
        for tissue in CLASSES:
            change = abs(float(volumes[first][tissue] - volumes[second][tissue]))
            yield from one.cells("Table 3", condition, {f"volume difference {tissue}": change}, by=classifier)
            yield from one.cells("Figure 6", condition, {f"dice {tissue}": overlap[tissue]}, by=classifier)


def _overlaps(labels: Tensor, others: Tensor) -> dict[str, float]:
    """Dice of each tissue in two segmentations."""
    return dict(zip(CLASSES, metrics.dice(labels, others, labels=[1, 2, 3])[0].tolist(), strict=True))


def _kept(image: Tensor, person: Cohort) -> dict[str, float]:
    """What a blur cannot buy, of one image."""
    brain = image * person.mask
    return {
        "fine noise": fine_noise(brain, person.tissues),
        "lesion contrast": lesion_contrast(brain, person.mask, person.lesion_fractions > LESION, person.affine()),
        **tissue_ratios(brain, person.tissues),
    }


def _spreads(kept: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The largest minus the smallest ratio of tissues over the scanners."""
    over = {name: [values[name] for values in kept.values()] for name in ("CSF/WM", "GM/WM")}
    return {f"{name} spread": max(values) - min(values) for name, values in over.items()}


def without_segmentation(images: Mapping[str, Tensor], person: Cohort) -> dict[str, float]:
    """What takes no classifier, of one person on any scanners: means over pairs and scanners, and spreads.

    Args:
        images: by scanner, (1, 1, D, H, W) each.
        person: whose they are.
    """
    kept = {scanner: _kept(image, person) for scanner, image in images.items()}
    pairs = [pair_ssim(first, second, person.mask) for first, second in combinations(images.values(), 2)]
    means = {name: fmean(values[name] for values in kept.values()) for name in ("fine noise", "lesion contrast")}
    return {
        "ssim": fmean(pairs),
        f"ssim of {' and '.join(list(SHORT.values())[:2])}": pairs[0],
        **means,
        **_spreads(kept),
    }


def before_and_after(method: Harmonizer, people: Cohort) -> dict[str, list[dict[str, float]]]:
    """What takes no classifier, of each person: in `RAW`, and after a method (`harmonized`).

    Args:
        method: fitted, for scans after N4.
        people: after N4, on the scanners that the method knows.
    """
    found: dict[str, list[dict[str, float]]] = {RAW: [], "harmonized": []}
    for i in range(len(people)):
        person = people.subset([i])
        scans = {scanner: person.scans(scanner) for scanner in person.scanners}
        after = {name: method.harmonize(scan, scanner=name, mask=person.mask) for name, scan in scans.items()}
        raw = {scanner: divide_by_mean(scan) for scanner, scan in scans.items()}
        for row, images in ((RAW, raw), ("harmonized", after)):
            found[row].append(without_segmentation(images, person))
    return found


def _segmented(image: Tensor, person: Cohort, scanner: str, fitted: Fitted) -> tuple[Tensor, pd.Series, str]:
    """Labels, volumes in ml and the classifier's name, of an image brought to the percentiles of its own scan."""
    raw = person.scans(scanner)
    scan = (percentile_matched(image, person.mask, raw, person.mask) * person.mask).clamp_min(0)
    tissues = segment_tissues(scan, person.mask, spacing=fitted.profile.spacing, classifier="dipy")
    return tissues.labels, volumes_ml(tissues, fitted.profile.spacing).iloc[0], tissues.classifier


def _floor(person: Cohort, fitted: Fitted) -> Iterator[Measurement]:
    """The same person twice on one scanner, by RAW: what no harmonization can pass."""
    scanner = PEOPLE_ON[-1]
    scans = [person.scans(scanner, repeat) for repeat in (0, 1)]
    twice, condition = Compared(RESCAN, scans[1]), f"{SHORT[scanner]} twice"
    ssim = pair_ssim(*(divide_by_mean(scan) for scan in scans), person.mask)
    yield from twice.cells("floor", condition, {"ssim": ssim})
    (labels, volumes, by), (again, others, _) = (_segmented(scan, person, scanner, fitted) for scan in scans)
    overlap = _overlaps(labels, again)
    for tissue in CLASSES:
        change = abs(float(volumes[tissue] - others[tissue]))
        yield from twice.cells("floor", condition, {f"volume difference {tissue}": change}, by=by)
        yield from twice.cells("floor", condition, {f"dice {tissue}": overlap[tissue]}, by=by)
