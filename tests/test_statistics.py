"""Paired statistics against textbook numbers and scipy; the bootstrap by its coverage and its generator."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from harmony_lite.evaluate import statistics

# Darwin's fifteen pairs of maize plants, heights in inches (Fisher, The Design of Experiments, 1935, section 17).
CROSSED = [23.5, 12.0, 21.0, 22.0, 19.125, 21.5, 22.125, 20.375, 18.25, 21.625, 23.25, 21.0, 22.125, 23.0, 12.0]
SELFED = [17.375, 20.375, 20.0, 20.0, 18.375, 18.625, 18.625, 15.25, 16.5, 18.0, 16.25, 18.0, 12.75, 15.5, 18.0]


def _draws(seed=0):
    return torch.Generator().manual_seed(seed)


def test_paired_t_of_darwins_maize():
    """Fisher: t = 2.148 with 14 degrees of freedom, just beyond the 5 % point of 2.145."""
    found = statistics.paired_t(CROSSED, SELFED)
    assert found.statistic == pytest.approx(2.148, abs=5e-4)
    assert found.p_value == pytest.approx(0.0497, abs=5e-5)
    assert found.mean_difference == pytest.approx(2.6167, abs=1e-4) and found.people == 15


def test_paired_t_is_the_formula():
    difference = np.subtract(CROSSED, SELFED)
    t = difference.mean() / (difference.std(ddof=1) / math.sqrt(15))
    found = statistics.paired_t(torch.tensor(CROSSED), np.array(SELFED))
    assert found.statistic == pytest.approx(t, rel=1e-9)
    assert found.p_value == pytest.approx(2 * stats.t.sf(t, 14), rel=1e-9)


def test_wilcoxon_counts_every_assignment_of_signs():
    """Six differences of one sign: 2 of the 64 assignments are as extreme, p = 1/32."""
    found = statistics.wilcoxon([1.1, 2.3, 3.2, 4.7, 5.9, 7.2], [1, 2, 2.5, 3.5, 4, 4.5])
    assert found.statistic == 0 and found.p_value == pytest.approx(2 / 64) and found.people == 6
    fewer = statistics.wilcoxon([1.1, 2.3, 3.2, 4.7, 5.9], [1, 2, 2.5, 3.5, 4])
    assert fewer.p_value == pytest.approx(2 / 32) and fewer.p_value > 0.05


def test_wilcoxon_of_darwins_maize():
    """The ranks against the first method sum to 24 (two plants), p = 0.041."""
    found = statistics.wilcoxon(CROSSED, SELFED)
    assert found.statistic == 24 and found.p_value == pytest.approx(0.041, abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=3, max_size=12, unique=True))
def test_swapping_the_methods_turns_the_sign_and_nothing_else(pairs):
    first, second = map(list, zip(*pairs, strict=True))
    assume(np.ptp(np.subtract(first, second)) > 1e-6)
    one, other = statistics.paired_t(first, second), statistics.paired_t(second, first)
    assert one.p_value == pytest.approx(other.p_value) and one.statistic == pytest.approx(-other.statistic)
    assert statistics.wilcoxon(first, second).p_value == pytest.approx(statistics.wilcoxon(second, first).p_value)


def test_bootstrap_is_scipys():
    found = statistics.bootstrap_interval(CROSSED, SELFED, generator=_draws(), resamples=50_000)
    difference = np.subtract(CROSSED, SELFED)
    rng = np.random.default_rng(0)
    expected = stats.bootstrap((difference,), np.mean, n_resamples=50_000, method="percentile", rng=rng)
    assert found.low == pytest.approx(expected.confidence_interval.low, abs=0.05)
    assert found.high == pytest.approx(expected.confidence_interval.high, abs=0.05)
    assert found.mean == pytest.approx(difference.mean()) and found.people == 15 and found.confidence == 0.95


def test_bootstrap_covers_the_true_mean_as_often_as_it_says():
    """Thirty people, 300 experiments: a 90 % interval holds the true mean 84 to 94 % of the time (binomial, 3 sd)."""
    draws = _draws()
    inside = 0
    for _ in range(300):
        people = 2 + torch.randn(30, generator=draws)
        found = statistics.bootstrap_interval(people, generator=draws, confidence=0.9, resamples=1000)
        inside += found.low <= 2 <= found.high
    assert 0.84 <= inside / 300 <= 0.94


def test_bootstrap_draws_people_not_pairs_apart():
    """A person's own level cancels in the paired difference, so a large spread of levels leaves the interval narrow."""
    level = 1000 * torch.randn(20, generator=_draws(1), dtype=torch.float64)
    gain = 1 + 0.1 * torch.randn(20, generator=_draws(2), dtype=torch.float64)
    paired = statistics.bootstrap_interval(level + gain, level, generator=_draws())
    alone = statistics.bootstrap_interval(gain, generator=_draws())
    assert (paired.low, paired.high) == pytest.approx((alone.low, alone.high))
    assert paired.excludes_zero and paired.high - paired.low < 0.2


def test_the_generator_alone_decides():
    torch.manual_seed(1)
    one = statistics.bootstrap_interval(CROSSED, SELFED, generator=_draws(3))
    torch.manual_seed(2)
    same = statistics.bootstrap_interval(CROSSED, SELFED, generator=_draws(3))
    other = statistics.bootstrap_interval(CROSSED, SELFED, generator=_draws(4))
    assert one == same and one != other


@pytest.mark.parametrize(
    ("first", "second", "excludes"),
    [([1, 2, 3, 2], [0, 0, 0, 0], True), ([0, 0, 0, 0], [1, 2, 3, 2], True), ([1, -2, 3, -2], [0, 0, 0, 0], False)],
)
def test_excludes_zero_on_either_side(first, second, excludes):
    assert statistics.bootstrap_interval(first, second, generator=_draws()).excludes_zero is excludes


def test_resamples_beyond_one_batch_are_all_used():
    few = statistics.bootstrap_interval(CROSSED, generator=_draws(), resamples=1000)
    more = statistics.bootstrap_interval(CROSSED, generator=_draws(), resamples=2500)
    assert (few.low, few.high) != (more.low, more.high)


def _bootstrap(first, second):
    return statistics.bootstrap_interval(first, second, generator=_draws())


@pytest.mark.parametrize("function", [statistics.paired_t, statistics.wilcoxon, _bootstrap])
@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([1.0, 2.0, 3.0], [1.0, 2.0], "second: found 2 people, wanted the same 3 as first"),
        ([1.0], [2.0], r"first: found shape \(1,\), wanted .* at least 2 people"),
        ([[1.0, 2.0]], [[1.0, 2.0]], r"first: found shape \(1, 2\), wanted \(N,\)"),
        ([1.0, 2.0], [1.0, math.nan], "second: found 1 values that are NaN or infinite, wanted finite values"),
    ],
)
def test_bad_people_are_refused(function, first, second, message):
    with pytest.raises(ValueError, match=message):
        function(first, second)


def test_differences_without_spread_are_refused():
    with pytest.raises(ValueError, match="differences: found all 3 at 0.2, wanted some that vary"):
        statistics.paired_t([0.3, 0.5, 1.2], [0.1, 0.3, 1.0])
    with pytest.raises(ValueError, match="pairs: found all 3 equal, wanted at least one that differs"):
        statistics.wilcoxon([0.3, 0.5, 1.2], [0.3, 0.5, 1.2])


@pytest.mark.parametrize(("options", "message"), [({"confidence": 95}, "confidence"), ({"resamples": 10}, "resamples")])
def test_bad_bootstrap_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=f"{message}: found .*, wanted "):
        statistics.bootstrap_interval(CROSSED, SELFED, generator=_draws(), **options)
