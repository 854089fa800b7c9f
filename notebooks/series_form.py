"""What the form of a notebook is judged by: open and folded code, the longest cell, words, and how long sentences are.

Open code is code to be read: every code cell that is neither folded nor a solution nor Colab's. Stubs of exercises are
open. Prose is Markdown without equations, code, tables and the notes for the teacher.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import jupytext

OPEN_CELLS = (15, 25)
MOST_OPEN_LINES = 280
WORDS = (1500, 3000)
LONGEST_SENTENCE = 16  # words, of the median sentence
MOST_BYTES = 400_000
ALGORITHM = "algorithm"  # the tag of the cell that is to be the longest
NOT_READ = {"folded", "solution", "instructor"}
FORM = "open and folded"
EXERCISE = re.compile(r"^#+ Exercise (?P<id>\d\d\.\d+)(?P<rest>.*)$", re.MULTILINE)
RATED = re.compile(r"\((?:.*\b)?\d+ minutes, ★{1,3}\)")


@dataclass(frozen=True)
class Form:
    """What was counted in one notebook.

    Attributes:
        open_cells: code cells to be read.
        folded_cells: code cells with a title instead.
        open_lines: lines of open code that are not empty.
        longest: lines of the longest open cell.
        longest_tags: its tags.
        words: of the prose.
        sentence: words of the median sentence.
        unrated: exercises whose heading lacks minutes or stars.
    """

    open_cells: int
    folded_cells: int
    open_lines: int
    longest: int
    longest_tags: tuple[str, ...]
    words: int
    sentence: float
    unrated: tuple[str, ...]

    def faults(self) -> list[str]:
        """Every limit that is not held, as a sentence; empty where the notebook is in form."""
        found = []
        if not OPEN_CELLS[0] <= self.open_cells <= OPEN_CELLS[1]:
            found.append(f"open cells: found {self.open_cells}, wanted {OPEN_CELLS[0]} to {OPEN_CELLS[1]}")
        if self.open_lines > MOST_OPEN_LINES:
            found.append(f"open code: found {self.open_lines} lines, wanted at most {MOST_OPEN_LINES}")
        if ALGORITHM not in self.longest_tags:
            found.append(f"longest open cell: found {self.longest} lines without the tag, wanted the algorithm's")
        if not WORDS[0] <= self.words <= WORDS[1]:
            found.append(f"words: found {self.words}, wanted {WORDS[0]} to {WORDS[1]}")
        if self.sentence > LONGEST_SENTENCE:
            found.append(f"median sentence: found {self.sentence:g} words, wanted at most {LONGEST_SENTENCE}")
        if self.unrated:
            exercises = ", ".join(self.unrated)
            found.append(f"exercises {exercises}: found no minutes and stars, wanted '(10 minutes, ★★)' in the heading")
        return found


def is_in_form(source: Path) -> bool:
    """Whether a notebook says of itself that it is in this form."""
    header = jupytext.read(source, fmt="py:percent").metadata.get("harmony_lite", {})
    return header.get("form") == FORM


def form_of(source: Path) -> Form:
    """Count a notebook's source."""
    cells = jupytext.read(source, fmt="py:percent").cells
    tagged = [(cell, set(cell.metadata.get("tags", []))) for cell in cells]
    code = [(lines_of(cell.source), tags) for cell, tags in tagged if cell.cell_type == "code" and cell.source.strip()]
    to_read = [(lines, tags) for lines, tags in code if not tags & {*NOT_READ, "colab"}]
    longest, longest_tags = max(to_read, key=lambda one: one[0], default=(0, set()))
    text = "\n\n".join(c.source for c, tags in tagged if c.cell_type == "markdown" and "instructor" not in tags)
    prose = sentences(text)
    unrated = tuple(found["id"] for found in EXERCISE.finditer(text) if not RATED.search(found["rest"]))
    return Form(
        open_cells=len(to_read),
        folded_cells=sum("folded" in tags for _, tags in code),
        open_lines=sum(lines for lines, _ in to_read),
        longest=longest,
        longest_tags=tuple(sorted(longest_tags)),
        words=sum(map(len, prose)),
        sentence=median([len(sentence) for sentence in prose if len(sentence) > 1] or [0]),
        unrated=unrated,
    )


def lines_of(code: str) -> int:
    """Lines that are not empty."""
    return sum(bool(line.strip()) for line in code.splitlines())


def sentences(text: str) -> list[list[str]]:
    r"""The sentences of some Markdown, as lists of words; an equation in a line counts as one word.

    >>> [len(sentence) for sentence in sentences("See Eq. 3, e.g. $x = 1$. It holds.\n\n- A list\n- of two")]
    [5, 2, 2, 2]
    """
    text = re.sub(r"```.*?```|\$\$.*?\$\$|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"\$[^$]*\$|`[^`]*`", "symbol", text)
    text = re.sub(r"\b(Eq|Eqs|Fig|Figs|Sec|No|vs|al|e\.g|i\.e|cf|approx)\.", r"\1", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    found = []
    for line in text.split("\n"):
        if line.lstrip().startswith("|"):
            continue
        stripped = re.sub(r"^[\s>#*-]+|^\d+\. ", "", line)
        for sentence in re.split(r"(?<=[.!?:])[*_\")]*\s+", stripped):
            words = re.findall(r"[\w'’/%.,-]*\w[\w'’/%-]*", sentence)
            if words:
                found.append(words)
    return found


def as_table(chosen: list[Path]) -> str:
    """What was counted, a line for each notebook."""
    lines = [f"{'notebook':32} open folded lines longest cell        words  median sentence"]
    for source in chosen:
        form = form_of(source)
        tags = "+".join(form.longest_tags) or "no tag"
        lines.append(
            f"{source.stem:32} {form.open_cells:4} {form.folded_cells:6} {form.open_lines:5} "
            f"{form.longest:3} ({tags:14}) {form.words:6}  {form.sentence:g}"
        )
    return "\n".join(lines)
