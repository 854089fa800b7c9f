"""ComBat on a table: each feature's location and scale per scanner, shrunk towards what the scanner does to all.

The model, for feature `v` of sample `j` on scanner `i` (W. E. Johnson, C. Li, A. Rabinovic, Biostatistics 8, 2007;
for images, diffusion maps, J.-P. Fortin et al., NeuroImage 161, 2017):

    y_ijv = alpha_v + x_ij beta_v + gamma_iv + delta_iv e_ijv,        e_ijv ~ N(0, sigma_v^2)

With few people a single voxel's `gamma` and `delta` are noise. Over all voxels of one scanner, `gamma` is taken as
normal and `delta^2` as inverse gamma; the moments of these priors are read off the voxels, and each voxel's values
are replaced by their posterior means (parametric empirical Bayes). What is harmonized has the common mean, the
covariates' effect and the common variance: it looks like no scanner in particular.

`fit_combat(table, scanners, covariates).apply(...)` works on any table of samples x features. A model can only be
applied to scanners that it was fitted on: an unseen one has no `gamma` and `delta`, and is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harmony_lite.images.checks import checked_table

__all__ = ["ComBatModel", "fit_combat"]

_BLOCK = 1 << 15  # features that are worked on at a time: memory grows with the table, not with copies of it


@dataclass(frozen=True)
class ComBatModel:
    """What `fit_combat` found; arrays are float32, `F` features, `S` scanners, `C` columns of covariates.

    It holds `F (2 + 2 S + C)` numbers of four bytes: 600,000 voxels on 3 scanners without covariates are 19 MB.

    Attributes:
        scanners: names, sorted; the order of the rows below.
        coding: per covariate its levels if it is categorical (the first one is the baseline), None if it is a number.
        mean: (F,) common mean, of a sample whose covariates are 0 or the baseline.
        deviation: (F,) common standard deviation, the square root of the pooled variance.
        effects: (C, F) of the covariates.
        shift: (S, F) `gamma` in units of `deviation`.
        scale: (S, F) `delta`, the standard deviation relative to the common one.
    """

    scanners: tuple[str, ...]
    coding: dict[str, tuple[str, ...] | None]
    mean: np.ndarray
    deviation: np.ndarray
    effects: np.ndarray
    shift: np.ndarray
    scale: np.ndarray

    @property
    def bytes(self) -> int:
        """Memory of the parameters."""
        arrays = (self.mean, self.deviation, self.effects, self.shift, self.scale)
        return sum(array.nbytes for array in arrays)

    def apply(
        self, data: np.ndarray, scanners: Sequence[str], covariates: Mapping[str, Sequence[Any]] | None = None
    ) -> np.ndarray:
        """Harmonize samples: those that were fitted, or new ones from the same scanners.

        Args:
            data: (n, F), any finite numbers.
            scanners: (n,) names.
            covariates: (n,) values by name, the same names as in the fit.

        Returns:
            (n, F) float64 (`sigma (z - gamma) / delta + alpha + x beta`, `z` the standardized sample).

        Raises:
            ValueError: a scanner or a level that was not in the fit, other covariates, another number of features,
                values that are not finite.
        """
        data = checked_table(data, "features")
        if data.shape[1] != len(self.mean):
            raise ValueError(f"data: found {data.shape[1]} features, wanted the {len(self.mean)} of the fit")
        rows = self._rows(scanners, len(data))
        design = _coded(covariates or {}, self.coding, len(data))
        result = np.empty(data.shape)
        for part in _blocks(data.shape[1]):
            expected = self.mean[part].astype(float) + design @ self.effects[:, part].astype(float)
            deviation = self.deviation[part].astype(float)
            standardized = (data[:, part] - expected) / deviation
            result[:, part] = deviation * (standardized - self.shift[rows, part]) / self.scale[rows, part] + expected
        return result

    def _rows(self, scanners: Sequence[str], samples: int) -> np.ndarray:
        names = _names(scanners, samples)
        unseen = sorted(set(names) - set(self.scanners))
        if unseen:
            raise ValueError(f"scanner: found {', '.join(unseen)}, wanted one seen in the fit: {_list(self.scanners)}")
        return np.searchsorted(self.scanners, names)


def fit_combat(
    data: np.ndarray,
    scanners: Sequence[str],
    covariates: Mapping[str, Sequence[Any]] | None = None,
    *,
    target: str | None = None,
    empirical_bayes: bool = True,
    tolerance: float = 1e-6,
) -> ComBatModel:
    """Fit ComBat to a table.

    Args:
        data: (n, F) samples x features, finite. A feature that never varies is left as it is.
        scanners: (n,) names, at least two samples for each.
        covariates: (n,) values by name (a dictionary or a pandas table), whose effects are kept. Numbers enter
            linearly; text and truth values are levels.
        target: a scanner that stays as it is and that the others are brought to (the "reference batch" of
            C. K. Stein et al., BMC Bioinformatics 16, 2015); None for the common mean and variance, as published.
        empirical_bayes: False takes each feature's own location and scale.
        tolerance: of the posterior means, as a change from one round to the next, in common standard deviations
            (`gamma`) and relative (`delta^2`).

    Raises:
        ValueError: shapes that do not fit, values that are not finite, one scanner only, a scanner with one sample,
            covariates that cannot be told from the scanners.

    >>> generator = np.random.default_rng(0)
    >>> data = generator.normal(size=(40, 300))
    >>> scanners = np.repeat(["A", "B"], 20)
    >>> data[20:] = 3 * data[20:] + 5
    >>> harmonized = fit_combat(data, scanners).apply(data, scanners)
    >>> bool(np.abs(harmonized[:20].mean(0) - harmonized[20:].mean(0)).mean() < 0.5)  # it was 5
    True
    """
    data = checked_table(data, "features")
    names = _names(scanners, len(data))
    known = tuple(sorted(set(names)))
    counts = np.array([names.count(name) for name in known])
    if len(known) < 2 or counts.min() < 2:
        found = ", ".join(f"{name}: {count}" for name, count in zip(known, counts, strict=True))
        raise ValueError(f"scanners: found samples ({found}), wanted two scanners or more and two samples or more each")
    if target is not None and target not in known:
        raise ValueError(f"target: found {target!r}, wanted one of {_list(known)}")
    coding = _coding(covariates or {})
    membership = (np.array(names)[:, None] == np.array(known)).astype(float)  # (n, S)
    design = np.hstack([membership, _coded(covariates or {}, coding, len(data))])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise ValueError(f"covariates: found {_list(coding)} confounded with the scanners, wanted independent columns")
    return _fitted(data, membership, design, known, coding, target, empirical_bayes, tolerance)


def _fitted(
    data: np.ndarray,
    membership: np.ndarray,
    design: np.ndarray,
    known: tuple[str, ...],
    coding: dict[str, tuple[str, ...] | None],
    target: str | None,
    empirical_bayes: bool,
    tolerance: float,
) -> ComBatModel:
    """The least squares of all features, block by block, then each scanner's priors and posterior means."""
    features, count = data.shape[1], len(known)
    goal = None if target is None else known.index(target)
    mean, deviation = np.empty(features), np.empty(features)
    effects = np.empty((design.shape[1] - count, features))
    shift, variance = np.empty((count, features)), np.empty((count, features))
    for part in _blocks(features):
        found = _least_squares(data[:, part].astype(float), membership, design, goal)
        mean[part], deviation[part], effects[:, part], shift[:, part], variance[:, part] = found
    varies = deviation > 0
    deviation[~varies] = 1
    shift[:, ~varies] = 0
    variance[:, ~varies] = 1
    variance[variance == 0] = 1  # a feature that one scanner shows as a constant: its scale is unknown
    if empirical_bayes:
        if varies.sum() < 2:
            raise ValueError(f"data: found {varies.sum()} features that vary, wanted two or more for the priors")
        for row, samples in enumerate(membership.sum(0)):
            own, spread = shift[row, varies], variance[row, varies]
            shift[row, varies], variance[row, varies] = _posterior_means(own, spread, samples, tolerance)
    if goal is not None:
        shift[goal], variance[goal] = 0, 1
    single = (array.astype(np.float32) for array in (mean, deviation, effects, shift, np.sqrt(variance)))
    return ComBatModel(known, coding, *single)


def _least_squares(block: np.ndarray, membership: np.ndarray, design: np.ndarray, goal: int | None) -> tuple:
    """Common mean (F,) and deviation (F,), effects (C, F), and per scanner `gamma` and `delta^2` (S, F)."""
    samples, count = membership.sum(0), membership.shape[1]
    coefficients = np.linalg.lstsq(design, block, rcond=None)[0]
    squares = (block - design @ coefficients) ** 2
    levels, effects = coefficients[:count], coefficients[count:]
    if goal is None:
        mean, pooled = samples @ levels / samples.sum(), squares.mean(0)
    else:
        mean, pooled = levels[goal], squares[membership[:, goal] > 0].mean(0)
    # rounding leaves a trace of variance in a feature that never varies
    pooled[np.ptp(block, axis=0) == 0] = 0
    deviation = np.sqrt(pooled)
    unit = np.where(deviation > 0, deviation, 1)
    standardized = (block - mean - design[:, count:] @ effects) / unit
    shift = membership.T @ standardized / samples[:, None]
    variance = membership.T @ (standardized - membership @ shift) ** 2 / (samples - 1)[:, None]
    return mean, deviation, effects, shift, variance


def _posterior_means(
    shift: np.ndarray, variance: np.ndarray, samples: float, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior means of `gamma` and `delta^2` of one scanner's features, (F,) each, by turns (Johnson 2007, 3.3)."""
    centre, width = shift.mean(), shift.var(ddof=1)
    average, spread = variance.mean(), max(variance.var(ddof=1), np.finfo(float).tiny ** 0.25)
    shape, rate = (2 * spread + average**2) / spread, (average * spread + average**3) / spread
    within = (samples - 1) * variance  # sum of squares about the scanner's own mean
    new_shift, new_variance = shift, variance
    for _ in range(1000):
        old_shift, old_variance = new_shift, new_variance
        new_shift = (samples * width * shift + old_variance * centre) / (samples * width + old_variance)
        squares = within + samples * (shift - new_shift) ** 2
        new_variance = (squares / 2 + rate) / (samples / 2 + shape - 1)
        moved = max(np.abs(new_shift - old_shift).max(), np.abs(new_variance / old_variance - 1).max())
        if moved < tolerance:
            break
    return new_shift, new_variance


def _names(scanners: Sequence[str], samples: int) -> list[str]:
    names = [scanners] if isinstance(scanners, str) else [str(name) for name in scanners]
    if len(names) != samples:
        raise ValueError(f"scanners: found {len(names)} names, wanted one for each of {samples} samples")
    return names


def _coding(covariates: Mapping[str, Sequence[Any]]) -> dict[str, tuple[str, ...] | None]:
    """How each covariate is written in columns: its levels, or None for a number."""
    arrays = {name: np.asarray(covariates[name]) for name in covariates}
    return {
        name: None if array.dtype.kind in "iuf" else tuple(sorted({str(value) for value in array}))
        for name, array in arrays.items()
    }


def _coded(
    covariates: Mapping[str, Sequence[Any]], coding: Mapping[str, tuple[str, ...] | None], samples: int
) -> np.ndarray:
    """Covariates as columns (n, C): numbers as they are, levels as zeros and ones without the baseline's column."""
    if set(covariates) != set(coding):
        raise ValueError(f"covariates: found {_list(covariates)}, wanted {_list(coding)} as in the fit")
    columns = [np.empty((samples, 0))]
    for name, levels in coding.items():
        values = np.asarray(covariates[name])
        if values.shape != (samples,):
            raise ValueError(f"covariate {name}: found shape {values.shape}, wanted ({samples},)")
        if levels is None:
            if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
                raise ValueError(f"covariate {name}: found values that are not finite numbers, wanted numbers only")
            columns.append(values[:, None].astype(float))
            continue
        found = np.array([str(value) for value in values])
        unseen = sorted(set(found) - set(levels))
        if unseen:
            raise ValueError(f"covariate {name}: found {', '.join(unseen)}, wanted one of {_list(levels)}")
        columns.append((found[:, None] == np.array(levels[1:], dtype=str)).astype(float))
    return np.hstack(columns)


def _blocks(features: int) -> list[slice]:
    return [slice(start, start + _BLOCK) for start in range(0, features, _BLOCK)]


def _list(names: Any) -> str:
    return ", ".join(names) or "none"
