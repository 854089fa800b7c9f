"""Is a difference between two methods more than chance? Paired tests and a bootstrap interval, over people.

Every function takes one value per person, in the same order of people for both methods. Slices, scanners and repeats
of one person are not independent: average them first, or the test counts one brain twenty times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from harmony_lite.images.checks import check_finite

__all__ = ["BootstrapInterval", "PairedTest", "bootstrap_interval", "paired_t", "wilcoxon"]

Values = Sequence[float] | np.ndarray | Tensor


@dataclass(frozen=True)
class PairedTest:
    """A two-sided paired test: the statistic, its p-value, the mean of first - second, and how many people."""

    statistic: float
    p_value: float
    mean_difference: float
    people: int


@dataclass(frozen=True)
class BootstrapInterval:
    """Mean (of the paired difference), the interval from `low` to `high` at `confidence`, and how many people."""

    mean: float
    low: float
    high: float
    confidence: float
    people: int

    @property
    def excludes_zero(self) -> bool:
        """True where the whole interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


def paired_t(first: Values, second: Values) -> PairedTest:
    """Student's paired t-test (`scipy.stats.ttest_rel`): is the mean of first - second zero?

    Args:
        first: `(N,)`, one finite value per person, N at least 2.
        second: the same people's other values. The differences should look normal.

    Raises:
        ValueError: lengths that differ, fewer than two people, values that are not finite, or differences that are
            all the same, which leave no spread to compare the mean with.

    >>> test = paired_t([21.0, 22.5, 20.0, 24.0], [20.0, 21.0, 19.5, 22.0])
    >>> round(test.statistic, 3), round(test.p_value, 3), test.mean_difference, test.people
    (3.873, 0.03, 1.25, 4)
    """
    first, second = _people(first, "first"), _people(second, "second")
    difference = _difference(first, second)
    # The spread of equal differences is round-off, not zero: 0.3 - 0.1 and 0.5 - 0.3 are not the same in binary.
    if np.ptp(difference) <= 1e-12 * max(np.abs(first).max(), np.abs(second).max()):
        raise ValueError(f"differences: found all {len(difference)} at {difference[0]:g}, wanted some that vary")
    found = stats.ttest_rel(first, second)
    return PairedTest(float(found.statistic), float(found.pvalue), float(difference.mean()), len(difference))


def wilcoxon(first: Values, second: Values) -> PairedTest:
    """Wilcoxon's signed-rank test (`scipy.stats.wilcoxon`, equal pairs left out): HAIL's test, for any distribution.

    With five people or fewer no outcome reaches p < 0.05. Arguments as for `paired_t`.

    Raises:
        ValueError: lengths that differ, fewer than two people, values that are not finite, or pairs that are all equal.
    """
    difference = _difference(_people(first, "first"), _people(second, "second"))
    if not difference.any():
        raise ValueError(f"pairs: found all {len(difference)} equal, wanted at least one that differs")
    found = stats.wilcoxon(difference, zero_method="wilcox")
    return PairedTest(float(found.statistic), float(found.pvalue), float(difference.mean()), len(difference))


def bootstrap_interval(
    first: Values,
    second: Values | None = None,
    *,
    generator: torch.Generator,
    confidence: float = 0.95,
    resamples: int = 10_000,
) -> BootstrapInterval:
    """Percentile bootstrap interval of the mean paired difference, people drawn with replacement (Efron 1979).

    Args:
        first: `(N,)`, one finite value per person, N at least 2.
        second: the same people's other values; None: the interval is that of the mean of `first` itself.
        generator: decides the draws, on the CPU; the same state gives the same interval.
        confidence: share of the resampled means that the interval holds, in (0, 1).
        resamples: how many times the people are drawn again.

    With fewer than about ten people a percentile interval is somewhat too narrow.

    Raises:
        ValueError: lengths that differ, fewer than two people, values that are not finite, `confidence` or
            `resamples` out of range.

    >>> draws = torch.Generator().manual_seed(0)
    >>> interval = bootstrap_interval([2.0, 2.4, 1.8, 2.2], [1.0, 1.1, 1.2, 0.9], generator=draws)
    >>> round(interval.mean, 3), interval.low < interval.mean < interval.high, interval.excludes_zero
    (1.05, True, True)
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: found {confidence}, wanted a number between 0 and 1")
    if resamples < 100:
        raise ValueError(f"resamples: found {resamples}, wanted at least 100")
    first = _people(first, "first")
    difference = torch.from_numpy(first if second is None else _difference(first, _people(second, "second")))
    people = len(difference)
    # A thousand resamples at a time, so that a large cohort does not need people x resamples numbers at once.
    sizes = [min(1000, resamples - start) for start in range(0, resamples, 1000)]
    means = torch.cat(
        [difference[torch.randint(people, (size, people), generator=generator)].mean(1) for size in sizes]
    )
    low, high = np.quantile(means.numpy(), [(1 - confidence) / 2, (1 + confidence) / 2])
    return BootstrapInterval(float(difference.mean()), float(low), float(high), confidence, people)


def _people(values: Values, name: str) -> np.ndarray:
    values = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
    values = np.array(values, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"{name}: found shape {values.shape}, wanted (N,), one value for each of at least 2 people")
    check_finite(torch.from_numpy(values), name)
    return values


def _difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    if len(first) != len(second):
        raise ValueError(f"second: found {len(second)} people, wanted the same {len(first)} as first")
    return first - second
