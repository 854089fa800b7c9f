"""The receive field taken out of a scan by N4."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harmony_lite.images.checks import check_images
from harmony_lite.images.normalize import foreground

__all__ = ["n4", "without_field"]

WORKING_SIZE = 32  # voxels along the longest axis of the copy that the field is fitted on, about
FEWEST = 8  # voxels of the coarser copy along an axis, where the volume has as many
ITERATIONS = (50, 50, 50, 50)  # at most so many on each of the fitting levels


def without_field(
    images: Tensor, mask: Tensor, *, working_size: int = WORKING_SIZE, iterations: tuple[int, ...] = ITERATIONS
) -> Tensor:
    """Volumes with their receive field divided out, in their own units; how coarsely, follows from their size.

    Args:
        images: `(N, 1, D, H, W)`, scanner units, none below 0.
        mask: bool, same shape: the brain.
        working_size: voxels along the longest axis of the copy that the field is fitted on, about. At 2 mm the copy
            takes every 3rd voxel, at 1 mm every 6th; a finer copy took three times as long and corrected no better.
        iterations: at most so many on each of the fitting levels.

    Raises:
        ValueError: as `n4`.
    """
    shrink = max(1, round(max(images.shape[2:]) / working_size))
    return n4(images, mask, shrink=shrink, iterations=iterations)


def n4(
    volumes: Tensor, mask: Tensor | None = None, *, shrink: int = 4, iterations: tuple[int, ...] = ITERATIONS
) -> Tensor:
    """Receive-field correction by N4 (Tustison et al., IEEE TMI 29, 2010; SimpleITK), with its standard settings.

    The field is found on a coarser copy inside the mask and divided out of the full volume, everywhere.

    Args:
        volumes: `(N, 1, D, H, W)`; values are not negative. A volume of one axial slice is corrected as an image.
        mask: bool, same shape; the foreground where absent.
        shrink: factor of the coarser copy; 4 suits voxels of 1 mm, 2 those of 2 mm. An axis of few slices is thinned
            less, so that 8 voxels are left along it.
        iterations: at most so many per fitting level.

    Raises:
        ValueError: not volumes, not finite, negative or without contrast; a mask of another shape; a volume that N4
            finds no field of.
    """
    import SimpleITK as sitk

    if volumes.ndim != 5:
        raise ValueError(f"volumes: found shape {tuple(volumes.shape)}, wanted (N, 1, D, H, W)")
    check_images(volumes, mask, what="volumes")
    if float(volumes.min()) < 0:
        raise ValueError(f"volumes: found the value {float(volumes.min()):g}, wanted none below 0 for N4")
    mask = foreground(volumes) if mask is None else mask
    is_slice = volumes.shape[-1] == 1
    corrected = []
    for volume, inside in zip(volumes, mask, strict=True):
        values, brain = volume[0].detach().cpu().numpy(), inside[0].cpu().numpy().astype(np.uint8)
        whole, region = (sitk.GetImageFromArray(part[..., 0] if is_slice else part) for part in (values, brain))
        filter_ = sitk.N4BiasFieldCorrectionImageFilter()
        filter_.SetMaximumNumberOfIterations(list(iterations))
        factors = [max(1, min(shrink, size // FEWEST)) for size in whole.GetSize()]
        try:
            filter_.Execute(sitk.Shrink(whole, factors), sitk.Shrink(region, factors))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ValueError(f"volumes: found no field by N4 ({reason}), wanted a volume with a brain in it") from error
        field = sitk.GetArrayFromImage(filter_.GetLogBiasFieldAsImage(whole)).reshape(values.shape)
        del whole, region, filter_  # copies of the volume, which is large
        corrected.append(volume / torch.from_numpy(np.exp(field, out=field)).to(volume))
        del field
    return corrected[0][None] if len(corrected) == 1 else torch.stack(corrected)
