"""Whom the networks of settings A to D are trained on: for each of the four sites as the target, its training people.

The flow, the harmonizer and the judge see scans of the target alone. CycleGAN sees those of the other three sites too,
of other people. Style transfer takes all four for one domain, so one training serves every target.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import Tensor

from harmony_lite.cohort import Cohort
from harmony_lite.evaluate import metrics
from harmony_lite.papers.harmonizing_flows.harmonizer import HarmonizingFlows
from harmony_lite.papers.harmonizing_flows.judges import BIGAUG, PLAIN, big_changes
from harmony_lite.papers.harmonizing_flows.settings import SITES
from harmony_lite.papers.harmonizing_flows.sites import STRUCTURES
from harmony_lite.papers.harmonizing_flows.training import likelier_than_target
from harmony_lite.papers.recipes import Recipe, judge_recipe, method_recipe
from harmony_lite.splits import people
from harmony_lite.tasks.structures import StructureUNet

__all__ = ["RECIPES"]


def on_sites(target: str) -> tuple[Cohort, Cohort]:
    """Training and validation people on the target and the other three sites."""
    return people((target, *(site for site in SITES if site != target)))[:2]


def bits(method: HarmonizingFlows, validation: Cohort) -> dict[str, Any]:
    """Bits per dimension of the validation people's target slices, and the looks that are as likely."""
    scans = validation.scans(validation.scanners[0])
    failing, found = likelier_than_target(method.guide, method.slices_of(scans, validation.mask))
    return {"validation bits per dimension": round(found, 4), "looks as likely as the target's": failing}


def lesson(training: Cohort) -> tuple[Tensor, Tensor, Tensor]:
    """What a judge learns from: scans of the target, mask, labels."""
    return training.scans(training.scanners[0]), training.mask, training.labels


def overlaps(judge: StructureUNet, validation: Cohort) -> dict[str, dict[str, float]]:
    """Dice, mean over the fourteen structures and the validation people, by site."""
    found = {site: judge.segment(validation.scans(site), validation.mask) for site in validation.scanners}
    return {
        "validation dice": {
            site: round(float(metrics.dice(labels, validation.labels, labels=STRUCTURES).mean()), 4)
            for site, labels in found.items()
        }
    }


def of_target(target: str) -> Iterator[Recipe]:
    """All recipes with one site as the target."""
    on_target = partial(on_sites, target)
    # the file of the usual target is named by the variant alone
    named = "" if target == HarmonizingFlows.shipping.target else target
    yield method_recipe(HarmonizingFlows.name, "ours", target=named, people=on_target, metric=bits, share=3.0)
    yield method_recipe("cyclegan", "scanners", target=target, people=on_target, share=2.0)
    for training, change in ((PLAIN, None), (BIGAUG, big_changes)):
        yield judge_recipe(
            StructureUNet.name,
            f"{training}.{target}",
            people=on_target,
            untrained=partial(StructureUNet, change=change),
            lesson=lesson,
            metric=overlaps,
            target=target,
        )


RECIPES = (
    method_recipe("style-transfer", "sites", target=SITES[0], people=partial(on_sites, SITES[0]), share=2.0),
    *(recipe for target in SITES for recipe in of_target(target)),
    method_recipe(HarmonizingFlows.name, "unguided", people=partial(on_sites, SITES[0]), metric=bits, share=3.0),
)
