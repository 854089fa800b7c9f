"""What multi-stride patches are worth (section 4.3, supplement S4.1): short trainings, each with one thing changed.

    python data_scripts/sweep_blindharmonydiff.py [PART ...]

Parts: `volumes`, the share of multi-stride patches from none to all, Figure 2; `slices`, simple patches, multi-stride
patches and whole images, Table S4; `no averaged image`, the first two shares once more with a network that looks
nothing up, and so has to learn where in the brain a patch lies. Expected there: multi-stride patches help.
Measured is the target's own image drawn from its own edges, on test people, not refined. Nothing is chosen by it.
Writes `harmony_lite/papers/blindharmonydiff/sweeps.PROFILE.json`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from compute_ledger import DIGITS
from short_trainings import sweep

from harmony_lite.cohort import Cohort
from harmony_lite.evaluate.report import measured as measures_of
from harmony_lite.images.normalize import subject_percentile
from harmony_lite.papers.blindharmonydiff.experiment import TARGET
from harmony_lite.papers.blindharmonydiff.harmonizer import BlindHarmonyDiff
from harmony_lite.papers.blindharmonydiff.patches import PatchSettings
from harmony_lite.papers.sweeps import sweeps_path
from harmony_lite.splits import people

__all__ = ["Condition", "conditions", "main", "people_of"]

STEPS = 1500  # about a fifth of a whole training
TEST_PEOPLE = 4
SHARES = (0.0, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class Condition:
    """One training.

    Attributes:
        part: of the sweep.
        name: by what the result is known.
        multi_stride: share of the patches.
        whole: whether a patch is a whole slice.
        averaged: whether the network looks up the averaged image of the target.
    """

    part: str
    name: str
    multi_stride: float
    whole: bool = False
    averaged: bool = True


def conditions() -> Iterator[Condition]:
    """All of them, part by part."""
    for share in SHARES:
        yield Condition("volumes", f"{100 * share:.0f} %", share)
    yield Condition("slices", "Simple patch", 0.0)
    yield Condition("slices", "Multi-stride patch", 0.2)
    yield Condition("slices", "Whole image", 0.0, whole=True)
    for share in SHARES[:2]:
        yield Condition("no averaged image", f"{100 * share:.0f} %", share, averaged=False)


def method_for(condition: Condition, sides: tuple[int, ...]) -> BlindHarmonyDiff:
    """A method to be trained; a batch of whole slices has as many pixels as one of patches, nearly."""
    method = BlindHarmonyDiff.from_variant("slices" if condition.part == "slices" else "ours")
    training = replace(method.settings.training, training_steps=STEPS)
    patches: PatchSettings = replace(training.patches, multi_stride=condition.multi_stride)
    if condition.whole:
        x, y, _ = patches.size
        count = round(training.batch * x * y / (sides[0] * sides[1]))
        training, patches = replace(training, batch=count), replace(patches, size=(*sides[:2], 1))
    network = replace(method.settings.network, from_averaged=condition.averaged)
    method.settings = replace(method.settings, network=network, training=replace(training, patches=patches))
    return method


def people_of(condition: Condition) -> tuple[Cohort, Cohort]:
    """Who trains, and who is measured: the same in every condition."""
    training, _, test = people((TARGET,))
    return training, test.subset(range(TEST_PEOPLE))


def measured(condition: Condition) -> dict[str, Any]:
    """Train, and draw each person from the own edges."""
    training, test = people_of(condition)
    method = method_for(condition, tuple(training.mask.shape[2:]))
    start = time.perf_counter()
    method.fit(training.view(method.needs), progress=False)
    seconds, values = time.perf_counter() - start, []
    for number in range(len(test)):
        person = test.subset([number])
        scan, mask = person.scans(TARGET), person.mask
        values.append(measures_of(method.begin(scan, mask), subject_percentile(scan, mask), mask, ("psnr", "ssim")))
    return {
        "minutes": round(seconds / 60, 2),
        "people": test.subjects,
        "values": {name: [float(f"{one[name]:.{DIGITS}g}") for one in values] for name in values[0]},
    }


def main() -> None:
    """Sweep what is named, or everything."""
    sweep(conditions(), measured, sweeps_path("blindharmonydiff"), __doc__.splitlines()[0])


if __name__ == "__main__":
    main()
