"""What was measured here, as files: `papers/PAPER/results.PROFILE.json`, and the one real pair's beside this module.

A file holds how it was made, a row for each cell with a value per person, and the verdicts on the claims. `make ledger`
writes it; whoever reads it gets a message that names the file where something in it is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harmony_lite.ledger.verdicts import VERDICTS
from harmony_lite.papers.published import FOLDER, load
from harmony_lite.profiles import active
from harmony_lite.storage import written_whole

__all__ = ["cell_name", "real_pair_path", "real_pair_results", "results", "results_path", "write"]

WORDS = ("place", "measure", "row", "condition")  # that name a cell
OF_A_ROW = {**dict.fromkeys((*WORDS, "tier", "method", "variant", "by"), str), "values": list}
NUMBERS = ("mean", "low", "high")


def cell_name(entry: Mapping[str, Any]) -> str:
    """The four words of a measured cell, as `papers.printed.Cell.name` has them."""
    return " | ".join(entry[word] for word in WORDS)


def results_path(paper: str, profile: str | None = None, folder: Path | None = None) -> Path:
    """The file of a paper's results, in its folder.

    Args:
        paper: of `papers.published.names()`.
        profile: the active one when None.
        folder: that holds the papers' folders; the package's when None.
    """
    return (folder or FOLDER) / load(paper).name / f"results.{profile or active().name}.json"


def real_pair_path(profile: str | None = None, folder: Path | None = None) -> Path:
    """The file of the one real pair's results, which belong to no paper; the other arguments as `results_path`."""
    return (folder or Path(__file__).parent) / f"real_pair.{profile or active().name}.json"


def results(paper: str, profile: str | None = None, folder: Path | None = None) -> dict[str, Any]:
    """What was measured for a paper in a profile; an empty dictionary where nothing was.

    Args:
        paper: of `papers.published.names()`.
        profile: the active one when None.
        folder: that holds the papers' folders; the package's when None.

    Returns:
        "made": command, commit, hardware, date, seed, people; "rows": a dictionary per cell, with `values` of the
        people in order; "claims": findings by the claims' names.

    Raises:
        ValueError: a file that is not JSON or lacks a part, a claim that the paper does not make, or a verdict outside
            `VERDICTS`; the message names the file, and the row or the claim.
    """
    path = results_path(paper, profile, folder)
    content = _read(path, ("made", "rows", "claims"))
    for position, row in enumerate(content.get("rows", ())):
        _check_row(row, f"{path}, row {position + 1}")
    known = {claim.id for claim in load(paper).claims}
    for name, entry in content.get("claims", {}).items():
        if name not in known:
            raise ValueError(f"{path}: found the claim {name!r}, wanted one that {paper}/published.toml lists")
        verdict = entry.get("verdict") if isinstance(entry, dict) else entry
        if verdict not in VERDICTS:
            raise ValueError(f"{path}, {name}: found the verdict {verdict!r}, wanted one of {VERDICTS}")
    return content


def real_pair_results(profile: str | None = None, folder: Path | None = None) -> dict[str, Any]:
    """What was measured on the one real pair; an empty dictionary where nothing was. Arguments as `real_pair_path`.

    Raises:
        ValueError: a file that is not JSON or has no rows; the message names the file.
    """
    return _read(real_pair_path(profile, folder), ("made", "rows"))


def _read(path: Path, parts: tuple[str, ...]) -> dict[str, Any]:
    """A results file with its parts, or an empty dictionary where there is no file."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: found text that is not JSON ({error}), wanted measured results") from error
    missing = [part for part in parts if not isinstance(content, dict) or part not in content]
    if missing:
        raise ValueError(f"{path}: found results without {', '.join(missing)}, wanted {', '.join(parts)}")
    if not isinstance(content["rows"], list) or not isinstance(content.get("claims", {}), dict):
        raise ValueError(f"{path}: found rows or claims of the wrong kind, wanted a list and a dictionary")
    return content


def _check_row(row: Any, where: str) -> None:
    if not isinstance(row, dict):
        raise ValueError(f"{where}: found {type(row).__name__}, wanted a dictionary")
    wrong = [key for key, kind in OF_A_ROW.items() if not isinstance(row.get(key), kind)]
    wrong += [key for key in NUMBERS if not isinstance(row.get(key), int | float)]
    if not wrong and not all(isinstance(value, int | float) for value in row["values"]):
        wrong = ["values"]
    if wrong:
        raise ValueError(f"{where}: found {', '.join(wrong)} missing or of the wrong kind, wanted a measured cell")


def write(path: Path, content: Mapping[str, Any]) -> Path:
    """Write results with one row a line, so that a change of one cell is a change of one line; returns the path."""
    rows = ",\n".join("  " + json.dumps(row, allow_nan=False) for row in content["rows"])
    rest = json.dumps({**content, "rows": []}, indent=1, allow_nan=False, ensure_ascii=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as part:
        part.write_text(rest.replace('"rows": []', f'"rows": [\n{rows}\n ]') + "\n", encoding="utf-8")
    return path
