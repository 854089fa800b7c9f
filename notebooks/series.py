"""The notebook series as one thing: made from its sources, executed, measured, copied for students, bound as a book.

    python notebooks/series.py pair [NB]       make the .ipynb beside each source, without outputs
    python notebooks/series.py execute [NB]    the same with outputs: this makes the committed files
    python notebooks/series.py run [NB]        execute into build/run and note seconds and memory
    python notebooks/series.py book            bind what is executed into build/book
    python notebooks/series.py student [NB]    copies without solutions into build/student
    python notebooks/series.py budget          write what was measured into README's table

The source of a notebook is `NN_slug.py` (py:percent); the `.ipynb` is made from it and never the other way round.
Outputs come from executing, never from merging, and the source's hash is stored beside them, so that an output
older than its source is found out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import jupytext
import nbformat
import psutil
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from tqdm import tqdm

from harmony_lite.ledger import pages as ledger_pages

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
BUILD = ROOT / "build"

# What every notebook stores, whatever machine made it.
NOTEBOOK_METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "pygments_lexer": "ipython3",
    },
}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_NOTE = "*An interactive widget stands here while the notebook runs.*"
# Not for students: what the exercise asks for, and what is meant for the person who teaches.
HIDDEN_FROM_STUDENTS = {"solution", "instructor"}
# What a run on two cores may cost: seconds of the commands after installation, and of each notebook.
COMMAND_LIMITS = {"make run": 600, "make test": 1080}
NOTEBOOK_LIMITS = {"seconds": 75, "peak_megabytes": 1500}
BUDGET_MARKERS = ("<!-- budget:start -->", "<!-- budget:end -->")


# ---------------------------------------------------------------------------------------------- sources and pairs


def sources(folder: Path = FOLDER, number: str | None = None) -> list[Path]:
    """The sources `NN_*.py` of a folder in order, or the one whose number (`2`, `02`) or name is given.

    Raises:
        ValueError: there is no source, or none of that number.
    """
    found = sorted(Path(folder).glob("[0-9][0-9]_*.py"))
    if not found:
        raise ValueError(f"{folder}: found no notebook source, wanted files named NN_slug.py")
    if not number:
        return found
    wanted = number.zfill(2) if number.isdigit() else Path(number).stem
    chosen = [path for path in found if path.stem == wanted or path.stem[:2] == wanted]
    if not chosen:
        known = ", ".join(path.stem[:2] for path in found)
        raise ValueError(f"notebook: found {number!r}, wanted one of {known}")
    return chosen


def source_hash(source: Path) -> str:
    """SHA-256 of a source, the same whichever way its lines end."""
    return hashlib.sha256(Path(source).read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def notebook_from(source: Path) -> NotebookNode:
    """The notebook that a source makes, without outputs: same source, same bytes, on every machine."""
    cells = jupytext.read(source, fmt="py:percent").cells
    for position, cell in enumerate(cells):
        place = f"{Path(source).stem}/{position}"
        cell["id"] = hashlib.sha256(place.encode()).hexdigest()[:12]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=NOTEBOOK_METADATA)
    nbformat.validate(notebook)
    return notebook


def executed_hash(notebook: NotebookNode) -> str | None:
    """Hash of the source that the outputs were made from; None in a notebook that was not executed."""
    return notebook.metadata.get("harmony_lite", {}).get("source_sha256")


def differences(source: Path, notebook: NotebookNode) -> list[str]:
    """Where a notebook departs from what its source makes: kernel, number, kind, text, tags and ids of the cells."""
    wanted = notebook_from(source)
    found = []
    if notebook.metadata.get("kernelspec") != wanted.metadata.kernelspec:
        found.append(f"kernelspec: found {notebook.metadata.get('kernelspec')}, wanted python3's")
    if len(notebook.cells) != len(wanted.cells):
        found.append(f"cells: found {len(notebook.cells)}, wanted {len(wanted.cells)}")
    for position, (cell, original) in enumerate(zip(notebook.cells, wanted.cells, strict=False)):
        for part in ("cell_type", "source", "metadata", "id"):
            if cell.get(part) != original.get(part):
                found.append(
                    f"cell {position}, {part}: found {cell.get(part)!r:.80}, wanted {original.get(part)!r:.80}"
                )
    return found


def write_notebook(notebook: NotebookNode, path: Path) -> None:
    """Write beside and rename, so that an interruption leaves no half notebook."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".ipynb.part")
    part.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    os.replace(part, path)


def pair(folder: Path = FOLDER, number: str | None = None) -> list[Path]:
    """Make the `.ipynb` of each source without outputs; one that is already what its source makes stays as it is."""
    written = []
    for source in sources(folder, number):
        path = source.with_suffix(".ipynb")
        if path.exists() and not differences(source, nbformat.read(path, as_version=4)):
            continue
        write_notebook(notebook_from(source), path)
        written.append(path)
    return written


# ------------------------------------------------------------------------------------------------------ execution


@dataclass(frozen=True)
class Measured:
    """What executing one notebook cost.

    Attributes:
        cells: code cells.
        seconds: from the kernel's start to its last cell's end.
        processor_seconds: of the kernel, user and system; close to `seconds` on a quiet machine.
        peak_megabytes: greatest resident memory of the kernel, MB (10^6 bytes).
    """

    cells: int
    seconds: float
    processor_seconds: float
    peak_megabytes: float


class OwnInterpreter(AsyncKernelManager):
    """Kernels of the Python that runs this file: a `python3` kernel of the user's home may be another Python."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """How the kernel is started."""
        # Its one warning says that a kernel of this machine talks to this machine unencrypted.
        return KernelSpec(**get_kernel_dict(extra_arguments=["--log-level=ERROR"]))


@contextmanager
def kernel_environment(profile: str) -> Iterator[dict[str, str]]:
    """Environment of a kernel: one thread, the profile, inline figures, nothing from the user's own IPython set-up."""
    environment = dict(os.environ)
    for name in ("OMP", "MKL", "OPENBLAS"):
        environment[f"{name}_NUM_THREADS"] = "1"
    environment["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
    environment["HARMONY_PROFILE"] = profile
    environment["PYTHONHASHSEED"] = "0"
    environment["TQDM_DISABLE"] = "1"  # bars hold speeds: stored, they would change at every run
    environment.pop("MPLBACKEND", None)
    with tempfile.TemporaryDirectory() as folder:
        environment["IPYTHONDIR"] = folder
        yield environment


def peak_bytes(process: psutil.Process) -> int:
    """Greatest resident memory of a process so far; where the system does not say, the present one."""
    status = Path(f"/proc/{process.pid}/status")
    if status.exists():
        found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)
        if found:
            return int(found.group(1)) * 1024
    return process.memory_info().rss


def tidy_outputs(notebook: NotebookNode) -> None:
    """Keep of the outputs what reads well without a kernel and is the same at every run.

    A widget's view is a random number that no page can show: a line takes its place, beside the static figure.
    """
    notebook.metadata.clear()
    notebook.metadata.update(nbformat.from_dict(NOTEBOOK_METADATA))
    for cell in notebook.cells:
        for position, output in enumerate(cell.get("outputs", [])):
            if WIDGET_VIEW in output.get("data", {}):
                note = {"text/markdown": WIDGET_NOTE, "text/plain": WIDGET_NOTE.strip("*")}
                cell.outputs[position] = nbformat.v4.new_output("display_data", data=note)


def executed(
    source: Path,
    *,
    profile: str = "quick",
    timeout: float | None = None,
    after_cell: Callable[[], object] | None = None,
    failed: Path | None = None,
) -> tuple[NotebookNode, Measured]:
    """Execute a source from its own folder in a kernel of its own.

    Args:
        source: the `.py`.
        profile: value of `HARMONY_PROFILE`.
        timeout: most seconds for one cell; None for no limit.
        after_cell: called when a code cell has ended.
        failed: where the notebook goes, as far as it came, when a cell raises.

    Returns:
        The notebook with outputs and its source's hash, and what it cost.

    Raises:
        CellExecutionError: a cell raised.
    """
    notebook = notebook_from(source)
    cost = {"processor_seconds": 0.0, "peak": 0}
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        kernel_manager_class=OwnInterpreter,
        timeout=timeout,
        startup_timeout=180,
        record_timing=False,  # times stored in the cells would change at every run
        store_widget_state=False,
    )
    client.on_cell_executed = lambda **_: (measure(client, cost), after_cell and after_cell())
    start = time.perf_counter()
    try:
        with kernel_environment(profile) as environment:
            client.execute(env=environment, cwd=str(Path(source).resolve().parent))
    except CellExecutionError:
        if failed is not None:
            write_notebook(notebook, failed)
        raise
    seconds = round(time.perf_counter() - start, 1)
    tidy_outputs(notebook)
    notebook.metadata["harmony_lite"] = {"source_sha256": source_hash(source)}
    used, peak = round(cost["processor_seconds"], 1), round(cost["peak"] / 1e6)
    return notebook, Measured(code_cells(notebook), seconds, used, peak)


def measure(client: NotebookClient, cost: dict[str, float]) -> None:
    """Bring `processor_seconds` and `peak` (bytes) of a running client's kernel up to date."""
    process = psutil.Process(client.km.provisioner.pid)
    times = process.cpu_times()
    cost["processor_seconds"] = times.user + times.system
    cost["peak"] = max(cost["peak"], peak_bytes(process))


def code_cells(notebook: NotebookNode) -> int:
    """Number of code cells that are not empty, which are the ones that execute."""
    return sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in notebook.cells)


def execute_all(
    chosen: list[Path], into: Path | None, profile: str, timeout: float | None = None
) -> dict[str, Measured]:
    """Execute sources one after the other under a progress bar; beside themselves when `into` is None.

    A cell that raises ends it, and the notebook as far as it came is left in `build/failed` for reading.
    """
    costs = {}
    total = sum(code_cells(notebook_from(source)) for source in chosen)
    with tqdm(total=total, unit="cell", file=sys.stdout, dynamic_ncols=True) as bar:
        for source in chosen:
            bar.set_description(source.stem)
            name = f"{source.stem}.ipynb"
            notebook, cost = executed(
                source,
                profile=profile,
                timeout=timeout,
                after_cell=bar.update,
                failed=BUILD / "failed" / name,
            )
            write_notebook(notebook, (into or source.parent) / name)
            costs[source.stem] = cost
            bar.write(f"{source.stem}: {cost.seconds:.0f} s, {cost.peak_megabytes:.0f} MB")
    return costs


def run(folder: Path = FOLDER, build: Path = BUILD, number: str | None = None) -> dict:
    """Execute into `build/run` in the active profile, quick by default, and note what it cost."""
    profile = os.environ.get("HARMONY_PROFILE") or "quick"
    costs = execute_all(sources(folder, number), Path(build) / "run", profile)
    for name, cost in costs.items():
        note(f"notebook {name}", {**asdict(cost), "profile": profile}, build)
    return costs


# ------------------------------------------------------------------------------------------- copies for students


def student_copy(source: Path) -> NotebookNode:
    """A notebook without its solutions, its notes for the teacher, and its outputs."""
    notebook = notebook_from(source)
    notebook.cells = [
        cell for cell in notebook.cells if not HIDDEN_FROM_STUDENTS.intersection(cell.metadata.get("tags", []))
    ]
    return notebook


def student(folder: Path = FOLDER, build: Path = BUILD, number: str | None = None) -> list[Path]:
    """Write the students' copies to `build/student`."""
    written = []
    for source in sources(folder, number):
        written.append(Path(build) / "student" / f"{source.stem}.ipynb")
        write_notebook(student_copy(source), written[-1])
    return written


# --------------------------------------------------------------------------------------------------------- the book


def newest_notebook(source: Path, ran: Path) -> NotebookNode:
    """The executed notebook of a source: from the folder `ran` where that is up to date, else the committed one.

    Raises:
        FileNotFoundError: neither is there.
    """
    candidates = (Path(ran) / f"{source.stem}.ipynb", source.with_suffix(".ipynb"))
    present = [nbformat.read(path, as_version=4) for path in candidates if path.exists()]
    if not present:
        raise FileNotFoundError(f"{candidates[1]}: found no executed notebook, wanted one: make run")
    current = [one for one in present if executed_hash(one) == source_hash(source)]
    return (current or present[::-1])[0]


def alt_texts(notebook: NotebookNode) -> dict[str, str]:
    """Alternative text of each figure, by the SHA-256 of its bytes, which is how MyST-NB names the file it writes."""
    texts = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            for kind, content in output.get("data", {}).items():
                alt = output.get("metadata", {}).get(kind, {}).get("alt")
                if kind.startswith("image/") and alt:
                    texts[hashlib.sha256(b64decode(content)).hexdigest()] = alt
    return texts


def book_notebook(notebook: NotebookNode) -> NotebookNode:
    """A notebook as the book shows it: solutions folded away, notes for the teacher left out."""
    shown = []
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "instructor" in tags:
            continue
        if "solution" in tags and cell.cell_type == "code":
            cell.metadata["tags"] = [*tags, "hide-cell"]
        shown.append(cell)
    notebook.cells = shown
    return notebook


def write_if_changed(path: Path, content: bytes) -> None:
    """Leave a file alone that is already so: Sphinx builds again what has a new time."""
    if not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def book_source(folder: Path, ran: Path, into: Path) -> None:
    """Lay out what Sphinx reads: pages and settings as they are, notebooks as the book shows them."""
    files = {path.name: path.read_bytes() for path in sorted(Path(folder).glob("*.md"))}
    if "ledger.md" in files:
        front = files["ledger.md"].decode()
        files |= {name: page.encode() for name, page in ledger_pages.pages(front).items()}
    files["conf.py"] = (FOLDER / "conf.py").read_bytes()
    texts: dict[str, str] = {}
    for source in sources(folder):
        notebook = book_notebook(newest_notebook(source, ran))
        texts |= alt_texts(notebook)
        files[f"{source.stem}.ipynb"] = nbformat.writes(notebook).encode()
    files["alt_texts.json"] = json.dumps(texts, indent=1).encode()
    into.mkdir(parents=True, exist_ok=True)
    for path in into.iterdir():
        if path.is_file() and path.name not in files:
            path.unlink()
    for name, content in files.items():
        write_if_changed(into / name, content)


def book(
    folder: Path = FOLDER, build: Path = BUILD, name: str = "book", ran: Path = BUILD / "run"
) -> tuple[Path, list[str]]:
    """Bind the executed notebooks and the pages beside them with Sphinx and MyST-NB.

    Args:
        folder: of the sources and pages.
        build: where the book goes.
        name: of the book's folder in `build`.
        ran: where `run` wrote; notebooks that are not up to date there are taken from `folder`.

    Returns:
        The front page, and Sphinx's warnings.

    Raises:
        RuntimeError: Sphinx failed.
    """
    build = Path(build)
    source, out = build / f"{name}_source", build / name
    book_source(Path(folder), ran, source)
    warnings = build / f"{name}_warnings.txt"
    options = ["-b", "html", "-q", "-d", str(build / f"{name}_doctrees"), "-w", str(warnings)]
    command = [sys.executable, "-m", "sphinx", *options, str(source), str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{out}: Sphinx failed\n{done.stdout}{done.stderr}")
    return out / "index.html", warnings.read_text(encoding="utf-8").splitlines()


# ------------------------------------------------------------------------------------------------------- the budget


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


# -------------------------------------------------------------------------------------------------------- commands


def run_command(number: str | None) -> None:
    """`run`: say where the executed notebooks are."""
    run(number=number)
    print(f"Executed notebooks: {BUILD / 'run'}")


def book_command() -> None:
    """`book`: bind and say where to look."""
    page, warnings = book()
    print("\n".join(warnings), file=sys.stderr, end="\n" if warnings else "")
    print(f"The book: open {page} in a browser (it needs no network)")


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="series.py", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("pair", "make the .ipynb beside each source, without outputs"),
        ("execute", "make the .ipynb beside each source, with outputs"),
        ("run", "execute into build/run and note the costs"),
        ("student", "copies without solutions into build/student"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("number", nargs="?", help="one notebook, by its number: 02")
    commands.add_parser("book", help="bind the executed notebooks into build/book")
    commands.add_parser("budget", help="write the measured costs into README's table")
    command = commands.add_parser("note", help="keep the seconds of a command for the table")
    command.add_argument("name")
    command.add_argument("seconds", type=float)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """One of the commands; 0 done, 1 a cell or Sphinx failed, 2 a wrong argument."""
    given = parsed(arguments)
    try:
        if given.command == "pair":
            for path in pair(number=given.number):
                print(f"made {path.name}, without outputs: make execute fills them in")
        elif given.command == "execute":
            execute_all(sources(number=given.number), None, "quick", timeout=600)
        elif given.command == "run":
            run_command(given.number)
        elif given.command == "student":
            print(f"Students' copies: {student(number=given.number)[0].parent}")
        elif given.command == "book":
            book_command()
        elif given.command == "budget":
            print(budget())
        else:
            note(given.name, given.seconds)
    except CellExecutionError as error:
        print(f"series.py: a cell raised\n{error}\n", file=sys.stderr)
        print(f"As far as it came: {BUILD / 'failed'}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        print(f"series.py: error: {error}", file=sys.stderr)
        return 1
    except (FileNotFoundError, ValueError) as error:
        print(f"series.py: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
