"""Typical wrong answers of notebook 40: what was tried, and the property that must fail."""

# ------------------------------------------------------------------------------------------- 40.1


def as_if_not_pooled(levels, pools):
    return levels


def doubled_throughout(levels, pools):
    return sum(2**k for k in range(levels))


def whole_window(levels, pools):
    """The window's side in place of what lies on one side."""
    return 1 + 2 * sum(2 ** min(k, pools) for k in range(levels))


def pooled_first(levels, pools):
    """The pooling is counted before the level's own convolution."""
    return sum(2 ** min(k + 1, pools) for k in range(levels))


# ------------------------------------------------------------------------------------------- 40.2


def _parts(x):
    return x.mean(1, keepdim=True), x.std(1, keepdim=True, correction=0)


def means_only(x, y):
    return x - _parts(x)[0] + _parts(y)[0]


def nothing_under_the_fraction(x, y):
    """A channel that is the same everywhere becomes NaN."""
    (own, spread), (wanted, width) = _parts(x), _parts(y)
    return (x - own) / spread * width + wanted


def turned_round(x, y):
    """The reference's anatomy in the input's style."""
    (a, b), (c, d) = _parts(x), _parts(y)
    return ((y - c) / d * b + a)[:, : x.shape[1]]


def all_channels_together(x, y):
    return (x - x.mean()) / x.std() * y.std() + y.mean()


def variances(x, y):
    (a, b), (c, d) = _parts(x), _parts(y)
    return (x - a) / b**2 * d**2 + c


def ranges(x, y):
    """Minimum and maximum in place of mean and deviation."""
    low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    return (x - low) / (high - low) * (y.amax(1, keepdim=True) - y.amin(1, keepdim=True)) + y.amin(1, keepdim=True)


def sorted_values(x, y):
    """Upside down: a negative deviation."""
    (a, b), (c, d) = _parts(x), _parts(y)
    return -(x - a) / b * d + c


# ------------------------------------------------------------------------------------------- 40.3


def _means(x):
    return x.mean(1)


def _deviations(x):
    return x.std(1, correction=0)


def voxel_by_voxel(levels, others):
    return sum(((x - y) ** 2).mean() for x, y in zip(levels, others, strict=True))


def means_alone(levels, others):
    return sum(((_means(x) - _means(y)) ** 2).mean() for x, y in zip(levels, others, strict=True))


def last_level(levels, others):
    x, y = levels[-1], others[-1]
    return ((_means(x) - _means(y)) ** 2).mean() + ((_deviations(x) - _deviations(y)) ** 2).mean()


def summed_channels(levels, others):
    return sum(
        ((_means(x) - _means(y)) ** 2).sum() + ((_deviations(x) - _deviations(y)) ** 2).sum()
        for x, y in zip(levels, others, strict=True)
    )


def of_the_reference(levels, others):
    return sum((_means(y) ** 2).mean() + (_deviations(y) ** 2).mean() for y in others)


WRONG_ANSWERS = {
    "40.1": [
        (as_if_not_pooled, "voxels below a pooling are twice as large"),
        (doubled_throughout, "one voxel for each convolution without pooling"),
        (whole_window, "one voxel for each convolution without pooling"),
        (pooled_first, "voxels below a pooling are twice as large"),
    ],
    "40.2": [
        (means_only, "deviations are the reference's"),
        (turned_round, "means are the reference's"),
        (all_channels_together, "means are the reference's"),
        (variances, "deviations are the reference's"),
        (ranges, "means are the reference's"),
        (sorted_values, "features sent to themselves stay"),
        (nothing_under_the_fraction, "a silent channel gets the reference's mean"),
    ],
    "40.3": [
        (voxel_by_voxel, "places do not count"),
        (means_alone, "deviations count too"),
        (last_level, "means count, level by level"),
        (summed_channels, "means count, level by level"),
        (of_the_reference, "an image has its own style"),
    ],
}
