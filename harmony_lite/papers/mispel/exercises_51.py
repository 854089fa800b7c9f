"""Exercises of notebook 51: SSIM over people, a spread of contrasts, RMSE of volumes, an equal blur, a t-test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from harmony_lite.exercises import Exercise, Property, answers, register

# ------------------------------------------------------------------------------------- 51.2: pairs, then people


def _similarity(first: Tensor, second: Tensor) -> float:
    """1 for an image and itself, less the further two are apart; the same whichever comes first."""
    return 1 - float((first - second).abs().mean())


def _people(people: int = 6, scanners: int = 4) -> list[dict[str, Tensor]]:
    """Images (5, 5) by scanner: people differ in how alike their scans are, pairs differ much more."""
    generator = torch.Generator().manual_seed(511)
    found = []
    for _ in range(people):
        size = 0.08 + 0.04 * float(torch.rand(1, generator=generator))
        found.append({f"s{i}": size * i + 0.02 * torch.rand(5, 5, generator=generator) for i in range(scanners)})
    return found


def _values(people: Sequence[Mapping[str, Tensor]]) -> np.ndarray:
    return np.array([[_similarity(a, b) for a, b in combinations(one.values(), 2)] for one in people])


def _mean_and_error(answer, people: Sequence[Mapping[str, Tensor]]) -> tuple[float, float]:
    copies = [dict(one) for one in people]
    return answers.two_numbers(answer(copies, _similarity), "the mean and its standard error")


def _mean_is_over_all_pairs(answer) -> tuple[bool, str]:
    people = _people()
    mean, wanted = _mean_and_error(answer, people)[0], _values(people).mean()
    return math.isclose(mean, wanted, abs_tol=1e-6), f"the mean is {mean:.4f}, that of six pairs each {wanted:.4f}"


def _nothing_with_itself(answer) -> tuple[bool, str]:
    """Two scanners make one pair; with each image beside itself as well, half of it would be 1."""
    people = _people(scanners=2)
    mean, wanted = _mean_and_error(answer, people)[0], _values(people).mean()
    return math.isclose(mean, wanted, abs_tol=1e-6), f"of two scanners the mean is {mean:.4f}, wanted {wanted:.4f}"


def _error_counts_people(answer) -> tuple[bool, str]:
    people, own = _people(), _values(_people()).mean(1)
    error, wanted = _mean_and_error(answer, people)[1], own.std(ddof=1) / math.sqrt(len(own))
    reason = f"the error is {error:.5f}; of {len(own)} people, one number each, it is {wanted:.5f}"
    return math.isclose(error, wanted, rel_tol=1e-4), reason


def _alike_people_have_no_error(answer) -> tuple[bool, str]:
    error = _mean_and_error(answer, 5 * _people(1))[1]
    return error < 1e-6, f"five times the same person: the error is {error:.5f}, though every mean is the same"


register(
    Exercise(
        id="51.2",
        title="six pairs of each person, and then the people",
        minutes=8,
        properties=(
            Property("the mean is over all pairs of scanners", _mean_is_over_all_pairs),
            Property("an image is not held against itself", _nothing_with_itself),
            Property("the error counts people, not pairs", _error_counts_people),
            Property("people who are all alike leave no error", _alike_people_have_no_error),
        ),
        hints=(
            "Two steps: one number for each person first, the mean over pairs; then mean and error over people.",
            "itertools.combinations(images.values(), 2) gives every two scanners once. The standard error is the "
            "sample's deviation (n - 1) over the square root of the number of people.",
            "own = np.array([np.mean([similarity(a, b) for a, b in combinations(one.values(), 2)]) for one in "
            "people]); then own.mean() and own.std(ddof=1) / np.sqrt(len(own)).",
        ),
    )
)

# ------------------------------------------------------------------------------------- 51.1: a spread of contrasts


def _scans() -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Images (6, 6, 6) by scanner with dark and bright tissue at other ratios, and the two masks."""
    generator = torch.Generator().manual_seed(512)
    depth = torch.arange(6).reshape(6, 1, 1).expand(6, 6, 6)
    dark, bright = depth < 2, depth > 2
    images = {}
    for ratio, name in zip((0.25, 0.31, 0.2, 0.26), "abcd", strict=True):
        image = torch.where(dark, ratio, 0.6) + bright * 0.4 + 0.1 * torch.rand(6, 6, 6, generator=generator)
        images[name] = image.double()
    return images, dark, bright


def _spread(answer, images: Mapping[str, Tensor], dark: Tensor, bright: Tensor) -> float:
    return float(answer({name: image.clone() for name, image in images.items()}, dark.clone(), bright.clone()))


def _largest_minus_smallest(answer) -> tuple[bool, str]:
    images, dark, bright = _scans()
    ratios = [float(image[dark].mean() / image[bright].mean()) for image in images.values()]
    found, wanted = _spread(answer, images, dark, bright), max(ratios) - min(ratios)
    shown = ", ".join(f"{ratio:.3f}" for ratio in ratios)
    return math.isclose(found, wanted, rel_tol=1e-6), f"of the ratios {shown} the spread is {found:.4f}"


@answers.unchanged(_spread, _scans, "one scan in other units:", digits=4)
def _gain_does_not_matter(images, dark, bright) -> tuple:
    return {**images, "b": 700 * images["b"]}, dark, bright


@answers.unchanged(_spread, _scans, "a fifth scanner in the middle:", digits=4)
def _one_between_changes_nothing(images, dark, bright) -> tuple:
    return {**images, "e": (images["b"] + images["c"]) / 2}, dark, bright


@answers.unchanged(_spread, _scans, "in another order", digits=4, rel_tol=1e-9)
def _not_the_first_alone(images, dark, bright) -> tuple:
    return {name: images[name] for name in "bdca"}, dark, bright


@answers.unchanged(_spread, _scans, "with other tissue brighter", digits=4, rel_tol=1e-9)
def _outside_is_not_asked(images, dark, bright) -> tuple:
    return {name: torch.where(dark | bright, image, 5 * image) for name, image in images.items()}, dark, bright


register(
    Exercise(
        id="51.1",
        title="how far a contrast differs between scanners",
        minutes=6,
        properties=(
            Property("it is the largest ratio minus the smallest", _largest_minus_smallest),
            Property("a scan in other units changes nothing", _gain_does_not_matter),
            Property("a scanner in between changes nothing", _one_between_changes_nothing),
            Property("the order of scanners does not count", _not_the_first_alone),
            Property("other tissue does not count", _outside_is_not_asked),
        ),
        hints=(
            "A mean intensity has the unit of its scan. A ratio of two means has none.",
            "For each scanner the mean in the dark mask over the mean in the bright one; then the range of the ratios.",
            "ratios = [float(i[dark].mean() / i[bright].mean()) for i in images.values()]; "
            "return max(ratios) - min(ratios).",
        ),
    )
)

# ------------------------------------------------------------------------------------- 51.4: RMSE of volumes


def _two_scanners() -> tuple[np.ndarray, np.ndarray]:
    """Volumes of 18 people on two scanners, ml: people differ by tens, the scanners by about 20."""
    chance = np.random.default_rng(513)
    person = 600 + 60 * chance.normal(size=18)
    return person + 8 * chance.normal(size=18), person + 20 + 8 * chance.normal(size=18)


def _rmse(answer, first: np.ndarray, second: np.ndarray) -> float:
    return float(answers.array_of_shape(answer(first.copy(), second.copy()), (), "one number in ml", float))


def _is_the_root_of_the_mean_square(answer) -> tuple[bool, str]:
    first, second = _two_scanners()
    found, wanted = _rmse(answer, first, second), math.sqrt(np.square(first - second).mean())
    return math.isclose(found, wanted, rel_tol=1e-6), f"found {found:.2f} ml, wanted {wanted:.2f} ml"


def _keeps_what_all_share(answer) -> tuple[bool, str]:
    first, _ = _two_scanners()
    found = _rmse(answer, first, first + 25)
    return math.isclose(found, 25, rel_tol=1e-6), f"a scanner that adds 25 ml to everybody gets {found:.2f} ml"


def _people_stay_paired(answer) -> tuple[bool, str]:
    first, second = _two_scanners()
    before, after = _rmse(answer, first, second), _rmse(answer, first, second[::-1])
    return after > 2 * before, f"with the wrong people held together {before:.1f} ml becomes {after:.1f} ml"


def _large_ones_weigh_more(answer) -> tuple[bool, str]:
    first = np.full(4, 500.0)
    found = [_rmse(answer, first, first + np.array(d)) for d in ([10.0] * 4, [0.0, 0.0, 0.0, 40.0])]
    return found[1] > 1.9 * found[0], f"ten ml each get {found[0]:.1f} ml, forty of one person {found[1]:.1f} ml"


def _either_scanner_first(answer) -> tuple[bool, str]:
    first, second = _two_scanners()
    found = _rmse(answer, first, second), _rmse(answer, second, first)
    return math.isclose(*found, rel_tol=1e-9), f"found {found[0]:.2f} and, the other way round, {found[1]:.2f} ml"


register(
    Exercise(
        id="51.4",
        title="the root mean square error of volumes",
        minutes=5,
        properties=(
            Property("it is the root of the mean squared difference", _is_the_root_of_the_mean_square),
            Property("what a scanner adds to everybody stays in it", _keeps_what_all_share),
            Property("each person is held against the same person", _people_stay_paired),
            Property("one large difference weighs more than many small ones", _large_ones_weigh_more),
            Property("either scanner may come first", _either_scanner_first),
        ),
        hints=(
            "Subtract for each person, before anything is averaged.",
            "A standard deviation takes the mean off first. Here the mean difference is a fault of the scanners too.",
            "return np.sqrt(np.mean((first - second) ** 2)).",
        ),
    )
)

# ------------------------------------------------------------------------------------- 51.3: a blur of equal SSIM

MOST, CALLS = 2.0, 30


class _Curve:
    """How alike images are after a blur of so many voxels; counts how often it is asked."""

    def __init__(self, start: float, end: float, bend: float) -> None:
        self.start, self.end, self.bend, self.calls = start, end, bend, 0

    def __call__(self, sigma: float) -> float:
        self.calls += 1
        if self.calls > 2000:
            raise ValueError("found more than 2000 calls, wanted a search that halves its interval")
        return self.start + (self.end - self.start) * (float(sigma) / MOST) ** self.bend


def _reaches(bend: float):
    def holds(answer) -> tuple[bool, str]:
        for wanted in (0.952, 0.97, 0.985):
            sigma = float(answer(_Curve(0.95, 0.99, bend), wanted, MOST))
            true = MOST * ((wanted - 0.95) / 0.04) ** (1 / bend)
            if not abs(sigma - true) < 2e-3:
                return False, f"for {wanted} it says {sigma:.4f} voxels, wanted {true:.4f}"
        return True, "all three are found"

    return holds


def _few_calls(answer) -> tuple[bool, str]:
    curve = _Curve(0.95, 0.99, 2.0)
    float(answer(curve, 0.97, MOST))  # what is no number does not count as a search
    return curve.calls <= CALLS, f"it asks {curve.calls} times, wanted at most {CALLS}; one call costs six SSIMs"


def _nothing_to_do(answer) -> tuple[bool, str]:
    sigma = float(answer(_Curve(0.95, 0.99, 2.0), 0.94, MOST))
    return abs(sigma) < 2e-3, f"images that are alike enough already get a blur of {sigma:.3f} voxels, wanted 0"


register(
    Exercise(
        id="51.3",
        title="the blur that buys a given SSIM",
        minutes=10,
        properties=(
            Property("it finds the blur on a straight curve", _reaches(1.0)),
            Property("it finds the blur on a bent curve", _reaches(2.5)),
            Property("it halves the interval instead of trying all", _few_calls),
            Property("where nothing is to be gained, no blur", _nothing_to_do),
        ),
        hints=(
            "More blur, more SSIM: so one question in the middle of an interval rules out half of it.",
            "Keep two ends, low and high. Where the middle reaches what is wanted, it becomes high, else low. "
            "Twenty halvings of two voxels leave two millionths.",
            "low, high = 0.0, most; twenty times: middle = (low + high) / 2; "
            "low, high = (low, middle) if similarity(middle) >= wanted else (middle, high); return high.",
        ),
    )
)

# ------------------------------------------------------------------------------------- 51.5: a t-test over people


def _in_slices(people: int = 10, slices: int = 15) -> tuple[np.ndarray, np.ndarray]:
    """A measure of two methods in every slice: (people, slices). People gain by chance, slices repeat it."""
    chance = np.random.default_rng(515)
    person, gain = 0.9 + 0.03 * chance.normal(size=(people, 1)), 0.004 + 0.008 * chance.normal(size=(people, 1))
    second = person + 0.002 * chance.normal(size=(people, slices))
    return second + gain + 0.002 * chance.normal(size=(people, slices)), second


def _t(answer, first: np.ndarray, second: np.ndarray) -> float:
    return float(answer(first.copy(), second.copy()))


def _is_students(answer) -> tuple[bool, str]:
    first, second = _in_slices()
    found, wanted = _t(answer, first, second), float(stats.ttest_rel(first.mean(1), second.mean(1)).statistic)
    return math.isclose(found, wanted, rel_tol=1e-6), f"found {found:.3f}, of the ten people it is {wanted:.3f}"


@answers.unchanged(_t, _in_slices, "with every slice four times", digits=2)
def _more_slices_no_more_people(first, second) -> tuple:
    return np.tile(first, 4), np.tile(second, 4)


@answers.unchanged(_t, _in_slices, "with people more different", digits=2)
def _what_a_person_brings_cancels(first, second) -> tuple:
    shift = np.linspace(-1, 1, len(first))[:, None]
    return first + shift, second + shift


@answers.unchanged(_t, _in_slices, "in per cent", digits=2)
def _other_units(first, second) -> tuple:
    return 100 * first, 100 * second


def _sign(answer) -> tuple[bool, str]:
    first, second = _in_slices()
    found = _t(answer, first, second), _t(answer, second, first)
    holds = found[0] > 0 and math.isclose(found[0], -found[1], rel_tol=1e-6)
    return holds, f"found {found[0]:.2f}, and with the rows exchanged {found[1]:.2f}"


register(
    Exercise(
        id="51.5",
        title="the paired t statistic, over people",
        minutes=8,
        properties=(
            Property("it is Student's, of one number per person", _is_students),
            Property("slices that repeat are no more people", _more_slices_no_more_people),
            Property("what both rows of a person share changes nothing", _what_a_person_brings_cancels),
            Property("other units change nothing", _other_units),
            Property("it is above zero where the first row is higher", _sign),
        ),
        hints=(
            "Slices of one brain are not independent. First one number per person, then anything else.",
            "t is the mean difference over its standard error; the deviation is the sample's (n - 1).",
            "d = first.mean(1) - second.mean(1); return d.mean() / (d.std(ddof=1) / np.sqrt(len(d))).",
        ),
    )
)
