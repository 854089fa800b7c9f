"""A folder or a BIDS tree of scans: what there is to do, who does it, and what came of it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from tqdm import tqdm

from harmony_lite.cohort.bids import BidsName
from harmony_lite.own_scans.cluster import by_cluster
from harmony_lite.own_scans.found import Found, scans_in
from harmony_lite.own_scans.job import Job, Outcome, Task
from harmony_lite.own_scans.one_scan import attempt
from harmony_lite.own_scans.prepared import Prepared, prepare
from harmony_lite.own_scans.records import DESCRIPTION, describe_folder, is_up_to_date
from harmony_lite.own_scans.side_by_side import by_processes

__all__ = ["Summary", "harmonize_folder", "result_name"]


@dataclass
class Summary:
    """What became of a folder.

    Attributes:
        used: what did it, as one line.
        found: the scans, and what was left out.
        outcomes: of each scan that was worked on or looked at.
        up_to_date: how many results were there already, made in the same way.
    """

    used: str
    found: Found
    outcomes: list[Outcome] = field(default_factory=list)
    up_to_date: int = 0

    @property
    def done(self) -> int:
        """How many scans were harmonized now."""
        return sum(outcome.error is None and not outcome.task.is_done for outcome in self.outcomes)

    @property
    def failures(self) -> list[str]:
        """One line for each scan that has no result, in the order of their paths."""
        failed = sorted((outcome for outcome in self.outcomes if outcome.error), key=lambda o: str(o.task.source))
        return [*(outcome.error for outcome in failed if outcome.error), *self.found.broken]

    @property
    def warned(self) -> str:
        """How many scans have which kind of remark, as one line; empty where none has any."""
        kinds = Counter(kind for outcome in self.outcomes for kind in {r.partition(":")[0] for r in outcome.remarks})
        return ", ".join(f"{kind} ({count} scans)" for kind, count in sorted(kinds.items()))

    @property
    def total(self) -> int:
        """How many scans there are, those that cannot be read included."""
        return len(self.found.scans) + len(self.found.broken)


def harmonize_folder(
    job: Job,
    source: Path,
    out: Path,
    *,
    jobs: int = 1,
    scheduler: str | None = None,
    suffix: str | None = None,
    force: bool = False,
) -> Summary:
    """Harmonize every scan below a folder; a bad one does not stop the others, and a rerun does what is missing.

    Args:
        job: the method and its files.
        source: folder; `scans_in` says which of its files are scans.
        out: folder, made if need be; results lie in it as the scans lie in `source`, with `desc-METHOD` in a name that
            has the form of BIDS, and each with its record (`records.py`).
        jobs: processes.
        scheduler: address of a Dask scheduler, whose workers do it then.
        suffix: kind of image, as `T2w`, where the names have the form of BIDS.
        force: make those again, too, that are there.

    Raises:
        ValueError, FileNotFoundError: what is wrong with the folders, the method or the reference, in one line.
    """
    _check_folders(source, out)
    found = scans_in(source, suffix=suffix, out=out)
    prepared = prepare(job)  # what is wrong with the method or the reference is said once, here
    tasks = [_task(source, out, scan, mask, job.method) for scan, mask in found.scans]
    summary = Summary(prepared.used, found)
    waiting = []
    for task in tqdm(tasks, desc="looking for results", unit="scan", disable=None, leave=False):
        is_done = not force and is_up_to_date(task, prepared.made_by)
        summary.up_to_date += is_done
        if not is_done or job.report:
            waiting.append(replace(task, is_done=is_done))
    existed = {folder for task in tasks for folder in task.out.parents if folder.exists()}
    try:
        if waiting:
            out.mkdir(parents=True, exist_ok=True)
            describe_folder(out, source, prepared.used)
        steps = _outcomes(prepared, job, waiting, jobs, scheduler)
        for outcome in tqdm(steps, total=len(waiting), unit="scan", desc=job.method, disable=None):
            summary.outcomes.append(outcome)
    finally:
        _remove_empty({folder for task in tasks for folder in task.out.parents} - existed, out)
    return summary


def result_name(name: str, method: str) -> str:
    """The name of a scan's result: `desc-METHOD` where the name has the form of BIDS, else the scan's own.

    A label has no hyphens; a scan that has a description already keeps it in front.

    >>> result_name("sub-01_T1w.nii.gz", "white-stripe"), result_name("mine.nii", "white-stripe")
    ('sub-01_desc-whitestripe_T1w.nii.gz', 'mine.nii')
    >>> result_name("sub-01_desc-preproc_T1w.nii.gz", "nyul")
    'sub-01_desc-preprocnyul_T1w.nii.gz'
    """
    parts = BidsName.of(name)
    if parts is None:
        return name
    label = "".join(character for character in method if character.isalnum())
    return str(parts.with_label("desc", f"{parts.label('desc') or ''}{label}"))


def _check_folders(source: Path, out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ValueError(f"output {out}: found a file, wanted a folder, as the input {source} is one")
    if out.exists() and out.samefile(source):
        raise ValueError(f"output {out}: found the input folder, wanted another one")
    if out.resolve() in source.resolve().parents:
        raise ValueError(f"output {out}: found a folder that holds the input {source}, wanted one beside or below it")


def _task(source: Path, out: Path, scan: Path, mask: Path | None, method: str) -> Task:
    inner = scan.relative_to(source)
    return Task(scan, out / inner.with_name(result_name(inner.name, method)), mask, str(inner))


def _outcomes(prepared: Prepared, job: Job, tasks: list[Task], jobs: int, scheduler: str | None) -> Iterator[Outcome]:
    if scheduler is not None:
        return by_cluster(scheduler, job, tasks)
    if min(jobs, len(tasks)) <= 1:
        return (attempt(prepared, task, job) for task in tasks)
    threads = max(1, (os.cpu_count() or 1) // jobs)
    return by_processes(prepared, replace(job, threads=threads), tasks, min(jobs, len(tasks)))


def _remove_empty(folders: set[Path], out: Path) -> None:
    """Remove folders that were made for results that did not come."""
    for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        if folder.is_dir() and not any(path for path in folder.iterdir() if path.name != DESCRIPTION or folder != out):
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
