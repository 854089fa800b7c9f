"""S_Phi, the network that every row of the tables is judged by, and the comparators that change it (section 4.1).

BigAug (L. Zhang et al., "Generalizing deep learning for medical image segmentation to unseen domains via deep stacked
transformation", IEEE TMI 2020) trains the network on heavily changed slices. AUE (G. Wang et al., "Aleatoric
uncertainty estimation with test-time augmentation", Neurocomputing 2019) asks it about changed copies of each scan.
Both leave the scans as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from harmony_lite.images.intensity_maps import TOP
from harmony_lite.papers.harmonizing_flows.augmentation import PRETRAINING, Changes, augmented
from harmony_lite.tasks.structures import StructureUNet

__all__ = ["BIGAUG", "PLAIN", "big_changes", "judge", "small_changes"]

PLAIN, BIGAUG = "plain", "bigaug"
_SMALL = Changes(brightness=15.0, factors=(0.9, 1.1), powers=(0.8, 1.25), share=0.75, by_curve_alone=0.0)
_NOISE = 10.0  # grey levels, standard deviation at most
_KERNEL = torch.tensor([1.0, 2.0, 1.0]) / 4


def big_changes(levels: Tensor, generator: torch.Generator) -> Tensor:
    """Heavily changed slices (B, 1, H, W) of 0 to 255, each in its own way: tone, then blur, then noise.

    BigAug stacks nine changes; the three that move or bend the slice are left out, since all people here lie in the
    template's place.
    """
    batch, inside = len(levels), levels > 0

    def drawn() -> Tensor:
        return torch.rand(batch, 1, 1, 1, generator=generator, device=generator.device)

    changed = augmented(levels, PRETRAINING, generator)
    kernel = (_KERNEL[:, None] * _KERNEL)[None, None].to(levels)
    changed = torch.where(drawn() < 0.5, functional.conv2d(changed, kernel, padding=1), changed)
    noise = torch.randn(levels.shape, generator=generator, device=generator.device)
    changed = changed + _NOISE * drawn() * noise * (drawn() < 0.5)
    return changed.round().clamp(0, TOP) * inside


def small_changes(levels: Tensor, generator: torch.Generator) -> Tensor:
    """Slightly changed slices, for AUE: brightness, factor and gamma, no curve and no noise."""
    return augmented(levels, _SMALL, generator)


def judge(target: str, training: str = PLAIN) -> StructureUNet:
    """S_Phi of a target site, with the shipped weights; `training` is `PLAIN` or `BIGAUG`.

    Raises:
        FileNotFoundError: no weights for this site and training.
    """
    return StructureUNet.shipped(f"{training}.{target}")
