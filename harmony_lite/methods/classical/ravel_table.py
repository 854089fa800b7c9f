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

from dataclasses import dataclass

import numpy as np

from harmony_lite.images.checks import checked_table

__all__ = ["RavelModel", "fit_ravel"]


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
        data = checked_table(data, "voxels")
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
    data, control = checked_table(data, "voxels"), np.asarray(control)
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
