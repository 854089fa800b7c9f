"""Notebooks that say they are in the new form hold its limits; the counts themselves, on made-up sources."""

import nbformat
import pytest
import series
import series_form
from series_form import form_of, is_in_form

IN_FORM = [source for source in series.sources() if is_in_form(source)]

HEADER = """# ---
# jupyter:
#   harmony_lite:
#     form: open and folded
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

"""
WORDS = "# One two three four five six seven eight nine ten.\n" * 160


def made(folder, *, header=HEADER, words=WORDS, cells=16, algorithm="algorithm", heading="(5 minutes, ★)", body=""):
    """A source with everything in form, but for what is asked otherwise."""
    parts = [f"# %% [markdown]\n# # 90 · Trial: a part\n#\n{words}#\n# ### Exercise 90.1 · Do this {heading}\n"]
    parts += [f"# %%\nx{i} = {i}\n" for i in range(cells - 1)]
    parts += [f'# %% tags=["{algorithm}"]\n' + "y = 1\n" * 12]
    parts += ['# %% tags=["folded"]\n# @title A picture\n' + "z = 1\n" * 40, body]
    source = folder / "90_trial.py"
    source.write_text(header + "\n".join(parts), encoding="utf-8")
    return source


@pytest.mark.parametrize("source", IN_FORM, ids=lambda source: source.stem)
def test_a_notebook_that_says_so_is_in_form(source):
    assert form_of(source).faults() == []
    path = source.with_suffix(".ipynb")
    assert path.stat().st_size <= series_form.MOST_BYTES
    notebook = nbformat.read(path, as_version=4)
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if any(kind.startswith("image/") for kind in output.get("data", {}))
    ]
    assert pictures and all(output.metadata["image/png"]["alt"].strip() for output in pictures)


def test_one_notebook_is_the_model():
    assert [source.stem for source in IN_FORM if source.stem.startswith("11")], "notebook 11 shows the form"


def test_a_made_up_source_is_in_form_and_counted(tmp_path):
    source = made(tmp_path)
    form = form_of(source)
    assert is_in_form(source) and form.faults() == []
    assert (form.open_cells, form.folded_cells, form.open_lines, form.longest) == (16, 1, 27, 12)
    assert form.longest_tags == ("algorithm",) and form.sentence == 10 and form.words > 1600
    assert not is_in_form(made(tmp_path, header=""))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"cells": 14}, "open cells: found 14, wanted 15 to 25"),
        ({"cells": 26}, "open cells: found 26, wanted 15 to 25"),
        ({"algorithm": "other"}, "longest open cell: found 12 lines without the tag"),
        ({"body": "# %%\n" + "a = 1\n" * 300}, "open code: found 327 lines, wanted at most 280"),
        ({"words": "# One two.\n" * 100}, "wanted 1500 to 3000"),
        ({"words": WORDS * 3}, "wanted 1500 to 3000"),
        (
            {"words": ("# " + "word " * 17 + "end.\n") * 90},
            "median sentence: found 18",
        ),
        ({"heading": "(5 minutes)"}, "exercises 90.1: found no minutes and stars"),
        ({"heading": "(★★)"}, "exercises 90.1: found no minutes and stars"),
    ],
)
def test_a_limit_that_is_not_held_is_named(tmp_path, changes, fault):
    (found,) = [one for one in form_of(made(tmp_path, **changes)).faults() if fault in one]
    assert found


def test_solutions_are_not_open_code_and_the_teachers_notes_are_no_prose(tmp_path):
    before = form_of(made(tmp_path))
    body = '# %% tags=["solution", "exercise-90.1"]\n' + "a = 1\n" * 50
    body += '\n# %% [markdown] tags=["instructor"]\n# Ten more words that nobody who learns will ever read.\n'
    assert form_of(made(tmp_path, body=body)) == before


def test_the_counts_are_printed(capsys):
    assert series.main(["form", "11"]) == 0
    assert "11_blindharmony_optimization" in capsys.readouterr().out
