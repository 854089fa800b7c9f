"""Whom HAIL is trained on, and what the card says of the validation people.

The profile's training people: every other one lends a scan of site A, the rest lend theirs of B and C, so that input
and target of a pair are two people, as in the paper. Phase 2 sees A and B, and so does the GAN beside.
"""

from __future__ import annotations

from functools import partial
from statistics import fmean

from harmony_lite.cohort import Cohort
from harmony_lite.evaluate import metrics
from harmony_lite.evaluate.measuring import histogram_distances
from harmony_lite.methods import Harmonizer
from harmony_lite.papers.hail.experiment import PAIRS, PEOPLE_ON
from harmony_lite.papers.hail.harmonizer import Hail
from harmony_lite.papers.recipes import method_recipe
from harmony_lite.splits import people

__all__ = ["RECIPES"]


def on_sites() -> tuple[Cohort, Cohort]:
    """Training and validation people on the three sites."""
    return people(PEOPLE_ON)[:2]


def on_seen_sites() -> tuple[Cohort, Cohort]:
    """The same people on the two sites that phase 2 sees, for the GAN beside."""
    return people(PEOPLE_ON[:2])[:2]


def style_and_anatomy(method: Harmonizer, validation: Cohort) -> dict[str, dict[str, float]]:
    """Distances that are left to the target, in per cent, and correlation with the input, for each pair of sites.

    The reference is the first validation person, who is not harmonized.
    """
    reference, others = validation.subset([0]), validation.subset(range(1, len(validation)))
    left, kept = {}, {}
    for condition, (source, target) in PAIRS.items():
        if not {source, target} <= set(validation.scanners):
            continue
        one = method.to_reference(reference.scans(target))
        images = one.harmonize(others.scans(source), mask=others.mask)
        found = [
            histogram_distances(scan[None], image[None], reference.scans(target), brain[None])
            for scan, image, brain in zip(others.scans(source), images, others.mask, strict=True)
        ]
        left[condition] = round(fmean(values["nWD(t,p)"] for values in found), 1)
        kept[condition] = round(float(metrics.ncc(images, others.scans(source), others.mask).mean()), 4)
    return {"validation nWD(t,p), %": left, "validation correlation with the input": kept}


RECIPES = (
    method_recipe("style-transfer", "sites", people=on_seen_sites, metric=style_and_anatomy, share=2.0),
    *(
        method_recipe(
            Hail.name,
            variant,
            people=on_sites,
            untrained=partial(Hail.from_variant, variant),
            metric=style_and_anatomy,
            about=lambda training: {"sites": training.scanners},
        )
        for variant in Hail.variants
    ),
)
