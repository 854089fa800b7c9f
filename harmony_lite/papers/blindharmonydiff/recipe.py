"""On which people BlindHarmonyDiff's comparator DeepHarmony and its tissue U-Net are trained.

The judge sees the target's scans alone. DeepHarmony sees the same people on the target and on the four source scanners.
"""

from __future__ import annotations

from torch import Tensor

from harmony_lite.cohort import Cohort
from harmony_lite.evaluate import metrics
from harmony_lite.papers.blindharmonydiff.experiment import PEOPLE_ON, TARGET
from harmony_lite.papers.recipes import judge_recipe, method_recipe, training_and_validation
from harmony_lite.splits import people
from harmony_lite.tasks.tissue import CLASSES
from harmony_lite.tasks.tissue_unet import TissueUNet

__all__ = ["RECIPES"]


def on_scanners() -> tuple[Cohort, Cohort]:
    """Training and validation people on the target and the four source scanners."""
    return people(PEOPLE_ON)[:2]


def tissues(training: Cohort) -> tuple[Tensor, Tensor, Tensor]:
    """What the tissue U-Net learns from: scans of the target, mask, tissues."""
    return training.scans(TARGET), training.mask, training.largest_tissue


def overlaps(judge: TissueUNet, validation: Cohort) -> dict[str, dict[str, float]]:
    """Dice with the true tissues, mean over the three and the validation people, by scanner."""
    labels = range(1, len(CLASSES) + 1)
    found = {s: judge.segment(validation.scans(s), validation.mask) for s in validation.scanners}
    values = {s: metrics.dice(f, validation.largest_tissue, labels=labels).mean() for s, f in found.items()}
    return {"validation dice": {s: round(float(value), 4) for s, value in values.items()}}


RECIPES = (
    method_recipe("deepharmony", "scanners", people=on_scanners, share=2.0),
    judge_recipe(
        TissueUNet.name, TissueUNet.variant,
        people=training_and_validation, untrained=TissueUNet, lesson=tissues, metric=overlaps, target=TARGET,
    ),
)  # fmt: skip
