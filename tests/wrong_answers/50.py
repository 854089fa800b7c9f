"""Typical wrong answers of notebook 50: what was tried, and the property that must fail."""

from itertools import combinations

import torch

# ------------------------------------------------------------------------------------------- 50.1


def sample_variance(embeddings):
    return embeddings.var(1).mean()


def absolute_deviation(embeddings):
    return (embeddings - embeddings.mean(1, keepdim=True)).abs().mean()


def over_embeddings(embeddings):
    return embeddings.var(2, correction=0).mean()


def over_everything(embeddings):
    return embeddings.var(correction=0)


def summed_over_embeddings(embeddings):
    return embeddings.var(1, correction=0).mean((0, 2, 3)).sum() * embeddings.shape[2]


def second_moment(embeddings):
    """Forgets the mean."""
    return embeddings.square().mean()


# ------------------------------------------------------------------------------------------- 50.2


def one_at_a_time(embeddings, image):
    return embeddings.T @ image / embeddings.square().sum(0)


def with_an_intercept(embeddings, image):
    rows = torch.cat([embeddings, torch.ones(len(embeddings), 1).to(embeddings)], 1)
    return torch.linalg.lstsq(rows, image[:, None], driver="gelsd").solution[:-1, 0]


def inverted(embeddings, image):
    return torch.linalg.inv(embeddings.T @ embeddings) @ embeddings.T @ image


def adding_up_to_one(embeddings, image):
    weights = torch.linalg.lstsq(embeddings, image[:, None], driver="gelsd").solution[:, 0]
    return weights / weights.sum()


def ridge(embeddings, image):
    square = embeddings.T @ embeddings
    return torch.linalg.solve(square + 10 * torch.eye(len(square)).to(square), embeddings.T @ image)


# ------------------------------------------------------------------------------------------- 50.4


def differences(outputs, pairs=None):
    pairs = pairs or combinations(range(outputs.shape[1]), 2)
    return torch.stack([outputs[:, i] - outputs[:, k] for i, k in pairs])


def neighbors_only(outputs):
    return differences(outputs, [(i, i + 1) for i in range(outputs.shape[1] - 1)]).abs().mean()


def summed(outputs):
    found = differences(outputs)
    return found.abs().mean() * len(found)


def squared(outputs):
    return differences(outputs).square().mean()


def over_scanners(outputs):
    """The released code's divisor."""
    found = differences(outputs)
    return found.abs().mean() * len(found) / outputs.shape[1]


def mean_before_absolute(outputs):
    return differences(outputs).mean((1, 2, 3)).abs().mean()


def everyone_with_everyone(outputs):
    """Each scanner with itself too."""
    return (outputs[:, :, None] - outputs[:, None]).abs().mean()


def to_the_mean(outputs):
    return (outputs - outputs.mean(1, keepdim=True)).abs().mean()


# ------------------------------------------------------------------------------------------- 50.3


def coupling(embeddings):
    return embeddings.var(1, correction=0).mean()


def without_the_root(embeddings, weights, wanted):
    c = coupling(embeddings) / wanted
    return embeddings / c, c * weights


def the_other_way(embeddings, weights, wanted):
    c = (wanted / coupling(embeddings)).sqrt()
    return embeddings / c, c * weights


def embeddings_only(embeddings, weights, wanted):
    return embeddings * (wanted / coupling(embeddings)).sqrt(), weights


def weights_the_same_way(embeddings, weights, wanted):
    c = (coupling(embeddings) / wanted).sqrt()
    return embeddings / c, weights / c


def towards_their_mean(embeddings, weights, wanted):
    """Makes scanners more alike instead of smaller."""
    mean = embeddings.mean(1, keepdim=True)
    return mean + (embeddings - mean) * (wanted / coupling(embeddings)).sqrt(), weights


def wanted_as_the_factor(embeddings, weights, wanted):
    return embeddings * wanted, weights / wanted


# ------------------------------------------------------------------------------------------- 50.5


def solved(embeddings, image, root):
    return torch.linalg.lstsq(embeddings * root[:, None], (image * root)[:, None]).solution[:, 0]


def residual(embeddings, image, weights, floor):
    return (image - embeddings @ weights).abs().clamp_min(floor)


def plain(embeddings, image, weights, floor):
    return solved(embeddings, image, torch.ones_like(image))


def upside_down(embeddings, image, weights, floor):
    return solved(embeddings, image, residual(embeddings, image, weights, floor).sqrt())


def without_the_root_of_it(embeddings, image, weights, floor):
    """Rows times 1 / |r|: that is a weight of 1 / r^2."""
    return solved(embeddings, image, 1 / residual(embeddings, image, weights, floor))


def without_a_floor(embeddings, image, weights, floor):
    return solved(embeddings, image, (image - embeddings @ weights).abs().rsqrt())


def signed(embeddings, image, weights, floor):
    """Forgets that a residual may be negative."""
    return solved(embeddings, image, (image - embeddings @ weights).clamp_min(floor).rsqrt())


def only_the_embeddings(embeddings, image, weights, floor):
    root = residual(embeddings, image, weights, floor).rsqrt()
    return torch.linalg.lstsq(embeddings * root[:, None], image[:, None]).solution[:, 0]


WRONG_ANSWERS = {
    "50.1": [
        (sample_variance, "two scanners at 1 and 3 have a variance of 1"),
        (absolute_deviation, "three times the embeddings cost nine times as much"),
        (over_embeddings, "embeddings that are alike cost nothing"),
        (over_everything, "embeddings that are alike cost nothing"),
        (summed_over_embeddings, "slices, embeddings and pixels are averaged"),
        (second_moment, "what all scanners share does not count"),
    ],
    "50.2": [
        (one_at_a_time, "weights that made the image are found again"),
        (with_an_intercept, "the residual is orthogonal to every embedding"),
        (inverted, "two equal embeddings do no harm"),
        (adding_up_to_one, "twice the image has twice the weights"),
        (ridge, "weights that made the image are found again"),
    ],
    "50.4": [
        (neighbors_only, "the order of scanners does not matter"),
        (summed, "four scanners have six pairs, and their mean counts"),
        (squared, "twice the differences cost twice as much"),
        (over_scanners, "two scanners have one pair"),
        (mean_before_absolute, "brighter here and darker there do not cancel"),
        (everyone_with_everyone, "two scanners have one pair"),
        (to_the_mean, "four scanners have six pairs, and their mean counts"),
    ],
    "50.3": [
        (without_the_root, "the coupling is what was asked for"),
        (the_other_way, "the coupling is what was asked for"),
        (embeddings_only, "the image stays"),
        (weights_the_same_way, "the image stays"),
        (towards_their_mean, "scanners are no more alike than before"),
        (wanted_as_the_factor, "asked for what is there, nothing moves"),
    ],
    "50.5": [
        (plain, "outliers lose their hold"),
        (upside_down, "the absolute error does not grow"),
        (without_the_root_of_it, "it solves least squares with weights 1 / |r|"),
        (without_a_floor, "a residual of 0 is borne"),
        (signed, "it solves least squares with weights 1 / |r|"),
        (only_the_embeddings, "it solves least squares with weights 1 / |r|"),
        (plain, "one constant embedding ends at the median"),
    ],
}
