"""What the series writes into its own files: lists of notebooks, costs in heads, and how folded code is hidden."""

from __future__ import annotations

import doctest
from pathlib import Path

import nbformat
import pytest
import series
import series_budget
import series_form
from series_budget import measured_words, write_heads
from series_pairs import fold
from series_rows import wanted_texts, write_rows

HEAD = """# %% [markdown]
# # {number} · {title}
#
# **You will be able to** {able}.
#
# **Measured:** 30 seconds and 1.0 GB on one processor core.
"""
MAP = "# %% [markdown]\n# <!-- notebooks:start -->\n# <!-- notebooks:end -->\n"
EMPTY = "<!-- notebooks:start -->\n<!-- notebooks:end -->\n"


def write(folder: Path, number: str, title: str, able: str, more: str = "") -> Path:
    source = folder / f"{number}_slug.py"
    source.write_text(HEAD.format(number=number, title=title, able=able) + more)
    return source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, "00", "Start", "begin", MAP)
    write(tmp_path, "10", "A Paper: the prior", "do one thing")
    write(tmp_path, "11", "A Paper: the loop", "do | another")
    (tmp_path / "README.md").write_text(f"# Front\n\n{EMPTY}\nrest\n")
    (tmp_path / "index.md").write_text(EMPTY)
    series.pair(tmp_path)
    return tmp_path


def test_readme_book_and_map_are_those_of_the_notebooks() -> None:
    for path, text in wanted_texts().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: python notebooks/series.py rows"


def test_lists_are_written_from_the_first_cells(folder: Path) -> None:
    readme = folder / "README.md"
    assert {path.name for path in write_rows(folder, readme)} == {"README.md", "index.md", "00_slug.py"}
    assert "| 11 | [A Paper: the loop](notebooks/11_slug.ipynb) | do \\| another |" in readme.read_text()
    assert readme.read_text().endswith("rest\n")
    assert ":caption: A Paper\n:maxdepth: 1\n\n10_slug\n11_slug\n" in (folder / "index.md").read_text()
    assert (
        "# - **A Paper:** [10 the prior](10_slug.ipynb), [11 the loop](11_slug.ipynb)."
        in (folder / "00_slug.py").read_text()
    )
    assert write_rows(folder, readme) == []
    write(folder, "20", "Another: whole", "read")  # a new notebook, and no other hand at work
    write_rows(folder, readme)
    assert "[Another: whole]" in readme.read_text() and ":caption: Another" in (folder / "index.md").read_text()


@pytest.mark.parametrize(
    ("able", "row"),
    [
        (" read a map. More follows", "read a map"),
        (
            "\n#\n# - write a flow;\n# - train it, and\n#   stop.\n#\n# **Before:** nothing",
            "write a flow; train it, and stop",
        ),
        (":\n#\n# * read Eq. 3,\n# * stop", "read Eq. 3; stop"),
    ],
)
def test_a_sentence_or_a_list_says_what_a_reader_will_be_able_to_do(folder: Path, able: str, row: str) -> None:
    source = write(folder, "12", "A Paper: the end", "x")
    source.write_text(source.read_text().replace("to** x", f"to**{able}"))
    write_rows(folder, folder / "README.md")
    assert f"| 12 | [A Paper: the end](notebooks/12_slug.ipynb) | {row} |\n" in (folder / "README.md").read_text()


def test_what_the_lists_need_is_asked_for(folder: Path) -> None:
    (folder / "12_slug.py").write_text("# %% [markdown]\n# # 13 · A Paper: x\n")
    with pytest.raises(ValueError, match="12_slug.py: found the first line '# 13 · A Paper: x', wanted '# 12"):
        write_rows(folder, folder / "README.md")
    write(folder, "12", "Something else: x", "y")
    with pytest.raises(ValueError, match="wanted 'PAPER: part' of one paper"):
        write_rows(folder, folder / "README.md")
    (folder / "12_slug.py").unlink()
    (folder / "index.md").write_text("no markers")
    with pytest.raises(ValueError, match="index.md: found 0 of .*, wanted one pair"):
        write_rows(folder, folder / "README.md")


def test_costs_are_written_into_heads_and_make_no_output_old(folder: Path) -> None:
    source = folder / "10_slug.py"
    before = series.source_hash(source)
    noted = {"notebook 10_slug": {"seconds": 48.4, "peak_megabytes": 1490}}
    assert [path.name for path in write_heads(noted, folder)] == ["10_slug.py"]
    assert "# **Measured:** 48 seconds and 1.5 GB on one processor core.\n" in source.read_text()
    assert series.source_hash(source) == before
    assert series.differences(source, nbformat.read(source.with_suffix(".ipynb"), as_version=4)) == []
    near = {"notebook 10_slug": {"seconds": 52.0, "peak_megabytes": 1400}}
    assert write_heads(near, folder) == []  # near enough
    source.write_text(source.read_text() + "# more\n")
    assert series.source_hash(source) != before


@pytest.mark.parametrize(("seconds", "megabytes", "stays"), [(36, 1000, True), (37, 1000, False), (30, 1300, False)])
def test_old_words_stay_within_a_fifth(seconds: float, megabytes: float, stays: bool) -> None:
    said = " 30 seconds and 1.0 GB on one processor core."
    assert (measured_words({"seconds": seconds, "peak_megabytes": megabytes}, said) == said) is stays


def test_a_head_without_the_line_is_named(folder: Path) -> None:
    (folder / "10_slug.py").write_text("# %% [markdown]\n# # 10 · A Paper: x\n")
    with pytest.raises(ValueError, match="10_slug.py: found no one line"):
        write_heads({"notebook 10_slug": {"seconds": 1.0, "peak_megabytes": 1}}, folder)


def test_a_folded_cell_is_hidden_for_three_readers(tmp_path: Path) -> None:
    source = tmp_path / "00_slug.py"
    source.write_text('# %% tags=["setup", "folded"]\n# @title Draws the loop\nx = 1\n\n# %%\ny = 2\n')
    hidden, open_ = series.notebook_from(source).cells
    assert set(hidden.metadata.tags) == {"setup", "folded", "hide-input"}
    assert hidden.metadata.jupyter == {"source_hidden": True} and hidden.metadata.cellView == "form"
    assert hidden.metadata.mystnb.code_prompt_show == "Show code: Draws the loop"
    assert "jupyter" not in open_.metadata and "cellView" not in open_.metadata
    student = series.student(tmp_path, tmp_path / "build")[0]
    assert nbformat.read(student, as_version=4).cells[0].metadata.jupyter == {"source_hidden": True}


@pytest.mark.parametrize(
    ("kind", "code", "tags", "message"),
    [
        ("code", "x = 1", ["folded"], "found 'x = 1' in a folded cell, wanted '# @title What the cell shows'"),
        ("code", "# @title", ["folded"], "wanted '# @title What the cell shows'"),
        ("code", "# @title A picture\nx = 1", [], "found the title 'A picture' on an open cell, wanted the tag"),
        ("markdown", "words", ["folded"], "found the tag 'folded' on a cell of markdown"),
    ],
)
def test_folding_that_does_not_fit_is_refused(kind: str, code: str, tags: list[str], message: str) -> None:
    make = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
    cell = make(code, metadata={"tags": tags})
    with pytest.raises(ValueError, match="00_slug.py, cell 3: ") as raised:
        fold(cell, "00_slug.py, cell 3")
    assert message in str(raised.value)


@pytest.mark.parametrize("room", [series_budget, series_form], ids=lambda room: room.__name__)
def test_the_examples_in_its_docstrings_hold(room) -> None:
    found = doctest.testmod(room)
    assert found.attempted and not found.failed
