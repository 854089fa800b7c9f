"""Tier (iii): one patient, two real protocols 203 days apart, each method given the target protocol's own scan.

What is measured is an upper figure, since the one reference is the very scan that the result is held against, and one
patient has no interval. The lesions changed between the two studies; numbers are kept, images are not.
"""

from __future__ import annotations

from collections.abc import Iterator

from harmony_lite.cohort import Cohort
from harmony_lite.evaluate.experiments.measuring import Measurement, beside
from harmony_lite.evaluate.report import MEASURES, measured
from harmony_lite.methods import load_method
from harmony_lite.methods.base import Harmonizer

__all__ = ["TARGET", "measure"]

TARGET, SOURCE = "study1", "study2"
PLACE, TIER = "real pair", "iii"
ENTRIES = beside("percentile", "affine-match", "histogram-matching", "nyul", "white-stripe", "n4", "ssimh")


def measure(pair: Cohort) -> Iterator[Measurement]:
    """PSNR, SSIM, NCC and Wasserstein distance of the source and of every method that one reference is enough for.

    Args:
        pair: the patient in a cohort whose target is `TARGET`, as `data_scripts/prepare_open_ms.py` prepares it.
    """
    target, source, mask, own_mask = pair.scans(TARGET), pair.scans(SOURCE), pair.mask, pair.masks(SOURCE)
    images = [("source", "", "", source)]
    for entry in ENTRIES:
        method: Harmonizer = load_method(entry.method, entry.variant, fitted=False)
        method.fit(pair.view(method.needs))
        image = method.harmonize(source, mask=own_mask)
        images.append((entry.row, entry.method, entry.variant, image))
    for row, name, variant, image in images:
        for measure_name, value in measured(image, target, mask, MEASURES).items():
            yield Measurement(PLACE, measure_name, row, f"{SOURCE} to {TARGET}", TIER, name, variant, "", value)
