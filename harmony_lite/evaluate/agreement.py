"""How far scanners agree about the volumes of the same people: differences of pairs, intraclass correlation."""

from __future__ import annotations

from torch import Tensor

from harmony_lite.evaluate import arguments

__all__ = ["intraclass_correlation", "mean_absolute_volume_difference", "rmse_across_scanners"]


def mean_absolute_volume_difference(volumes: Tensor) -> Tensor:
    """Mean over people of |v_a - v_b| for each pair of scanners a, b (MISPEL, Table 3), in the unit of `volumes`.

    Args:
        volumes: `(people, scanners)`, one structure of the same people on every scanner.

    Returns:
        `(scanners, scanners)`, symmetric, zero diagonal.
    """
    return _differences(volumes).abs().mean(0)


def rmse_across_scanners(volumes: Tensor) -> Tensor:
    """Root mean square over people of v_a - v_b for each pair of scanners, arguments and result as there.

    MISPEL's Fig. 5 names this measure without a formula; this is the reading that its text gives.

    >>> import torch
    >>> volumes = torch.tensor([[600.0, 603.0], [500.0, 496.0]])
    >>> mean_absolute_volume_difference(volumes)[0, 1].item(), round(rmse_across_scanners(volumes)[0, 1].item(), 4)
    (3.5, 3.5355)
    """
    return _differences(volumes).square().mean(0).sqrt()


def intraclass_correlation(ratings: Tensor, form: str = "ICC(2,1)") -> Tensor:
    """Intraclass correlation of single ratings (Shrout and Fleiss 1979), at most 1, as a scalar tensor.

    Args:
        ratings: `(people, scanners)`, at least two of both, any unit.
        form: "ICC(2,1)", absolute agreement with scanners as a random sample (an offset of one scanner lowers it), or
            "ICC(3,1)", consistency with these scanners as fixed (an offset of one scanner leaves it).
    """
    if form not in ("ICC(2,1)", "ICC(3,1)"):
        raise ValueError(f"form: found {form!r}, wanted 'ICC(2,1)' or 'ICC(3,1)'")
    ratings = arguments.checked_table(ratings, "ratings", axes=2)
    n, k = ratings.shape
    if n < 2 or k < 2:
        raise ValueError(f"ratings: found shape {(n, k)}, wanted at least two people and two scanners")
    people, scanners = ratings.mean(1, keepdim=True), ratings.mean(0, keepdim=True)
    residual = ratings - people - scanners + ratings.mean()
    between_people, between_scanners = k * people.var(), n * scanners.var()
    error = residual.square().sum() / ((n - 1) * (k - 1))
    offsets = k * (between_scanners - error) / n if form == "ICC(2,1)" else 0
    total = between_people + (k - 1) * error + offsets
    if total <= 1e-24 * ratings.square().max():  # nothing but the round-off of equal ratings
        raise ValueError(f"ratings: found no spread that {form} could divide by, wanted people who differ")
    return (between_people - error) / total


def _differences(volumes: Tensor) -> Tensor:
    volumes = arguments.checked_table(volumes, "volumes", axes=2)
    return volumes[:, :, None] - volumes[:, None, :]
