"""Exercises of notebook 50: coupling, one decoder, all pairs, a scale that costs nothing, a round of reweighting."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harmony_lite.exercises import Exercise, Property, answers, register

_FLOOR = 1e-6  # of a residual, in 50.5
_FIRST_WEIGHTS = torch.randn(4, 5, generator=torch.Generator().manual_seed(504)).double()  # of decoders (M, L), in 50.3


def _embeddings() -> Tensor:
    """(B, M, L, H, W) = (3, 4, 5, 6, 7), float64, scanners partly alike."""
    generator = torch.Generator().manual_seed(501)
    common = torch.randn(3, 1, 5, 6, 7, generator=generator)
    own = torch.randn(3, 4, 5, 6, 7, generator=generator)
    return (common + 0.4 * own).double()


# ------------------------------------------------------------------------------------------------- 50.1: coupling


def _loss(answer, images: Tensor) -> float:
    return answers.one_number(answer(images.clone()), "a loss")


def _true_coupling(embeddings: Tensor) -> float:
    return float((embeddings - embeddings.mean(1, keepdim=True)).square().mean())


def _one_and_three(answer) -> tuple[bool, str]:
    found = _loss(answer, torch.tensor([1.0, 3.0]).double().reshape(1, 2, 1, 1, 1))
    return math.isclose(found, 1, rel_tol=1e-9), f"two scanners at 1 and 3 cost {found:.4g}, wanted 1"


def _alike_is_free(answer) -> tuple[bool, str]:
    found = _loss(answer, _embeddings()[:, :1].repeat(1, 4, 1, 1, 1))
    return abs(found) < 1e-12, f"four equal scanners cost {found:.4g}, wanted 0"


def _shared_offset(answer) -> tuple[bool, str]:
    embeddings = _embeddings()
    shift = torch.linspace(-3, 3, 5, dtype=torch.float64).reshape(1, 1, 5, 1, 1)
    once, moved = _loss(answer, embeddings), _loss(answer, embeddings + shift)
    return math.isclose(once, moved, rel_tol=1e-9), f"an offset of all scanners takes it from {once:.4g} to {moved:.4g}"


def _is_a_mean(answer) -> tuple[bool, str]:
    embeddings = _embeddings()
    found = [_loss(answer, embeddings)]
    found += [_loss(answer, torch.cat([embeddings, embeddings], axis)) for axis in (0, 2, 3)]
    holds = all(math.isclose(value, found[0], rel_tol=1e-9) for value in found)
    return holds, "it is {:.4g}; with slices, embeddings, pixels twice {:.4g}, {:.4g}, {:.4g}".format(*found)


def _is_quadratic(answer) -> tuple[bool, str]:
    embeddings = _embeddings()
    ratio = _loss(answer, 3 * embeddings) / _loss(answer, embeddings)
    return math.isclose(ratio, 9, rel_tol=1e-9), f"three times the embeddings cost {ratio:.4g} times as much, wanted 9"


register(
    Exercise(
        id="50.1",
        title="the coupling loss",
        minutes=6,
        properties=(
            Property("two scanners at 1 and 3 have a variance of 1", _one_and_three),
            Property("embeddings that are alike cost nothing", _alike_is_free),
            Property("what all scanners share does not count", _shared_offset),
            Property("slices, embeddings and pixels are averaged", _is_a_mean),
            Property("three times the embeddings cost nine times as much", _is_quadratic),
        ),
        hints=(
            "Over which of the five axes is the variance taken, and what is done with the other four?",
            "The population variance divides by M: torch's `var` divides by M - 1 unless told otherwise.",
            "embeddings.var(1, correction=0).mean().",
        ),
    )
)

# ------------------------------------------------------------------------------------------------ 50.2: one decoder


def _pixels() -> tuple[Tensor, Tensor]:
    """Embeddings (P, L) that are not centred and partly alike, and an image (P,) that they do not quite make."""
    generator = torch.Generator().manual_seed(502)
    embeddings = (1 + torch.randn(400, 6, generator=generator)).double()
    embeddings[:, 1] += embeddings[:, 0]
    image = embeddings @ torch.tensor([0.3, -0.2, 0.1, 0.5, 0.0, -0.4]).double()
    return embeddings, image + 2 + 0.3 * torch.randn(400, generator=generator).double()


def _decoder(answer, embeddings: Tensor, image: Tensor) -> Tensor:
    found = answer(embeddings.clone(), image.clone())
    return answers.tensor_of_shape(found, embeddings.shape[1:], "weights").double()


def _finds_them_again(answer) -> tuple[bool, str]:
    embeddings, _ = _pixels()
    true = torch.linspace(-0.5, 1, 6, dtype=torch.float64)
    off = float((_decoder(answer, embeddings, embeddings @ true) - true).abs().max())
    return off < 1e-6, f"weights that made the image exactly are missed by up to {off:.3g}"


def _nothing_left(answer) -> tuple[bool, str]:
    embeddings, image = _pixels()
    along = float((embeddings.T @ (image - embeddings @ _decoder(answer, embeddings, image)) / len(image)).abs().max())
    return along < 1e-6, f"the residual still goes along an embedding, mean product {along:.3g}"


def _twice_the_image(answer) -> tuple[bool, str]:
    embeddings, image = _pixels()
    off = float((_decoder(answer, embeddings, 2 * image) - 2 * _decoder(answer, embeddings, image)).abs().max())
    return off < 1e-6, f"twice the image has weights that are up to {off:.3g} from twice the weights"


def _copies_do_not_break_it(answer) -> tuple[bool, str]:
    embeddings, image = _pixels()
    embeddings[:, 5] = embeddings[:, 4]
    weights = _decoder(answer, embeddings, image)
    if not bool(weights.isfinite().all()):
        return False, "with one embedding twice the weights are not finite"
    along = float((embeddings.T @ (image - embeddings @ weights) / len(image)).abs().max())
    return along < 1e-6, f"with one embedding twice, the residual goes along an embedding by {along:.3g}"


register(
    Exercise(
        id="50.2",
        title="one decoder, without training",
        minutes=6,
        properties=(
            Property("weights that made the image are found again", _finds_them_again),
            Property("the residual is orthogonal to every embedding", _nothing_left),
            Property("twice the image has twice the weights", _twice_the_image),
            Property("two equal embeddings do no harm", _copies_do_not_break_it),
        ),
        hints=(
            "Equation 1 is linear in the weights: P equations, L unknowns.",
            "torch.linalg.lstsq; its driver `gelsd` bears columns that are alike.",
            'torch.linalg.lstsq(embeddings, image[:, None], driver="gelsd").solution[:, 0].',
        ),
    )
)

# ----------------------------------------------------------------------------------------------------- 50.4: pairs


def _scanners(*values: float) -> Tensor:
    """Images (2, M, 3, 4) of one value each."""
    return torch.tensor(values).double()[None, :, None, None].repeat(2, 1, 3, 4)


def _six_pairs(answer) -> tuple[bool, str]:
    found = _loss(answer, _scanners(0, 1, 3, 7))
    return math.isclose(found, 23 / 6, rel_tol=1e-9), f"scanners at 0, 1, 3, 7 cost {found:.4g}, wanted 23/6 = 3.833"


def _any_order(answer) -> tuple[bool, str]:
    found = [_loss(answer, _scanners(*values)) for values in ((0, 1, 3, 7), (3, 0, 7, 1), (7, 3, 1, 0))]
    reason = "in three orders the same scanners cost {:.4g}, {:.4g}, {:.4g}".format(*found)
    return max(found) - min(found) < 1e-9, reason


def _twice_is_twice(answer) -> tuple[bool, str]:
    ratio = _loss(answer, _scanners(0, 2, 6, 14)) / _loss(answer, _scanners(0, 1, 3, 7))
    return math.isclose(ratio, 2, rel_tol=1e-9), f"twice the differences cost {ratio:.4g} times as much, wanted 2"


def _two_scanners(answer) -> tuple[bool, str]:
    found = _loss(answer, _scanners(0, 1))
    return math.isclose(found, 1, rel_tol=1e-9), f"two scanners at 0 and 1 cost {found:.4g}, wanted 1"


def _signs_do_not_cancel(answer) -> tuple[bool, str]:
    found = _loss(answer, torch.tensor([1.0, -1.0, 0.0, 0.0]).double().reshape(1, 2, 1, 2))
    return math.isclose(found, 1, rel_tol=1e-9), f"one pixel brighter and one darker by 1 cost {found:.4g}, wanted 1"


register(
    Exercise(
        id="50.4",
        title="the harmonization loss",
        minutes=6,
        properties=(
            Property("four scanners have six pairs, and their mean counts", _six_pairs),
            Property("the order of scanners does not matter", _any_order),
            Property("twice the differences cost twice as much", _twice_is_twice),
            Property("two scanners have one pair", _two_scanners),
            Property("brighter here and darker there do not cancel", _signs_do_not_cancel),
        ),
        hints=(
            "Write down the pairs of four scanners: there are 4 * 3 / 2 of them.",
            "itertools.combinations(range(M), 2), or torch.combinations; absolute values before any mean.",
            "i, k = torch.combinations(torch.arange(outputs.shape[1])).T; "
            "(outputs[:, i] - outputs[:, k]).abs().mean().",
        ),
    )
)

# -------------------------------------------------------------------------------------- 50.3: a scale that is free


def _rescaled(answer, wanted: float) -> tuple[Tensor, Tensor]:
    found = answer(_embeddings(), _FIRST_WEIGHTS.clone(), wanted)
    embeddings, weights = answers.pair(found, "embeddings and weights", shown="no pair")
    embeddings = answers.tensor_of_shape(embeddings, _embeddings().shape, "embeddings").double()
    return embeddings, answers.tensor_of_shape(weights, _FIRST_WEIGHTS.shape, "weights").double()


def _as_asked(answer) -> tuple[bool, str]:
    for wanted in (0.01, 1.0):
        found = _true_coupling(_rescaled(answer, wanted)[0])
        if not math.isclose(found, wanted, rel_tol=1e-6):
            return False, f"asked for a coupling of {wanted:g}, it is {found:.4g}"
    return True, ""


def _same_image(answer) -> tuple[bool, str]:
    before, after = (_embeddings(), _FIRST_WEIGHTS), _rescaled(answer, 0.01)
    images = torch.stack([torch.einsum("bmlhw,ml->bmhw", *parts) for parts in (before, after)])
    off = float(images.diff(dim=0).abs().max())
    return off < 1e-9, f"the image is up to {off:.3g} away"


def _no_more_alike(answer) -> tuple[bool, str]:
    both = _embeddings(), _rescaled(answer, 0.01)[0]
    before, after = (_true_coupling(embeddings) / float(embeddings.var()) for embeddings in both)
    reason = f"of their variance {before:.3f} was not in common, and now {after:.3f}"
    return math.isclose(before, after, rel_tol=1e-6), f"{reason}: that is more than a change of scale"


def _nothing_asked(answer) -> tuple[bool, str]:
    off = float((_rescaled(answer, _true_coupling(_embeddings()))[1] - _FIRST_WEIGHTS).abs().max())
    return off < 1e-9, f"asked for the coupling that is there, it moves weights by up to {off:.3g}"


register(
    Exercise(
        id="50.3",
        title="any coupling you like",
        minutes=6,
        properties=(
            Property("the coupling is what was asked for", _as_asked),
            Property("the image stays", _same_image),
            Property("scanners are no more alike than before", _no_more_alike),
            Property("asked for what is there, nothing moves", _nothing_asked),
        ),
        hints=(
            "Z / c and c times the weights; only c is sought.",
            "The loss goes with 1 / c^2.",
            "c = (embeddings.var(1, correction=0).mean() / wanted).sqrt(); return embeddings / c, c * weights.",
        ),
    )
)

# ------------------------------------------------------------------------------------- 50.5: a round of reweighting


def _outlying() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Embeddings (P, L), an image (P,) with a tenth of its pixels far off, what made the rest, least squares."""
    generator = torch.Generator().manual_seed(505)
    embeddings = torch.randn(300, 3, generator=generator).double() + 0.5
    true = torch.tensor([0.6, -0.3, 0.2]).double()
    image = embeddings @ true + 0.01 * torch.randn(300, generator=generator).double()
    image[::10] += 5
    return embeddings, image, true, torch.linalg.lstsq(embeddings, image[:, None]).solution[:, 0]


def _round(answer, embeddings: Tensor, image: Tensor, weights: Tensor) -> Tensor:
    found = answer(embeddings.clone(), image.clone(), weights.clone(), _FLOOR)
    return answers.tensor_of_shape(found, weights.shape, "weights").double()


def _weighted_orthogonal(answer) -> tuple[bool, str]:
    embeddings, image, _, start = _outlying()
    found = _round(answer, embeddings, image, start)
    importance = 1 / (image - embeddings @ start).abs().clamp_min(_FLOOR)
    along = float((embeddings.T @ (importance / importance.sum() * (image - embeddings @ found))).abs().max())
    return along < 1e-8, f"with weights 1 / |r| the residual still goes along an embedding by {along:.3g}"


def _descends(answer) -> tuple[bool, str]:
    embeddings, image, _, weights = _outlying()
    for number in range(1, 6):
        before = float((image - embeddings @ weights).abs().mean())
        weights = _round(answer, embeddings, image, weights)
        after = float((image - embeddings @ weights).abs().mean())
        if not after <= before * (1 + 1e-6):
            return False, f"round {number} takes the mean absolute error from {before:.5f} to {after:.5f}"
    return True, ""


def _outliers_lose(answer) -> tuple[bool, str]:
    embeddings, image, true, weights = _outlying()
    for _ in range(30):
        weights = _round(answer, embeddings, image, weights)
    off = float((weights - true).abs().max())
    return off < 0.01, f"after 30 rounds a tenth of outliers still moves a weight by {off:.3f}"


def _median(answer) -> tuple[bool, str]:
    image = torch.tensor([1.0, 2.0, 3.0, 10.0, 90.0]).double()
    weights = torch.tensor([20.0]).double()
    for _ in range(200):
        weights = _round(answer, torch.ones(5, 1, dtype=torch.float64), image, weights)
    return abs(float(weights) - 3) < 0.01, f"a constant embedding ends at {float(weights):.3f}, the median is 3"


def _exact_pixels(answer) -> tuple[bool, str]:
    embeddings, _, true, _ = _outlying()
    image = embeddings @ true
    image[0] += 1  # all others have a residual of 0
    found = _round(answer, embeddings, image, true)
    if not bool(found.isfinite().all()):
        return False, "a residual of 0 makes weights that are not finite"
    off = float((found - true).abs().max())
    return off < 1e-4, f"where nearly all pixels fit, a round moves a weight by {off:.3g}"


register(
    Exercise(
        id="50.5",
        title="a round of reweighting",
        minutes=10,
        properties=(
            Property("it solves least squares with weights 1 / |r|", _weighted_orthogonal),
            Property("the absolute error does not grow", _descends),
            Property("outliers lose their hold", _outliers_lose),
            Property("one constant embedding ends at the median", _median),
            Property("a residual of 0 is borne", _exact_pixels),
        ),
        hints=(
            "|r| = r^2 / |r|: with the |r| of the round before, an absolute value is a weighted square.",
            "Weighted squares are plain ones of rows multiplied by the root of the weight; clamp |r| from below first.",
            "root = (image - embeddings @ weights).abs().clamp_min(floor).rsqrt(); "
            "torch.linalg.lstsq(embeddings * root[:, None], (image * root)[:, None]).solution[:, 0].",
        ),
    )
)
