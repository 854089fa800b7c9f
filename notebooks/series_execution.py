"""Executing: each source in a kernel of its own, its outputs tidied, its cost measured."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import nbformat
import psutil
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from series_budget import note
from series_pairs import BUILD, FOLDER, NOTEBOOK_METADATA, notebook_from, source_hash, sources, write_notebook
from tqdm import tqdm

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_NOTE = "*An interactive widget stands here while the notebook runs.*"


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
