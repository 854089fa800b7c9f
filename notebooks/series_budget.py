"""What the series costs: kept as it is measured, held against limits, written where a reader looks."""

from __future__ import annotations

import json
import os
import platform
import re
from datetime import date
from pathlib import Path

from series_pairs import BUILD, ROOT

# What a run on two cores may cost: seconds of the commands after installation, and of each notebook.
COMMAND_LIMITS = {"make run": 600, "make test": 1080}
NOTEBOOK_LIMITS = {"seconds": 75, "peak_megabytes": 1500}
BUDGET_MARKERS = ("<!-- budget:start -->", "<!-- budget:end -->")


def note(name: str, value: object, build: Path = BUILD) -> None:
    """Keep one measured value under its name in `build/run/budget.json`."""
    path = Path(build) / "run" / "budget.json"
    noted = json.loads(path.read_text()) if path.exists() else {}
    noted[name] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(noted, indent=1, sort_keys=True) + "\n")


def processor() -> str:
    """The processor's name, as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        if found:
            return found.group(1).strip()
    return platform.processor() or platform.machine()


def budget_table(noted: dict) -> str:
    """README's table in Markdown: each notebook's cells, seconds and memory, their sum, and the two commands."""
    rows = ["| Notebook | Code cells | Seconds | Peak memory (MB) |", "|---|---:|---:|---:|"]
    costs = {name[9:]: cost for name, cost in noted.items() if name.startswith("notebook ")}
    for name, cost in sorted(costs.items()):
        rows.append(
            f"| [{name}](notebooks/{name}.ipynb) | {cost['cells']} | {cost['seconds']:.0f} "
            f"| {cost['peak_megabytes']:.0f} |"
        )
    cells = sum(cost["cells"] for cost in costs.values())
    seconds = sum(cost["seconds"] for cost in costs.values())
    peak = max(cost["peak_megabytes"] for cost in costs.values())
    rows.append(f"| all, one after the other | {cells} | {seconds:.0f} | {peak:.0f} |")
    commands = [f"`{name}` {noted[name] / 60:.1f} minutes" for name in ("make run", "make test") if name in noted]
    profiles = ", ".join(sorted({cost["profile"] for cost in costs.values()}))
    where = (
        f"Measured on {date.today().isoformat()}, profile {profiles}, one thread a kernel, "
        f"{os.cpu_count()} cores of {processor()}, Python {platform.python_version()}."
    )
    if commands:
        where = f"After installation: {', '.join(commands)}. {where}"
    return "\n".join([*rows, "", where])


def over_budget(noted: dict) -> list[str]:
    """What was measured above its limit, a sentence each; empty when all is well."""
    measured = {name: value for name, value in noted.items() if name in COMMAND_LIMITS}
    sentences = [
        f"{name}: found {value:.0f} s after installation, wanted at most {COMMAND_LIMITS[name]} s"
        for name, value in measured.items()
        if value > COMMAND_LIMITS[name]
    ]
    for name, cost in noted.items():
        if name.startswith("notebook "):
            for key, limit in NOTEBOOK_LIMITS.items():
                if cost[key] > limit:
                    sentences.append(f"{name}: found {cost[key]:.0f} {key.replace('_', ' ')}, wanted at most {limit}")
    return sentences


def budget(readme: Path = ROOT / "README.md", build: Path = BUILD) -> str:
    """Write the table between README's two budget markers.

    Raises:
        FileNotFoundError: nothing was measured yet.
        ValueError: something measured above its limit, or a README without the markers.
    """
    path = Path(build) / "run" / "budget.json"
    if not path.exists():
        raise FileNotFoundError(f"{path}: found no measurements, wanted those of make run")
    noted = json.loads(path.read_text())
    if over_budget(noted):
        raise ValueError("; ".join(over_budget(noted)))
    table = budget_table(noted)
    text = readme.read_text(encoding="utf-8")
    start, end = BUDGET_MARKERS
    if text.count(start) != 1 or text.count(end) != 1:
        raise ValueError(f"{readme}: found no one pair of markers, wanted {start} and {end}")
    before, after = text.split(start)[0], text.split(end)[1]
    readme.write_text(f"{before}{start}\n{table}\n{end}{after}", encoding="utf-8")
    return table
