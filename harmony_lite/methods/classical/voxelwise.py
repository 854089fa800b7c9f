"""What ComBat and RAVEL share: scans in template space as a table of scans x voxels, and back.

The voxels are those in the brain of every training scan: three quarters of a person's brain for 24 simulated training
people at 2 mm, since everybody's head has its own shape. Voxels of a person's brain outside this common one have no
parameters of their own: they take the straight line that fits best what the method did to the other voxels of that
scan. Voxels outside the mask that are exactly 0, the background of a masked scan, stay 0.

The parameters are as many as the voxels, so they are not shipped: a method is fitted on the spot, on scans of the
scanners in question.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from harmony_lite.cohort import Needs, SeveralScanners
from harmony_lite.images.checks import check_images
from harmony_lite.methods.protocol import Harmonizer
from harmony_lite.methods.shipping import Shipping

__all__ = ["Voxelwise"]


class Voxelwise(Harmonizer):
    """A method that is fitted to, and applied to, a table of scans x voxels."""

    needs: ClassVar[Needs] = Needs.SEVERAL_SCANNERS
    shipping: ClassVar[Shipping | None] = None
    takes_slices: ClassVar[bool] = False

    def __init__(self) -> None:
        self._mask: Tensor | None = None  # (D, H, W) bool, the training people's common brain
        self._units: Tensor | None = None  # (2,) the target's offset and span

    @abstractmethod
    def scale(self, images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Offset and span of each scan, (N,) each: scans are compared as (intensity - offset) / span."""

    def _table(self, view: SeveralScanners) -> tuple[np.ndarray, list[str]]:
        """Scans x voxels of the common brain, float32, and each row's scanner; the first scanner gives the units."""
        for name, scans in view.scanners.items():
            check_images(scans.images, scans.mask, what=f"scans of {name}")
        mask = torch.stack([scans.mask.all(0)[0] for scans in view.scanners.values()]).all(0)
        found = int(mask.sum())
        if found < 2:
            raise ValueError(f"masks: found {found} voxels inside all of them, wanted scans in template space")
        rows, names = [], []
        for name, scans in view.scanners.items():
            offset, span = self.scale(scans.images.float(), scans.mask)
            if not names:
                self._units = torch.stack([offset.mean(), span.mean()]).cpu()
            rows.append(((scans.images.float() - _wide(offset)) / _wide(span))[:, 0, mask].cpu())
            names += [name] * len(offset)
        self._mask = mask.cpu()
        return torch.cat(rows).numpy(), names

    def _through_table(self, images: Tensor, mask: Tensor, apply: Callable[[np.ndarray], np.ndarray]) -> Tensor:
        """Images as a table through `apply`, which takes and gives (n, F), and back in the target's units."""
        common, units = self._grid()
        if images.shape[2:] != common.shape:
            found = tuple(images.shape[2:])
            raise ValueError(f"images: found the grid {found}, wanted {tuple(common.shape)} of the fit")
        offset, span = self.scale(images, mask)
        relative = (images - _wide(offset)) / _wide(span)
        common = common.to(images.device)
        before = relative[:, 0, common].cpu().double()
        after = torch.from_numpy(apply(before.numpy()))
        result = torch.stack([_line(*pair, image) for *pair, image in zip(before, after, relative, strict=True)])
        result[:, 0, common] = after.to(result)
        result = result * float(units[1]) + float(units[0])
        return torch.where(~mask & (images == 0), 0.0, result)

    @property
    def is_fitted(self) -> bool:
        """Whether there are parameters."""
        return self._mask is not None

    def _grid(self) -> tuple[Tensor, Tensor]:
        self.check_fitted()
        return self._mask, self._units

    def _grid_state(self) -> dict[str, Tensor]:
        """`mask` (D, H, W) uint8 and `units` (2,)."""
        mask, units = self._grid()
        return {"mask": mask.to(torch.uint8), "units": units.clone()}

    def _load_grid(self, state: dict[str, Tensor]) -> None:
        self._mask, self._units = state["mask"].bool(), state["units"].float()


def _line(before: Tensor, after: Tensor, image: Tensor) -> Tensor:
    """The image on the straight line that fits `after` best from `before`, (F,) both."""
    centred = before - before.mean()
    slope = float((centred * after).sum() / centred.square().sum())
    return slope * image + float(after.mean() - slope * before.mean())


def _wide(values: Tensor) -> Tensor:
    return values[:, None, None, None, None]
