"""Fifteen labels in coronal slices by a network that has seen the target only: what Harmonizing Flows judges by.

Source: F. Beizaee et al., "Harmonizing Flows", 2023, section 4.1 (S_Phi), and three of its comparators, which change
how the network is trained or used instead of the image: BigAug (heavy augmentation in training), AUE (mean of the
predictions for changed images), TENT (the normalization adapts to the scans that it is given).
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam

from harmony_lite.images.checks import check_mask
from harmony_lite.images.intensity_maps import TOP
from harmony_lite.images.normalize import grey_levels
from harmony_lite.images.slices import brain_slices
from harmony_lite.nets.unet import UNet
from harmony_lite.profiles import sized
from harmony_lite.simulate import LABELS
from harmony_lite.tasks.segmentation import SegmentationSettings, SliceSegmenter

__all__ = ["SIZES", "StructureSettings", "StructureUNet"]

Change = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class StructureSettings(SegmentationSettings):
    """The network and its training; printed are 200 epochs, batches of 32, a learning rate of 4e-3 (section 4.1).

    Attributes:
        learning_rate: of Adam. Here it falls along a cosine, where the paper halves it every 30 epochs.
        rarity: a label counts in the loss as its share of the voxels to minus this power. The paper weighs none; with 0
            a short training never predicts the small structures, which cost next to nothing.
    """

    width: int = 32
    learning_rate: float = 4e-3
    training_steps: int = 9_400
    batch: int = 32
    rarity: float = 0.0


SIZES = {
    "quick": StructureSettings(width=12, training_steps=1600, batch=8, rarity=0.5),
    "gpu": StructureSettings(training_steps=3000, rarity=0.5),
    "full": StructureSettings(),
    "tiny": StructureSettings(width=3, training_steps=20, batch=4, rarity=0.5),
}


class StructureUNet(SliceSegmenter):
    """S_Phi: fourteen structures and the background, in coronal slices of 256 grey levels, by cross-entropy.

    Args:
        settings: of network and training.
        change: (slices of 0 to 255, generator) -> slices: what is done to a batch in training; nothing when None.
            BigAug trains with heavy changes.
    """

    name = "structure-unet"
    classifier = "structure U-Net"

    def __init__(self, settings: StructureSettings | None = None, change: Change | None = None) -> None:
        super().__init__(settings or sized(SIZES))
        self.change = change
        self._importance: Tensor | None = None  # (labels,): how much a voxel of each counts in the loss

    def _new_network(self) -> UNet:
        return UNet(self.settings.width, outputs=len(LABELS))

    def _prepared(self, volumes: Tensor, mask: Tensor) -> Tensor:
        return self._turned(grey_levels(volumes * mask, mask)) / TOP

    def _turned(self, volumes: Tensor) -> Tensor:
        return volumes.transpose(3, 4)  # y is the last axis, so that slices are coronal

    def fit(self, scans: Tensor, mask: Tensor, truth: Tensor, **options: Any) -> Self:
        """As for every such network; rare labels count more, as `StructureSettings.rarity` says.

        Raises:
            ValueError: labels that are none of the fifteen, or no structure at all; as every such network.
        """
        last = len(LABELS) - 1
        if truth.is_floating_point() or not 0 <= int(truth.min()) <= int(truth.max()) <= last:
            found = f"{truth.dtype} from {truth.min().item():g} to {truth.max().item():g}"
            raise ValueError(f"labels: found {found}, wanted whole numbers from 0 to {last}")
        if not truth[mask].any():
            raise ValueError(f"labels: found no structure inside the mask, wanted labels from 1 to {last}")
        counts = torch.bincount(truth.flatten().long(), minlength=len(LABELS)).clamp_min(1)
        shares = counts / counts.sum()
        rarity = shares**-self.settings.rarity
        self._importance = rarity / (rarity * shares).sum()  # a voxel counts 1 on average
        return super().fit(scans, mask, truth, **options)

    def _loss(self, logits: Tensor, truth: Tensor) -> Tensor:
        return functional.cross_entropy(logits, truth[:, 0].long(), weight=self._importance.to(logits.device))

    def _changed(self, slices: Tensor, generator: torch.Generator) -> Tensor:
        return slices if self.change is None else self.change((slices * TOP).round(), generator) / TOP

    # -------------------------------------------------------------------------------------------------- predictions

    def probabilities(self, image: Tensor, mask: Tensor) -> Tensor:
        """Of each label, in one volume.

        Args:
            image: (1, 1, D, H, W), any units.
            mask: bool, same shape: the brain.

        Returns:
            (labels, D, H, W), which add up to 1 inside the mask; outside, the background has 1.

        Raises:
            ValueError: no weights, several volumes, shapes that differ, an image without contrast.
        """
        check_mask(mask, image)
        if len(image) != 1:
            raise ValueError(f"image: found {len(image)} volumes, wanted one")
        return self._of_levels(grey_levels(image * mask, mask), mask)

    @torch.no_grad()
    def _of_levels(self, levels: Tensor, mask: Tensor) -> Tensor:
        """The same from grey levels as they are, whatever their range."""
        image, network, inside = self._turned(levels) / TOP, self.network.to(levels.device), self._turned(mask)
        slices = brain_slices(image, inside)  # (B, 1, D, W)
        found = torch.cat([network(part).softmax(1) for part in slices.split(32)])  # (B, labels, D, W)
        known = torch.zeros(len(LABELS), *inside.shape[2:], device=image.device)
        known[..., inside[0].flatten(0, 2).any(0)] = found.permute(1, 2, 3, 0)
        known = self._turned(known[None])[0] * mask[0]
        known[0] += ~mask[0, 0]
        return known

    def segment(self, images: Tensor, mask: Tensor) -> Tensor:
        """The likeliest label of each voxel: uint8 (N, 1, D, H, W), 0 outside the mask (N, 1, D, H, W)."""
        pairs = zip(images.split(1), mask.split(1), strict=True)
        return torch.stack([self.probabilities(*pair).argmax(0, keepdim=True) for pair in pairs]).to(torch.uint8)

    def entropy(self, images: Tensor, mask: Tensor) -> float:
        """Shannon entropy of the predictions in nats, mean over the brains' voxels: small where the network is sure."""
        total, count = 0.0, 0
        for image, inside in zip(images.split(1), mask.split(1), strict=True):
            total += float(torch.special.entr(self.probabilities(image, inside)).sum(0)[inside[0, 0]].sum())
            count += int(inside.sum())
        return total / count

    # -------------------------------------------------------------------------------------------------- comparators

    def averaged(self, images: Tensor, mask: Tensor, change: Change, *, times: int, seed: int = 0) -> Tensor:
        """AUE: the likeliest label by the mean of the predictions for changed copies of each volume.

        Source: G. Wang et al., "Aleatoric uncertainty estimation with test-time augmentation", Neurocomputing 2019.

        Args:
            images: (N, 1, D, H, W), any units.
            mask: bool, same shape.
            change: of slices of 0 to 255, as in training.
            times: copies, the unchanged one besides.
            seed: of the changes.
        """
        generator, found = torch.Generator().manual_seed(seed), []
        for image, inside in zip(images.split(1), mask.split(1), strict=True):
            levels = grey_levels(image * inside, inside)
            total = self._of_levels(levels, inside)
            for _ in range(times):
                changed = change(levels.flatten(3), generator).view_as(levels)  # the volume in one way, as one image
                total += self._of_levels(changed, inside)
            found.append(total.argmax(0, keepdim=True))
        return torch.stack(found).to(torch.uint8)

    def sharpened(
        self, images: Tensor, mask: Tensor, *, steps: int = 20, learning_rate: float = 1e-3, batch: int = 16
    ) -> Self:
        """TENT: normalization by the given scans' own statistics, its gains and offsets moved to less entropy.

        Source: D. Wang et al., "Tent: fully test-time adaptation by entropy minimization", ICLR 2021. This network
        stays as it is.

        Args:
            images: (N, 1, D, H, W) of one site.
            mask: bool, same shape.
            steps: of Adam.
            learning_rate: of Adam.
            batch: slices.
        """
        other = self.with_batch_statistics()
        network = other.network
        slices = brain_slices(self._prepared(images, mask), self._turned(mask))
        layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
        optimizer = Adam([p for layer in layers for p in layer.parameters()], lr=learning_rate)
        generator = torch.Generator().manual_seed(0)
        network.train()
        for _ in range(steps):
            chosen = torch.randint(len(slices), (min(batch, len(slices)),), generator=generator)
            loss = torch.special.entr(network(slices[chosen]).softmax(1)).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        network.eval()  # without running statistics the batch's own are used here too
        return other

    def with_batch_statistics(self) -> Self:
        """A copy whose normalization takes the statistics of the slices that it is given, not those of its training."""
        other = type(self)(self.settings, self.change)
        other._network = deepcopy(self.network)
        for layer in other.network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.track_running_stats, layer.running_mean, layer.running_var = False, None, None
        return other
