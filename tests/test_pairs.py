"""Notebooks beside their sources: the same cells, outputs no older, made the same way on every machine."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import nbformat
import pytest
import series
from nbclient.exceptions import CellExecutionError
from throwaway import FIRST_ALT, SECOND_ALT, write_series

SOURCES = sorted(series.FOLDER.glob("[0-9][0-9]_*.py"))
# Where files of one machine lie; a figure or a warning that shows one is not the same elsewhere.
MACHINE_PATH = re.compile(r"(?<![\w.:/])/(?:home|Users|root|work|tmp|private|opt|usr)/\S+")


@pytest.fixture(params=SOURCES, ids=lambda path: path.stem)
def pair(request: pytest.FixtureRequest) -> tuple[Path, nbformat.NotebookNode]:
    source = request.param
    path = source.with_suffix(".ipynb")
    assert path.exists(), f"{path.name}: found none, wanted one beside {source.name}: make execute"
    return source, nbformat.read(path, as_version=4)


def output_texts(notebook: nbformat.NotebookNode) -> list[str]:
    texts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            texts.append(output.get("text", ""))
            data = output.get("data", {})
            texts += [str(data[kind]) for kind in data if not kind.startswith("image/")]
    return texts


def test_the_series_has_its_notebooks_and_no_stray_one() -> None:
    numbers = [int(path.stem[:2]) for path in SOURCES]
    for ten in {number // 10 for number in numbers}:  # a paper's notebooks begin at a ten and leave no gap
        own = [number for number in numbers if number // 10 == ten]
        assert own == list(range(10 * ten, 10 * ten + len(own)))
    assert len(SOURCES) >= 3
    notebooks = sorted(series.FOLDER.glob("*.ipynb"))
    assert [path.stem for path in notebooks] == [path.stem for path in SOURCES]


def test_cells_are_those_of_the_source(pair: tuple) -> None:
    assert series.differences(*pair) == []


def test_outputs_are_no_older_than_the_source(pair: tuple) -> None:
    source, notebook = pair
    assert series.executed_hash(notebook) == series.source_hash(source), (
        f"{source.name} changed after its outputs were made: make execute NB={source.name[:2]}"
    )


def test_every_code_cell_was_executed_in_order_without_error(pair: tuple) -> None:
    _, notebook = pair
    cells = [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [o for cell in cells for o in cell.outputs if o.output_type == "error"]


def test_outputs_show_no_path_of_one_machine(pair: tuple) -> None:
    _, notebook = pair
    assert [found for text in output_texts(notebook) for found in MACHINE_PATH.findall(text)] == []


def test_every_figure_has_alternative_text(pair: tuple) -> None:
    _, notebook = pair
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [o for o in outputs if any(kind.startswith("image/") for kind in o.get("data", {}))]
    bare = [o for o in pictures if not o.metadata.get("image/png", {}).get("alt", "").strip()]
    assert len(bare) == 0


# ---------------------------------------------------------------------- the machinery, on a notebook of its own


def test_pairing_gives_the_same_bytes_and_leaves_a_good_pair_alone(tmp_path: Path) -> None:
    source = write_series(tmp_path / "series")
    assert series.pair(source.parent) == [source.with_suffix(".ipynb")]
    first = source.with_suffix(".ipynb").read_bytes()
    assert series.pair(source.parent) == []
    source.with_suffix(".ipynb").unlink()
    series.pair(source.parent)
    assert source.with_suffix(".ipynb").read_bytes() == first
    assert json.loads(first)["metadata"]["kernelspec"]["name"] == "python3"


@pytest.mark.parametrize("part", ["source", "metadata", "cell_type", "id", "number", "kernel"])
def test_a_pair_that_drifted_is_found_and_made_again(tmp_path: Path, part: str) -> None:
    source = write_series(tmp_path)
    notebook = series.notebook_from(source)
    if part == "source":
        notebook.cells[1].source += "\nx = 1"
    elif part == "metadata":
        notebook.cells[1].metadata["tags"] = ["other"]
    elif part == "cell_type":
        notebook.cells[0].cell_type = "raw"
    elif part == "id":
        notebook.cells[0].id = "changed"
    elif part == "number":
        del notebook.cells[-1]
    else:
        notebook.metadata.kernelspec = {"name": "elsewhere"}
    assert len(series.differences(source, notebook)) == 1
    series.write_notebook(notebook, source.with_suffix(".ipynb"))
    assert series.pair(tmp_path) == [source.with_suffix(".ipynb")]
    assert series.pair(tmp_path) == []


def test_an_edited_source_makes_the_outputs_old(tmp_path: Path) -> None:
    source = write_series(tmp_path)
    before = series.source_hash(source)
    source.write_bytes(source.read_bytes().replace(b"\n", b"\r\n"))
    assert series.source_hash(source) == before
    source.write_text(source.read_text() + "\n# one more remark\n")
    assert series.source_hash(source) != before


def test_execution_uses_this_python_and_keeps_what_reads_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "share" / "kernels" / "python3"
    elsewhere.mkdir(parents=True)
    kernel = {"argv": ["/nowhere/python"], "display_name": "elsewhere", "language": "python"}
    (elsewhere / "kernel.json").write_text(json.dumps(kernel))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    monkeypatch.setenv("WANTED_PYTHON", sys.executable)
    monkeypatch.setenv("HARMONY_PROFILE", "full")
    source = write_series(tmp_path / "series")
    counted = []
    notebook, cost = series.executed(source, after_cell=lambda: counted.append(1))
    series.write_notebook(notebook, source.with_suffix(".ipynb"))

    assert notebook.cells[1].outputs[0].text == "True\nseries\n1 quick\n"
    alts = [output.metadata["image/png"]["alt"] for output in notebook.cells[2].outputs]
    assert alts == [FIRST_ALT, SECOND_ALT]
    assert list(notebook.cells[3].outputs[0].data) == ["text/markdown", "text/plain"]
    assert series.executed_hash(notebook) == series.source_hash(source)
    assert series.differences(source, notebook) == []
    assert series.pair(source.parent) == []  # outputs that are up to date are not thrown away
    assert len(counted) == cost.cells == 6
    assert 20 < cost.peak_megabytes < 1500
    assert 0 < cost.processor_seconds < 60 > cost.seconds > 0


def test_a_cell_that_raises_leaves_the_notebook_for_reading(tmp_path: Path) -> None:
    source = tmp_path / "00_broken.py"
    source.write_text("# %%\nprint('so far')\n\n# %%\n1 / 0\n")
    failed = tmp_path / "failed" / "00_broken.ipynb"
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        series.executed(source, failed=failed)
    left = nbformat.read(failed, as_version=4)
    assert left.cells[0].outputs[0].text == "so far\n"
    assert left.cells[1].outputs[0].ename == "ZeroDivisionError"


def test_students_get_neither_solutions_nor_notes_nor_outputs(tmp_path: Path) -> None:
    source = write_series(tmp_path / "series")
    (path,) = series.student(source.parent, tmp_path / "build")
    copy = nbformat.read(path, as_version=4)
    tags = [tag for cell in copy.cells for tag in cell.metadata.get("tags", [])]
    assert tags == ["setup", "folded", "hide-input", "exercise", "exercise-90.1"]
    assert "return 2 * x" not in path.read_text()
    assert not any(cell.get("outputs") for cell in copy.cells)


def test_one_notebook_is_chosen_by_number_or_name(tmp_path: Path) -> None:
    source = write_series(tmp_path)
    for number in ("90", "90_trial", "90_trial.py"):
        assert series.sources(tmp_path, number) == [source]
    with pytest.raises(ValueError, match="found '7', wanted one of 90"):
        series.sources(tmp_path, "7")
    with pytest.raises(ValueError, match="found no notebook source"):
        series.sources(tmp_path / "empty")


def test_the_budget_goes_between_its_markers(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    start, end = series.BUDGET_MARKERS
    readme.write_text(f"# Title\n{start}\nold\n{end}\nafter\n")
    with pytest.raises(FileNotFoundError, match="make run"):
        series.budget(readme, tmp_path)
    cost = {"cells": 5, "seconds": 31.4, "peak_megabytes": 612.0, "profile": "quick"}
    series.note("notebook 00_first", cost, tmp_path)
    series.note("notebook 01_second", {**cost, "peak_megabytes": 700.0}, tmp_path)
    series.note("make test", 330.0, tmp_path)
    series.budget(readme, tmp_path)
    text = readme.read_text()
    assert "| [00_first](notebooks/00_first.ipynb) | 5 | 31 | 612 |" in text
    assert "| all, one after the other | 10 | 63 | 700 |" in text
    assert "`make test` 5.5 minutes" in text
    assert text.startswith("# Title\n") and text.endswith("after\n") and "old" not in text
    readme.write_text("no markers")
    with pytest.raises(ValueError, match="markers"):
        series.budget(readme, tmp_path)
