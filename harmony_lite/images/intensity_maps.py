"""Intensity maps: the mildest domain shift there is, one curve for all voxels of an image.

Images are `(N, 1, H, W)` slices or `(N, 1, D, H, W)` volumes, float32 in [0, 1]. `exp`, `log` and `Gamma` are the
three simulated source domains of BlindHarmony (Jeong et al., ICCV 2023, section 4.3; the constant 3 of the logarithm
stands in its public code only), each brought back to [0, 1] by the image's minimum and maximum, as the paper does slice
by slice. `random_monotone` is the augmentation of Harmonizing Flows (Beizaee et al., 2023).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from harmony_lite.images.normalize import full_range_minmax, slice_minmax

__all__ = ["MAPS", "TOP", "Gamma", "TableMap", "exp", "log", "mapped_slices", "random_monotone", "random_tables"]

TOP = 255  # the paper's grey levels run from 0 to 255


def exp(images: Tensor) -> Tensor:
    """`exp(x)`, then min-max: bright tissues drift apart.

    Raises:
        ValueError: values outside [0, 1], or an image without contrast.

    >>> exp(torch.tensor([[[[0.0, 0.5, 1.0]]]]))
    tensor([[[[0.0000, 0.3775, 1.0000]]]])
    """
    return full_range_minmax(torch.exp(_unit(images)))


def log(images: Tensor) -> Tensor:
    """`log(1 + 3x)`, then min-max: bright tissues move together.

    Raises:
        ValueError: values outside [0, 1], or an image without contrast.

    >>> log(torch.tensor([[[[0.0, 1 / 3, 1.0]]]]))
    tensor([[[[0.0000, 0.5000, 1.0000]]]])
    """
    return full_range_minmax(torch.log1p(3 * _unit(images)))


@dataclass(frozen=True)
class Gamma:
    """`x ** power`, then min-max; the paper's power is 0.7.

    >>> Gamma(2.0)(torch.tensor([[[[0.0, 0.5, 1.0]]]]))
    tensor([[[[0.0000, 0.2500, 1.0000]]]])
    """

    power: float

    def __post_init__(self) -> None:
        if not self.power > 0:
            raise ValueError(f"power: found {self.power}, wanted above 0")

    def __call__(self, images: Tensor) -> Tensor:
        """Map images in [0, 1] to [0, 1]; ValueError for other values or an image without contrast."""
        return full_range_minmax(_unit(images).pow(self.power))


@dataclass(frozen=True, eq=False)
class TableMap:
    """A curve given by a table of grey levels; between two levels it runs straight.

    Attributes:
        table: `(256,)` float32, non-decreasing, 0 to 255: the new level of each level.
    """

    table: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """Map images in [0, 1] to [0, 1]; the range is not stretched again. ValueError for other values."""
        levels = _unit(images) * TOP
        below = levels.floor().long().clamp_max(TOP - 1)
        table = self.table.to(images)
        return torch.lerp(table[below], table[below + 1], levels - below) / TOP


def mapped_slices(curve: Callable[[Tensor], Tensor], volumes: Tensor) -> Tensor:
    """Every axial slice under a map, as BlindHarmony makes its simulated domains; each keeps its own maximum.

    Args:
        curve: of [0, 1] to [0, 1], such as `MAPS["exp"]`.
        volumes: (N, 1, D, H, W), scanner units, background 0; a slice without contrast stays as it is.

    Raises:
        ValueError: negative values.
    """
    if float(volumes.min()) < 0:
        raise ValueError(f"volumes: found values down to {float(volumes.min()):g}, wanted 0 or more")
    mapped = volumes.clone()
    for volume, bent in zip(volumes, mapped, strict=True):
        tops = volume.amax((0, 1, 2))
        heights = (tops > volume.amin((0, 1, 2))).nonzero().squeeze(1)
        slices = slice_minmax(volume[..., heights].permute(3, 0, 1, 2))  # (B, 1, D, H) in [0, 1]
        bent[..., heights] = curve(slices).permute(1, 2, 3, 0) * tops[heights]
    return mapped


def random_monotone(generator: torch.Generator, *, levels: int = 8, central: float = 0.6) -> TableMap:
    """A random non-decreasing curve, by midpoint displacement: the first of `random_tables`.

    Args:
        generator: the source of randomness, on the CPU.
        levels: as there; so are `central` and the errors.
        central: share of each interval.

    >>> curve = random_monotone(torch.Generator().manual_seed(0))
    >>> float(curve.table[0]), bool((curve.table.diff() >= 0).all())
    (0.0, True)
    """
    return TableMap(random_tables(1, generator, levels=levels, central=central)[0])


def random_tables(count: int, generator: torch.Generator, *, levels: int = 8, central: float = 0.6) -> Tensor:
    """Tables of random non-decreasing curves, by midpoint displacement.

    0 stays 0 and 256 goes to 255. Then the midpoint of each interval is drawn uniformly from the integers in the
    central part between its two neighbours, level by level. Small intervals run flat, so about half of the unit steps
    are flat and information is lost, as in the paper's code.

    Args:
        count: of curves.
        generator: the source of randomness.
        levels: halvings; 8 reach every grey level, fewer leave straight pieces.
        central: share of each interval that is drawn from, 0 (the straight line, up to rounding) to 1.

    Returns:
        (count, 256) float32, on the generator's device.

    Raises:
        ValueError: levels outside 1 to 8, central outside 0 to 1.
    """
    if not 1 <= levels <= 8:
        raise ValueError(f"levels: found {levels}, wanted 1 to 8")
    if not 0 <= central <= 1:
        raise ValueError(f"central: found {central}, wanted 0 to 1")
    device = generator.device
    knots = (torch.arange(2, device=device) * float(TOP)).expand(count, 2)
    for _ in range(levels):
        margin = (1 - central) / 2 * knots.diff()
        lowest, highest = (knots[:, :-1] + margin).floor(), (knots[:, 1:] - margin).floor()
        # an integer from lowest to highest, both included, as the paper's code draws it
        drawn = torch.rand(margin.shape, generator=generator, device=device)
        middle = lowest + (drawn * (highest - lowest + 1)).floor()
        knots = torch.cat([torch.stack([knots[:, :-1], middle], 2).flatten(1), knots[:, -1:]], 1)
    at = torch.arange(256, device=device) / 256 * (knots.shape[1] - 1)
    below = at.long()
    return torch.lerp(knots[:, below], knots[:, below + 1], at - below)


def _unit(images: Tensor) -> Tensor:
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"images: found values from {low:g} to {high:g}, wanted 0 to 1")
    return images


MAPS: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": exp,
    "log": log,
    "gamma0.7": Gamma(0.7),
    "gamma1.5": Gamma(1.5),
}
