"""What the ledger measures: each paper's tables replayed on people that no method has seen.

`papers/PAPER/experiment.py` says which rows, on which scanners, judged by what: `PEOPLE_ON`, `FITS`, `measure`, and
`PEOPLE` where the people are not those of `splits.people`; `SWEPT` where short trainings of a sweep fill some cells. A
`measure` that takes `rows` can do some rows alone. Rows
that the paper prints carry the paper's own names; rows that it does not print and a reader needs (affine match,
percentile scaling, the rescan) carry the method's name. Data tiers: (i) global intensity maps, (ii) simulated scanners,
(iii) real scans.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from importlib import import_module
from inspect import signature
from types import ModuleType

from harmony_lite.cohort import Cohort
from harmony_lite.evaluate.fits import Fit, Fitted
from harmony_lite.evaluate.measuring import Measurement
from harmony_lite.papers.published import FOLDER, load, names
from harmony_lite.papers.sweeps import sweeps, sweeps_path
from harmony_lite.profiles import Profile
from harmony_lite.splits import people

__all__ = ["computed_papers", "experiment", "fits", "measure", "measures_rows", "people_of", "swept"]


def computed_papers() -> tuple[str, ...]:
    """The papers that have an experiment, in their order."""
    return tuple(name for name in names() if (FOLDER / name / "experiment.py").is_file())


def experiment(paper: str) -> ModuleType:
    """A paper's experiment, as the module that it is.

    Raises:
        ValueError: an unknown paper, or one without an experiment.
    """
    name = load(paper).name
    if name not in computed_papers():
        raise ValueError(f"experiment: found {paper!r}, wanted one of {', '.join(computed_papers())}")
    return import_module(f"harmony_lite.papers.{name}.experiment")


def people_of(paper: str, profile: Profile | None = None) -> tuple[Cohort, Cohort, Cohort]:
    """Training, validation and test people of a paper's experiment, on its scanners."""
    module = experiment(paper)
    return getattr(module, "PEOPLE", people)(module.PEOPLE_ON, profile)


def fits(paper: str) -> tuple[Fit, ...]:
    """What has to be fitted to training people before `measure` can run for a paper."""
    return tuple(experiment(paper).FITS)


def measures_rows(paper: str) -> bool:
    """Whether some rows of a paper can be measured without the others: its `measure` takes `rows`."""
    return "rows" in signature(experiment(paper).measure).parameters


def measure(paper: str, person: Cohort, fitted: Fitted, rows: Collection[str] = ()) -> list[Measurement]:
    """Every cell of a paper's tables that can be computed, for one person.

    Args:
        paper: of `computed_papers()`.
        person: a cohort of one held-out person on the scanners that the experiment names `PEOPLE_ON`.
        fitted: methods and classifiers after their fit to training people.
        rows: some alone, and those without a method beside; all of them when empty.

    Raises:
        ValueError: more people than one; rows of a paper that is measured as a whole.
    """
    if len(person) != 1:
        raise ValueError(f"person: found {len(person)} people, wanted one")
    if rows and not measures_rows(paper):
        raise ValueError(f"rows: found {', '.join(rows)}, wanted none, because {paper} is measured as a whole")
    return list(experiment(paper).measure(person, fitted, **({"rows": rows} if rows else {})))


def swept(paper: str, profile: str | None = None) -> Iterator[tuple[tuple[str, str, str, str], list[float]]]:
    """The cells that a paper's sweep fills, by their four words, each with a value per person of the sweep.

    None where the paper's experiment names none, or where the sweep was not made for the profile.
    """
    trainings = getattr(experiment(paper), "SWEPT", {})
    found = sweeps(paper, profile) if trainings and sweeps_path(paper, profile).is_file() else {}
    for (place, row, condition), (part, name) in trainings.items():
        for measured, values in found.get(part, {}).get(name, {}).get("values", {}).items():
            yield (place, measured, row, condition), values
