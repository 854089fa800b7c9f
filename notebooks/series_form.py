"""How long a notebook is, how its cells and sentences are, and what of that is against the form of a lesson.

What is counted is what a student gets: neither solutions nor notes for the teacher. Exercise stubs count as open
code, because a student reads them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import jupytext
import nbformat
from nbformat import NotebookNode
from series_pairs import FOLDED, HIDDEN_FROM_STUDENTS, notebook_from
from series_written import MEASURED_LINE, without_written

FORM = "open and folded"
ALGORITHM = "algorithm"
# Smallest and largest; each is still allowed.
LIMITS = {
    "open cells": (15, 25),
    "open lines": (0, 280),
    "words": (1500, 3000),
    "median words of a sentence": (0, 16),
    "bytes of the notebook": (0, 400_000),
}
DRAWING_PACKAGES = ("harmony_lite.show", "matplotlib", "seaborn")

HEADING = re.compile(r"#{1,6} +(?P<text>.+)")
EXERCISE = re.compile(r"#{1,6} +Exercise\b.*")
EXERCISE_MARKS = re.compile(r"\(\d+ minutes, ★{1,3}\)$")
LIST_ITEM = re.compile(r"(?:[-*+]|\d+[.)])\s+")
# What stands in bold before a paragraph, as a small heading of its own: "**What to notice.** The rim is dark."
LABEL = re.compile(r"\*\*[^*]*[.:!?]\*\*\s*|\*\*[^*]+\*\*(?::\s*|$)")
NOT_PROSE = [
    re.compile(pattern, re.MULTILINE | re.DOTALL)
    for pattern in (
        r"<!--.*?-->",
        r"^[ >]*(?P<fence>```+|~~~+).*?^[ >]*(?P=fence)\s*$",
        r"\$\$.*?\$\$",
        r"\\begin\{(?P<kind>\w+\*?)\}.*?\\end\{(?P=kind)\}",
    )
]
# One word of a sentence each, but no words of prose; the sign keeps a sentence in one piece.
INLINE = re.compile(r"(?P<tick>`+).+?(?P=tick)|(?<![\\$])\$(?!\s)[^$]+?(?<![\s\\])\$(?!\d)", re.DOTALL)
STAND_IN = "¤"
LINK = re.compile(r"!?\[(?P<shown>[^\]]*)\]\([^)]*\)")
ADDRESS = re.compile(r"<?\bhttps?://\S+")
WORD = re.compile(r"(?<!\w)[^\W\d_]+(?:['’-][^\W\d_]+)*")
ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|cf|vs|al|approx|resp|ca|Eqs?|Figs?|Secs?|Sects?|Tabs?|Refs?|Nos?|pp?|Drs?|Profs?|St)|\b[A-Z])\.$"
)
SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]*_]*(?=\s+[\"'“‘(\[*_¤]*[A-Z0-9¤]|\s*$)")


# ----------------------------------------------------------------------------------------------------------- prose


def blocks(markdown: str) -> Iterator[tuple[str, str]]:
    """The pieces of a Markdown text, each with its kind: heading, sentences (a paragraph or a list's item), table.

    Code, equations and comments are no pieces; code and equations inside a line are one sign each.
    """
    for pattern in NOT_PROSE:
        markdown = pattern.sub("\n\n", markdown)
    markdown = INLINE.sub(STAND_IN, markdown)
    markdown = ADDRESS.sub("", LINK.sub(lambda link: link["shown"], markdown))
    paragraph: list[str] = []
    for line in [*markdown.split("\n"), ""]:
        line = re.sub(r"^[ >]+", "", line).rstrip()
        heading, item = HEADING.fullmatch(line), LIST_ITEM.match(line)
        table = line.startswith("|")
        if paragraph and (not line or heading or item or table or line.startswith(":::")):
            yield "sentences", " ".join(paragraph)
            paragraph = []
        if heading:
            yield "heading", heading["text"]
        elif table:
            yield "table", line
        elif line and not line.startswith(":::"):
            paragraph.append(line[item.end() :] if item else line)


def without_references(pieces: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The pieces without those under a heading `References`: authors and titles are no sentences."""
    skipped = False
    for kind, text in pieces:
        if kind == "heading":
            skipped = text.lower().startswith("references")
        if not skipped:
            yield kind, text


def sentences(markdown: str) -> list[str]:
    r"""The sentences of paragraphs and lists; headings, tables and labels in bold are none.

    >>> sentences("**Look.** See Eq. 3, e.g. $x = 1$.\nA line\nthat goes on.\n\n- A list")
    ['See Eq. 3, e.g. ¤.', 'A line that goes on.', 'A list']
    """
    found = []
    for kind, text in without_references(blocks(markdown)):
        if kind != "sentences":
            continue
        text = LABEL.sub("", text, count=1) if LABEL.match(text) else text
        start = 0
        for end in SENTENCE_END.finditer(text):
            if ABBREVIATION.search(text[: end.end()]) and end.end() < len(text):
                continue
            found.append(text[start : end.end()].strip())
            start = end.end()
        found.append(text[start:].strip())
    return [sentence for sentence in found if WORD.search(sentence)]


def words(markdown: str) -> int:
    """Number of words in headings, paragraphs, lists and tables; neither numbers nor code nor equations count."""
    return sum(len(WORD.findall(text)) for _, text in without_references(blocks(markdown)))


def words_of_a_sentence(sentence: str) -> int:
    """Its words; code or an equation inside it counts as one, because it is read as one."""
    return len(WORD.findall(sentence)) + sentence.count(STAND_IN)


# ------------------------------------------------------------------------------------------------------------ code


def lines(cell: NotebookNode) -> int:
    """Lines of a cell that are not blank."""
    return sum(bool(line.strip()) for line in cell.source.split("\n"))


def tags_of(cell: NotebookNode) -> list[str]:
    """The tags of a cell."""
    return cell.metadata.get("tags", [])


def open_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Code cells that a student reads: neither folded nor empty nor hidden from students."""
    return [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code"
        and cell.source.strip()
        and not {FOLDED, *HIDDEN_FROM_STUDENTS}.intersection(tags_of(cell))
    ]


def syntax_of(cell: NotebookNode) -> ast.Module:
    """A cell's Python without its magic and shell lines."""
    return ast.parse(re.sub(r"^([ \t]*)[%!].*$", r"\1pass", cell.source, flags=re.MULTILINE))


def drawing_names(notebook: NotebookNode) -> set[str]:
    """Names that a notebook imports from packages that draw."""
    found = set()
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        for node in ast.walk(syntax_of(cell)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(DRAWING_PACKAGES):
                found |= {name.asname or name.name for name in node.names}
            elif isinstance(node, ast.Import):
                drawing = [name for name in node.names if name.name.startswith(DRAWING_PACKAGES)]
                found |= {name.asname or name.name.split(".")[0] for name in drawing} - {"harmony_lite"}
    return found


def draws_only(cell: NotebookNode, drawing: set[str]) -> bool:
    """Whether every statement of a cell is an import or calls a name that draws, or something that such a call made.

    A cell that works something out first, on a line of its own, does more than draw.
    """
    known = set(drawing)

    def root(node: ast.expr) -> str:
        while isinstance(node, (ast.Call, ast.Attribute, ast.Subscript)):
            node = node.func if isinstance(node, ast.Call) else node.value
        return node.id if isinstance(node, ast.Name) else ""

    def names(node: ast.AST) -> set[str]:
        return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}

    def draws(statement: ast.stmt) -> bool:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
            drawn = root(statement.value) in known
            known.update(*map(names, statement.targets) if drawn else ())
            return drawn
        if isinstance(statement, ast.For) and names(statement.iter) & known:
            known.update(names(statement.target))
        if isinstance(statement, (ast.For, ast.With, ast.If)):
            return all(map(draws, [*statement.body, *getattr(statement, "orelse", [])]))
        if isinstance(statement, ast.Expr):
            return isinstance(statement.value, ast.Call) and root(statement.value) in known
        return isinstance(statement, (ast.Import, ast.ImportFrom))

    body = syntax_of(cell).body
    return all(map(draws, body)) and not all(isinstance(one, (ast.Import, ast.ImportFrom)) for one in body)


# ------------------------------------------------------------------------------------------------------- a notebook


@dataclass(frozen=True)
class Form:
    """Numbers of one notebook.

    Attributes:
        name: of its file.
        open_cells: code cells to be read.
        folded_cells: code cells that only draw or set up.
        open_lines: of the open cells, without blank lines.
        longest: lines of the longest open cell.
        longest_tags: tags of that cell.
        words: of prose.
        sentence: median number of words of a sentence.
    """

    name: str
    open_cells: int
    folded_cells: int
    open_lines: int
    longest: int
    longest_tags: tuple[str, ...]
    words: int
    sentence: float


def prose(notebook: NotebookNode) -> str:
    """What a student reads between the code, without what the series writes."""
    read = [
        MEASURED_LINE.sub("", without_written(cell.source))
        for cell in notebook.cells
        if cell.cell_type == "markdown" and not HIDDEN_FROM_STUDENTS.intersection(tags_of(cell))
    ]
    return "\n\n".join(read)


def form_of(source: Path) -> Form:
    """The numbers of a source."""
    notebook = notebook_from(source)
    to_read = open_cells(notebook)
    # Of two cells of the same length, the algorithm counts as the longer one.
    longest = max(to_read, key=lambda cell: (lines(cell), ALGORITHM in tags_of(cell)), default=None)
    text = prose(notebook)
    return Form(
        name=Path(source).stem,
        open_cells=len(to_read),
        folded_cells=sum(FOLDED in tags_of(cell) for cell in notebook.cells),
        open_lines=sum(map(lines, to_read)),
        longest=lines(longest) if longest else 0,
        longest_tags=tuple(tags_of(longest)) if longest else (),
        words=words(text),
        sentence=median(map(words_of_a_sentence, sentences(text)) if sentences(text) else [0]),
    )


def is_in_form(source: Path) -> bool:
    """Whether a source says in its header that it keeps the limits: `form: open and folded` under `harmony_lite:`."""
    header = jupytext.read(source, fmt="py:percent").metadata.get("harmony_lite", {})
    return header.get("form") == FORM


def bare_figures(notebook: NotebookNode) -> int:
    """Number of pictures in a notebook's outputs without a text for those who cannot see them."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [(o, kind) for o in outputs for kind in o.get("data", {}) if kind.startswith("image/")]
    return sum(not o.metadata.get(kind, {}).get("alt", "").strip() for o, kind in pictures)


def form_faults(source: Path) -> list[str]:
    """Everything in which a source, and the notebook beside it, departs from the form; empty when all is well."""
    source = Path(source)
    try:
        notebook, form = notebook_from(source), form_of(source)
    except ValueError as error:  # a folded cell without a title
        return [str(error)]
    numbers = {
        "open cells": form.open_cells,
        "open lines": form.open_lines,
        "words": form.words,
        "median words of a sentence": form.sentence,
    }
    faults = []
    if ALGORITHM not in form.longest_tags:
        found = f"{form.longest} lines tagged {list(form.longest_tags)}"
        faults.append(f"longest open cell: found {found}, wanted the tag 'algorithm'")
    for line in re.findall(EXERCISE, prose(notebook)):
        if not EXERCISE_MARKS.search(line.rstrip()):
            faults.append(f"exercise: found the heading {line!r}, wanted it to end like '(8 minutes, ★★)'")
    drawing = drawing_names(notebook)
    for cell in open_cells(notebook):
        if draws_only(cell, drawing):
            first = cell.source.split("\n")[0]
            faults.append(f"open cell {first!r:.60}: found nothing but drawing, wanted the tag 'folded'")
    path = source.with_suffix(".ipynb")
    if path.exists():
        numbers["bytes of the notebook"] = path.stat().st_size
        bare = bare_figures(nbformat.read(path, as_version=4))
        if bare:
            faults.append(f"figures: found {bare} without alternative text, wanted none")
    limits = {name: LIMITS[name] for name in numbers}
    return faults + [
        f"{name}: found {numbers[name]:g}, wanted {f'{least} to {most}' if least else f'at most {most}'}"
        for name, (least, most) in limits.items()
        if not least <= numbers[name] <= most
    ]


def as_table(chosen: list[Path]) -> str:
    """The numbers of sources in Markdown, and below what is against the form in those that keep it."""
    rows = [
        "| Notebook | In form | Open cells | Folded | Open lines | Longest | Its tags | Words | Words a sentence |",
        "|---|---|---:|---:|---:|---:|---|---:|---:|",
    ]
    faults = []
    for source in chosen:
        one, new = form_of(source), is_in_form(source)
        rows.append(
            f"| {one.name} | {'yes' if new else 'no'} | {one.open_cells} | {one.folded_cells} | {one.open_lines} "
            f"| {one.longest} | {', '.join(one.longest_tags)} | {one.words} | {one.sentence:g} |"
        )
        faults += [f"{one.name}: {fault}" for fault in form_faults(source)] if new else []
    return "\n".join([*rows, *([""] if faults else []), *faults])
