"""Typical wrong answers of notebook 12: what was tried, and the property that must fail."""

import numpy as np
import torch
from scipy.ndimage import binary_dilation


def resampled(first, second, chance, share=0.95, size=None, replace=True):
    """The paired bootstrap, with one thing done otherwise."""
    d = first - second
    size = size or len(d)
    means = [chance.choice(d, size, replace=replace).mean() for _ in range(4000)]
    return d.mean(), *np.quantile(means, [(1 - share) / 2, (1 + share) / 2])


def unpaired(first, second, chance):
    """Draws people for each row anew: the people's own differences come in."""
    draws = (chance.integers(len(first), size=(4000, len(first))) for _ in range(2))
    means = [row[drawn].mean(1) for row, drawn in zip((first, second), draws, strict=True)]
    return first.mean() - second.mean(), *np.quantile(means[0] - means[1], [0.025, 0.975])


def of_single_people(first, second, chance):
    """Where 95 % of the people lie, not where their mean does."""
    d = first - second
    return d.mean(), *np.quantile(d, [0.025, 0.975])


def ratio_of_means(first, second, chance):
    _, low, high = resampled(first, second, chance)
    return first.mean() / second.mean(), low, high


def without_replacement(first, second, chance):
    """The same people in another order: the mean never moves."""
    return resampled(first, second, chance, replace=False)


def backwards(first, second, chance):
    return resampled(second, first, chance)


def judged(gains, interval, to_hold, to_contradict):
    held = sum(interval(g, to_hold)[0] > 0 for g in gains)
    behind = any(interval(g, to_contradict)[1] < 0 for g in gains)
    return held, "holds here" if held == len(gains) else "contradicted here" if behind else "undecided"


def without_bonferroni(gains, interval):
    return judged(gains, interval, 0.95, 0.95)


def strict_in_both(gains, interval):
    """Wider intervals for holding as well: a claim of many comparisons then never holds."""
    return judged(gains, interval, 1 - 0.05 / len(gains), 1 - 0.05 / len(gains))


def by_majority(gains, interval):
    held = sum(interval(g, 0.95)[0] > 0 for g in gains)
    return held, "holds here" if held > len(gains) / 2 else "undecided"


def by_means(gains, interval):
    held = sum(np.mean(g) > 0 for g in gains)
    return held, "holds here" if held == len(gains) else "contradicted here"


def never_contradicts(gains, interval):
    held = sum(interval(g, 0.95)[0] > 0 for g in gains)
    return held, "holds here" if held == len(gains) else "undecided"


def dice(found, truth):
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


def plain_ratio(found, truth):
    """Right, until both are empty in Python numbers."""
    either = (found | truth).sum().item()
    return (found & truth).sum().item() / either if either else 1.0


def share_of_truth(found, truth):
    """Sensitivity: a mask of everything is perfect."""
    return (found & truth).sum() / truth.sum()


def accuracy(found, truth):
    """Air counts as found."""
    return (found == truth).float().mean()


def score(a, b):
    return -10 * torch.log10((a - b).square().mean())


def whole_slice(image, target, inside):
    """Scales and counts everything, air and skull too."""
    return score(image / image.max(), target / target.max()), score(image / target.max(), target / target.max())


def scaled_before_the_mask(image, target, inside):
    """Counts the brain, but scales by the brightest pixel anywhere."""
    a, b = (image / image.max())[inside], (target / target.max())[inside]
    return score(a, b), score((image / target.max())[inside], b)


def own_maximum_twice(image, target, inside):
    x, y = image[inside], target[inside]
    own = score(x / x.max(), y / y.max())
    return own, own


def targets_maximum_twice(image, target, inside):
    x, y = image[inside], target[inside]
    common = score(x / y.max(), y / y.max())
    return common, common


def amplitude(image, target, inside):
    """20 log10 of a squared error: twice the decibels."""
    x, y = image[inside], target[inside]
    return 2 * score(x / x.max(), y / y.max()), 2 * score(x / y.max(), y / y.max())


def contrast(image, where, around):
    return (image[where].mean() - image[around].mean()) / image[around].std()


def against_all_white(image, lesion, white):
    return contrast(image, lesion, white & ~lesion)


def against_everything_near(image, lesion, white):
    near = torch.from_numpy(binary_dilation(lesion.numpy(), iterations=3))
    return contrast(image, lesion, near & ~lesion)


def with_the_lesion_in(image, lesion, white):
    near = torch.from_numpy(binary_dilation(lesion.numpy(), iterations=3))
    return contrast(image, lesion, near & white)


def not_divided(image, lesion, white):
    near = torch.from_numpy(binary_dilation(lesion.numpy(), iterations=3)) & white & ~lesion
    return image[lesion].mean() - image[near].mean()


def over_the_lesions_deviation(image, lesion, white):
    near = torch.from_numpy(binary_dilation(lesion.numpy(), iterations=3)) & white & ~lesion
    return (image[lesion].mean() - image[near].mean()) / image[lesion].std()


WRONG_ANSWERS = {
    "12.1": [
        (unpaired, "it is the interval of a mean, at 95 %"),
        (unpaired, "what both rows of a person share changes nothing"),
        (of_single_people, "it is the interval of a mean, at 95 %"),
        (without_replacement, "it is the interval of a mean, at 95 %"),
        (lambda f, s, c: resampled(f, s, c, share=0.9), "it is the interval of a mean, at 95 %"),
        (lambda f, s, c: resampled(f, s, c, size=5), "it is the interval of a mean, at 95 %"),
        (ratio_of_means, "the mean is that of the differences"),
        (ratio_of_means, "the mean lies between the ends"),
        (backwards, "the mean is that of the differences"),
    ],
    "12.2": [
        (without_bonferroni, "among many comparisons, one a little behind does not"),
        (strict_in_both, "it holds where every comparison does"),
        (by_majority, "one that includes zero makes it undecided"),
        (by_means, "one that includes zero makes it undecided"),
        (never_contradicts, "one that is clearly behind contradicts it"),
        (never_contradicts, "with one comparison it is the interval's sign"),
    ],
    "12.3": [
        (dice, "it is Dice / (2 - Dice)"),
        (dice, "squares overlap by as much as they do"),
        (plain_ratio, "two empty masks have no overlap to speak of"),
        (share_of_truth, "finding everything is no success"),
        (accuracy, "more air around changes nothing"),
    ],
    "12.4": [
        (whole_slice, "pixels outside the brain do not count"),
        (scaled_before_the_mask, "both scores are right"),
        (own_maximum_twice, "a gain changes the second score only"),
        (targets_maximum_twice, "one bright pixel ruins the first score"),
        (amplitude, "both scores are right"),
    ],
    "12.5": [
        (against_all_white, "white matter far away does not count"),
        (against_everything_near, "grey matter close by does not count"),
        (with_the_lesion_in, "the lesion is not part of its surroundings"),
        (not_divided, "gain and offset change nothing"),
        (
            over_the_lesions_deviation,
            "it is the difference in deviations of the white matter around",
        ),
        (lambda i, m, w: -against_all_white(i, m, w), "it is the difference in deviations of the white matter around"),
    ],
}
