"""A level of the flow with every run of linear maps as one convolution: a short cut that the lesson can do without.

On a GPU the whole flow can be recorded as a CUDA graph, which holds no choice that Python makes by a tensor's value and
nothing that comes from the processor's memory. So nflows' two linear maps are changed in how they work, not in what
they compute: `StoredActNorm` and `IndexedConvolution`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from nflows.transforms import ActNorm, CompositeTransform, OneByOneConvolution, Transform
from torch import Tensor
from torch.nn import functional

__all__ = ["FusedLevel", "IndexedConvolution", "StoredActNorm"]


class StoredActNorm(ActNorm):
    """nflows' ActNorm, which remembers in Python whether its first batch has set it."""

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self._is_set: bool | None = None

    @property
    def is_set(self) -> bool:
        """Whether a first batch, or a state that was loaded, has set scale and shift."""
        if self._is_set is None:
            self._is_set = bool(self.initialized)
        return self._is_set

    def _initialize(self, inputs: Tensor) -> None:
        super()._initialize(inputs)
        self._is_set = True

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self._is_set = None


class IndexedConvolution(OneByOneConvolution):
    """nflows' invertible 1x1 convolution, with the places of its triangles on the parameters' device."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        places = {"lower_places": self.lower_indices, "upper_places": self.upper_indices}
        for name, indices in places.items():
            self.register_buffer(name, torch.from_numpy(np.stack(indices)), persistent=False)
        self.register_buffer("identity", torch.eye(channels), persistent=False)

    def _create_lower_upper(self) -> tuple[Tensor, Tensor]:
        lower = self.identity.index_put(tuple(self.lower_places), self.lower_entries)
        upper = torch.diag(self.upper_diag).index_put(tuple(self.upper_places), self.upper_entries)
        return lower, upper


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
        return not self.training or all(norm.is_set for norm in norms)

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
