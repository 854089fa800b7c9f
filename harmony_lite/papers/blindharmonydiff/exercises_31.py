"""Exercises of notebook 31: the straight way and its direction, a midpoint step, how much of a lesion is left.

`ANSWERS` holds one right answer each: the notebook uses it until the learner's own function has passed its check.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from harmony_lite.exercises import Exercise, Property, answers, register

__all__ = ["ANSWERS"]


def _exercise(id: str, title: str, minutes: int, properties: dict[str, Callable], *hints: str) -> None:
    register(Exercise(id, title, minutes, tuple(Property(*item) for item in properties.items()), hints))


# ------------------------------------------------------------------------------------------------- 31.1: straight way


def _right_way(noise: Tensor, image: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    t = time[:, None]
    return t * image + (1 - t) * noise, image - noise


def _three() -> tuple[Tensor, Tensor, Tensor]:
    """Noise and images (5, 7), and five times."""
    chance = torch.Generator().manual_seed(311)
    return torch.randn(5, 7, generator=chance), torch.randn(5, 7, generator=chance) + 3, torch.rand(5, generator=chance)


def _way(answer: Callable, time: Tensor | None = None) -> tuple[Tensor, Tensor]:
    noise, image, drawn = _three()
    found = answer(noise.clone(), image.clone(), (drawn if time is None else time).clone())
    x, velocity = answers.pair(found, "two things: x_t, and the velocity that is wanted there", type(found).__name__)
    return answers.tensor_of_shape(x, noise.shape, "x_t"), answers.tensor_of_shape(velocity, noise.shape, "a velocity")


def _begins_at_noise(answer: Callable) -> tuple[bool, str]:
    gap = float((_way(answer, torch.zeros(5))[0] - _three()[0]).abs().max())
    return gap < 1e-5, f"at time 0 x is up to {gap:.3g} away from the noise"


def _ends_at_image(answer: Callable) -> tuple[bool, str]:
    gap = float((_way(answer, torch.ones(5))[0] - _three()[1]).abs().max())
    return gap < 1e-5, f"at time 1 x is up to {gap:.3g} away from the image"


def _a_time_each(answer: Callable) -> tuple[bool, str]:
    gap = float((_way(answer)[0] - _right_way(*_three())[0]).abs().max())
    return gap < 1e-5, f"with five different times x is up to {gap:.3g} off; each image has its own time"


def _velocity_is_the_slope(answer: Callable) -> tuple[bool, str]:
    near = [_way(answer, torch.full((5,), t))[0] for t in (0.4, 0.401)]
    gap = float((_way(answer, torch.full((5,), 0.4))[1] - (near[1] - near[0]) / 0.001).abs().max())
    return gap < 0.02, f"the velocity is up to {gap:.3g} away from how x changes with time"


_exercise(
    "31.1", "the straight way and its direction", 8,
    {
        "it begins at the noise": _begins_at_noise,
        "it ends at the image": _ends_at_image,
        "each image has its own time": _a_time_each,
        "the velocity is how x changes": _velocity_is_the_slope,
    },
    "Equation 5: x_t is a mixture of the two, and the image's share is the time.",
    "time has one number for each image: time[:, None] goes with a batch of rows. Then differentiate x_t by t.",
    "t = time[:, None]; return t * image + (1 - t) * noise, image - noise.",
)  # fmt: skip

# ------------------------------------------------------------------------------------------------ 31.2: midpoint step


def _right_step(velocity: Callable[[Tensor, float], Tensor], x: Tensor, now: float, step: float) -> Tensor:
    middle = x + step / 2 * velocity(x, now)
    return x + step * velocity(middle, now + step / 2)


def _stepped(answer: Callable, field: Callable, x: Tensor, now: float = 0.2, step: float = 0.1) -> Tensor:
    return answers.tensor_of_shape(answer(field, x.clone(), now, step), x.shape, "a new x")


def _constant(answer: Callable) -> tuple[bool, str]:
    x = torch.zeros(4)
    gap = float((_stepped(answer, lambda x, t: torch.full_like(x, 3.0), x) - 0.3).abs().max())
    return gap < 1e-6, f"along a constant velocity of 3, a step of 0.1 is {gap:.3g} off"


def _twice(answer: Callable) -> tuple[bool, str]:
    asked: list[float] = []

    def field(x: Tensor, t: float) -> Tensor:
        asked.append(float(t))
        return x

    _stepped(answer, field, torch.ones(3))
    holds = len(asked) == 2 and math.isclose(asked[0], 0.2, abs_tol=1e-9) and math.isclose(asked[1], 0.25, abs_tol=1e-9)
    return holds, f"the velocity was asked at the times {[round(t, 3) for t in asked]}, wanted 0.2 and 0.25"


def _curved(answer: Callable) -> tuple[bool, str]:
    x, wanted = torch.ones(3), 1.1  # dx/dt = 2 t gives x + t^2: exact for the midpoint method
    found = _stepped(answer, lambda x, t: torch.full_like(x, 2 * t), x, 0.0, math.sqrt(0.1))
    gap = float((found - wanted).abs().max())
    return gap < 1e-6, f"of dx/dt = 2t the step ends at {float(found[0]):.4f}, wanted {wanted}"


def _growing(answer: Callable) -> tuple[bool, str]:
    x = torch.ones(3)
    gap = float((_stepped(answer, lambda x, t: x, x) - 1.105).abs().max())
    return gap < 1e-6, f"of dx/dt = x from 1 the step is {gap:.3g} away from 1 + 0.1 + 0.1^2 / 2"


_exercise(
    "31.2", "a midpoint step", 6,
    {
        "a constant velocity is followed exactly": _constant,
        "it asks twice, at the beginning and in the middle": _twice,
        "a velocity that changes with time is met in the middle": _curved,
        "so is one that changes with x": _growing,
    },
    "First go half a step with the velocity where you are.",
    "Ask again there, at now + step / 2, and take that velocity for the whole step, from x.",
    "middle = x + step / 2 * velocity(x, now); return x + step * velocity(middle, now + step / 2).",
)  # fmt: skip

# ----------------------------------------------------------------------------------------------- 31.3: what is left


def _right_left(image: Tensor, source: Tensor, lesion: Tensor, around: Tensor) -> float:
    def contrast(values: Tensor) -> float:
        return float(values[lesion].mean() / values[around].mean() - 1)

    return contrast(image) / contrast(source)


def _scan(depth: float) -> tuple[Tensor, Tensor, Tensor]:
    """A flat scan of 100 (12, 12) with a lesion of 3 x 3 darker by a share, the lesion, and a ring around it."""
    lesion, around = torch.zeros(12, 12).bool(), torch.zeros(12, 12).bool()
    around[3:8, 3:8] = True
    lesion[4:7, 4:7] = True
    around &= ~lesion
    image = torch.full((12, 12), 100.0)
    image[:2] = 30.0  # something else, far away
    image[lesion] = 100 * (1 - depth)
    return image, lesion, around


def _share_left(answer: Callable, image: Tensor, source: Tensor, lesion: Tensor, around: Tensor) -> float:
    return answers.one_number(answer(image.clone(), source.clone(), lesion, around), "a share")


def _itself_is_whole(answer: Callable) -> tuple[bool, str]:
    image, lesion, around = _scan(0.3)
    found = _share_left(answer, image, image, lesion, around)
    return math.isclose(found, 1, abs_tol=1e-6), f"of an image that is the source itself {found:.3f} is left, wanted 1"


def _gone_is_nothing(answer: Callable) -> tuple[bool, str]:
    (flat, lesion, around), (source, *_) = _scan(0.0), _scan(0.3)
    found = _share_left(answer, flat, source, lesion, around)
    return abs(found) < 1e-6, f"of a lesion that is gone {found:.3f} is left, wanted 0"


def _half(answer: Callable) -> tuple[bool, str]:
    (half, lesion, around), (source, *_) = _scan(0.15), _scan(0.3)
    found = _share_left(answer, half, source, lesion, around)
    return math.isclose(found, 0.5, abs_tol=1e-4), f"of a lesion half as dark {found:.3f} is left, wanted 0.5"


def _gain_is_free(answer: Callable) -> tuple[bool, str]:
    image, lesion, around = _scan(0.3)
    found = _share_left(answer, 7 * image, image, lesion, around)
    return math.isclose(found, 1, abs_tol=1e-4), f"in other units {found:.3f} is left, wanted 1"


_exercise(
    "31.3", "how much of a lesion is left", 6,
    {
        "all of it, in the source itself": _itself_is_whole,
        "nothing, where it is gone": _gone_is_nothing,
        "half, where it is half as dark": _half,
        "units do not matter": _gain_is_free,
    },
    "Contrast: how far the lesion's mean lies from the mean of its surroundings, as a share of the latter.",
    "The same contrast in the source; the answer is the ratio of the two.",
    "contrast = lambda v: v[lesion].mean() / v[around].mean() - 1; return contrast(image) / contrast(source).",
)  # fmt: skip

ANSWERS = {"31.1": _right_way, "31.2": _right_step, "31.3": _right_left}
