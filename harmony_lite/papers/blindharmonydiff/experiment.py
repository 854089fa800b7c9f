"""BlindHarmonyDiff's tables (Jeong et al., 2025): volumes of four scanners, brought to TIM Trio.

Table 1: PSNR and SSIM in the brain of the volume, every scan scaled by its own 1st and 99th percentiles, as the paper
does. Table 2: Dice of tissues by a U-Net and error of age by a CNN, both trained on the target scanner only, as theirs
are. Table 3: the twin for slices, with the steps from slice to slice; and both networks, each refined the other's way.
Table 4: what the refinement climbs. Table S2: all methods and measures slice by slice. Table S3: where the refinement
begins.

Two figures of the paper get numbers. Figure 6: what is left of a lesion that was planted into the scan of one scanner,
against how far the refinement goes. Figure 7: a T2-weighted scan, which has no cross-correlation to be refined by.

Table S4 and section 4.3 compare trainings, which are those of `data_scripts/sweep_blindharmonydiff.py`.

A scan's image is sampled once from its edges; the rows of Table 4 and of Figure 6 refine it in different ways.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from torch import Tensor

from harmony_lite.cohort import Cohort
from harmony_lite.evaluate import metrics
from harmony_lite.evaluate.contrast import steps_between_slices
from harmony_lite.evaluate.fits import Fit, Fitted
from harmony_lite.evaluate.measuring import (
    Compared,
    Entry,
    Measurement,
    averages,
    beside,
    fits_of,
    images_of,
    rescanned,
    scaled_by_itself,
)
from harmony_lite.evaluate.planted_lesion import PlantedLesion
from harmony_lite.evaluate.report import measured
from harmony_lite.papers.blindharmonydiff.harmonizer import BlindHarmonyDiff
from harmony_lite.papers.blindharmonydiff.refinement import RefinementSettings
from harmony_lite.papers.blindharmonydiff.sampler import SamplerSettings
from harmony_lite.papers.published import load
from harmony_lite.profiles import Profile
from harmony_lite.splits import people
from harmony_lite.tasks.age_network import AgeNetwork
from harmony_lite.tasks.tissue_unet import TissueUNet

__all__ = ["FITS", "PEOPLE", "PEOPLE_ON", "measure", "with_t2"]

TARGET = "oasis_trio"
SOURCES = {condition: presets[0] for condition, presets in load("blindharmonydiff").conditions.items()}
PEOPLE_ON = (TARGET, *SOURCES.values())
NAME = "blindharmonydiff"
T2 = "t2_spin_echo"  # Figure 7; the paper names no protocol
SWEPT = {  # cells that short trainings of the sweep hold: place, row, condition; part and name of the training
    **{("section 4.3", share, "target domain"): ("volumes", share) for share in ("0 %", "20 %", "50 %", "100 %")},
    **{
        ("section 4.3", f"{share}, no averaged image", "target domain"): ("no averaged image", share)
        for share in ("0 %", "20 %")
    },
    ("Table S4", "Simple patch", "3D"): ("volumes", "0 %"),
    ("Table S4", "Multi-stride patch", "3D"): ("volumes", "20 %"),
    **{("Table S4", row, "2D"): ("slices", row) for row in ("Simple patch", "Multi-stride patch", "Whole image")},
}
LESION_ON = "Vida"  # Figure 6; the paper does not say whose scan is shown
STEPS = (0.05, 0.1, 0.2, 0.3, 0.5)  # c of the refinement, along the curve
TISSUES = (1, 2, 3)
MEASURES = ("ssim", "psnr")
PRINTED = (
    Entry("BlindHarmony", "blindharmony", "ours"),
    Entry("SSIMH", "ssimh", "volume"),
    Entry("Histogram matching", "histogram-matching", "volume"),
    Entry("Style transfer", "paired-cyclegan", "scanners"),
    Entry("DeepHarmony", "deepharmony", "scanners"),
)
IN_VOLUMES = (
    *PRINTED,
    *beside("affine-match", "nyul", "white-stripe", "n4", "field-swap", "ncc-ascent", "ncc-ascent:matched"),
    *beside("combat:target", "ravel"),
)
IN_SLICES = (
    Entry("BlindHarmony", "blindharmony", "ours"),
    Entry("Histogram matching", "histogram-matching", "slice"),
    Entry("SSIMH", "ssimh", "slice"),
    *beside("affine-match:slice", "percentile:slice"),
)
FITS = (
    *fits_of((*IN_VOLUMES, *IN_SLICES), PEOPLE_ON),
    *(Fit(NAME, variant, PEOPLE_ON) for variant in ("ours", "slices")),
)


def with_t2(scanners: Sequence[str], profile: Profile | None = None) -> tuple[Cohort, Cohort, Cohort]:
    """Training, validation and test people, with a T2-weighted scan besides."""
    return people((*scanners, T2), profile)


PEOPLE = with_t2


def measure(person: Cohort, fitted: Fitted) -> Iterator[Measurement]:
    """All tables and the average in the text, for one person on the scanners `PEOPLE_ON`."""
    found = [one for condition in SOURCES for one in _on_scanner(person, condition, fitted)]
    yield from found
    psnr = [one for one in found if one.place == "Table 1" and one.measure == "psnr"]
    yield from averages(psnr, tuple(SOURCES), "average", place="section 4.4")
    yield from _from_own_edges(person, fitted)
    yield from _planted(person, fitted)
    yield from _from_t2(person, fitted)


def _on_scanner(person: Cohort, condition: str, fitted: Fitted) -> Iterator[Measurement]:
    """Every table for one source scanner."""
    scanner, target = SOURCES[condition], scaled_by_itself(person.scans(TARGET), person.mask, fitted, PEOPLE_ON)
    ours, slices = (fitted(Fit(NAME, variant, PEOPLE_ON)) for variant in ("ours", "slices"))
    scan, mask, again = person.scans(scanner), person.masks(scanner), rescanned(person, fitted, PEOPLE_ON)
    begun = ours.begin(scan, mask)
    itself = Compared("BlindHarmonyDiff", ours.finish(begun, scan, mask), NAME, "ours")
    twin, *otherwise = _refined_the_others_way(ours, slices, begun, scan, mask)
    images = [*images_of(person, scanner, IN_VOLUMES, fitted, PEOPLE_ON, "Source domain"), itself, again]
    for one in images:
        yield from one.cells("Table 1", condition, measured(one.image, target, person.mask, MEASURES))
        yield from _judged(one, person, condition)
    tables = {
        "Table 3": [replace(itself, row="BlindHarmonyDiff (3D)"), twin, *otherwise],
        "Table 4": [replace(itself, row="NCC"), *_refined_otherwise(ours, begun, scan, mask)],
        "Table S3": [replace(itself, row="Conditional"), *_begun_otherwise(ours, scan, mask)],
    }
    for place, rows in tables.items():
        for one in rows:
            values = measured(one.image, target, person.mask, MEASURES)
            if place == "Table 3":
                values["steps between slices"] = steps_between_slices(one.image, person.mask)
            yield from one.cells(place, condition, values)
    for one in (*_in_slices(person, scanner, images, fitted), replace(twin, row="BlindHarmonyDiff"), again):
        values = measured(one.image, target, person.mask, MEASURES, slices=fitted.profile.slices)
        yield from one.cells("Table S2", condition, values)


def _refined_the_others_way(
    ours: BlindHarmonyDiff, slices: BlindHarmonyDiff, begun: Tensor, scan: Tensor, mask: Tensor
) -> Iterator[Compared]:
    """Table 3's twin, and two rows that are not printed: the network and the refinement changed one at a time."""
    in_slices, as_volume = ours.with_inference(slice_by_slice=True), slices.with_inference(slice_by_slice=False)
    begun_in_slices = slices.begin(scan, mask)
    yield Compared("BlindHarmonyDiff (2D)", slices.finish(begun_in_slices, scan, mask), NAME, "slices")
    yield Compared("3D, refined slice by slice", in_slices.finish(begun, scan, mask), NAME, "ours")
    yield Compared("2D, refined as a volume", as_volume.finish(begun_in_slices, scan, mask), NAME, "slices")


def _refined_otherwise(method: BlindHarmonyDiff, begun: Tensor, scan: Tensor, mask: Tensor) -> Iterator[Compared]:
    """Table 4's other rows, from one beginning; and the printed and the public code's step, all voxels counted."""
    ncc = method.inference.refinement
    ways = {"MI": {"refinement": replace(ncc, kind="mi")}, "None": {"refinement": replace(ncc, kind="none")}}
    for step in (0.02, 0.005):
        by_voxels = {"refinement": RefinementSettings(step=step, unit="voxels"), "inside": False}
        ways[f"step {step}, unit voxels"] = by_voxels
    for name, changes in ways.items():
        yield Compared(name, method.with_inference(**changes).finish(begun, scan, mask), NAME, "ours")


def _begun_otherwise(method: BlindHarmonyDiff, scan: Tensor, mask: Tensor) -> Iterator[Compared]:
    """Table S3's other rows: the same refinement from other beginnings.

    From edges at random places; from the averaged image; and one that is not printed, the end of a single Euler step,
    which is the mean of all images that fit the edges.
    """
    ways = {
        "Unconditional": {"start": "random edges"},
        "None": {"start": "averaged image"},
        "one Euler step": {"sampler": SamplerSettings(points=2, solver="euler")},
    }
    for name, changes in ways.items():
        yield Compared(name, method.with_inference(**changes).harmonize(scan, mask=mask), NAME, "ours")


def _in_slices(person: Cohort, scanner: str, images: Sequence[Compared], fitted: Fitted) -> Iterator[Compared]:
    """Table S2's comparators; one that works slice by slice in any case is not run twice."""
    known = {(one.method, one.variant): one for one in images}
    others = [entry for entry in IN_SLICES if (entry.method, entry.variant) not in known]
    yield from images_of(person, scanner, others, fitted, PEOPLE_ON, "Source domain")
    for entry in IN_SLICES:
        if entry not in others:
            yield replace(known[entry.method, entry.variant], row=entry.row)


def _judged(one: Compared, person: Cohort, condition: str) -> Iterator[Measurement]:
    """Table 2: what the two networks make of an image."""
    one = replace(one, row="No harmonization") if one.row == "Source domain" else one
    tissue, age = TissueUNet.shipped(), AgeNetwork.shipped()
    overlap = metrics.dice(tissue.segment(one.image, person.mask), person.largest_tissue, labels=TISSUES).mean()
    yield from one.cells("Table 2", condition, {"dice": float(overlap)}, by=tissue.classifier)
    years = (age.predict(one.image, person.mask) - person.ages).abs().mean()
    yield from one.cells("Table 2", condition, {"age mae": float(years)}, by=age.classifier)


def _from_own_edges(person: Cohort, fitted: Fitted) -> Iterator[Measurement]:
    """Section 4.3: the target's own image from its own edges, not refined."""
    method = fitted(Fit(NAME, "ours", PEOPLE_ON)).with_inference(refinement=RefinementSettings(kind="none"))
    target = scaled_by_itself(person.scans(TARGET), person.mask, fitted, PEOPLE_ON)
    one = Compared("20 %, whole training", method.harmonize(person.scans(TARGET), mask=person.mask), NAME, "ours")
    yield from one.cells("section 4.3", "target domain", measured(one.image, target, person.mask, MEASURES))


def _planted(person: Cohort, fitted: Fitted) -> Iterator[Measurement]:
    """Figure 6: what is left of a planted lesion, and how near the image is to the target's scan with such a lesion."""
    method, scanner = fitted(Fit(NAME, "ours", PEOPLE_ON)), SOURCES[LESION_ON]
    lesion = PlantedLesion.deepest(person.tissues, lesions=person.lesions)
    scan, mask = lesion.into(person.scans(scanner)), person.masks(scanner)
    target = scaled_by_itself(lesion.into(person.scans(TARGET)), person.mask, fitted, PEOPLE_ON)
    begun, settings = method.begin(scan, mask), method.inference.refinement
    ways = {"None": replace(settings, kind="none"), "MI": replace(settings, kind="mi"), "NCC": settings}
    ways |= {f"NCC, c = {step}": replace(settings, step=step) for step in STEPS}
    for name, refinement in ways.items():
        image = method.with_inference(refinement=refinement).finish(begun, scan, mask)
        values = measured(image, target, person.mask, ("psnr",)) | {"lesion contrast left": lesion.share_left(image)}
        yield from Compared(name, image, NAME, "ours").cells("Figure 6", LESION_ON, values)


def _from_t2(person: Cohort, fitted: Fitted) -> Iterator[Measurement]:
    """Figure 7: T2-weighted to T1-weighted. A dark place is bright there, so following the scan leads away."""
    method = fitted(Fit(NAME, "ours", PEOPLE_ON))
    scan, mask, target = person.scans(T2), person.masks(T2), person.scans(TARGET)
    target = scaled_by_itself(target, person.mask, fitted, PEOPLE_ON)
    begun, unrefined = method.begin(scan, mask), method.with_inference(refinement=RefinementSettings(kind="none"))
    images = (
        Compared("Source domain", scaled_by_itself(scan, mask, fitted, PEOPLE_ON)),
        Compared("BlindHarmonyDiff", unrefined.finish(begun, scan, mask), NAME, "ours"),
        Compared("BlindHarmonyDiff, refined", method.finish(begun, scan, mask), NAME, "ours"),
        PRINTED[0].harmonized(scan, T2, mask, fitted, PEOPLE_ON),
        *(entry.harmonized(scan, T2, mask, fitted, PEOPLE_ON) for entry in beside("affine-match")),
    )
    for one in images:
        yield from one.cells("Figure 7", "T2", measured(one.image, target, person.mask, MEASURES))
