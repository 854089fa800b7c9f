"""How big a run is. Numbers only; no code asks which one is on.

`quick` is for two processor cores, `gpu` for what a GPU trains in minutes, `full` is as the papers print it; in `tiny`
nothing is learned: it tries out in seconds whether a script runs through.

What a profile says of everybody is here: people, spacing, slices, seed. The size of a network and the length of its
training stand beside the settings of the method, as one set of settings per profile (`sized`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

__all__ = ["FULL", "GPU", "PROFILES", "QUICK", "TINY", "Profile", "active", "sized"]

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Profile:
    """Sizes of one run.

    Attributes:
        name: as `HARMONY_PROFILE` names it.
        spacing: edge of the cubic voxels, mm.
        slices: axial positions per person that two-dimensional methods use.
        train_subjects: people that methods are trained on.
        validation_subjects: people that choose between trainings, never reported on.
        test_subjects: people that results are computed on.
        travelling_subjects: test people of MISPEL's cohort, aged 51 to 78, each on four scanners.
        lesson_subjects: test people that a notebook recomputes while it runs.
        seed: of the simulated cohort and of the training.
    """

    name: str
    spacing: float
    slices: int
    train_subjects: int
    validation_subjects: int
    test_subjects: int
    travelling_subjects: int
    lesson_subjects: int
    seed: int


QUICK = Profile(
    name="quick",
    spacing=2.0,  # 80 x 96 x 80 voxels: one scan is simulated in about a second
    slices=20,  # every third axial position of the brain at 2 mm
    train_subjects=24,  # 480 slices
    validation_subjects=4,
    test_subjects=16,  # enough people for a paired bootstrap interval
    travelling_subjects=18,  # as many as the paper has
    lesson_subjects=6,
    seed=0,
)
FULL = Profile(
    name="full",
    spacing=1.2,  # BlindHarmony's voxels, by which a slice has 144 x 176 pixels
    slices=50,  # BlindHarmony's slices per person
    train_subjects=400,  # the order of the papers' target cohorts
    validation_subjects=40,
    test_subjects=60,
    travelling_subjects=18,
    lesson_subjects=16,
    seed=0,
)
GPU = Profile(
    name="gpu",
    spacing=QUICK.spacing,  # its weights take the place of those of `quick`
    slices=QUICK.slices,
    train_subjects=128,  # what 16 processes simulate in half a minute on one scanner
    validation_subjects=8,
    test_subjects=16,
    travelling_subjects=18,
    lesson_subjects=6,
    seed=100,  # other people than in `quick`, whose test people no training may see
)
TINY = Profile(
    name="tiny",
    spacing=4.0,
    slices=4,
    train_subjects=4,
    validation_subjects=2,
    test_subjects=2,
    travelling_subjects=2,
    lesson_subjects=2,
    seed=100,
)
PROFILES = {profile.name: profile for profile in (QUICK, GPU, FULL, TINY)}


@cache
def active() -> Profile:
    """The profile that the environment variable `HARMONY_PROFILE` names, `quick` when it is unset or empty.

    The variable is read at the first call and not again, so that one process never mixes two sizes.

    Raises:
        ValueError: a profile that is not known.

    >>> PROFILES["quick"].spacing
    2.0
    """
    name = os.environ.get("HARMONY_PROFILE") or QUICK.name
    if name not in PROFILES:
        raise ValueError(f"HARMONY_PROFILE: found {name!r}, wanted one of {', '.join(PROFILES)}")
    return PROFILES[name]


def sized(sizes: Mapping[str, Settings]) -> Settings:
    """The settings that a method keeps for the active profile.

    Args:
        sizes: settings by the profiles' names.

    Raises:
        ValueError: the method has no settings for this profile.
    """
    name = active().name
    if name not in sizes:
        raise ValueError(f"profile: found {name}, wanted one that the method has settings for: {', '.join(sizes)}")
    return sizes[name]
