"""On which people BlindHarmony's comparators and its judge are trained.

The comparators U-Net and CycleGAN see the source domains: the four scanners of Table 2, or the three intensity maps of
Table 1. The judge is the white-matter U-Net that scores Table 3: it segments harmonized scans, and sees the target's
scans alone, as the prior does.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harmony_lite.cohort import Cohort
from harmony_lite.evaluate import metrics
from harmony_lite.images.intensity_maps import MAPS
from harmony_lite.papers.blindharmony.experiment import PEOPLE_ON, TARGET
from harmony_lite.papers.recipes import judge_recipe, method_recipe, training_and_validation
from harmony_lite.splits import people
from harmony_lite.tasks.segmentation import WhiteMatterUNet

__all__ = ["RECIPES"]

TABLE_1 = ("exp", "log", "gamma0.7")  # its maps
WHITE = 3  # of `Cohort.largest_tissue`


def on_scanners() -> tuple[Cohort, Cohort]:
    """Training and validation people on the target and Table 2's source scanners."""
    return people(PEOPLE_ON)[:2]


def on_maps() -> tuple[Cohort, Cohort]:
    """Training and validation people on the target, and the same scans under Table 1's maps."""
    curves = {name: MAPS[name] for name in TABLE_1}
    return tuple(group.with_maps(curves) for group in on_scanners())


def lesson(training: Cohort) -> tuple[Tensor, Tensor, Tensor]:
    """What the judge learns from: scans of the target, mask, white matter."""
    return training.scans(TARGET), training.mask, training.largest_tissue == WHITE


def overlaps(judge: WhiteMatterUNet, validation: Cohort) -> dict[str, dict[str, float]]:
    """Intersection over union with the true white matter, mean over the validation people, by scanner."""
    white = (validation.largest_tissue == WHITE).to(torch.uint8)
    found = {s: judge.segment(validation.scans(s), validation.mask).to(torch.uint8) for s in validation.scanners}
    values = {s: round(float(metrics.iou(f, white, labels=[1]).mean()), 4) for s, f in found.items()}
    return {"validation white-matter iou": values}


RECIPES = (
    method_recipe("blindharmony", "ours", share=3.0),
    *(
        method_recipe(network, variant, people=domains, share=share)
        for network, share in (("cyclegan", 2.0), ("unet", 1.0))
        for variant, domains in (("scanners", on_scanners), ("maps", on_maps))
    ),
    judge_recipe(
        WhiteMatterUNet.name,
        WhiteMatterUNet.variant,
        people=training_and_validation,
        untrained=WhiteMatterUNet,
        lesson=lesson,
        metric=overlaps,
        target=TARGET,
    ),
)
