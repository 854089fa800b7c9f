"""BlindHarmony's optimization: two distances to the source, and the loop that climbs one and shrinks a latent vector.

Source: H. Jeong, H. Byun, D. U. Kang, J. Lee, "BlindHarmony: 'Blind' Harmonization for MR Images via Flow model", ICCV
2023, section 3.3. From the averaged target slice x0 the loop climbs the correlation with the source (Equation 13), and
shrinks the flow's latent vector a little after each step (Equation 12). Equations are numbered as in the paper.

Three readings of the loop are data, not code: `ours`, `paper` (as printed) and `released` (as the public code behaves).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from harmony_lite.cuda_graphs import GraphCache
from harmony_lite.papers.blindharmony.prior import Encoding

__all__ = [
    "STARTS",
    "VARIANTS",
    "LoopSettings",
    "Result",
    "edge_descent",
    "flat_regions",
    "latent_step",
    "ncc_and_gradient",
    "optimise",
]

STARTS = ("at the same height", "of all heights", "at full contrast")

# ---------------------------------------------------------------------------------------------------------- settings


@dataclass(frozen=True)
class LoopSettings:
    """Algorithm 1 and what the paper leaves open in it.

    Attributes:
        alpha: how much of the latent vector each iteration takes away, Equation 12 (section 3.3).
        beta1: weight of the correlation in Equation 13; None where `step` gives the weight.
        step: c, ours, used where `beta1` is None: beta1 = c times the sum of (x - mean)^2. With it a step has the same
            effect on an image of any size and range: it multiplies the part of x that does not follow the source by
            1 - c NCC. The printed beta1 amounts to a c of 0.2 to 0.6 on slices of 144 x 176, and to another c on
            every other size.
        beta2: weight of the gradient in the source's flat regions.
        iterations: N.
        centred: correlation as printed (Pearson), or the released code's cosine without means.
        inside: correlation and edges inside the brain, or over the whole slice, background included.
        flat_quantile: pixels whose source gradient lies strictly below this quantile are flat; not printed.
        dequantize: "centre" keeps intensities at the middle of their grey level, both ways; "noise" adds uniform noise
            and rounds down on the way back, as the released code does in every iteration.
        after_shrink: return the image after the last latent step, as the released code does; Algorithm 1 returns x_N.
        start: x0, an average over the target's training people (a height is an axial position). "at the same height":
            their averaged slice at the source slice's height. "of all heights": one slice, averaged over all heights
            too. "at full contrast": the averaged slice at the same height, stretched to the mean and deviation that
            one person's slice has there. Averaging people takes contrast away, and Equation 13 does not bring it back;
            `ours` starts here, the other variants as the paper and the public code do.
        use_flow: False leaves the flow out, and with it Equation 12: the ascent that the flow is held against.
    """

    alpha: float = 0.001
    beta1: float | None = 1000.0
    step: float = 1 / 3
    beta2: float = 0.001
    iterations: int = 10
    centred: bool = True
    inside: bool = False
    flat_quantile: float = 0.3
    dequantize: str = "centre"
    after_shrink: bool = False
    start: str = "at the same height"
    use_flow: bool = True

    def __post_init__(self) -> None:
        if self.start not in STARTS:
            raise ValueError(f"start: found {self.start!r}, wanted one of {', '.join(map(repr, STARTS))}")


VARIANTS = {
    "ours": LoopSettings(beta1=None, inside=True, start="at full contrast"),
    "paper": LoopSettings(start="of all heights"),
    "released": LoopSettings(centred=False, dequantize="noise", after_shrink=True),
}

# -------------------------------------------------------------------------------------------------- the two distances


def ncc_and_gradient(images: Tensor, sources: Tensor, mask: Tensor, *, centred: bool = True) -> tuple[Tensor, Tensor]:
    r"""Correlation of each image with its source (Equation 1), and its gradient with respect to the image.

    With $\hat x$, $\hat s$ the (centred) images divided by their norms,
    $\nabla_x \mathrm{NCC} = (\hat s - \mathrm{NCC}\,\hat x) / \lVert x \rVert$.

    Args:
        images: (B, 1, H, W).
        sources: same shape.
        mask: bool, same shape: the pixels that count.
        centred: subtract each image's mean over the mask first.

    Returns:
        NCC (B, 1, 1, 1), and the gradient, same shape as images, 0 outside the mask.
    """
    x, s = (_centred(values, mask) if centred else values * mask for values in (images, sources))
    length, other = (_norm(values) for values in (x, s))
    ncc = (x * s).sum((1, 2, 3), keepdim=True) / (length * other)
    return ncc, (s / other - ncc * x / length) / length


def flat_regions(sources: Tensor, mask: Tensor | None, quantile: float) -> Tensor:
    """M of Equation 2 for both directions, (B, 2, H, W) bool: where the source has no edge.

    Args:
        sources: (B, 1, H, W).
        mask: bool, where the quantile is taken and flatness counts; the whole slice where None. Over a whole slice
            with much empty background the quantile is 0 and nothing lies strictly below it: the mask is empty.
        quantile: of the size of the gradient.
    """
    size = _sobel(sources).abs()
    inside = torch.ones_like(size, dtype=torch.bool) if mask is None else mask.expand_as(size)
    flat = torch.zeros_like(inside)
    for index in range(len(size)):
        for axis in range(2):
            values = size[index, axis][inside[index, axis]]
            flat[index, axis] = (size[index, axis] < torch.quantile(values, quantile)) & inside[index, axis]
    return flat


def edge_descent(images: Tensor, flat: Tensor) -> Tensor:
    """Minus a subgradient of the L1 norm of M G x (Equation 3) with respect to x: (B, 1, H, W).

    Args:
        images: (B, 1, H, W).
        flat: M, (B, 2, H, W) bool.
    """
    signs = torch.sign(_sobel(images)) * flat
    return -functional.conv_transpose2d(signs, _SOBEL.to(images), padding=1)


_SOBEL = torch.tensor([[[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], [[-1, -2, -1], [0, 0, 0], [1, 2, 1]]])[:, None]


def _sobel(images: Tensor) -> Tensor:
    return functional.conv2d(images, _SOBEL.to(images), padding=1)


def _centred(images: Tensor, mask: Tensor) -> Tensor:
    count = mask.sum((1, 2, 3), keepdim=True)
    return (images - (images * mask).sum((1, 2, 3), keepdim=True) / count) * mask


def _norm(images: Tensor) -> Tensor:
    return images.square().sum((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-12)


# ---------------------------------------------------------------------------------------------------------- Algorithm 1


@dataclass(frozen=True)
class Result:
    """What the loop gives.

    Attributes:
        images: (B, 1, H, W), harmonized.
        ncc: (B, iterations + 1), before the first step and after each.
        step_factor: (B, iterations): the factor 1 - beta1 NCC / sum (x - mean)^2 by which a step of Equation 13
            multiplied the part of x that does not follow the source. Below 0 the step overshoots; below -1 it diverges.
    """

    images: Tensor
    ncc: Tensor
    step_factor: Tensor


def optimise(
    flow: Any,
    start: Tensor,
    sources: Tensor,
    mask: Tensor,
    settings: LoopSettings,
    *,
    encoding: Encoding | None = None,
    generator: torch.Generator | None = None,
    watch: Callable[[int, Tensor], object] | None = None,
) -> Result:
    """Algorithm 1 on a batch of slices.

    Args:
        flow: in eval mode, between (B, 1, H, W) and (B, D); None leaves it out, as `settings.use_flow` False does.
        start: x0, (B, 1, H, W) in [0, 1].
        sources: x_s, the same shape and range.
        mask: bool, the same shape: the brain.
        settings: of the loop.
        encoding: grey levels; 8 bits when None.
        generator: of the dequantization noise, where the settings want noise.
        watch: called with (iteration, images) after each step of Equation 13, before Equation 12, to draw the way.

    Returns:
        The harmonized slices with the correlations and the step factors.
    """
    flow = flow if settings.use_flow else None
    encoding, counted = encoding or Encoding(), mask if settings.inside else torch.ones_like(mask)
    flat = flat_regions(sources, mask if settings.inside else None, settings.flat_quantile)
    if settings.beta2 and not bool(flat.any()):
        warnings.warn("no pixel of any source is flat: the edge term of Equation 3 does nothing", stacklevel=2)
    current, path, factors = start, [], []
    for iteration in range(settings.iterations):
        ncc, gradient = ncc_and_gradient(current, sources, counted, centred=settings.centred)
        path.append(ncc.flatten())
        squared = _norm(_centred(current, counted) if settings.centred else current * counted).square()
        beta1 = settings.step * squared if settings.beta1 is None else settings.beta1
        factors.append((1 - beta1 * ncc / squared).flatten())
        x = current + beta1 * gradient + settings.beta2 * edge_descent(current, flat)  # line 2, Equation 13
        if flow is None or (iteration == settings.iterations - 1 and not settings.after_shrink):
            current = x  # Algorithm 1 returns x_N: the latent step after it is left out
        else:
            current = latent_step(flow, x, settings, encoding, generator)  # line 3, Equation 12
        if watch is not None:
            watch(iteration, x)
    final = current if settings.after_shrink else x
    path.append(ncc_and_gradient(final, sources, counted, centred=settings.centred)[0].flatten())
    return Result(final.clamp(0, 1), torch.stack(path, 1), torch.stack(factors, 1))


def latent_step(
    flow: Any, images: Tensor, settings: LoopSettings, encoding: Encoding, generator: torch.Generator | None
) -> Tensor:
    """Equation 12, and back to the image: f^-1((1 - alpha) f(x)).

    Args:
        flow: in eval mode.
        images: (B, 1, H, W); what lies outside [0, 1] is clamped.
        settings: `alpha` and `dequantize`.
        encoding: grey levels.
        generator: of the dequantization noise.

    Returns:
        Same shape, in [0, 1]; a slice for which the flow gives a number that is not finite stays as it was.
    """
    noisy = settings.dequantize == "noise"
    noise = [torch.rand(images.shape, generator=generator).to(images)] if noisy else []

    def step(images: Tensor, noise: Tensor | None = None) -> Tensor:
        latent, _ = flow.encode(encoding.encode(images.clamp(0, 1), noise))
        back, _ = flow.decode((1 - settings.alpha) * latent)
        decoded = encoding.decode(back, floor=noisy)
        finite = decoded.isfinite().all(3, keepdim=True).all(2, keepdim=True)
        return torch.where(finite, decoded.clamp(0, 1), images)

    if not images.is_cuda:
        return step(images, *noise)
    weights = tuple((tensor.data_ptr(), tensor._version) for tensor in chain(flow.parameters(), flow.buffers()))
    return _GRAPHS((settings.alpha, encoding, weights), step, images, *noise)


_GRAPHS = GraphCache()  # of latent steps, on a GPU
