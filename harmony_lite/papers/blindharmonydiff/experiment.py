"""BlindHarmonyDiff's tables (Jeong et al., 2025) without its own method: volumes of four scanners, target TIM Trio.

Table 1: PSNR and SSIM in the brain of the volume, every scan scaled by its own 1st and 99th percentiles, as the paper
does. Table S2: the same slice by slice, methods and measures. Table 2: Dice of tissues and error of age, here by the
atlas of `harmony_lite.tasks.atlas` and a ridge regression on the volumes that it finds, in place of the paper's
networks; both are trained on the target scanner only, as theirs are. Methods that draw a straight line are left out
there, because the atlas scales every scan by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from torch import Tensor

from harmony_lite.cohort import Cohort
from harmony_lite.evaluate.fits import Fit, Fitted
from harmony_lite.evaluate.measuring import (
    Compared,
    Entry,
    Measurement,
    age_error,
    averages,
    beside,
    fits_of,
    images_of,
    rescanned,
    scaled_by_itself,
    tissue_overlap,
)
from harmony_lite.evaluate.report import measured
from harmony_lite.papers.published import load

__all__ = ["FITS", "PEOPLE_ON", "measure"]

TARGET = "oasis_trio"
SOURCES = {condition: presets[0] for condition, presets in load("blindharmonydiff").conditions.items()}
PEOPLE_ON = (TARGET, *SOURCES.values())
IN_VOLUMES = (
    Entry("Histogram matching", "histogram-matching", "volume"),
    Entry("SSIMH", "ssimh", "volume"),
    *beside("affine-match", "nyul", "white-stripe", "n4", "ncc-ascent", "ncc-ascent:matched"),
    *beside("combat:target", "ravel"),
)
IN_SLICES = (
    Entry("Histogram matching", "histogram-matching", "slice"),
    Entry("SSIMH", "ssimh", "slice"),
    *beside("affine-match:slice", "percentile:slice"),
)
FITS = (
    *fits_of((*IN_VOLUMES, *IN_SLICES), PEOPLE_ON),
    Fit("atlas", "tissues", (TARGET,)),
    Fit("age", "labels", (TARGET,)),
)


def measure(person: Cohort, fitted: Fitted) -> Iterator[Measurement]:
    """Tables 1, 2 and S2 and the average in the text, for one person on the scanners `PEOPLE_ON`."""
    volumes = list(_in_volumes(person, fitted))
    yield from (*volumes, *_in_slices(person, fitted))
    psnr = [one for one in volumes if one.place == "Table 1" and one.measure == "psnr"]
    yield from averages(psnr, tuple(SOURCES), "average", place="section 4.4")


def _in_volumes(person: Cohort, fitted: Fitted) -> Iterator[Measurement]:
    for condition, one, target in _compared(person, IN_VOLUMES, fitted):
        yield from one.cells("Table 1", condition, measured(one.image, target, person.mask, ("ssim", "psnr")))
        if one.is_straight_line or one.variant == "matched":  # a start on the same line as the other's
            continue
        one = replace(one, row="No harmonization" if one.row == "Source domain" else one.row)
        overlap, atlas = tissue_overlap(person, one.image, fitted, TARGET)
        yield from one.cells("Table 2", condition, {"dice": overlap}, by=atlas)
        years, by = age_error(person, one.image, fitted, TARGET)
        yield from one.cells("Table 2", condition, {"age mae": years}, by=by)


def _in_slices(person: Cohort, fitted: Fitted) -> Iterator[Measurement]:
    for condition, one, target in _compared(person, IN_SLICES, fitted):
        values = measured(one.image, target, person.mask, ("ssim", "psnr"), slices=fitted.profile.slices)
        yield from one.cells("Table S2", condition, values)


def _compared(person: Cohort, entries: Sequence[Entry], fitted: Fitted) -> Iterator[tuple[str, Compared, Tensor]]:
    """Each scanner's condition, an image of each row there, and the target's scan."""
    target = scaled_by_itself(person.scans(TARGET), person.mask, fitted, PEOPLE_ON)
    for condition, scanner in SOURCES.items():
        images = images_of(person, scanner, entries, fitted, PEOPLE_ON, "Source domain")
        for one in (*images, rescanned(person, fitted, PEOPLE_ON)):
            yield condition, one, target
