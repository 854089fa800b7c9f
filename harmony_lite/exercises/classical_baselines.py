"""Exercises of notebook 03: the best straight line, quantiles, a swap of frequencies, shrinkage, a factor taken out."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.fft import dctn
from torch import Tensor

from harmony_lite.evaluate import metrics
from harmony_lite.exercises import Exercise, Property, answers, register

# ------------------------------------------------------------------------------------------ 03.1: a gain and an offset


def _scan() -> tuple[Tensor, Tensor]:
    """A patterned square in noisy surroundings, (1, 1, 24, 24), and its mask."""
    generator = torch.Generator().manual_seed(31)
    x = torch.linspace(-1, 1, 24)
    inside = (x[:, None].abs() < 0.7) & (x[None, :].abs() < 0.6)
    pattern = 3 + torch.sin(5 * x[:, None]) * torch.cos(4 * x[None, :])
    image = torch.where(inside, pattern, 8 * torch.rand(24, 24, generator=generator))
    return image[None, None].double(), inside[None, None]


def _noisy_target() -> tuple[Tensor, Tensor, Tensor]:
    """A source, a target that follows it with noise, and the mask."""
    source, mask = _scan()
    noise = torch.randn(source.shape, generator=torch.Generator().manual_seed(32)).double()
    return source, 2 * source + 1 + 2 * noise, mask


def _line(answer, *images) -> tuple[float, float]:
    found = answer(*(image.clone() for image in images))
    if not isinstance(found, tuple | list) or [torch.as_tensor(number).numel() for number in found] != [1, 1]:
        raise ValueError(f"found {type(found).__name__} of shape {np.shape(found)}, wanted two numbers: gain, offset")
    return float(found[0]), float(found[1])


def _error(gain: float, offset: float, source: Tensor, target: Tensor, mask: Tensor) -> float:
    return float((gain * source[mask] + offset - target[mask]).square().mean())


def _finds_an_exact_line(answer) -> tuple[bool, str]:
    source, mask = _scan()
    gain, offset = _line(answer, source, 2.5 * source - 4, mask)
    holds = math.isclose(gain, 2.5, abs_tol=1e-6) and math.isclose(offset, -4, abs_tol=1e-6)
    return holds, f"for target = 2.5 source - 4 it found gain {gain:.3f} and offset {offset:.3f}"


def _ignores_the_outside(answer) -> tuple[bool, str]:
    source, mask = _scan()
    target = torch.where(mask, 2.5 * source - 4, 100.0)
    gain, offset = _line(answer, source, target, mask)
    holds = math.isclose(gain, 2.5, abs_tol=1e-6) and math.isclose(offset, -4, abs_tol=1e-6)
    return holds, f"with another background it found gain {gain:.3f} and offset {offset:.3f}, not 2.5 and -4"


def _no_line_is_better(answer) -> tuple[bool, str]:
    source, target, mask = _noisy_target()
    gain, offset = _line(answer, source, target, mask)
    found = _error(gain, offset, source, target, mask)
    for other in ((gain + 0.02, offset), (gain - 0.02, offset), (gain, offset + 0.02), (gain, offset - 0.02)):
        better = _error(*other, source, target, mask)
        if better < found - 1e-9:
            line = f"gain {other[0]:.2f}, offset {other[1]:.2f}"
            return False, f"its mean squared error is {found:.4f}; {line}: {better:.4f}"
    return True, ""


def _gain_of_a_regression(answer) -> tuple[bool, str]:
    source, target, mask = _noisy_target()
    gain, _ = _line(answer, source, target, mask)
    wanted = float(metrics.ncc(source, target, mask) * target[mask].std() / source[mask].std())
    reason = f"its gain is {gain:.3f}, NCC times the deviations' ratio {wanted:.3f}"
    return math.isclose(gain, wanted, rel_tol=1e-4), reason


register(
    Exercise(
        id="03.1",
        title="the best straight line there is",
        minutes=8,
        properties=(
            Property("it finds an exact gain and offset", _finds_an_exact_line),
            Property("voxels outside the mask do not count", _ignores_the_outside),
            Property("no line near it has a smaller error", _no_line_is_better),
            Property("the gain is NCC times the ratio of the deviations", _gain_of_a_regression),
        ),
        hints=(
            "You have the person's own target: this is a regression of target voxels on source voxels.",
            "The gain is the covariance of the two over the source's variance, both inside the mask.",
            "x, y = source[mask], target[mask]; gain = ((x - x.mean()) * (y - y.mean())).mean() / x.var(correction=0); "
            "offset = y.mean() - gain * x.mean().",
        ),
    )
)

# ------------------------------------------------------------------------------------------ 03.2: quantiles


def _fit_values(answer, source, target) -> np.ndarray:
    found = answer(np.array(source, dtype=float), np.array(target, dtype=float))
    return answers.array_of_shape(found, np.shape(source), f"the source's {np.shape(source)}", float)


def _draws() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(33)
    return generator.gamma(3.0, 2.0, 400), 50 + 10 * generator.normal(size=400)


def _takes_the_targets_values(answer) -> tuple[bool, str]:
    source, target = _draws()
    found = _fit_values(answer, source, target)
    off = np.abs(np.sort(found) - np.sort(target)).max()
    reason = f"sorted, the result is up to {off:.3g} away from the target's values"
    return off < 1e-6, f"{reason}; its largest is {found.max():.1f}, the target's {target.max():.1f}"


def _keeps_the_order(answer) -> tuple[bool, str]:
    source, target = _draws()
    found = _fit_values(answer, source, target)
    steps = np.diff(found[np.argsort(source)])
    return bool((steps >= 0).all()), f"{int((steps < 0).sum())} pairs of neighbours changed their order"


def _equal_stays_equal(answer) -> tuple[bool, str]:
    source, target = np.array([1.0, 2, 2, 2, 3]), np.array([10.0, 20, 30, 40, 50])
    twos = _fit_values(answer, source, target)[source == 2]
    return float(np.ptp(twos)) < 1e-9, f"three equal intensities became {np.round(twos, 3).tolist()}"


def _another_number_of_voxels(answer) -> tuple[bool, str]:
    source, target = _draws()
    found = _fit_values(answer, source, np.repeat(target, 3)[:-1])
    off = np.abs(np.sort(found) - np.sort(target)).max()
    return off < 1.5, f"against a target three times as large, the result is up to {off:.3g} away"


def _blind_to_a_map(answer) -> tuple[bool, str]:
    source, target = _draws()
    off = np.abs(_fit_values(answer, np.exp(source / 5), target) - _fit_values(answer, source, target)).max()
    return off < 1e-6, f"an exponential of the source changed the result by up to {off:.3g}"


register(
    Exercise(
        id="03.2",
        title="match two samples by their quantiles",
        minutes=10,
        properties=(
            Property("the result has the target's values", _takes_the_targets_values),
            Property("the order of the intensities stays", _keeps_the_order),
            Property("equal intensities stay equal", _equal_stays_equal),
            Property("the target may have another number of voxels", _another_number_of_voxels),
            Property("a monotone map of the source changes nothing", _blind_to_a_map),
        ),
        hints=(
            "Which share of the source's voxels is as bright as this one or darker? Take the target's intensity there.",
            "np.unique(source, return_inverse=True, return_counts=True) treats equal intensities as one.",
            "shares = counts.cumsum() / len(source); levels = np.arange(1, len(target) + 1) / len(target); "
            "np.interp(shares, levels, np.sort(target))[inverse].",
        ),
    )
)

# ------------------------------------------------------------------------------------------ 03.3: frequencies


def _two_pictures() -> tuple[np.ndarray, np.ndarray]:
    """An image and an average, (24, 32), both with all frequencies."""
    generator = np.random.default_rng(34)
    x, y = np.meshgrid(np.linspace(0, 1, 24), np.linspace(0, 1, 32), indexing="ij")
    return 5 + 2 * x + generator.normal(size=x.shape), 9 + 3 * y**2 + generator.normal(size=x.shape)


def _spectra(answer, cutoff: float = 0.25) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cosine coefficients of the image, the average and the answer."""
    image, average = _two_pictures()
    found = answer(image.copy(), average.copy(), cutoff)
    found = answers.array_of_shape(found, image.shape, f"the image's {image.shape}")
    return tuple(dctn(picture, norm="ortho") for picture in (image, average, found))


def _keeps_the_mean(answer) -> tuple[bool, str]:
    before, _, after = (float(spectrum[0, 0]) / math.sqrt(24 * 32) for spectrum in _spectra(answer))
    return math.isclose(before, after, abs_tol=1e-6), f"the mean went from {before:.3f} to {after:.3f}"


def _low_from_the_average(answer) -> tuple[bool, str]:
    _, average, found = (spectrum[:6, :8].copy() for spectrum in _spectra(answer))
    average[0, 0] = found[0, 0] = 0
    off = int((np.abs(average - found) > 1e-6).sum())
    return off == 0, f"{off} of the 47 low coefficients are not the average's"


def _high_from_the_image(answer) -> tuple[bool, str]:
    image, _, found = (spectrum.copy() for spectrum in _spectra(answer))
    image[:6, :8] = found[:6, :8] = 0
    off = int((np.abs(image - found) > 1e-6).sum())
    return off == 0, f"{off} coefficients outside the corner of 6 x 8 are not the image's"


def _itself_unchanged(answer) -> tuple[bool, str]:
    image, _ = _two_pictures()
    off = float(np.abs(np.asarray(answer(image.copy(), image.copy(), 0.25)) - image).max())
    return off < 1e-6, f"swapped with itself the image changed by up to {off:.3g}"


register(
    Exercise(
        id="03.3",
        title="swap the shading, keep the brightness",
        minutes=10,
        properties=(
            Property("the image's mean stays", _keeps_the_mean),
            Property("the low frequencies are the average's", _low_from_the_average),
            Property("the high frequencies stay the image's", _high_from_the_image),
            Property("swapped with itself an image stays as it is", _itself_unchanged),
        ),
        hints=(
            "Transform both, copy a corner from one spectrum to the other, transform back. Where is the mean?",
            "The coefficient [0, 0] is the mean, up to a factor: put the image's own back after the copy.",
            "a, b = dctn(image, norm='ortho'), dctn(average, norm='ortho'); rows, columns = (math.ceil(cutoff * n) "
            "for n in image.shape); first = a[0, 0]; a[:rows, :columns] = b[:rows, :columns]; a[0, 0] = first; "
            "idctn(a, norm='ortho').",
        ),
    )
)

# ------------------------------------------------------------------------------------------ 03.4: shrinkage


def _weighs(people: int, within: float, width: float, wanted: float, where: str):
    def holds(answer) -> tuple[bool, str]:
        found = float(answer(people, within, width))
        return math.isclose(found, wanted, abs_tol=1e-9), f"{where} the weight is {found:.3f}"

    return holds


def _many(answer) -> tuple[bool, str]:
    found = float(answer(10**9, 1.5, 0.5))
    return math.isclose(found, 1, abs_tol=1e-6), f"with a thousand million people the weight is {found:.6f}"


def _is_combats(answer) -> tuple[bool, str]:
    own, centre = np.random.default_rng(35).normal(size=5), 0.4
    people, within, width = 7, 0.8, 0.3
    wanted = (people * width * own + within * centre) / (people * width + within)
    weight = float(answer(people, within, width))
    off = float(np.abs(weight * own + (1 - weight) * centre - wanted).max())
    return off < 1e-9, f"the posterior means it gives are up to {off:.3g} away from ComBat's"


register(
    Exercise(
        id="03.4",
        title="how much a voxel's own value counts",
        minutes=6,
        properties=(
            Property("without people only the prior counts", _weighs(0, 1.5, 0.5, 0, "with no people")),
            Property("with very many people only the own value counts", _many),
            Property(
                "with within / width people both count half",
                _weighs(3, 1.5, 0.5, 0.5, "3 people, variances 1.5 and 0.5:"),
            ),
            Property(
                "where the prior has no width only the prior counts",
                _weighs(5, 1.5, 0.0, 0, "where all voxels are moved alike"),
            ),
            Property("it gives ComBat's posterior means", _is_combats),
        ),
        hints=(
            "The posterior mean is a weighted mean of two values. What stands before the own value, and over what?",
            "Bring the equation of this section to the form w * own + (1 - w) * centre.",
            "w = people * width / (people * width + within).",
        ),
    )
)

# ------------------------------------------------------------------------------------------ 03.5: a factor


def _scans_with_a_factor() -> tuple[np.ndarray, np.ndarray]:
    """Scans x voxels, (20, 60), and a factor that neither has mean 0 nor unit length."""
    generator = np.random.default_rng(36)
    factor = 4 + 3 * generator.normal(size=20)
    return 10 + generator.normal(size=(20, 60)) + factor[:, None] * generator.normal(1.0, 0.5, 60), factor


def _clean(answer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    data, factor = _scans_with_a_factor()
    found = answer(data.copy(), factor.copy())
    return data, factor, answers.array_of_shape(found, data.shape, f"the data's {data.shape}")


def _uncorrelated(answer) -> tuple[bool, str]:
    _, factor, found = _clean(answer)
    f, voxels = factor - factor.mean(), found - found.mean(0)
    worst = float(np.abs(f @ voxels).max() / (np.linalg.norm(f) * max(np.linalg.norm(voxels, axis=0).max(), 1e-12)))
    return worst < 1e-6, f"one voxel still has a correlation of {worst:.3f} with the factor"


def _means_stay(answer) -> tuple[bool, str]:
    data, _, found = _clean(answer)
    off = float(np.abs(found.mean(0) - data.mean(0)).max())
    return off < 1e-6, f"a voxel's mean over the scans moved by up to {off:.3g}"


def _nothing_else(answer) -> tuple[bool, str]:
    data, factor, found = _clean(answer)
    design = np.column_stack([np.ones_like(factor), factor])
    rest = data - design @ np.linalg.lstsq(design, data, rcond=None)[0]
    off = float(np.abs((found - found.mean(0)) - rest).max())
    return off < 1e-6, f"what is left differs from the residuals of the regression by up to {off:.3g}"


def _scale_of_the_factor(answer) -> tuple[bool, str]:
    data, factor = _scans_with_a_factor()
    once, again = (np.asarray(answer(data.copy(), f)) for f in (factor.copy(), 100 - 7 * factor))
    off = float(np.abs(once - again).max())
    return off < 1e-6, f"the factor in other units changed the result by up to {off:.3g}"


register(
    Exercise(
        id="03.5",
        title="take a factor out of every voxel",
        minutes=8,
        properties=(
            Property("no voxel correlates with the factor any more", _uncorrelated),
            Property("the voxels' means stay", _means_stay),
            Property("nothing but the factor is taken out", _nothing_else),
            Property("the factor's unit and zero do not matter", _scale_of_the_factor),
        ),
        hints=(
            "Each voxel's slope on the factor, times the factor, is what has to go. The voxel's mean has to stay.",
            "Centre the factor first: then what you subtract has mean 0, and slope = f @ data / (f @ f).",
            "f = factor - factor.mean(); return data - np.outer(f, f @ data / (f @ f)).",
        ),
    )
)
