"""One explicit training loop for every method: draw a batch, its loss, backward, step.

Lightning Fabric carries device, precision and several GPUs (distributed data parallel); the rest is in sight here.
Batches and noise are drawn from one `torch.Generator`. Its state and those of the model, the optimizer and the
schedule are all there is to a training: saved and read again, the numbers go on as if nothing had happened.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from harmony_lite.training.history import History
from harmony_lite.training.run import Run
from harmony_lite.training.steps import new_steps

__all__ = ["train"]


def train(
    model: nn.Module,
    optimizer: Optimizer,
    batch_loss: Callable[[nn.Module, Any, torch.Generator], Tensor],
    draw_batch: Callable[[Any, torch.Generator], Any],
    *,
    steps: int,
    generator: torch.Generator,
    data: Any = None,
    scheduler: LRScheduler | None = None,
    validate: Callable[[nn.Module], float] | None = None,
    validate_every: int = 200,
    unit: str = "loss",
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 500,
    recipe: Mapping[str, Any] | None = None,
    accelerator: str = "auto",
    devices: int | str | list[int] = 1,
    precision: str = "32-true",
    gradient_clip: float | None = None,
    capture: bool = True,
    progress: bool = True,
) -> History:
    """Train `model` in place, on the device where it then stays.

    Same seed, same machine, same numbers (on a GPU as far as its kernels are deterministic). Dropout and whatever
    else draws from torch's global state follows `generator` too; the caller's global state stays as it was.

    Args:
        model: with each of its parts in the mode (train or eval) that it is to be trained in.
        optimizer: over the model's parameters.
        batch_loss: (model, batch on the model's device, generator) -> scalar, whose mean over batches is minimized.
        draw_batch: (data, generator) -> batch (tensors, or tuples or dicts of them); no other source of chance.
        steps: how many in all, those before an interruption included.
        generator: on the CPU. With several devices each has its own, seeded with the seed plus the device's rank. On a
            GPU, `draw_batch` and `batch_loss` are given a generator on the GPU, seeded from this one.
        data: what batches are drawn from, in tuples or dicts of tensors; it stays on the model's device throughout.
        scheduler: of the learning rate, stepped after each step.
        validate: model -> smaller is better, in eval mode and without gradients; the model ends with the weights of
            its best validation.
        validate_every: steps between validations; there is one after the last step too.
        unit: of the validations, for the history.
        checkpoint: file from which an interrupted training goes on and a finished one is read; also written at the end
            and on Ctrl-C, which is answered when the running step is done.
        checkpoint_every: steps between writings of the checkpoint.
        recipe: what else decides the numbers (weights of loss terms, data seed); compared with the checkpoint's.
        accelerator: as Lightning Fabric takes it: `auto`, `cpu`, `cuda`.
        devices: how many, or which.
        precision: as Lightning Fabric takes it: `32-true`, `bf16-mixed`.
        gradient_clip: largest Euclidean norm of the gradient.
        capture: on a GPU, run each step as one CUDA graph (steps.py); losses are then looked at every so many steps.
            What cannot be captured runs without, with a warning.
        progress: show a bar with the loss on standard error.

    Raises:
        ValueError: a loss, weights or a validation that are not finite (the last good checkpoint is kept); a
            checkpoint of other settings, or a file that is no checkpoint; a number of steps below 1.
    """
    counts = {"steps": steps, "validate_every": validate_every, "checkpoint_every": checkpoint_every}
    for name, number in counts.items():
        if number < 1:
            raise ValueError(f"{name}: found {number}, wanted at least 1")
    fabric = _fabric(accelerator, devices, precision)
    run = Run(model, optimizer, scheduler, generator, fabric, batch_loss, checkpoint, data)
    run.history.unit = unit
    run.note_settings(steps=steps, precision=precision, gradient_clip=gradient_clip, recipe=dict(recipe or {}))
    run.settings["validation"] = repr(validate_every if validate else None)
    with _torchs_state_on_gpu_kept(run.device):
        run.resume()
        taken = new_steps(run, draw_batch, gradient_clip, capture)
        silent = not progress or fabric.global_rank > 0 or run.step == steps
        bar = tqdm(total=steps, initial=run.step, desc="training", unit="step", disable=silent)
        with bar, _interrupts_between_steps() as interrupted:
            while run.step < steps:
                started = time.perf_counter()
                stop = taken.take(interrupted.is_set)
                is_last = run.step == steps
                is_validated = validate is not None and (run.step % validate_every == 0 or is_last)
                is_saved = stop or run.step % checkpoint_every == 0 or is_last
                if is_validated or is_saved:
                    taken.settle()
                if is_validated:
                    run.validate(validate)
                run.history.seconds += time.perf_counter() - started
                if run.history.losses:
                    bar.set_postfix(loss=f"{run.history.losses[-1]:.4g}", refresh=False)
                bar.update()
                if is_saved:
                    run.save()
                if stop:
                    raise KeyboardInterrupt
            if interrupted.is_set():  # pressed while the last step was validated or saved
                raise KeyboardInterrupt
    if run.best is not None:
        model.load_state_dict(run.best)
    return run.history


def _fabric(accelerator: str, devices: int | str | list[int], precision: str) -> Any:
    """Lightning Fabric, ready to carry a model."""
    from lightning_fabric import Fabric  # costs seconds

    fabric = Fabric(accelerator=accelerator, devices=devices, precision=precision)
    fabric.launch()
    return fabric


@contextmanager
def _torchs_state_on_gpu_kept(device: torch.device) -> Iterator[None]:
    """Whatever a training draws from torch's global state on a GPU, the caller's state there stays as it was."""
    with torch.random.fork_rng([device]) if device.type == "cuda" else nullcontext():
        yield


@contextmanager
def _interrupts_between_steps() -> Iterator[threading.Event]:
    """Note Ctrl-C, to be answered where everything can be saved; a second one stops at once."""
    asked = threading.Event()

    def note(*_: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else it is somebody else's, or ignored
    if not usual or threading.current_thread() is not threading.main_thread():
        yield asked
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
