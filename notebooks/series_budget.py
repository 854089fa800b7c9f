"""What the series costs: kept as it is measured, held against limits, written where a reader looks."""

from __future__ import annotations

import json
import os
import platform
import re
from datetime import date
from pathlib import Path

from series_pairs import BUILD, FOLDER, ROOT, rewrite, sources
from series_written import BUDGET_MARKERS, MEASURED_LINE, put_between

# What a run on two cores may cost: seconds of the commands after installation, and of each notebook.
COMMAND_LIMITS = {"make run": 1200, "make test": 1500}
NOTEBOOK_LIMITS = {"seconds": 75, "peak_megabytes": 1500}
# A notebook's head keeps what it says while a new measurement lies within this share of it.
KEPT_WITHIN = 0.2
STATED = re.compile(r" (?P<seconds>\d+) seconds and (?P<gigabytes>\d+\.\d) GB on one core \(`make run`\)\.")


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


def stated(text: str, place: object) -> tuple[int, float] | None:
    """Seconds and GB (10^9 bytes) that a notebook's head says; None where the line has another form.

    Args:
        text: of a source.
        place: named in the error.

    Raises:
        ValueError: there is not exactly one such line.
    """
    lines = list(MEASURED_LINE.finditer(text))
    if len(lines) != 1:
        raise ValueError(f"{place}: found {len(lines)} lines that begin with **Measured:**, wanted one")
    found = STATED.fullmatch(lines[0]["rest"])
    return (int(found["seconds"]), float(found["gigabytes"])) if found else None


def still_holds(said: tuple[int, float], cost: dict) -> bool:
    """Whether a measurement lies so close to what a head says that the head may stay."""
    seconds, gigabytes = said
    measured_seconds, measured_gigabytes = round(cost["seconds"]), round(cost["peak_megabytes"]) / 1000
    # The head is rounded: half of its last digit is no difference.
    return (
        abs(measured_seconds - seconds) <= KEPT_WITHIN * seconds + 0.5
        and abs(measured_gigabytes - gigabytes) <= KEPT_WITHIN * gigabytes + 0.05
    )


def with_measured_line(text: str, cost: dict, place: object) -> str:
    """A source whose head says what a measurement found; the same text where the head still holds.

    Raises:
        ValueError: the text has not exactly one line for it.
    """
    said = stated(text, place)
    if said and still_holds(said, cost):
        return text
    seconds, gigabytes = max(1, round(cost["seconds"])), max(0.1, cost["peak_megabytes"] / 1000)
    rest = f" {seconds} seconds and {gigabytes:.1f} GB on one core (`make run`)."
    return MEASURED_LINE.sub(lambda line: line["start"] + rest, text)


def budget(readme: Path = ROOT / "README.md", build: Path = BUILD, folder: Path = FOLDER) -> str:
    """Write the table between README's two budget markers, and each measured notebook's line into its head.

    Raises:
        FileNotFoundError: nothing was measured yet.
        ValueError: something measured above its limit, a README without the markers, or a head without its line.
    """
    path = Path(build) / "run" / "budget.json"
    if not path.exists():
        raise FileNotFoundError(f"{path}: found no measurements, wanted those of make run")
    noted = json.loads(path.read_text())
    if over_budget(noted):
        raise ValueError("; ".join(over_budget(noted)))
    table = budget_table(noted)
    page = put_between(readme.read_text(encoding="utf-8"), BUDGET_MARKERS, table, place=readme)
    heads = {}
    for source in sources(folder):
        cost = noted.get(f"notebook {source.stem}")
        if cost is not None:
            heads[source] = with_measured_line(source.read_text(encoding="utf-8"), cost, source.name)
    readme.write_text(page, encoding="utf-8")
    for source, text in heads.items():
        rewrite(source, text)
    return table
