"""The lists of notebooks in README, in the book and in notebook 00 are those that the notebooks themselves make."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
import series

START, END = series.NOTEBOOKS_MARKERS
HEAD = "# %% [markdown]\n# # {title}\n#\n# **You will be able to**{able}\n#\n# **Before:** nothing.\n# **Measured:**\n"


def write_notebook_source(folder: Path, name: str, title: str, able: str = " read a map. More follows.") -> Path:
    source = folder / f"{name}.py"
    source.write_text(HEAD.format(title=title, able=able))
    return source


@pytest.fixture
def small_series(tmp_path: Path) -> Path:
    write_notebook_source(tmp_path, "00_start", "00 · Start", " read a map or | a list.")
    map_ = f"\n# %% [markdown]\n# ## The map\n#\n# {START}\n# {END}\n#\n# After.\n\n# %%\n1 + 1\n"
    with (tmp_path / "00_start.py").open("a") as file:
        file.write(map_)
    write_notebook_source(
        tmp_path, "70_first", "70 · FLOWER: the idea", "\n#\n# - write a flow;\n# - train it, and\n#   stop."
    )
    write_notebook_source(tmp_path, "71_second", "71 · FLOWER: the end")
    (tmp_path / "index.md").write_text(f"# Book\n\n{START}\nold\n{END}\n\nlast\n")
    (tmp_path / "README.md").write_text(f"# Title\n\n{START}\n{END}\n\nlast\n")
    return tmp_path


def written(folder: Path) -> list[str]:
    return [path.name for path in series.write_rows(folder, folder / "README.md")]


def test_the_lists_of_this_repository_are_those_of_the_notebooks() -> None:
    wanted = series.wanted_texts()
    assert {"README.md", "index.md", "00_start_here.py"} <= {path.name for path in wanted}
    for path, text in wanted.items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: found an old list, wanted series.py rows"


def test_every_list_follows_from_the_first_cells(small_series: Path) -> None:
    assert written(small_series) == ["README.md", "index.md", "00_start.py"]
    readme = (small_series / "README.md").read_text()
    assert "| 00 | [Start](notebooks/00_start.ipynb) | read a map or \\| a list |\n" in readme
    assert "| 70 | [FLOWER: the idea](notebooks/70_first.ipynb) | write a flow; train it, and stop |\n" in readme
    assert readme.startswith(f"# Title\n\n{START}\n| | |") and readme.endswith(f"|\n{END}\n\nlast\n")
    book = (small_series / "index.md").read_text()
    assert ":caption: The ground\n:maxdepth: 1\n\n00_start\n```\n\n" in book
    assert ":caption: FLOWER\n:maxdepth: 1\n\n70_first\n71_second\n```\n<!-- " in book
    assert "old" not in book and book.endswith("\n\nlast\n")
    map_ = "# - **FLOWER:** [70 the idea](70_first.ipynb), [71 the end](71_second.ipynb)\n"
    assert f"{map_}# {END}\n#\n# After." in (small_series / "00_start.py").read_text()
    assert written(small_series) == []


def test_a_new_notebook_changes_all_lists_and_makes_no_output_old(small_series: Path) -> None:
    written(small_series)
    source = small_series / "00_start.py"
    notebook, _ = series.executed(source)
    series.write_notebook(notebook, source.with_suffix(".ipynb"))
    write_notebook_source(small_series, "80_third", "80 · TREE: alone")
    assert written(small_series) == ["README.md", "index.md", "00_start.py"]
    after = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
    assert "- **TREE:** [80 alone](80_third.ipynb)\n" in after.cells[1].source
    assert series.differences(source, after) == []
    assert series.executed_hash(after) == series.source_hash(source)
    assert after.cells[2].outputs


def test_a_sentence_ends_at_its_full_stop(small_series: Path) -> None:
    written(small_series)
    assert (
        "| 71 | [FLOWER: the end](notebooks/71_second.ipynb) | read a map |\n"
        in (small_series / "README.md").read_text()
    )


@pytest.mark.parametrize(
    ("title", "able", "message"),
    [
        ("72 · Alone", " x.", "'FLOWER: the end', 'Alone', wanted 'PAPER: part' of one paper"),
        ("72 · TREE: third", " x.", "'TREE: third', wanted 'PAPER: part' of one paper"),
        ("73 · FLOWER: third", " x.", "72_x.py: found the first line '# 73 · FLOWER: third', wanted '# 72 · Title'"),
        ("FLOWER: third", " x.", "72_x.py: found the first line '# FLOWER: third', wanted '# 72 · Title'"),
        ("72 · FLOWER: third", "", "72_x.py: found no words after"),
    ],
)
def test_a_notebook_that_does_not_say_what_the_lists_need_is_named(
    small_series: Path, title: str, able: str, message: str
) -> None:
    source = write_notebook_source(small_series, "72_x", title, able)
    if not able:
        source.write_text(source.read_text().replace("**You will be able to**", "Words."))
    readme = (small_series / "README.md").read_text()
    with pytest.raises(ValueError) as error:
        written(small_series)
    assert message in str(error.value)
    assert (small_series / "README.md").read_text() == readme


@pytest.mark.parametrize("text", ["none", f"{START}\n", f"{END}\n{START}\n", f"{START}\n{END}\n{START}\n{END}\n"])
def test_a_page_without_one_pair_of_markers_is_refused(small_series: Path, text: str) -> None:
    (small_series / "index.md").write_text(text)
    with pytest.raises(ValueError, match="index.md: found .* wanted one pair"):
        written(small_series)
