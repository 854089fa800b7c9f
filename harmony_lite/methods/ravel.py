"""RAVEL: what CSF does from scan to scan is technical, and is regressed out of every voxel.

J.-P. Fortin et al., NeuroImage 132, 2016 ("removal of artificial voxel effect by linear regression"). Scans lie in
template space; `V` (voxels x scans) holds the voxels of the common brain, `V_c` its *control voxels*, which are CSF in
every training person. How bright CSF is has nothing to do with disease or age, so what changes there from scan to scan
is put down to the scanner. A thin singular value decomposition of `V_c` gives `b` factors `Z` (scans x b), and each
voxel is regressed on them:

    V = alpha 1' + gamma Z' + R,        harmonized = V - gamma Z'

The control voxels' means are taken off before the decomposition, so that the factors have mean 0 and `alpha` stays.
A held-out scan's factors come from its own control voxels by projection on the left singular vectors of the training
scans. It needs no name of a scanner, so it can be applied to unseen ones; nothing in it knows a target, either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from harmony_lite.cohort import SeveralScanners
from harmony_lite.methods.base import check_names, register
from harmony_lite.methods.voxelwise import Voxelwise

__all__ = ["Ravel", "RavelModel", "Settings", "darkest_class", "fit_ravel"]


# ------------------------------------------------------------------------------------------------- on any table


@dataclass(frozen=True)
class RavelModel:
    """What `fit_ravel` found; arrays are float32, `F` voxels, `K` control voxels, `b` factors.

    Attributes:
        control: (F,) bool, the control voxels.
        centre: (K,) what is taken off control voxels before they are projected: their means, or zeros.
        directions: (K, b) left singular vectors of the control voxels over their singular values.
        effects: (b, F) `gamma` of every voxel.
        restored: (F,) what is added back to `V - gamma Z'`: zeros, or the voxels' means as released.
    """

    control: np.ndarray
    centre: np.ndarray
    directions: np.ndarray
    effects: np.ndarray
    restored: np.ndarray

    @property
    def bytes(self) -> int:
        """Memory of the parameters."""
        arrays = (self.control, self.centre, self.directions, self.effects, self.restored)
        return sum(array.nbytes for array in arrays)

    def factors(self, data: np.ndarray) -> np.ndarray:
        """Factors `Z` (n, b) of scans (n, F): of those of the fit, the right singular vectors themselves.

        Raises:
            ValueError: another number of voxels, values that are not finite.
        """
        data = _table(data)
        if data.shape[1] != len(self.control):
            raise ValueError(f"data: found {data.shape[1]} voxels, wanted the {len(self.control)} of the fit")
        return (data[:, self.control].astype(float) - self.centre) @ self.directions

    def apply(self, data: np.ndarray) -> np.ndarray:
        """Take the factors out of scans (n, F), seen or new; gives (n, F) float64.

        Raises:
            ValueError: as `factors`.
        """
        return np.asarray(data, dtype=float) - self.factors(data) @ self.effects + self.restored


def fit_ravel(data: np.ndarray, control: np.ndarray, *, factors: int = 1, released: bool = False) -> RavelModel:
    """Fit RAVEL to a table of scans.

    Args:
        data: (n, F) scans x voxels, finite.
        control: (F,) bool, voxels that hold nothing but technical variation.
        factors: `b`, how many are removed; the paper settles on 1.
        released: as the public R package (`normalizeRAVEL`) computes it: neither control voxels nor voxels are
            centred and the regression has no intercept. The first factor is then next to constant, the overall
            brightness of CSF, and `gamma` next to the voxel's mean: every voxel loses in proportion to its own
            brightness, whether or not it follows CSF.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, fewer scans or control voxels than it takes.

    >>> generator = np.random.default_rng(0)
    >>> factor, voxels = generator.normal(size=30), generator.normal(size=(30, 500))
    >>> data = voxels + factor[:, None] * generator.normal(3, 1, 500)
    >>> harmonized = fit_ravel(data, np.arange(500) < 100).apply(data)
    >>> bool(abs(np.corrcoef(factor, harmonized.mean(1))[0, 1]) < 0.3 < abs(np.corrcoef(factor, data.mean(1))[0, 1]))
    True
    """
    data, control = _table(data), np.asarray(control)
    if control.shape != data.shape[1:] or control.dtype != bool:
        raise ValueError(f"control: found {control.dtype} {control.shape}, wanted bool ({data.shape[1]},)")
    if not 1 <= factors < len(data) or control.sum() < factors:
        raise ValueError(
            f"factors: found {factors} of {len(data)} scans and {control.sum()} control voxels, wanted at least one "
            "and fewer than scans, and as many control voxels"
        )
    chosen = data[:, control].astype(float)
    centre = np.zeros(chosen.shape[1]) if released else chosen.mean(0)
    left, values, right = np.linalg.svd((chosen - centre).T, full_matrices=False)
    if values[factors - 1] <= 1e-9 * max(values[0], np.abs(chosen).max()):
        raise ValueError(f"control: found fewer than {factors} factors in voxels that hardly vary, wanted variation")
    scores = right[:factors].T  # Z, (n, b), columns of unit length
    # Centred control voxels give factors of mean 0, and then this is the regression with an intercept; the columns of
    # Z are orthonormal, so that Z' V is the least-squares solution.
    effects = scores.T @ data.astype(float)
    restored = data.mean(0, dtype=float) if released else np.zeros(data.shape[1])
    arrays = (centre, left[:, :factors] / values[:factors], effects, restored)
    return RavelModel(control, *(array.astype(np.float32) for array in arrays))


def _table(data: np.ndarray) -> np.ndarray:
    data = np.asarray(data)
    if data.ndim != 2 or 0 in data.shape:
        raise ValueError(f"data: found shape {data.shape}, wanted (scans, voxels)")
    bad = int((~np.isfinite(data)).sum())
    if bad:
        raise ValueError(f"data: found {bad} values that are NaN or infinite, wanted finite values")
    return data


# --------------------------------------------------------------------------------------------------- on voxels


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
class Settings:
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


@register
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

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__()
        self.settings = settings or Settings()
        self.model: RavelModel | None = None

    @classmethod
    def from_variant(cls, variant: str) -> Self:
        """`ours` or `released`."""
        return cls(Settings(released=variant == "released"))

    def scale(self, images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """0 and white matter's median; as released, mean and standard deviation of the white stripe."""
        found = []
        for image, inside in zip(images, mask, strict=True):
            values = _inside(image, inside)
            bright = values[values > tissue_limits(values)[1]]
            found.append(_stripe(values) if self.settings.released else (0.0, float(np.median(bright))))
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
                f"wanted at least {self.settings.fewest}: align the scans better, or lower Settings.share"
            )
        self.model = fit_ravel(table, control, factors=self.settings.factors, released=self.settings.released)
        return self

    def harmonize(
        self,
        images: Tensor,
        *,
        reference: Tensor | None = None,
        scanner: str | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Take the factors that a scan's own control voxels show out of all its voxels.

        Args:
            images: `(N, 1, D, H, W)` on the grid of the training scans; scanner units.
            reference: not used; there is one protocol for all methods.
            scanner: not used: the factors are read off the scan, whatever made it.
            mask: bool, same shape; the foreground where absent.

        Returns:
            Same shape, float32, in the units of the fit's first scanner.

        Raises:
            ValueError: another grid, images that are not finite or have no contrast, not fitted yet.
        """
        model = self.model
        if model is None:
            raise ValueError(f"{self.name}: found no parameters, wanted `fit` or loaded weights")
        return self._through_table(images, mask, model.apply)

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


def _stripe(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the white stripe (R. T. Shinohara et al., NeuroImage: Clinical 6, 2014)."""
    from intensity_normalization import WhiteStripeNormalizer, create_image
    from intensity_normalization.domain.exceptions import NormalizationError

    line = values.reshape(-1, 1, 1).astype(np.float64)
    try:
        stripe = WhiteStripeNormalizer(width=0.05).fit(create_image(line), create_image(np.ones_like(line)))
    except NormalizationError as error:
        raise ValueError(f"images: found no white stripe ({error}), wanted a T1-weighted scan") from error
    return stripe.mean, stripe.std


def _inside(image: Tensor, mask: Tensor) -> np.ndarray:
    return image[mask].cpu().numpy()
