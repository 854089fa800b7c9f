"""Typical wrong answers of notebook 41: what was tried, and the property that must fail."""

import numpy as np
from scipy import stats

# ------------------------------------------------------------------------------------------- 41.1


def of_the_signed(first, second):
    """Ranks of the changes themselves: the largest fall has rank 1."""
    change = first - second
    change = change[change != 0]
    ranks = stats.rankdata(change)
    return ranks[change > 0].sum(), ranks[change < 0].sum()


def sizes(first, second):
    change = first - second
    return change[change > 0].sum(), -change[change < 0].sum()


def with_zeros(first, second):
    change = first - second
    ranks = stats.rankdata(np.abs(change))
    return ranks[change > 0].sum(), ranks[change < 0].sum()


def no_ties(first, second):
    change = first - second
    change = change[change != 0]
    ranks = np.abs(change).argsort(kind="stable").argsort(kind="stable") + 1
    return ranks[change > 0].sum(), ranks[change < 0].sum()


def counts(first, second):
    """The sign test: how many rise and how many fall."""
    return int((first > second).sum()), int((first < second).sum())


# ------------------------------------------------------------------------------------------- 41.2


def nothing_around(first, window, around, side):
    end = min(first + window, side)
    return first, end, 0, end - first


def beyond_the_volume(first, window, around, side):
    end = first + window
    return first - around, end + around, around, around + window


def inner_from_the_start(first, window, around, side):
    """The window is taken from the beginning of what was cut out."""
    end = min(first + window, side)
    return max(first - around, 0), min(end + around, side), 0, end - first


def one_side(first, window, around, side):
    end = min(first + window, side)
    start = max(first - around, 0)
    return start, end, first - start, end - start


def always_around(first, window, around, side):
    """At the first border too, the window is said to begin after `around` voxels."""
    end = min(first + window, side)
    start = max(first - around, 0)
    return start, min(end + around, side), around, around + end - first


WRONG_ANSWERS = {
    "41.1": [
        (of_the_signed, "ranks keep the sign of their change"),
        (sizes, "ranks keep the sign of their change"),
        (with_zeros, "people without a change are left out"),
        (no_ties, "equal sizes share their ranks"),
        (counts, "ranks keep the sign of their change"),
    ],
    "41.2": [
        (nothing_around, "in the middle it sees as much on both sides"),
        (beyond_the_volume, "at the first border there is nothing before it"),
        (inner_from_the_start, "in the middle it sees as much on both sides"),
        (one_side, "in the middle it sees as much on both sides"),
        (always_around, "at the first border there is nothing before it"),
    ],
}
