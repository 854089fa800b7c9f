"""Verdicts on the papers' claims, computed from values per person and never typed.

- *holds here*: the 95 % bootstrap interval over people excludes zero in the claimed direction;
- *contradicted here*: it excludes zero the other way;
- *undecided*: it includes zero;
- *training too short here*: it excludes zero, but a cell rests on weights that were still getting better when their
  training ended, as their card says (`converged`): longer training might turn it;
- *not testable here*: with the reason.

A claim that makes several comparisons holds where every one of them does. It is contradicted where one of them is, but
then by an interval as much wider as there are more comparisons (Bonferroni): of 24 comparisons of equals, one at 95 %
would contradict by chance in four runs of ten. "Here", because the people are simulated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np
import torch

from harmony_lite.evaluate.statistics import BootstrapInterval, bootstrap_interval
from harmony_lite.papers.printed import Cell, Claim

__all__ = ["CONTRADICTED", "HOLDS", "NOT_TESTABLE", "TOO_SHORT", "UNDECIDED", "VERDICTS", "Finding", "judge"]

HOLDS, CONTRADICTED, UNDECIDED, TOO_SHORT, NOT_TESTABLE = VERDICTS = (
    "holds here", "contradicted here", "undecided", "training too short here", "not testable here",
)  # fmt: skip
RESAMPLES = 2000  # of people, for a count of cells


@dataclass(frozen=True)
class Finding:
    """What was found on a claim.

    Attributes:
        verdict: of `VERDICTS`.
        mean: gain in the claimed direction, of the comparison that is the nearest to failing; the difference for
            "within", the number of cells for a count.
        low: of its interval.
        high: of its interval.
        people: how many.
        comparisons: how many the claim makes.
        held: how many of them hold by themselves.
        weakest: the comparison that the numbers are of.
    """

    verdict: str
    mean: float
    low: float
    high: float
    people: int
    comparisons: int
    held: int
    weakest: str


def judge(
    claim: Claim,
    values: Mapping[str, Sequence[float]],
    *,
    generator: torch.Generator,
    too_brief: Set[str] = frozenset(),
) -> Finding | None:
    """The verdict on a claim, or None where a cell that it speaks of has not been measured.

    Args:
        claim: as the paper's file states it.
        values: one value per person by the cells' names, the same people in the same order throughout.
        generator: of the bootstrap.
        too_brief: names of the cells that rest on weights which had not converged.

    Raises:
        ValueError: values of different numbers of people.
    """
    stated, claim = claim, claim.among(values)
    if any(getattr(stated, side) and not getattr(claim, side) for side in ("cells", "against", "baseline")):
        return None  # of a claim of ours, one whole side has not been measured
    cells = {cell.name for cell in (*claim.cells, *claim.against, *claim.baseline)}
    if not claim.cells or not cells <= set(values):
        return None
    finding = _judged(claim, cells, values, generator)
    decided = finding.verdict in (HOLDS, CONTRADICTED)
    return replace(finding, verdict=TOO_SHORT) if decided and cells & too_brief else finding


def _judged(
    claim: Claim, cells: Set[str], values: Mapping[str, Sequence[float]], generator: torch.Generator
) -> Finding:
    table = {name: np.asarray(values[name], float) for name in cells}
    if len({len(column) for column in table.values()}) > 1:
        raise ValueError(f"{claim.id}: found values of different numbers of people, wanted one of each in every cell")
    if claim.over == "count":
        return _counted(claim, table, generator)
    gains = list(_gains(claim, table))
    intervals = [bootstrap_interval(gain, generator=generator) for _, gain in gains]
    wider = [_for_all_of_them(gain, len(gains), generator) for _, gain in gains]
    verdicts = [
        HOLDS if _of_comparison(claim, at) == HOLDS else _of_comparison(claim, wide)
        for at, wide in zip(intervals, wider, strict=True)
    ]
    distance = [_distance_from_failing(claim, *pair) for pair in zip(gains, intervals, strict=True)]
    weakest = int(np.argmin(distance))
    at = intervals[weakest]
    verdict = HOLDS if set(verdicts) == {HOLDS} else CONTRADICTED if CONTRADICTED in verdicts else UNDECIDED
    return Finding(verdict, at.mean, at.low, at.high, at.people, len(gains), verdicts.count(HOLDS), gains[weakest][0])


def _for_all_of_them(gain: np.ndarray, comparisons: int, generator: torch.Generator) -> BootstrapInterval:
    """The interval that fails by chance in one of twenty runs in which all comparisons are of equals."""
    return bootstrap_interval(gain, generator=generator, confidence=1 - 0.05 / comparisons)


def _by_sign(gain: BootstrapInterval) -> str:
    return HOLDS if gain.low > 0 else CONTRADICTED if gain.high < 0 else UNDECIDED


def _of_comparison(claim: Claim, gain: BootstrapInterval) -> str:
    if claim.rule == "within":
        limit = claim.limit or 0.0
        if -limit <= gain.low and gain.high <= limit:
            return HOLDS
        return CONTRADICTED if gain.low > limit or gain.high < -limit else UNDECIDED
    if claim.rule == "no worse than" and gain.low >= 0:
        return HOLDS
    return _by_sign(gain)


def _distance_from_failing(claim: Claim, gain: tuple[str, np.ndarray], interval: BootstrapInterval) -> float:
    """In standard deviations over people, so that decibels and similarities can be set against each other."""
    spread = max(float(gain[1].std()), 1e-12)
    if claim.rule == "within":
        return ((claim.limit or 0.0) - max(abs(interval.low), abs(interval.high))) / spread
    return interval.low / spread


def _gains(claim: Claim, table: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Every comparison of a claim: what is compared, and the gain in its direction, one per person."""
    if claim.rule == "monotone in":
        rows = list(dict.fromkeys(cell.row for cell in claim.cells))
        groups = [[cell for cell in claim.cells if cell.row == row] for row in rows]
        pairs = [(b, a) for low, high in zip(groups, groups[1:], strict=False) for a in low for b in high]
        yield from _compared(claim, [(cell, table[cell.name], rival, table[rival.name]) for cell, rival in pairs])
        return
    own, rivals = (_side(claim, cells, at, table) for cells, at in ((claim.cells, 0), (claim.against, -1)))
    if not rivals:
        yield from ((cell.name, value) for cell, value in own)
        return
    yield from _compared(claim, [(*mine, *other) for mine in own for other in rivals])


def _compared(
    claim: Claim, pairs: Sequence[tuple[Cell, np.ndarray, Cell, np.ndarray]]
) -> Iterator[tuple[str, np.ndarray]]:
    sign = -1.0 if claim.direction == "lower" else 1.0
    for cell, value, rival, bar in pairs:
        if claim.matches(cell, rival):
            yield f"{cell.name} against {rival.row}, {rival.condition}", sign * (value - claim.share * bar)


def _side(
    claim: Claim, cells: Sequence[Cell], position: int, table: Mapping[str, np.ndarray]
) -> list[tuple[Cell, np.ndarray]]:
    """One side of a claim: its baseline taken off, averaged over conditions where the claim is about averages."""
    floor = table[claim.baseline[position].name] if claim.baseline else 0.0
    side = [(cell, table[cell.name] - floor) for cell in cells]
    if claim.over != "mean":
        return side
    groups: dict[tuple[str, str], list[tuple[Cell, np.ndarray]]] = {}
    for cell, value in side:
        groups.setdefault((cell.measure.name, cell.row), []).append((cell, value))
    return [(group[0][0], np.mean([value for _, value in group], axis=0)) for group in groups.values()]


def _counted(claim: Claim, table: Mapping[str, np.ndarray], generator: torch.Generator) -> Finding:
    """In how many cells the mean over people is better than every rival's, with people drawn again and again."""
    people = len(next(iter(table.values())))
    draws = torch.randint(people, (RESAMPLES, people), generator=generator).numpy()
    sign = -1.0 if claim.direction == "lower" else 1.0
    counts, mean = np.zeros(RESAMPLES), 0
    for cell in claim.cells:
        rivals = [table[rival.name] for rival in claim.against if claim.matches(cell, rival)]
        gains = [sign * (table[cell.name] - claim.share * rival) for rival in rivals]
        counts += np.all([gain[draws].mean(1) > 0 for gain in gains], axis=0)
        mean += all(gain.mean() > 0 for gain in gains)
    low, high = np.quantile(counts, [0.025, 0.975])
    verdict = HOLDS if low >= claim.count else CONTRADICTED if high < claim.count else UNDECIDED
    text = f"cells in front, {claim.count} claimed"
    return Finding(verdict, float(mean), float(low), float(high), people, len(claim.cells), int(mean), text)
