"""A polite termination, or the loss of the terminal, cleans up as Ctrl-C does."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

__all__ = ["SIGNALS", "interrupt", "terminated_as_interrupted"]

SIGNALS = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]  # Windows has no SIGHUP


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let a polite termination (SIGTERM) and a closed terminal (SIGHUP) clean up as Ctrl-C does.

    A program that was started to outlive its terminal (`nohup`) ignores the latter, and goes on to.
    """
    names = [name for name in SIGNALS if signal.getsignal(name) is not signal.SIG_IGN]
    try:
        before = {name: signal.signal(name, interrupt) for name in names}
    except ValueError:  # not in the main thread: the caller has its own way to stop us
        yield
        return
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def interrupt(*_: Any) -> NoReturn:
    """A signal handler that stops the program as Ctrl-C does."""
    raise KeyboardInterrupt
