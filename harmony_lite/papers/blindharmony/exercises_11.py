"""Exercises of notebook 11: a gradient, one iteration, a step for any size, a mask of flat pixels, the ascent's end.

`ANSWERS` holds one right answer each: the notebook uses it until the learner's own function has passed its check.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from harmony_lite.exercises import Exercise, Property, register
from harmony_lite.papers.blindharmony.optimization import ncc_and_gradient

__all__ = ["ANSWERS"]


def _exercise(id: str, title: str, minutes: int, properties: dict[str, Callable], *hints: str) -> None:
    register(Exercise(id, title, minutes, tuple(Property(*item) for item in properties.items()), hints))


def _slices(contrast: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Image, source and mask, (1, 1, 18, 22) float64; `contrast` of the source is about in units of the image's."""
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
    return float(ncc_and_gradient(image, source, inside)[0])


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
    for place in map(tuple, inside.nonzero()[::37].tolist()):
        nudge = torch.zeros_like(image)
        nudge[place] = 1e-5
        wanted = (_ncc(image + nudge, source, inside) - _ncc(image - nudge, source, inside)) / 2e-5
        if not math.isclose(float(found[place]), wanted, rel_tol=1e-4, abs_tol=1e-7):
            return False, f"at {place[2:]} it is {float(found[place]):.5f}, by finite differences {wanted:.5f}"
    return True, ""


def _nothing_outside(answer) -> tuple[bool, str]:
    image, source, inside = _slices()
    found = _gradient(answer, image, source, inside)
    changed = torch.where(inside, source, source + 5)
    outside = _largest(found[~inside])
    moved = _largest(_gradient(answer, image, changed, inside)[inside], found[inside])
    return (
        outside == 0 and moved < 1e-9,
        f"outside it is up to {outside:.3g}; another background moves it by {moved:.1g}",
    )


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


_exercise(
    "11.1", "the gradient of NCC", 10,
    {
        "it agrees with finite differences": _agrees_with_differences,
        "pixels outside the brain neither count nor move": _nothing_outside,
        "it changes neither the mean nor the norm": _changes_the_direction_only,
        "gain and offset of the source do not matter": _blind_to_the_sources_units,
    },
    "Centre both images over the brain, set everything else to 0, and divide each by its norm.",
    "The source's direction minus NCC times the image's own direction; then one more division.",
    "x = (image - image[inside].mean()) * inside, the same for s; x_hat = x / x.norm(), s_hat = s / s.norm(); "
    "(s_hat - (x_hat * s_hat).sum() * x_hat) / x.norm().",
)  # fmt: skip

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
    return 0.3 * (1 - x)  # stands in for the gradient: towards 1, more so from farther away


_LATENT = torch.linspace(-1.5, 2.5, 9, dtype=torch.float64)
_CLIMBED = _toy_inverse(_LATENT) + _pull(_toy_inverse(_LATENT))


def _iteration(answer, alpha: float, ascent=_pull) -> tuple[Tensor, Tensor]:
    found = answer(_LATENT.clone(), _toy, _toy_inverse, ascent, alpha)
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise ValueError(f"found {type(found).__name__}, wanted two things: the image and the next latent vector")
    return _same_shape(found[0], _LATENT, "an image"), _same_shape(found[1], _LATENT, "a latent vector")


_exercise(
    "11.2", "one iteration of Algorithm 1", 8,
    {
        "the ascent happens in the image": lambda answer: _tiny(
            _largest(_iteration(answer, 0.0)[0], _CLIMBED), "it is {} away from x + ascent(x), with x decoded from z"
        ),
        "the shrink happens in the latent vector": lambda answer: _tiny(
            _largest(_iteration(answer, 0.25, torch.zeros_like)[1], 0.75 * _LATENT),
            "with alpha = 0.25 and no ascent it is {} away from 0.75 z",
        ),
        "the image is the one before the shrink": lambda answer: _tiny(
            _largest(_iteration(answer, 0.0)[0], _iteration(answer, 0.5)[0]),
            "alpha changes the image of the same iteration by {}; line 3 comes after line 2",
        ),
        "the next latent vector comes from the climbed image": lambda answer: _tiny(
            _largest(_iteration(answer, 0.1)[1], 0.9 * _toy(_CLIMBED)), "it is {} away from (1 - alpha) f of that image"
        ),
    },
    "Lines 2 and 3 of the algorithm, one line of code each, and one to decode.",
    "ascent takes an image: decode z first.",
    "x = f_inverse(z); x = x + ascent(x); return x, (1 - alpha) * f(x).",
)  # fmt: skip

# ------------------------------------------------------------------------------------------- 11.3: a step for any size


def _weight(answer, image: Tensor, source: Tensor, inside: Tensor, share: float = 0.7) -> float:
    found = torch.as_tensor(answer(image.clone(), source.clone(), inside.clone(), share))
    if found.numel() != 1:
        raise ValueError(f"found a beta1 of shape {tuple(found.shape)}, wanted one number")
    return float(found)


def _leaves_the_share(answer) -> tuple[bool, str]:
    image, source, inside = _slices()
    s = _centred(source, inside)
    for share in (1.0, 0.7, 0.2, 0.0, -0.5):
        beta1 = _weight(answer, image, source, inside, share)
        stepped = image + beta1 * _right_gradient(image, source, inside)
        before, after = (x - (x @ s) / (s @ s) * s for x in (_centred(v, inside) for v in (image, stepped)))
        left = float(after @ before / (before @ before))
        if not math.isclose(left, share, abs_tol=1e-6):
            return False, f"asked to leave {share:g}, beta1 = {beta1:.4g} leaves {left:.3f}"
    return True, ""


def _if(change, factor: float, said: str):
    # beta1 is multiplied by the factor when the three images change
    def holds(answer) -> tuple[bool, str]:
        plain, changed = _weight(answer, *_slices()), _weight(answer, *change(*_slices()))
        reason = f"{said} takes beta1 from {plain:.4g} to {changed:.4g}"
        return math.isclose(changed, factor * plain, rel_tol=1e-6), reason

    return holds


_exercise(
    "11.3", "a beta1 for any image", 8,
    {
        "one step leaves the share that was asked for": _leaves_the_share,
        "an offset of the images does not matter": _if(
            lambda x, s, m: (x + 5, s + 5, m), 1, "5 more in every pixel (are the images centred inside the brain?)"
        ),
        "four times the pixels need four times the weight": _if(lambda *v: (i.tile(2, 2) for i in v), 4, "tiling"),
        "ten times the range needs a hundred times the weight": _if(lambda x, s, m: (10 * x, 10 * s, m), 100, "10 x"),
    },
    "The law of this section, solved for beta1.",
    "share = 1 - beta1 NCC / |x|^2, where x is centred over the brain.",
    "x = image[inside] - image[inside].mean(), s likewise; ncc = x @ s / (x.norm() * s.norm()); "
    "(1 - share) * x @ x / ncc.",
)  # fmt: skip

# ------------------------------------------------------------------------------------------- 11.4: where it is flat


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
    low, high = float(size[marked].mean()), float(size[inside & ~marked].mean())
    return low < high, f"mean gradient of the marked pixels: {low:.3f}, of the others: {high:.3f}"


def _background_does_not_count(answer) -> tuple[bool, str]:
    size, inside = _gradients()
    noisy = torch.where(inside, size, torch.full_like(size, 9.0))
    differ = int((_mask(answer, size, inside) ^ _mask(answer, noisy, inside)).sum())
    return _tiny(differ, "another background changes {} pixels of the mask")


def _ties_are_not_below(answer) -> tuple[bool, str]:
    size, inside = _gradients()
    tied = torch.where(inside & (size < 0.8), 0.5, size)  # most of the brain has one and the same gradient
    count = int(_mask(answer, tied, inside).sum())
    return _tiny(count, "nothing lies strictly below the quantile, and it marks {} pixels")


_exercise(
    "11.4", "flat, inside the brain", 6,
    {
        "it marks the share that the quantile says": _the_share_it_should,
        "it marks the smallest gradients": _marks_the_smallest,
        "nothing outside the brain is marked": lambda answer: _tiny(
            int((_mask(answer, *_gradients()) & ~_gradients()[1]).sum()), "it marks {} pixels there"
        ),
        "the background does not move the threshold": _background_does_not_count,
        "a gradient at the quantile is not below it": _ties_are_not_below,
    },
    "Which pixels does the quantile have to be taken over?",
    "torch.quantile of size[inside], then a strict comparison.",
    "(size < torch.quantile(size[inside], quantile)) & inside.",
)  # fmt: skip

# ------------------------------------------------------------------------------------- 11.5: where the ascent ends


def _right_end(start, source, inside):
    x, s = start[inside], source[inside]
    return (x.mean() + x.std() * (source - s.mean()) / s.std()) * inside


def _end(answer) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the answer gives for a source with twice the contrast of the image; and the three that it was given."""
    image, source, inside = _slices(contrast=2.0)
    found = _same_shape(answer(image.clone(), source.clone(), inside.clone()), image, "an image")
    return found.double(), image, source, inside


def _keeps(measure, what: str):
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


_exercise(
    "11.5", "where the ascent ends", 6,
    {
        "it follows the source": lambda answer: _tiny(
            1 - _ncc(*(_end(answer)[part] for part in (0, 2, 3))), "its NCC with the source is 1 - {}"
        ),
        "its mean is that of x0": _keeps(torch.mean, "mean"),
        "its standard deviation is that of x0": _keeps(torch.std, "deviation"),
        "many small steps end there": _the_ascent_gets_there,
        "outside the brain it is 0": lambda answer: _tiny(_largest(_end(answer)[0][~_slices()[2]]), "it is up to {}"),
    },
    "The gradient has mean 0 and is orthogonal to x: what does a small step leave as it was?",
    "Take the source's pattern and give it the mean and the deviation of x0, both inside the brain.",
    "s, x = source[inside], start[inside]; (x.mean() + x.std() * (source - s.mean()) / s.std()) * inside.",
)  # fmt: skip

ANSWERS = {
    "11.1": _right_gradient,
    "11.2": _right_iteration,
    "11.3": lambda x, s, m, share: (1 - share) * _centred(x, m).square().sum() / _ncc(x, s, m),
    "11.4": lambda size, inside, quantile: (size < torch.quantile(size[inside], quantile)) & inside,
    "11.5": _right_end,
}
