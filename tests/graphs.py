"""CUDA graphs without a GPU: what a graph could not hold is noticed, and steps are taken as from a graph."""

from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from harmony_lite.training import loop, steps


class UnfitForAGraph(TorchDispatchMode):
    """Notes what a CUDA graph cannot hold.

    Values that Python reads, results whose size depends on values, constants from the processor's memory.
    """

    NAMES = ("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "unique", "lift_fresh", "equal")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        name = operation.overloadpacket.__name__
        by_mask = name == "index" and any(i is not None and i.dtype == torch.bool for i in arguments[1])
        if name in self.NAMES or by_mask:
            self.found.append(name)
        return operation(*arguments, **(options or {}))


@contextmanager
def as_if_captured(monkeypatch, *, recorded=lambda step, generators: step):
    """Trainings on the CPU take the steps of `CapturedSteps`, with a stand-in for the recording."""
    with monkeypatch.context() as patch:
        patch.setattr(loop, "new_steps", lambda run, draw, clip, capture: steps.CapturedSteps(run, draw, clip))
        patch.setattr(steps, "on_side_stream", lambda function: function())
        patch.setattr(steps, "_make_capturable", lambda *_: None)  # Adam counts its steps on a GPU only
        patch.setattr(steps, "recorded", recorded)
        yield


def watched(found, monkeypatch):
    """A stand-in for a recording: `found` is told of each step what a graph could not hold.

    On a CPU Adam reads its count of steps in Python; on a GPU it does not, so its step is not watched.
    """
    step_of_adam = torch.optim.Adam.step

    def unwatched(optimizer, closure=None):
        with _disable_current_modes():
            return step_of_adam(optimizer, closure)

    monkeypatch.setattr(torch.optim.Adam, "step", unwatched)

    def recorded(step, generators):
        def replay():
            with UnfitForAGraph() as watch:
                result = step()
            found.append(watch.found)
            return result

        return replay

    return recorded
