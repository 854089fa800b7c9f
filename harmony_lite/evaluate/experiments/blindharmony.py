"""BlindHarmony's tables (Jeong et al., ICCV 2023) without its own method: slices of a person, target TIM Trio.

Tables 1 and 4: the target scan itself under four intensity maps. Table 2: four source scanners. Table 3: white matter
segmented after each method, here by the atlas of `harmony_lite.tasks.atlas` in place of the paper's U-Net.
Histogram matching works slice by slice on the maps and on volumes for the scanners, as the paper says (sections 4.3 and
4.4), and SSIMH, of which it says the latter only, likewise; the other form stands beside. PSNR and SSIM are taken in
axial slices within the brain and averaged over a person's slices; every scan, the target's too, is scaled by its own
1st and 99th percentiles, where the paper scales slices by minimum and maximum. Overlap is that of the whole volume
with the tissue that the simulation knows, where the paper's labels are FSL FAST's; methods that draw a straight line
are left out there, because the atlas scales every scan by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from harmony_lite.cohort import Cohort
from harmony_lite.evaluate.experiments.fits import Fit, Fitted
from harmony_lite.evaluate.experiments.measuring import (
    MAPS,
    SCANNERS,
    STRAIGHT_LINES,
    Compared,
    Entry,
    Measurement,
    averages,
    beside,
    fits_of,
    images_of,
    rescanned,
    scaled_by_itself,
    tissue_overlap,
)
from harmony_lite.evaluate.published import load
from harmony_lite.evaluate.report import measured
from harmony_lite.images import intensity_maps
from harmony_lite.images.normalize import full_range_minmax

__all__ = ["FITS", "ON_MAPS", "ON_SCANNERS", "PEOPLE_ON", "mapped", "measure", "on_maps", "on_scanners"]

TARGET = "oasis_trio"
SOURCES = {condition: presets[0] for condition, presets in load("blindharmony").conditions.items()}
PEOPLE_ON = (TARGET, *SOURCES.values())
CURVES = {
    "Exp": intensity_maps.exp,
    "Log": intensity_maps.log,
    "Gamma 0.7": intensity_maps.Gamma(0.7),
    "Gamma 1.5": intensity_maps.Gamma(1.5),
}
SIMULATED = ("Exp", "Log", "Gamma 0.7")  # Table 1; the fourth map is Table 4's
BESIDE = beside("affine-match", "nyul", "white-stripe", "ncc-ascent")
ON_MAPS = (
    Entry("HM", "histogram-matching", "slice"),
    Entry("SSIMH", "ssimh", "slice"),
    *beside("histogram-matching:volume", "ssimh:volume"),
    *BESIDE,
)
ON_SCANNERS = (
    Entry("HM", "histogram-matching", "volume"),
    Entry("SSIMH", "ssimh", "volume"),
    *beside("histogram-matching:slice", "ssimh:slice"),
    *BESIDE,
    *beside("n4", "combat:target", "ravel"),
)
FITS = (*fits_of(ON_SCANNERS, PEOPLE_ON), *fits_of(ON_MAPS, PEOPLE_ON), Fit("atlas", "tissues", (TARGET,)))


def measure(person: Cohort, fitted: Fitted) -> Iterator[Measurement]:
    """Tables 1 to 4 and the averages in the text, for one person on the scanners `PEOPLE_ON`."""
    maps = list(on_maps(person, fitted))
    scanners = list(on_scanners(person, fitted))
    yield from (*maps, *scanners)
    of_table = {place: [one for one in (*maps, *scanners) if one.place == place] for place in ("Table 1", "Table 2")}
    for place, table, conditions in (("section 4.3", "Table 1", SIMULATED), ("section 4.4", "Table 2", tuple(SOURCES))):
        psnr = [one for one in of_table[table] if one.measure == "psnr"]
        yield from averages(psnr, conditions, "average", place=place)


def mapped(scan: Tensor, mask: Tensor, condition: str) -> Tensor:
    """A scan (1, 1, D, H, W) under one of the maps, in its own units: background and maximum stay where they are."""
    inside = scan * mask
    return CURVES[condition](full_range_minmax(inside)) * inside.max()


def on_maps(person: Cohort, fitted: Fitted, entries: Sequence[Entry] = ON_MAPS) -> Iterator[Measurement]:
    """Tables 1 and 4 for some rows: the target scan under four maps, brought back."""
    scan, mask = person.scans(TARGET), person.mask
    target = scaled_by_itself(scan, mask, fitted, PEOPLE_ON)
    for condition in CURVES:
        source = mapped(scan, mask, condition)  # as the target is scaled: the ends of the range stay where they are
        images = [Compared("Source", _on_the_line(source, scan, target, mask))]
        for entry in entries:
            image = fitted(entry.fit(PEOPLE_ON)).harmonize(source, mask=mask)
            images.append(Compared(entry.row, image, entry.method, entry.variant))
        place, measures = ("Table 1", ("psnr", "ssim")) if condition in SIMULATED else ("Table 4", ("psnr",))
        for one in images:
            values = measured(one.image, target, mask, measures, slices=fitted.profile.slices)
            for name, value in values.items():
                yield Measurement(place, name, one.row, condition, MAPS, one.method, one.variant, "", value)


def _on_the_line(image: Tensor, scan: Tensor, scaled: Tensor, mask: Tensor) -> Tensor:
    """An image on the straight line that takes a scan to its scaled self."""
    low, high = (values[mask] for values in (scan, scaled))
    gain = (high.max() - high.min()) / (low.max() - low.min())
    return (image - low.min()) * gain + high.min()


def on_scanners(person: Cohort, fitted: Fitted, entries: Sequence[Entry] = ON_SCANNERS) -> Iterator[Measurement]:
    """Tables 2 and 3 for some rows: four source scanners, and the rescan."""
    mask = person.mask
    target = scaled_by_itself(person.scans(TARGET), mask, fitted, PEOPLE_ON)
    for condition, scanner in SOURCES.items():
        images = images_of(person, scanner, entries, fitted, PEOPLE_ON, "Source")
        for one in (*images, rescanned(person, fitted, PEOPLE_ON)):
            kind = (one.row, condition, SCANNERS, one.method, one.variant)
            values = measured(one.image, target, mask, ("psnr", "ssim"), slices=fitted.profile.slices)
            for name, value in values.items():
                yield Measurement("Table 2", name, *kind, "", value)
            if one.method not in STRAIGHT_LINES:
                overlap, atlas = tissue_overlap(person, one.image, fitted, TARGET)
                yield Measurement("Table 3", "iou", *kind, atlas, overlap["iou"])
