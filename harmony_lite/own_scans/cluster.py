"""Many scans on a Dask cluster: the same work, the same results, on as many machines as there are.

Every machine has to see the scans under the same paths, and to have this package installed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

from harmony_lite.own_scans.job import Job, Outcome, Task
from harmony_lite.own_scans.one_scan import attempt
from harmony_lite.own_scans.prepared import Prepared, prepare

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["by_cluster"]

Given = TypeVar("Given", Job, Task)
PATIENCE = "10s"  # until a scheduler has to have answered
_one_at_a_time = threading.Lock()  # of a worker with several threads: a method's network is one


def by_cluster(address: str, job: Job, tasks: Sequence[Task]) -> Iterator[Outcome]:
    """Harmonize scans on the workers of a Dask scheduler; outcomes come as they are finished.

    A worker that dies is the scheduler's business: it gives the scan to another one, and gives a scan up when several
    workers have died of it.

    Args:
        address: of the scheduler, as `tcp://host:8786`.
        job: what is done.
        tasks: the scans.

    Raises:
        ValueError: the extra `cluster` is not installed, or no scheduler answers.
    """
    client = _client(address)
    from distributed import as_completed

    job = _with_whole_paths(job)
    futures = {client.submit(_harmonize_there, job, _with_whole_paths(task), pure=False): task for task in tasks}
    try:
        for future in as_completed(futures, loop=client.loop):
            error = future.exception() if future.status != "finished" else None
            task = futures[future]
            if error:
                yield Outcome(task, f"{task.source}: {type(error).__name__}: {error}")
            else:
                yield replace(future.result(), task=task)
    finally:  # what has not begun when the caller stops is not begun
        client.cancel(list(futures))
        client.close()


def _with_whole_paths(given: Given) -> Given:
    """A job or a task whose paths do not depend on the folder that a worker was started in."""
    paths = {field.name: getattr(given, field.name) for field in fields(given)}
    return replace(given, **{name: path.absolute() for name, path in paths.items() if isinstance(path, Path)})


def _client(address: str) -> Client:
    try:
        from distributed import Client
    except ImportError as error:
        raise ValueError("--scheduler: found no Dask, wanted the extra: pip install 'harmony-lite[cluster]'") from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        return Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise ValueError(f"--scheduler: found no Dask scheduler at {address}, wanted one that answers") from error


@lru_cache(maxsize=1)
def _prepared_for(job: Job) -> Prepared:
    """The method, prepared once in each worker."""
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)
    torch.set_num_threads(job.threads or 1)
    return prepare(job)


def _harmonize_there(job: Job, task: Task) -> Outcome:
    with _one_at_a_time:
        return attempt(_prepared_for(job), task, job)
