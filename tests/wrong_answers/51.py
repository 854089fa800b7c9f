"""Typical wrong answers of notebook 51: what was tried, and the property that must fail."""

from itertools import combinations, pairwise, product

import numpy as np


def scores(people, similarity, pairs):
    return np.array([[similarity(a, b) for a, b in pairs(list(one.values()))] for one in people])


def error_of(values):
    return values.std(ddof=1) / np.sqrt(values.size) if values.size > 1 else 0.0


def every_two(images):
    return combinations(images, 2)


def pairs_as_people(people, similarity):
    """One hundred and eight numbers look like more than eighteen."""
    found = scores(people, similarity, every_two)
    return found.mean(), error_of(found.ravel())


def neighbours_only(people, similarity):
    own = scores(people, similarity, pairwise).mean(1)
    return own.mean(), error_of(own)


def with_itself(people, similarity):
    own = scores(people, similarity, lambda images: product(images, repeat=2)).mean(1)
    return own.mean(), error_of(own)


def deviation_of_people(people, similarity):
    """Where people lie, not where their mean does."""
    own = scores(people, similarity, every_two).mean(1)
    return own.mean(), own.std(ddof=1)


def error_over_pairs(people, similarity):
    """Averages the people and calls the pairs a sample."""
    own = scores(people, similarity, every_two).mean(0)
    return own.mean(), error_of(own)


def against_the_first(people, similarity):
    own = scores(people, similarity, lambda images: [(images[0], other) for other in images[1:]]).mean(1)
    return own.mean(), error_of(own)


def ratios(images, dark, bright):
    return [float(image[dark].mean() / image[bright].mean()) for image in images.values()]


def deviation(images, dark, bright):
    return float(np.std(ratios(images, dark, bright)))


def difference_of_means(images, dark, bright):
    """In the scans' own units, which differ."""
    found = [float(image[bright].mean() - image[dark].mean()) for image in images.values()]
    return max(found) - min(found)


def from_the_first(images, dark, bright):
    first, *others = ratios(images, dark, bright)
    return max(abs(first - other) for other in others)


def from_the_mean(images, dark, bright):
    found = np.array(ratios(images, dark, bright))
    return float(np.abs(found - found.mean()).max())


def against_all_else(images, dark, bright):
    """The brain instead of white matter below the line."""
    found = [float(image[dark].mean() / image[~dark].mean()) for image in images.values()]
    return max(found) - min(found)


def relative(images, dark, bright):
    found = ratios(images, dark, bright)
    return max(found) / min(found) - 1


def deviation_of_differences(first, second):
    """What `the deviation of the differences' could mean: it forgets what all share."""
    return (first - second).std()


def mean_absolute(first, second):
    return np.abs(first - second).mean()


def of_the_means(first, second):
    return abs(first.mean() - second.mean())


def sorted_volumes(first, second):
    """Compares distributions; the pairs are gone."""
    return np.sqrt(np.mean((np.sort(first) - np.sort(second)) ** 2))


def without_the_root(first, second):
    return np.mean((first - second) ** 2)


def signed(first, second):
    return (first - second).mean()


def tries_all(similarity, wanted, most):
    tried = np.linspace(0, most, 1999)
    return next((s for s in tried if similarity(s) >= wanted), most)


def coarse(similarity, wanted, most):
    tried = np.linspace(0, most, 11)
    return min(tried, key=lambda s: abs(similarity(s) - wanted))


def straight_line(similarity, wanted, most):
    """Reads the blur off a line between the two ends."""
    low, high = similarity(0), similarity(most)
    return max(0.0, most * (wanted - low) / (high - low))


def wrong_half(similarity, wanted, most):
    low, high = 0.0, most
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if similarity(middle) >= wanted else (low, middle)
    return high


def three_halvings(similarity, wanted, most):
    low, high = 0.0, most
    for _ in range(3):
        middle = (low + high) / 2
        low, high = (low, middle) if similarity(middle) >= wanted else (middle, high)
    return (low + high) / 2


def both_ways(similarity, wanted, most):
    """A line through two ends that also runs below no blur."""
    low, high = similarity(0), similarity(most)
    return most * (wanted - low) / (high - low)


def t_of(differences):
    return differences.mean() / (differences.std(ddof=1) / np.sqrt(differences.size))


def over_slices(first, second):
    """A hundred and fifty `people' where there are ten."""
    return t_of((first - second).ravel())


def unpaired(first, second):
    a, b = first.mean(1), second.mean(1)
    return (a.mean() - b.mean()) / np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))


def deviation_of_a_population(first, second):
    d = first.mean(1) - second.mean(1)
    return d.mean() / (d.std() / np.sqrt(len(d)))


def without_the_root_of_n(first, second):
    d = first.mean(1) - second.mean(1)
    return d.mean() / d.std(ddof=1)


def mean_difference(first, second):
    return (first - second).mean()


def backwards(first, second):
    return t_of(second.mean(1) - first.mean(1))


def without_sign(first, second):
    return abs(t_of(first.mean(1) - second.mean(1)))


WRONG_ANSWERS = {
    "51.2": [
        (pairs_as_people, "the error counts people, not pairs"),
        (pairs_as_people, "people who are all alike leave no error"),
        (neighbours_only, "the mean is over all pairs of scanners"),
        (with_itself, "an image is not held against itself"),
        (deviation_of_people, "the error counts people, not pairs"),
        (error_over_pairs, "people who are all alike leave no error"),
        (against_the_first, "the mean is over all pairs of scanners"),
    ],
    "51.1": [
        (deviation, "it is the largest ratio minus the smallest"),
        (deviation, "a scanner in between changes nothing"),
        (difference_of_means, "a scan in other units changes nothing"),
        (from_the_first, "the order of scanners does not count"),
        (from_the_mean, "it is the largest ratio minus the smallest"),
        (against_all_else, "other tissue does not count"),
        (relative, "it is the largest ratio minus the smallest"),
    ],
    "51.4": [
        (deviation_of_differences, "what a scanner adds to everybody stays in it"),
        (mean_absolute, "one large difference weighs more than many small ones"),
        (of_the_means, "each person is held against the same person"),
        (sorted_volumes, "each person is held against the same person"),
        (without_the_root, "it is the root of the mean squared difference"),
        (signed, "either scanner may come first"),
    ],
    "51.3": [
        (tries_all, "it halves the interval instead of trying all"),
        (coarse, "it finds the blur on a bent curve"),
        (straight_line, "it finds the blur on a bent curve"),
        (wrong_half, "it finds the blur on a straight curve"),
        (three_halvings, "it finds the blur on a straight curve"),
        (both_ways, "where nothing is to be gained, no blur"),
    ],
    "51.5": [
        (over_slices, "slices that repeat are no more people"),
        (over_slices, "it is Student's, of one number per person"),
        (unpaired, "what both rows of a person share changes nothing"),
        (deviation_of_a_population, "it is Student's, of one number per person"),
        (without_the_root_of_n, "it is Student's, of one number per person"),
        (mean_difference, "other units change nothing"),
        (backwards, "it is above zero where the first row is higher"),
        (without_sign, "it is above zero where the first row is higher"),
    ],
}
