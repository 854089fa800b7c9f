"""One explicit training loop for every method: draw a batch, its loss, backward, step.

Lightning Fabric carries device, precision and several GPUs (distributed data parallel); the rest is in sight here.
Batches and noise are drawn from one `torch.Generator`. Its state and those of the model, the optimizer and the
schedule are all there is to a training: saved and read again, the numbers go on as if nothing had happened.
"""

from __future__ import annotations

import io
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from harmony_lite.storage import written_whole

__all__ = ["History", "checkpoint_of", "train"]

_FORMAT = "harmony_lite training 1"


@dataclass
class History:
    """What a training went through.

    Attributes:
        losses: of each step, mean over the devices.
        validations: (step, value); smaller is better.
        best_step: step of the smallest validation, whose weights the model carries; None without validation.
        seconds: wall clock, without the pauses between interruption and resumption.
        device: where it ended, such as `cpu`.
    """

    losses: list[float] = field(default_factory=list)
    validations: list[tuple[int, float]] = field(default_factory=list)
    best_step: int | None = None
    seconds: float = 0.0
    device: str = ""

    @classmethod
    def joined(cls, histories: Iterable[History]) -> History:
        """Several trainings in a row: their losses and seconds."""
        histories = list(histories)
        losses = [loss for history in histories for loss in history.losses]
        return cls(losses, seconds=sum(history.seconds for history in histories))


def checkpoint_of(checkpoint: str | Path | None, part: str) -> Path | None:
    """The file of one of several trainings: `NAME.PART.SUFFIX` of `NAME.SUFFIX`; None where there is no checkpoint."""
    if checkpoint is None:
        return None
    path = Path(checkpoint)
    return path.with_suffix(f".{part}{path.suffix}")


def train(
    model: nn.Module,
    optimizer: Optimizer,
    batch_loss: Callable[[nn.Module, Any, torch.Generator], Tensor],
    draw_batch: Callable[[torch.Generator], Any],
    *,
    steps: int,
    generator: torch.Generator,
    scheduler: LRScheduler | None = None,
    validate: Callable[[nn.Module], float] | None = None,
    validate_every: int = 200,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 500,
    recipe: Mapping[str, Any] | None = None,
    accelerator: str = "auto",
    devices: int | str | list[int] = 1,
    precision: str = "32-true",
    gradient_clip: float | None = None,
    progress: bool = True,
) -> History:
    """Train `model` in place, on the device where it then stays.

    Same seed, same machine, same numbers (on a GPU as far as its kernels are deterministic). Dropout and whatever
    else draws from torch's global state follows `generator` too; the caller's global state stays as it was.

    Args:
        model: with each of its parts in the mode (train or eval) that it is to be trained in.
        optimizer: over the model's parameters.
        batch_loss: (model, batch on the model's device, generator) -> scalar, whose mean over batches is minimized.
        draw_batch: generator -> batch (tensors, or tuples or dicts of them); no other source of chance.
        steps: how many in all, those before an interruption included.
        generator: on the CPU. With several devices each has its own, seeded with the seed plus the device's rank.
        scheduler: of the learning rate, stepped after each step.
        validate: model -> smaller is better, in eval mode and without gradients; the model ends with the weights of
            its best validation.
        validate_every: steps between validations; there is one after the last step too.
        checkpoint: file from which an interrupted training goes on and a finished one is read; also written at the end
            and on Ctrl-C, which is answered when the running step is done.
        checkpoint_every: steps between writings of the checkpoint.
        recipe: what else decides the numbers (weights of loss terms, data seed); compared with the checkpoint's.
        accelerator: as Lightning Fabric takes it: `auto`, `cpu`, `cuda`.
        devices: how many, or which.
        precision: as Lightning Fabric takes it: `32-true`, `bf16-mixed`.
        gradient_clip: largest Euclidean norm of the gradient.
        progress: show a bar with the loss on standard error.

    Raises:
        ValueError: a loss, weights or a validation that are not finite (the last good checkpoint is kept); a
            checkpoint of other settings, or a file that is no checkpoint; a number of steps below 1.
    """
    counts = {"steps": steps, "validate_every": validate_every, "checkpoint_every": checkpoint_every}
    for name, number in counts.items():
        if number < 1:
            raise ValueError(f"{name}: found {number}, wanted at least 1")
    run = _Run(model, optimizer, scheduler, generator, _fabric(accelerator, devices, precision), batch_loss, checkpoint)
    run.note_settings(steps=steps, precision=precision, gradient_clip=gradient_clip, recipe=dict(recipe or {}))
    run.settings["validation"] = repr(validate_every if validate else None)
    run.resume()
    silent = not progress or run.fabric.global_rank > 0 or run.step == steps
    bar = tqdm(total=steps, initial=run.step, desc="training", unit="step", disable=silent)
    with bar, _interrupts_between_steps() as interrupted:
        while run.step < steps:
            started = time.perf_counter()
            loss = run.loss_of(run.drawn(draw_batch))
            value, stop = _over_devices(run.fabric, loss, interrupted.is_set())
            run.step_taken(loss, value, gradient_clip)
            is_last = run.step == steps
            if validate is not None and (run.step % validate_every == 0 or is_last):
                run.validate(validate)
            run.history.seconds += time.perf_counter() - started
            bar.set_postfix(loss=f"{value:.4g}", refresh=False)
            bar.update()
            if stop or run.step % checkpoint_every == 0 or is_last:
                run.save()
            if stop:
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


class _Objective(nn.Module):
    """The loss as a module's forward pass: precision and gradient exchange then cover all of it."""

    def __init__(self, model: nn.Module, batch_loss: Callable[[nn.Module, Any, torch.Generator], Tensor]) -> None:
        super().__init__()
        self.model, self.batch_loss = model, batch_loss

    def forward(self, batch: Any, generator: torch.Generator) -> Tensor:
        loss = self.batch_loss(self.model, batch, generator)
        if loss.ndim:
            raise ValueError(f"batch_loss: found a loss of shape {tuple(loss.shape)}, wanted a scalar")
        return loss


@dataclass
class _Run:
    """A training under way: all that a checkpoint holds, and what it takes to write and read one."""

    model: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler | None
    generator: torch.Generator
    fabric: Any
    batch_loss: Callable[[nn.Module, Any, torch.Generator], Tensor]
    checkpoint: str | Path | None
    settings: dict[str, str] = field(default_factory=dict)
    step: int = 0
    history: History = field(default_factory=History)
    best: dict[str, Tensor] | None = None

    def __post_init__(self) -> None:
        self.path = None if self.checkpoint is None else Path(self.checkpoint)
        self.objective, self.stepper = self.fabric.setup(_Objective(self.model, self.batch_loss), self.optimizer)

    def drawn(self, draw_batch: Callable[[torch.Generator], Any]) -> Any:
        """A batch on the model's device; interrupted meanwhile, the same batch is drawn on resuming."""
        before = self.generator.get_state()
        try:
            return self.fabric.to_device(draw_batch(self.generator))
        except KeyboardInterrupt:
            self.generator.set_state(before)
            self.save()
            raise

    def loss_of(self, batch: Any) -> Tensor:
        """Forward."""
        with _global_chance(self.generator, self.fabric.device):
            return self.objective(batch, self.generator)

    def step_taken(self, loss: Tensor, value: float, gradient_clip: float | None) -> None:
        """Backward, and one step of the optimizer and the schedule; `value` is the loss over all devices."""
        self.require_finite("a loss", value)
        self.stepper.zero_grad()
        self.fabric.backward(loss)
        if gradient_clip is not None:
            self.fabric.clip_gradients(self.objective, self.stepper, max_norm=gradient_clip, error_if_nonfinite=False)
        self.stepper.step()
        if self.scheduler is not None:
            self.scheduler.step()
        self.step += 1
        self.history.losses.append(value)

    def note_settings(self, **others: Any) -> None:
        """Note, as text, what must agree for a checkpoint to be gone on from; nothing that moves while training."""
        schedule = {} if self.scheduler is None else self.scheduler.state_dict()
        moving = {"last_epoch", "T_cur", "T_i"}
        settings = {
            "model": {name: tuple(tensor.shape) for name, tensor in self.model.state_dict().items()},
            "optimizer": (type(self.optimizer).__name__, self.optimizer.defaults),
            "learning rates": [group.get("initial_lr", group["lr"]) for group in self.optimizer.param_groups],
            "scheduler": type(self.scheduler).__name__,
            "schedule": {key: schedule[key] for key in schedule if key not in moving and not key.startswith("_")},
            "seed": self.generator.initial_seed(),
            "devices": self.fabric.world_size,
        }
        self.settings = {name: repr(value) for name, value in (settings | others).items()}

    def require_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            kept = f"; {self.path} keeps the last good state" if self.path and self.path.exists() else ""
            raise ValueError(f"training stopped after {self.step} steps: found {what} of {value}, wanted finite{kept}")

    def validate(self, validate: Callable[[nn.Module], float]) -> None:
        modes = {module: module.training for module in self.model.modules()}
        self.model.eval()
        try:
            with torch.no_grad():
                value = self.fabric.broadcast(float(validate(self.model)))
        finally:
            for module, mode in modes.items():
                module.training = mode
        self.require_finite("a validation", value)
        if self.best is None or value < min(earlier for _, earlier in self.history.validations):
            self.best = {name: tensor.detach().cpu().clone() for name, tensor in self.model.state_dict().items()}
            self.history.best_step = self.step
        self.history.validations.append((self.step, value))

    def save(self) -> None:
        for name, weight in self.model.named_parameters():  # a gradient may overflow though its loss did not
            self.require_finite(f"{name} with a sum", float(weight.detach().double().sum()))
        self.history.device = str(self.fabric.device)
        if self.path is None:
            return
        content = {
            "format": _FORMAT,
            "settings": self.settings,
            "step": self.step,
            "history": vars(self.history),
            "best": self.best,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "generators": self.fabric.all_gather(self.generator.get_state()).cpu().reshape(self.fabric.world_size, -1),
        }
        if self.fabric.global_rank == 0:
            buffer = io.BytesIO()
            torch.save(content, buffer)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(self.path) as part:
                part.write_bytes(buffer.getvalue())
        self.fabric.barrier()

    def resume(self) -> None:
        if self.fabric.global_rank:  # each device has its own generator
            self.generator.manual_seed(self.generator.initial_seed() + self.fabric.global_rank)
        if self.path is None or not self.path.exists():
            return
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)  # runs no code from the file
            found_settings = content["settings"] if content["format"] == _FORMAT else None
        except Exception as error:  # zip, pickle, end-of-file, key errors: all mean the same to whoever reads this
            raise ValueError(f"{self.path}: found a file that cannot be read as a checkpoint of a training") from error
        if found_settings is None:
            raise ValueError(f"{self.path}: found {content['format']!r}, wanted {_FORMAT!r}")
        for name, wanted in self.settings.items():
            if found_settings.get(name) != wanted:
                found = f"found a checkpoint of other settings, {name} {found_settings.get(name)}"
                raise ValueError(f"{self.path}: {found}, wanted {wanted}; name another file, or remove this one")
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        if self.scheduler is not None:
            self.scheduler.load_state_dict(content["scheduler"])
        self.fabric.strategy.precision.load_state_dict(content["precision"])
        # a copy: torch 2.13 crashes on a state that is a view into a larger tensor
        self.generator.set_state(content["generators"][self.fabric.global_rank].clone())
        self.step, self.best, self.history = content["step"], content["best"], History(**content["history"])


def _over_devices(fabric: Any, loss: Tensor, interrupted: bool) -> tuple[float, bool]:
    """Mean loss, and whether any device was interrupted: in one exchange, so that all stop after the same step."""
    value, stop = fabric.all_reduce(torch.stack([loss.detach().float(), loss.new_tensor(interrupted).float()])).tolist()
    return value, stop > 0


@contextmanager
def _global_chance(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """Let layers that draw from torch's global state, such as dropout, follow the generator; restore that state."""
    seed = int(torch.randint(2**62, (), generator=generator))
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng([device] if on_gpu else []):
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            torch.cuda.manual_seed(seed)
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
