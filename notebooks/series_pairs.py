"""Sources and the notebooks made from them: which there are, whether the two agree, copies for students."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

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
    """SHA-256 of a source, the same whichever way its lines end."""
    return hashlib.sha256(Path(source).read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def notebook_from(source: Path) -> NotebookNode:
    """The notebook that a source makes, without outputs: same source, same bytes, on every machine."""
    cells = jupytext.read(source, fmt="py:percent").cells
    for position, cell in enumerate(cells):
        place = f"{Path(source).stem}/{position}"
        cell["id"] = hashlib.sha256(place.encode()).hexdigest()[:12]
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
