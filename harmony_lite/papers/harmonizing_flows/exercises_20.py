"""Exercises of notebook 20: a masked coupling, the distance of a changed slice, the guided loss, a search by bits.

`ANSWERS` holds one right answer each: the notebook uses it until the learner's own function has passed its check.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from harmony_lite.exercises import Exercise, Property, answers, register
from harmony_lite.papers.harmonizing_flows.augmentation import dissimilarity
from harmony_lite.papers.harmonizing_flows.flow import checkerboard

__all__ = ["ANSWERS"]


def _exercise(id: str, title: str, minutes: int, properties: dict[str, Callable], *hints: str) -> None:
    register(Exercise(id, title, minutes, tuple(Property(*item) for item in properties.items()), hints))


def _largest(first: Tensor, second: Tensor) -> float:
    gap = float((first - second).abs().max())
    return gap if math.isfinite(gap) else math.inf


# ---------------------------------------------------------------------------------------------- 20.1: masked coupling


def _heads(seen: Tensor) -> tuple[Tensor, Tensor]:
    """A log-scale and a shift for every value, that depend on all that is seen."""
    mixed = seen + 0.3 * seen.roll(1, 2) - 0.2 * seen.roll(1, 3)
    return torch.tanh(mixed), torch.cos(2 * mixed)


def _right_coupling(z: Tensor, kept: Tensor, network: Callable) -> tuple[Tensor, Tensor]:
    log_scale, shift = network(z * kept)
    log_scale, shift = log_scale * (1 - kept), shift * (1 - kept)
    return z * log_scale.exp() + shift, log_scale.flatten(1).sum(1)


def _values() -> tuple[Tensor, Tensor]:
    """Values (3, 2, 4, 6) and a checkerboard that keeps half of them."""
    z = torch.randn(3, 2, 4, 6, generator=torch.Generator().manual_seed(201)).double()
    return z, checkerboard(4, 6).double()


def _coupled(answer: Callable, z: Tensor | None = None) -> tuple[Tensor, Tensor]:
    first, kept = _values()
    found = answer((first if z is None else z).clone(), kept.clone(), _heads)
    moved, log_det = answers.pair(found, "two things: the moved values and the log-determinant", type(found).__name__)
    return answers.tensor_of_shape(moved, first.shape, "moved values"), torch.as_tensor(log_det).detach()


def _kept_values_stay(answer: Callable) -> tuple[bool, str]:
    z, kept = _values()
    gap = float(((_coupled(answer)[0] - z) * kept).abs().max())
    return gap < 1e-9, f"values that are kept move by up to {gap:.3g}"


def _moved_as_equation_3_says(answer: Callable) -> tuple[bool, str]:
    z, kept = _values()
    gap = _largest(_coupled(answer)[0], _right_coupling(z, kept, _heads)[0])
    return (
        gap < 1e-9,
        f"the others are up to {gap:.3g} away from z exp(s) + t; does the network see the kept ones only?",
    )


def _log_det_is_that_of_autograd(answer: Callable) -> tuple[bool, str]:
    z, kept = _values()
    found = _coupled(answer)[1]
    if found.shape != (len(z),):
        return False, f"found a log-determinant of shape {tuple(found.shape)}, wanted one for each of {len(z)} images"
    jacobian = torch.autograd.functional.jacobian(
        lambda flat: _right_coupling(flat.view(1, *z.shape[1:]), kept, _heads)[0].flatten(), z[0].flatten()
    )
    wanted = float(torch.linalg.slogdet(jacobian).logabsdet)
    return abs(float(found[0]) - wanted) < 1e-6, f"the first is {float(found[0]):.4f}, by autograd {wanted:.4f}"


_exercise(
    "20.1", "a coupling with a mask", 10,
    {
        "kept values stay": _kept_values_stay,
        "the others are scaled and shifted": _moved_as_equation_3_says,
        "the log-determinant is that of autograd": _log_det_is_that_of_autograd,
    },
    "Hide the values that will move before the network looks: z * kept.",
    "Scale and shift hold for the others only: multiply both by 1 - kept, and one line serves for all values.",
    "log_scale, shift = network(z * kept); log_scale, shift = log_scale * (1 - kept), shift * (1 - kept); return "
    "z * log_scale.exp() + shift, log_scale.flatten(1).sum(1).",
)  # fmt: skip

# ------------------------------------------------------------------------------------- 20.2: how far is a changed slice


def _bytes(seed: int) -> Tensor:
    """A slice (20, 24) of bytes with a black rim."""
    levels = torch.randint(1, 200, (20, 24), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    levels[:4] = 0
    return levels


def _apart(answer: Callable, changed: Tensor, levels: Tensor) -> float:
    return answers.one_number(answer(changed.clone(), levels.clone()), "a distance")


def _three_brighter(answer: Callable) -> tuple[bool, str]:
    levels = _bytes(202)
    found = _apart(answer, torch.where(levels > 0, levels + 3, levels), levels)
    return abs(found - 3) < 1e-6, f"three grey levels brighter is {found:.4g} away, wanted 3"


def _three_darker(answer: Callable) -> tuple[bool, str]:
    levels = _bytes(203).clamp_min(4) * (_bytes(203) > 0)
    found = _apart(answer, torch.where(levels > 0, levels - 3, levels), levels)
    return abs(found - 3) < 1e-6, f"three grey levels darker is {found:.4g} away, wanted 3; bytes wrap around at 0"


def _background_does_not_count(answer: Callable) -> tuple[bool, str]:
    levels, changed = _bytes(204), _bytes(205)
    other = changed.clone()
    other[:4] = 77
    found = _apart(answer, other, levels), _apart(answer, changed, levels)
    return found[0] == found[1], f"another background changes {found[1]:.4g} to {found[0]:.4g}"


def _mean_and_two_deviations(answer: Callable) -> tuple[bool, str]:
    levels, changed = _bytes(206), _bytes(207)
    found = _apart(answer, changed, levels)
    wanted = float(dissimilarity(changed[None, None].float(), levels[None, None].float(), "mean and two deviations"))
    return math.isclose(found, wanted, rel_tol=1e-5), f"of two other slices it is {found:.4f}, wanted {wanted:.4f}"


def _right_distance(changed: Tensor, levels: Tensor) -> float:
    inside = levels > 0
    apart = (changed.float() - levels.float()).abs()[inside]
    return float(apart.mean() + 2 * apart.std(correction=0))


_exercise(
    "20.2", "how far a changed slice is", 6,
    {
        "three levels brighter is three away": _three_brighter,
        "three levels darker is three away too": _three_darker,
        "the background does not count": _background_does_not_count,
        "it is the mean and twice the standard deviation": _mean_and_two_deviations,
    },
    "Bytes hold 0 to 255 and nothing below: 5 - 8 is 253. Which line of yours subtracts bytes?",
    "First .float(), then the absolute difference, then only where levels > 0.",
    "apart = (changed.float() - levels.float()).abs()[levels > 0]; return apart.mean() + 2 * apart.std(correction=0).",
)  # fmt: skip

# -------------------------------------------------------------------------------------------------- 20.3: guided loss

BITS = (2.0, 3.0, 2.6, 5.5)
CHANGED = (False, False, True, True)


def _right_loss(bits: Tensor, is_changed: Tensor, above: float) -> Tensor:
    margin = bits[~is_changed].mean().detach() + above
    return torch.where(is_changed, -torch.minimum(bits, margin), bits).mean()


def _loss(answer: Callable, bits: tuple[float, ...] = BITS) -> tuple[Tensor, Tensor]:
    """The loss and its gradient."""
    leaf = torch.tensor(bits, dtype=torch.float64, requires_grad=True)
    found = answer(leaf, torch.tensor(CHANGED), 1.0)
    if not (isinstance(found, Tensor) and found.numel() == 1 and found.requires_grad):
        raise ValueError("found no tensor of one number with a gradient, wanted a loss that can be trained on")
    (gradient,) = torch.autograd.grad(found.sum(), leaf)
    return found.detach(), gradient


def _its_value(answer: Callable) -> tuple[bool, str]:
    found = float(_loss(answer)[0])
    wanted = (2.0 + 3.0 - 2.6 - 3.5) / 4  # the margin is 2.5 + 1
    return math.isclose(
        found, wanted, abs_tol=1e-9
    ), f"of bits {BITS}, the last two changed, it is {found:.4f}, wanted {wanted:.4f}"


def _pushes(answer: Callable) -> tuple[bool, str]:
    gradient = _loss(answer)[1]
    holds = gradient[0] > 0 and gradient[1] > 0 and gradient[2] < 0
    return bool(
        holds
    ), f"the gradient is {[round(value, 3) for value in gradient.tolist()]}: target's slices want +, changed ones -"


def _stops_at_the_margin(answer: Callable) -> tuple[bool, str]:
    last = float(_loss(answer)[1][3])
    return last == 0, f"a changed slice beyond the margin still has the gradient {last:.3g}"


def _margin_is_held(answer: Callable) -> tuple[bool, str]:
    gradient = _loss(answer)[1]
    holds = math.isclose(float(gradient[0]), 0.25, rel_tol=1e-9)
    return (
        holds,
        f"the gradient of a target's slice is {float(gradient[0]):.3f}, wanted 0.25: the margin must not be trained",
    )


_exercise(
    "20.3", "the guided loss", 10,
    {
        "its value": _its_value,
        "target's slices get likelier, changed ones less likely": _pushes,
        "beyond the margin nothing pushes": _stops_at_the_margin,
        "the margin itself is not trained": _margin_is_held,
    },
    "The margin is a number of this batch: the mean bits of the slices that are not changed, plus what you are given.",
    "torch.minimum(bits, margin) has no gradient where the margin is smaller; .detach() keeps the margin out of it.",
    "margin = bits[~is_changed].mean().detach() + above; return torch.where(is_changed, -torch.minimum(bits, margin), "
    "bits).mean().",
)  # fmt: skip

ANSWERS = {"20.1": _right_coupling, "20.2": _right_distance, "20.3": _right_loss}
