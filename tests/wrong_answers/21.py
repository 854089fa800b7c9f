"""Typical wrong answers of notebook 21: what was tried, and the property that must fail."""

# ------------------------------------------------------------------------------------------- 21.1


def over_the_whole_slice(source, target):
    """The background counts: its zeros pull the line."""
    x, y = source.flatten(), target.flatten()
    alpha = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    return alpha, y.mean() - alpha * x.mean()


def by_deviations(source, target):
    """Mean and deviation agree afterwards, which is not the least error."""
    x, y = source[source > 0], target[source > 0]
    alpha = y.std() / x.std()
    return alpha, y.mean() - alpha * x.mean()


def through_the_origin(source, target):
    x, y = source[source > 0], target[source > 0]
    return (x * y).sum() / x.square().sum(), 0.0


def the_other_way(source, target):
    """The line from the target to the source."""
    x, y = target[source > 0], source[source > 0]
    alpha = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    return alpha, y.mean() - alpha * x.mean()


# ------------------------------------------------------------------------------------------- 21.2


def log_of_zero(probabilities, inside):
    """0 log 0 is not a number."""
    return -(probabilities * probabilities.log()).sum(1)[inside].mean()


def in_bits(probabilities, inside):
    return -(probabilities * probabilities.clamp_min(1e-30).log2()).sum(1)[inside].mean()


def mean_over_labels(probabilities, inside):
    return -(probabilities * probabilities.clamp_min(1e-30).log()).mean(1)[inside].mean()


def everywhere(probabilities, inside):
    return -(probabilities * probabilities.clamp_min(1e-30).log()).sum(1).mean()


# ------------------------------------------------------------------------------------------- 21.3


def smallest(bits, target_bits):
    """The look with the smallest bits, which is often the last."""
    look = min(range(len(bits)), key=lambda i: bits[i])
    return look, bits[look] <= target_bits


def strictly_below(bits, target_bits):
    for look, value in enumerate(bits):
        if value < target_bits:
            return look, True
    return len(bits) - 1, False


def never_the_first(bits, target_bits):
    """Takes a step before it looks."""
    for look, value in enumerate(bits[1:], 1):
        if value <= target_bits:
            return look, True
    return len(bits) - 1, False


def says_reached(bits, target_bits):
    for look, value in enumerate(bits):
        if value <= target_bits:
            return look, True
    return len(bits) - 1, True


WRONG_ANSWERS = {
    "21.1": [
        (over_the_whole_slice, "it finds a line that is there"),
        (by_deviations, "no line beside it is closer"),
        (through_the_origin, "it finds a line that is there"),
        (the_other_way, "it finds a line that is there"),
    ],
    "21.2": [
        (log_of_zero, "where the network is sure there is none"),
        (in_bits, "where it guesses there is most"),
        (mean_over_labels, "where it guesses there is most"),
        (everywhere, "it is a mean over the pixels of the mask"),
    ],
    "21.3": [
        (smallest, "it stops at the first look that is low enough"),
        (strictly_below, "equal is low enough"),
        (never_the_first, "it stops before the first step"),
        (says_reached, "it takes the last look if none is low enough"),
    ],
}
