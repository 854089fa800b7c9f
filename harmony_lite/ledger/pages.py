"""The ledger as pages of the book, in Markdown: one for each paper, and the front page's counts and real pair.

They show what `harmony-lite ledger` prints, laid out as the papers' own tables are.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harmony_lite.ledger.real_pair import ON_OTHER_SLICES, TO_ONE_LOOK, TO_ONE_REFERENCE
from harmony_lite.ledger.results import results
from harmony_lite.ledger.rows import (
    NOT_COMPUTED,
    PRINTED,
    REAL_PAIR,
    Row,
    as_printed,
    decimals,
    finding_shown,
    printed_tables,
    rows,
    shown,
)
from harmony_lite.papers.experiments import computed_papers, experiment
from harmony_lite.papers.printed import Cell, Item, Measure, Paper, Table
from harmony_lite.papers.published import load, names
from harmony_lite.papers.sweeps import SHORT_TRAINING
from harmony_lite.profiles import active

__all__ = ["MARKERS", "pages"]

TIERS = {
    "i": "tier (i), global intensity maps",
    "ii": "tier (ii), simulated scanners",
    "iii": "tier (iii), real scans",
}
ARROWS = {"higher": "higher is better", "lower": "lower is better"}
MARKERS = ("<!-- ledger:summary -->", "<!-- ledger:papers -->", "<!-- ledger:real pair -->")


def pages(front: str, profile: str | None = None, folder: Path | None = None) -> dict[str, str]:
    """Markdown by file name: `ledger.md`, and `ledger_PAPER.md` for each paper.

    Args:
        front: text of `ledger.md`, which says how to read the ledger; its three `MARKERS` are filled.
        profile: whose results; the active one when None.
        folder: that holds the papers' folders; the package's when None.

    Raises:
        ValueError: a front page without one of the markers.
    """
    profile = profile or active().name
    everything = rows(profile, folder)
    pair = [row for row in everything if row.paper == REAL_PAIR]
    parts = (_summary(everything), [f"ledger_{paper}" for paper in names()], _real_pair(pair, profile))
    for marker, lines in zip(MARKERS, parts, strict=True):
        if front.count(marker) != 1:
            raise ValueError(f"ledger.md: found {front.count(marker)} times {marker}, wanted it once")
        front = front.replace(marker, "\n".join(lines))
    found = {"ledger.md": front}
    for paper in names():
        own = [row for row in everything if row.paper == paper]
        found[f"ledger_{paper}.md"] = "\n".join(_page(load(paper), own, profile, folder)) + "\n"
    return found


def _summary(everything: Sequence[Row]) -> Iterator[str]:
    yield from _table(
        ["Paper", "claims", "with a verdict", "cells printed", "of them computed", "cells beside them"],
        [_counts(paper, [row for row in everything if row.paper == paper]) for paper in names()],
    )


def _counts(paper: str, own: Sequence[Row]) -> list[str]:
    claims, cells = [row for row in own if row.claim], [row for row in own if not row.claim]
    printed = [row for row in cells if row.rule == PRINTED]
    numbers = [
        len(claims),
        sum(row.verdict is not None for row in claims),
        len(printed),
        sum(row.ours is not None for row in printed),
        len(cells) - len(printed),
    ]
    return [f"[{load(paper).short}](ledger_{paper}.md)", *map(str, numbers)]


def _page(paper: Paper, own: Sequence[Row], profile: str, folder: Path | None) -> Iterator[str]:
    link = (
        f", [{paper.identifier}](https://arxiv.org/abs/{paper.identifier.split(':')[-1]})" if paper.identifier else ""
    )
    yield f"# Ledger: {paper.short}\n"
    yield f"{', '.join(paper.authors)}: *{paper.title}*. {paper.venue}{link}.\n"
    yield _provenance(results(paper.name, profile, folder).get("made"), profile) + "\n"
    if paper.name in computed_papers():
        yield f"**How it was measured here.** {_method_of(paper.name)}\n"
    decided = sum(row.verdict is not None for row in own if row.claim)
    yield f"{decided} of {len(paper.claims)} claims have a verdict; they stand after the tables.\n"
    for table in printed_tables(paper):
        cells = [row for row in own if not row.claim and row.place == table.place]
        yield from _printed_table(paper, table, cells)
    yield "\n## Claims\n"
    yield from _claims(own)
    yield "\n## Everything that the paper numbers\n"
    yield from _table(["Item", "What it is", "Where it is computed"], [_item(item) for item in paper.items])


def _method_of(paper: str) -> str:
    """What the experiment's own module says of it, after its first line, as one paragraph."""
    text = inspect.cleandoc(experiment(paper).__doc__ or "")
    return " ".join(text.split("\n\n", 1)[1].split())


def _provenance(made: dict | None, profile: str) -> str:
    if made is None:
        return f"Nothing was computed in the profile {profile} yet."
    return (
        f"Computed by `{made['command']}` in the profile {profile}: {len(made['people'])} held-out people of seed "
        f"{made['seed']}, {made['spacing mm']:g} mm voxels, methods fitted to {made['training people']} other people; "
        f"{made['date']}, {made['minutes of measuring']:.0f} processor minutes of measuring on {made['hardware']}, "
        f"commit `{made['commit'][:12]}`."
    )


def _claim(row: Row) -> list[str]:
    verdict = f"**{row.verdict}**" if row.verdict else f"*{row.reason}*"
    numbers = finding_shown(row.ours).replace(" | ", " · ") if row.ours else ""
    return [row.claim, row.place, verdict, numbers]


def _claims(own: Sequence[Row]) -> Iterator[str]:
    """Claims with a verdict first."""
    claims = sorted((row for row in own if row.claim), key=lambda row: row.verdict is None)
    yield from _table(["Claim", "Where", "Verdict", "Numbers"], [_claim(row) for row in claims])


def _printed_table(paper: Paper, table: Table, cells: Sequence[Row]) -> Iterator[str]:
    yield f"\n## {table.place}: {table.title}\n"
    if table.note:
        yield f"{table.note[0].upper()}{table.note[1:]}.\n"
    by_id = {row.id: row for row in cells}
    heads = {cell.measure.name: _unit(cell.measure) for cell in table.cells}
    heads |= {row.words[1]: ", not printed" for row in cells if row.words[1] not in heads}
    for name, about in heads.items():
        printed = [cell for cell in table.cells if cell.measure.name == name]
        yield f"**{name}**{about}\n"
        yield from _measure_table(paper, table.place, name, printed, by_id)
        yield from _judged_by(paper, [row.ours for row in cells if row.words[1] == name and row.ours])


def _unit(measure: Measure) -> str:
    unit = "" if measure.unit == "1" else f" ({'ml here' if measure.unit == 'not printed' else measure.unit})"
    return f"{unit}, {ARROWS[measure.better]}" if measure.better in ARROWS else unit


def _measure_table(
    paper: Paper, place: str, measure: str, printed: Sequence[Cell], by_id: dict[str, Row]
) -> Iterator[str]:
    """Rows by conditions; each cell the printed number above ours."""
    digits = decimals(paper.name, place, measure)
    conditions = list(dict.fromkeys(cell.condition for cell in printed))
    own = [row for row in by_id.values() if row.rule != PRINTED and row.words[1] == measure]
    conditions += [word for word in dict.fromkeys(row.words[3] for row in own) if word not in conditions]
    lines = []
    for name in dict.fromkeys([cell.row for cell in printed] + [row.words[2] for row in own]):
        found = [by_id.get(" | ".join((place, measure, name, condition))) for condition in conditions]
        is_printed = any(row is not None and row.rule == PRINTED for row in found)
        computed = any(row is not None and row.ours for row in found)
        head = name if is_printed else f"*{name}*"
        head += "" if computed else f"<br>*{NOT_COMPUTED}*"
        lines.append([head, *(_cell(row, digits, computed) for row in found)])
    yield from _table(["", *conditions], lines)


def _cell(row: Row | None, digits: int, computed: bool) -> str:
    if row is None:
        return ""
    published = as_printed(row)
    if not computed:
        return published
    mean, _, interval = shown(row.ours, digits).partition(" ") if row.ours else ("", "", "")
    return f"{published or '–'}<br>**{mean}** {interval}" if mean else published


def _judged_by(paper: Paper, ours: Sequence[dict[str, Any]]) -> Iterator[str]:
    if not ours:
        return
    short = [entry for entry in ours if entry["variant"] == SHORT_TRAINING]
    tiers = [TIERS[tier] for tier in dict.fromkeys(entry["tier"] for entry in ours)]
    judges = [judge for judge in dict.fromkeys(entry["by"] for entry in ours) if judge]
    people = ", ".join(str(count) for count in dict.fromkeys(entry["people"] for entry in ours if entry not in short))
    by = f", judged by {' and '.join(judges)}" if judges else ""
    said = [f"{people} people{by}"] if people else []
    if short:
        said.append(f"short trainings of `data_scripts/sweep_{paper.name}.py`, {short[0]['people']} people")
    yield f"\nIn each cell the printed number stands above ours: {'; '.join(tiers)}, {'; '.join(said)}.\n"


def _item(item: Item) -> list[str]:
    where = "; ".join(part for part in (_notebook(item.notebook), item.function and f"`{item.function}`") if part)
    reason = f"*{item.reason}*" if item.reason else ""
    return [item.place, item.about, "<br>".join(part for part in (where, reason) if part)]


def _notebook(place: str) -> str:
    if not place:
        return ""
    file, _, section = place.partition(", ")
    return f"[{file}]({file}.ipynb){f', {section}' if section else ''}"


HOW_MEASURED = {  # places of the real pair, but the first
    TO_ONE_REFERENCE: (
        "\n**One reference in**: HAIL, trained on simulated people, beside curves that have the same reference. "
        "nWD(i,p) and nWD(t,p) are its paper's distances in per cent, from the input's histogram and from the "
        "target's.\n"
    ),
    TO_ONE_LOOK: (
        "\n**Both studies brought to one look**, the simulated target's, by methods that are given no reference: do "
        "the two scans then agree better than before? And by how many standard deviations of the brain are lesions "
        "darker than what lies around them?\n"
    ),
    ON_OTHER_SLICES: (
        "\n**Trained on every other slice of this patient**, measured on the rest: methods for paired scans. Slices "
        "are held out, not people. Both scans went through N4 and are divided by their mean.\n"
    ),
}


def _real_pair(pair: Sequence[Row], profile: str) -> Iterator[str]:
    """The one real pair, whose numbers belong to no paper's table."""
    if not pair:
        yield f"*{NOT_COMPUTED}* in the profile {profile}."
        return
    yield (
        "Tier (iii): one patient with two real protocols, 203 days apart (longitudinal MS database of Lesjak and "
        "others, CC-BY). Each method was given the target protocol's scan, the very one that its result is held "
        "against: an upper figure, and one patient has no interval.\n"
    )
    for place in dict.fromkeys(row.place for row in pair):
        if place in HOW_MEASURED:
            yield HOW_MEASURED[place]
        yield from _real_table([row for row in pair if row.place == place])


def _real_table(rows_of_place: Sequence[Row]) -> Iterator[str]:
    names = list(dict.fromkeys(row.words[1] for row in rows_of_place))
    cells = {
        (row.words[2], row.words[1]): shown(row.ours, decimals(REAL_PAIR, row.place, row.words[1]))
        for row in rows_of_place
        if row.ours
    }
    heads = [f"{name} (dB)" if name == "psnr" else name for name in names]
    lines = [[row, *(cells[row, name] for name in names)] for row in dict.fromkeys(row for row, _ in cells)]
    yield from _table(["", *heads], lines)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(line)} |" for line in lines)
