"""Typical wrong answers of notebook 03: what was tried, and the property that must fail."""

import math

import numpy as np
from scipy.fft import dctn, idctn


def deviations(source, target, mask):
    """The affine match: right without noise, too steep with it."""
    gain = target[mask].std() / source[mask].std()
    return gain, target[mask].mean() - gain * source[mask].mean()


def whole_image(source, target, mask):
    """Forgets the mask."""
    x, y = source.flatten(), target.flatten()
    gain = ((x - x.mean()) * (y - y.mean())).mean() / x.var(correction=0)
    return gain, y.mean() - gain * x.mean()


def through_zero(source, target, mask):
    """A gain alone."""
    return (source[mask] * target[mask]).sum() / source[mask].square().sum(), 0.0


def other_way_round(source, target, mask):
    """The regression of the source on the target, turned over."""
    x, y = source[mask], target[mask]
    gain = y.var(correction=0) / ((x - x.mean()) * (y - y.mean())).mean()
    return gain, y.mean() - gain * x.mean()


def by_rank(source, target):
    """Every voxel a rank of its own: equal intensities are torn apart, and the lengths have to agree."""
    found = np.empty_like(source)
    found[np.argsort(source, kind="stable")] = np.sort(target)[: len(source)]
    return found


def mean_and_deviation(source, target):
    """Two numbers of the histogram, not the histogram."""
    return target.mean() + target.std() / source.std() * (source - source.mean())


def sorted_target(source, target):
    """The target's values, in the target's order of brightness instead of the source's."""
    return np.quantile(target, np.arange(1, len(source) + 1) / len(source), method="inverted_cdf")


def swap(image, average, cutoff, keep_mean=True, rounded=math.ceil, from_the_end=False):
    """The swap with one thing done otherwise."""
    a, b = dctn(image, norm="ortho"), dctn(average, norm="ortho")
    rows, columns = (rounded(cutoff * size) for size in image.shape)
    first = a[0, 0]
    part = (slice(-rows, None), slice(-columns, None)) if from_the_end else (slice(rows), slice(columns))
    a[part] = b[part]
    a[0, 0] = first if keep_mean else a[0, 0]
    return idctn(a, norm="ortho")


def swap_of_everything_else(image, average, cutoff):
    """Keeps the image's low frequencies and takes the average's high ones."""
    return swap(average, image, cutoff, keep_mean=False)


def brightness_by_addition(image, average, cutoff):
    """Puts the mean back by a wrong amount: the average's is added, not replaced."""
    return swap(image, average, cutoff) + average.mean()


def without_an_intercept(data, factor):
    """Uses the factor as it is: its mean carries a part of the voxels' means away."""
    return data - np.outer(factor, factor @ data / (factor @ factor))


def residuals(data, factor):
    """The residuals alone: the voxels' means are gone as well."""
    f = factor - factor.mean()
    centred = data - data.mean(0)
    return centred - np.outer(f, f @ centred / (f @ f))


def one_slope_for_all(data, factor):
    """One slope for all voxels: right on average, wrong in each."""
    f = factor - factor.mean()
    return data - (f * (f @ data.mean(1)) / (f @ f))[:, None]


def forgets_to_divide(data, factor):
    """Right for a factor of unit length only."""
    f = factor - factor.mean()
    return data - np.outer(f, f @ data)


WRONG_ANSWERS = {
    "03.1": [
        (deviations, "no line near it has a smaller error"),
        (deviations, "the gain is NCC times the ratio of the deviations"),
        (whole_image, "voxels outside the mask do not count"),
        (through_zero, "it finds an exact gain and offset"),
        (other_way_round, "no line near it has a smaller error"),
    ],
    "03.2": [
        (by_rank, "equal intensities stay equal"),
        (by_rank, "the target may have another number of voxels"),
        (mean_and_deviation, "the result has the target's values"),
        (mean_and_deviation, "a monotone map of the source changes nothing"),
        (sorted_target, "the order of the intensities stays"),
        (lambda source, target: target, "the target may have another number of voxels"),
    ],
    "03.3": [
        (lambda i, a, c: swap(i, a, c, keep_mean=False), "the image's mean stays"),
        (lambda i, a, c: swap(i, a, c / 2), "the low frequencies are the average's"),
        (lambda i, a, c: swap(i, a, 2 * c), "the high frequencies stay the image's"),
        (lambda i, a, c: swap(i, a, c, from_the_end=True), "the low frequencies are the average's"),
        (swap_of_everything_else, "the high frequencies stay the image's"),
        (brightness_by_addition, "swapped with itself an image stays as it is"),
    ],
    "03.4": [
        (
            lambda people, within, width: within / (people * width + within),
            "with very many people only the own value counts",
        ),
        (lambda people, within, width: people / (people + within), "with within / width people both count half"),
        (lambda people, within, width: width / (width + within), "with very many people only the own value counts"),
        (
            lambda people, within, width: people * width / (people * width + within**2),
            "it gives ComBat's posterior means",
        ),
        (lambda people, within, width: 0.5, "without people only the prior counts"),
    ],
    "03.5": [
        (without_an_intercept, "the voxels' means stay"),
        (residuals, "the voxels' means stay"),
        (one_slope_for_all, "no voxel correlates with the factor any more"),
        (forgets_to_divide, "the factor's unit and zero do not matter"),
        (lambda data, factor: data - factor[:, None], "nothing but the factor is taken out"),
        (lambda data, factor: np.tile(data.mean(0), (len(data), 1)), "nothing but the factor is taken out"),
    ],
}
