"""Tier (iii): one patient, two real protocols 203 days apart, each method given the target protocol's own scan.

What is measured is an upper figure, since the one reference is the very scan that the result is held against, and one
patient has no interval. The lesions changed between the two studies; numbers are kept, images are not. Both scans are
cut to the brain, as the methods' simulated people are; two rows more ask what the head around it does to SSIMH, and
what N4 does when the target is corrected too.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from harmony_lite.cohort import Cohort, OneReference, Scans
from harmony_lite.evaluate.experiments.measuring import Entry, Measurement, beside
from harmony_lite.evaluate.report import MEASURES, measured
from harmony_lite.methods import load_method
from harmony_lite.methods.bias_correction import without_field

__all__ = ["TARGET", "measure"]

TARGET, SOURCE = "study1", "study2"
PLACE, TIER = "real pair", "iii"
ENTRIES = beside("percentile", "affine-match", "histogram-matching", "nyul", "white-stripe", "n4", "ssimh")
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
    method = load_method(entry.method, entry.variant, fitted=False).fit(OneReference(Scans(target, mask)))
    return method.harmonize(source, mask=own_mask)


def _measured(entry: Entry, image: Tensor, target: Tensor, mask: Tensor) -> Iterator[Measurement]:
    for name, value in measured(image, target, mask, MEASURES).items():
        condition = f"{SOURCE} to {TARGET}"
        yield Measurement(PLACE, name, entry.row, condition, TIER, entry.method, entry.variant, "", value)
