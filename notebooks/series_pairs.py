"""Sources and the notebooks made from them: which there are, whether the two agree, copies for students."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode
from series_written import without_written

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
BUILD = ROOT / "build"

# What every notebook stores, whatever machine made it.
NOTEBOOK_METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "pygments_lexer": "ipython3",
    },
}
# Not for students: what the exercise asks for, and what is meant for the person who teaches.
HIDDEN_FROM_STUDENTS = {"solution", "instructor"}
# A cell that only draws or sets up carries this tag, and its first line is its title, as Colab writes it.
FOLDED = "folded"
TITLE_LINE = re.compile(r"# ?@title[ \t]+(?P<title>\S.*)")


def sources(folder: Path = FOLDER, number: str | None = None) -> list[Path]:
    """The sources `NN_*.py` of a folder in order, or the one whose number (`2`, `02`) or name is given.

    Raises:
        ValueError: there is no source, or none of that number.
    """
    found = sorted(Path(folder).glob("[0-9][0-9]_*.py"))
    if not found:
        raise ValueError(f"{folder}: found no notebook source, wanted files named NN_slug.py")
    if not number:
        return found
    wanted = number.zfill(2) if number.isdigit() else Path(number).stem
    chosen = [path for path in found if path.stem == wanted or path.stem[:2] == wanted]
    if not chosen:
        known = ", ".join(path.stem[:2] for path in found)
        raise ValueError(f"notebook: found {number!r}, wanted one of {known}")
    return chosen


def source_hash(source: Path) -> str:
    """SHA-256 of a source, without what the series writes into it, the same whichever way its lines end."""
    text = Path(source).read_bytes().decode("utf-8").replace("\r\n", "\n")
    return hashlib.sha256(without_written(text).encode()).hexdigest()


def fold(cell: NotebookNode, place: str) -> None:
    """Write into a folded cell how each of its three readers hides the code: the book, JupyterLab and Colab.

    The title is what a reader sees instead of the code.

    Args:
        cell: any cell; one without the tag `folded` stays as it is.
        place: the notebook and the cell's number, for the errors.

    Raises:
        ValueError: a folded cell without a title, a title without the tag, or the tag on a cell that is not code.
    """
    folded = FOLDED in cell.metadata.get("tags", [])
    first = cell.source.split("\n")[0]
    title = TITLE_LINE.fullmatch(first.rstrip()) if cell.cell_type == "code" else None
    if folded and cell.cell_type != "code":
        raise ValueError(f"{place}: found the tag 'folded' on a cell of {cell.cell_type}, wanted it on code only")
    if folded and title is None:
        raise ValueError(f"{place}: found {first!r:.80} in a folded cell, wanted '# @title What the cell shows'")
    if title and not folded:
        raise ValueError(f"{place}: found the title {title['title']!r} on an open cell, wanted the tag 'folded' too")
    if folded:
        cell.metadata["tags"] = [*cell.metadata["tags"], "hide-input"]
        prompts = {f"code_prompt_{way}": f"{way.capitalize()} code: {title['title']}" for way in ("show", "hide")}
        cell.metadata |= nbformat.from_dict({"mystnb": prompts, "jupyter": {"source_hidden": True}, "cellView": "form"})


def notebook_from(source: Path) -> NotebookNode:
    """The notebook that a source makes, without outputs: same source, same bytes, on every machine.

    Raises:
        ValueError: a folded cell has no title, or an open cell has one.
    """
    cells = jupytext.read(source, fmt="py:percent").cells
    for position, cell in enumerate(cells):
        place = f"{Path(source).stem}/{position}"
        cell["id"] = hashlib.sha256(place.encode()).hexdigest()[:12]
        fold(cell, f"{Path(source).name}, cell {position}")
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=NOTEBOOK_METADATA)
    nbformat.validate(notebook)
    return notebook


def executed_hash(notebook: NotebookNode) -> str | None:
    """Hash of the source that the outputs were made from; None in a notebook that was not executed."""
    return notebook.metadata.get("harmony_lite", {}).get("source_sha256")


def differences(source: Path, notebook: NotebookNode) -> list[str]:
    """Where a notebook departs from what its source makes: kernel, number, kind, text, tags and ids of the cells."""
    wanted = notebook_from(source)
    found = []
    if notebook.metadata.get("kernelspec") != wanted.metadata.kernelspec:
        found.append(f"kernelspec: found {notebook.metadata.get('kernelspec')}, wanted python3's")
    if len(notebook.cells) != len(wanted.cells):
        found.append(f"cells: found {len(notebook.cells)}, wanted {len(wanted.cells)}")
    for position, (cell, original) in enumerate(zip(notebook.cells, wanted.cells, strict=False)):
        for part in ("cell_type", "source", "metadata", "id"):
            if cell.get(part) != original.get(part):
                found.append(
                    f"cell {position}, {part}: found {cell.get(part)!r:.80}, wanted {original.get(part)!r:.80}"
                )
    return found


def write_notebook(notebook: NotebookNode, path: Path) -> None:
    """Write beside and rename, so that an interruption leaves no half notebook."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".ipynb.part")
    part.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    os.replace(part, path)


def pair(folder: Path = FOLDER, number: str | None = None) -> list[Path]:
    """Make the `.ipynb` of each source without outputs; one that is already what its source makes stays as it is."""
    written = []
    for source in sources(folder, number):
        path = source.with_suffix(".ipynb")
        if path.exists() and not differences(source, nbformat.read(path, as_version=4)):
            continue
        write_notebook(notebook_from(source), path)
        written.append(path)
    return written


def rewrite(source: Path, text: str) -> bool:
    """Give a source other words where the series writes (see `series_written`), and its notebook the same.

    Outputs stay: they do not depend on these words.

    Returns:
        Whether the source changed.

    Raises:
        ValueError: the text differs from the source's elsewhere, too.
    """
    old = source.read_text(encoding="utf-8")
    if without_written(old) != without_written(text):
        raise ValueError(f"{source.name}: found a change of other text, wanted only what the series itself writes")
    path = source.with_suffix(".ipynb")
    if old != text:
        source.write_text(text, encoding="utf-8")
    if path.exists():
        notebook = nbformat.read(path, as_version=4)
        before = nbformat.writes(notebook)
        for cell, wanted in zip(notebook.cells, notebook_from(source).cells, strict=False):
            if cell.cell_type == "markdown" and without_written(cell.source) == without_written(wanted.source):
                cell.source = wanted.source
        if nbformat.writes(notebook) != before:
            write_notebook(notebook, path)
    return old != text


def student_copy(source: Path) -> NotebookNode:
    """A notebook without its solutions, its notes for the teacher, and its outputs."""
    notebook = notebook_from(source)
    notebook.cells = [
        cell for cell in notebook.cells if not HIDDEN_FROM_STUDENTS.intersection(cell.metadata.get("tags", []))
    ]
    return notebook


def student(folder: Path = FOLDER, build: Path = BUILD, number: str | None = None) -> list[Path]:
    """Write the students' copies to `build/student`."""
    written = []
    for source in sources(folder, number):
        written.append(Path(build) / "student" / f"{source.stem}.ipynb")
        write_notebook(student_copy(source), written[-1])
    return written
