"""The book: executed notebooks and the pages beside them, bound by Sphinx and MyST-NB."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from base64 import b64decode
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from series_pairs import BUILD, FOLDER, executed_hash, source_hash, sources

from harmony_lite.ledger import pages as ledger_pages


def newest_notebook(source: Path, ran: Path) -> NotebookNode:
    """The executed notebook of a source: from the folder `ran` where that is up to date, else the committed one.

    Raises:
        FileNotFoundError: neither is there.
    """
    candidates = (Path(ran) / f"{source.stem}.ipynb", source.with_suffix(".ipynb"))
    present = [nbformat.read(path, as_version=4) for path in candidates if path.exists()]
    if not present:
        raise FileNotFoundError(f"{candidates[1]}: found no executed notebook, wanted one: make run")
    current = [one for one in present if executed_hash(one) == source_hash(source)]
    return (current or present[::-1])[0]


def alt_texts(notebook: NotebookNode) -> dict[str, str]:
    """Alternative text of each figure, by the SHA-256 of its bytes, which is how MyST-NB names the file it writes."""
    texts = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            for kind, content in output.get("data", {}).items():
                alt = output.get("metadata", {}).get(kind, {}).get("alt")
                if kind.startswith("image/") and alt:
                    texts[hashlib.sha256(b64decode(content)).hexdigest()] = alt
    return texts


def book_notebook(notebook: NotebookNode) -> NotebookNode:
    """A notebook as the book shows it: solutions folded away, notes for the teacher left out."""
    shown = []
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "instructor" in tags:
            continue
        if "solution" in tags and cell.cell_type == "code":
            cell.metadata["tags"] = [*tags, "hide-cell"]
        shown.append(cell)
    notebook.cells = shown
    return notebook


def write_if_changed(path: Path, content: bytes) -> None:
    """Leave a file alone that is already so: Sphinx builds again what has a new time."""
    if not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def book_source(folder: Path, ran: Path, into: Path) -> None:
    """Lay out what Sphinx reads: pages and settings as they are, notebooks as the book shows them."""
    files = {path.name: path.read_bytes() for path in sorted(Path(folder).glob("*.md"))}
    if "ledger.md" in files:
        front = files["ledger.md"].decode()
        files |= {name: page.encode() for name, page in ledger_pages.pages(front).items()}
    files["conf.py"] = (FOLDER / "conf.py").read_bytes()
    texts: dict[str, str] = {}
    for source in sources(folder):
        notebook = book_notebook(newest_notebook(source, ran))
        texts |= alt_texts(notebook)
        files[f"{source.stem}.ipynb"] = nbformat.writes(notebook).encode()
    files["alt_texts.json"] = json.dumps(texts, indent=1).encode()
    into.mkdir(parents=True, exist_ok=True)
    for path in into.iterdir():
        if path.is_file() and path.name not in files:
            path.unlink()
    for name, content in files.items():
        write_if_changed(into / name, content)


def book(
    folder: Path = FOLDER, build: Path = BUILD, name: str = "book", ran: Path = BUILD / "run"
) -> tuple[Path, list[str]]:
    """Bind the executed notebooks and the pages beside them with Sphinx and MyST-NB.

    Args:
        folder: of the sources and pages.
        build: where the book goes.
        name: of the book's folder in `build`.
        ran: where `run` wrote; notebooks that are not up to date there are taken from `folder`.

    Returns:
        The front page, and Sphinx's warnings.

    Raises:
        RuntimeError: Sphinx failed.
    """
    build = Path(build)
    source, out = build / f"{name}_source", build / name
    book_source(Path(folder), ran, source)
    warnings = build / f"{name}_warnings.txt"
    options = ["-b", "html", "-q", "-d", str(build / f"{name}_doctrees"), "-w", str(warnings)]
    command = [sys.executable, "-m", "sphinx", *options, str(source), str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{out}: Sphinx failed\n{done.stdout}{done.stderr}")
    return out / "index.html", warnings.read_text(encoding="utf-8").splitlines()
