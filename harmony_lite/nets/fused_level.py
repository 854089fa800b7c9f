"""A level of the flow with every run of linear maps as one convolution: a short cut that the lesson can do without."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from nflows.transforms import ActNorm, CompositeTransform, OneByOneConvolution, Transform
from torch import Tensor
from torch.nn import functional

__all__ = ["FusedLevel"]


class FusedLevel(CompositeTransform):
    """A level in which every run of ActNorms and 1x1 convolutions is one convolution.

    ActNorm multiplies and shifts channels, a 1x1 convolution mixes them: both are `W x + b` at every pixel, so a run of
    them is one such map, and its log-determinant per pixel is the sum of theirs. It is multiplied out from the
    parameters at each call while they may change; in evaluation mode without gradients it is kept until a parameter
    has changed, `train()` is called, or the flow moves to another device or type.
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        super().__init__(transforms)
        self._kept: dict[tuple[int, bool], tuple[tuple, tuple[Tensor, Tensor, Tensor]]] = {}
        self._runs = [
            (is_linear, list(positions))
            for is_linear, positions in groupby(range(len(self._transforms)), self._is_linear_at)
        ]

    def _is_linear_at(self, position: int) -> bool:
        return isinstance(self._transforms[position], ActNorm | OneByOneConvolution)

    def train(self, mode: bool = True) -> FusedLevel:
        """Training or evaluation mode; whatever was multiplied out is forgotten."""
        self._kept.clear()
        return super().train(mode)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) to (B, 4C, H/2, W/2) and the log-determinant (B,)."""
        return self._through(inputs, inverse=False)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The way back."""
        return self._through(inputs, inverse=True)

    def _through(self, values: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        total = values.new_zeros(len(values))
        for is_linear, positions in reversed(self._runs) if inverse else self._runs:
            if is_linear and self._are_initialized(positions):
                weight, bias, per_pixel = self._fused(positions, inverse)
                total = total + per_pixel * values[0, 0].numel()
                values = functional.conv2d(values, weight[:, :, None, None], bias)
                continue
            for position in reversed(positions) if inverse else positions:
                transform = self._transforms[position]
                values, log_det = (transform.inverse if inverse else transform)(values)
                total = total + log_det
        return values, total

    def _are_initialized(self, positions: Sequence[int]) -> bool:
        """ActNorm takes its first values from the first batch in training, which it has to see by itself."""
        norms = [self._transforms[p] for p in positions if isinstance(self._transforms[p], ActNorm)]
        return not self.training or all(norm.initialized for norm in norms)

    def _fused(self, positions: Sequence[int], inverse: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Weight (C, C), bias (C,) and log-determinant per pixel of a run, one way or the other."""
        if self.training or torch.is_grad_enabled():
            return self._multiplied_out(positions, inverse)
        key = positions[0], inverse
        parameters = [p for position in positions for p in self._transforms[position].parameters()]
        state = tuple((p.data_ptr(), p._version, p.dtype) for p in parameters)  # any change in place raises the version
        if self._kept.get(key, (None,))[0] != state:
            self._kept[key] = state, self._multiplied_out(positions, inverse)
        return self._kept[key][1]

    def _multiplied_out(self, positions: Sequence[int], inverse: bool) -> tuple[Tensor, Tensor, Tensor]:
        weight, bias, per_pixel = _as_map(self._transforms[positions[0]])
        for position in positions[1:]:
            after, shift, log_det = _as_map(self._transforms[position])
            weight, bias, per_pixel = after @ weight, after @ bias + shift, per_pixel + log_det
        if inverse:
            weight = torch.linalg.inv(weight)
            return weight, -(weight @ bias), -per_pixel
        return weight, bias, per_pixel


def _as_map(transform: ActNorm | OneByOneConvolution) -> tuple[Tensor, Tensor, Tensor]:
    """`W x + b` at a pixel, and the logarithm of |det W|: (C, C), (C,) and a number."""
    if isinstance(transform, ActNorm):
        return torch.diag(transform.scale), transform.shift, transform.log_scale.sum()
    lower, upper = transform._create_lower_upper()
    permuted = (lower @ upper)[:, torch.argsort(transform.permutation._permutation)]  # nflows permutes first
    return permuted, transform.bias, transform.logabsdet()
