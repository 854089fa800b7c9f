"""Compute our rows of the five papers' tables on held-out people, and the verdicts on their claims.

    python data_scripts/compute_ledger.py [PAPER ...] [--jobs N] [--verdicts]
    python data_scripts/compute_ledger.py PAPER --rows ROW ... [--jobs N]

Writes `harmony_lite/papers/PAPER/results.PROFILE.json`, and `harmony_lite/ledger/real_pair.PROFILE.json` where the real
scans are there.
What is done for one person is kept in the cache folder: an interrupted run goes on where it stopped. Nothing that was
made by other code than the present one is taken over. `--verdicts` measures nobody: it takes over what the paper's
sweep holds and judges the claims anew on the stored values, as after a change of what a weights' card says. `--rows`
measures some rows alone, as of a comparator that comes later, and puts them beside the stored ones; nothing is fitted
but what these rows ask for. Rows without a method are measured again with them, and have to come out as stored, or
nothing is written.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from datetime import date
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import prepare_open_ms
import torch
from tqdm import tqdm

import harmony_lite
from harmony_lite.cohort import Cohort
from harmony_lite.evaluate.fits import Fitted
from harmony_lite.evaluate.statistics import bootstrap_interval
from harmony_lite.images import nifti
from harmony_lite.interruption import terminated_as_interrupted
from harmony_lite.ledger import cell_name, real_pair, rows, text
from harmony_lite.ledger.convergence import trained_too_briefly
from harmony_lite.ledger.results import WORDS, real_pair_path, results, results_path, write
from harmony_lite.ledger.rows import REAL_PAIR
from harmony_lite.ledger.verdicts import judge
from harmony_lite.papers import experiments
from harmony_lite.papers.published import load
from harmony_lite.papers.sweeps import SHORT_TRAINING
from harmony_lite.profiles import active
from harmony_lite.storage import cache_folder, written_whole
from harmony_lite.weights import current_commit, current_hardware

__all__ = ["assembled", "code_hash", "main"]

PACKAGE = Path(harmony_lite.__file__).parent
COMMAND = "make ledger"
REAL_DATA = Path(os.environ.get("HARMONY_REAL_DATA") or PACKAGE.parents[1] / "shared" / "data")
REAL_PATIENT = "open_ms_patient01"
DIGITS = 6  # significant ones of a stored value
SAME = 2e-3  # by which a value measured again may differ, as processors round
LIBRARIES = ("torch", "numpy", "scipy", "scikit-image", "SimpleITK", "dipy", "intensity-normalization")


_FOLDERS: dict[str | None, Path] = {}  # found once a run: what is edited meanwhile is not what is running
# rooms that only show or ask: no value depends on them
NO_VALUES = ("show", "exercises", "ledger", "own_scans", "cli.py", "command_help.py")


def code_hash(paper: str | None = None) -> str:
    """Hash of what a value depends on: code, libraries, shipped weights, profile, one paper's printed tables.

    All of the package's code counts, but what only shows or asks; of other papers' folders all but the experiments.
    """
    digest = hashlib.sha256(repr([active(), *((name, version(name)) for name in LIBRARIES)]).encode())
    for path in sorted(path for path in PACKAGE.rglob("*") if _counts(path.relative_to(PACKAGE), paper)):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _counts(path: Path, paper: str | None) -> bool:
    """Whether a value of a paper, or a fit of any paper where it is None, may depend on a file of the package."""
    room, name = path.parts[0], path.name
    if room in NO_VALUES or name.startswith("exercises_"):
        return False
    if room == "papers" and name in ("experiment.py", "published.toml"):
        return path.parts[1] == paper
    return path.suffix in (".py", ".safetensors")


def work_folder(paper: str | None = None) -> Path:
    """Where unfinished work is kept, one folder for each state of the code: a paper's people, or what was fitted."""
    if paper not in _FOLDERS:
        _FOLDERS[paper] = cache_folder() / "ledger" / active().name / f"{paper or 'fitted'}-{code_hash(paper)}"
    return _FOLDERS[paper]


# ------------------------------------------------------------------------------------------- one step, in any process


def simulate_person(paper: str, position: int) -> None:
    """Simulate one of the people on a paper's scanners, so that later steps find the scans in the cache."""
    training, _, test = experiments.people_of(paper, active())
    person = [group.subset([i]) for group in (test, training) for i in range(len(group))][position]
    for scanner in person.scanners:
        person.scans(scanner)
    fitted = Fitted(work_folder())
    if any(fit.corrected for fit in experiments.fits(paper)):
        for scanner in person.scanners:
            fitted.without_fields(person).scans(scanner)


def fit(paper: str, position: int) -> None:
    """Fit one of the things that a paper's rows need."""
    Fitted(work_folder())(experiments.fits(paper)[position])


def measure_person(paper: str, position: int, rows: Sequence[str] = ()) -> None:
    """Measure one held-out person, in all rows or in some, and keep the values."""
    path = kept(paper, position, rows)
    start = time.perf_counter()
    person = experiments.people_of(paper, active())[2].subset([position])
    found = experiments.measure(paper, person, Fitted(work_folder()), rows)
    content = {
        "person": person.subjects[0],
        "made": here(),
        "minutes": (time.perf_counter() - start) / 60,
        "found": [asdict(one) for one in found],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as part:
        part.write_text(json.dumps(content), encoding="utf-8")


def kept(paper: str, position: int, rows: Sequence[str] = ()) -> Path:
    """Where one person's values are kept."""
    some = f"-{hashlib.sha256(repr(sorted(rows)).encode()).hexdigest()[:8]}" if rows else ""
    return work_folder(paper) / f"test-{position:03d}{some}.json"


# --------------------------------------------------------------------------------------------------- steps in parallel


def steps(papers: Sequence[str], rows: Sequence[str] = ()) -> Iterator[tuple[str, list[tuple]]]:
    """What is left to do, in three rounds; within a round every step, a function and what it takes, is on its own.

    For some rows nothing is fitted ahead: a row's method is fitted where it is asked for, if it has no shipped weights.
    """
    groups = {paper: experiments.people_of(paper, active()) for paper in papers}
    unfinished = {p: [i for i in range(len(groups[p][2])) if not kept(p, i, rows).is_file()] for p in papers}
    papers = [paper for paper in papers if unfinished[paper]]
    fits = {p: [(i, one) for i, one in enumerate(experiments.fits(p)) if not (rows or one.is_shipped)] for p in papers}
    people = {p: len(groups[p][2]) + len(groups[p][0]) * bool(fits[p]) for p in papers}
    yield "people", [(simulate_person, paper, i) for paper in papers for i in range(people[paper])]
    needed: dict[Any, tuple[Callable, str, int]] = {}  # two papers may need the same fit
    for paper in papers:
        for i, one in fits[paper]:
            needed.setdefault(one.label, (fit, paper, i))
    yield "fits", list(needed.values())
    measuring = ((measure_person, p, i, rows) for p in papers for i in unfinished[p])
    yield "test people", sorted(measuring, key=lambda one: one[2])


def run(papers: Sequence[str], jobs: int, rows: Sequence[str] = ()) -> None:
    """Take every step, several at a time; an interruption waits for the steps in hand and loses nothing."""
    for name, round_ in steps(papers, rows):
        if not round_:
            continue
        context = multiprocessing.get_context("spawn")
        folders = {paper: work_folder(paper) for paper in (None, *experiments.computed_papers())}
        with ProcessPoolExecutor(jobs, mp_context=context, initializer=start_worker, initargs=(folders,)) as pool:
            waiting = [pool.submit(*step) for step in round_]
            try:
                for done in tqdm(as_completed(waiting), total=len(waiting), desc=name, unit="step"):
                    done.result()
            except BaseException:
                tqdm.write("stopping: the steps in hand are finished first", file=sys.stderr)
                pool.shutdown(wait=True, cancel_futures=True)  # the steps in hand are finished, no other is begun
                raise


def start_worker(folders: dict[str | None, Path]) -> None:
    """A process of the pool uses one thread, since there are as many as cores; the parent is interrupted, not it.

    It keeps its work where the parent does, even if a file has changed since.
    """
    _FOLDERS.update(folders)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    os.environ["TQDM_DISABLE"] = "1"


# ------------------------------------------------------------------------------------------------------------ results


def assembled(paper: str, some: Sequence[str] = ()) -> dict[str, Any]:
    """A paper's results without the verdicts: how they were made, a row per cell with a value per person.

    With the names of some rows these alone, as they were measured without the others.
    """
    profile = active()
    count = len(experiments.people_of(paper, active())[2])
    people = [json.loads(kept(paper, i, some).read_text(encoding="utf-8")) for i in range(count)]
    hashes: dict[tuple[str, str], dict[str, str]] = {}  # by method and variant, then by target
    for one in experiments.fits(paper):
        hashes.setdefault((one.name, one.variant), {})[one.scanners[0]] = one.shipped_hash()
    rows = [_row(group, hashes) for group in zip(*(person["found"] for person in people), strict=True)]
    return {
        "paper": paper,
        "profile": profile.name,
        "made": made(
            [person["person"] for person in people],
            sum(person["minutes"] for person in people),
            {name: ", ".join(sorted({person["made"][name] for person in people})) for name in people[0]["made"]},
        ),
        "rows": rows,
    }


def with_rows(stored: dict[str, Any], found: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Stored results with some rows measured since, in the place of earlier ones or behind those of their table.

    Args:
        stored: the whole results of a paper.
        found: the same of `names` and of the rows without a method.
        names: of the rows that are taken over.

    Raises:
        ValueError: other people; a row without a method that came out otherwise than stored; no row of a name.
    """
    if found["made"]["people"] != stored["made"]["people"]:
        raise ValueError("people: found others than in the stored results, wanted the same; measure the whole paper")
    before = {cell_name(row): row for row in stored["rows"]}
    for row in found["rows"]:
        same = before.get(cell_name(row)) if row["row"] not in names else row
        if same is None or not np.allclose(row["values"], same["values"], rtol=SAME, atol=SAME):
            raise ValueError(f"{cell_name(row)}: found other values than stored, wanted the same; measure all rows")
    new = [row for row in found["rows"] if row["row"] in names]
    if missing := set(names) - {row["row"] for row in new}:
        raise ValueError(f"rows: found no {', '.join(sorted(missing))} in the tables, wanted rows that are measured")
    rows = [row for row in stored["rows"] if row["row"] not in names]
    for row in new:
        table = [i for i, other in enumerate(rows) if all(other[word] == row[word] for word in ("place", "condition"))]
        rows.insert(max(table, default=len(rows) - 1) + 1, row)
    earlier = [one for one in stored["made"].get("added", []) if not set(one["rows"]) <= set(names)]
    added = {"rows": list(names), **{word: found["made"][word] for word in ("commit", "hardware", "date")}}
    return {**stored, "made": {**stored["made"], "added": [*earlier, added]}, "rows": rows}


def judged(results: dict[str, Any]) -> dict[str, Any]:
    """A results file: measured rows, cells of short trainings as the paper's sweep holds them now, and the verdicts."""
    paper = results["paper"]
    rows = [row for row in results["rows"] if row["variant"] != SHORT_TRAINING]
    for words, values in experiments.swept(paper):
        head = dict(zip(WORDS, words, strict=True))
        of = {"tier": "ii", "method": paper.replace("_", "-"), "variant": SHORT_TRAINING, "by": "", "weights": ""}
        rows.append({**head, **of, **_numbers(values)})
    return {**results, "rows": rows, "claims": verdicts(paper, rows)}


def verdicts(paper: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The verdict on every claim whose cells have all been measured."""
    values = {cell_name(row): row["values"] for row in rows}
    found, too_brief = {}, trained_too_briefly(rows)
    for claim in load(paper).claims:
        finding = judge(claim, values, generator=torch.Generator().manual_seed(0), too_brief=too_brief)
        if finding is not None:
            found[claim.id] = asdict(finding)
    return found


def made(people: list[str], minutes: float, where: dict[str, str]) -> dict[str, Any]:
    """Where results come from; `where` holds commit, hardware and date of measuring."""
    profile = active()
    return {
        "command": COMMAND,
        **where,
        "minutes of measuring": round(minutes, 1),
        "seed": profile.seed,
        "spacing mm": profile.spacing,
        "slices": profile.slices,
        "training people": profile.train_subjects,
        "people": people,
    }


def here() -> dict[str, str]:
    """Commit, hardware and date of what runs now."""
    return {"commit": current_commit(), "hardware": current_hardware(), "date": date.today().isoformat()}


def _row(group: tuple[dict, ...], hashes: dict[tuple[str, str], dict[str, str]]) -> dict[str, Any]:
    """One cell: what it is, its mean with a 95 % bootstrap interval, and the values of all people in order."""
    names = ("place", "measure", "row", "condition", "tier", "method", "variant", "by")
    head = {name: group[0][name] for name in names}
    if any({name: one[name] for name in names} != head for one in group):
        raise ValueError(f"{head}: found other cells at this place for other people, wanted the same for all")
    weights = _weights(hashes.get((head["method"], head["variant"]), {}), group[0]["target"])
    return {**head, "weights": weights, **_numbers([one["value"] for one in group])}


def _numbers(values: Sequence[float]) -> dict[str, Any]:
    """A cell's mean with its 95 % interval, and the values themselves, to `DIGITS` significant digits."""
    values = [float(f"{value:.{DIGITS}g}") for value in values]
    interval = bootstrap_interval(values, generator=torch.Generator().manual_seed(0))
    numbers = {name: float(f"{getattr(interval, name):.{DIGITS}g}") for name in ("mean", "low", "high")}
    return {**numbers, "values": values}


def _weights(by_target: dict[str, str], target: str) -> str:
    """The hash behind a cell; several, with + between, where it is of several targets."""
    hashes = [by_target.get(target, "")] if target else list(by_target.values())
    return "+".join(one for one in hashes if one)


def measure_real_pair() -> Path | None:
    """The two protocols of one real patient, where their scans are; numbers are written, never images."""
    patient = REAL_DATA / REAL_PATIENT
    if not patient.is_dir():
        tqdm.write(f"no real scans in {REAL_DATA}: {REAL_PAIR} is left as it is")
        return None
    start = time.perf_counter()
    with TemporaryDirectory() as folder:
        prepare_open_ms.prepare(patient, folder)
        pair = Cohort.from_files(folder).with_target(real_pair.TARGET)
        lesions = nifti.read(patient / prepare_open_ms.REFERENCE).volume > 0  # its grid is the common one
        rows = [
            *real_pair.measure(pair),
            *real_pair.measure_to_one_reference(pair, lesions),
            *real_pair.measure_to_one_look(pair, lesions),
            *real_pair.measure_on_other_slices(pair, lesions),
        ]
    content = {
        "name": REAL_PAIR,
        "profile": active().name,
        "made": made([REAL_PATIENT], (time.perf_counter() - start) / 60, here()),
        "rows": [{**asdict(row), "value": float(f"{row.value:.{DIGITS}g}")} for row in rows],
    }
    return write(real_pair_path(), content)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute what is named, or everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = experiments.computed_papers()
    parser.add_argument("papers", nargs="*", help=f"of {', '.join(known)}; all of them when absent")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--rows", nargs="+", default=(), metavar="ROW", help="of one paper: measure these alone")
    parser.add_argument("--verdicts", action="store_true", help="judge again on the stored values; measure nobody")
    given = parser.parse_args(arguments)
    try:
        papers = [load(paper).name for paper in given.papers] or list(known)
    except ValueError as error:
        parser.error(str(error))
    if given.verdicts:
        for paper in papers:
            if content := results(paper):
                tqdm.write(str(write(results_path(paper), judged(content))))
        return
    if given.rows and not (len(papers) == 1 and experiments.measures_rows(papers[0]) and results(papers[0])):
        parser.error(f"rows: found {', '.join(papers)}, wanted one paper that has results and is measured by rows")
    try:
        with terminated_as_interrupted():
            run(papers, max(1, given.jobs), given.rows)
    except KeyboardInterrupt:
        sys.exit(f"interrupted; {COMMAND} goes on from here")
    for paper in papers:
        content = assembled(paper, given.rows)
        if given.rows:
            try:
                content = with_rows(results(paper), content, given.rows)
            except ValueError as error:
                sys.exit(f"{error}; {results_path(paper)} is left as it is")
        tqdm.write(str(write(results_path(paper), judged(content))))
    if not given.papers:
        measure_real_pair()
    print(text([row for row in rows() if row.paper in papers and row.claim]))


if __name__ == "__main__":
    main()
