"""The optimum of MISPEL's second step (Equation 6), without a step: M x L numbers, linear inside absolute values."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from harmony_lite.papers.mispel.networks import Units, embeddings_of
from harmony_lite.papers.mispel.settings import MispelSettings
from harmony_lite.papers.mispel.steps import PairedSlices

__all__ = ["drawn_pixels", "solved_weights"]


def solved_weights(
    embeddings: Tensor,
    images: Tensor,
    settings: MispelSettings,
    *,
    absolute: bool = True,
    rounds: int = 60,
) -> Tensor:
    r"""The decoders' weights that minimize Equation 6 over some pixels.

    $\sum_i \lambda_3 |x_i - z_i \gamma_i| + \lambda_4 \frac{2}{M (M-1)} \sum_{i<k} |z_i \gamma_i - z_k \gamma_k|$ is
    linear inside absolute values. It is solved as a series of weighted least-squares problems in which each residual
    has the weight $1 / |r|$ of the round before (iteratively reweighted least squares: Schlossmacher, JASA 68, 1973).

    Args:
        embeddings: (P, M, L) of P pixels.
        images: (P, M).
        settings: weights of the two terms; its ReLU is left out.
        absolute: False squares the differences: the least-squares optimum, one round.
        rounds: of reweighting, at most; it ends when one changes less than a millionth.

    Returns:
        (M, L), the best of all rounds.

    Raises:
        ValueError: shapes that do not fit, fewer pixels than numbers sought.
    """
    pixels, scanners, count = embeddings.shape
    if images.shape != (pixels, scanners):
        raise ValueError(f"images: found shape {tuple(images.shape)}, wanted {(pixels, scanners)}")
    if pixels < scanners * count:
        raise ValueError(f"embeddings: found {pixels} pixels, wanted at least {scanners * count}, the numbers sought")
    z, x = embeddings.double().permute(1, 2, 0), images.double().T  # (M, L, P), (M, P)
    divisor = scanners if settings.pairs_over_scanners else scanners * (scanners - 1) / 2
    between = settings.lambda4 / divisor
    pairs = list(combinations(range(scanners), 2))
    weights, best, smallest = torch.zeros(scanners, count), None, float("inf")
    of_residuals, of_pairs = torch.ones_like(x), torch.ones(len(pairs), pixels, dtype=x.dtype)  # reweighting
    for _ in range(rounds if absolute else 1):
        weights = _least_squares(z, x, settings.lambda3 * of_residuals, between * of_pairs, pairs)
        outputs = torch.einsum("mlp,ml->mp", z, weights)
        residuals = (x - outputs).abs()
        differences = torch.stack([(outputs[i] - outputs[k]).abs() for i, k in pairs])
        loss = float(settings.lambda3 * residuals.mean(1).sum() + between * differences.mean(1).sum())
        is_still = abs(smallest - loss) <= 1e-6 * loss
        if loss < smallest or not absolute:
            best, smallest = weights, loss
        if is_still:
            break
        floor = 1e-4 * x.abs().mean()  # a residual of 0 would take all the weight
        of_residuals, of_pairs = 1 / residuals.clamp_min(floor), 1 / differences.clamp_min(floor)
    return best.float()


def _least_squares(
    z: Tensor, x: Tensor, of_residuals: Tensor, of_pairs: Tensor, pairs: Sequence[tuple[int, int]]
) -> Tensor:
    """Gamma (M, L) that minimizes the weighted squares of x - z gamma and of the differences of pairs."""
    scanners, count, _ = z.shape
    left, right = z.new_zeros(scanners, count, scanners, count), z.new_zeros(scanners, count)
    for i in range(scanners):
        weighted = z[i] * of_residuals[i]
        left[i, :, i] += weighted @ z[i].T
        right[i] = weighted @ x[i]
    for (i, k), weight in zip(pairs, of_pairs, strict=True):
        weighted = z[i] * weight
        left[i, :, i] += weighted @ z[i].T
        left[k, :, k] += (z[k] * weight) @ z[k].T
        left[i, :, k] -= weighted @ z[k].T
        left[k, :, i] -= z[k] @ weighted.T
    left = left.reshape(scanners * count, -1)
    left.diagonal().mul_(1 + 1e-10)  # embeddings may be alike
    return torch.linalg.lstsq(left, right.reshape(-1, 1), driver="gelsd").solution.reshape(scanners, count)


def drawn_pixels(units: Units, slices: PairedSlices, generator: torch.Generator, most: int) -> tuple[Tensor, Tensor]:
    """Embeddings (P, M, L) and images (P, M) of brain pixels drawn evenly from all slices.

    Args:
        units: after step 1.
        slices: of training people.
        generator: of the draw.
        most: pixels, about.
    """
    found = []
    for images, brain in zip(slices.images.split(16), slices.brain.split(16), strict=True):
        inside = brain[:, 0]
        embeddings = embeddings_of(units, images).permute(0, 3, 4, 1, 2)[inside]
        kept = torch.randperm(len(embeddings), generator=generator)[: -(-most * len(images) // len(slices.images))]
        found.append((embeddings[kept], images.permute(0, 2, 3, 1)[inside][kept]))
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))
