"""A tone curve for each scanner, fitted to pairs: how far sixty-four numbers go.

A control for MISPEL, which its paper does not have. Like it, the curve is fitted to scans of the same people and has no
target: each scanner is brought to the mean of all. Unlike it, equal intensities of a scan stay equal, so no anatomy can
be moved or blurred.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from harmony_lite.cohort import Needs, SeveralScanners
from harmony_lite.images.checks import check_volumes
from harmony_lite.images.normalize import means
from harmony_lite.methods.protocol import Harmonizer, check_names
from harmony_lite.methods.shipping import Shipping

__all__ = ["ToneCurve", "ToneCurveSettings"]


@dataclass(frozen=True)
class ToneCurveSettings:
    """The curve's size.

    Attributes:
        knots: intensities between which the curve is straight, at equal numbers of voxels from one to the next.
    """

    knots: int = 64


class ToneCurve(Harmonizer):
    """For each intensity of a scanner the mean of what all scanners have in those voxels.

    Source: a regressogram (Tukey 1961) on quantiles, joined by straight lines. Scans are divided by the mean of their
    brain before. Because voxels of one intensity mix tissues and noise, the mean is drawn towards the middle: curves
    are flatter than the physics between two scanners.
    """

    name: ClassVar[str] = "tone-curve"
    needs: ClassVar[Needs] = Needs.SEVERAL_SCANNERS
    variants: ClassVar[tuple[str, ...]] = ("volume",)
    shipping: ClassVar[Shipping | None] = None

    def __init__(self, settings: ToneCurveSettings | None = None) -> None:
        self.settings = settings or ToneCurveSettings()
        self._curves: dict[str, Tensor] = {}  # by scanner: (2, knots), from and to
        self._unit = 1.0

    @classmethod
    def from_variant(cls, variant: str) -> Self:
        """`volume` is the only variant."""
        return cls()

    def fit(self, view: SeveralScanners, *, generator: torch.Generator | None = None) -> Self:
        """Fit a curve for every scanner; nothing is random.

        Args:
            view: the same people, registered to each other, on two scanners or more; the first gives the units.
            generator: not used.

        Raises:
            ValueError: scans without contrast or on different grids.
        """
        common = torch.stack([scans.mask for scans in view.scanners.values()]).all(0)
        values, units = {}, {}
        for name, scans in view.scanners.items():
            check_volumes(scans.images, scans.mask, what=f"scans of {name}")
            divided, units[name] = _divided(scans.images, scans.mask)
            values[name] = divided[common].double().numpy()
        middle = np.mean(list(values.values()), axis=0)
        self._curves = {name: self._curve(own, middle) for name, own in values.items()}
        self._unit = float(next(iter(units.values())).mean())
        return self

    def _curve(self, own: np.ndarray, middle: np.ndarray) -> Tensor:
        edges = np.quantile(own, np.linspace(0, 1, self.settings.knots + 1))
        which = np.clip(np.searchsorted(edges, own, side="right") - 1, 0, self.settings.knots - 1)
        count = np.bincount(which, minlength=self.settings.knots)
        kept = count > 0
        knots = [np.bincount(which, v, self.settings.knots)[kept] / count[kept] for v in (own, middle)]
        return torch.from_numpy(np.stack(knots)).float()

    def _harmonize(self, images: Tensor, mask: Tensor, scanner: str | None) -> Tensor:
        divided, _ = _divided(images, mask)
        start, end = self._curves[scanner].double().numpy()
        x = divided.cpu().double().numpy()
        bent = np.interp(x, start, end)
        # beyond the outermost knots the curve goes on with the slope of its last piece
        for ends, beyond in (((0, 1), x < start[0]), ((-1, -2), x > start[-1])):
            slope = (end[ends[1]] - end[ends[0]]) / (start[ends[1]] - start[ends[0]])
            bent[beyond] = end[ends[0]] + slope * (x[beyond] - start[ends[0]])
        return (torch.from_numpy(bent).to(images.device, torch.float32) * mask) * self._unit

    @property
    def scanners(self) -> tuple[str, ...]:
        """Those of the fit."""
        return tuple(self._curves)

    @property
    def is_fitted(self) -> bool:
        """Whether there are curves."""
        return bool(self._curves)

    def state(self) -> dict[str, Tensor]:
        """`SCANNER/curve` (2, knots): from and to, in units of the brain's mean; `unit` (1,)."""
        self.check_fitted()
        return {**{f"{name}/curve": c for name, c in self._curves.items()}, "unit": torch.tensor([self._unit])}

    def load_state(self, state: dict[str, Tensor]) -> Self:
        """Take over curves.

        Raises:
            ValueError: other names.
        """
        names = [name.removesuffix("/curve") for name in state if name.endswith("/curve")]
        check_names(self.name, state, {*(f"{name}/curve" for name in names), "unit"})
        curves = {name: state[f"{name}/curve"] for name in names}
        wrong = [name for name, curve in curves.items() if curve.ndim != 2 or len(curve) != 2 or curve.shape[1] < 2]
        if not curves or wrong:
            found = f"curves of other shapes for {', '.join(wrong)}" if wrong else "no curve"
            raise ValueError(f"{self.name}: found {found}, wanted (2, knots) for each scanner")
        self._curves = curves
        self._unit = float(state["unit"])
        return self


def _divided(images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Volumes over the mean of their brain, 0 outside it, and the means (N,)."""
    brain_means = means(images.float(), mask)
    return images.float() * mask / brain_means[:, None, None, None, None], brain_means
