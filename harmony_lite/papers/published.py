"""What the five papers print: settings, scanners, tables cell by cell, claims, and an index of all that they number.

The numbers stand in `harmony_lite/papers/PAPER/published.toml`; a folder with such a file is a paper. A cell is named
by four words with bars between, "Table 1 | psnr | BlindHarmony | Exp": table, measure, row, condition. It keeps the
printed form ("0.810") beside the number, because the digits say how precise the paper is.

Nothing of ours stands in these files but the words, where each item is computed (in the index), and claims marked
`ours = true`: what was expected of our own rows, written down before they were measured.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from decimal import Decimal
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harmony_lite.papers.printed import (
    BETTER,
    DIRECTIONS,
    KINDS,
    PAIRINGS,
    RULES,
    SCANNER_UNITS,
    SCOPES,
    Cell,
    Claim,
    Hyperparameter,
    Item,
    Measure,
    Paper,
    PrintedScanner,
    Table,
    matching,
    named_cell,
)

__all__ = [
    "DIRECTIONS", "FOLDER", "KINDS", "PAIRINGS", "RULES", "SCOPES", "Cell", "Claim", "Hyperparameter", "Item",
    "Measure", "Paper", "PrintedScanner", "Table", "load", "names", "read",
]  # fmt: skip

FOLDER = Path(__file__).parent  # of the papers' folders


@cache
def names() -> tuple[str, ...]:
    """Short names of the papers, in their order: the folders that hold a `published.toml`.

    >>> names()[0]
    'blindharmony'
    """
    papers = [read(path) for path in sorted(FOLDER.glob("*/published.toml"))]
    _distinct([str(paper.number) for paper in papers], "numbers of papers")
    return tuple(paper.name for paper in sorted(papers, key=lambda paper: paper.number))


@cache
def load(name: str) -> Paper:
    """What a paper prints.

    Args:
        name: of `names()`; hyphens and underscores both.

    Raises:
        ValueError: an unknown paper, or a file that contradicts itself.

    >>> load("hail").hyperparameters["lambda_style"].value
    100
    """
    known = name.replace("-", "_")
    if known not in names():
        raise ValueError(f"paper: found {name!r}, wanted one of {', '.join(names())}")
    return read(FOLDER / known / "published.toml")


def read(path: Path) -> Paper:
    """Read one file of this kind.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not TOML, a key that is missing or unknown, a word outside its allowed set, a cell named that is not
            there, a name given twice.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: found no file, wanted a paper's numbers as TOML")
    try:
        with path.open("rb") as file:
            document = tomllib.load(file, parse_float=Decimal)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise ValueError(f"{_shown(path)}: found text that is not TOML ({fault}), wanted a paper's numbers") from fault
    try:
        return _paper(document, _shown(path))
    except (KeyError, TypeError, AttributeError) as fault:
        raise ValueError(f"{_shown(path)}: found a key missing or of the wrong kind ({fault})") from fault


def _shown(path: Path) -> str:
    """A file's name with its folder, since all have the same name."""
    return f"{path.parent.name}/{path.name}"


def _paper(document: Mapping[str, Any], file: str) -> Paper:
    _known(document, file, "paper hyperparameters methods conditions scanners table prose claim item")
    _known(document["paper"], f"{file}, paper", "number name short title authors venue year identifier")
    scanners = document.get("scanners", [])
    tables = tuple(_table(entry, file, scanners, numbered=True) for entry in document["table"])
    prose = tuple(_table(entry, file, [], numbered=False) for entry in document.get("prose", []))
    items = tuple(_item(entry, file) for entry in document["item"])
    by_place = {table.place: table for table in (*tables, *prose)}
    _distinct([table.place for table in (*tables, *prose)], f"{file}, tables")
    places = [item.place for item in items]
    _distinct(places, f"{file}, items")
    for table in tables:
        _one_of(table.place, f"{file}, tables", tuple(places))
    claims = tuple(_claim(entry, file, by_place, items) for entry in document["claim"])
    _distinct([claim.id for claim in claims], f"{file}, claims")
    head = document["paper"]
    return Paper(
        **{key: head[key] for key in ("number", "name", "short", "title", "venue", "year", "identifier")},
        authors=tuple(head["authors"]),
        # `load` hands the same object to everybody: nobody may write into it
        hyperparameters=MappingProxyType(
            {key: _setting(key, entry, file) for key, entry in document["hyperparameters"].items()}
        ),
        methods=MappingProxyType(dict(document["methods"])),
        conditions=MappingProxyType({key: tuple(presets) for key, presets in document["conditions"].items()}),
        scanners=tuple(_scanner(entry, file) for entry in scanners),
        tables=tables,
        prose=prose,
        claims=claims,
        items=items,
    )


def _known(entry: Mapping[str, Any], where: str, keys: str) -> None:
    unknown = sorted(set(entry) - set(keys.split()))
    if unknown:
        raise ValueError(f"{where}: found {', '.join(unknown)}, wanted some of {', '.join(keys.split())}")


def _one_of(word: str, where: str, allowed: tuple[str, ...]) -> str:
    if word not in allowed:
        raise ValueError(f"{where}: found {word!r}, wanted one of {', '.join(allowed)}")
    return word


def _distinct(names: list[str], where: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{where}: found {', '.join(twice)} twice, wanted every name once")


def _number(value: Decimal | int) -> float:
    return value if isinstance(value, int) else float(value)


def _setting(name: str, entry: Mapping[str, Any], file: str) -> Hyperparameter:
    _known(entry, f"{file}, {name}", "value place about")
    value = entry["value"]
    value = tuple(_number(each) for each in value) if isinstance(value, list) else _number(value)
    return Hyperparameter(name, value, entry["place"], entry["about"])


def _scanner(entry: Mapping[str, Any], file: str) -> PrintedScanner:
    words = ("manufacturer", "model", "coil", "sequence", "plane")
    _known(entry, f"{file}, scanners", " ".join(("name", "preset", "place", *words, *SCANNER_UNITS)))
    return PrintedScanner(
        entry["name"],
        entry["preset"],
        entry["place"],
        {key: entry[key] for key in words if key in entry},
        MappingProxyType(
            {key: tuple(_number(value) for value in values) for key, values in _scanner_numbers(entry).items()}
        ),
    )


def _scanner_numbers(entry: Mapping[str, Any]) -> dict[str, list]:
    """What a scanner's entry says in numbers, as a list each, with the printed digits."""
    numbers = {key: entry[key] for key in SCANNER_UNITS if key in entry}
    return {key: value if isinstance(value, list) else [value] for key, value in numbers.items()}


def _table(entry: Mapping[str, Any], file: str, scanners: list[Mapping[str, Any]], *, numbered: bool) -> Table:
    place = entry["place"]
    where = f"{file}, {place}"
    _known(entry, where, "place title note marks measure held_in")
    if entry.get("held_in"):
        cells = tuple(cell for scanner in scanners if scanner["place"] == place for cell in _scanner_cells(scanner))
    else:
        cells = tuple(cell for measure in entry["measure"] for cell in _cells(measure, place, where))
    if not cells:
        raise ValueError(f"{where}: found no cells, wanted at least one")
    return Table(place, entry["title"], cells, entry.get("note", ""), entry.get("marks", {}), numbered)


def _scanner_cells(entry: Mapping[str, Any]) -> Iterator[Cell]:
    for key, values in _scanner_numbers(entry).items():
        measure = Measure(key, SCANNER_UNITS[key], "neither")
        for axis, value in enumerate(values):
            condition = "as printed" if len(values) == 1 else f"axis {axis + 1}"
            yield Cell(entry["place"], measure, entry["name"], condition, _number(value), str(value))


def _cells(entry: Mapping[str, Any], place: str, where: str) -> Iterator[Cell]:
    _known(entry, f"{where}, {entry['name']}", "name unit better values deviations starred")
    measure = Measure(entry["name"], entry["unit"], _one_of(entry["better"], where, BETTER))
    deviations, starred = entry.get("deviations", {}), entry.get("starred", {})
    cells = {(row, condition) for row, values in entry["values"].items() for condition in values}
    marked = {(row, condition) for part in (deviations, starred) for row, found in part.items() for condition in found}
    if marked - cells:
        raise ValueError(f"{where}: found deviations or stars at {sorted(marked - cells)}, where there are no values")
    for row, values in entry["values"].items():
        for condition, value in values.items():
            spread = deviations.get(row, {}).get(condition)
            yield Cell(
                place, measure, row, condition, _number(value), str(value),
                None if spread is None else _number(spread), None if spread is None else str(spread),
                condition in starred.get(row, ()),
            )  # fmt: skip


def _claim(entry: Mapping[str, Any], file: str, tables: Mapping[str, Table], items: tuple[Item, ...]) -> Claim:
    where = f"{file}, claim {entry['id']}"
    _known(entry, where, " ".join(each.name for each in fields(Claim)))
    is_ours = entry.get("ours", False)
    figures = tuple(item.place for item in items if item.kind == "figure")
    for name in entry.get("figures", ()):
        _one_of(name, where, figures)

    def cells_of(pattern: str) -> Sequence[Cell]:
        if is_ours or pattern.partition(" | ")[0] in entry.get("figures", ()):
            return [named_cell(pattern, where)]
        return matching(tables, pattern, where)

    found = {
        part: tuple(cell for pattern in entry.get(part, ()) for cell in cells_of(pattern))
        for part in ("cells", "against", "baseline")
    }
    claim = Claim(
        **{key: entry[key] for key in ("id", "place", "claim")},
        rule=_one_of(entry["rule"], where, RULES),
        direction=_one_of(entry["direction"], where, DIRECTIONS),
        **found,
        figures=tuple(entry.get("figures", ())),
        over=_one_of(entry.get("over", "each"), where, SCOPES),
        count=entry.get("count", 0),
        pair=_one_of(entry.get("pair", "measure and condition"), where, PAIRINGS),
        **{key: _number(entry[key]) for key in ("limit", "margin", "share") if key in entry},
        note=entry.get("note", ""),
        ours=is_ours,
    )
    return _consistent(claim, where)


def _consistent(claim: Claim, where: str) -> Claim:
    """A claim that can be decided: something to compare, each cell with its rival, words that fit each other."""
    if not (claim.cells or claim.figures or claim.note):
        raise ValueError(f"{where}: found no cells, figures or note, wanted what the claim speaks of")
    if (claim.rule == "within") != (claim.direction == "either") or (claim.rule == "within") != (
        claim.limit is not None
    ):
        raise ValueError(f"{where}: found {claim.rule}, {claim.direction}, limit {claim.limit}, wanted them to fit")
    if claim.cells and not claim.against and claim.rule in ("better than", "no worse than"):
        raise ValueError(f"{where}: found nothing to hold the cells against")
    if claim.against and claim.rule != "monotone in":
        alone = [c.name for c in claim.cells if not any(claim.matches(c, rival) for rival in claim.against)]
        if alone:
            raise ValueError(f"{where}: found nothing to hold {alone[0]} against")
    if len(claim.baseline) not in (0, 2):
        raise ValueError(f"{where}: found {len(claim.baseline)} baseline cells, wanted none or two")
    if claim.rule == "monotone in" and len({cell.row for cell in claim.cells}) < 2:
        raise ValueError(f"{where}: found one row for 'monotone in', wanted two or more")
    if claim.over == "count" and (not claim.against or claim.baseline or claim.rule != "better than"):
        raise ValueError(f"{where}: found a count of {claim.rule}, wanted 'better than', rivals, and no baseline")
    return claim


def _item(entry: Mapping[str, Any], file: str) -> Item:
    where = f"{file}, item {entry['place']}"
    _known(entry, where, " ".join(each.name for each in fields(Item)))
    item = Item(**entry)
    _one_of(item.kind, where, KINDS)
    if not (item.notebook or item.function or item.reason):
        raise ValueError(f"{where}: found no notebook, function or reason, wanted one of them")
    return item
