"""A volume as stacks of three neighbouring axial slices, and back: each slice is the mean of its three appearances.

Liu et al. (2021) show their networks three slices as an image's three colours, and average over slices of three
orientations. Here slices are axial.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harmony_lite.images.normalize import pad_to_multiple, subject_percentile

__all__ = ["brain_stacks", "neighbours", "scaled_stacks", "unstacked"]


def brain_stacks(images: Tensor, mask: Tensor, multiple: int) -> Tensor:
    """Stacks (B, 3, D, H) around each slice with brain, of scans scaled to [0, 1] each by itself; 0 elsewhere.

    Args:
        images: (N, 1, D, H, W), any units.
        mask: bool, same shape: the brain.
        multiple: D and H are filled up with 0 to one of it.
    """
    return pad_to_multiple(scaled_stacks(images, mask)[mask[:, 0].any((1, 2))], multiple)[0]


def scaled_stacks(images: Tensor, mask: Tensor) -> Tensor:
    """Every slice with its neighbours, (N, W, 3, D, H), of scans scaled to [0, 1] each by itself; 0 off the mask."""
    return neighbours(subject_percentile(images.float(), mask) * mask)


def neighbours(volumes: Tensor) -> Tensor:
    """Each axial slice with the one below and the one above: (N, 1, D, H, W) to (N, W, 3, D, H); ends are repeated.

    >>> neighbours(torch.arange(3.0).reshape(1, 1, 1, 1, 3)).flatten(2).tolist()
    [[[0.0, 0.0, 1.0], [0.0, 1.0, 2.0], [1.0, 2.0, 2.0]]]
    """
    slices = volumes[:, 0].movedim(-1, 1)  # (N, W, D, H)
    below, above = torch.cat([slices[:, :1], slices[:, :-1]], 1), torch.cat([slices[:, 1:], slices[:, -1:]], 1)
    return torch.stack([below, slices, above], 2)


def unstacked(stacks: Tensor) -> Tensor:
    """Every slice as the mean of its appearances: (W, 3, D, H) to (1, 1, D, H, W).

    >>> unstacked(neighbours(torch.arange(3.0).reshape(1, 1, 1, 1, 3))[0]).flatten().tolist()
    [0.0, 1.0, 2.0]
    """
    below, own, above = stacks.unbind(1)  # of each stack
    total, count = own.clone(), torch.ones(len(own), 1, 1, device=own.device)
    total[1:] += above[:-1]
    total[:-1] += below[1:]
    count[1:] += 1
    count[:-1] += 1
    return (total / count).movedim(0, -1)[None, None]
