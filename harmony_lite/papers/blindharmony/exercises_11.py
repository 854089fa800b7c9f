"""Exercises of notebook 11: a gradient, one iteration, a step for any size, a mask of flat pixels, the ascent's end.

`ANSWERS` holds one right answer each: the notebook uses it until the learner's own function has passed its check.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harmony_lite.exercises import Exercise, Property, register
from harmony_lite.papers.blindharmony.optimization import ncc_and_gradient

__all__ = ["ANSWERS"]


def _slices(contrast: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """An image, a source that partly follows it, and a mask with something else around it: (1, 1, 18, 22), float64.

    The source's contrast inside the mask, about that of the image, is multiplied by `contrast`.
    """
    generator = torch.Generator().manual_seed(111)
    x, y = torch.linspace(-1, 1, 18)[:, None], torch.linspace(-1, 1, 22)[None, :]
    inside = x.square() + y.square() < 0.8
    pattern = 0.6 + 0.2 * torch.sin(4 * x) * torch.cos(5 * y)
    image, source = (pattern + 0.1 * torch.rand(18, 22, generator=generator) for _ in range(2))
    source = source[inside].mean() + contrast * (source - source[inside].mean())
    around = torch.rand(18, 22, generator=generator)
    image, source = (torch.where(inside, values, around * factor) for values, factor in ((image, 1), (source, 3)))
    return image[None, None].double(), source[None, None].double(), inside[None, None]


def _centred(image: Tensor, inside: Tensor) -> Tensor:
    return image[inside] - image[inside].mean()


def _ncc(image: Tensor, source: Tensor, inside: Tensor) -> float:
    x, s = _centred(image, inside), _centred(source, inside)
    return float(x @ s / (x.norm() * s.norm()))


def _same_shape(found: object, wanted: Tensor, what: str) -> Tensor:
    found = torch.as_tensor(found)
    if found.shape != wanted.shape:
        raise ValueError(f"found {what} of shape {tuple(found.shape)}, wanted {tuple(wanted.shape)}")
    return found.detach()


def _largest(first: Tensor, second: Tensor | float = 0.0) -> float:
    return float((first - second).abs().max())


def _tiny(off: float, reason: str) -> tuple[bool, str]:
    """Whether something is as good as 0, and how large it is, put into the reason."""
    return off < 1e-9, reason.format(f"{off:.3g}")


# ------------------------------------------------------------------------------------------- 11.1: gradient of NCC


def _right_gradient(image: Tensor, source: Tensor, inside: Tensor) -> Tensor:
    return ncc_and_gradient(image, source, inside)[1]


def _gradient(answer, image: Tensor, source: Tensor, inside: Tensor) -> Tensor:
    return _same_shape(answer(image.clone(), source.clone(), inside.clone()), image, "a gradient")


def _agrees_with_differences(answer) -> tuple[bool, str]:
    image, source, inside = _slices()
    found = _gradient(answer, image, source, inside)
    for place in inside.nonzero()[::37]:
        place = tuple(place.tolist())
        up, down = image.clone(), image.clone()
        up[place] += 1e-5
        down[place] -= 1e-5
        wanted = (_ncc(up, source, inside) - _ncc(down, source, inside)) / 2e-5
        if not math.isclose(float(found[place]), wanted, rel_tol=1e-4, abs_tol=1e-7):
            return False, f"at {place[2:]} it is {float(found[place]):.5f}, by finite differences {wanted:.5f}"
    return True, ""


def _nothing_outside(answer) -> tuple[bool, str]:
    image, source, inside = _slices()
    found = _gradient(answer, image, source, inside)
    changed = torch.where(inside, source, source + 5)
    outside, moved = (
        _largest(found[~inside]),
        _largest(_gradient(answer, image, changed, inside)[inside], found[inside]),
    )
    holds = outside == 0 and moved < 1e-9
    return holds, f"outside it is up to {outside:.3g}; another background moves it by {moved:.1g}"


def _changes_the_direction_only(answer) -> tuple[bool, str]:
    image, source, inside = _slices()
    found = _gradient(answer, image, source, inside)[inside]
    mean, along = float(found.mean()), float(found @ _centred(image, inside))
    holds = abs(mean) < 1e-9 and abs(along) < 1e-9 and float(found.abs().max()) > 0
    reason = f"its mean is {mean:.3g}, its product with the centred image {along:.3g}"
    return holds, reason + ("; is the part with -NCC missing?" if abs(mean) < 1e-9 else "")


def _blind_to_the_sources_units(answer) -> tuple[bool, str]:
    image, source, inside = _slices()
    off = _largest(_gradient(answer, image, 3 * source + 7, inside), _gradient(answer, image, source, inside))
    return _tiny(off, "with 3 source + 7 it is up to {} away; are both images centred inside the brain?")


def _halves_with_twice_the_image(answer) -> tuple[bool, str]:
    image, source, inside = _slices()
    once, twice = _gradient(answer, image, source, inside), _gradient(answer, 2 * image, source, inside)
    ratio = float(twice[inside].norm() / once[inside].norm())
    return math.isclose(ratio, 0.5, rel_tol=1e-6), f"with twice the image it is {ratio:.3g} times as large"


register(
    Exercise(
        id="11.1",
        title="the gradient of NCC",
        minutes=10,
        properties=(
            Property("it agrees with finite differences", _agrees_with_differences),
            Property("pixels outside the brain neither count nor move", _nothing_outside),
            Property("it changes neither the mean nor the norm", _changes_the_direction_only),
            Property("gain and offset of the source do not matter", _blind_to_the_sources_units),
            Property("twice the image has half the gradient", _halves_with_twice_the_image),
        ),
        hints=(
            "Centre both images over the brain, set everything else to 0, and divide each by its norm.",
            "The source's direction minus NCC times the image's own direction; then one more division.",
            "x = (image - image[inside].mean()) * inside, the same for s; x_hat = x / x.norm(), s_hat = s / s.norm(); "
            "(s_hat - (x_hat * s_hat).sum() * x_hat) / x.norm().",
        ),
    )
)

# ------------------------------------------------------------------------------------------- 11.2: one iteration


def _right_iteration(z, f, f_inverse, ascent, alpha):
    x = f_inverse(z)
    x = x + ascent(x)
    return x, (1 - alpha) * f(x)


def _toy(x: Tensor) -> Tensor:
    """An invertible map that bends: not a straight line, so that a shrunk latent is not a shrunk image."""
    return torch.sinh(2 * x) + 0.5


def _toy_inverse(z: Tensor) -> Tensor:
    return torch.asinh(z - 0.5) / 2


def _pull(x: Tensor) -> Tensor:
    """What stands in for the gradient: towards 1, more so from farther away."""
    return 0.3 * (1 - x)


_LATENT = torch.linspace(-1.5, 2.5, 9, dtype=torch.float64)
_CLIMBED = _toy_inverse(_LATENT) + _pull(_toy_inverse(_LATENT))


def _iteration(answer, alpha: float, ascent=_pull) -> tuple[Tensor, Tensor]:
    found = answer(_LATENT.clone(), _toy, _toy_inverse, ascent, alpha)
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise ValueError(f"found {type(found).__name__}, wanted two things: the image and the next latent vector")
    return _same_shape(found[0], _LATENT, "an image"), _same_shape(found[1], _LATENT, "a latent vector")


def _climbs_in_the_image(answer) -> tuple[bool, str]:
    off = _largest(_iteration(answer, 0.0)[0], _CLIMBED)
    return _tiny(off, "the image is {} away from x + ascent(x), with x decoded from z")


def _shrinks_the_latent(answer) -> tuple[bool, str]:
    off = _largest(_iteration(answer, 0.25, torch.zeros_like)[1], 0.75 * _LATENT)
    return _tiny(off, "with alpha = 0.25 and no ascent it is {} away from 0.75 z")


def _image_before_the_shrink(answer) -> tuple[bool, str]:
    off = _largest(_iteration(answer, 0.0)[0], _iteration(answer, 0.5)[0])
    return _tiny(off, "alpha changes the image of the same iteration by {}; line 3 comes after line 2")


def _latent_of_the_new_image(answer) -> tuple[bool, str]:
    off = _largest(_iteration(answer, 0.1)[1], 0.9 * _toy(_CLIMBED))
    return _tiny(off, "it is {} away from (1 - alpha) f of the climbed image")


register(
    Exercise(
        id="11.2",
        title="one iteration of Algorithm 1",
        minutes=8,
        properties=(
            Property("the ascent happens in the image", _climbs_in_the_image),
            Property("the shrink happens in the latent vector", _shrinks_the_latent),
            Property("the image is the one before the shrink", _image_before_the_shrink),
            Property("the next latent vector comes from the climbed image", _latent_of_the_new_image),
        ),
        hints=(
            "Lines 2 and 3 of the algorithm, one line of code each, and one to decode.",
            "ascent takes an image: decode z first.",
            "x = f_inverse(z); x = x + ascent(x); return x, (1 - alpha) * f(x).",
        ),
    )
)

# ------------------------------------------------------------------------------------------- 11.3: a step for any size


def _right_weight(image, source, inside, share):
    x = _centred(image, inside)
    return float((1 - share) * x @ x) / _ncc(image, source, inside)


def _weight(answer, image: Tensor, source: Tensor, inside: Tensor, share: float = 0.7) -> float:
    found = torch.as_tensor(answer(image.clone(), source.clone(), inside.clone(), share))
    if found.numel() != 1:
        raise ValueError(f"found a beta1 of shape {tuple(found.shape)}, wanted one number")
    return float(found)


def _leaves_the_share(answer) -> tuple[bool, str]:
    image, source, inside = _slices()
    s = _centred(source, inside)
    for share in (0.7, 0.2, 0.0, -0.5):
        beta1 = _weight(answer, image, source, inside, share)
        stepped = image + beta1 * _right_gradient(image, source, inside)
        before, after = (x - (x @ s) / (s @ s) * s for x in (_centred(v, inside) for v in (image, stepped)))
        left = float(after @ before / (before @ before))
        if not math.isclose(left, share, abs_tol=1e-6):
            return False, f"asked to leave {share:g}, beta1 = {beta1:.4g} leaves {left:.3f}"
    return True, ""


def _scales(change, factor: float, said: str):
    """That a change of the three images multiplies beta1 by a factor."""

    def holds(answer) -> tuple[bool, str]:
        plain, changed = _weight(answer, *_slices()), _weight(answer, *change(*_slices()))
        return math.isclose(
            changed, factor * plain, rel_tol=1e-6
        ), f"{said} takes beta1 from {plain:.4g} to {changed:.4g}"

    return holds


_offsets_do_not_matter = _scales(lambda x, s, m: (x + 5, s + 5, m), 1, "centre both inside the brain: 5 more in both")
_grows_with_the_pixels = _scales(lambda *v: [part.repeat(1, 1, 2, 2) for part in v], 4, "tiling the slices 2 x 2")
_grows_with_the_range = _scales(lambda x, s, m: (10 * x, 10 * s, m), 100, "ten times the range")


def _no_step_no_weight(answer) -> tuple[bool, str]:
    return _tiny(abs(_weight(answer, *_slices(), 1.0)), "to leave everything it takes beta1 = {}")


register(
    Exercise(
        id="11.3",
        title="a beta1 for any image",
        minutes=8,
        properties=(
            Property("one step leaves the share that was asked for", _leaves_the_share),
            Property("an offset of the images does not matter", _offsets_do_not_matter),
            Property("four times the pixels need four times the weight", _grows_with_the_pixels),
            Property("ten times the range needs a hundred times the weight", _grows_with_the_range),
            Property("no step needs no weight", _no_step_no_weight),
        ),
        hints=(
            "The law of this section, solved for beta1.",
            "share = 1 - beta1 NCC / |x|^2, where x is centred over the brain.",
            "x = image[inside] - image[inside].mean(), s likewise; ncc = x @ s / (x.norm() * s.norm()); "
            "(1 - share) * x @ x / ncc.",
        ),
    )
)

# ------------------------------------------------------------------------------------------- 11.4: where it is flat


def _right_mask(size, inside, quantile):
    return (size < torch.quantile(size[inside], quantile)) & inside


def _gradients() -> tuple[Tensor, Tensor]:
    """Sizes of gradients (30, 40), 0 on a background of more than half, and the brain."""
    generator = torch.Generator().manual_seed(112)
    inside = torch.zeros(30, 40, dtype=torch.bool)
    inside[6:24, 8:32] = True
    return torch.where(inside, 0.05 + torch.rand(30, 40, generator=generator), 0.0).double(), inside


def _mask(answer, size: Tensor, inside: Tensor, quantile: float = 0.3) -> Tensor:
    return _same_shape(answer(size.clone(), inside.clone(), quantile), size, "a mask").bool()


def _the_share_it_should(answer) -> tuple[bool, str]:
    size, inside = _gradients()
    shares = {q: float(_mask(answer, size, inside, q)[inside].double().mean()) for q in (0.1, 0.3, 0.6)}
    said = ", ".join(f"{share:.2f} at the quantile {q}" for q, share in shares.items())
    return all(abs(share - q) < 0.01 for q, share in shares.items()), f"of the brain it marks {said}"


def _marks_the_smallest(answer) -> tuple[bool, str]:
    size, inside = _gradients()
    marked = _mask(answer, size, inside) & inside
    if not bool(marked.any()) or bool(marked[inside].all()):
        return False, f"it marks {int(marked.sum())} of {int(inside.sum())} pixels"
    largest, smallest = float(size[marked].max()), float(size[inside & ~marked].min())
    return largest < smallest, f"it marks a gradient of {largest:.3f} and leaves out one of {smallest:.3f}"


def _nothing_marked_outside(answer) -> tuple[bool, str]:
    size, inside = _gradients()
    return _tiny(int((_mask(answer, size, inside) & ~inside).sum()), "it marks {} pixels outside the brain")


def _background_does_not_count(answer) -> tuple[bool, str]:
    size, inside = _gradients()
    noisy = torch.where(inside, size, torch.full_like(size, 9.0))
    differ = int((_mask(answer, size, inside) ^ _mask(answer, noisy, inside)).sum())
    return _tiny(differ, "another background changes {} pixels of the mask")


def _ties_are_not_below(answer) -> tuple[bool, str]:
    size, inside = _gradients()
    tied = torch.where(inside & (size < 0.8), 0.5, size)  # most of the brain has one and the same gradient
    return _tiny(
        int(_mask(answer, tied, inside).sum()), "nothing lies strictly below the quantile, and it marks {} pixels"
    )


register(
    Exercise(
        id="11.4",
        title="flat, inside the brain",
        minutes=6,
        properties=(
            Property("it marks the share that the quantile says", _the_share_it_should),
            Property("it marks the smallest gradients", _marks_the_smallest),
            Property("nothing outside the brain is marked", _nothing_marked_outside),
            Property("the background does not move the threshold", _background_does_not_count),
            Property("a gradient at the quantile is not below it", _ties_are_not_below),
        ),
        hints=(
            "Which pixels does the quantile have to be taken over?",
            "torch.quantile of size[inside], then a strict comparison.",
            "(size < torch.quantile(size[inside], quantile)) & inside.",
        ),
    )
)

# ------------------------------------------------------------------------------------- 11.5: where the ascent ends


def _right_end(start, source, inside):
    x, s = start[inside], source[inside]
    return (x.mean() + x.std() * (source - s.mean()) / s.std()) * inside


def _end(answer) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the answer gives for a source with twice the contrast of the image; and the three that it was given."""
    image, source, inside = _slices(contrast=2.0)
    given = image.clone(), source.clone(), inside.clone()
    return _same_shape(answer(*given), image, "an image").double(), image, source, inside


def _follows_the_source(answer) -> tuple[bool, str]:
    found, _, source, inside = _end(answer)
    ncc = _ncc(found, source, inside)
    return ncc > 1 - 1e-9, f"its NCC with the source is {ncc:.4f}"


def _keeps(measure, what: str):
    """That a measure of the answer inside the brain is that of x0."""

    def holds(answer) -> tuple[bool, str]:
        found, image, source, inside = _end(answer)
        value, wanted, other = (float(measure(v[inside])) for v in (found, image, source))
        reason = f"its {what} is {value:.4f}; x0 has {wanted:.4f}, the source {other:.4f}"
        return math.isclose(value, wanted, rel_tol=1e-9), reason

    return holds


def _the_ascent_gets_there(answer) -> tuple[bool, str]:
    found, walked, source, inside = _end(answer)
    for _ in range(600):
        x = _centred(walked, inside)
        walked = walked + 0.02 * float(x @ x) * _right_gradient(walked, source, inside)
    off = _largest(walked[inside], found[inside])
    return off < 0.01, f"600 small steps end up to {off:.3f} away"


def _zero_around(answer) -> tuple[bool, str]:
    found, _, _, inside = _end(answer)
    return _largest(found[~inside]) == 0, f"outside the brain it is up to {_largest(found[~inside]):.3g}"


register(
    Exercise(
        id="11.5",
        title="where the ascent ends",
        minutes=6,
        properties=(
            Property("it follows the source", _follows_the_source),
            Property("its mean is that of x0", _keeps(torch.mean, "mean")),
            Property("its standard deviation is that of x0", _keeps(torch.std, "deviation")),
            Property("many small steps end there", _the_ascent_gets_there),
            Property("outside the brain it is 0", _zero_around),
        ),
        hints=(
            "The gradient has mean 0 and is orthogonal to x: what does a small step leave as it was?",
            "Take the source's pattern and give it the mean and the deviation of x0, both inside the brain.",
            "s, x = source[inside], start[inside]; (x.mean() + x.std() * (source - s.mean()) / s.std()) * inside.",
        ),
    )
)

ANSWERS = {
    "11.1": _right_gradient,
    "11.2": _right_iteration,
    "11.3": _right_weight,
    "11.4": _right_mask,
    "11.5": _right_end,
}
