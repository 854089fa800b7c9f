"""How a step is taken: eagerly, or on a GPU as one CUDA graph that is recorded once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from harmony_lite.cuda_graphs import WARM_UP, on_side_stream, recorded
from harmony_lite.training.run import Run

__all__ = ["CapturedSteps", "EagerSteps", "new_steps"]

CHECK_EVERY = 50  # captured steps between two looks at their losses: each look makes the processor wait for the GPU

Draw = Callable[[Any, torch.Generator], Any]


def new_steps(run: Run, draw_batch: Draw, gradient_clip: float | None, capture: bool) -> EagerSteps | CapturedSteps:
    """How the steps of a run are taken; a warning says why where they should be captured and cannot be."""
    if not capture or run.device.type != "cuda":
        return EagerSteps(run, draw_batch, gradient_clip)
    several = run.fabric.world_size > 1
    if several or run.fabric.strategy.precision.state_dict():  # the only precision with a state scales gradients
        _warn("several devices exchange gradients" if several else "gradients are scaled")
        return EagerSteps(run, draw_batch, gradient_clip)
    return CapturedSteps(run, draw_batch, gradient_clip)


def _warn(why: str) -> None:
    warnings.warn(f"the training step runs without a CUDA graph, several times slower: {why}", stacklevel=4)


class EagerSteps:
    """Steps one kernel after the other; each loss is looked at before the step is taken."""

    def __init__(self, run: Run, draw_batch: Draw, gradient_clip: float | None) -> None:
        self.run, self.draw_batch, self.gradient_clip = run, draw_batch, gradient_clip

    def take(self, interrupted: Callable[[], bool]) -> bool:
        """One step; returns whether any device was interrupted meanwhile."""
        run = self.run
        batch = self._drawn()
        with _global_chance(run.generator, run.device):
            loss = run.objective(batch, run.chance)
        value, stop = _over_devices(run.fabric, loss, interrupted())
        run.require_finite("a loss", value)
        run.update(loss, self.gradient_clip)
        if run.scheduler is not None:
            run.scheduler.step()
        run.step += 1
        run.history.losses.append(value)
        return stop

    def _drawn(self) -> Any:
        """A batch; interrupted meanwhile, the same batch is drawn on resuming."""
        run = self.run
        before = run.chance.get_state()
        try:
            return run.drawn(self.draw_batch)
        except KeyboardInterrupt:
            run.chance.set_state(before)
            run.save()
            raise

    def settle(self) -> None:
        """Every loss has been looked at already."""


class CapturedSteps:
    """Steps from a CUDA graph: draw, loss, backward, clipping and optimizer, recorded after three steps.

    Losses stay on the GPU and are looked at every `CHECK_EVERY` steps, and by `settle`. Where a step cannot be recorded
    the training goes on eagerly, with a warning.
    """

    def __init__(self, run: Run, draw_batch: Draw, gradient_clip: float | None) -> None:
        self.run, self.draw_batch, self.gradient_clip = run, draw_batch, gradient_clip
        self._warm, self._replay = 0, None
        self._pending: list[Tensor] = []  # losses that nobody has looked at
        self._eager: EagerSteps | None = None
        _make_capturable(run.optimizer, run.device)

    def take(self, interrupted: Callable[[], bool]) -> bool:
        """One step; returns whether the training was interrupted meanwhile."""
        if self._replay is None and self._warm == WARM_UP:
            self._record()
        if self._eager is not None:
            return self._eager.take(interrupted)
        run = self.run
        if self._replay is None:
            loss, self._warm = on_side_stream(self._step), self._warm + 1
        else:
            loss = self._replay()
        self._pending.append(loss.clone())
        if run.scheduler is not None:
            run.scheduler.step()
            self._tell_rates()
        run.step += 1
        if len(self._pending) == CHECK_EVERY:
            self.settle()
        return interrupted()

    def settle(self) -> None:
        """Look at the losses since the last look; one that is not finite stops the training (ValueError)."""
        if not self._pending:
            return
        values, run, self._pending = torch.stack(self._pending).tolist(), self.run, []
        reached = run.step
        for position, value in enumerate(values, start=1):
            run.step = reached - len(values) + position - 1
            run.require_finite("a loss", value)
            run.history.losses.append(value)
        run.step = reached

    def _step(self) -> Tensor:
        run = self.run
        loss = run.objective(run.drawn(self.draw_batch), run.chance)
        run.update(loss, self.gradient_clip)
        return loss.detach()

    def _record(self) -> None:
        """Record the step; learning rates are read from tensors, which `_tell_rates` fills."""
        run = self.run
        groups, before = run.optimizer.param_groups, run.chance.get_state()
        rates = [float(group["lr"]) for group in groups]
        self._rates = [torch.tensor(rate, device=run.device) for rate in rates]
        run.optimizer.zero_grad(set_to_none=True)  # gradients then lie in the graph's memory
        for group, rate in zip(groups, self._rates, strict=True):
            group["lr"] = rate
        try:
            self._replay = recorded(self._step, [run.chance])
        except RuntimeError as error:
            self.settle()
            run.chance.set_state(before)
            run.optimizer.zero_grad(set_to_none=True)
            self._eager = EagerSteps(run, self.draw_batch, self.gradient_clip)
            _warn(str(error).splitlines()[0])
        finally:
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate  # as the schedule and a checkpoint want it

    def _tell_rates(self) -> None:
        if self._replay is not None:
            for place, group in zip(self._rates, self.run.optimizer.param_groups, strict=True):
                place.fill_(group["lr"])


def _make_capturable(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Let an optimizer count its steps on the GPU, where it can."""
    for group in optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = True
            for parameter in group["params"]:
                state = optimizer.state.get(parameter, {})
                if "step" in state:
                    state["step"] = torch.as_tensor(state["step"], dtype=torch.float32).to(device)


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
