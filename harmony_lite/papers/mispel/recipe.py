"""Whom MISPEL is trained on, and what the card says of the validation people.

The profile's training people (24 in `quick`) at ages from 51 to 78, each on the paper's four scanners. N4 has run on
these scans before, which is why the card has `bias_correction` false: the method itself runs N4 on scans of a user.
"""

from __future__ import annotations

from functools import partial
from statistics import fmean

from harmony_lite.cohort import Cohort
from harmony_lite.methods import Harmonizer
from harmony_lite.papers.mispel.experiment import PEOPLE, PEOPLE_ON, before_and_after
from harmony_lite.papers.mispel.harmonizer import Mispel
from harmony_lite.papers.recipes import method_recipe

__all__ = ["RECIPES"]


def after_n4() -> tuple[Cohort, Cohort]:
    """Training and validation people on the four scanners, after N4."""
    return tuple(group.corrected() for group in PEOPLE(PEOPLE_ON)[:2])


def untrained(variant: str) -> Mispel:
    """For scans that have been through N4 already."""
    return Mispel.from_variant(variant).on_corrected()


def between_scanners(method: Harmonizer, validation: Cohort) -> dict[str, dict[str, float]]:
    """How alike the scanners are, and what is left of lesions and noise, mean over the validation people."""
    return {
        f"validation, {row}": {name: round(fmean(one[name] for one in people), 4) for name in people[0]}
        for row, people in before_and_after(method, validation).items()
    }


RECIPES = tuple(
    method_recipe(
        Mispel.name,
        variant,
        people=after_n4,
        untrained=partial(untrained, variant),
        metric=between_scanners,
        about=lambda training: {"scanners": training.scanners},
        share=0.5,
    )
    for variant in Mispel.variants
)
