"""What the ledger measures: each paper's tables replayed on people that no method has seen.

One module per paper says which rows, on which scanners, judged by what; `measure` runs it on one person. Rows that the
paper prints carry the paper's own names; rows that it does not print and a reader needs (affine match, percentile
scaling, the rescan) carry the method's name. Data tiers: (i) global intensity maps, (ii) simulated scanners, (iii) real
scans.
"""

from __future__ import annotations

from harmony_lite.cohort import Cohort
from harmony_lite.evaluate.experiments import blindharmony, blindharmonydiff, hail, harmonizing_flows, mispel
from harmony_lite.evaluate.experiments.fits import Fit, Fitted, people
from harmony_lite.evaluate.experiments.measuring import Measurement
from harmony_lite.profiles import Profile

__all__ = ["EXPERIMENTS", "Fit", "Fitted", "Measurement", "fits", "measure", "people", "people_of"]

EXPERIMENTS = {
    "blindharmony": blindharmony,
    "blindharmonydiff": blindharmonydiff,
    "harmonizing_flows": harmonizing_flows,
    "hail": hail,
    "mispel": mispel,
}


def people_of(paper: str, profile: Profile | None = None) -> tuple[Cohort, Cohort, Cohort]:
    """Training, validation and test people of a paper's experiment, on its scanners."""
    experiment = EXPERIMENTS[paper]
    return getattr(experiment, "PEOPLE", people)(experiment.PEOPLE_ON, profile)


def fits(paper: str) -> tuple[Fit, ...]:
    """What has to be fitted to training people before `measure` can run for a paper."""
    return tuple(EXPERIMENTS[paper].FITS)


def measure(paper: str, person: Cohort, fitted: Fitted) -> list[Measurement]:
    """Every cell of a paper's tables that can be computed, for one person.

    Args:
        paper: of `EXPERIMENTS`.
        person: a cohort of one held-out person on the scanners that the experiment names `PEOPLE_ON`.
        fitted: methods and classifiers after their fit to training people.

    Raises:
        ValueError: more people than one.
    """
    if len(person) != 1:
        raise ValueError(f"person: found {len(person)} people, wanted one")
    return list(EXPERIMENTS[paper].measure(person, fitted))
