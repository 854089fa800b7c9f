"""On which people BlindHarmonyDiff's networks, its comparators and its two judges are trained.

The method sees the target's scans alone, and so do the judges. DeepHarmony and the paired CycleGAN see the same people
on the target and on the four source scanners. Age wants more people than the others: it has some of its own, drawn with
another seed, whom nothing else sees.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from harmony_lite.cohort import Cohort
from harmony_lite.evaluate import metrics
from harmony_lite.evaluate.report import report
from harmony_lite.images.normalize import subject_percentile
from harmony_lite.papers.blindharmonydiff.experiment import PEOPLE_ON, TARGET
from harmony_lite.papers.blindharmonydiff.harmonizer import BlindHarmonyDiff
from harmony_lite.papers.recipes import judge_recipe, method_recipe, training_and_validation
from harmony_lite.profiles import active
from harmony_lite.splits import people
from harmony_lite.tasks.age_network import AgeNetwork
from harmony_lite.tasks.tissue import CLASSES
from harmony_lite.tasks.tissue_unet import TissueUNet

__all__ = ["RECIPES"]

TIMES = 8  # as many people tell age as there are training people otherwise
VALIDATED = 2  # people whose images are sampled for the card: half a minute each


def on_scanners() -> tuple[Cohort, Cohort]:
    """Training and validation people on the target and the four source scanners."""
    return people(PEOPLE_ON)[:2]


def for_age() -> tuple[Cohort, Cohort]:
    """Training and validation people on the target, of another seed than all others."""
    profile = active()
    sizes = TIMES * profile.train_subjects, TIMES * profile.validation_subjects
    return Cohort.simulate(sum(sizes), [TARGET], profile.spacing, profile.seed + 1).split(*sizes)


def psnr_of_images(method: BlindHarmonyDiff, validation: Cohort) -> dict[str, Any]:
    """PSNR in dB of some validation people: from the target's own edges, and harmonized from two scanners."""
    few = validation.subset(range(min(VALIDATED, len(validation))))
    target, mask = few.scans(TARGET), few.mask
    scaled = subject_percentile(target, mask) * mask
    from_own_edges = metrics.psnr(method.begin(target, mask), scaled, mask, data_range=1.0).mean()
    table = report(method, few, measures=["psnr"])
    return {
        "validation psnr dB, own edges, unrefined": round(float(from_own_edges), 2),
        "validation psnr dB": table.groupby("scanner").value.mean().round(2).to_dict(),
    }


def tissues(training: Cohort) -> tuple[Tensor, Tensor, Tensor]:
    """What the tissue U-Net learns from: scans of the target, mask, tissues."""
    return training.scans(TARGET), training.mask, training.largest_tissue


def overlaps(judge: TissueUNet, validation: Cohort) -> dict[str, dict[str, float]]:
    """Dice with the true tissues, mean over the three and the validation people, by scanner."""
    labels = range(1, len(CLASSES) + 1)
    found = {s: judge.segment(validation.scans(s), validation.mask) for s in validation.scanners}
    values = {s: metrics.dice(f, validation.largest_tissue, labels=labels).mean() for s, f in found.items()}
    return {"validation dice": {s: round(float(value), 4) for s, value in values.items()}}


def ages(training: Cohort) -> tuple[Tensor, Tensor, Tensor]:
    """What the age network learns from: scans of the target, mask, years."""
    return training.scans(TARGET), training.mask, training.ages


def error_in_years(judge: AgeNetwork, validation: Cohort) -> dict[str, float]:
    """Mean absolute error of the validation people's ages."""
    found = judge.predict(validation.scans(TARGET), validation.mask)
    return {"validation error, years": round(float((found - validation.ages).abs().mean()), 2)}


RECIPES = (
    method_recipe("blindharmonydiff", "ours", metric=psnr_of_images, share=3.0),
    method_recipe("blindharmonydiff", "slices", metric=psnr_of_images, share=2.0),
    method_recipe("deepharmony", "scanners", people=on_scanners, share=2.0),
    method_recipe("paired-cyclegan", "scanners", people=on_scanners, share=2.0),
    judge_recipe(
        TissueUNet.name, TissueUNet.variant,
        people=training_and_validation, untrained=TissueUNet, lesson=tissues, metric=overlaps, target=TARGET,
    ),
    judge_recipe(
        AgeNetwork.name, AgeNetwork.variant,
        people=for_age, untrained=AgeNetwork, lesson=ages, metric=error_in_years, target=TARGET,
    ),
)  # fmt: skip
