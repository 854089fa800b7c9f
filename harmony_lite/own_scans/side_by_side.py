"""Many scans in several processes: a process that is killed costs nothing but the scan in its hands, twice tried.

A pool of the standard library gives up all waiting work when one of its processes dies, which on a full machine is the
usual end of a large scan. Here each process has a pipe of its own, and its death is seen on it.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait

import torch

from harmony_lite.interruption import SIGNALS, interrupt
from harmony_lite.own_scans.job import Job, Outcome, Task
from harmony_lite.own_scans.one_scan import attempt
from harmony_lite.own_scans.prepared import Prepared, prepare

__all__ = ["by_processes"]

TRIES = 2  # of a scan whose process died
PATIENCE = 10.0  # seconds that a process has to clean up when it is stopped


def by_processes(prepared: Prepared, job: Job, tasks: Sequence[Task], jobs: int) -> Iterator[Outcome]:
    """Harmonize scans in so many processes; outcomes come as they are finished.

    When the caller stops, by an exception or by closing the iterator, the processes are stopped, and no unfinished
    file is left.

    Args:
        prepared: the method; it travels to the processes where preparing it took long, else each prepares its own.
        job: what is done.
        tasks: the scans.
        jobs: processes.
    """
    waiting = deque((task, 1) for task in tasks)
    carried = prepared if job.adapt_on else None
    workers: list[_Worker] = []
    try:
        while waiting or any(worker.task for worker in workers):
            while waiting and len(workers) < jobs:
                workers.append(_Worker(job, carried))
            for worker in workers:
                if worker.task is None and waiting:
                    worker.give(*waiting.popleft())
            ready = set(wait([end for worker in workers for end in (worker.connection, worker.process.sentinel)]))
            for worker in [w for w in workers if ready & {w.connection, w.process.sentinel}]:
                if worker.connection.poll():
                    try:
                        yield worker.take()
                        continue
                    except EOFError:
                        pass
                if worker.process.is_alive():
                    worker.process.join(PATIENCE)
                workers.remove(worker)
                if worker.task is not None:
                    if worker.tries < TRIES:
                        waiting.appendleft((worker.task, worker.tries + 1))
                    else:
                        yield Outcome(worker.task, worker.obituary())
                worker.clean_up()
    finally:
        for worker in workers:
            worker.stop()
        for worker in workers:
            worker.wait_for_end()


class _Worker:
    """A process, the pipe to it, and the scan in its hands."""

    def __init__(self, job: Job, prepared: Prepared | None) -> None:
        context = multiprocessing.get_context("spawn")  # a forked child of a process that has used torch may hang
        self.connection, other_end = context.Pipe()
        self.process = context.Process(target=_serve, args=(other_end, job, prepared), daemon=True)
        self.process.start()
        other_end.close()  # else the end of the process would not be seen on the pipe
        self.task: Task | None = None
        self.tries = 0

    def give(self, task: Task, tries: int) -> None:
        self.task, self.tries = task, tries
        with suppress(OSError):  # it has died before: its sentinel says so in a moment
            self.connection.send(task)

    def take(self) -> Outcome:
        outcome: Outcome = self.connection.recv()
        self.task = None
        return outcome

    def obituary(self) -> str:
        code = self.process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"
        return (
            f"{self.task.source}: found its process killed {TRIES} times ({how}), wanted more memory, or fewer --jobs"
        )

    def clean_up(self) -> None:
        """Remove what a killed process left unfinished."""
        self.connection.close()
        if self.task is not None and self.task.out.parent.is_dir():
            for part in self.task.out.parent.glob(f".part-{self.process.pid}-*"):
                part.unlink(missing_ok=True)

    def stop(self) -> None:
        if self.process.is_alive():
            self.process.terminate()

    def wait_for_end(self) -> None:
        self.process.join(PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.clean_up()


def _serve(connection: Connection, job: Job, prepared: Prepared | None) -> None:
    """What a process does: scans that come through the pipe, until it is closed or an interruption comes."""
    for name in (signal.SIGINT, *SIGNALS):
        signal.signal(name, signal.SIG_IGN)  # of a terminal, to all its processes: the parent decides what follows
    signal.signal(signal.SIGTERM, interrupt)
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)
    torch.set_num_threads(job.threads or 1)
    try:
        prepared = prepared or prepare(job)
        while True:
            task = connection.recv()
            connection.send(attempt(prepared, task, job))
    except (EOFError, OSError, KeyboardInterrupt):
        return  # the parent has ended, or wants us to
