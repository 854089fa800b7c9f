"""A training under way: model, optimizer, schedule, chance and history, and the checkpoint that holds them all."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from harmony_lite.storage import written_whole
from harmony_lite.training.history import History

__all__ = ["Run", "checkpoint_of"]

_FORMAT = "harmony_lite training 2"


def checkpoint_of(checkpoint: str | Path | None, part: str) -> Path | None:
    """The file of one of several trainings: `NAME.PART.SUFFIX` of `NAME.SUFFIX`; None where there is no checkpoint."""
    if checkpoint is None:
        return None
    path = Path(checkpoint)
    return path.with_suffix(f".{part}{path.suffix}")


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
class Run:
    """A training under way: all that a checkpoint holds, and what it takes to write and read one.

    On a GPU, batches and noise are drawn there: `chance` is a generator on the GPU, seeded from `generator`. On a CPU
    the two are the same.
    """

    model: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler | None
    generator: torch.Generator
    fabric: Any
    batch_loss: Callable[[nn.Module, Any, torch.Generator], Tensor]
    checkpoint: str | Path | None
    data: Any = None
    settings: dict[str, str] = field(default_factory=dict)
    step: int = 0
    history: History = field(default_factory=History)
    best: dict[str, Tensor] | None = None

    def __post_init__(self) -> None:
        self.path = None if self.checkpoint is None else Path(self.checkpoint)
        self.objective, self.stepper = self.fabric.setup(_Objective(self.model, self.batch_loss), self.optimizer)
        self.data = self.fabric.to_device(self.data)
        self.chance = self.generator

    @property
    def device(self) -> torch.device:
        """Where the model is trained."""
        return self.fabric.device

    def drawn(self, draw_batch: Callable[[Any, torch.Generator], Any]) -> Any:
        """A batch on the model's device."""
        return self.fabric.to_device(draw_batch(self.data, self.chance))

    def update(self, loss: Tensor, gradient_clip: float | None) -> None:
        """Backward, and one step of the optimizer."""
        self.stepper.zero_grad()
        self.fabric.backward(loss)
        if gradient_clip is not None:
            self.fabric.clip_gradients(self.objective, self.stepper, max_norm=gradient_clip, error_if_nonfinite=False)
        self.stepper.step()

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
        """ValueError where a value is NaN or infinite."""
        if not math.isfinite(value):
            kept = f"; {self.path} keeps the last good state" if self.path and self.path.exists() else ""
            raise ValueError(f"training stopped after {self.step} steps: found {what} of {value}, wanted finite{kept}")

    def validate(self, validate: Callable[[nn.Module], float]) -> None:
        """One validation, in evaluation mode; the best weights so far are kept."""
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
        """Write the checkpoint, where there is one; weights that are not finite are refused (ValueError)."""
        for name, weight in self.model.named_parameters():  # a gradient may overflow though its loss did not
            self.require_finite(f"{name} with a sum", float(weight.detach().double().sum()))
        self.history.device = str(self.device)
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
            "on the GPU": self._states_on_gpu(),
        }
        if self.fabric.global_rank == 0:
            buffer = io.BytesIO()
            torch.save(content, buffer)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(self.path) as part:
                part.write_bytes(buffer.getvalue())
        self.fabric.barrier()

    def _states_on_gpu(self) -> list[Tensor]:
        """Of every process's generator there, and of torch's own: (W, bytes) each; none on a CPU."""
        if self.device.type != "cuda":
            return []
        states = self.chance.get_state(), torch.cuda.get_rng_state(self.device)
        return [self.fabric.all_gather(state.cpu()).cpu().reshape(self.fabric.world_size, -1) for state in states]

    def start_chance(self) -> None:
        """On a GPU: a generator there, and torch's own state there, both seeded from the generator on the CPU."""
        if self.device.type == "cuda":
            seed = int(torch.randint(2**62, (), generator=self.generator))
            self.chance = torch.Generator(self.device).manual_seed(seed)
            torch.cuda.manual_seed(seed)

    def resume(self) -> None:
        """Go on from the checkpoint, where there is one of the same settings (else ValueError)."""
        if self.fabric.global_rank:  # each device has its own generator
            self.generator.manual_seed(self.generator.initial_seed() + self.fabric.global_rank)
        self.start_chance()
        if self.path is None or not self.path.exists():
            return
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)  # runs no code from the file
            found_settings = content["settings"] if content["format"] == _FORMAT else None
        except Exception as error:  # zip, pickle, end-of-file, key errors: all mean the same to whoever reads this
            found = "found a file that cannot be read as a checkpoint of a training"
            raise ValueError(f"{self.path}: {found}; remove it to begin anew") from error
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
        if self.device.type == "cuda" and content["on the GPU"]:  # a training begun on a CPU may go on here
            chance, global_state = (states[self.fabric.global_rank].clone() for states in content["on the GPU"])
            self.chance.set_state(chance)
            torch.cuda.set_rng_state(global_state, self.device)
        self.step, self.best, self.history = content["step"], content["best"], History(**content["history"])
