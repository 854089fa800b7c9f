"""Exercises of notebook 21: a global factor, the entropy of predictions, the rule of bits.

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


# ------------------------------------------------------------------------------------- 21.1: the best factor and offset


def _right_line(source: Tensor, target: Tensor) -> tuple[float, float]:
    inside = source > 0
    x, y = source[inside], target[inside]
    alpha = float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())
    return alpha, float(y.mean() - alpha * x.mean())


def _pair() -> tuple[Tensor, Tensor]:
    """A source slice (20, 24) with a black rim, and a target slice that is a straight line of it and noise."""
    generator = torch.Generator().manual_seed(211)
    source = 40 + 150 * torch.rand(20, 24, generator=generator, dtype=torch.float64)
    source[:5] = 0
    target = (1.3 * source - 20 + 25 * torch.randn(20, 24, generator=generator, dtype=torch.float64)) * (source > 0)
    return source, target


def _line(answer: Callable, source: Tensor, target: Tensor) -> tuple[float, float]:
    return answers.two_numbers(answer(source.clone(), target.clone()), "alpha and beta")


def _finds_a_known_line(answer: Callable) -> tuple[bool, str]:
    source, _ = _pair()
    alpha, beta = _line(answer, source, (1.5 * source - 30) * (source > 0))
    holds = math.isclose(alpha, 1.5, rel_tol=1e-6) and math.isclose(beta, -30, rel_tol=1e-6)
    return holds, f"of 1.5 x - 30 it found {alpha:.3f} x + {beta:.2f}"


def _nothing_is_closer(answer: Callable) -> tuple[bool, str]:
    source, target = _pair()
    inside, (alpha, beta) = source > 0, _line(answer, *_pair())

    def error(a: float, b: float) -> float:
        return float((a * source + b - target)[inside].square().mean())

    best = min(error(alpha + da, beta + db) for da in (-0.01, 0, 0.01) for db in (-1, 0, 1))
    return error(alpha, beta) <= best, f"its error is {error(alpha, beta):.3f}; a line beside it has {best:.3f}"


def _background_is_left_out(answer: Callable) -> tuple[bool, str]:
    source, target = _pair()
    other = torch.where(source > 0, target, 200.0)
    same = all(
        math.isclose(a, b, rel_tol=1e-9)
        for a, b in zip(_line(answer, source, target), _line(answer, source, other), strict=True)
    )
    return same, "another background of the target changes the line"


_exercise(
    "21.1", "the best straight line", 8,
    {
        "it finds a line that is there": _finds_a_known_line,
        "no line beside it is closer": _nothing_is_closer,
        "the background is left out": _background_is_left_out,
    },
    "Inside the foreground this is ordinary least squares with one variable.",
    "The factor is the covariance of source and target over the variance of the source; the offset makes means agree.",
    "x, y = source[source > 0], target[source > 0]; alpha = ((x - x.mean()) * (y - y.mean())).sum() / (x - "
    "x.mean()).square().sum(); return alpha, y.mean() - alpha * x.mean().",
)  # fmt: skip

# ----------------------------------------------------------------------------------------------- 21.2: Shannon entropy


def _right_entropy(probabilities: Tensor, inside: Tensor) -> float:
    return float(torch.special.entr(probabilities).sum(1)[inside].mean())


def _predictions() -> tuple[Tensor, Tensor]:
    """Probabilities (2, 5, 6, 7) of five labels, some of them 0, and a mask (2, 6, 7)."""
    generator = torch.Generator().manual_seed(212)
    probabilities = (3 * torch.randn(2, 5, 6, 7, generator=generator, dtype=torch.float64)).softmax(1)
    probabilities = torch.where(probabilities < 0.01, 0.0, probabilities)
    return probabilities / probabilities.sum(1, keepdim=True), torch.rand(2, 6, 7, generator=generator) < 0.6


def _entropy(answer: Callable, probabilities: Tensor, inside: Tensor) -> float:
    return answers.one_number(answer(probabilities.clone(), inside.clone()), "an entropy")


def _sure_is_nothing(answer: Callable) -> tuple[bool, str]:
    sure = torch.zeros(1, 5, 2, 2, dtype=torch.float64)
    sure[:, 2] = 1
    found = _entropy(answer, sure, torch.ones(1, 2, 2, dtype=torch.bool))
    return abs(found) < 1e-9, f"a network that is sure everywhere has {found}, wanted 0; log 0 is minus infinity"


def _guessing_is_most(answer: Callable) -> tuple[bool, str]:
    found = _entropy(answer, torch.full((1, 5, 2, 2), 0.2, dtype=torch.float64), torch.ones(1, 2, 2, dtype=torch.bool))
    return math.isclose(found, math.log(5), rel_tol=1e-6), f"a guess among five has {found:.4f}, wanted ln 5 = 1.6094"


def _mean_inside(answer: Callable) -> tuple[bool, str]:
    found, wanted = _entropy(answer, *_predictions()), _right_entropy(*_predictions())
    return math.isclose(
        found, wanted, rel_tol=1e-6
    ), f"inside a mask it is {found:.4f}, wanted {wanted:.4f} for a pixel"


_exercise(
    "21.2", "the entropy of predictions", 6,
    {
        "where the network is sure there is none": _sure_is_nothing,
        "where it guesses there is most": _guessing_is_most,
        "it is a mean over the pixels of the mask": _mean_inside,
    },
    "Minus the sum of p log p over the labels, at every pixel; then the mean over the pixels inside.",
    "0 log 0 counts as 0; torch.special.entr(p) is -p log p with that in mind.",
    "torch.special.entr(probabilities).sum(1)[inside].mean().",
)  # fmt: skip

# -------------------------------------------------------------------------------------------------- 21.3: rule of bits


def _right_stop(bits: list[float], target_bits: float) -> tuple[int, bool]:
    for look, value in enumerate(bits):
        if value <= target_bits:
            return look, True
    return len(bits) - 1, False


def _stop(answer: Callable, bits: list[float], target_bits: float) -> tuple[int, bool]:
    found = answer(list(bits), target_bits)
    look, reached = answers.pair(found, "two things: the number of the look, and whether the bits were reached")
    return int(look), bool(reached)


def _stops(bits: list[float], target_bits: float, reason: str) -> Callable:
    def holds(answer: Callable) -> tuple[bool, str]:
        found, wanted = _stop(answer, bits, target_bits), _right_stop(bits, target_bits)
        return found == wanted, f"{reason}: of {bits} and {target_bits} it made {found}, wanted {wanted}"

    return holds


_exercise(
    "21.3", "the rule of bits", 5,
    {
        "it stops at the first look that is low enough": _stops([3.0, 2.9, 2.7, 2.8, 2.5], 2.75, "a later rise"),
        "it stops before the first step": _stops([2.5, 2.4], 2.75, "already below at the start"),
        "it takes the last look if none is low enough": _stops([3.0, 2.9, 2.8], 2.0, "never reached"),
        "equal is low enough": _stops([3.0, 2.0, 1.0], 2.0, "exactly the target's bits"),
    },
    "Go through the looks in order and return at the first whose bits are at most the target's.",
    "If the loop ends without that, the last look is what you have, and the answer to `reached` is False.",
    "for look, value in enumerate(bits): if value <= target_bits: return look, True; and after the loop: return "
    "len(bits) - 1, False.",
)  # fmt: skip

ANSWERS = {"21.1": _right_line, "21.2": _right_entropy, "21.3": _right_stop}
