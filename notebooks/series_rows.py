"""The lists of notebooks, written from the notebooks: README's table, the book's contents, the map in notebook 00.

What a list says about a notebook stands in the notebook's first cell: the title (`# 11 · Paper: the part`) and the
sentence after **You will be able to**. Notebooks of one ten belong together. Those of the first ten are the ground;
any other ten is a paper, whose name stands before the colon of each title.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import jupytext
from series_pairs import FOLDER, ROOT, rewrite, sources
from series_written import NOTEBOOKS_MARKERS, put_between

GROUND = "The ground"
TITLE = re.compile(r"^# (?P<number>\d\d) · (?P<title>.+)$", re.MULTILINE)
ABLE = re.compile(r"^\*\*You will be able to:?\*\*:?(?P<what>.+?)(?=\n\s*\n(?!\s*[-*] )|\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Entry:
    """What the lists say about one notebook.

    Attributes:
        name: of the file, without suffix.
        title: without the number.
        able: what a reader will be able to do; one sentence without its full stop.
    """

    name: str
    title: str
    able: str

    @property
    def number(self) -> str:
        """Its two digits."""
        return self.name[:2]

    @property
    def paper(self) -> str:
        """What stands before the title's colon; nothing where there is no colon."""
        return self.title.split(": ")[0] if ": " in self.title else ""


def entry(source: Path) -> Entry:
    """What the lists say about a notebook.

    Raises:
        ValueError: its first cell lacks a title with the file's number, or what you will be able to do.
    """
    text = jupytext.read(source, fmt="py:percent").cells[0].source
    title = TITLE.search(text)
    if title is None or title["number"] != source.name[:2]:
        found = title.group() if title else text.split("\n")[0]
        raise ValueError(f"{source.name}: found the first line {found!r:.80}, wanted '# {source.name[:2]} · Title'")
    able = ABLE.search(text)
    if able is None:
        raise ValueError(f"{source.name}: found no words after **You will be able to** in the first cell, wanted some")
    points = [" ".join(point.split()) for point in re.split(r"^[-*] ", able["what"].strip(), flags=re.MULTILINE)]
    first_sentences = [re.split(r"\.\s+(?=[A-Z])", point)[0].rstrip(";,.") for point in points if point]
    return Entry(source.stem, title["title"].strip(), "; ".join(first_sentences))


def groups(folder: Path = FOLDER) -> dict[str, list[Entry]]:
    """The notebooks of a folder by their ten: the ground, then each paper by its name.

    Raises:
        ValueError: the titles of one ten do not all begin with the same paper's name.
    """
    found: dict[str, list[Entry]] = {}
    for ten, members in groupby(map(entry, sources(folder)), key=lambda one: one.number[0]):
        entries = list(members)
        names = sorted({one.paper for one in entries})
        if ten != "0" and (len(names) > 1 or not names[0]):
            titles = ", ".join(repr(one.title) for one in entries)
            raise ValueError(
                f"notebooks {ten}0 to {ten}9: found the titles {titles}, wanted 'PAPER: part' of one paper"
            )
        found.setdefault(GROUND if ten == "0" else names[0], []).extend(entries)
    return found


def readme_table(found: dict[str, list[Entry]]) -> str:
    """README's table: number, linked title, what the reader will be able to do."""
    rows = ["| | | you will be able to |", "|---|---|---|"]
    for one in [one for entries in found.values() for one in entries]:
        able = one.able.replace("|", r"\|")
        rows.append(f"| {one.number} | [{one.title}](notebooks/{one.name}.ipynb) | {able} |")
    return "\n".join(rows)


def book_contents(found: dict[str, list[Entry]]) -> str:
    """The book's contents: a caption for each group, and its notebooks."""
    trees = []
    for caption, entries in found.items():
        pages = "\n".join(one.name for one in entries)
        trees.append(f"```{{toctree}}\n:caption: {caption}\n:maxdepth: 1\n\n{pages}\n```")
    return "\n\n".join(trees)


def series_map(found: dict[str, list[Entry]]) -> str:
    """The map inside a notebook: one line for each group, with a link to each notebook."""
    lines = []
    for caption, entries in found.items():
        links = []
        for one in entries:
            part = one.title.removeprefix(f"{caption}: ")
            links.append(f"[{one.number} {part}]({one.name}.ipynb)")
        lines.append(f"- **{caption}:** {', '.join(links)}.")
    return "\n".join(lines)


def wanted_texts(folder: Path = FOLDER, readme: Path = ROOT / "README.md") -> dict[Path, str]:
    """What README, the book's front page and each notebook with a map should hold, by path.

    Raises:
        ValueError: a file without its markers, or a notebook that does not say what the lists need.
    """
    found = groups(folder)
    blocks = {Path(readme): readme_table(found), Path(folder) / "index.md": book_contents(found)}
    for source in sources(folder):
        if NOTEBOOKS_MARKERS[0] in source.read_text(encoding="utf-8"):
            blocks[source] = series_map(found)
    return {
        path: put_between(path.read_text(encoding="utf-8"), NOTEBOOKS_MARKERS, block, place=path.name)
        for path, block in blocks.items()
    }


def write_rows(folder: Path = FOLDER, readme: Path = ROOT / "README.md") -> list[Path]:
    """Write the lists into README, the book's front page and each notebook with a map; returns what changed."""
    changed = []
    for path, text in wanted_texts(folder, readme).items():
        if path.suffix == ".py":
            if rewrite(path, text):
                changed.append(path)
        elif path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed
