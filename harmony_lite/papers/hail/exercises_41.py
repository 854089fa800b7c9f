"""Exercises of notebook 41: Wilcoxon's signed ranks, and how much around a window has to be seen.

`ANSWERS` holds one right answer each: the notebook uses it until the learner's own function has passed its check.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from harmony_lite.exercises import Exercise, Property, answers, register
from harmony_lite.papers.hail.parts import parts_of

__all__ = ["ANSWERS"]


def _exercise(id: str, title: str, minutes: int, properties: dict[str, Callable], *hints: str) -> None:
    register(Exercise(id, title, minutes, tuple(Property(*item) for item in properties.items()), hints))


# ------------------------------------------------------------------------------------- 41.1: Wilcoxon's signed ranks


def _right_ranks(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    change = np.asarray(first, float) - np.asarray(second, float)
    change = change[change != 0]
    ranks = stats.rankdata(np.abs(change))
    return float(ranks[change > 0].sum()), float(ranks[change < 0].sum())


def _ranks(answer: Callable, first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    found = answer(np.array(first, float), np.array(second, float))
    return answers.two_numbers(found, "the sums of ranks of rises and of falls")


def _signed(answer: Callable) -> tuple[bool, str]:
    found = _ranks(answer, [5, 1, 9], [4, 3, 4])  # +1, -2, +5
    return found == (4, 2), f"changes of +1, -2 and +5 give {found}, wanted ranks 1 + 3 up and 2 down"


def _size_counts_by_rank(answer: Callable) -> tuple[bool, str]:
    small, large = (_ranks(answer, [2, 4, far], [1, 6, 1]) for far in (8, 8000))
    return small == large, f"one far larger change makes {large} of {small}: only its rank may count"


def _no_change(answer: Callable) -> tuple[bool, str]:
    found = _ranks(answer, [3, 7, 1, 5], [3, 5, 2, 5])
    return found == (2, 1), f"with two people unchanged it is {found}, wanted 2 up and 1 down: they are left out"


def _ties(answer: Callable) -> tuple[bool, str]:
    found = _ranks(answer, [2, 0, 5], [1, 1, 1])
    return found == (4.5, 1.5), f"two changes of equal size give {found}, wanted 1.5 each: the mean of their ranks"


def _as_scipy(answer: Callable) -> tuple[bool, str]:
    first, second = np.random.default_rng(411).normal(0.3, 1, (2, 16)).round(1)
    found, wanted = _ranks(answer, first, second), _right_ranks(first, second)
    return all(map(math.isclose, found, wanted)), f"of sixteen people it is {found}, wanted {wanted}"


_exercise(
    "41.1", "Wilcoxon's signed ranks", 8,
    {
        "ranks keep the sign of their change": _signed,
        "people without a change are left out": _no_change,
        "equal sizes share their ranks": _ties,
        "the size counts by its rank alone": _size_counts_by_rank,
        "as SciPy has it": _as_scipy,
    },
    "change = first - second; drop the zeros; rank the absolute values from 1 up.",
    "scipy.stats.rankdata gives equal values the mean of their ranks.",
    "ranks[change > 0].sum(), ranks[change < 0].sum()",
)  # fmt: skip

# --------------------------------------------------------------------------------------- 41.2: what a window has to see


def _right_window(first: int, window: int, around: int, side: int) -> tuple[int, int, int, int]:
    for part in parts_of((side, window, window), window, around, 1):
        if part.inner[2].start == first:
            outer, within = part.outer[2], part.within[2]
            return outer.start, outer.stop, within.start, within.stop
    raise ValueError(f"first: found {first}, wanted a multiple of {window} below {side}")


def _windows(cases: Sequence[tuple[int, int, int, int]]) -> Callable:
    def held(answer: Callable) -> tuple[bool, str]:
        for case in cases:
            found = answer(*case)
            if not isinstance(found, tuple | list) or len(found) != 4:
                return False, f"found {found!r}, wanted four numbers: start, stop, inner start, inner stop"
            wanted = _right_window(*case)
            if tuple(found) != wanted:
                return False, f"window_of{case}: found {tuple(found)}, wanted {wanted}"
        return True, "as it should be"

    return held


_exercise(
    "41.2", "what a window has to see", 8,
    {
        "in the middle it sees as much on both sides": _windows(((20, 10, 3, 60), (10, 10, 4, 60))),
        "at the first border there is nothing before it": _windows(((0, 10, 3, 60),)),
        "at the last border there is nothing behind it": _windows(((50, 10, 3, 60),)),
        "the last window may be smaller": _windows(((20, 10, 3, 25), (0, 10, 0, 7))),
    },
    "The window itself ends at min(first + window, side).",
    "What is cut out begins at max(first - around, 0) and ends at min(end + around, side).",
    "In what was cut out, the window begins at first - start and ends at end - start.",
)  # fmt: skip

ANSWERS = {"41.1": _right_ranks, "41.2": _right_window}
