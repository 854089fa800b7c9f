"""Text that the series writes into its own files: blocks between markers, and the line that says what a notebook costs.

A notebook's outputs do not depend on these words. So the hash of a source leaves the words out, and writing them
makes no output old.
"""

from __future__ import annotations

import re

NOTEBOOKS_MARKERS = ("<!-- notebooks:start -->", "<!-- notebooks:end -->")
BUDGET_MARKERS = ("<!-- budget:start -->", "<!-- budget:end -->")
# In a source these lines begin with `# `, in the notebook's Markdown they do not.
MEASURED_LINE = re.compile(r"^(?P<start>(?:# )?\*\*Measured:\*\*)(?P<rest>.*)$", re.MULTILINE)
NOTEBOOKS_BLOCK = re.compile(
    rf"^(?P<start>(?:# )?{NOTEBOOKS_MARKERS[0]})\n.*?^(?P<end>(?:# )?{NOTEBOOKS_MARKERS[1]})$",
    re.MULTILINE | re.DOTALL,
)


def put_between(text: str, markers: tuple[str, str], block: str, *, place: object) -> str:
    """The text with the block between its two markers, each on a line of its own; in a source as a comment.

    Args:
        text: of a page, or of a notebook's source.
        markers: start and end.
        block: in Markdown, any number of lines.
        place: named in the error.

    Raises:
        ValueError: the text has not exactly one pair of markers.
    """
    start, end = markers
    pattern = re.compile(rf"^(#? ?){re.escape(start)}$.*?^\1{re.escape(end)}$", re.MULTILINE | re.DOTALL)
    found = pattern.findall(text)
    if len(found) != 1 or text.count(start) != 1 or text.count(end) != 1:
        counts = f"{text.count(start)} of {start} and {text.count(end)} of {end}"
        raise ValueError(f"{place}: found {counts}, wanted one pair, each on a line of its own")
    lines = [start, *block.split("\n"), end]
    written = "\n".join(f"{found[0]}{line}".rstrip() for line in lines)
    return pattern.sub(lambda _: written, text)


def without_written(text: str) -> str:
    """The text as if the series had written nothing into it."""
    text = NOTEBOOKS_BLOCK.sub(lambda block: f"{block['start']}\n{block['end']}", text)
    return MEASURED_LINE.sub(lambda line: line["start"], text)
