"""Every bench runs: once, without a clock."""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parent / "benchmarks"


def test_every_bench_runs_through():
    command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "--benchmark-disable", str(BENCHMARKS)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=BENCHMARKS.parents[1])
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout and " skipped" not in done.stdout
