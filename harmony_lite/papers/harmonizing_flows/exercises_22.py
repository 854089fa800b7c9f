"""Exercises of notebook 22: a distance between surfaces, and one gain per person.

`ANSWERS` holds one right answer each: the notebook uses it until the learner's own function has passed its check.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from harmony_lite.exercises import Exercise, Property, answers, register

__all__ = ["ANSWERS"]


def _exercise(id: str, title: str, minutes: int, properties: dict[str, Callable], *hints: str) -> None:
    register(Exercise(id, title, minutes, tuple(Property(*item) for item in properties.items()), hints))


# --------------------------------------------------------------------------------- 22.1: modified Hausdorff distance


def _right_distance(first: Tensor, second: Tensor) -> float:
    apart = torch.cdist(first.double(), second.double())
    return float(torch.maximum(apart.amin(1).mean(), apart.amin(0).mean()))


def _points() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(221)
    return torch.rand(30, 3, generator=generator).double() * 10, torch.rand(45, 3, generator=generator).double() * 10


def _distance(answer: Callable, first: Tensor, second: Tensor) -> float:
    return answers.one_number(answer(first.clone(), second.clone()), "a distance")


def _shifted_plane(answer: Callable) -> tuple[bool, str]:
    plane = torch.tensor([[float(x), float(y), 0.0] for x in range(6) for y in range(6)], dtype=torch.float64)
    found = _distance(answer, plane, plane + torch.tensor([0.0, 0.0, 2.0]))
    return math.isclose(found, 2.0, rel_tol=1e-6), f"a plane moved by 2 mm is {found:.3f} mm away, wanted 2"


def _itself(answer: Callable) -> tuple[bool, str]:
    found = _distance(answer, _points()[0], _points()[0])
    return abs(found) < 1e-6, f"a surface is {found:.3g} mm away from itself"


def _both_ways(answer: Callable) -> tuple[bool, str]:
    first, second = _points()
    far = torch.cat([second, torch.full((5, 3), 60.0, dtype=torch.float64)])  # a false part, far off
    there, back = _distance(answer, first, far), _distance(answer, far, first)
    wanted = _right_distance(first, far)
    holds = math.isclose(there, wanted, rel_tol=1e-6) and math.isclose(back, wanted, rel_tol=1e-6)
    return holds, f"with a false part far off it is {there:.3f} one way and {back:.3f} the other, wanted {wanted:.3f}"


def _mean_and_not_largest(answer: Callable) -> tuple[bool, str]:
    found, wanted = _distance(answer, *_points()), _right_distance(*_points())
    return math.isclose(found, wanted, rel_tol=1e-6), f"of two clouds of points it is {found:.4f}, wanted {wanted:.4f}"


_exercise(
    "22.1", "the modified Hausdorff distance", 8,
    {
        "a plane moved by two millimetres is two away": _shifted_plane,
        "a surface is not away from itself": _itself,
        "a false part counts, whichever comes first": _both_ways,
        "it takes means, not the largest": _mean_and_not_largest,
    },
    "torch.cdist(first, second) has all distances; the nearest of the other set is a minimum along an axis.",
    "Two means: over the first set of the distance to the nearest of the second, and the other way round.",
    "apart = torch.cdist(first, second); return torch.maximum(apart.amin(1).mean(), apart.amin(0).mean()).",
)  # fmt: skip

# --------------------------------------------------------------------------------------------- 22.2: one gain a person


def _right_gains(ours: np.ndarray, rival: np.ndarray) -> np.ndarray:
    return (ours - rival).mean(0)


def _scores() -> tuple[np.ndarray, np.ndarray]:
    """Dice of 4 settings x 7 people: people differ by much, methods by little."""
    chance = np.random.default_rng(222)
    of_person, of_setting = 10 * chance.normal(size=(1, 7)), chance.normal(size=(4, 1))
    rival = 70 + of_person + of_setting + 0.2 * chance.normal(size=(4, 7))
    return rival + 1 + 0.2 * chance.normal(size=(4, 7)), rival


def _gains(answer: Callable, ours: np.ndarray, rival: np.ndarray) -> np.ndarray:
    found = answer(ours.copy(), rival.copy())
    people = ours.shape[1]
    return answers.array_of_shape(found, (people,), f"one number for each of {people} people", float)


def _one_a_person(answer: Callable) -> tuple[bool, str]:
    found = _gains(answer, *_scores())
    return found.shape == (7,), f"found {found.shape}"


def _mean_over_settings(answer: Callable) -> tuple[bool, str]:
    found, wanted = _gains(answer, *_scores()), _right_gains(*_scores())
    gap = float(np.abs(found - wanted).max())
    return gap < 1e-9, f"gains are up to {gap:.3g} away from the mean over the settings of ours minus the rival"


def _people_do_not_matter(answer: Callable) -> tuple[bool, str]:
    ours, rival = _scores()
    better = 20 * np.arange(7)[None]  # the same person is easier for both
    gap = float(np.abs(_gains(answer, ours + better, rival + better) - _gains(answer, ours, rival)).max())
    return gap < 1e-9, f"easier people change the gains by {gap:.3g}; subtract for each person before anything else"


_exercise(
    "22.2", "one gain for each person", 8,
    {
        "there is one for each person": _one_a_person,
        "it is the mean over the settings": _mean_over_settings,
        "how easy a person is does not matter": _people_do_not_matter,
    },
    "Both tables are (settings, people); the same place is the same person in the same setting.",
    "Subtract first; then take the mean over the settings, which are no further people.",
    "(ours - rival).mean(0).",
)  # fmt: skip

ANSWERS = {"22.1": _right_distance, "22.2": _right_gains}
