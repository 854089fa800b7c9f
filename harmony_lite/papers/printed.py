"""The kinds of things that a paper prints: settings, scanners, measures, cells, tables, claims, numbered items."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from statistics import fmean

__all__ = [
    "BETTER", "DIRECTIONS", "KINDS", "PAIRINGS", "RULES", "SCANNER_UNITS", "SCOPES", "Cell", "Claim", "Hyperparameter",
    "Item", "Measure", "Paper", "PrintedScanner", "Table", "matching", "named_cell",
]  # fmt: skip

KINDS = ("equation", "algorithm", "table", "figure")
RULES = ("better than", "no worse than", "within", "monotone in")
DIRECTIONS = ("higher", "lower", "either")
SCOPES = ("each", "mean", "count")
PAIRINGS = ("measure and condition", "condition", "measure")
BETTER = ("higher", "lower", "neither")

# keys of a [[scanners]] entry that hold numbers, with their units; a key that a scanner lacks was not printed for it
SCANNER_UNITS = {
    "field_t": "T", "matrix": "voxels", "voxel_mm": "mm", "in_plane_mm": "mm", "slice_mm": "mm",
    "tr_s": "s", "ti_s": "s", "te_ms": "ms", "tr_ms": "ms", "ti_ms": "ms", "echo_step_ms": "ms",
    "flip_degrees": "degrees", "sessions": "sessions", "paired_training": "subjects", "paired_validation": "subjects",
    "test_subjects_image": "subjects", "test_subjects_downstream": "subjects",
}  # fmt: skip


@dataclass(frozen=True)
class Hyperparameter:
    """A setting as printed.

    Attributes:
        name: short, in this package's words.
        value: a number or several.
        place: section or table.
        about: what it sets, where the name does not say it.
    """

    name: str
    value: float | tuple[float, ...]
    place: str
    about: str


@dataclass(frozen=True)
class PrintedScanner:
    """One column of a scanner table.

    Attributes:
        name: as the paper's tables call it.
        preset: the simulated scanner made after it.
        place: the table.
        words: what is not a number: manufacturer, model, coil, sequence, plane.
        numbers: keys of `SCANNER_UNITS` to numbers; what the paper leaves open is absent.
    """

    name: str
    preset: str
    place: str
    words: Mapping[str, str]
    numbers: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Measure:
    """What a table measures: unit ("1" for none, "not printed"), and which way is better."""

    name: str
    unit: str
    better: str


@dataclass(frozen=True)
class Cell:
    """One printed number.

    Attributes:
        place: "Table 1", or a section for numbers that stand in prose.
        measure: its unit and which way is better.
        row: usually a method.
        condition: usually a scanner, a domain or a pair of them.
        value: in the measure's unit.
        printed: the same as it is printed.
        deviation: standard deviation, where the paper gives one.
        printed_deviation: as printed.
        starred: marked as significant; the table's note says against what.
    """

    place: str
    measure: Measure
    row: str
    condition: str
    value: float
    printed: str
    deviation: float | None = None
    printed_deviation: str | None = None
    starred: bool = False

    @property
    def name(self) -> str:
        """The cell's four words with bars between."""
        return " | ".join((self.place, self.measure.name, self.row, self.condition))

    def covers(self, other: Cell) -> bool:
        """Whether another cell has the same four words, where `*` stands for any."""
        return all(word in ("*", found) for word, found in zip(_words(self.name), _words(other.name), strict=True))


@dataclass(frozen=True)
class Table:
    """A printed table, or, with `numbered` false, numbers that stand in prose."""

    place: str
    title: str
    cells: tuple[Cell, ...]
    note: str = ""
    marks: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    numbered: bool = True


@dataclass(frozen=True)
class Claim:
    """A claim of the paper in our words, and what would decide it.

    Attributes:
        id: unique in its paper.
        place: where the paper makes it.
        claim: a sentence.
        rule: of `RULES`. "better than" and "no worse than" set `cells` against `against`; "within" asks that they
            differ by at most `limit` (or, with nothing against, that they are at most `limit`); "monotone in" asks
            that the rows of `cells`, in their order, change in `direction` throughout.
        direction: "higher" or "lower", or "either" for "within".
        cells: what it speaks of.
        against: what that is held against.
        figures: figures it speaks of; a claim without cells rests on these. A figure prints no cells: where `cells` or
            `against` name one, they are patterns of measured ones (`among`).
        note: what decides a claim that has neither cells nor figures, or what is our own reading.
        over: "each" cell, the "mean" over conditions, or a "count" of cells.
        count: how many cells, where `over` is "count".
        pair: cells are compared where these agree.
        baseline: two cells to be subtracted, from `cells` and from `against`, where the claim is about a gain.
        limit: of the rule "within".
        margin: the difference that the paper states, in the measure's unit.
        share: of the value that the cells are held against: 0.8 asks for four fifths of it.
        ours: expected here, of rows that the paper may not have; its cells are patterns of measured ones (`among`).
    """

    id: str
    place: str
    claim: str
    rule: str
    direction: str
    cells: tuple[Cell, ...] = ()
    against: tuple[Cell, ...] = ()
    figures: tuple[str, ...] = ()
    over: str = "each"
    count: int = 0
    pair: str = "measure and condition"
    baseline: tuple[Cell, ...] = ()
    limit: float | None = None
    margin: float | None = None
    note: str = ""
    share: float = 1.0
    ours: bool = False

    def among(self, names: Iterable[str]) -> Claim:
        """The claim on measured cells: a pattern becomes those of these names that match it, a printed cell stays.

        Args:
            names: of measured cells, four words each.
        """
        measured = [named_cell(name, self.id) for name in names]

        def named(cell: Cell) -> list[Cell]:
            return [cell] if cell.printed else [one for one in measured if cell.covers(one)]

        parts = ("cells", "against", "baseline")
        return replace(
            self, **{part: tuple(one for cell in getattr(self, part) for one in named(cell)) for part in parts}
        )

    def borne_out(self) -> bool | None:
        """Whether the paper's own printed numbers say what the claim says; None where it has no printed cells."""
        if not self.cells or not all(cell.printed for cell in (*self.cells, *self.against)):
            return None
        if self.rule == "monotone in":
            rows = list(dict.fromkeys(cell.row for cell in self.cells))
            groups = [[c for c in self.cells if c.row == row] for row in rows]
            steps = zip(groups, groups[1:], strict=False)
            return all(self._holds(b.value, a.value) for low, high in steps for a, b in self._pairs(low, high))
        own, other = self._values(self.cells, 0), self._values(self.against, -1)
        if not other:
            return all(abs(value) <= self._limit for _, value in own)
        if self.over == "mean":
            own, other = _means(own), _means(other)
        held = [
            all(self._holds(value, bar) for rival, bar in other if self.matches(cell, rival)) for cell, value in own
        ]
        return sum(held) >= self.count if self.over == "count" else all(held)

    @property
    def _limit(self) -> float:
        return 0.0 if self.limit is None else self.limit

    def _values(self, cells: tuple[Cell, ...], position: int) -> list[tuple[Cell, float]]:
        floor = self.baseline[position].value if self.baseline else 0.0
        return [(cell, cell.value - floor) for cell in cells]

    def _pairs(self, first: list[Cell], second: list[Cell]) -> Iterator[tuple[Cell, Cell]]:
        return ((a, b) for a in first for b in second if self.matches(a, b))

    def matches(self, a: Cell, b: Cell) -> bool:
        """Whether two cells are to be compared with each other, as `pair` says."""
        return ("measure" not in self.pair or a.measure.name == b.measure.name) and (
            "condition" not in self.pair or a.condition == b.condition
        )

    def _holds(self, value: float, bar: float) -> bool:
        gain = value - bar if self.direction == "higher" else bar - value
        if self.rule == "within":
            return abs(value - bar) <= self._limit + 1e-9  # both numbers are rounded decimals
        return gain >= 0 if self.rule == "no worse than" else gain > 0


@dataclass(frozen=True)
class Item:
    """One numbered equation, algorithm, table or figure, and where it is computed here.

    Attributes:
        kind: of `KINDS`.
        number: as printed.
        place: as the tables and claims name it; "supplement Table 1" where a supplement counts anew.
        about: what it is, in one line.
        notebook: the notebook and cell that shows it.
        function: what computes it.
        reason: why nothing is computed, where both are empty.
    """

    kind: str
    number: str
    place: str
    about: str
    notebook: str = ""
    function: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Paper:
    """All that one paper's file holds.

    Attributes:
        number: the papers' order.
        name: of its folder.
        short: name in prose, such as "MISPEL".
        title: in full.
        authors: in the printed order.
        venue: where it appeared.
        year: of that.
        identifier: arXiv number, or empty.
        hyperparameters: by name.
        methods: row of a table to the name of the method in this package.
        conditions: condition of a table to the presets that it is played by.
        scanners: as printed.
        tables: every numbered table of paper and supplement.
        prose: numbers that stand in the text alone.
        claims: in the paper's order.
        items: the index.
    """

    number: int
    name: str
    short: str
    title: str
    authors: tuple[str, ...]
    venue: str
    year: int
    identifier: str
    hyperparameters: Mapping[str, Hyperparameter]
    methods: Mapping[str, str]
    conditions: Mapping[str, tuple[str, ...]]
    scanners: tuple[PrintedScanner, ...]
    tables: tuple[Table, ...]
    prose: tuple[Table, ...]
    claims: tuple[Claim, ...]
    items: tuple[Item, ...]

    def table(self, place: str) -> Table:
        """A table by its place; ValueError names the places there are."""
        for table in (*self.tables, *self.prose):
            if table.place == place:
                return table
        places = ", ".join(table.place for table in (*self.tables, *self.prose))
        raise ValueError(f"{self.name}: found no table {place!r}, wanted one of {places}")

    def cells(self, pattern: str) -> tuple[Cell, ...]:
        """Cells whose four words match a pattern; `*` stands for any word but the first.

        Raises:
            ValueError: not four words, an unknown table, or a pattern that no cell matches.
        """
        return matching({table.place: table for table in (*self.tables, *self.prose)}, pattern, self.name)

    def cell(self, name: str) -> Cell:
        """The one cell of this name.

        >>> from harmony_lite.papers.published import load
        >>> load("blindharmony").cell("Table 1 | ssim | BlindHarmony | Exp").value
        0.985
        """
        found = self.cells(name)
        if len(found) != 1:
            raise ValueError(f"{self.name}: found {len(found)} cells for {name!r}, wanted one")
        return found[0]


def _means(values: list[tuple[Cell, float]]) -> list[tuple[Cell, float]]:
    """One mean for each measure and row, on the first of its cells."""
    groups: dict[tuple[str, str], list[tuple[Cell, float]]] = {}
    for cell, value in values:
        groups.setdefault((cell.measure.name, cell.row), []).append((cell, value))
    return [(group[0][0], fmean(value for _, value in group)) for group in groups.values()]


def _words(name: str) -> list[str]:
    return [word.strip() for word in name.split("|")]


def named_cell(name: str, where: str) -> Cell:
    """A cell of four words and no printed number; ValueError, with `where`, for another number of words."""
    words = _words(name)
    if len(words) != 4:
        raise ValueError(f"{where}: found {name!r}, wanted table | measure | row | condition")
    place, measure, row, condition = words
    return Cell(place, Measure(measure, "", "neither"), row, condition, math.nan, "")


def matching(tables: Mapping[str, Table], pattern: str, where: str) -> tuple[Cell, ...]:
    """Cells of some tables whose four words match a pattern; ValueError for an unknown table or an empty match."""
    wanted = named_cell(pattern, where)
    if wanted.place not in tables:
        raise ValueError(f"{where}: found no table {wanted.place!r}, wanted one of {', '.join(tables)}")
    found = tuple(cell for cell in tables[wanted.place].cells if wanted.covers(cell))
    if not found:
        raise ValueError(f"{where}: found no cell {pattern!r}")
    return found
