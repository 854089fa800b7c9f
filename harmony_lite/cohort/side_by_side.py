"""Scans made by several processes at once, each on one thread; what is made is what one process would make."""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

if TYPE_CHECKING:
    from harmony_lite.cohort.people import Cohort

__all__ = ["make_scans", "start_worker"]


def make_scans(cohort: Cohort, jobs: int) -> None:
    """Make everybody's scan on each scanner, person by person, so that they lie in the cache when they are asked for.

    An interruption waits for the people in hand; what was made stays.

    Args:
        cohort: of people whose scans are kept on disk: simulated, and perhaps corrected.
        jobs: processes.

    Raises:
        ValueError: a number of processes below 1.
    """
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
        raise ValueError(f"jobs: found {jobs!r}, wanted a whole number of at least 1")
    people = [cohort.subset([i]) for i in range(len(cohort))]
    progress = {"desc": "people", "total": len(people), "unit": "person", "disable": None}
    if min(jobs, len(people)) == 1:
        for person in tqdm(people, **progress):
            _make(person)
        return
    context = multiprocessing.get_context("spawn")  # a forked child of a process that has used torch may hang
    with ProcessPoolExecutor(min(jobs, len(people)), mp_context=context, initializer=start_worker) as pool:
        waiting = [pool.submit(_make, person) for person in people]
        try:
            for done in tqdm(as_completed(waiting), **progress):
                done.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _make(person: Cohort) -> None:
    for scanner in person.scanners:
        person.scans(scanner)


def start_worker() -> None:
    """A process that simulates: one thread, no bars."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted and lets us finish the person in hand
    torch.set_num_threads(1)
    os.environ["TQDM_DISABLE"] = "1"
