"""Batch normalization of volumes whose statistics are right in every memory order."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["VolumeNorm"]


class VolumeNorm(nn.BatchNorm3d):
    """`torch.nn.BatchNorm3d`, whose training on a CPU is the same in every memory order of (B, C, D, H, W).

    With channels last, PyTorch 2.13 adds up the voxels of a channel one after another in float32: with a million
    voxels, the mean is off by 0.1 % of the deviation or more, by how much depends on the processor and its threads.
    In contiguous memory this does not happen. The copy there and back costs less time than it saves.

    >>> norm = VolumeNorm(8)
    >>> volumes = torch.rand(2, 8, 6, 6, 6).to(memory_format=torch.channels_last_3d)
    >>> norm(volumes).is_contiguous(memory_format=torch.channels_last_3d)
    True
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalized volumes, in the memory order of `input`."""
        last = torch.channels_last_3d
        if self.training and input.device.type == "cpu" and input.is_contiguous(memory_format=last):
            return super().forward(input.contiguous()).contiguous(memory_format=last)
        return super().forward(input)
