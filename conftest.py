"""What all tests share: one thread a process, the quick profile, and one failure for one fault in a notebook."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

# Before anything imports torch or numpy, and inherited by the kernels that the notebooks run in.
for name in ("OMP", "MKL", "OPENBLAS"):
    os.environ[f"{name}_NUM_THREADS"] = "1"
os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
os.environ.setdefault("HARMONY_PROFILE", "quick")

pytest_plugins = ["pytester"]


def pytest_configure(config: pytest.Config) -> None:
    """Draw without a screen, except in notebooks, whose kernels choose inline figures when nothing is set."""
    if not (config.getoption("nbval", False) or config.getoption("nbval_lax", False)):
        os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Note the first cell of a notebook that fails."""
    report = yield
    if report.failed and hasattr(item, "cell_num") and not hasattr(item.parent, "first_failed"):
        item.parent.first_failed = item.name
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what follows a failed cell: nbval would run it on and report the same fault again and again."""
    failed = getattr(item.parent, "first_failed", None)
    if failed and hasattr(item, "cell_num"):
        pytest.skip(f"{failed} of this notebook failed")
