"""Exercises: an answer is checked against named properties, each of which says why it does not hold; three hints.

Each notebook that has exercises has a module that registers them: here where it belongs to no paper, else
`papers/NAME/exercises_NN.py`. In the notebook, a cell tagged `exercise` and
`exercise-01.1` holds the stub and a call of `check`; the cell after it, tagged `solution` and `exercise-01.1`, holds
one solution. Students' copies come without the second.
"""

from __future__ import annotations

import functools
import inspect
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["Exercise", "Mine", "Property", "Result", "check", "find", "hint", "names", "register"]

PAPERS = Path(__file__).parents[1] / "papers"
_REGISTERED: dict[str, Exercise] = {}


@dataclass(frozen=True)
class Property:
    """One thing that a right answer does.

    Attributes:
        name: the property as a sentence, read after "holds:" or "not yet:".
        holds: given the answer, True or False, or a pair of that and the reason. What it raises becomes the reason.
    """

    name: str
    holds: Callable[[Any], Any]


@dataclass(frozen=True)
class Exercise:
    """A question of a notebook.

    Attributes:
        id: notebook and number, `"01.1"`.
        title: what is asked, in a few words.
        minutes: how long it takes someone who has read the notebook so far.
        properties: what is checked, in the order it is reported.
        hints: three, from a nudge to nearly the answer.

    Raises:
        ValueError: another form of id, no property, two of one name, or not three hints.
    """

    id: str
    title: str
    minutes: int
    properties: tuple[Property, ...]
    hints: tuple[str, ...]

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\d\d\.\d+", self.id):
            raise ValueError(f"exercise id: found {self.id!r}, wanted a form like '01.1'")
        if len(self.hints) != 3 or not all(self.hints):
            raise ValueError(f"exercise {self.id}: found {len(self.hints)} hints, wanted three")
        if not self.properties:
            raise ValueError(f"exercise {self.id}: found no property, wanted at least one")
        if len({prop.name for prop in self.properties}) != len(self.properties):
            raise ValueError(f"exercise {self.id}: found two properties of one name")


@dataclass(frozen=True)
class Result:
    """What a check found.

    Attributes:
        passed: every property holds.
        attempted: the stub was touched.
        failed: names of the properties that do not hold.
        lines: the report that `check` printed.
    """

    passed: bool
    attempted: bool
    failed: tuple[str, ...]
    lines: tuple[str, ...]

    def _ipython_display_(self) -> None:
        """Show nothing: `check` has printed the lines, and a cell often ends with its call."""


def register(exercise: Exercise) -> Exercise:
    """Make an exercise known to `check`; returns it.

    Raises:
        ValueError: another exercise has the id.
    """
    known = _REGISTERED.get(exercise.id)
    if known is not None and known.title != exercise.title:
        raise ValueError(f"exercise {exercise.id}: found two, {known.title!r} and {exercise.title!r}")
    _REGISTERED[exercise.id] = exercise
    return exercise


@functools.cache
def _load_all() -> None:
    """Import the modules of this package and those in the papers' folders, which register their exercises."""
    for module in pkgutil.iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    for path in sorted(PAPERS.glob("*/exercises_[0-9][0-9].py")):
        import_module(f"harmony_lite.papers.{path.parent.name}.{path.stem}")


def names() -> tuple[str, ...]:
    """Ids of all exercises, in order."""
    _load_all()
    return tuple(sorted(_REGISTERED))


def find(id: str) -> Exercise:
    """The exercise of an id.

    Raises:
        ValueError: there is none.
    """
    if id not in names():
        raise ValueError(f"exercise: found {id!r}, wanted one of {', '.join(names()) or 'none yet'}")
    return _REGISTERED[id]


def hint(id: str, number: int = 1) -> None:
    """Print one of the three hints of an exercise.

    Raises:
        ValueError: an unknown exercise, or a number that is not 1, 2 or 3.
    """
    exercise = find(id)
    if number not in (1, 2, 3):
        raise ValueError(f"hint of exercise {id}: found number {number!r}, wanted 1, 2 or 3")
    print(f"Hint {number} of 3 for exercise {id}: {exercise.hints[number - 1]}")


def check(id: str, answer: Any) -> Result:
    """Hold an answer against the properties of an exercise, print what was found, and return it.

    An untouched stub (`None`, `...`, a function that returns nothing or raises `NotImplementedError`) counts as not
    attempted. Whatever an answer raises is told as the reason; `check` itself raises for an unknown exercise only.

    Raises:
        ValueError: an unknown exercise.
    """
    result = _judge(find(id), answer)
    print("\n".join(result.lines))
    return result


class Mine:
    """Which function a notebook runs: the learner's once its check has passed, until then the package's.

    Args:
        others: one right answer for each exercise of the notebook, by id.

    Example: `mine = Mine(ANSWERS)`, then `mine.check("30.1", linked)` in the exercise, and `linked = mine("30.1")`
    where the notebook goes on.
    """

    def __init__(self, others: Mapping[str, Callable[..., Any]]) -> None:
        self.others = dict(others)
        self._passed: dict[str, Callable[..., Any]] = {}

    def check(self, id: str, answer: Any) -> Result:
        """As `check`, and keep the answer where it passes."""
        result = check(id, answer)
        if result.passed:
            self._passed[id] = answer
        return result

    def __call__(self, id: str) -> Callable[..., Any]:
        """The function of an exercise; whose it is, is printed."""
        state = (
            "passed, your function is used" if id in self._passed else "not passed yet, the package's function is used"
        )
        print(f"exercise {id}: {state}")
        return self._passed.get(id, self.others[id])


def _judge(exercise: Exercise, answer: Any) -> Result:
    """The check without the printing."""
    title = f"Exercise {exercise.id}: {exercise.title}"
    ask = f'hint("{exercise.id}", 1) gives a first hint.'
    if _empty(answer):
        return Result(False, False, (), (title, f"Not attempted yet. {ask}"))
    watched = _Watched(answer) if _is_function(answer) else None
    reasons = {prop.name: _reason(prop, watched or answer) for prop in exercise.properties}
    if watched is not None and watched.did_nothing:
        lines = (title, f"Not attempted yet: the function is still the stub. {ask}")
        return Result(False, False, (), lines)
    failed = tuple(name for name, reason in reasons.items() if reason is not None)
    lines = [title]
    for name, reason in reasons.items():
        lines.append(f"  holds:   {name}" if reason is None else f"  not yet: {name}{reason}")
    holding = len(reasons) - len(failed)
    lines.append("Passed." if not failed else f"{holding} of {len(reasons)} hold. {ask}")
    return Result(not failed, True, failed, tuple(lines))


def _reason(prop: Property, answer: Any) -> str | None:
    """None where the property holds, else the reason in the words that follow its name ("" where it gives none)."""
    try:
        outcome = prop.holds(answer)
        holds, reason = outcome if isinstance(outcome, tuple) else (outcome, "")
        if bool(holds):
            return None
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    return f" ({reason})" if reason else ""


def _empty(answer: Any) -> bool:
    """Whether an answer is a placeholder, or a collection of nothing else."""
    if isinstance(answer, dict):
        answer = list(answer.values())
    if isinstance(answer, (list, tuple)):
        return bool(answer) and all(_empty(part) for part in answer)
    return answer is None or answer is Ellipsis


def _is_function(answer: Any) -> bool:
    """Whether calls of an answer can be watched without hiding what else it is (a module, a class)."""
    return inspect.isroutine(answer) or isinstance(answer, functools.partial)


class _Watched:
    """A learner's function, with a note of whether any call of it gave something back."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._calls = 0
        self._empty_calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._calls += 1
        try:
            value = self._function(*args, **kwargs)
        except NotImplementedError:
            self._empty_calls += 1
            raise
        self._empty_calls += _empty(value)
        return value

    @property
    def did_nothing(self) -> bool:
        """Called at least once, and never with a result."""
        return 0 < self._calls == self._empty_calls
