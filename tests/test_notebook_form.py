"""Notebooks in the new form keep its limits; the counters are proved on small made-up sources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
import series
import series_form

HEADER = "# ---\n# jupyter:\n#   harmony_lite:\n#     form: open and folded\n# ---\n\n"


IN_FORM = [source for source in series.sources() if series_form.is_in_form(source)]


@pytest.mark.parametrize("source", IN_FORM, ids=lambda source: source.stem)
def test_a_notebook_that_says_so_is_in_form(source: Path) -> None:
    assert source.with_suffix(".ipynb").exists()
    assert series_form.form_faults(source) == []


def test_one_notebook_is_the_model() -> None:
    assert [source.stem for source in IN_FORM if source.stem.startswith("11")], "notebook 11 shows the form"


def test_the_counts_are_printed(capsys: pytest.CaptureFixture) -> None:
    assert series.main(["form", "11"]) == 0
    assert "| 11_blindharmony_optimization | yes |" in capsys.readouterr().out


# ---------------------------------------------------------------------- a made-up notebook, and one fault at a time


def markdown(text: str, tags: str = "") -> str:
    commented = "\n".join(f"# {line}".rstrip() for line in text.split("\n"))
    return f"# %% [markdown]{tags}\n{commented}\n\n"


def code(text: str, *tags: str) -> str:
    marked = f" tags=[{', '.join(map(repr, tags))}]".replace("'", '"') if tags else ""
    return f"# %%{marked}\n{text}\n\n"


SENTENCE = "The scanner leaves its mark on the image, and you learn to see it.\n"  # 14 words
GOOD = [
    HEADER,
    markdown("# 70 · FLOWER: the idea\n\n**You will be able to** see.\n\n**Measured:** 1 minute."),
    code(
        "# @title Imports\nimport matplotlib.pyplot as plt\nfrom harmony_lite.show import show, strip",
        "setup",
        "folded",
    ),
    markdown(SENTENCE * 120),
    code("def loop(x):\n    for _ in range(3):\n        x = x + 1\n    return x", "algorithm"),
    *[code(f"y = {k}\nprint(y)") for k in range(14)],
    code("# @title The image\nshow(strip({}), alt='An image.')", "folded"),
    markdown("### Exercise 70.1 · Add (8 minutes, ★★)\n\nAdd two numbers."),
    code("def add(x, y):\n    ...", "exercise", "exercise-70.1"),
    code("\n".join(f"x_{k} = {k}" for k in range(40)), "solution", "exercise-70.1"),
    markdown("## For the instructor\n\n" + "Ask them. " * 2000, ' tags=["instructor"]'),
]


def source_of(folder: Path, cells: list[str]) -> Path:
    source = folder / "70_made_up.py"
    source.write_text("".join(cells), encoding="utf-8")
    return source


def test_a_notebook_within_all_limits_has_no_fault(tmp_path: Path) -> None:
    source = source_of(tmp_path, GOOD)
    assert series_form.is_in_form(source)
    assert series_form.form_faults(source) == []
    form = series_form.form_of(source)
    assert (form.open_cells, form.folded_cells, form.open_lines) == (16, 2, 4 + 2 * 14 + 2)
    assert (form.longest, form.longest_tags, form.sentence) == (4, ("algorithm",), 14)
    assert 1680 < form.words < 1720


def changed(cell: int, old: str, new: str) -> Callable[[list[str]], list[str]]:
    assert old in GOOD[cell]
    return lambda cells: [*cells[:cell], cells[cell].replace(old, new), *cells[cell + 1 :]]


LONG = SENTENCE.strip(".\n") + ", and you learn to take it away.\n"  # 21 words
FAULTS = {
    "few open cells": (lambda cells: cells[:5] + cells[7:], "open cells: found 14, wanted 15 to 25"),
    "many open cells": (lambda cells: cells + [code("z = 1")] * 10, "open cells: found 26, wanted 15 to 25"),
    "long code": (
        lambda cells: [*cells, *[code("y = 1\n" * 4)] * 9, code("y = 1\n\n" * 300, "algorithm")],
        "open lines: found 370, wanted at most 280",
    ),
    "long stub": (changed(21, "    ...", "    z = 1\n" * 4), "longest open cell: found 5 lines tagged ['exercise', "),
    "algorithm not tagged": (changed(4, ' tags=["algorithm"]', ""), "longest open cell: found 4 lines tagged []"),
    "folded without a title": (changed(2, "# @title Imports", "# Imports"), "70_made_up.py, cell 1: found '# Imports'"),
    "few words": (changed(3, SENTENCE.strip(), "Short."), "words: found"),
    "many words": (lambda cells: [*cells, markdown(SENTENCE * 100)], "words: found 3"),
    "long sentences": (lambda cells: [*cells[:3], markdown(LONG * 90), *cells[4:]], "found 21, wanted at most 16"),
    "no minutes": (changed(20, " (8 minutes, ★★)", ""), "exercise: found the heading '### Exercise 70.1 · Add'"),
    "no difficulty": (changed(20, ", ★★", ""), "wanted it to end like '(8 minutes, ★★)'"),
    "draws in the open": (
        lambda cells: [*cells, code("show(strip({}), alt='A.')")],
        "open cell \"show(strip({}), alt='A",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found(tmp_path: Path, name: str) -> None:
    change, message = FAULTS[name]
    faults = series_form.form_faults(source_of(tmp_path, change(GOOD)))
    assert any(message in fault for fault in faults), faults
    others = [fault for fault in faults if message not in fault]
    assert others == [] or name == "long code", others


def test_a_solution_and_a_note_for_the_teacher_are_not_counted(tmp_path: Path) -> None:
    without = series_form.form_of(source_of(tmp_path, GOOD[:-2]))
    assert series_form.form_of(source_of(tmp_path, GOOD)) == without


def test_figures_and_size_are_held_in_the_notebook_that_was_made(tmp_path: Path) -> None:
    source = source_of(tmp_path, GOOD)
    notebook = series.notebook_from(source)
    picture = nbformat.v4.new_output("display_data", data={"image/png": "AAAA"})
    described = nbformat.v4.new_output(
        "display_data", data={"image/png": "AAAA"}, metadata={"image/png": {"alt": "An image."}}
    )
    notebook.cells[-4].outputs = [described]
    series.write_notebook(notebook, source.with_suffix(".ipynb"))
    assert series_form.form_faults(source) == []
    notebook.cells[-4].outputs = [described, picture]
    series.write_notebook(notebook, source.with_suffix(".ipynb"))
    assert series_form.form_faults(source) == ["figures: found 1 without alternative text, wanted none"]
    notebook.cells[-4].outputs = [nbformat.v4.new_output("stream", text="x" * 400_000)]
    series.write_notebook(notebook, source.with_suffix(".ipynb"))
    (fault,) = series_form.form_faults(source)
    assert fault.startswith("bytes of the notebook: found 4") and fault.endswith("wanted at most 400000")


@pytest.mark.parametrize(
    "header", ["", HEADER.replace("open and folded", "other"), HEADER.replace("harmony_lite", "other")]
)
def test_a_notebook_without_the_header_is_not_is_in_form(tmp_path: Path, header: str) -> None:
    assert not series_form.is_in_form(source_of(tmp_path, [header, *GOOD[1:]]))


def test_the_header_leaves_the_notebook_as_every_other(tmp_path: Path) -> None:
    with_header = series.notebook_from(source_of(tmp_path, GOOD))
    assert with_header == series.notebook_from(source_of(tmp_path, GOOD[1:]))


def test_the_table_has_a_row_for_each_notebook_and_the_faults_of_the_new_form(tmp_path: Path) -> None:
    source = source_of(tmp_path, GOOD)
    *_, row = series_form.as_table([source]).split("\n")
    assert row.startswith("| 70_made_up | yes | 16 | 2 | 34 | 4 | algorithm | 1") and row.endswith(" | 14 |")
    *_, last = series_form.as_table([source_of(tmp_path, FAULTS["no minutes"][0](GOOD))]).split("\n")
    assert last.startswith("70_made_up: exercise: found")
    *_, old = series_form.as_table([source_of(tmp_path, FAULTS["no minutes"][0](GOOD)[1:])]).split("\n")
    assert old.startswith("| 70_made_up | no |")


# --------------------------------------------------------------------------------------------------- the counters


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("One sentence. Another one! A third? Yes.", 4),
        ("Eq. 13 of Fig. 2 (cf. Sec. 3.1, e.g. Table 2) is by Parida et al. It holds, i.e. The rim is dark.", 1),
        ("A step of 0.5 mm is fine. 20 people agree.", 2),
        ("What J. Lee and W. Kim call blind is blind.", 1),
        ("Vitamin C. elegans", 1),
        ('He said "stop." Then he (who was late) left.', 2),
        ("The value $x_1 = 0.5. Y$ is small. $y$ is not.", 2),
        ("Call `a.b. C` twice. *It works.* **Good.**", 3),
        ("First line\nand its end.\nSecond one.", 2),
        ("- a point without a stop\n- another. And more.\n1. numbered\n   and wrapped", 4),
        ("## A heading. With a stop.\n\nText.", 1),
        ("**What to notice.** The rim is dark.", 1),
        ("**Before:** notebooks one and two.", 1),
        ("**You will be able to**\n\n- see.", 1),
        ("**Look at** the rim.", 1),
        ("| a table. | Of words. |\n|---|---|\n| more. | More. |\n\nText.", 1),
        ("The loss is\n\n$$\na. B. C.\n$$\n\nand so on.", 2),
        ("\\begin{align}\na. B\n\\end{align}\nText.", 1),
        ("```python\nOne. Two. Three.\n```\n\nText.", 1),
        ("> A quote. It ends.", 2),
        ("<!-- A comment. Two. -->\n\nText.", 1),
        ("See [the page. It is long](https://a.org/b.C) now.", 2),
        ("Read https://a.org/b. Then stop.", 1),
        ("Text.\n\n## References\n\n- Lee. *A title.* 2023.\n\n## Next\n\nText.", 2),
        ("", 0),
        ("$$x$$", 0),
    ],
)
def test_sentences_are_split_where_a_reader_stops(text: str, wanted: int) -> None:
    assert len(series_form.sentences(text)) == wanted, series_form.sentences(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Two words", 2),
        ("It's a well-known 3D method of 2023.", 5),
        ("# A heading\n\nText", 3),
        ("| a table | 3 |\n|---|---|", 2),
        ("The value $x = y + z$ and `some code here` differ.", 4),
        ("It costs 5$ or 6$ here.", 4),
        ("A\n\n$$\nx y z\n$$\n\n```\nx y z\n```\n\nB", 2),
        ("[the page](https://a.org/many-words/here)", 2),
        ("![a figure](f.png)", 2),
        ("Straße, naïve, ρ", 3),
    ],
)
def test_words_are_those_of_prose(text: str, wanted: int) -> None:
    assert series_form.words(text) == wanted


def test_code_or_an_equation_in_a_sentence_is_read_as_one_word() -> None:
    (sentence,) = series_form.sentences("The value $x = y + z$ is what `f(a, b)` gives.")
    assert series_form.words_of_a_sentence(sentence) == 7


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("show(strip(images), alt='x')", True),
        ("figure, axes = plt.subplots()\naxes.plot(x)\nshow(figure, alt='x')", True),
        (
            "figure, axes = plt.subplots(2)\nfor axis, x in zip(axes, xs):\n    axis.plot(x)\n    axis.set_title('x')",
            True,
        ),
        ("from harmony_lite.show import curves\nshow(curves(x), alt='x')", True),
        ("import matplotlib.pyplot as p\np.plot(x)", True),
        ("import numpy as np", False),
        ("y = f(x)\nshow(strip(y), alt='x')", False),
        ("show(strip(y), alt='x')\nassert y > 0", False),
        ("print(x)", False),
        ("table.round(3)", False),
        ("x", False),
        ("%matplotlib inline\nprint(x)", False),
        ("for x in xs:\n    f(x)\n    show(strip(x), alt='x')", False),
        ("def f(x):\n    show(x)", False),
    ],
)
def test_a_cell_that_only_draws_is_told_from_one_that_works(tmp_path: Path, text: str, wanted: bool) -> None:
    notebook = series.notebook_from(source_of(tmp_path, [*GOOD, code(text)]))
    assert series_form.draws_only(notebook.cells[-1], series_form.drawing_names(notebook)) is wanted
