"""Every exercise of the notebooks is proved: its solution passes, its stub is "not attempted", wrong answers fail."""

from __future__ import annotations

import ast
import functools
import importlib.util
import io
import re
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType

import jupytext
import pytest
import series
from nbformat import NotebookNode

from harmony_lite import exercises
from harmony_lite.exercises import Exercise, Property, Result

WRONG_ANSWERS = Path(__file__).parent / "wrong_answers"
IDS = exercises.names()


# ------------------------------------------------------------------------------- every exercise of the notebooks


@functools.cache
def notebook_of(id: str) -> NotebookNode:
    """The notebook that an exercise stands in, by the two digits of its id."""
    return jupytext.read(series.sources(number=id[:2])[0], fmt="py:percent")


def tagged(id: str, *tags: str) -> list[str]:
    """Code of the cells that carry all the tags, in order."""
    return [
        cell.source
        for cell in notebook_of(id).cells
        if cell.cell_type == "code" and set(tags) <= set(cell.metadata.get("tags", []))
    ]


def plain(code: str) -> str:
    """Python without the notebook's magic and shell lines."""
    return re.sub(r"^(\s*)[%!].*$", r"\1pass", code, flags=re.MULTILINE)


@functools.cache
def set_up(number: str) -> dict:
    """Names that the setup cells of a notebook define."""
    names: dict = {"__name__": "__main__"}
    for code in tagged(f"{number}.0", "setup"):
        with redirect_stdout(io.StringIO()):
            exec(compile(plain(code), f"setup of {number}", "exec"), names)
    return names


def results_of(id: str, code: str, monkeypatch: pytest.MonkeyPatch) -> list[Result]:
    """Run the code of an exercise's cell after the setup; what its calls of `check` found."""
    results = []

    def watched(name: str, answer: object) -> Result:
        assert name == id, f"the cell of exercise {id} checks {name}"
        results.append(check(name, answer))
        return results[-1]

    check = exercises.check
    monkeypatch.setattr(exercises, "check", watched)
    names = {**set_up(id[:2]), "check": watched}
    with redirect_stdout(io.StringIO()):
        exec(compile(plain(code), f"exercise {id}", "exec"), names)
    return results


@functools.cache
def wrong_answers(number: str) -> ModuleType:
    """The module that lists the wrong answers of a notebook's exercises."""
    path = WRONG_ANSWERS / f"{number}.py"
    spec = importlib.util.spec_from_file_location(f"wrong_answers_{number}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_teaching_notebooks_have_exercises() -> None:
    for number in ("01", "02"):
        assert len([id for id in IDS if id.startswith(number)]) >= 2


@pytest.mark.parametrize("id", IDS)
def test_an_exercise_stands_in_its_notebook_once(id: str) -> None:
    assert len(tagged(id, f"exercise-{id}", "exercise")) == 1
    assert len(tagged(id, f"exercise-{id}", "solution")) == 1


def test_every_exercise_of_a_notebook_is_registered() -> None:
    sources = sorted(series.FOLDER.glob("[0-9][0-9]_*.py"))
    text = "".join(source.read_text(encoding="utf-8") for source in sources)
    assert set(re.findall(r'"exercise-(\d\d\.\d+)"', text)) == set(IDS)


@pytest.mark.parametrize("id", IDS)
def test_the_stub_is_not_attempted(id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (result,) = results_of(id, tagged(id, f"exercise-{id}", "exercise")[0], monkeypatch)
    assert (result.attempted, result.passed) == (False, False)


@pytest.mark.parametrize("id", IDS)
def test_the_solution_passes(id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = tagged(id, f"exercise-{id}", "solution")
    assert "assert " in code
    results = results_of(id, code, monkeypatch)
    assert results
    assert all(result.passed for result in results), results[-1].lines


@pytest.mark.parametrize("id", IDS)
def test_three_wrong_answers_fail_for_the_right_reason(id: str) -> None:
    listed = wrong_answers(id[:2]).WRONG_ANSWERS[id]
    assert len(listed) >= 3
    for answer, expected in listed:
        assert expected in [prop.name for prop in exercises.find(id).properties]
        with redirect_stdout(io.StringIO()):
            result = exercises.check(id, answer)
        assert result.attempted
        assert expected in result.failed, result.lines


def bound_names(code: str) -> set[str]:
    """Names that a cell defines at its top level."""
    found = set()
    for node in ast.parse(plain(code)).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.For, ast.With)):
            stored = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
            found |= {n.id for n in stored if isinstance(n.ctx, ast.Store)}
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return found


@pytest.mark.parametrize("number", sorted({id[:2] for id in IDS}))
def test_the_rest_of_a_notebook_does_not_lean_on_a_solution(number: str) -> None:
    """A student's copy has no solutions, so that a later cell must not use a name that they alone define."""
    only_solved: set[str] = set()
    for cell in notebook_of(f"{number}.0").cells:
        if cell.cell_type != "code":
            continue
        tags = set(cell.metadata.get("tags", []))
        if tags & {"solution", "instructor"}:
            only_solved |= bound_names(cell.source)
        elif "exercise" not in tags:
            used = {n.id for n in ast.walk(ast.parse(plain(cell.source))) if isinstance(n, ast.Name)}
            only_solved -= bound_names(cell.source)
            assert not used & only_solved, f"notebook {number} uses {used & only_solved}"


# ----------------------------------------------------------------------------------------------- the machinery


@pytest.fixture
def doubling(monkeypatch: pytest.MonkeyPatch) -> Exercise:
    """An exercise of the test's own, in a register of its own."""
    monkeypatch.setattr(exercises, "_REGISTERED", {})
    monkeypatch.setattr(exercises, "_load_all", lambda: None)
    properties = (
        Property("doubles a number", lambda f: (f(3) == 6, f"f(3) is {f(3)}, wanted 6")),
        Property("keeps zero", lambda f: f(0) == 0),
    )
    return exercises.register(Exercise("91.1", "Double", 2, properties, ("think", "add", "x + x")))


def double(x: float) -> float:
    return 2 * x


def stub(x: float) -> float: ...


def unimplemented(x: float) -> float:
    raise NotImplementedError


@pytest.mark.usefixtures("doubling")
def test_a_right_answer_passes(capsys: pytest.CaptureFixture) -> None:
    result = exercises.check("91.1", double)
    assert result.passed and result.attempted and result.failed == ()
    printed = capsys.readouterr().out.splitlines()
    assert tuple(printed) == result.lines
    assert printed[-1] == "Passed."
    assert exercises.check("91.1", functools.partial(lambda k, x: k * x, 2)).passed


@pytest.mark.usefixtures("doubling")
@pytest.mark.parametrize("answer", [None, ..., (None, ...), {"a": None}, stub, unimplemented])
def test_an_untouched_stub_is_not_attempted(answer: object) -> None:
    result = exercises.check("91.1", answer)
    assert (result.attempted, result.passed, result.failed) == (False, False, ())
    assert "Not attempted yet" in result.lines[1]


@pytest.mark.usefixtures("doubling")
def test_a_wrong_answer_is_told_why() -> None:
    result = exercises.check("91.1", lambda x: x + 1)
    assert result.attempted and not result.passed
    assert result.failed == ("doubles a number", "keeps zero")
    assert result.lines[1] == "  not yet: doubles a number (f(3) is 4, wanted 6)"
    assert result.lines[2] == "  not yet: keeps zero"
    assert result.lines[3].startswith("0 of 2 hold.")
    partly = exercises.check("91.1", lambda x: x)
    assert partly.failed == ("doubles a number",)


@pytest.mark.usefixtures("doubling")
@pytest.mark.parametrize(
    ("answer", "reason"),
    [(lambda x: 1 / 0, "ZeroDivisionError: division by zero"), (lambda: 1, "TypeError"), (7, "Type")],
)
def test_what_an_answer_raises_is_the_reason(answer: object, reason: str) -> None:
    result = exercises.check("91.1", answer)
    assert result.attempted and not result.passed
    assert reason in result.lines[1]


@pytest.mark.usefixtures("doubling")
def test_a_function_that_works_sometimes_is_an_attempt() -> None:
    result = exercises.check("91.1", lambda x: 6 if x == 3 else None)
    assert result.attempted and result.failed == ("keeps zero",)


@pytest.mark.usefixtures("doubling")
def test_hints_are_three(capsys: pytest.CaptureFixture) -> None:
    exercises.hint("91.1", 3)
    assert capsys.readouterr().out == "Hint 3 of 3 for exercise 91.1: x + x\n"
    with pytest.raises(ValueError, match="found number 4, wanted 1, 2 or 3"):
        exercises.hint("91.1", 4)
    with pytest.raises(ValueError, match="found '91.2', wanted one of 91.1"):
        exercises.check("91.2", double)


def test_an_exercise_with_a_fault_is_refused(doubling: Exercise) -> None:
    one = doubling.properties[:1]
    with pytest.raises(ValueError, match="found 2 hints"):
        Exercise("91.2", "t", 1, one, ("a", "b"))
    with pytest.raises(ValueError, match="wanted a form like"):
        Exercise("1.2", "t", 1, one, ("a", "b", "c"))
    with pytest.raises(ValueError, match="found no property"):
        Exercise("91.2", "t", 1, (), ("a", "b", "c"))
    with pytest.raises(ValueError, match="two properties of one name"):
        Exercise("91.2", "t", 1, one * 2, ("a", "b", "c"))
    with pytest.raises(ValueError, match="found two, 'Double' and 'Other'"):
        exercises.register(Exercise("91.1", "Other", 1, one, ("a", "b", "c")))
    assert exercises.register(doubling) is doubling  # a module may be loaded again


@pytest.mark.usefixtures("doubling")
def test_a_notebook_runs_the_learners_function_once_it_has_passed(capsys: pytest.CaptureFixture) -> None:
    mine = exercises.Mine({"91.1": double})

    def also_double(x):
        return x + x

    assert mine("91.1") is double and "not passed yet" in capsys.readouterr().out
    assert not mine.check("91.1", lambda x: x).passed and mine("91.1") is double
    assert mine.check("91.1", also_double).passed and mine("91.1") is also_double
    assert "your function is used" in capsys.readouterr().out
    assert not mine.check("91.1", lambda x: x).passed and mine("91.1") is also_double  # a later slip takes nothing away
