"""The ledger: what five papers claim, beside what comes out here.

A claim's direction is written down in `harmony_lite/papers/PAPER.toml` before anything is measured. Figures of ours are
kept per person in `papers/results/PAPER.PROFILE.json`; the verdict is computed from them, never typed:

- *holds here*: the 95 % bootstrap interval over people excludes zero in the claimed direction;
- *contradicted here*: it excludes zero the other way;
- *undecided*: it includes zero;
- *not testable here*: with the reason.

A claim for which nothing has been computed has no verdict and says "not computed yet".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from harmony_lite.evaluate.published import FOLDER, PAPERS, Claim, load
from harmony_lite.evaluate.statistics import BootstrapInterval, bootstrap_interval
from harmony_lite.profiles import active

__all__ = ["NOT_COMPUTED", "RESULTS", "VERDICTS", "Row", "as_json", "decide", "results", "rows", "text"]

RESULTS = FOLDER / "results"
VERDICTS = ("holds here", "contradicted here", "undecided", "not testable here")
NOT_COMPUTED = "not computed yet"


@dataclass(frozen=True)
class Row:
    """One claim in the ledger.

    Attributes:
        paper: short name.
        id: of the claim, unique in its paper.
        place: where the paper makes it.
        claim: a sentence in our words.
        rule: "better than", "no worse than", "within" or "monotone in".
        published: printed numbers by the names of their cells.
        ours: what was measured here, or None.
        profile: how big the run was.
        verdict: of `VERDICTS`, or None where nothing was computed.
        reason: why there is no verdict, or what stands in its way; empty otherwise.
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


def decide(
    better: Sequence[float], worse: Sequence[float], *, direction: str, generator: torch.Generator
) -> tuple[str, BootstrapInterval]:
    """Verdict on "the first is better than the second", from one value per person each.

    Args:
        better: values of what is claimed to be better, one per person.
        worse: values of the same people for what it is held against.
        direction: "higher" or "lower" is better.
        generator: of the bootstrap.

    Returns:
        One of "holds here", "contradicted here", "undecided", and the interval of the gain in the claimed direction.

    Raises:
        ValueError: another direction, or values that do not pair up.

    >>> generator = torch.Generator().manual_seed(0)
    >>> verdict, gain = decide([3.1, 2.9, 3.3], [1.0, 1.2, 0.9], direction="higher", generator=generator)
    >>> verdict, round(gain.mean, 2)
    ('holds here', 2.07)
    """
    if direction not in ("higher", "lower"):
        raise ValueError(f"direction: found {direction!r}, wanted 'higher' or 'lower'")
    first, second = (better, worse) if direction == "higher" else (worse, better)
    gain = bootstrap_interval(first, second, generator=generator)
    if not gain.excludes_zero:
        return "undecided", gain
    return ("holds here" if gain.low > 0 else "contradicted here"), gain


def results(paper: str, profile: str, folder: Path = RESULTS) -> dict[str, Any]:
    """What was measured for a paper in a profile; an empty dictionary where nothing was.

    Raises:
        ValueError: a file that is not JSON, a claim that the paper does not make, or a verdict outside `VERDICTS`.
    """
    path = folder / f"{paper}.{profile}.json"
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: found text that is not JSON ({error}), wanted measured claims") from error
    known = {claim.id for claim in load(paper).claims}
    for name, entry in found.get("claims", {}).items():
        if name not in known:
            raise ValueError(f"{path}: found the claim {name!r}, wanted one that {paper}.toml lists")
        if entry.get("verdict") not in VERDICTS:
            raise ValueError(f"{path}, {name}: found the verdict {entry.get('verdict')!r}, wanted one of {VERDICTS}")
    return found


def rows(profile: str | None = None, folder: Path = RESULTS) -> list[Row]:
    """The whole ledger, paper by paper in the papers' own order.

    Args:
        profile: whose results stand in it; the active one when None.
        folder: of the results.
    """
    profile = profile or active().name
    return [row for paper in PAPERS for row in _rows_of(paper, profile, folder)]


def _rows_of(paper: str, profile: str, folder: Path) -> Iterator[Row]:
    measured = results(paper, profile, folder).get("claims", {})
    for claim in load(paper).claims:
        ours = measured.get(claim.id)
        yield Row(
            paper=paper,
            id=claim.id,
            place=claim.place,
            claim=claim.claim,
            rule=claim.rule,
            published=_published(claim),
            ours=None if ours is None else {k: v for k, v in ours.items() if k not in ("verdict", "reason")},
            profile=profile,
            verdict=None if ours is None else ours["verdict"],
            reason=NOT_COMPUTED if ours is None else ours.get("reason", ""),
        )


def _published(claim: Claim) -> dict[str, float]:
    return {cell.name: cell.value for cell in (*claim.cells, *claim.against)}


def text(ledger: Sequence[Row]) -> str:
    """The ledger for a terminal: a block per paper, a line per claim, and how many have a verdict."""
    lines = []
    for paper in dict.fromkeys(row.paper for row in ledger):
        mine = [row for row in ledger if row.paper == paper]
        decided = sum(row.verdict is not None for row in mine)
        lines += ["", f"{paper}: {len(mine)} claims, {decided} with a verdict"]
        width = max(len(row.id) for row in mine)
        lines += [f"  {row.id:<{width}}  {row.verdict or row.reason:<18}  {row.claim} ({row.place})" for row in mine]
    return "\n".join(lines[1:])


def as_json(ledger: Sequence[Row]) -> str:
    """The ledger as JSON: a list of rows."""
    return json.dumps([asdict(row) for row in ledger], indent=2, allow_nan=False)
