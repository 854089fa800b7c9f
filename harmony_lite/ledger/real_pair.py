"""Tier (iii): one patient, two real protocols 203 days apart, each method given the target protocol's own scan.

What is measured is an upper figure, since the one reference is the very scan that the result is held against, and one
patient has no interval. The lesions changed between the two studies; numbers are kept, images are not. Both scans are
cut to the brain, as the methods' simulated people are; two rows more ask what the head around it does to SSIMH, and
what N4 does when the target is corrected too.

A blind method has a look of its own, here that of the simulated Trio, and is given no reference. So both scans are
brought to it, and what is measured is whether they then agree better than when each is scaled by itself; and what
becomes of the contrast of lesions, those that changed between the studies.

HAIL was trained on simulated people and is sent to the target's scan as its one reference. How far that brings it is
measured by its own two distances of histograms too, beside curves that have the same one reference.

A method for paired scans knows the scanners that it was trained on. Nobody else was under these two protocols, so
MISPEL and a tone curve are trained on every other axial slice of this patient and measured on the rest: slices held
out, not people, 3 mm from the nearest that was trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from torch import Tensor

from harmony_lite.cohort import Cohort, OneReference, Scans, SeveralScanners
from harmony_lite.evaluate.contrast import blurred, lesion_contrast
from harmony_lite.evaluate.measuring import TIER_REAL, Compared, Entry, Measurement, beside, histogram_distances
from harmony_lite.evaluate.report import MEASURES, measured
from harmony_lite.images.bias_field import without_field
from harmony_lite.images.normalize import divide_by_mean
from harmony_lite.methods import Harmonizer, load_method, method_class
from harmony_lite.methods.own_grid.smooth_change import harmonize_on_own_grid

__all__ = [
    "ON_OTHER_SLICES", "TARGET", "TO_ONE_LOOK", "TO_ONE_REFERENCE", "measure", "measure_on_other_slices",
    "measure_to_one_look", "measure_to_one_reference",
]  # fmt: skip

TARGET, SOURCE = "study1", "study2"
PLACE = "real pair"
TO_ONE_REFERENCE = "real pair, one reference in"
TO_ONE_LOOK = "real pair, both to one look"
ON_OTHER_SLICES = "real pair, trained on its other slices"
BLURS = {f"source, blurred by {width:g} mm": width for width in (0.7, 1.4, 2.8)}  # of its slices
BLIND = (
    *beside("percentile", "affine-match", "histogram-matching", "nyul", "blindharmony", "blindharmonydiff"),
    Entry("ascent without the flow", "blindharmony", "ours", changes=(("use_flow", False),)),
)
ENTRIES = beside("percentile", "affine-match", "histogram-matching", "nyul", "white-stripe", "n4", "ssimh")
TO_REFERENCE = beside("percentile", "affine-match", "histogram-matching", "hail:ours", "hail:paper")
SSIMH, N4 = Entry("ssimh, head kept", "ssimh", "volume"), Entry("n4 on both scans", "n4", "volume")


def measure(pair: Cohort) -> Iterator[Measurement]:
    """PSNR, SSIM, NCC and Wasserstein distance of the source and of every method that one reference is enough for.

    Args:
        pair: the patient in a cohort whose target is `TARGET`, as `data_scripts/prepare_open_ms.py` prepares it.
    """
    heads, mask, own_mask = (pair.scans(SOURCE), pair.scans(TARGET)), pair.mask, pair.masks(SOURCE)
    source, target = heads[0] * own_mask, heads[1] * mask
    yield from _measured(Entry("source", "", ""), source, target, mask)
    for entry in ENTRIES:
        yield from _measured(entry, _harmonized(entry, source, own_mask, target, mask), target, mask)
    yield from _measured(SSIMH, _harmonized(SSIMH, heads[0], own_mask, heads[1], mask), target, mask)
    corrected = without_field(target, mask)
    yield from _measured(N4, _harmonized(N4, source, own_mask, corrected, mask), corrected, mask)


def _harmonized(entry: Entry, source: Tensor, own_mask: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    if method_class(entry.method).takes_reference:
        return load_method(entry.method, entry.variant).harmonize(source, reference=target, mask=own_mask)
    method = load_method(entry.method, entry.variant, fitted=False).fit(OneReference(Scans(target, mask)))
    return method.harmonize(source, mask=own_mask)


def _measured(entry: Entry, image: Tensor, target: Tensor, mask: Tensor) -> Iterator[Measurement]:
    one = Compared(entry.row, image, entry.method, entry.variant)
    yield from one.cells(PLACE, f"{SOURCE} to {TARGET}", measured(image, target, mask, MEASURES), tier=TIER_REAL)


def measure_to_one_reference(pair: Cohort, lesions: Tensor) -> Iterator[Measurement]:
    """Agreement with the target's scan, distances of histograms, and contrast of lesions, after one reference.

    Args:
        pair: as for `measure`.
        lesions: bool (1, 1, D, H, W): lesions that changed between the studies.
    """
    mask, own_mask = pair.mask, pair.masks(SOURCE)
    source, target = pair.scans(SOURCE) * own_mask, pair.scans(TARGET) * mask
    for entry in TO_REFERENCE:
        image = _harmonized(entry, source, own_mask, target, mask)
        values = measured(image, target, mask, ("psnr", "ssim", "ncc"))
        values |= histogram_distances(source, image, target, own_mask)
        values["lesion contrast"] = lesion_contrast(image, own_mask, lesions, pair.affine())
        one = Compared(entry.row, image, entry.method, entry.variant)
        yield from one.cells(TO_ONE_REFERENCE, f"{SOURCE} to {TARGET}", values, tier=TIER_REAL)


def measure_to_one_look(pair: Cohort, lesions: Tensor) -> Iterator[Measurement]:
    """Agreement of the two scans after each was brought to the simulated target's look, and contrast of lesions.

    Args:
        pair: as for `measure`.
        lesions: bool (1, 1, D, H, W): lesions that changed between the studies.
    """
    images = {study: (pair.scans(study) * pair.masks(study), pair.masks(study)) for study in (TARGET, SOURCE)}
    affine = pair.affine()
    rows = [(Entry("source", "", ""), {study: image for study, (image, _) in images.items()})]
    for entry in BLIND:
        rows.append((entry, {study: _blindly(entry, *image, affine) for study, image in images.items()}))
    for entry, both in rows:
        contrast = {
            f"lesion contrast, {study}": lesion_contrast(image, images[study][1], lesions, affine)
            for study, image in both.items()
        }
        yield from _agreement(TO_ONE_LOOK, entry, both, pair.mask, contrast)


def measure_on_other_slices(pair: Cohort, lesions: Tensor, *, steps: int = 200) -> Iterator[Measurement]:
    """Agreement of the two scans, in slices at odd heights, after methods that were trained on those at even ones.

    Args:
        pair: as for `measure`.
        lesions: as for `measure_to_one_look`.
        steps: of MISPEL's first training, about.
    """
    mask = pair.masks(TARGET) & pair.masks(SOURCE)
    scans = {study: without_field(pair.scans(study).clamp_min(0) * mask, mask) * mask for study in (TARGET, SOURCE)}
    box = tuple(slice(int(where.min()), int(where.max()) + 1) for where in mask[0, 0].nonzero(as_tuple=True))
    heights = range(box[2].start, box[2].stop - 1, 2)
    even, odd = ((..., *box[:2], [height + half for height in heights]) for half in (0, 1))
    view = SeveralScanners({study: Scans(scan[even], mask[even]) for study, scan in scans.items()})
    methods = [(Entry(row, "", ""), None) for row in ("source, after N4", *BLURS)]
    methods.append((Entry("tone-curve", "tone-curve", "volume"), None))
    for variant in ("paper", "ours"):
        method = load_method("mispel", variant, fitted=False).on_corrected()
        epochs = -(-steps // -(-len(heights) // method.settings.batch))
        method.settings = replace(method.settings, slices=len(heights), epochs=(epochs, epochs))
        methods.append((Entry(f"mispel ({variant})", "mispel", variant), method))
    for entry, method in methods:
        if entry.method:
            method = (method or load_method(entry.method, entry.variant, fitted=False)).fit(view)
        width = BLURS.get(entry.row, 0.0) / np.linalg.norm(pair.affine()[:3, 0])
        both = {study: _after(method, scan[odd], mask[odd], study, width) for study, scan in scans.items()}
        thicker = pair.affine() @ np.diag([1, 1, 2, 1])
        contrast = {
            f"lesion contrast, {study}": lesion_contrast(image, mask[odd], lesions[odd], thicker)
            for study, image in both.items()
        }
        yield from _agreement(ON_OTHER_SLICES, entry, both, mask[odd], contrast)


def _agreement(
    place: str, entry: Entry, both: dict[str, Tensor], mask: Tensor, contrast: dict[str, float]
) -> Iterator[Measurement]:
    """How far the two studies agree after a row's method, and what became of lesions."""
    one = Compared(entry.row, both[SOURCE], entry.method, entry.variant)
    values = measured(both[SOURCE], both[TARGET], mask, ("psnr", "ssim", "ncc"))
    yield from one.cells(place, "the two studies", values | contrast, tier=TIER_REAL)


def _after(method: Harmonizer | None, scan: Tensor, mask: Tensor, study: str, width: float) -> Tensor:
    """A scan after a method, or after a blur of its slices by so many voxels, over its mean: MISPEL's RAW."""
    image = scan if method is None else method.harmonize(scan, scanner=study, mask=mask)
    return divide_by_mean(blurred(image, mask, (width, width, 0)) if width else image, mask)


def _blindly(entry: Entry, image: Tensor, mask: Tensor, affine: np.ndarray) -> Tensor:
    method = load_method(entry.method, entry.variant)
    if entry.changes:
        method = method.with_loop(**dict(entry.changes))
    if method.on_template_grid:
        return harmonize_on_own_grid(method, image, affine, mask)
    return method.harmonize(image, mask=mask)
