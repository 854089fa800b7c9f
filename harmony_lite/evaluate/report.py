"""One report for every method on every cohort, with the reference rows that no paper shows.

People are measured one by one against their own scan on the target scanner. Beside what the method made stand three
rows that cost nothing and say what a number is worth: the untouched source, the source after percentile scaling alone,
and the same person scanned again on the target scanner: the noise floor, which no honest method can pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
from torch import Tensor
from tqdm import tqdm

from harmony_lite.cohort import Cohort
from harmony_lite.evaluate import metrics
from harmony_lite.images.normalize import percentiles
from harmony_lite.images.slices import axial_slices
from harmony_lite.methods import Harmonizer

__all__ = ["MEASURES", "ROWS", "measured", "percentile_matched", "report", "summary"]

ROWS = ("source", "percentile", "harmonized", "rescan")
MEASURES = ("psnr", "ssim", "ncc", "wasserstein")


def report(
    method: Harmonizer | None,
    cohort: Cohort,
    *,
    reference: Tensor | None = None,
    measures: Sequence[str] = MEASURES,
    beside: bool = False,
    rescan: bool = True,
) -> pd.DataFrame:
    """Measure a method on a cohort whose first scanner is the target.

    Both images are scaled by the target scan's 1st and 99th percentiles inside its mask, so that a range of 1 spans
    the target's intensities; PSNR and SSIM take that range. Measures are taken inside the mask.

    Args:
        method: a fitted method, or None for the reference rows alone.
        cohort: at least two scanners, every person on each of them.
        reference: handed to the method with every scan: the one target image of one-shot methods.
        measures: of `MEASURES`.
        beside: measure the reference rows too, which say what a number is worth.
        rescan: with them the target scanner's second scans, where the cohort has them.

    Returns:
        Tidy table with the columns `person`, `scanner`, `measure`, `value`. With reference rows there is one more,
        `row`: "source" as it comes, "percentile" after matching the target scan's own two percentiles (an upper figure:
        a method does not have that scan), "harmonized" by the method, "rescan" the target scanner again, percentiles
        matched.

    Raises:
        ValueError: one scanner only, a person without one of the scans, an unknown measure.
    """
    unknown = sorted(set(measures) - set(MEASURES))
    if unknown:
        raise ValueError(f"measures: found {', '.join(unknown)}, wanted some of {', '.join(MEASURES)}")
    if len(cohort.scanners) < 2:
        raise ValueError(f"cohort: found one scanner ({cohort.scanners[0]}), wanted a target and at least one source")
    beside = beside or method is None
    rows: list[dict] = []
    for position, name in enumerate(tqdm(cohort.subjects, desc="report", unit="person", disable=None, leave=False)):
        person = cohort.subset([position])
        target, mask = person.scans(cohort.scanners[0]), person.mask
        for scanner, row, image in _images_of(method, person, target, mask, reference, beside, rescan):
            values = measured(image, target, mask, measures)
            rows += [
                {"person": name, "scanner": scanner, "row": row, "measure": measure, "value": value}
                for measure, value in values.items()
            ]
    table = pd.DataFrame(rows)
    return table if beside else table.drop(columns="row")


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean over people of a report: one line per scanner (and row, where there are several), one column per measure."""
    index = [name for name in ("scanner", "row") if name in table]
    means = table.pivot_table(index=index, columns="measure", values="value", sort=False)
    return means[[m for m in MEASURES if m in means]]


def _images_of(
    method: Harmonizer | None,
    person: Cohort,
    target: Tensor,
    mask: Tensor,
    reference: Tensor | None,
    beside: bool,
    rescan: bool,
) -> Iterator[tuple[str, str, Tensor]]:
    """Every image of one person that is held against the target scan: (scanner, row, image)."""
    target_name, *sources = person.scanners
    for scanner in sources:
        source, brain = person.scans(scanner), person.masks(scanner)
        if beside:
            yield scanner, "source", source
            yield scanner, "percentile", percentile_matched(source, brain, target, mask)
        if method is not None:
            yield scanner, "harmonized", method.harmonize(source, reference=reference, scanner=scanner, mask=brain)
    if beside and rescan and person.has(target_name, repeat=1):
        yield target_name, "rescan", percentile_matched(person.scans(target_name, repeat=1), mask, target, mask)


def percentile_matched(image: Tensor, mask: Tensor, target: Tensor, target_mask: Tensor) -> Tensor:
    """An image (1, 1, D, H, W) with its 1st and 99th percentiles in its mask brought to those of a target in its own.

    Raises:
        ValueError: an image whose two percentiles are one.
    """
    low, high = percentiles(image, mask)
    if bool(low == high):
        raise ValueError(f"source: found its 1st and 99th percentile both at {float(low):g}, wanted them apart")
    target_low, target_high = percentiles(target, target_mask)
    return (image - low) / (high - low) * (target_high - target_low) + target_low


def measured(
    image: Tensor, target: Tensor, mask: Tensor, measures: Sequence[str] = MEASURES, *, slices: int | None = None
) -> dict[str, float]:
    """Measures of one image against one target, both scaled by the target's 1st and 99th percentiles in the mask.

    Outside the mask both are set to 0, so that the windows of SSIM at its rim see no skull.

    Args:
        image: (1, 1, D, H, W).
        target: same shape.
        mask: bool, same shape.
        measures: of `MEASURES`.
        slices: measure in so many axial slices, evenly spaced over the mask, and average over them; None measures in
            the whole volume.

    Raises:
        ValueError: shapes that differ, or a target whose two percentiles are one.
    """
    low, high = percentiles(target, mask)
    if bool(low == high):
        raise ValueError(f"reference: found its 1st and 99th percentile both at {float(low):g}, wanted them apart")
    image, target = ((volume - low) / (high - low) * mask for volume in (image, target))
    if slices is not None:
        target, positions = axial_slices(target, slices, mask=mask)
        image, mask = (axial_slices(volume, slices, positions=positions)[0] for volume in (image, mask))
    ranged = {"psnr", "ssim"}
    return {
        name: float(
            getattr(metrics, name)(image, target, mask, **({"data_range": 1.0} if name in ranged else {})).mean()
        )
        for name in measures
    }
