"""What a training went through: losses, validations, time; and whether it was long enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

__all__ = ["CURVE_POINTS", "DECIBEL", "History"]

CURVE_POINTS = 20  # of a validation curve on a card
DECIBEL = "dB"  # the unit of a validation that is minus a PSNR
LEAST_SHARE = 0.005  # of the loss: a gain below it does not count
LEAST_DECIBELS = 0.1


@dataclass
class History:
    """What a training went through.

    Attributes:
        losses: of each step, mean over the devices.
        validations: (step, value); smaller is better.
        best_step: step of the smallest validation, whose weights the model carries; None without validation.
        seconds: wall clock, without the pauses between interruption and resumption.
        device: where it ended, such as `cpu`.
        unit: of the validations, such as "bits per pixel"; `DECIBEL` where they are minus a PSNR.
    """

    losses: list[float] = field(default_factory=list)
    validations: list[tuple[int, float]] = field(default_factory=list)
    best_step: int | None = None
    seconds: float = 0.0
    device: str = ""
    unit: str = "loss"

    @classmethod
    def joined(cls, histories: Iterable[History]) -> History:
        """Several trainings in a row: their losses and seconds."""
        histories = list(histories)
        losses = [loss for history in histories for loss in history.losses]
        return cls(losses, seconds=sum(history.seconds for history in histories))

    @staticmethod
    def described(histories: Mapping[str, History]) -> dict[str, Any]:
        """What a card says of trained parts: `curves` and `converged`, as `harmony_lite.weights.Card` has them."""
        curves = {
            part: {"unit": history.unit, "points": [[step, round(value, 6)] for step, value in history.curve()]}
            for part, history in histories.items()
        }
        return {"curves": curves, "converged": all(h.converged for h in histories.values()) if histories else None}

    def curve(self) -> list[tuple[int, float]]:
        """At most `CURVE_POINTS` points (step, value), evenly spaced, the last one among them.

        They are the validations. A training without any has the mean loss of each twentieth of its steps instead.
        """
        if not self.validations:
            edges = [len(self.losses) * part // CURVE_POINTS for part in range(CURVE_POINTS + 1)]
            return [(b, fmean(self.losses[a:b])) for a, b in zip(edges, edges[1:], strict=False) if b > a]
        count = len(self.validations)
        points = min(CURVE_POINTS, count)
        return [self.validations[(part + 1) * count // points - 1] for part in range(points)]

    @property
    def converged(self) -> bool:
        """Whether the last fifth of the steps brought no gain worth having: the training was long enough.

        A gain is how much smaller the best value of the last fifth is than the best before. It counts where it is at
        least 0.5 % of the best before, or 0.1 dB where the values are decibels. False for fewer than five points.

        >>> History(validations=[(step, 2 + 1 / step) for step in range(1, 11)]).converged
        False
        >>> History(validations=[(step, 2 + 0.5**step) for step in range(1, 11)]).converged
        True
        """
        points = self.validations or self.curve()
        if len(points) < 5:
            return False
        late = points[-1][0] * 4 / 5
        before, after = (min(v for step, v in points if (step > late) == is_late) for is_late in (False, True))
        least = LEAST_DECIBELS if self.unit == DECIBEL else LEAST_SHARE * abs(before)
        return before - after < least
