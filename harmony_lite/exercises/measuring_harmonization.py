"""Exercises of notebook 02: two PSNRs on one range, an image that fools a histogram, an error that counts people."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from harmony_lite.evaluate import metrics
from harmony_lite.exercises import Exercise, Property, register


def _same_range(answer) -> tuple[bool, str]:
    found = float(answer(20.0, 1.0, 1.0))
    return math.isclose(found, 20.0, abs_tol=1e-6), f"20 dB became {found:.2f}"


def _twice_the_range(answer) -> tuple[bool, str]:
    found = float(answer(20.0, 1.0, 2.0))
    return math.isclose(found, 26.0206, abs_tol=1e-3), f"20 dB at range 1 became {found:.2f} at range 2"


def _agrees_with_the_package(answer) -> tuple[bool, str]:
    generator = torch.Generator().manual_seed(21)
    reference = torch.rand(1, 1, 16, 16, generator=generator)
    image = reference + 0.1 * torch.randn(1, 1, 16, 16, generator=generator)
    printed, wanted = (float(metrics.psnr(image, reference, data_range=width)) for width in (4095.0, 255.0))
    found = float(answer(printed, 4095.0, 255.0))
    return math.isclose(found, wanted, abs_tol=1e-3), f"{found:.2f} dB, where the images themselves give {wanted:.2f}"


register(
    Exercise(
        id="02.1",
        title="two printed PSNRs on one range",
        minutes=5,
        properties=(
            Property("the same range leaves the number alone", _same_range),
            Property("twice the range adds 6.02 dB", _twice_the_range),
            Property("it agrees with the package on a pair of images", _agrees_with_the_package),
        ),
        hints=(
            "The mean squared error does not know about the range. Write PSNR for both ranges and subtract.",
            "10 log10(new^2 / mse) - 10 log10(old^2 / mse): the errors cancel, a ratio of squares is left.",
            "So add 20 log10(new / old): math.log10 is the logarithm that decibels use.",
        ),
    )
)


def _ball() -> tuple[Tensor, Tensor]:
    """A patterned ball in a dim surrounding, (1, 1, 24, 24, 24), and its mask."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, 24)] * 3, indexing="ij")
    inside = x**2 + y**2 + z**2 < 0.8
    pattern = np.where(inside, 0.6 + 0.3 * np.sin(4 * x) * np.cos(3 * y) + 0.1 * z, 0.05)
    return torch.from_numpy(pattern).float()[None, None], torch.from_numpy(inside)[None, None]


def _finite_image(answer) -> tuple[bool, str]:
    target, mask = _ball()
    found = answer(target.clone(), mask.clone())
    if not isinstance(found, Tensor) or found.shape != target.shape:
        shape = tuple(getattr(found, "shape", ()))
        return False, f"{type(found).__name__} of shape {shape}, wanted a tensor of shape {tuple(target.shape)}"
    return bool(found.isfinite().all()), "some values are not finite"


def _same_histogram(answer) -> tuple[bool, str]:
    target, mask = _ball()
    distance = float(metrics.wasserstein(answer(target.clone(), mask.clone()), target, mask))
    return distance < 1e-6, f"the distance is {distance:.3g}"


def _another_picture(answer) -> tuple[bool, str]:
    target, mask = _ball()
    found = float(metrics.ncc(answer(target.clone(), mask.clone()), target, mask))
    return abs(found) < 0.1, f"NCC is {found:.3f}"


def _outside_stays(answer) -> tuple[bool, str]:
    target, mask = _ball()
    found = answer(target.clone(), mask.clone())
    changed = int((found != target)[~mask].sum())
    return changed == 0, f"{changed} voxels outside the mask changed"


register(
    Exercise(
        id="02.2",
        title="fool the histogram",
        minutes=8,
        properties=(
            Property("the answer is an image of the target's shape", _finite_image),
            Property("inside the mask the Wasserstein distance to the target is zero", _same_histogram),
            Property("inside the mask NCC with the target is below 0.1 in size", _another_picture),
            Property("outside the mask nothing changes", _outside_stays),
        ),
        hints=(
            "A histogram knows which values occur and how often, and nothing about where.",
            "target[mask] gives the values inside as one vector. Put the same values back in another order.",
            "image = target.clone(); values = target[mask]; image[mask] = values[torch.randperm(len(values))].",
        ),
    )
)

_VALUES, _PEOPLE = np.array([1.0, 3.0, 5.0, 7.0]), np.array([0, 0, 1, 1])


def _hand_example(answer) -> tuple[bool, str]:
    found = float(answer(_VALUES.copy(), _PEOPLE.copy()))
    reason = f"slices 1, 3 of one person and 5, 7 of another gave {found:.3f}, not 2"
    return math.isclose(found, 2.0, abs_tol=1e-6), reason


def _copies(answer) -> tuple[bool, str]:
    once = float(answer(_VALUES.copy(), _PEOPLE.copy()))
    copied = float(answer(np.tile(_VALUES, 10), np.tile(_PEOPLE, 10)))
    return math.isclose(once, copied, rel_tol=1e-6), f"{once:.3f} became {copied:.3f} with ten copies of every slice"


def _unequal_numbers(answer) -> tuple[bool, str]:
    values, people = np.array([1.0, 2.0, 3.0, 8.0, 5.0, 5.0]), np.array(["a", "a", "a", "b", "c", "c"])
    wanted = np.std([2.0, 8.0, 5.0], ddof=1) / math.sqrt(3)
    found = float(answer(values, people))
    return math.isclose(found, wanted, abs_tol=1e-6), f"with 3, 1 and 2 slices it gave {found:.3f}, not {wanted:.3f}"


register(
    Exercise(
        id="02.3",
        title="a standard error that counts people",
        minutes=8,
        properties=(
            Property("the example worked by hand comes out", _hand_example),
            Property("copies of the same slices change nothing", _copies),
            Property("a person counts once, however many slices there are", _unequal_numbers),
        ),
        hints=(
            "How many independent things were measured? That number belongs under the square root.",
            "First one mean per person, then the standard deviation of these means (ddof=1) over sqrt(people).",
            "means = [values[people == p].mean() for p in np.unique(people)], then np.std(means, ddof=1).",
        ),
    )
)
