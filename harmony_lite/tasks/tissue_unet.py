"""Three tissues in axial slices by a network that has seen the target only: BlindHarmonyDiff's first task.

Source: H. Jeong et al., "Efficient and robust 3D blind harmonization for large domain gaps", 2025, section 4.5 and
supplement S3.5: a U-Net with four down and four up blocks, the L1 loss, Adam. Their labels are FSL FAST's; here they
are the true tissue of simulated people.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from harmony_lite.images.checks import check_mask
from harmony_lite.images.normalize import subject_percentile
from harmony_lite.images.slices import through_slices
from harmony_lite.nets.unet import UNet
from harmony_lite.profiles import sized
from harmony_lite.tasks.segmentation import SegmentationSettings, SliceSegmenter
from harmony_lite.tasks.tissue import CLASSES

__all__ = ["TissueSettings", "TissueUNet"]


@dataclass(frozen=True)
class TissueSettings(SegmentationSettings):
    """The network and its training; only the learning rate is printed, which falls along a cosine here."""

    learning_rate: float = 1e-4
    training_steps: int = 60_000


SIZES = {
    "quick": TissueSettings(width=12, learning_rate=1e-3, training_steps=900, batch=8),
    "gpu": TissueSettings(width=24, learning_rate=1e-3, training_steps=2500),
    "full": TissueSettings(),
    "tiny": TissueSettings(width=3, learning_rate=1e-3, training_steps=20, batch=4),
}


class TissueUNet(SliceSegmenter):
    """CSF, grey and white matter in axial slices of volumes scaled by their own 1st and 99th percentiles.

    Example: `TissueUNet.shipped().segment(scans, mask)`.
    """

    name = "tissue-unet"
    classifier = "tissue U-Net"

    def __init__(self, settings: TissueSettings | None = None) -> None:
        super().__init__(settings or sized(SIZES))

    def _new_network(self) -> UNet:
        return UNet(self.settings.width, outputs=len(CLASSES))

    def _prepared(self, volumes: Tensor, mask: Tensor) -> Tensor:
        return subject_percentile(volumes, mask) * mask

    def _turned(self, volumes: Tensor) -> Tensor:
        return volumes

    def _loss(self, logits: Tensor, truth: Tensor) -> Tensor:
        """L1 between shares and truth, where there is a tissue: slices (B, 3, D, H) and (B, 1, D, H) of 0 to 3."""
        inside = truth[:, 0] > 0
        wanted = functional.one_hot((truth[:, 0].long() - 1).clamp_min(0), len(CLASSES)).movedim(-1, 1)
        return ((logits.softmax(1) - wanted).abs().mean(1) * inside).sum() / inside.sum()

    @torch.no_grad()
    def segment(self, images: Tensor, mask: Tensor) -> Tensor:
        """Tissues of volumes.

        Args:
            images: (N, 1, D, H, W), any units.
            mask: bool, same shape: the brain.

        Returns:
            uint8, same shape: 1 CSF, 2 grey matter, 3 white matter, 0 outside the mask.

        Raises:
            ValueError: no weights, shapes that differ, images without contrast.
        """
        check_mask(mask, images)
        network = self.network.to(images.device)
        found = through_slices(
            self._prepared(images, mask), mask, lambda slices, *_: network(slices).argmax(1, keepdim=True) + 1.0
        )
        return found.to(torch.uint8) * mask
