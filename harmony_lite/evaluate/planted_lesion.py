"""A lesion whose place is known, planted into a scan: what is left of it after a method?

BlindHarmonyDiff shows one that vanishes and comes back (Jeong et al., 2025, section 4.7 and Figure 6). Here its place
and its contrast are known, so that what is left is a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from scipy import ndimage
from torch import Tensor

__all__ = ["PlantedLesion"]

WHITE = 0.9  # of a voxel: enough white matter to be planted in, and to compare with
RING = 3  # voxels: how far around the lesion white matter counts


@dataclass(frozen=True)
class PlantedLesion:
    """A dark ball in the white matter of one person.

    Attributes:
        inside: bool (D, H, W): the ball.
        around: bool (D, H, W): white matter near the ball, but not touching it.
        dark: the ball's intensity, as a share of the mean around it.
    """

    inside: Tensor
    around: Tensor
    dark: float

    @classmethod
    def deepest(cls, tissues: Tensor, *, lesions: Tensor | None = None, radius: float = 3.0, dark: float = 0.6) -> Self:
        """Where white matter is thickest, so that no other border is near.

        Args:
            tissues: (1, 3, D, H, W): fractions of CSF, GM and WM.
            lesions: bool (1, 1, D, H, W): what the person has already, which is kept away from.
            radius: voxels.
            dark: as a share of the white matter around; 0.6 is about grey matter's in T1w.

        Raises:
            ValueError: no voxel with so much white matter around it.
        """
        white = (tissues[0, 2] > WHITE).cpu().numpy()
        if lesions is not None:
            white &= ~lesions[0, 0].cpu().numpy()
        depth = ndimage.distance_transform_edt(white)
        if depth.max() <= radius:
            found = f"white matter at most {depth.max():.1f} voxels from its border"
            raise ValueError(f"tissues: found {found}, wanted more than the radius, {radius:g}")
        place = torch.from_numpy(depth).flatten().argmax()
        alone = torch.ones(depth.size, dtype=torch.bool).index_fill(0, place, False).reshape(depth.shape)
        away = torch.from_numpy(ndimage.distance_transform_edt(alone.numpy()))
        ring = (away > radius + 1) & (away <= radius + 1 + RING) & torch.from_numpy(white)
        return cls(away <= radius, ring, dark)

    def into(self, scan: Tensor) -> Tensor:
        """A copy of a scan (1, 1, D, H, W) with the lesion in it."""
        planted = scan.clone()
        planted[0, 0][self.inside] = self.dark * scan[0, 0][self.around].mean()
        return planted

    def contrast(self, image: Tensor) -> float:
        """How far the ball's mean lies below that of its surroundings, as a share of the latter; (1, 1, D, H, W)."""
        values = image[0, 0]
        return float(1 - values[self.inside].mean() / values[self.around].mean())

    def share_left(self, image: Tensor) -> float:
        """The lesion's contrast in an image, as a share of that in the planted scan: 1 for all, 0 for nothing.

        >>> tissues = torch.zeros(1, 3, 16, 16, 16)
        >>> tissues[:, 2, 1:-1, 1:-1, 1:-1] = 1
        >>> lesion, scan = PlantedLesion.deepest(tissues), torch.full((1, 1, 16, 16, 16), 100.0)
        >>> round(lesion.share_left(lesion.into(scan)), 3), lesion.share_left(scan)
        (1.0, 0.0)
        """
        return self.contrast(image) / (1 - self.dark)
