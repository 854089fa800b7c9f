"""How big a run is: `quick` for two processor cores, `full` for a GPU. Numbers only; no code asks which one is on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

__all__ = ["FULL", "PROFILES", "QUICK", "Profile", "active"]


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
        flow_levels: levels of BlindHarmony's flow.
        flow_steps: couplings in each of them.
        flow_hidden: channels of the networks in its couplings.
        flow_training_steps: of its training.
        flow_batch: slices a step.
        unet_width: channels of the comparator U-Net and of the segmenting one, at full resolution.
        unet_training_steps: of each of them.
        unet_batch: slices a step.
        cyclegan_width: channels of CycleGAN's first convolution.
        cyclegan_training_steps: of each source domain.
        cyclegan_batch: slices of each domain a step.
        cyclegan_learning_rate: of all its networks.
        mispel_width: channels of MISPEL's encoders at full resolution.
        mispel_epochs: of its two steps.
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
    flow_levels: int
    flow_steps: int
    flow_hidden: int
    flow_training_steps: int
    flow_batch: int
    unet_width: int
    unet_training_steps: int
    unet_batch: int
    cyclegan_width: int
    cyclegan_training_steps: int
    cyclegan_batch: int
    cyclegan_learning_rate: float
    mispel_width: int
    mispel_epochs: tuple[int, int]


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
    flow_levels=3,  # 80 x 96 pixels down to 10 x 12
    flow_steps=4,
    flow_hidden=24,  # 0.4 million parameters, under a megabyte in half precision
    flow_training_steps=2400,  # half an hour on one core
    flow_batch=16,
    unet_width=5,  # 82,000 parameters: four networks stay under a megabyte
    unet_training_steps=1500,
    unet_batch=8,
    cyclegan_width=12,
    cyclegan_training_steps=600,  # its discriminators are hardly better than chance by then
    cyclegan_batch=2,
    cyclegan_learning_rate=1e-3,  # higher than printed, since steps are few
    mispel_width=8,  # 33,000 parameters an encoder
    mispel_epochs=(36, 15),  # of 120 steps
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
    flow_levels=4,  # BlindHarmony's own flow, section 4.2 and supplement 2.1
    flow_steps=7,
    flow_hidden=96,
    flow_training_steps=20_000,
    flow_batch=256,
    unet_width=64,
    unet_training_steps=120_000,  # of the order of 120 epochs, supplement 2.2
    unet_batch=64,
    cyclegan_width=128,
    cyclegan_training_steps=200_000,  # supplement 2.3: 40 epochs of 75,240 slices are 376,000 steps of 8
    cyclegan_batch=8,
    cyclegan_learning_rate=2e-4,  # supplement 2.3
    mispel_width=32,  # 518,854 parameters an encoder, as the public code has
    mispel_epochs=(100, 100),  # section 4.2
)
PROFILES = {profile.name: profile for profile in (QUICK, FULL)}


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
