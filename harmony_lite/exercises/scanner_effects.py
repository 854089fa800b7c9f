"""Exercises of notebook 01: the Ernst angle, shading, and the contrast of a lesion."""

from __future__ import annotations

import math

import numpy as np

from harmony_lite.exercises import Exercise, Property, register

_CASES = ((0.00823, 1.4), (0.00823, 0.84), (0.02, 0.3), (1.0, 0.5))


def _ernst(tr: float, t1: float) -> float:
    return math.degrees(math.acos(math.exp(-tr / t1)))


def _largest_signal(answer) -> tuple[bool, str]:
    for tr, t1 in _CASES:
        found, decay = float(answer(tr, t1)), math.exp(-tr / t1)
        angles = np.radians([found - 0.2, found, found + 0.2])
        signal = np.sin(angles) / (1 - decay * np.cos(angles))
        if not (signal[1] >= signal[0] and signal[1] >= signal[2]) or not 0 < found < 180:
            return False, f"at TR {tr:g} s and T1 {t1:g} s, {found:.2f} gives less signal than its neighbours"
    return True, ""


def _degrees(answer) -> tuple[bool, str]:
    found, wanted = float(answer(1.0, 0.5)), _ernst(1.0, 0.5)
    return abs(found - math.radians(wanted)) > 0.05, f"{found:.2f} looks like radians"


def _grows_with_tr(answer) -> tuple[bool, str]:
    short, long = float(answer(0.005, 1.0)), float(answer(0.05, 1.0))
    return long > short, f"{short:.1f} degrees at TR 5 ms, {long:.1f} at 50 ms"


register(
    Exercise(
        id="01.1",
        title="the flip angle with the most signal",
        minutes=8,
        properties=(
            Property("the angle is in degrees", _degrees),
            Property("a longer TR wants a larger angle", _grows_with_tr),
            Property("no neighbouring angle gives more signal", _largest_signal),
        ),
        hints=(
            "Where is the derivative of sin(a) / (1 - E cos(a)) with respect to a zero?",
            "The derivative's numerator is cos(a) (1 - E cos(a)) - E sin(a)^2 = cos(a) - E.",
            "So cos(a) = E = exp(-tr / t1): math.acos gives radians, math.degrees the answer.",
        ),
    )
)


def _shaded_scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A patterned ball, the same under a smooth field, and its mask; positive inside, zero outside."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 40)] * 3, indexing="ij"))
    inside = (grid**2).sum(0) < 0.8
    pattern = 1.0 + 0.3 * np.sign(np.sin(9 * grid[0]) * np.sin(9 * grid[1]) * np.sin(9 * grid[2]))
    field = np.exp(0.35 * grid[0] - 0.25 * grid[1] * grid[2])
    return np.where(inside, pattern * field, 0.0), np.where(inside, pattern, 0.0), inside


def _closer(answer) -> tuple[bool, str]:
    shaded, plain, inside = _shaded_scene()
    result = np.asarray(answer(shaded.copy(), plain.copy(), inside))

    def distance(image: np.ndarray) -> float:
        gain = image[inside].mean() / plain[inside].mean()
        return float(np.sqrt(np.mean((image[inside] / gain - plain[inside]) ** 2)))

    before, after = distance(shaded), distance(result)
    return after < 0.45 * before, f"root mean square distance {before:.3f} before, {after:.3f} after"


def _keeps_contrast(answer) -> tuple[bool, str]:
    """A reference of another contrast must lend its shading only."""
    shaded, plain, inside = _shaded_scene()
    other = np.where(inside, plain**0.3, 0.0)
    result = np.asarray(answer(shaded.copy(), other, inside))
    high, low = plain > 1.1, (plain > 0) & (plain < 0.9)
    found, wanted = result[high].mean() / result[low].mean(), plain[high].mean() / plain[low].mean()
    return abs(found / wanted - 1) < 0.12, f"bright over dark is {found:.2f}, the image's own is {wanted:.2f}"


def _background_zero(answer) -> tuple[bool, str]:
    shaded, plain, inside = _shaded_scene()
    result = np.asarray(answer(shaded.copy(), plain.copy(), inside))
    bad = int((~np.isfinite(result)).sum() + (result[~inside] != 0).sum())
    return bad == 0, f"{bad} voxels outside the mask are not 0, or are not finite"


register(
    Exercise(
        id="01.2",
        title="take the shading away",
        minutes=10,
        properties=(
            Property("the background stays 0 and every value is finite", _background_zero),
            Property("the result is much closer to the unshaded image", _closer),
            Property("the image keeps its own contrast", _keeps_contrast),
        ),
        hints=(
            "Shading multiplies; in the logarithm it is added. What is log(image) - log(reference)?",
            "That difference holds fine detail too; only its smooth part is shading: blur(difference, inside).",
            "Divide the image by exp(blurred difference) inside the mask; np.maximum(image, 1e-3) avoids log(0).",
        ),
    )
)


def _lesion_scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    image = np.full((10, 10, 10), 100.0)
    white = np.zeros_like(image)
    white[2:8] = 1.0
    white[1] = 0.6  # half grey: not white matter
    image[1], image[0] = 60.0, 10.0
    lesions = np.zeros(image.shape, dtype=bool)
    lesions[4:6, 2:7, 2:7] = True
    image[lesions] = 70.0
    return image, white, lesions


def _contrast_value(answer) -> tuple[bool, str]:
    found = float(answer(*_lesion_scene()))
    return abs(found - 0.3) < 1e-6, f"{found:.4f} where 0.3000 is right"


def _gain_free(answer) -> tuple[bool, str]:
    image, white, lesions = _lesion_scene()
    one, two = float(answer(image, white, lesions)), float(answer(7.5 * image, white, lesions))
    return abs(one - two) < 1e-9, f"{one:.3f} at gain 1, {two:.3f} at gain 7.5"


def _no_lesion_no_contrast(answer) -> tuple[bool, str]:
    image, white, lesions = _lesion_scene()
    image[lesions] = 100.0
    found = float(answer(image, white, lesions))
    return abs(found) < 1e-9, f"{found:.3f} for lesions as bright as white matter"


register(
    Exercise(
        id="01.3",
        title="how dark is a lesion?",
        minutes=6,
        properties=(
            Property("another gain of the scanner changes nothing", _gain_free),
            Property("a lesion as bright as white matter has contrast 0", _no_lesion_no_contrast),
            Property("lesions of 70 in white matter of 100 have contrast 0.3", _contrast_value),
        ),
        hints=(
            "Two means are needed: image[lesions].mean() is one of them.",
            "Lesions lie inside the white-matter fraction: white = (white_fraction > 0.9) without the lesions.",
            "1 - image[lesions].mean() / image[(white_fraction > 0.9) & ~lesions].mean()",
        ),
    )
)
