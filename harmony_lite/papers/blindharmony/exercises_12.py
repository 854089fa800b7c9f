"""Exercises of notebook 12: an interval over people, a verdict, an overlap, two scales of PSNR, a lesion's contrast."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.ndimage import binary_dilation
from torch import Tensor

from harmony_lite.evaluate import metrics
from harmony_lite.exercises import Exercise, Property, answers, register

# ------------------------------------------------------------------------------------- 12.1: a paired interval

PEOPLE = 16


def _two_rows() -> tuple[np.ndarray, np.ndarray]:
    """PSNR of two methods for the same people: people differ by decibels, the methods by half a decibel."""
    chance = np.random.default_rng(121)
    person = 22 + 3 * chance.normal(size=PEOPLE)
    return person + 0.5 + 0.4 * chance.normal(size=PEOPLE), person


def _three_numbers(answer, first, second) -> np.ndarray:
    found = answer(first.copy(), second.copy(), np.random.default_rng(122))
    return answers.array_of_shape(found, (3,), "three numbers: mean, low, high", float)


def _mean_of_differences(answer) -> tuple[bool, str]:
    first, second = _two_rows()
    mean, wanted = _three_numbers(answer, first, second)[0], (first - second).mean()
    return math.isclose(mean, wanted, abs_tol=1e-9), f"the mean is {mean:.3f}, that of first - second {wanted:.3f}"


def _mean_lies_inside(answer) -> tuple[bool, str]:
    mean, low, high = _three_numbers(answer, *_two_rows())
    return low < mean < high, f"found {low:.3f} to {high:.3f} around {mean:.3f}"


def _is_as_wide_as_a_mean(answer) -> tuple[bool, str]:
    """Without pairing it is five times as wide, of single people four times; at 90 % a sixth too narrow."""
    first, second = _two_rows()
    _, low, high = _three_numbers(answer, first, second)
    wanted = 2 * 1.96 * (first - second).std() / math.sqrt(PEOPLE)
    share = (high - low) / wanted
    return 0.92 < share < 1.08, f"its width is {high - low:.3f} dB, of the mean of {PEOPLE} differences {wanted:.3f}"


def _ignores_who_it_is(answer) -> tuple[bool, str]:
    first, second = _two_rows()
    harder = 10 * np.random.default_rng(123).normal(size=PEOPLE)
    before, after = (_three_numbers(answer, first + shift, second + shift) for shift in (0, harder))
    reason = f"with people ten times as different it goes from {before.round(2).tolist()} to {after.round(2).tolist()}"
    return bool(np.abs(before - after).max() < 0.05), reason


register(
    Exercise(
        id="12.1",
        title="a paired interval over people",
        minutes=8,
        properties=(
            Property("the mean is that of the differences", _mean_of_differences),
            Property("the mean lies between the ends", _mean_lies_inside),
            Property("it is the interval of a mean, at 95 %", _is_as_wide_as_a_mean),
            Property("what both rows of a person share changes nothing", _ignores_who_it_is),
        ),
        hints=(
            "Subtract first: one difference per person. From then on the two rows are not needed any more.",
            "Draw as many people as there are, with replacement, and take the mean of their differences; 10,000 times.",
            "d = first - second; means = d[chance.integers(len(d), size=(10_000, len(d)))].mean(1); "
            "then d.mean() and np.quantile(means, [0.025, 0.975]).",
        ),
    )
)

# ------------------------------------------------------------------------------------- 12.2: a verdict


def _by_normal(values, confidence) -> tuple[float, float]:
    """An interval of a mean by the normal curve."""
    values = np.asarray(values, float)
    half = np.sqrt(2) * torch.erfinv(torch.tensor(float(confidence), dtype=torch.float64)).item()
    half *= values.std() / math.sqrt(len(values))
    return values.mean() - half, values.mean() + half


def _gain(errors: float) -> np.ndarray:
    """Differences of 16 people whose mean is so many standard errors from zero."""
    values = np.random.default_rng(124).normal(size=PEOPLE)
    values = (values - values.mean()) / values.std()
    return values + errors / math.sqrt(PEOPLE)


def _verdict(answer, errors: list[float]) -> tuple[int, str]:
    found = answer([_gain(one) for one in errors], _by_normal)
    if not isinstance(found, tuple | list) or len(found) != 2 or not isinstance(found[1], str):
        raise ValueError(f"found {found!r}, wanted a pair: how many hold, and the verdict as text")
    return int(found[0]), found[1]


def _expects(errors: list[float], wanted: tuple[int, str]):
    def holds(answer) -> tuple[bool, str]:
        found = _verdict(answer, errors)
        return found == wanted, f"for means {errors} standard errors from zero it says {found}, wanted {wanted}"

    return holds


register(
    Exercise(
        id="12.2",
        title="the verdict on a claim of several comparisons",
        minutes=10,
        properties=(
            Property("it holds where every comparison does", _expects([4.0, 3.0, 2.2], (3, "holds here"))),
            Property("one that includes zero makes it undecided", _expects([4.0, 3.0, 0.5], (2, "undecided"))),
            Property("one that is clearly behind contradicts it", _expects([4.0, 3.0, -5.0], (2, "contradicted here"))),
            Property(
                "among many comparisons, one a little behind does not", _expects([4.0] * 9 + [-2.2], (9, "undecided"))
            ),
            Property("with one comparison it is the interval's sign", _expects([-2.2], (0, "contradicted here"))),
        ),
        hints=(
            "Holding is asked of every comparison at 95 %. Contradicting needs one only, so chance has many tries.",
            "With K comparisons, ask for an interval of confidence 1 - 0.05 / K before you call one contradicted.",
            "held = sum(interval(g, 0.95)[0] > 0 for g in gains); behind = any(interval(g, 1 - 0.05 / len(gains))[1] "
            "< 0 for g in gains); all held: holds here; behind: contradicted here; else undecided.",
        ),
    )
)

# ------------------------------------------------------------------------------------- 12.3: an overlap


def _squares(shift: int, size: int = 20) -> tuple[Tensor, Tensor]:
    """Two masks (size, size): squares of 8 x 8, one moved by `shift`."""
    masks = torch.zeros(2, size, size, dtype=torch.bool)
    masks[0, 4:12, 4:12] = True
    masks[1, 4:12, 4 + shift : 12 + shift] = True
    return masks[0], masks[1]


def _overlap(answer, found: Tensor, truth: Tensor) -> float:
    return float(answer(found.clone(), truth.clone()))


def _of_moved_squares(answer) -> tuple[bool, str]:
    values = [_overlap(answer, *_squares(shift)) for shift in (0, 4, 8)]
    reason = f"for equal, half moved and disjoint squares it says {values}"
    return np.allclose(values, [1.0, 32 / 96, 0.0], atol=1e-6), reason


def _follows_dice(answer) -> tuple[bool, str]:
    found, truth = _squares(3)
    value = _overlap(answer, found, truth)
    dice = float(metrics.dice(*(m[None, None].to(torch.uint8) for m in (found, truth)), labels=[1]))
    return math.isclose(value, dice / (2 - dice), abs_tol=1e-6), f"it says {value:.3f}; Dice is {dice:.3f}"


def _ignores_air(answer) -> tuple[bool, str]:
    small, large = (_overlap(answer, *_squares(4, size)) for size in (20, 60))
    return math.isclose(small, large, abs_tol=1e-6), f"with more air around it goes from {small:.3f} to {large:.3f}"


def _sees_too_much(answer) -> tuple[bool, str]:
    _, truth = _squares(0)
    value = _overlap(answer, torch.ones_like(truth), truth)
    return math.isclose(value, 64 / 400, abs_tol=1e-6), f"a mask of everything gets {value:.3f}, wanted {64 / 400:.3f}"


def _empty_is_unknown(answer) -> tuple[bool, str]:
    value = _overlap(answer, *torch.zeros(2, 20, 20, dtype=torch.bool))
    return math.isnan(value), f"for two empty masks it says {value}, wanted NaN: there was nothing to find"


register(
    Exercise(
        id="12.3",
        title="intersection over union",
        minutes=5,
        properties=(
            Property("squares overlap by as much as they do", _of_moved_squares),
            Property("it is Dice / (2 - Dice)", _follows_dice),
            Property("more air around changes nothing", _ignores_air),
            Property("finding everything is no success", _sees_too_much),
            Property("two empty masks have no overlap to speak of", _empty_is_unknown),
        ),
        hints=(
            "Count the voxels that both masks hold, and those that at least one of them holds.",
            "The union may be empty. A slice without white matter says nothing about the method, good or bad.",
            "both, either = (found & truth).sum().item(), (found | truth).sum().item(); both / either if either else "
            "math.nan.",
        ),
    )
)

# ------------------------------------------------------------------------------------- 12.4: two scales


def _slice_pair() -> tuple[Tensor, Tensor, Tensor]:
    """An image near its target, bright surroundings, and the brain: (24, 24), in scanner units."""
    generator = torch.Generator().manual_seed(125)
    x, y = torch.linspace(-1, 1, 24)[:, None], torch.linspace(-1, 1, 24)[None, :]
    inside = x.square() + y.square() < 0.7
    target = 600 + 300 * torch.sin(4 * x) * torch.cos(3 * y)
    image = target + 100 * torch.randn(24, 24, generator=generator)
    around = 3000 * torch.rand(24, 24, generator=generator)
    return tuple(torch.where(inside, v, around * f).double() for v, f in ((image, 1), (target, 2))) + (inside,)


def _two_scores(answer, *images: Tensor) -> tuple[float, float]:
    copies = (image.clone() for image in images)
    return answers.two_numbers(answer(*copies), "PSNR on own maxima, and on the target's")


def _psnr(image: Tensor, target: Tensor) -> float:
    return float(-10 * torch.log10((image - target).square().mean()))


def _both_scores_are_right(answer) -> tuple[bool, str]:
    image, target, inside = _slice_pair()
    x, y = image[inside], target[inside]
    wanted = _psnr(x / x.max(), y / y.max()), _psnr(x / y.max(), y / y.max())
    found = _two_scores(answer, image, target, inside)
    return np.allclose(found, wanted, atol=1e-3), f"found {np.round(found, 2)}, wanted {np.round(wanted, 2)}"


def _a_gain(answer) -> tuple[bool, str]:
    image, target, inside = _slice_pair()
    before, after = (_two_scores(answer, factor * image, target, inside) for factor in (1, 0.5))
    holds = math.isclose(before[0], after[0], abs_tol=1e-3) and after[1] < before[1] - 5
    return holds, f"at half the gain the scores go from {np.round(before, 2)} to {np.round(after, 2)}"


def _a_bright_pixel(answer) -> tuple[bool, str]:
    image, target, inside = _slice_pair()
    before = _two_scores(answer, image, target, inside)
    image[12, 12] = 2 * float(target[inside].max())
    after = _two_scores(answer, image, target, inside)
    lost = before[0] - after[0], before[1] - after[1]
    return lost[0] > 5 > lost[1] + 2, f"one pixel of twice the brightness costs {lost[0]:.1f} dB and {lost[1]:.1f} dB"


def _ignores_the_outside(answer) -> tuple[bool, str]:
    image, target, inside = _slice_pair()
    before = _two_scores(answer, image, target, inside)
    after = _two_scores(answer, *(torch.where(inside, v, 0.0) for v in (image, target)), inside)
    reason = f"without the surroundings {np.round(before, 2)} is {np.round(after, 2)}"
    return np.allclose(before, after, atol=1e-3), reason


register(
    Exercise(
        id="12.4",
        title="PSNR on two scales",
        minutes=8,
        properties=(
            Property("both scores are right", _both_scores_are_right),
            Property("a gain changes the second score only", _a_gain),
            Property("one bright pixel ruins the first score", _a_bright_pixel),
            Property("pixels outside the brain do not count", _ignores_the_outside),
        ),
        hints=(
            "Take the brain's pixels first; the largest value outside must not become the scale.",
            "On a scale where 1 is the range, PSNR is -10 log10 of the mean squared difference.",
            "x, y = image[inside], target[inside]; score = lambda a, b: -10 * torch.log10((a - b).square().mean()); "
            "return score(x / x.max(), y / y.max()), score(x / y.max(), y / y.max()).",
        ),
    )
)

# ------------------------------------------------------------------------------------- 12.5: a lesion's contrast

REACH = 3


def _lesioned() -> tuple[Tensor, Tensor, Tensor]:
    """An image (40, 40) with a lesion in white matter, grey matter close to it, and both masks."""
    generator = torch.Generator().manual_seed(126)
    white = torch.zeros(40, 40, dtype=torch.bool)
    white[5:35, 5:24] = True
    lesion = torch.zeros_like(white)
    lesion[16:22, 17:23] = True
    image = torch.where(white, 1.0, 0.5) + 0.05 * torch.randn(40, 40, generator=generator)
    return torch.where(lesion, image - 0.2, image).double(), lesion, white


def _contrast(answer, image: Tensor, lesion: Tensor, white: Tensor) -> float:
    return float(answer(image.clone(), lesion.clone(), white.clone()))


def _definition(answer) -> tuple[bool, str]:
    image, lesion, white = _lesioned()
    near = torch.from_numpy(binary_dilation(lesion.numpy(), iterations=REACH))
    around = image[near & white & ~lesion]
    wanted = float((image[lesion].mean() - around.mean()) / around.std(correction=0))
    found = _contrast(answer, image, lesion, white)
    return math.isclose(found, wanted, rel_tol=0.03), f"found {found:.3f}, wanted {wanted:.3f}"


@answers.unchanged(_contrast, _lesioned, "in other units")
def _gain_and_offset(image: Tensor, lesion: Tensor, white: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return 700 * image + 50, lesion, white


@answers.unchanged(_contrast, _lesioned, "")
def _far_away_brighter(image: Tensor, lesion: Tensor, white: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    far = white & ~torch.from_numpy(binary_dilation(lesion.numpy(), structure=np.ones((3, 3)), iterations=REACH))
    return torch.where(far, image + 0.3, image), lesion, white


@answers.unchanged(_contrast, _lesioned, "")
def _grey_darker(image: Tensor, lesion: Tensor, white: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.where(white, image, image - 0.4), lesion, white


@answers.unchanged(_contrast, _lesioned, "")
def _lesion_not_white(image: Tensor, lesion: Tensor, white: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return image, lesion, white & ~lesion


register(
    Exercise(
        id="12.5",
        title="a lesion's contrast",
        minutes=8,
        properties=(
            Property("it is the difference in deviations of the white matter around", _definition),
            Property("gain and offset change nothing", _gain_and_offset),
            Property("white matter far away does not count", _far_away_brighter),
            Property("grey matter close by does not count", _grey_darker),
            Property("the lesion is not part of its surroundings", _lesion_not_white),
        ),
        hints=(
            "Three sets of voxels: the lesion, what lies within three voxels of it, and the white matter among these.",
            "scipy.ndimage.binary_dilation(lesion, iterations=3) grows the lesion; take the lesion itself away again.",
            "near = torch.from_numpy(binary_dilation(lesion.numpy(), iterations=3)); around = image[near & white & "
            "~lesion]; return (image[lesion].mean() - around.mean()) / around.std().",
        ),
    )
)
