"""On which people BlindHarmony's comparators and its judge are trained.

The comparators U-Net and CycleGAN see the source domains: the four scanners of Table 2, or the three intensity maps of
Table 1. The judge is the white-matter U-Net that scores Table 3: it segments harmonized scans, and sees the target's
scans alone, as the prior does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from harmony_lite.cohort import Cohort
from harmony_lite.evaluate import metrics
from harmony_lite.images.intensity_maps import MAPS
from harmony_lite.papers.blindharmony.experiment import PEOPLE_ON, TARGET
from harmony_lite.papers.recipes import Recipe, method_recipe, training_and_validation
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


def train_judge(
    judge: WhiteMatterUNet, training: Cohort, checkpoint: Path | None = None, **options: Any
) -> WhiteMatterUNet:
    """Train the white-matter U-Net on the target's scans, or for some `steps`."""
    white = training.largest_tissue == WHITE
    return judge.fit(training.scans(TARGET), training.mask, white, checkpoint=checkpoint, **options)


def begin_judge(judge: WhiteMatterUNet, few: Cohort) -> float:
    """Loss, mean over the first three batches."""
    losses = train_judge(judge, few, steps=3, progress=False).history.losses
    return sum(losses) / len(losses)


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
    Recipe(
        WhiteMatterUNet.name,
        WhiteMatterUNet.variant,
        training_and_validation,
        WhiteMatterUNet,
        train_judge,
        begin_judge,
        overlaps,
        lambda _: {"target": TARGET},
        share=0.5,
    ),
)
