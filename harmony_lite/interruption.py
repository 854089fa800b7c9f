"""A polite termination cleans up as Ctrl-C does."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

__all__ = ["interrupt", "terminated_as_interrupted"]


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let a polite termination (SIGTERM) clean up as Ctrl-C does."""
    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread: the caller has its own way to stop us
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def interrupt(*_: Any) -> NoReturn:
    """A signal handler that stops the program as Ctrl-C does."""
    raise KeyboardInterrupt
