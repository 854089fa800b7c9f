"""One fault in a notebook is one failure: the hook of the root conftest.py, in a pytest of its own."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
import torch

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"


def write(path: Path, sources: list[str]) -> None:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


def test_cells_after_the_first_failure_are_skipped(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST.read_text())
    cells = ["x = 1", "assert x == 2, 'the fault'", "print(undefined)", "print(x)"]
    write(pytester.path / "broken.ipynb", cells)
    write(pytester.path / "whole.ipynb", ["y = 1", "assert y == 1"])
    result = pytester.runpytest_subprocess("--nbval-lax", "--nbval-current-env", "-p", "no:benchmark", "-rs")
    result.assert_outcomes(passed=3, failed=1, skipped=2)
    result.stdout.fnmatch_lines(["*Cell 1 of this notebook failed*"])


def test_a_timed_out_cell_does_not_hide_what_follows_as_expected(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST.read_text())
    write(pytester.path / "slow.ipynb", ["import time; time.sleep(60)", "assert False"])
    result = pytester.runpytest_subprocess(
        "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=1", "-p", "no:benchmark"
    )
    result.assert_outcomes(failed=1, skipped=1)


def test_tests_run_on_one_thread() -> None:
    assert torch.get_num_threads() == 1
