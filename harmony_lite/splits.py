"""Which people train, which choose between settings, and which nobody has looked at.

Person `i` of a seed is the same whatever the scanners, so a split is a matter of numbers: those of the profile.
"""

from __future__ import annotations

from collections.abc import Sequence

from harmony_lite.cohort import Cohort
from harmony_lite.cohort.simulated import drawn_age
from harmony_lite.profiles import Profile, active

__all__ = ["people", "travelling_people"]

TRAVELLING_AGES = (51.0, 78.0)  # years


def people(scanners: Sequence[str], profile: Profile | None = None) -> tuple[Cohort, Cohort, Cohort]:
    """Training, validation and test people of a profile on some scanners, the target first.

    Person `i` of a seed is the same whatever the scanners, so these are the people that shipped weights were trained
    on, those that chose between settings, and those that nobody has looked at.
    """
    profile = profile or active()
    sizes = (profile.train_subjects, profile.validation_subjects, profile.test_subjects)
    everybody = Cohort.simulate(sum(sizes), scanners, spacing=profile.spacing, seed=profile.seed)
    return everybody.split(*sizes)


def travelling_people(
    scanners: Sequence[str], profile: Profile | None = None, *, misregistration: float | None = None
) -> tuple[Cohort, Cohort, Cohort]:
    """As `people`, aged 51 to 78 and with as many test people as MISPEL's cohort has (Torbati et al., section 4.1).

    Person `i` has the anatomy of person `i` there at another age. Ages are even over the range; the paper's median is
    72. A third of the paper's people are patients with Alzheimer's disease; nobody is here.
    """
    profile = profile or active()
    sizes = (profile.train_subjects, profile.validation_subjects, profile.travelling_subjects)
    youngest, oldest = TRAVELLING_AGES
    drawn = [(drawn_age(profile.seed, i) - 20) / 60 for i in range(sum(sizes))]  # evenly from 0 to 1
    ages = [round(youngest + share * (oldest - youngest), 1) for share in drawn]
    everybody = Cohort.simulate(
        sum(sizes), scanners, profile.spacing, profile.seed, ages=ages, misregistration=misregistration
    )
    return everybody.split(*sizes)
