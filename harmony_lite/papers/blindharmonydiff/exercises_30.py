"""Exercises of notebook 30: linking edges, a threshold for a share, and where the voxels of a patch lie.

`ANSWERS` holds one right answer each: the notebook uses it until the learner's own function has passed its check.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from harmony_lite.exercises import Exercise, Property, answers, register

__all__ = ["ANSWERS"]


def _exercise(id: str, title: str, minutes: int, properties: dict[str, Callable], *hints: str) -> None:
    register(Exercise(id, title, minutes, tuple(Property(*item) for item in properties.items()), hints))


# -------------------------------------------------------------------------------------------------------- 30.1: linked


def _right_linked(strength: np.ndarray, high: float, low: float) -> np.ndarray:
    parts, count = ndimage.label(strength > low, np.ones((3, 3, 3)))
    kept = np.zeros(count + 1, bool)
    kept[parts[strength > high]] = True
    kept[0] = False
    return kept[parts]


def _strengths() -> np.ndarray:
    """Strengths (6, 7, 8), most of them 0, with two thresholds 0.5 and 0.25 in mind."""
    chance = np.random.default_rng(301)
    return chance.random((6, 7, 8)) * (chance.random((6, 7, 8)) < 0.25)


def _line() -> np.ndarray:
    """A thin diagonal through a cube: strong at one end, weak along the rest, and a weak voxel far away."""
    strength = np.zeros((7, 7, 7))
    for k in range(5):
        strength[k, k, k] = 0.9 if k == 0 else 0.4
    strength[6, 0, 0] = 0.4
    return strength


def _edges(answer: Callable, strength: np.ndarray) -> np.ndarray:
    wanted = f"a map of shape {strength.shape}"
    return answers.array_of_shape(answer(strength.copy(), 0.5, 0.25), strength.shape, wanted, bool)


def _strong_ones_stay(answer: Callable) -> tuple[bool, str]:
    strength = _strengths()
    missing = int((~_edges(answer, strength)[strength > 0.5]).sum())
    return missing == 0, f"{missing} voxels above the upper threshold are left out"


def _nothing_below(answer: Callable) -> tuple[bool, str]:
    strength = _strengths()
    surplus = int(_edges(answer, strength)[strength <= 0.25].sum())
    return surplus == 0, f"{surplus} voxels that do not reach the lower threshold are edges"


def _joined_ones_stay(answer: Callable) -> tuple[bool, str]:
    found = int(_edges(answer, _line())[range(5), range(5), range(5)].sum())
    return found == 5, f"of a diagonal of five voxels, one of them strong, {found} are edges; corners join too"


def _lonely_ones_go(answer: Callable) -> tuple[bool, str]:
    found = bool(_edges(answer, _line())[6, 0, 0])
    return not found, "a weak voxel that touches nothing strong is an edge"


_exercise(
    "30.1", "link the edges", 8,
    {
        "what is strong stays": _strong_ones_stay,
        "nothing below the lower threshold": _nothing_below,
        "weak voxels that are joined to strong ones stay": _joined_ones_stay,
        "weak voxels alone go": _lonely_ones_go,
    },
    "ndimage.label(strength > low, np.ones((3, 3, 3))) numbers connected parts, corners included; 0 is background.",
    "Which numbers occur among the strong voxels? Keep the parts of these numbers, and not the background.",
    "parts, _ = ndimage.label(strength > low, np.ones((3, 3, 3))); return np.isin(parts, parts[strength > high]) & "
    "(parts > 0).",
)  # fmt: skip

# -------------------------------------------------------------------------- 30.2: threshold for a share


def _right_threshold(share_at: Callable[[float], float], wanted: float, lowest: float, highest: float) -> float:
    for _ in range(40):
        middle = (lowest + highest) / 2
        if share_at(middle) > wanted:
            lowest = middle
        else:
            highest = middle
    return (lowest + highest) / 2


def _share_at(threshold: float) -> float:
    return float(np.exp(-3 * threshold))  # the share of edges falls as the threshold rises


def _reached(answer: Callable, wanted: float, lowest: float, highest: float) -> tuple[bool, str]:
    calls: list[float] = []

    def counted(threshold: float) -> float:
        calls.append(threshold)
        if len(calls) > 500:
            raise ValueError("found more than 500 thresholds tried, wanted the range halved each time")
        return _share_at(threshold)

    found = answers.one_number(answer(counted, wanted, lowest, highest), "a threshold")
    share = _share_at(found)
    return abs(share - wanted) < 1e-3, f"at {found:.4g} the share is {100 * share:.1f} %, wanted {100 * wanted:.1f} %"


def _eight_per_cent(answer: Callable) -> tuple[bool, str]:
    return _reached(answer, 0.08, 0.0, 2.0)


def _from_either_side(answer: Callable) -> tuple[bool, str]:
    for wanted in (0.01, 0.6):
        holds, reason = _reached(answer, wanted, 0.0, 2.0)
        if not holds:
            return holds, reason
    return True, ""


def _another_range(answer: Callable) -> tuple[bool, str]:
    return _reached(answer, 0.08, 0.7, 1.9)


_exercise(
    "30.2", "a threshold for a share", 8,
    {
        "it reaches eight per cent": _eight_per_cent,
        "and shares from either side of the first guess": _from_either_side,
        "it looks in the range that it is given": _another_range,
    },
    "Try the middle of the range. Is the share there too large or too small, and which half can you forget?",
    "Too many edges: the threshold has to rise. The lower end moves up to the middle, else the upper end down to it.",
    "for _ in range(40): middle = (lowest + highest) / 2; if share_at(middle) > wanted: lowest = middle; else: highest "
    "= middle. Then return (lowest + highest) / 2.",
)  # fmt: skip

# ---------------------------------------------------------------------------------------------- 30.3: places of a patch


def _right_places(first: int, stride: int, size: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    index = first + stride * np.arange(size)
    return index, 2 * index / (side - 1) - 1


def _placed(answer: Callable, first: int, stride: int, size: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    found = answer(first, stride, size, side)
    index, place = answers.pair(found, "two things: the indices and the coordinates", type(found).__name__)
    wanted = f"{size} numbers, one for each voxel of the patch"
    return tuple(answers.array_of_shape(part, (size,), wanted, float) for part in (index, place))


def _compared(answer: Callable, *case: int, part: int) -> tuple[bool, str]:
    found, wanted = _placed(answer, *case)[part], _right_places(*case)[part]
    gap = float(np.abs(found - wanted).max())
    name = ("indices", "coordinates")[part]
    asked = "first={}, stride={}, size={}, side={}".format(*case)
    return gap < 1e-6, f"for {asked} the {name} are up to {gap:.3g} off"


def _neighbours(answer: Callable) -> tuple[bool, str]:
    return _compared(answer, 5, 1, 4, 20, part=0)


def _every_second(answer: Callable) -> tuple[bool, str]:
    return _compared(answer, 3, 2, 6, 20, part=0)


def _of_the_whole_volume(answer: Callable) -> tuple[bool, str]:
    return _compared(answer, 5, 1, 4, 20, part=1)


def _whatever_the_stride(answer: Callable) -> tuple[bool, str]:
    return _compared(answer, 3, 2, 6, 20, part=1)


_exercise(
    "30.3", "where the voxels of a patch lie", 6,
    {
        "with stride 1 they are neighbours": _neighbours,
        "with stride 2 it takes every second": _every_second,
        "coordinates are those of the whole volume": _of_the_whole_volume,
        "whatever the stride": _whatever_the_stride,
    },
    "Voxel number n of the patch is voxel first + stride * n of the volume.",
    "In the volume the first voxel has -1 and the last, number side - 1, has 1; between them it is a straight line.",
    "index = first + stride * np.arange(size); return index, 2 * index / (side - 1) - 1.",
)  # fmt: skip

ANSWERS = {"30.1": _right_linked, "30.2": _right_threshold, "30.3": _right_places}
