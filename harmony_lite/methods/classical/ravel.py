"""RAVEL on scans: every voxel of the training people's common brain is a column of `ravel_table.fit_ravel`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from harmony_lite.cohort import SeveralScanners
from harmony_lite.methods.classical.ravel_table import RavelModel, fit_ravel
from harmony_lite.methods.classical.voxelwise import Voxelwise
from harmony_lite.methods.classical.white_stripe import white_stripe
from harmony_lite.methods.protocol import check_names

__all__ = ["Ravel", "RavelSettings", "darkest_class"]


def tissue_limits(values: np.ndarray) -> tuple[float, float]:
    """Two intensities that part the dark, middle and bright voxels of a brain (multi-level Otsu, scikit-image)."""
    from skimage.filters import threshold_multiotsu

    try:
        low, high = threshold_multiotsu(values, classes=3)
    except ValueError as error:
        raise ValueError(f"images: found no three classes of intensity inside the mask ({error})") from error
    return float(low), float(high)


def darkest_class(images: Tensor, mask: Tensor) -> Tensor:
    """The darkest of three classes of intensity inside the mask: CSF of a T1-weighted scan, by its histogram alone.

    Args:
        images: (N, 1, D, H, W) skull-stripped T1-weighted scans.
        mask: bool, same shape.

    Returns:
        bool, same shape.
    """
    limits = [tissue_limits(_inside(*pair))[0] for pair in zip(images, mask, strict=True)]
    return mask & (images <= torch.tensor(limits, device=images.device)[:, None, None, None, None])


@dataclass(frozen=True)
class RavelSettings:
    """How scans are harmonized.

    Attributes:
        factors: `b`, removed from every voxel; 1 in the paper and in MISPEL's comparison.
        released: as the public R package computes it (`fit_ravel`), after White Stripe.
        csf: finds CSF in `(images, mask)`. A tissue classifier does it better than a histogram, and can be given.
        share: of the training scans in which a control voxel is CSF. All of them as published; with hundreds of
            people hardly a voxel is left.
        fewest: control voxels that a fit is made on.
    """

    factors: int = 1
    released: bool = False
    csf: Callable[[Tensor, Tensor], Tensor] = darkest_class
    share: float = 1.0
    fewest: int = 20


class Ravel(Voxelwise):
    """RAVEL: regress out what CSF does from scan to scan.

    Scans lie on one grid in template space; features are the voxels in the brain of every training scan. They are
    compared relative to white matter, because RAVEL comes after White Stripe: a scaling by percentiles would set the
    1st percentile, which is CSF, to 0 and with it take away what the method lives on. Results come in the units of the
    cohort's first scanner, by the mean of its training people.

    Two variants. `ours`: divided by white matter's intensity, control voxels centred, regression with an intercept.
    `released`: after White Stripe, which also divides by the stripe's standard deviation, and as the R package does it.

    It is fitted on the spot and not shipped: `1 + factors` numbers of four bytes for each voxel (`model.bytes`).
    """

    name: ClassVar[str] = "ravel"
    variants: ClassVar[tuple[str, ...]] = ("ours", "released")

    def __init__(self, settings: RavelSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or RavelSettings()
        self.model: RavelModel | None = None

    @classmethod
    def from_variant(cls, variant: str) -> Self:
        """`ours` or `released`."""
        return cls(RavelSettings(released=variant == "released"))

    def scale(self, images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """0 and white matter's median; as released, mean and standard deviation of the white stripe."""
        found = []
        for image, inside in zip(images, mask, strict=True):
            values = _inside(image, inside)
            bright = values[values > tissue_limits(values)[1]]
            stripe = white_stripe(values.astype(np.float64)) if self.settings.released else None
            found.append((stripe.mean, stripe.std) if stripe else (0.0, float(np.median(bright))))
        offset, span = torch.tensor(found, device=images.device).T
        if bool((span <= 0).any()):
            raise ValueError("images: found white matter at or below 0, wanted intensities of a magnitude")
        return offset, span

    def fit(self, view: SeveralScanners, *, generator: torch.Generator | None = None) -> Self:
        """Find the control voxels, their factors, and every voxel's regression on them.

        Nothing is random; `generator` is not used.

        Args:
            view: training people on every scanner, in template space; the first scanner gives the units.
            generator: not used.

        Raises:
            ValueError: scans that are not finite or without contrast, no common brain, too few control voxels.
        """
        table, _ = self._table(view)
        common, _ = self._grid()
        counts = [self.settings.csf(scans.images.float(), scans.mask).sum(0)[0] for scans in view.scanners.values()]
        needed = self.settings.share * len(table)
        control = (torch.stack(counts).sum(0).cpu() >= needed)[common].numpy()
        if control.sum() < self.settings.fewest:
            raise ValueError(
                f"control voxels: found {control.sum()} that are CSF in {needed:.0f} of {len(table)} training scans, "
                f"wanted at least {self.settings.fewest}: align the scans better, or lower RavelSettings.share"
            )
        self.model = fit_ravel(table, control, factors=self.settings.factors, released=self.settings.released)
        return self

    def _harmonize(self, images: Tensor, mask: Tensor, scanner: str | None) -> Tensor:
        return self._through_table(images, mask, self.model.apply)

    def state(self) -> dict[str, Tensor]:
        """Parameters: `mask` and `control` (D, H, W), `units`, and the model's arrays by their names."""
        if self.model is None:
            return {}
        arrays = {name: torch.from_numpy(getattr(self.model, name)) for name in _ARRAYS}
        state = self._grid_state() | arrays
        control = torch.zeros_like(state["mask"])
        control[state["mask"].bool()] = torch.from_numpy(self.model.control).to(torch.uint8)
        return state | {"control": control}

    def load_state(self, state: dict[str, Tensor]) -> Self:
        """Take over parameters.

        Raises:
            ValueError: names that are missing, or tensors of another length than the masks have voxels.
        """
        check_names(self.name, state, {"mask", "units", "control", *_ARRAYS})
        if state["mask"].ndim != 3 or state["control"].shape != state["mask"].shape:
            raise ValueError(f"{self.name}: found mask or control of another shape, wanted (D, H, W) of both")
        mask = state["mask"].bool()
        control = state["control"].bool()[mask]
        voxels, controls, factors = len(control), int(control.sum()), len(state["effects"])
        shapes = {
            "units": (2,),
            "centre": (controls,),
            "directions": (controls, factors),
            "effects": (factors, voxels),
            "restored": (voxels,),
        }
        wrong = [name for name, shape in shapes.items() if tuple(state[name].shape) != shape]
        if wrong:
            raise ValueError(f"{self.name}: found {', '.join(wrong)} of another shape than the masks want")
        self.model = RavelModel(control.numpy(), *(state[name].float().numpy() for name in _ARRAYS))
        self._load_grid(state)
        return self


_ARRAYS = ("centre", "directions", "effects", "restored")  # in the order of RavelModel


def _inside(image: Tensor, mask: Tensor) -> np.ndarray:
    return image[mask].cpu().numpy()
