"""Train the shipped networks in minutes on a machine with a GPU, at the sizes of the profile `gpu`.

    python data_scripts/train_on_gpu.py OUT --minutes 8 [--recipes unet.maps,blindharmony] [--jobs 16] [--device cuda]

Scans are simulated side by side while the first recipes already train; several recipes share the GPU, which one alone
leaves idle. Each recipe trains as many of the profile's steps as fit into its share of the minutes. OUT gets a tar for
each method (weights and cards, with the validation curves) and `pictures.png`, each as soon as it is there. A run that
was cut short keeps what is done; called again with the same OUT, it trains what is left, from the checkpoints in
`OUT/unfinished`. `python data_scripts/adopt_weights.py OUT` then brings the weights into the package.

It runs without a network, with torch 2.11 or newer and Python 3.11 or newer. Beside torch and numpy it needs, as
wheels for example: lightning-fabric (lightning-utilities, torchmetrics, packaging, typing-extensions), nflows (UMNN),
safetensors, tqdm, scipy, scikit-image, pandas, nibabel, SimpleITK, dipy, intensity-normalization, matplotlib. The
package need not be installed: a checkout on PYTHONPATH is enough.
"""

from __future__ import annotations

import argparse
import fcntl
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harmony_lite import weights
from harmony_lite.cohort import Cohort, make_scans
from harmony_lite.cohort.side_by_side import start_worker
from harmony_lite.papers.recipes import Recipe, Trainable, recipes
from harmony_lite.profiles import GPU, active
from harmony_lite.storage import written_whole
from harmony_lite.training import History

FILE_LIMIT = 16 * 2**20  # bytes of a file in OUT
TOGETHER = 3  # trainings that share a GPU
TRAINING_SHARE = 0.75  # of the minutes; the others go to simulating, starting and measuring
PROBES = (20, 80)  # steps of the two trials that tell how long a step takes; both validate twenty times
PICTURE = "pictures.png"


def trained_recipes() -> dict[str, Recipe]:
    """The recipes that train networks, those first that need the fewest scans."""
    found = [recipe for recipe in recipes() if recipe.untrained().is_trained]
    return {recipe.label: recipe for recipe in sorted(found, key=lambda one: len(one.people()[0].scanners))}


def chosen(asked: str | None) -> dict[str, Recipe]:
    """The recipes that are asked for, by whole names or by methods; ValueError for any other word."""
    known = trained_recipes()
    words = [word.strip() for word in asked.split(",")] if asked else list(known)
    for word in words:
        if not any(word in (name, recipe.name) for name, recipe in known.items()):
            raise ValueError(f"--recipes: found {word!r}, wanted some of {', '.join(known)}")
    return {name: recipe for name, recipe in known.items() if name in words or recipe.name in words}


# ---------------------------------------------------------------------------------------------------------- one recipe


def train_one(recipe: Recipe, seconds: float, out: Path) -> None:
    """Train a recipe within some seconds, or go on with it, and add what came of it to OUT."""
    folder = unfinished(out)
    training, validation = recipe.people()
    settings = planned(recipe, training, seconds, folder / f"{recipe.label}.settings.json")
    trained = recipe.untrained().take_settings(settings)
    trained = recipe.train(trained, training, folder / f"{recipe.label}.checkpoint")
    on_device = OnDevice(trained, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    path = folder / f"{recipe.label}.safetensors"
    weights.save(
        trained.state(),
        path,
        command=f"HARMONY_PROFILE={active().name} python data_scripts/train_on_gpu.py OUT --recipes {recipe.label}",
        profile=active().name,
        data_seed=active().seed,
        minutes=round(seconds_of(trained) / 60, 3),
        metric=recipe.metric(on_device, validation),
        precision="32-true" + ", convolutions in tf32" * torch.cuda.is_available(),
        **recipe.facts(trained, training),
    )
    pictures = io.BytesIO()
    np.savez_compressed(pictures, **pictures_of(on_device, validation))
    add_to_tar(
        out / f"{recipe.name}.tar",
        {
            path.name: path.read_bytes(),
            weights.card_path(path).name: weights.card_path(path).read_bytes(),
            f"{recipe.label}.npz": pictures.getvalue(),
        },
    )
    for left in folder.glob(f"{recipe.label}.*"):
        left.unlink()


def unfinished(out: Path) -> Path:
    """Where checkpoints lie meanwhile."""
    folder = out / "unfinished"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def planned(recipe: Recipe, training: Cohort, seconds: float, path: Path) -> dict[str, Any]:
    """The profile's settings with as many steps as fit into the seconds; what was planned once is kept in a file."""
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    whole = weights.settings_to_store(recipe.untrained().settings)
    trials = [share_of(whole, steps) for steps in PROBES]
    if trials[-1] < 1:
        times = [time_of(recipe, training, scaled(whole, trial)) for trial in trials]
        slope = max(times[1] - times[0], 1e-9) / (trials[1] - trials[0])
        whole = scaled(whole, min(1.0, trials[0] + max(0.0, seconds - times[0]) / slope))
    with written_whole(path) as part:
        part.write_text(json.dumps(whole), encoding="utf-8")
    return json.loads(json.dumps(whole))


def share_of(settings: Mapping[str, Any], steps: int) -> float:
    """Which share of a whole training some steps are; of a training in epochs, one epoch for 20 steps."""
    if "epochs" in settings:
        return steps / 20 / settings["epochs"][0]
    return steps / min(_each(settings, "training_steps"))


def _each(settings: Mapping[str, Any], name: str) -> Iterator[Any]:
    """Every setting of a name, those within settings too: a method may train several parts."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _each(value, name)
        elif key == name:
            yield value


def scaled(settings: Mapping[str, Any], share: float) -> dict[str, Any]:
    """Settings of a training that is this share as long, at least one step or epoch."""
    of_parts = {name: scaled(value, share) for name, value in settings.items() if isinstance(value, Mapping)}
    changed = {**settings, **of_parts}
    if "training_steps" in settings:
        changed["training_steps"] = max(1, round(share * settings["training_steps"]))
    if "epochs" in settings:
        changed["epochs"] = [max(1, round(share * epochs)) for epochs in settings["epochs"]]
    return changed


def time_of(recipe: Recipe, training: Cohort, settings: Mapping[str, Any]) -> float:
    """Seconds of a training with these settings."""
    return seconds_of(recipe.train(recipe.untrained().take_settings(settings), training, None))


def seconds_of(trained: Trainable) -> float:
    """Seconds that all parts of a method or a judge were trained for."""
    return History.joined(trained.histories.values()).seconds


class OnDevice:
    """A method or a judge that is given scans on the CPU and works on a device."""

    def __init__(self, trained: Trainable, device: torch.device) -> None:
        self.trained, self.device = trained, device

    def __getattr__(self, name: str) -> Any:
        return getattr(self.trained, name)

    def harmonize(self, images: Tensor, *, mask: Tensor | None = None, **options: Any) -> Tensor:
        """As the method's."""
        mask = None if mask is None else mask.to(self.device)
        return self.trained.harmonize(images.to(self.device), mask=mask, **options).cpu()

    def segment(self, images: Tensor, mask: Tensor) -> Tensor:
        """As the judge's."""
        return self.trained.segment(images.to(self.device), mask.to(self.device)).cpu()


def pictures_of(on_device: OnDevice, validation: Cohort) -> dict[str, np.ndarray]:
    """By title, (D, H) bytes each: a slice before and after, the target's; and samples of a flow."""
    person = validation.subset([0])
    height = person.mask.shape[-1] // 2
    target, *sources = person.scanners
    found = {"target": person.scans(target)}
    for source in sources[:2]:
        scan = person.scans(source)
        found[f"{source}, before"] = scan
        if hasattr(on_device.trained, "segment"):
            found[f"{source}, white matter"] = on_device.segment(scan, person.mask).float()
        else:
            scanner = {"scanner": source} if on_device.scanners else {}
            found[f"{source}, after"] = on_device.harmonize(scan, mask=person.mask, **scanner)
    slices = {title: (volume * person.mask)[0, 0, :, :, height].clamp_min(0) for title, volume in found.items()}
    images = {title: image / image.max().clamp_min(1e-6) for title, image in slices.items()}
    if hasattr(on_device.trained, "flow"):
        with torch.no_grad():
            for number, sample in enumerate(on_device.flow.sample(3).cpu() + 0.5):
                images[f"sample {number + 1}"] = sample[0].nan_to_num().clamp(0, 1)
    return {title: (255 * image.clamp(0, 1)).round().byte().numpy() for title, image in images.items()}


# ----------------------------------------------------------------------------------------------------------------- OUT


def add_to_tar(path: Path, files: Mapping[str, bytes]) -> None:
    """Put files into a tar, which is written anew and only then takes its place; ValueError where it grows too large.

    Two recipes of one method may end at once: one waits for the other.
    """
    with open(unfinished(path.parent) / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, data in sorted({**members_of(path), **files}.items()):
                about = tarfile.TarInfo(name)
                about.size = len(data)
                tar.addfile(about, io.BytesIO(data))
        if len(buffer.getvalue()) > FILE_LIMIT:
            raise ValueError(f"{path}: found {len(buffer.getvalue()):,} bytes, wanted at most {FILE_LIMIT:,}")
        with written_whole(path) as part:
            part.write_bytes(buffer.getvalue())


def members_of(path: Path) -> dict[str, bytes]:
    """The files in a tar by name; none where there is no tar."""
    if not path.is_file():
        return {}
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar.getmembers() if member.isfile()}


def finished(out: Path) -> dict[str, dict[str, Any]]:
    """The cards of what is done, by recipe."""
    found = [members_of(path) for path in sorted(out.glob("*.tar"))]
    return {
        name.removesuffix(".json"): json.loads(data)
        for members in found
        for name, data in members.items()
        if name.endswith(".json")
    }


def draw_page(out: Path) -> None:
    """One page: a row for each recipe that is done."""
    from matplotlib.figure import Figure

    members = {name: data for path in sorted(out.glob("*.tar")) for name, data in members_of(path).items()}
    rows = {
        name.removesuffix(".npz"): np.load(io.BytesIO(data)) for name, data in members.items() if name.endswith("npz")
    }
    if not rows:
        return
    columns = max(len(row.files) for row in rows.values())
    figure = Figure(figsize=(1.6 * columns, 1.9 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, row) in zip(axes, rows.items(), strict=True):
        for axis in line:
            axis.axis("off")
        for axis, title in zip(line, row.files, strict=False):
            axis.imshow(row[title].T, cmap="gray", vmin=0, vmax=255, origin="lower")
            axis.set_title(title if axis is not line[0] else f"{name}\n{title}", fontsize=6)
    with written_whole(out / PICTURE) as part:
        figure.savefig(part, format="png", dpi=110)


def table(out: Path, names: Sequence[str]) -> str:
    """What is done, a line for each recipe."""
    done = finished(out)
    lines = [f"{'recipe':<26} {'minutes':>7}  {'converged':<9}  validation"]
    for name in names:
        if name in done:
            card = done[name]
            lines.append(f"{name:<26} {card['minutes']:>7.2f}  {card['converged']!s:<9}  {json.dumps(card['metric'])}")
        else:
            lines.append(f"{name:<26} {'-':>7}  not finished: call again with the same OUT")
    return "\n".join(lines)


# -------------------------------------------------------------------------------------------------------- all of them


@dataclass
class Waiting:
    """A recipe whose scans are being made."""

    name: str
    scans: list[Future]


def simulate(recipe: str, group: int, person: int) -> None:
    """Make the scans of one of a recipe's training (0) or validation (1) people."""
    make_scans(trained_recipes()[recipe].people()[group].subset([person]), 1)


def run(todo: Mapping[str, Recipe], out: Path, *, minutes: float, jobs: int, together: int) -> None:
    """Simulate, and train each recipe in a process of its own as soon as its scans are there."""
    began = time.monotonic()
    shares = sum(recipe.share for recipe in todo.values())
    seconds = {
        name: 60 * minutes * TRAINING_SHARE * min(together, len(todo)) * recipe.share / shares
        for name, recipe in todo.items()
    }
    running: dict[str, subprocess.Popen] = {}
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=start_worker) as pool:
        waiting = deque(
            Waiting(name, [pool.submit(simulate, name, g, i) for g in (0, 1) for i in range(len(recipe.people()[g]))])
            for name, recipe in todo.items()
        )
        try:
            while waiting or running:
                while waiting and len(running) < together and all(scan.done() for scan in waiting[0].scans):
                    ready = waiting.popleft()
                    for scan in ready.scans:
                        scan.result()
                    running[ready.name] = start(ready.name, seconds[ready.name], out)
                for name, process in list(running.items()):
                    if process.poll() is not None:
                        del running[name]
                        report(name, process.returncode, out, time.monotonic() - began)
                if time.monotonic() - began > 75 * minutes:  # a quarter over
                    raise KeyboardInterrupt
                time.sleep(0.2)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in running.values():
                process.send_signal(signal.SIGINT)  # each writes its checkpoint
            for process in running.values():
                process.wait()
            raise


def start(name: str, seconds: float, out: Path) -> subprocess.Popen:
    """A recipe's training as a process."""
    print(f"{name}: {seconds:.0f} s", flush=True)
    command = [sys.executable, __file__, str(out), "--one", name, "--seconds", str(seconds)]
    log = unfinished(out) / f"{name}.log"
    with open(log, "w", encoding="utf-8") as said:  # bars and messages; removed with the rest when it is done
        return subprocess.Popen(command, stderr=said)


def report(name: str, code: int, out: Path, seconds: float) -> None:
    """Say that a recipe has ended, and draw the page anew."""
    print(f"{name}: {'done' if code == 0 else f'ended with {code}'} after {seconds:.0f} s in all", flush=True)
    if code == 0:
        draw_page(out)
    else:
        log = (unfinished(out) / f"{name}.log").read_text(encoding="utf-8").strip()
        print("  " + log.splitlines()[-1] if log else "  it said nothing", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is asked for, or everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of what comes of it; made where it is absent")
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything, simulating included (default: 8)")
    parser.add_argument("--recipes", metavar="A,B", help="methods, or METHOD.VARIANT (default: all)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes that simulate (default: all)")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--one", metavar="RECIPE", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    os.environ.setdefault("HARMONY_PROFILE", GPU.name)
    if given.one:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started us with it ignored
        try:
            train_one(trained_recipes()[given.one], given.seconds, given.out)
        except KeyboardInterrupt:
            return 130
        return 0
    if given.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif given.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device: found no GPU, wanted one, or --device cpu")
    if given.minutes <= 0 or given.jobs < 1:
        parser.error(f"found --minutes {given.minutes:g} and --jobs {given.jobs}, wanted numbers above 0")
    try:
        wanted = chosen(given.recipes)
    except ValueError as error:
        parser.error(str(error))
    given.out.mkdir(parents=True, exist_ok=True)
    todo = {name: recipe for name, recipe in wanted.items() if name not in finished(given.out)}
    together = TOGETHER if given.device != "cpu" and torch.cuda.is_available() else 1
    try:
        run(todo, given.out, minutes=given.minutes, jobs=given.jobs, together=together)
    except KeyboardInterrupt:
        print("stopped; call again with the same OUT to go on", flush=True)
    print(table(given.out, list(wanted)))
    return 0 if set(wanted) <= set(finished(given.out)) else 1


if __name__ == "__main__":
    sys.exit(main())
