"""What MISPEL's result depends on: short trainings, each with one thing changed.

    python data_scripts/sweep_mispel.py [PART ...]

Parts: `grid`, the paper's selection of L and lambda2 (section 4.2), on validation people; `coupling`, the weight of the
scale-free coupling and what it costs, on validation people; `scanners`, M = 2 and 3, and `misregistration`, 0 to 1 mm
with M = 4, on test people, with settings that were chosen before. Writes
`harmony_lite/papers/mispel/sweeps.PROFILE.json`. Every training is kept in the cache folder: an interrupted run
goes on where it stopped. No weights are shipped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from compute_ledger import DIGITS
from short_trainings import sweep

from harmony_lite.cohort import Cohort
from harmony_lite.evaluate.fits import Fitted
from harmony_lite.papers.mispel import experiment as mispel
from harmony_lite.papers.mispel.harmonizer import Mispel
from harmony_lite.papers.mispel.losses import coupling_loss, harmonization_loss, step_two_loss
from harmony_lite.papers.mispel.networks import embeddings_of
from harmony_lite.papers.mispel.steps import PairedSlices
from harmony_lite.papers.sweeps import sweeps_path
from harmony_lite.splits import travelling_people
from harmony_lite.storage import cache_folder

__all__ = ["Condition", "conditions", "main", "people_of"]

GRID_EPOCHS, EPOCHS = (3, 3), (8, 4)  # of 120 steps: a twelfth and a quarter or so of the shipped trainings
EMBEDDINGS, COUPLINGS = (4, 6, 8), (0.1, 0.2, 0.3, 0.4, 0.5)  # section 4.2
SCALE_FREE = (1.0, 3.0, 10.0, 30.0)
TEST_PEOPLE = 8
MISREGISTRATIONS = (0.0, 0.45, 1.0)  # mm and degrees; 0.45 is that of everything else


@dataclass(frozen=True)
class Condition:
    """One training and the people it is measured on.

    Attributes:
        part: of the sweep.
        name: by what the result is known.
        variant: of MISPEL.
        changes: settings that differ.
        scanners: M of them.
        misregistration: of training and measured people, mm.
        group: "validation" or "test".
    """

    part: str
    name: str
    variant: str
    changes: tuple[tuple[str, Any], ...]
    scanners: tuple[str, ...] = mispel.PEOPLE_ON
    misregistration: float | None = None
    group: str = "validation"


def conditions() -> Iterator[Condition]:
    """All of them, part by part."""
    for count in EMBEDDINGS:
        for weight in COUPLINGS:
            changes = (("embeddings", count), ("lambda2", weight), ("epochs", GRID_EPOCHS))
            yield Condition("grid", f"L {count}, lambda2 {weight}", "paper", changes)
    for weight in SCALE_FREE:
        yield Condition("coupling", f"lambda2 {weight}", "ours", (("lambda2", weight), ("epochs", EPOCHS)))
    short = (("epochs", EPOCHS),)
    for count in (2, 3):  # M = 4 is the misregistration of 0.45 mm
        scanners = mispel.PEOPLE_ON[:count]
        yield Condition("scanners", f"ours, M {count}", "ours", short, scanners, group="test")
    for size in MISREGISTRATIONS:
        yield Condition("misregistration", f"ours, {size} mm", "ours", short, misregistration=size, group="test")


def people_of(condition: Condition) -> tuple[Cohort, Cohort]:
    """Who trains, and who is measured."""
    training, validation, test = travelling_people(condition.scanners, misregistration=condition.misregistration)
    return training, validation if condition.group == "validation" else test.subset(range(TEST_PEOPLE))


def measured(condition: Condition, fitted: Fitted) -> dict[str, Any]:
    """Train, and measure each person: RAW and after MISPEL."""
    training, people = (fitted.without_fields(group) for group in people_of(condition))
    method = Mispel.from_variant(condition.variant).on_corrected()
    method.settings = replace(method.settings, **dict(condition.changes))
    start = time.perf_counter()
    method.fit(training.view(method.needs), progress=False)
    seconds = time.perf_counter() - start
    slices = method.slices_of(people.view(method.needs))
    rows = dict(zip((mispel.RAW, "MISPEL"), mispel.before_and_after(method, people).values(), strict=True))
    values = {
        f"{row} | {name}": [float(f"{one[name]:.{DIGITS}g}") for one in of_people]
        for row, of_people in rows.items()
        for name in of_people[0]
    }
    return {"minutes": round(seconds / 60, 2), "people": people.subjects, **_losses(method, slices), "values": values}


@torch.no_grad()
def _losses(method: Mispel, slices: PairedSlices) -> dict[str, float]:
    """The terms of Equations 4 and 6 on these people, after both steps."""
    embeddings, brain = embeddings_of(method.units, slices.images), slices.counted(method.settings)
    _, reconstruction, harmonization = step_two_loss(
        slices.images, method.units.decode(embeddings), method.settings, brain
    )
    found = {
        "coupling": coupling_loss(embeddings, brain),
        "coupling, scale-free": coupling_loss(embeddings, brain, scale_free=True),
        "reconstruction": reconstruction,
        "harmonization": harmonization,
        "harmonization of RAW": harmonization_loss(slices.images, brain),
    }
    return {name: float(f"{float(value):.{DIGITS}g}") for name, value in found.items()}


def main() -> None:
    """Sweep what is named, or everything."""
    fitted = Fitted(cache_folder() / "corrected")
    sweep(conditions(), partial(measured, fitted=fitted), sweeps_path("mispel"), __doc__.splitlines()[0])


if __name__ == "__main__":
    main()
