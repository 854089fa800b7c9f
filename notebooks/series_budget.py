"""What the series costs: kept as it is measured, held against limits, written where a reader looks."""

from __future__ import annotations

import json
import os
import platform
import re
from datetime import date
from pathlib import Path

from series_pairs import BUILD, FOLDER, ROOT, rewrite, sources
from series_written import BUDGET_MARKERS, MEASURED_LINE

# What a run on two cores may cost: seconds of the commands after installation, and of each notebook.
COMMAND_LIMITS = {"make run": 1200, "make test": 1500}
NOTEBOOK_LIMITS = {"seconds": 75, "peak_megabytes": 1500}
# A head keeps what it says while a new measurement lies within this share of it: it would change at every run.
STEADY = 0.2
SAID = re.compile(r" (?P<seconds>\d+) seconds and (?P<gigabytes>\d+\.\d) GB on one processor core\.")


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


def measured_words(cost: dict, said: str) -> str:
    """What a notebook's head says after **Measured:**, from its cost; the old words where they are still near enough.

    >>> measured_words({"seconds": 38.2, "peak_megabytes": 574}, " 55 seconds and 0.6 GB on one processor core.")
    ' 38 seconds and 0.6 GB on one processor core.'
    >>> measured_words({"seconds": 41.0, "peak_megabytes": 590}, " 38 seconds and 0.6 GB on one processor core.")
    ' 38 seconds and 0.6 GB on one processor core.'
    """
    gigabytes = cost["peak_megabytes"] / 1000
    old = SAID.fullmatch(said)
    if old is not None:
        pairs = ((cost["seconds"], float(old["seconds"])), (gigabytes, float(old["gigabytes"])))
        if all(abs(now - then) <= STEADY * then for now, then in pairs):
            return said
    return f" {cost['seconds']:.0f} seconds and {gigabytes:.1f} GB on one processor core."


def write_heads(noted: dict, folder: Path = FOLDER) -> list[Path]:
    """Write each measured notebook's seconds and memory into its head; returns the sources that changed.

    Raises:
        ValueError: a notebook without a line that begins with **Measured:**.
    """
    changed = []
    for source in sources(folder):
        cost = noted.get(f"notebook {source.stem}")
        if cost is None:
            continue
        text = source.read_text(encoding="utf-8")
        if len(MEASURED_LINE.findall(text)) != 1:
            raise ValueError(f"{source.name}: found no one line that begins with **Measured:**, wanted one in its head")
        new = MEASURED_LINE.sub(lambda line, cost=cost: line["start"] + measured_words(cost, line["rest"]), text)
        if rewrite(source, new):
            changed.append(source)
    return changed


def budget(readme: Path = ROOT / "README.md", build: Path = BUILD, folder: Path = FOLDER) -> str:
    """Write the table between README's two budget markers, and each notebook's line in its head.

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
    write_heads(noted, folder)
    before, after = text.split(start)[0], text.split(end)[1]
    readme.write_text(f"{before}{start}\n{table}\n{end}{after}", encoding="utf-8")
    return table
