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
    assert copy.cells[4].metadata == series.notebook_from(source).cells[4].metadata
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


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """A folder with a README, two notebooks' sources and what they cost; the second one's head is hand-written."""
    start, end = series.BUDGET_MARKERS
    (tmp_path / "README.md").write_text(f"# Title\n{start}\nold\n{end}\nafter\n")
    head = (
        "# %% [markdown]\n# # 00 · A title\n#\n# **Before:** nothing.\n# **Measured:**{}\n#\n# More.\n\n# %%\n1 + 1\n"
    )
    (tmp_path / "00_first.py").write_text(head.format(" 30 seconds and 0.6 GB on one core (`make run`)."))
    (tmp_path / "01_second.py").write_text(head.format(" about a minute; more the first time."))
    cost = {"cells": 5, "seconds": 31.4, "peak_megabytes": 612.0, "profile": "quick"}
    series.note("notebook 00_first", cost, tmp_path)
    series.note("notebook 01_second", {**cost, "peak_megabytes": 700.0}, tmp_path)
    return tmp_path


def write_budget(folder: Path) -> dict[str, str]:
    """Write the budget; what the sources hold afterwards."""
    series.budget(folder / "README.md", folder, folder)
    return {source.stem: source.read_text() for source in series.sources(folder)}


def test_the_budget_goes_between_its_markers(measured: Path) -> None:
    series.note("make test", 330.0, measured)
    write_budget(measured)
    text = (measured / "README.md").read_text()
    assert "| [00_first](notebooks/00_first.ipynb) | 5 | 31 | 612 |" in text
    assert "| all, one after the other | 10 | 63 | 700 |" in text
    assert "`make test` 5.5 minutes" in text
    assert text.startswith("# Title\n") and text.endswith("after\n") and "old" not in text


def test_a_budget_without_measurements_or_markers_is_refused(measured: Path) -> None:
    with pytest.raises(FileNotFoundError, match="make run"):
        series.budget(measured / "README.md", measured / "elsewhere", measured)
    (measured / "README.md").write_text("no markers")
    with pytest.raises(ValueError, match="found 0 of <!-- budget:start -->"):
        write_budget(measured)


def test_the_budget_writes_heads_and_keeps_those_that_still_hold(measured: Path) -> None:
    before = series.sources(measured)[0].read_text()
    after = write_budget(measured)
    assert after["00_first"] == before
    assert "\n# **Measured:** 31 seconds and 0.7 GB on one core (`make run`).\n#\n# More.\n" in after["01_second"]
    assert write_budget(measured) == after


@pytest.mark.parametrize(
    ("seconds", "megabytes", "stays"),
    [
        (36, 600, True),
        (24, 600, True),
        (37, 600, False),
        (23, 600, False),
        (30, 760, True),
        (30, 780, False),
        (30, 420, False),
    ],
)
def test_a_head_stays_within_a_fifth(seconds: float, megabytes: float, stays: bool) -> None:
    cost = {"seconds": seconds, "peak_megabytes": megabytes}
    assert series.still_holds((30, 0.6), cost) is stays


def test_a_new_head_makes_no_output_old(measured: Path) -> None:
    source = measured / "01_second.py"
    notebook, _ = series.executed(source)
    series.write_notebook(notebook, source.with_suffix(".ipynb"))
    outputs = notebook.cells[1].outputs
    write_budget(measured)
    written = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    assert "31 seconds" in written.cells[0].source
    assert series.differences(source, written) == []
    assert series.executed_hash(written) == series.source_hash(source)
    assert written.cells[1].outputs == outputs != []


def test_a_new_head_does_not_hide_another_change(measured: Path) -> None:
    source = measured / "01_second.py"
    notebook, _ = series.executed(source)
    series.write_notebook(notebook, source.with_suffix(".ipynb"))
    source.write_text(source.read_text().replace("More.", "Less.").replace("1 + 1", "1 + 2"))
    write_budget(measured)
    written = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    assert "More." in written.cells[0].source and written.cells[1].source == "1 + 1"
    assert series.executed_hash(written) != series.source_hash(source)


@pytest.mark.parametrize("lines", ["", "# **Measured:** 1\n# **Measured:** 2\n"])
def test_a_head_wants_one_line_for_its_cost(measured: Path, lines: str) -> None:
    readme = (measured / "README.md").read_text()
    (measured / "01_second.py").write_text(f"# %% [markdown]\n# # Title\n{lines}")
    with pytest.raises(ValueError, match="01_second.py: found [02] lines"):
        write_budget(measured)
    assert (measured / "README.md").read_text() == readme


# ------------------------------------------------------------------------------------------------- folded cells


FOLDED_CELL = '# %% tags=["{tags}"]\n{first}\nprint(1)\n'


@pytest.mark.parametrize("title", ["# @title What a flow sees", "#@title What a flow sees"])
def test_a_folded_cell_is_hidden_by_all_three_readers(tmp_path: Path, title: str) -> None:
    source = tmp_path / "00_x.py"
    source.write_text(FOLDED_CELL.format(tags='setup", "folded', first=title))
    (cell,) = series.notebook_from(source).cells
    assert cell.metadata.tags == ["setup", "folded", "hide-input"]
    assert cell.metadata.jupyter == {"source_hidden": True}
    assert cell.metadata.cellView == "form"
    assert cell.metadata.mystnb.code_prompt_show == "Show code: What a flow sees"
    assert cell.metadata.mystnb.code_prompt_hide == "Hide code: What a flow sees"
    assert cell.source == f"{title}\nprint(1)"
    series.pair(tmp_path)
    read = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    assert series.differences(source, read) == []
    del read.cells[0].metadata["jupyter"]
    assert len(series.differences(source, read)) == 1


def test_an_open_cell_stays_open(tmp_path: Path) -> None:
    source = tmp_path / "00_x.py"
    source.write_text("# %%\n# A remark about @title.\nprint(1)\n")
    assert series.notebook_from(source).cells[0].metadata == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FOLDED_CELL.format(tags="folded", first="x = 1"), "00_x.py, cell 0: found 'x = 1' in a folded cell"),
        (FOLDED_CELL.format(tags="folded", first="# @title"), "found '# @title' in a folded cell, wanted '# @title W"),
        (FOLDED_CELL.format(tags="other", first="# @title Map"), "found the title 'Map' on an open cell"),
        ('# %% [markdown] tags=["folded"]\n# Text.\n', "the tag 'folded' on a cell of markdown"),
    ],
)
def test_a_folded_cell_without_a_title_is_refused(tmp_path: Path, text: str, message: str) -> None:
    source = tmp_path / "00_x.py"
    source.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        series.notebook_from(source)
