"""What is done to each scan: plain values, so that they travel to other processes and other machines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harmony_lite.own_scans.quality import Look

__all__ = ["Job", "Outcome", "Task"]


@dataclass(frozen=True)
class Job:
    """What is done to each file.

    Attributes:
        method: name of the method.
        variant: its reading; the first one when None.
        reference: scan of the target's look.
        reference_mask: brain of the reference.
        scanner: the input's scanner, for methods that are trained on named ones.
        weights: file of one's own weights; the cache folder's or the shipped ones when None.
        adapt_on: folder of scans of one site that the method is adapted on first.
        threads: of torch in each process; as torch has it when None.
        report: whether each scan is looked at for the quality page.
        command: what the user typed, for the records.
    """

    method: str
    variant: str | None = None
    reference: Path | None = None
    reference_mask: Path | None = None
    scanner: str | None = None
    weights: Path | None = None
    adapt_on: Path | None = None
    threads: int | None = None
    report: bool = False
    command: str = ""


@dataclass(frozen=True)
class Task:
    """One scan of a run.

    Attributes:
        source: the scan.
        out: the file to write; its folder is made.
        mask: brain of the scan, on its grid; found from the scan when None.
        name: what the scan is called on the quality page; the path of the source when empty.
        is_done: whether the result is there already, so that it is only looked at.
    """

    source: Path
    out: Path
    mask: Path | None = None
    name: str = ""
    is_done: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of one scan.

    Attributes:
        task: the scan.
        error: one line that says why there is no result; None where there is one.
        remarks: one line for each thing that is odd about the scan, or that was changed.
        look: pictures and numbers for the quality page, where they were asked for.
    """

    task: Task
    error: str | None = None
    remarks: tuple[str, ...] = ()
    look: Look | None = None
