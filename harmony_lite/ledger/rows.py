"""The ledger's rows: what five papers print and claim, beside what comes out here.

Printed numbers and claims stand in `papers/PAPER/published.toml`, each claim with its direction, written down before
anything was measured. Ours stand beside them in `papers/PAPER/results.PROFILE.json` (`harmony_lite.ledger.results`).
What has not been computed says "not computed yet". The command line and the book's pages show the same rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from harmony_lite.ledger.results import cell_name, real_pair_results, results
from harmony_lite.papers.published import Cell, Claim, Paper, Table, load, names
from harmony_lite.profiles import active

__all__ = [
    "NOT_COMPUTED", "OWN_ROW", "PRINTED", "REAL_PAIR", "Row", "as_json", "as_printed", "decimals", "finding_shown",
    "printed_tables", "rows", "shown", "text", "verdict_table",
]  # fmt: skip

NOT_COMPUTED = "not computed yet"
PRINTED = "printed value"  # the rule of a row that holds one cell of a table
OWN_ROW = "not in the paper"  # the rule of a row that the paper does not print
REAL_PAIR = "real_pair"  # stands for a paper's name in rows of tier (iii)
_OURS = ("mean", "low", "high", "tier", "method", "variant", "by")


@dataclass(frozen=True)
class Row:
    """One claim, one printed cell, or one cell that the paper does not print.

    Attributes:
        paper: short name.
        id: of the claim, or the cell's four words "Table 1 | psnr | HM | Exp"; unique in its paper.
        place: where the paper makes the claim or prints the table.
        claim: a sentence in our words; empty for a cell.
        rule: "better than", "no worse than", "within" or "monotone in" of a claim (over its cells, their mean or a
            count of them, as the paper's file says), else `PRINTED` or `OWN_ROW`.
        published: printed numbers by the names of their cells.
        ours: what was measured here, or None: mean over people with its 95 % interval, and how.
        profile: how big the run was.
        verdict: of `VERDICTS`; None for a cell, and where nothing was computed.
        reason: why there is nothing, or what stands in its way; empty otherwise.
    """

    paper: str
    id: str
    place: str
    claim: str
    rule: str
    published: dict[str, float]
    ours: dict[str, Any] | None
    profile: str
    verdict: str | None
    reason: str

    @property
    def words(self) -> list[str]:
        """A cell's four words: table, measure, row, condition."""
        return self.id.split(" | ")


def rows(profile: str | None = None, folder: Path | None = None) -> list[Row]:
    """The whole ledger, paper by paper: its claims, then its tables cell by cell with the rows that we add.

    After the papers come the numbers of the one real pair, which belong to no paper's table, named `REAL_PAIR`.

    Args:
        profile: whose results stand in it; the active one when None.
        folder: that holds the papers' folders; the package's when None.
    """
    profile = profile or active().name
    papers = [row for paper in names() for row in _rows_of(load(paper), profile, folder)]
    return [*papers, *_real_pair(profile, folder)]


def printed_tables(paper: Paper) -> list[Table]:
    """Tables and prose that hold results; protocols and numbers of slices are settings."""
    found = [*paper.tables, *paper.prose]
    return [table for table in found if any(cell.measure.better != "neither" for cell in table.cells)]


def _rows_of(paper: Paper, profile: str, folder: Path | None) -> Iterator[Row]:
    measured = results(paper.name, profile, folder)
    claims = measured.get("claims", {})
    yield from (_claim_row(paper, claim, claims.get(claim.id), profile) for claim in paper.claims)
    cells = {cell_name(entry): entry for entry in measured.get("rows", [])}
    for table in printed_tables(paper):
        yield from (_cell_row(paper.name, cell, cells.get(cell.name), profile) for cell in table.cells)
        printed = {cell.name for cell in table.cells}
        for name, entry in cells.items():
            if entry["place"] == table.place and name not in printed:
                yield Row(paper.name, name, table.place, "", OWN_ROW, {}, _ours(entry), profile, None, "")


def _real_pair(profile: str, folder: Path | None) -> Iterator[Row]:
    for entry in real_pair_results(profile, folder).get("rows", ()):
        ours = {**entry, "mean": entry["value"], "low": None, "high": None, "values": [entry["value"]]}
        yield Row(REAL_PAIR, cell_name(entry), entry["place"], "", OWN_ROW, {}, _ours(ours), profile, None, "")


def _claim_row(paper: Paper, claim: Claim, finding: Mapping[str, Any] | None, profile: str) -> Row:
    published = {cell.name: cell.value for cell in (*claim.cells, *claim.against) if cell.printed}
    head = (paper.name, claim.id, claim.place, claim.claim, claim.rule, published)
    if finding is None:
        return Row(*head, None, profile, None, NOT_COMPUTED if claim.cells else _why_no_verdict(paper, claim))
    ours = {key: value for key, value in finding.items() if key not in ("verdict", "reason")}
    return Row(*head, ours, profile, finding["verdict"], finding.get("reason", ""))


def _why_no_verdict(paper: Paper, claim: Claim) -> str:
    """Why a claim without cells has no verdict: words alone, or pictures alone, and which notebook draws them."""
    if not claim.figures:
        return f"told in words alone: {claim.note}"
    drawn = [item.notebook for item in paper.items if item.place in claim.figures and item.notebook]
    return f"a picture without a number ({', '.join(claim.figures)}); drawn in {' and '.join(dict.fromkeys(drawn))}"


def _cell_row(paper: str, cell: Cell, entry: Mapping[str, Any] | None, profile: str) -> Row:
    ours = None if entry is None else _ours(entry)
    reason = NOT_COMPUTED if entry is None else ""
    return Row(paper, cell.name, cell.place, "", PRINTED, {cell.name: cell.value}, ours, profile, None, reason)


def _ours(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: entry[key] for key in _OURS} | {"people": len(entry["values"])}


def verdict_table(paper: str, profile: str | None = None) -> pd.DataFrame:
    """The paper's claims that have a verdict, as a notebook shows them: one a line, by their names.

    Columns: the claim; the verdict; how many comparisons hold; the gain of the one nearest to failing, in the measure's
    unit, with its 95 % interval over people.
    """
    lines = {}
    for row in _rows_of(load(paper), profile or active().name, None):
        if row.verdict is not None:
            held = f"{row.ours['held']} of {row.ours['comparisons']}"
            gain = f"{row.ours['mean']:+.2f} [{row.ours['low']:+.2f}, {row.ours['high']:+.2f}]"
            lines[row.id] = [row.claim, row.verdict, held, gain]
    columns = ["claim", "verdict", "comparisons that hold", "the one nearest to failing"]
    return pd.DataFrame.from_dict(lines, orient="index", columns=columns)


def text(ledger: Sequence[Row]) -> str:
    """The ledger for a terminal: a block per paper, a line per claim, then per table a line per computed cell."""
    lines = []
    for paper in dict.fromkeys(row.paper for row in ledger):
        claims = [row for row in ledger if row.paper == paper and row.claim]
        cells = [row for row in ledger if row.paper == paper and not row.claim]
        decided = sum(row.verdict is not None for row in claims)
        lines += ["", f"{paper}: {len(claims)} claims, {decided} with a verdict" if claims else paper]
        width = max((len(row.id) for row in claims), default=0)
        for row in claims:
            lines.append(f"  {row.id:<{width}}  {row.verdict or row.reason:<18}  {row.claim} ({row.place})")
            if row.ours is not None:
                lines.append(f"  {'':<{width}}  {finding_shown(row.ours)}")
        for place in dict.fromkeys(row.place for row in cells):
            lines += _table_lines(place, [row for row in cells if row.place == place])
    return "\n".join(lines[1:])


def _table_lines(place: str, cells: Sequence[Row]) -> Iterator[str]:
    """A table's head, its cells that have a number of ours (printed, mean, interval), and in short the others."""
    printed = [row for row in cells if row.rule == PRINTED]
    computed = [row for row in cells if row.ours is not None]
    done = sum(row.ours is not None for row in printed)
    yield f"  {place}: {len(printed)} cells printed, {done} computed, {len(computed) - done} of our own"
    width = max((len(row.id) for row in computed), default=0)
    for row in computed:
        digits = decimals(row.paper, place, row.words[1])
        published = as_printed(row) or "-"
        judge = f", by {row.ours['by']}" if row.ours["by"] else ""
        tail = f"tier ({row.ours['tier']}){judge}"
        yield f"    {row.id:<{width}}  printed {published:>7}  here {shown(row.ours, digits)}  {tail}"
    open_rows: dict[str, list[Row]] = {}
    for row in printed:
        if row.ours is None:
            open_rows.setdefault(" | ".join(row.words[:3]), []).append(row)
    for name, group in open_rows.items():
        cells_of_row = ", ".join(f"{row.words[3]} {as_printed(row)}" for row in group)
        yield f"    {name}: printed {cells_of_row}; {group[0].reason}"


def decimals(paper: str, place: str, measure: str) -> int:
    """Digits after the point of ours: as many as the paper prints in the table, and three where 1 is the most.

    A measure of ours that the table does not print has three, too.
    """
    if paper == REAL_PAIR:
        return 2 if measure in ("psnr", "nWD(i,p)", "nWD(t,p)") else 4
    cells = [cell for cell in load(paper).table(place).cells if cell.measure.name == measure]
    three = not cells or cells[0].measure.unit == "1"
    return max([3 if three else 0, *(len(cell.printed.partition(".")[2]) for cell in cells)])


def as_printed(row: Row) -> str:
    """The digits of a cell's row as they stand in the paper; empty where it prints none."""
    return load(row.paper).cell(row.id).printed if row.published else ""


def finding_shown(ours: Mapping[str, Any]) -> str:
    """What a verdict rests on: the gain in the claimed direction with its interval, and how many comparisons hold."""
    numbers = f"gain {ours['mean']:.3g} [{ours['low']:.3g}, {ours['high']:.3g}], {ours['people']} people"
    if ours["comparisons"] == 1:
        return numbers
    return f"{ours['held']} of {ours['comparisons']} comparisons hold; the weakest: {ours['weakest']}, {numbers}"


def shown(ours: Mapping[str, Any], digits: int) -> str:
    """Mean and 95 % interval of a measured cell, as the command line and the pages show it; one person has none."""
    if ours["low"] is None:
        return f"{ours['mean']:.{digits}f}"
    return f"{ours['mean']:.{digits}f} [{ours['low']:.{digits}f}, {ours['high']:.{digits}f}]"


def as_json(ledger: Sequence[Row]) -> str:
    """The ledger as JSON: a list of rows."""
    return json.dumps([asdict(row) for row in ledger], indent=2, allow_nan=False)
