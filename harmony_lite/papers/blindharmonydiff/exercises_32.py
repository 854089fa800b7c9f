"""Exercises of notebook 32: a step of the refinement, and how rough an image is from slice to slice.

`ANSWERS` holds one right answer each: the notebook uses it until the learner's own function has passed its check.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from harmony_lite.evaluate.contrast import steps_between_slices
from harmony_lite.exercises import Exercise, Property, answers, register
from harmony_lite.methods.correlation import correlation
from harmony_lite.papers.blindharmonydiff.refinement import RefinementSettings, refine

__all__ = ["ANSWERS"]


def _exercise(id: str, title: str, minutes: int, properties: dict[str, Callable], *hints: str) -> None:
    register(Exercise(id, title, minutes, tuple(Property(*item) for item in properties.items()), hints))


# -------------------------------------------------------------------------------------- 32.1: a step of the refinement


def _right_step(image: Tensor, source: Tensor, c: float) -> Tensor:
    return refine(image, source, RefinementSettings(steps=1, step=c))


def _voxels() -> tuple[Tensor, Tensor]:
    """The brain's voxels of an image and of a source that has something in common with it, (400,) each."""
    chance = torch.Generator().manual_seed(321)
    source = torch.rand(400, generator=chance, dtype=torch.float64)
    return 0.3 + 0.4 * source + 0.2 * torch.rand(400, generator=chance, dtype=torch.float64), source


def _step(answer: Callable, image: Tensor, source: Tensor, c: float = 0.3) -> Tensor:
    return answers.tensor_of_shape(answer(image.clone(), source.clone(), c), image.shape, "an image")


def _correlation_rises(answer: Callable) -> tuple[bool, str]:
    image, source = _voxels()
    before, after = (float(correlation(x, source)) for x in (image, _step(answer, image, source)))
    return after > before, f"the correlation goes from {before:.3f} to {after:.3f}"


def _the_rest_shrinks(answer: Callable) -> tuple[bool, str]:
    """The part of the image that does not follow the source."""

    def rest(x: Tensor) -> Tensor:
        x, s = x - x.mean(), source - source.mean()
        return x - (x * s).sum() / s.square().sum() * s

    image, source = _voxels()
    wanted = 1 - 0.3 * float(correlation(image, source))
    found = float(rest(_step(answer, image, source)).norm() / rest(image).norm())
    said = f"what does not follow the source is {found:.4f} times what it was, wanted 1 - c NCC = {wanted:.4f}"
    return math.isclose(found, wanted, rel_tol=1e-4), said


def _mean_stays(answer: Callable) -> tuple[bool, str]:
    image, source = _voxels()
    found = float(_step(answer, image, source).mean() - image.mean())
    return abs(found) < 1e-6, f"the image's mean moves by {found:.3g}"


def _range_does_not_matter(answer: Callable) -> tuple[bool, str]:
    image, source = _voxels()
    gap = float((_step(answer, 255 * image, source) / 255 - _step(answer, image, source)).abs().max())
    return gap < 1e-6, f"an image in 0 to 255 comes out {gap:.3g} otherwise than one in 0 to 1"


def _size_does_not_matter(answer: Callable) -> tuple[bool, str]:
    image, source = _voxels()
    twice = _step(answer, image.repeat(2), source.repeat(2))[: len(image)]
    gap = float((twice - _step(answer, image, source)).abs().max())
    return gap < 1e-6, f"with every voxel there twice it comes out {gap:.3g} otherwise"


_exercise(
    "32.1", "a step of the refinement", 8,
    {
        "the correlation rises": _correlation_rises,
        "the mean stays": _mean_stays,
        "the range does not matter": _range_does_not_matter,
        "the number of voxels does not matter": _size_does_not_matter,
        "what does not follow the source shrinks by 1 - c NCC": _the_rest_shrinks,
    },
    "Take the means off first. With both centred, NCC = (x * s).sum() / (x.norm() * s.norm()).",
    "The gradient is (s / s.norm() - NCC * x / x.norm()) / x.norm(), for centred x and s.",
    "For a centred x, c N var(x) is c * x.norm() ** 2: add c * x.norm() * (s / s.norm() - NCC * x / x.norm()).",
)  # fmt: skip

# ------------------------------------------------------------------------------------- 32.2: steps from slice to slice


def _right_roughness(volume: Tensor, inside: Tensor) -> float:
    return steps_between_slices(volume[None, None], inside[None, None])


def _volume() -> tuple[Tensor, Tensor]:
    """A volume (9, 10, 8), and a mask of a part of it."""
    chance = torch.Generator().manual_seed(322)
    inside = torch.zeros(9, 10, 8, dtype=torch.bool)
    inside[2:8, 1:7, 1:7] = True
    return torch.randn(9, 10, 8, generator=chance), inside


def _roughness(answer: Callable, volume: Tensor, inside: Tensor) -> float:
    return answers.one_number(answer(volume.clone(), inside.clone()), "a ratio")


def _same_along_all(answer: Callable) -> tuple[bool, str]:
    x, y, z = torch.meshgrid(*(torch.arange(float(side)) for side in (9, 10, 8)), indexing="ij")
    found = _roughness(answer, x + y + z, torch.ones(9, 10, 8, dtype=torch.bool))
    return math.isclose(found, 1, rel_tol=1e-5), f"a ramp along all three axes has {found:.3f}, wanted 1"


def _made_slice_by_slice(answer: Callable) -> tuple[bool, str]:
    volume, inside = _volume()
    jumps = volume + 10 * torch.arange(8.0)
    found, wanted = _roughness(answer, jumps, inside), _right_roughness(jumps, inside)
    return math.isclose(found, wanted, rel_tol=1e-4), f"with slices that jump it is {found:.3f}, wanted {wanted:.3f}"


def _up_and_down(answer: Callable) -> tuple[bool, str]:
    volume, inside = _volume()
    found, wanted = _roughness(answer, volume, inside), _right_roughness(volume, inside)
    return math.isclose(found, wanted, rel_tol=1e-4), f"of noise it is {found:.3f}, wanted {wanted:.3f}; is it |step|?"


def _outside_does_not_count(answer: Callable) -> tuple[bool, str]:
    volume, inside = _volume()
    found = _roughness(answer, torch.where(inside, volume, 100 * volume), inside)
    gap = abs(found - _right_roughness(volume, inside))
    return gap < 1e-4, f"what lies outside the mask changes it by {gap:.3g}; both neighbours have to be inside"


_exercise(
    "32.2", "steps from slice to slice", 6,
    {
        "the same along all axes is 1": _same_along_all,
        "steps up and steps down do not cancel": _up_and_down,
        "slices that jump stand out": _made_slice_by_slice,
        "what lies outside does not count": _outside_does_not_count,
    },
    "Steps along z: (volume[..., 1:] - volume[..., :-1]).abs(); they count where both neighbours are inside.",
    "volume.diff(dim=axis).abs() for each axis, and volume.narrow(...) or slices of the mask, joined with &.",
    "Mean step along z, over the mean of the mean steps along x and along y.",
)  # fmt: skip

ANSWERS = {"32.1": _right_step, "32.2": _right_roughness}
