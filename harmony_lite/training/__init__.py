"""One explicit training loop for every method: draw a batch, its loss, backward, step.

In reading order: loop.py (`train`), steps.py (a step, eager or as one CUDA graph), run.py (what a training is made of,
and its checkpoint), history.py (what a training went through, and whether it was long enough).
"""

from harmony_lite.training.history import CURVE_POINTS, DECIBEL, History
from harmony_lite.training.loop import train
from harmony_lite.training.run import checkpoint_of

__all__ = ["CURVE_POINTS", "DECIBEL", "History", "checkpoint_of", "train"]
