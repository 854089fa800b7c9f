"""SSIMH: an image's lowest frequencies are swapped for those of the averaged target image.

It takes volumes. Because it adds an image, voxel by voxel, every volume has to lie on the grid of the target's people,
in the same place (a template's grid); another grid is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from harmony_lite.cohort import Needs, OneReference, TargetOnly
from harmony_lite.images.checks import check_volumes
from harmony_lite.methods.averaged_image import check_grid, mean_image
from harmony_lite.methods.classical.matching import Percentile
from harmony_lite.methods.protocol import Harmonizer, check_names
from harmony_lite.methods.shipping import Shipping

__all__ = ["Ssimh", "SsimhSettings", "low_frequencies", "swap_low_frequencies"]


@dataclass(frozen=True)
class SsimhSettings:
    """How much is swapped, and in what.

    Attributes:
        cutoff: share of each axis' frequencies that is swapped, the lowest ones, the mean among them. The papers that
            compare with the method print none. 0.05 swaps waves longer than 40 voxels, 80 mm at 2 mm and 48 mm at
            1.2 mm: as wide as a receive field, wider than what one person's anatomy has of its own.
        per_slice: two-dimensional, each axial slice with the average of the target's slices at its place.
    """

    cutoff: float = 0.05
    per_slice: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.cutoff <= 1:
            raise ValueError(f"cutoff: found {self.cutoff:g}, wanted above 0 and at most 1")

    @property
    def axes(self) -> tuple[int, ...]:
        """Of a volume `(D, H, W)`, whose last axis counts axial slices."""
        return (0, 1) if self.per_slice else (0, 1, 2)


def low_frequencies(volume: np.ndarray, cutoff: float, axes: tuple[int, ...] = (0, 1, 2)) -> np.ndarray:
    """The lowest coefficients of the cosine transform (DCT-II), divided by the number of voxels of the axes.

    Args:
        volume: `(D, H, W)`.
        cutoff: share of each of the axes that is kept, rounded up; above 0, at most 1.
        axes: that are transformed.

    Returns:
        The corner of the transform, as long as `volume` along the axes that are not transformed.

    >>> low_frequencies(np.full((8, 8, 4), 3.0), 0.25).shape
    (2, 2, 1)
    """
    return _lowest(volume, _kept(volume.shape, cutoff, axes), axes)


def swap_low_frequencies(volume: np.ndarray, low: np.ndarray, axes: tuple[int, ...] = (0, 1, 2)) -> np.ndarray:
    """A volume with its lowest frequencies replaced; the others stay as they are.

    Args:
        volume: `(D, H, W)`.
        low: as `low_frequencies` gives it, of a volume on the same grid.
        axes: those of `low`.

    Returns:
        `(D, H, W)`, in the precision of the volume.

    >>> swapped = swap_low_frequencies(np.full((8, 8, 4), 3.0), low_frequencies(np.full((8, 8, 4), 5.0), 0.25))
    >>> bool(np.allclose(swapped, 5))
    True
    """
    from scipy.fft import idct

    # the transform is linear: what is added has these frequencies alone, and the others need not be computed
    added = low - _lowest(volume, low.shape, axes)
    for axis in axes[1:]:
        added = idct(added, n=volume.shape[axis], axis=axis, norm="forward")
    result = np.empty(volume.shape, volume.dtype)
    for k in range(volume.shape[1]):  # in slabs, for a whole volume in double precision is large
        result[:, k] = volume[:, k] + idct(added[:, k], n=volume.shape[0], axis=0, norm="forward")
    return result


def _lowest(volume: np.ndarray, kept: tuple[int, ...], axes: tuple[int, ...]) -> np.ndarray:
    """The first coefficients, as many as `kept` along each axis: axis by axis, each cut before the next."""
    from scipy.fft import dct

    def along(part: np.ndarray, axis: int, count: int) -> np.ndarray:
        return dct(part, axis=axis, norm="forward").take(np.arange(count), axis)

    last = axes[-1]  # is not the first axis of the volume, which the slabs are taken along
    found = np.stack([along(slab.astype(np.float64), last - 1, kept[last]) for slab in volume])
    for axis in axes[:-1]:
        found = along(found, axis, kept[axis])
    return found


def _kept(shape: tuple[int, ...], cutoff: float, axes: tuple[int, ...]) -> tuple[int, ...]:
    # the small number keeps a product such as 0.05 * 80 from being rounded up past the whole number that it is
    return tuple(int(np.ceil(cutoff * size - 1e-9)) if axis in axes else size for axis, size in enumerate(shape))


class Ssimh(Harmonizer):
    """Swap the low frequencies with those of the averaged target image (spectrum swapping, SSIMH).

    Source: H. Guan et al., "Fast image-level MRI harmonization via spectrum analysis", MLMI 2022, as both BlindHarmony
    papers use it: with the cosine transform and the average of target images, in volumes (BlindHarmonyDiff, section
    4.1) or slice by slice (its supplement). Theirs are images of one range; here the source's 1st and 99th percentile
    are matched to the target's first, so that low and high frequencies have one unit.

    The swap has a hard edge, which rings around the head; there the exact zeros of a masked scan are put back.

    State: the coefficients alone (80 numbers for the volume at 2 mm, 1,600 for its slices), the grid, the percentiles.
    """

    name: ClassVar[str] = "ssimh"
    needs: ClassVar[Needs] = Needs.TARGET_ONLY
    variants: ClassVar[tuple[str, ...]] = ("volume", "slice")
    shipping: ClassVar[Shipping | None] = Shipping()
    reference_is_enough: ClassVar[bool] = True  # the original swaps with one image

    def __init__(self, settings: SsimhSettings | None = None) -> None:
        self.settings = settings or SsimhSettings()
        self._percentile = Percentile()
        self._low: Tensor | None = None
        self._grid: tuple[int, ...] = ()

    @classmethod
    def from_variant(cls, variant: str) -> Self:
        """`volume` swaps in three dimensions, `slice` in two."""
        return cls(SsimhSettings(per_slice=variant == "slice"))

    def fit(self, view: TargetOnly | OneReference, *, generator: torch.Generator | None = None) -> Self:
        """Take the low frequencies of the averaged target, or of one reference, and its percentiles.

        Nothing is random; `generator` is not used.

        Raises:
            ValueError: scans that are not volumes, not finite or have no contrast inside the mask.
        """
        scans = view.reference if isinstance(view, OneReference) else view.target
        check_volumes(scans.images, scans.mask, what="target scans")
        self._percentile.fit(view)
        mean = mean_image(scans.images)
        self._grid = mean.shape
        self._low = torch.from_numpy(low_frequencies(mean, self.settings.cutoff, self.settings.axes)).float()
        return self

    def _harmonize(self, images: Tensor, mask: Tensor, scanner: str | None) -> Tensor:
        check_grid(images, self._grid)
        low, axes = self._low.numpy(), self.settings.axes
        if images.shape[-1] == 1:  # a slice: swapped in two dimensions, with the mean over all heights
            low, axes = low_frequencies(self._smooth_slice(), self.settings.cutoff, (0, 1)), (0, 1)
        matched = self._percentile.harmonize(images, mask=mask)
        for image in matched:
            image[0] = torch.from_numpy(swap_low_frequencies(image[0].cpu().numpy(), low, axes)).to(image)
        return matched.masked_fill_((images == 0) & ~mask, 0)

    def _smooth_slice(self) -> np.ndarray:
        """The target's low frequencies as an image (D, H, 1): the mean over the heights where its head is."""
        volume = swap_low_frequencies(np.zeros(self._grid), self._low.numpy(), self.settings.axes)
        brightness = volume.mean((0, 1))
        return volume[..., brightness > brightness.max() / 2].mean(-1, keepdims=True)

    @property
    def is_fitted(self) -> bool:
        """Whether there are coefficients."""
        return self._low is not None

    def state(self) -> dict[str, Tensor]:
        """`low` (d, h, w) or, slice by slice, (d, h, W); `grid` (3,) whole numbers; `percentiles` (2,), target's units.

        Coefficients are divided by the number of voxels, so that they are no larger than intensities.
        """
        if self._low is None:
            return {}
        percentiles = self._percentile.state()["standard"]
        return {"low": self._low.clone(), "grid": torch.tensor(self._grid), "percentiles": percentiles}

    def load_state(self, state: dict[str, Tensor]) -> Self:
        """Take over what an earlier fit learned.

        Raises:
            ValueError: other names, or a block of coefficients that is not what the cut-off keeps of the grid.
        """
        check_names(self.name, state, {"low", "grid", "percentiles"})
        grid = tuple(int(size) for size in state["grid"])
        wanted = _kept(grid, self.settings.cutoff, self.settings.axes)
        if len(grid) != 3 or tuple(state["low"].shape) != wanted:
            raise ValueError(
                f"{self.name}: found coefficients of shape {tuple(state['low'].shape)}, wanted {wanted} for the grid "
                f"{grid} and the cut-off {self.settings.cutoff:g}"
            )
        self._percentile.load_state({"standard": state["percentiles"]})
        self._low, self._grid = state["low"].float(), grid
        return self
