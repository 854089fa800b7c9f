"""From noise to an image along the learned velocity: Euler's and the midpoint method, and volumes larger than memory.

Source: H. Jeong et al., "Efficient and robust 3D blind harmonization for large domain gaps", 2025, Equation 5 and
supplement S3.1. "A step size of 16" is read as the public code has it: 16 points in time, so 15 steps, each of which
asks the network twice. Its tolerances decide nothing, because such a solver does not look at its error.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from harmony_lite.papers.blindharmonydiff.network import VelocityNetwork

__all__ = ["SOLVERS", "SamplerSettings", "Velocity", "sample", "steps_of", "velocity_of"]

SOLVERS = ("midpoint", "euler")


@dataclass(frozen=True)
class SamplerSettings:
    """How the way is walked.

    Attributes:
        points: in time, from noise to image; one step less.
        solver: of `SOLVERS`.
        window: voxels a side of overlapping windows that the network is asked about one by one; None for the whole
            volume at once.
        overlap: of the windows, as a share of a side.
        seed: of the noise; one scan, one result.
    """

    points: int = 16
    solver: str = "midpoint"
    window: int | None = None
    overlap: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.points < 2:
            raise ValueError(f"points: found {self.points}, wanted at least 2, one step")
        if self.solver not in SOLVERS:
            raise ValueError(f"solver: found {self.solver!r}, wanted one of {', '.join(map(repr, SOLVERS))}")
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap: found {self.overlap:g}, wanted a share from 0 to below 1")

    @property
    def evaluations(self) -> int:
        """How often a velocity is asked for."""
        return (self.points - 1) * (2 if self.solver == "midpoint" else 1)


class Velocity:
    """A velocity field that counts how often it was asked.

    Args:
        field: (x, t) -> velocity, of x's shape; t is a number from 0 to 1.
    """

    def __init__(self, field: Callable[[Tensor, float], Tensor]) -> None:
        self.field, self.evaluations = field, 0

    def __call__(self, x: Tensor, time: float) -> Tensor:
        """The velocity at x and t."""
        self.evaluations += 1
        return self.field(x, time)


def steps_of(velocity: Callable[[Tensor, float], Tensor], noise: Tensor, settings: SamplerSettings) -> Iterator[Tensor]:
    """X at each of the points in time, the noise first, the image last.

    Euler's method goes on by the velocity where it stands. The midpoint method first goes half a step, and takes the
    velocity there for the whole: its error falls as the square of the step.
    """
    x = noise
    yield x
    times = torch.linspace(0, 1, settings.points).tolist()
    for now, then in zip(times, times[1:], strict=False):
        step, direction = then - now, velocity(x, now)
        if settings.solver == "midpoint":
            direction = velocity(x + step / 2 * direction, now + step / 2)
        x = x + step * direction
        yield x


def sample(
    velocity: Callable[[Tensor, float], Tensor], noise: Tensor, settings: SamplerSettings, *, progress: bool = False
) -> Tensor:
    """The image at the end of the way.

    >>> still = sample(lambda x, t: torch.ones_like(x), torch.zeros(2), SamplerSettings(points=4))
    >>> still  # a constant velocity is followed exactly
    tensor([1., 1.])
    """
    steps = tqdm(steps_of(velocity, noise, settings), total=settings.points, disable=not progress, unit="point")
    return deque(steps, maxlen=1).pop()  # the last one; the others are forgotten on the way


@torch.no_grad()
def velocity_of(network: VelocityNetwork, conditions: Tensor, settings: SamplerSettings) -> Velocity:
    """The network's velocity for volumes with these conditions, (B, 4, D, H, W).

    With windows, each is asked about alone, and where several overlap the mean of their velocities is taken, nearer
    middles counting more. All windows see one noise and one x, at every step, so their parts fit together.
    """

    def at(x: Tensor, time: float, where: Tensor) -> Tensor:
        return network(x, torch.full((len(x),), time, device=x.device), where)

    if settings.window is None:
        return Velocity(torch.no_grad()(lambda x, time: at(x, time, conditions)))
    side = max(network.sizes.divisor, settings.window // network.sizes.divisor * network.sizes.divisor)

    @torch.no_grad()
    def in_windows(x: Tensor, time: float) -> Tensor:
        from monai.inferers import sliding_window_inference  # costs seconds

        sizes = [min(side, size) for size in x.shape[2:]]
        together = torch.cat([x, conditions], 1)
        return sliding_window_inference(
            together, sizes, 1, lambda part: at(part[:, :1], time, part[:, 1:]), settings.overlap, mode="gaussian"
        )

    return Velocity(in_windows)
