"""Exercises of notebook 40: how far a feature looks, adaptive instance normalization, a style loss.

`ANSWERS` holds one right answer each: the notebook uses it until the learner's own function has passed its check.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from harmony_lite.exercises import Exercise, Property, answers, register
from harmony_lite.papers.hail.adain import adain, style_of
from harmony_lite.papers.hail.losses import style_loss
from harmony_lite.papers.hail.networks import radius
from harmony_lite.papers.hail.settings import NetworkSizes

__all__ = ["ANSWERS"]


def _exercise(id: str, title: str, minutes: int, properties: dict[str, Callable], *hints: str) -> None:
    register(Exercise(id, title, minutes, tuple(Property(*item) for item in properties.items()), hints))


# --------------------------------------------------------------------------------------- 40.1: how far a feature looks


def _right_reach(levels: int, pools: int) -> int:
    return radius(NetworkSizes((1,) * levels, pools=pools))


def _reach(answer: Callable, levels: int, pools: int) -> float:
    return answers.one_number(answer(levels, pools), "a number of voxels")


def _reaches(cases: tuple[tuple[int, int], ...]) -> Callable:
    def held(answer: Callable) -> tuple[bool, str]:
        for levels, pools in cases:
            found, wanted = _reach(answer, levels, pools), _right_reach(levels, pools)
            if found != wanted:
                return False, f"{levels} levels, {pools} of them pooled: found {found:g} voxels, wanted {wanted}"
        return True, "as it should be"

    return held


_exercise(
    "40.1", "how far a feature looks", 6,
    {
        "one voxel for each convolution without pooling": _reaches(((1, 0), (2, 0), (4, 0))),
        "voxels below a pooling are twice as large": _reaches(((2, 1), (3, 2), (4, 3))),
        "levels that are not pooled stay as they are": _reaches(((4, 1), (5, 2))),
    },
    "A convolution of side 3 looks one voxel to each side, of the voxels of its level.",
    "After k poolings a voxel of the level is 2**k voxels of the scan wide.",
    "Level number k (from 0) has gone through min(k, pools) poolings: add up 2 ** min(k, pools).",
)  # fmt: skip

# ------------------------------------------------------------------------------------------------- 40.2: AdaIN by hand


def _right_adain(x: Tensor, y: Tensor) -> Tensor:
    x, y = (part[None, :, :, None, None] for part in (x, y))
    return adain(x, style_of(x), style_of(y))[0, ..., 0, 0]


def _features() -> tuple[Tensor, Tensor]:
    """Features of an input, (3, 50), and of a reference with more voxels, (3, 80), in double precision."""
    chance = torch.Generator().manual_seed(401)
    scale = torch.tensor([[1.0], [4.0], [0.2]], dtype=torch.float64)
    x = scale * torch.randn(3, 50, generator=chance, dtype=torch.float64) + 2
    y = torch.randn(3, 80, generator=chance, dtype=torch.float64) / scale - torch.tensor([[0.0], [3.0], [7.0]])
    return x, y


def _adain(answer: Callable, x: Tensor, y: Tensor) -> Tensor:
    return answers.tensor_of_shape(answer(x.clone(), y.clone()), x.shape, "features")


def _moments(what: str, index: int) -> Callable:
    def held(answer: Callable) -> tuple[bool, str]:
        x, y = _features()
        found = _adain(answer, x, y)
        pairs = [(f.mean(1), f.std(1, correction=0)) for f in (found, y)]
        gap = float((pairs[0][index] - pairs[1][index]).abs().max())
        return gap < 1e-4, f"the {what} differ from the reference's by up to {gap:.3g}"

    return held


def _itself(answer: Callable) -> tuple[bool, str]:
    x, _ = _features()
    gap = float((_adain(answer, x, x) - x).abs().max())
    return gap < 1e-5, f"features sent to themselves change by {gap:.3g}"


def _order_stays(answer: Callable) -> tuple[bool, str]:
    x, y = _features()
    found = _adain(answer, x, y)
    return torch.equal(found.argsort(1), x.argsort(1)), "in a channel, what was brighter has to stay brighter"


def _silent_channel(answer: Callable) -> tuple[bool, str]:
    x, y = _features()
    x[1] = 2.0
    gap = float((_adain(answer, x, y)[1] - y[1].mean()).abs().max())  # NaN is not below any bound
    return gap < 1e-4, f"a channel that is the same everywhere is {gap:.3g} off the reference's mean, wanted it there"


_exercise(
    "40.2", "AdaIN by hand", 8,
    {
        "means are the reference's": _moments("means", 0),
        "deviations are the reference's": _moments("deviations", 1),
        "features sent to themselves stay": _itself,
        "a straight line in each channel": _order_stays,
        "a silent channel gets the reference's mean": _silent_channel,
    },
    "Mean and deviation go over the voxels, dim 1, with keepdim=True, and each channel has its own.",
    "First take x's mean off and divide by x's deviation, at least 1e-6; then a channel has mean 0 and deviation 1.",
    "(x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True, correction=0).clamp_min(1e-6) * y's deviation + y's mean.",
)  # fmt: skip

# ------------------------------------------------------------------------------------------------- 40.3: a style loss


def _right_style(levels: list[Tensor], others: list[Tensor]) -> Tensor:
    volumes = ([part[None, :, :, None, None] for part in side] for side in (levels, others))
    return style_loss(*volumes, (None, None))


def _levels() -> tuple[list[Tensor], list[Tensor]]:
    """Features of two images at two levels, (2, 60) and (4, 30) each."""
    chance = torch.Generator().manual_seed(402)
    sizes = ((2, 60), (4, 30))
    one = [torch.randn(size, generator=chance, dtype=torch.float64) for size in sizes]
    return one, [2 * torch.randn(size, generator=chance, dtype=torch.float64) + 1 for size in sizes]


def _style(answer: Callable, levels: list[Tensor], others: list[Tensor]) -> float:
    return answers.one_number(answer([x.clone() for x in levels], [x.clone() for x in others]), "a loss")


def _no_style_to_itself(answer: Callable) -> tuple[bool, str]:
    levels, _ = _levels()
    found = _style(answer, levels, levels)
    return abs(found) < 1e-8, f"between an image and itself it is {found:.3g}"


def _place_does_not_matter(answer: Callable) -> tuple[bool, str]:
    levels, others = _levels()
    shuffled = [x[:, torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(0))] for x in levels]
    gap = abs(_style(answer, shuffled, others) - _style(answer, levels, others))
    return gap < 1e-8, f"with the voxels in another order it differs by {gap:.3g}: a style knows no places"


def _means_count(answer: Callable) -> tuple[bool, str]:
    levels, _ = _levels()
    found = _style(answer, [x + 3 for x in levels], levels)
    return math.isclose(found, 18, rel_tol=1e-5), f"with 3 added everywhere it is {found:.3f}, wanted 9 at each level"


def _levels_add_up(answer: Callable) -> tuple[bool, str]:
    levels, others = _levels()
    found, wanted = _style(answer, levels, others), float(_right_style(levels, others))
    return math.isclose(found, wanted, rel_tol=1e-4), f"it is {found:.4f}, wanted {wanted:.4f}: means and deviations"


_exercise(
    "40.3", "a style loss", 8,
    {
        "an image has its own style": _no_style_to_itself,
        "places do not count": _place_does_not_matter,
        "means count, level by level": _means_count,
        "deviations count too": _levels_add_up,
    },
    "For each level compare two lists of numbers: the channels' means, and the channels' deviations.",
    "Compare by the mean square over the channels, so that a level with many channels does not count more.",
    "sum(((x.mean(1) - y.mean(1))**2).mean() + ((x.std(1, correction=0) - y.std(1, correction=0))**2).mean() ...).",
)  # fmt: skip

ANSWERS = {"40.1": _right_reach, "40.2": _right_adain, "40.3": _right_style}
