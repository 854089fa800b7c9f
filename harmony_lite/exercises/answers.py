"""What the exercises ask of every answer before its values are judged, and one property that many of them share.

A check raises ValueError with what was found and what was wanted; `check` turns that into the reason that is printed.
This module registers no exercise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["array_of_shape", "one_number", "pair", "tensor_of_shape", "two_numbers", "unchanged"]


def one_number(found: Any, what: str) -> float:
    """The only number in an answer.

    Args:
        found: a number, or a tensor or array of one element.
        what: the answer's name in the message, such as "a loss".

    Raises:
        ValueError: none or several numbers.

    >>> one_number(torch.tensor([[2.5]]), "a loss")
    2.5
    """
    found = torch.as_tensor(found)
    if found.numel() != 1:
        raise ValueError(f"found {what} of shape {tuple(found.shape)}, wanted one number")
    return float(found)


def tensor_of_shape(found: Any, shape: tuple[int, ...], what: str = "an answer") -> Tensor:
    """The answer as a tensor without its gradient, in its own precision.

    Args:
        found: a tensor or an array.
        shape: the shape that is wanted.
        what: the answer's name in the message, such as "a gradient".

    Raises:
        ValueError: another shape.
    """
    found = torch.as_tensor(found)
    if tuple(found.shape) != tuple(shape):
        raise ValueError(f"found {what} of shape {tuple(found.shape)}, wanted {tuple(shape)}")
    return found.detach()


def array_of_shape(found: Any, shape: tuple[int, ...], wanted: str, dtype: type | None = None) -> np.ndarray:
    """The answer as an array.

    Args:
        found: an array, or what numpy makes one of.
        shape: the shape that is wanted.
        wanted: the same in words for the message, such as "one number in ml".
        dtype: the type to convert the values to; None leaves them.

    Raises:
        ValueError: another shape.
    """
    found = np.asarray(found, dtype=dtype)
    if found.shape != tuple(shape):
        raise ValueError(f"found an answer of shape {found.shape}, wanted {wanted}")
    return found


def pair(found: Any, wanted: str, shown: str | None = None) -> tuple[Any, Any]:
    """The two parts of an answer.

    Args:
        found: a tuple or list of two.
        wanted: for the message: the two parts in words.
        shown: for the message: what was found; None shows the answer itself, which suits short ones.

    Raises:
        ValueError: no tuple or list, or not of two.
    """
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise ValueError(f"found {repr(found) if shown is None else shown}, wanted {wanted}")
    return found[0], found[1]


def two_numbers(found: Any, meaning: str) -> tuple[float, float]:
    """The two numbers of an answer.

    Args:
        found: a tuple or list of two numbers.
        meaning: what the two are, for the message.

    Raises:
        ValueError: no tuple or list, or not of two.
    """
    first, second = pair(found, f"two numbers: {meaning}")
    return float(first), float(second)


def unchanged(
    measure: Callable[..., float], given: Callable[[], tuple], what: str, *, digits: int = 3, rel_tol: float = 1e-6
) -> Callable[[Callable[..., tuple]], Callable[[Any], tuple[bool, str]]]:
    """Turn a change of what an answer is given into the property that it leaves the answer's number alone.

    Args:
        measure: makes the number of the answer and what it is given.
        given: makes what the answer is given.
        what: what is changed, in the words that stand before "0.123 becomes 0.456".
        digits: decimals of the two numbers in the reason.
        rel_tol: by which share of the larger the two numbers may differ.

    >>> @unchanged(lambda answer, x: answer(x), lambda: (3.0,), "with the sign turned")
    ... def sign_does_not_count(x):
    ...     return (-x,)
    >>> sign_does_not_count(abs)[0], sign_does_not_count(lambda x: 2 * x)
    (True, (False, 'with the sign turned 6.000 becomes -6.000'))
    """

    def property_of(change: Callable[..., tuple]) -> Callable[[Any], tuple[bool, str]]:
        def holds(answer: Any) -> tuple[bool, str]:
            before, after = measure(answer, *given()), measure(answer, *change(*given()))
            reason = f"{what} {before:.{digits}f} becomes {after:.{digits}f}".strip()
            return math.isclose(before, after, rel_tol=rel_tol), reason

        return holds

    return property_of
