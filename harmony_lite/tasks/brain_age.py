"""Age of a person from the volumes of brain structures, by ridge regression.

A small stand-in for the networks that tell age from a scan (BlindHarmonyDiff, section 4.5): it is trained on the target
domain only and sees a scan through a segmentation, so a scan from elsewhere misleads it as far as it misleads the
segmentation. Features are shares of the brain, so the size of the head does not matter.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

__all__ = ["PENALTIES", "AgeFromVolumes", "leave_one_out_errors", "shares_of_brain"]

PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # tried; in units of one standardized person


def shares_of_brain(labels: Tensor, kinds: int) -> Tensor:
    """What share of a segmented brain each structure takes up.

    Args:
        labels: (N, 1, D, H, W) integers, 0 outside the brain and 1 to `kinds` inside.
        kinds: how many structures there are.

    Returns:
        (N, kinds) float64; every row sums to 1.

    Raises:
        ValueError: another shape, a label above `kinds`, a scan without a label.

    >>> shares_of_brain(torch.tensor([0, 1, 1, 2]).reshape(1, 1, 1, 1, 4), 2)
    tensor([[0.6667, 0.3333]], dtype=torch.float64)
    """
    if labels.ndim != 5 or labels.shape[1] != 1 or labels.is_floating_point():
        raise ValueError(f"labels: found {labels.dtype} {tuple(labels.shape)}, wanted integers (N, 1, D, H, W)")
    if int(labels.max()) > kinds or int(labels.min()) < 0:
        raise ValueError(f"labels: found {int(labels.min())} to {int(labels.max())}, wanted 0 to {kinds}")
    counts = torch.stack([torch.bincount(scan.flatten().long(), minlength=kinds + 1)[1:] for scan in labels]).double()
    if bool((counts.sum(1) == 0).any()):
        raise ValueError("labels: found a scan without a label, wanted at least one")
    return counts / counts.sum(1, keepdim=True)


class AgeFromVolumes:
    """Ridge regression of age on the shares of the brain that structures take up.

    The penalty is the one of `PENALTIES` with the least leave-one-out error on the training people.

    >>> shares = torch.tensor([[0.2, 0.8], [0.3, 0.7], [0.4, 0.6], [0.5, 0.5]], dtype=torch.float64)
    >>> model = AgeFromVolumes().fit(shares, torch.tensor([20.0, 40.0, 60.0, 80.0]))
    >>> bool((model.predict(shares) - torch.tensor([20.0, 40.0, 60.0, 80.0])).abs().max() < 3)
    True
    """

    def __init__(self) -> None:
        self._state: dict[str, Tensor] = {}

    def fit(self, shares: Tensor, ages: Tensor) -> Self:
        """Learn from training people.

        Args:
            shares: (N, K) from `shares_of_brain`.
            ages: (N,) years.

        Raises:
            ValueError: fewer than three people, numbers that differ, values that are not finite.
        """
        if shares.ndim != 2 or len(shares) < 3 or ages.shape != shares.shape[:1]:
            raise ValueError(
                f"found shares {tuple(shares.shape)} and ages {tuple(ages.shape)}, wanted (N, K) and (N,) of 3 or more"
            )
        if not bool(torch.isfinite(shares).all() and torch.isfinite(ages).all()):
            raise ValueError("found shares or ages that are NaN or infinite, wanted finite ones")
        centre, spread = shares.double().mean(0), shares.double().std(0).clamp_min(1e-12)
        features, years = (shares.double() - centre) / spread, ages.double() - ages.double().mean()
        errors = torch.stack([leave_one_out_errors(features, years, p).abs().mean() for p in PENALTIES])
        penalty = PENALTIES[int(errors.argmin())]
        weights = torch.linalg.solve(features.T @ features + penalty * torch.eye(features.shape[1]).double(),
                                     features.T @ years)  # fmt: skip
        self._state = {
            "centre": centre,
            "spread": spread,
            "weights": weights,
            "mean_age": ages.double().mean(),
            "people": torch.tensor(len(ages)),
        }
        return self

    def predict(self, shares: Tensor) -> Tensor:
        """Years, (N,) float64, from (N, K) shares; ValueError before a fit or for another number of structures."""
        state = self._fitted()
        if shares.ndim != 2 or shares.shape[1] != len(state["weights"]):
            raise ValueError(f"shares: found {tuple(shares.shape)}, wanted (N, {len(state['weights'])})")
        return (shares.double() - state["centre"]) / state["spread"] @ state["weights"] + state["mean_age"]

    @property
    def name(self) -> str:
        """What stands beside every number that comes of it."""
        return f"ridge regression on the volumes of {int(self._fitted()['people'])} target scans"

    def state(self) -> dict[str, Tensor]:
        """What `fit` learned, as named tensors."""
        return {name: value.clone() for name, value in self._fitted().items()}

    def load_state(self, state: dict[str, Tensor]) -> Self:
        """Take over what an earlier fit learned; ValueError for other names."""
        wanted = {"centre", "spread", "weights", "mean_age", "people"}
        if set(state) != wanted:
            raise ValueError(f"state: found {sorted(state)}, wanted {sorted(wanted)}")
        self._state = dict(state)
        return self

    def _fitted(self) -> dict[str, Tensor]:
        if not self._state:
            raise ValueError("age: found no fit, wanted fit or load_state before")
        return self._state


def leave_one_out_errors(features: Tensor, years: Tensor, penalty: float) -> Tensor:
    """Error of each person's age when ridge regression is fitted to the others, (N,), in closed form.

    With the hat matrix H = X (X'X + penalty)^-1 X' + 1/N, whose last part is the mean that is fitted too, the error is
    the residual divided by 1 - H_ii (features and years centred).
    """
    inverse = torch.linalg.inv(features.T @ features + penalty * torch.eye(features.shape[1]).to(features))
    hat = features @ inverse @ features.T + 1 / len(features)
    residual = years - hat @ years - years.mean()
    return residual / (1 - hat.diagonal())
