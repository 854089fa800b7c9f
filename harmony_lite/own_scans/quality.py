"""What the quality page shows of one scan: pictures before and after, their difference, and a few numbers."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

__all__ = ["Look", "Picture", "detail_kept", "look"]

HEIGHT = 150  # pixels of a picture: three views side by side
WINDOW = 0.25  # of the brain's range: a difference beyond it has the darkest colour
RIM = 6.0  # mm
BINS = 64
# blue for darker, orange for brighter: two colours that hardly anybody confuses
DARKER, BRIGHTER = np.array([33, 102, 172]), np.array([217, 95, 2])
PAPER = 255


@dataclass(frozen=True)
class Picture:
    """One image of the page.

    Attributes:
        webp: its bytes.
        size: width and height in pixels.
        alt: what somebody is told who does not see it.
    """

    webp: bytes
    size: tuple[int, int]
    alt: str


@dataclass(frozen=True)
class Look:
    """Pictures and numbers of one scan.

    Attributes:
        before: three views of the scan, between the 1st and 99th percentile of its brain.
        after: the same of the result.
        difference: after minus before, each scaled by its own percentiles.
        histograms: (2, 64) shares of the brain's voxels before and after, over that scale from -0.1 to 1.2.
        percentiles: (2, 3): 1st, 50th and 99th before and after, in units of the files.
        ncc: correlation of the result with the scan inside the brain.
        detail: correlation of the lengths of their gradients, which tells whether edges stayed.
        changed: the largest change in a neighbourhood of 3 mm, as a share of the brain's range; not at the rim, where
            a voxel is half background.
        place: where that is, in mm of the scan's space.
        name: what the scan is called.
        remarks: what is odd about it.
    """

    before: Picture
    after: Picture
    difference: Picture
    histograms: np.ndarray
    percentiles: np.ndarray
    ncc: float
    detail: float
    changed: float
    place: tuple[float, float, float]
    name: str = ""
    remarks: tuple[str, ...] = ()


def look(scan: Tensor, result: Tensor, mask: Tensor, affine: np.ndarray) -> Look:
    """Look at a scan and its result.

    Args:
        scan: (1, 1, D, H, W), RAS+.
        result: same shape.
        mask: bool, same shape: the brain, or the head.
        affine: (4, 4), voxel index to mm.
    """
    before, after, inside = (volume[0, 0].cpu().numpy() for volume in (scan, result, mask))
    ends = np.array([np.percentile(image[inside], [1, 50, 99]) for image in (before, after)])
    first, second = (_scaled(image, *ends[i, ::2]) for i, image in enumerate((before, after)))
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    change = np.where(inside, second - first, 0)
    smooth = ndimage.gaussian_filter(change, 1.5 / edges)
    at = np.unravel_index((np.abs(smooth) * _away_from_rim(inside, edges)).argmax(), smooth.shape)
    place = tuple(float(x) for x in (affine @ [*at, 1.0])[:3])
    spot = f"through {place[0]:.0f}, {place[1]:.0f}, {place[2]:.0f} mm, where most changed"
    return Look(
        before=_grey(first, at, edges, f"Before: sagittal, coronal and axial view {spot}."),
        after=_grey(second, at, edges, f"After: the same views, {spot}."),
        difference=_coloured(change, at, edges, _in_words(float(smooth[at]))),
        histograms=np.array([_histogram(image[inside]) for image in (first, second)]),
        percentiles=ends,
        ncc=float(np.corrcoef(before[inside], after[inside])[0, 1]),
        detail=detail_kept(scan, result, mask),
        changed=float(smooth[at]),
        place=place,
    )


def _away_from_rim(inside: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The mask without its outer 6 mm; all of it where nothing is left."""
    deep = inside
    for axis, edge in enumerate(edges):
        line = np.moveaxis(np.ones((2 * max(1, round(RIM / edge)) + 1, 1, 1), bool), 0, axis)
        deep = ndimage.binary_erosion(deep, line)
    return deep if deep.any() else inside


def detail_kept(scan: Tensor, result: Tensor, mask: Tensor) -> float:
    """Correlation of the lengths of the gradients of a scan and its result, at the scan's own resolution.

    Counted are voxels whose neighbours lie inside too: the step at a mask's rim is no detail.

    Args:
        scan: (1, 1, D, H, W).
        result: same shape.
        mask: bool, same shape.
    """
    inside = torch.nn.functional.max_pool3d((~mask).float().cpu(), 3, stride=1, padding=1)[0, 0] == 0
    lengths = []
    for image in (scan, result):
        parts = torch.gradient(image[0, 0].cpu().float())
        lengths.append(torch.stack([part[inside] for part in parts]).norm(dim=0).double())
    return float(torch.corrcoef(torch.stack(lengths))[0, 1])


def _scaled(image: np.ndarray, low: float, high: float) -> np.ndarray:
    return (image - low) / (high - low if high > low else 1.0)


def _histogram(values: np.ndarray) -> np.ndarray:
    counts, _ = np.histogram(values, BINS, range=(-0.1, 1.2))
    return counts / len(values)


def _in_words(changed: float) -> str:
    way = "brighter" if changed > 0 else "darker"
    return f"Difference, orange where the result is brighter, blue where darker; most is {abs(changed):.0%} {way}."


def _grey(image: np.ndarray, at: tuple[int, ...], edges: np.ndarray, alt: str) -> Picture:
    grey = (np.clip(_views(image, at, edges), 0, 1) * 255).astype(np.uint8)
    return _picture(grey, alt)


def _coloured(change: np.ndarray, at: tuple[int, ...], edges: np.ndarray, alt: str) -> Picture:
    share = np.clip(_views(change, at, edges) / WINDOW, -1, 1)[..., None]
    colour = np.where(share > 0, BRIGHTER, DARKER)
    return _picture((PAPER + np.abs(share) * (colour - PAPER)).astype(np.uint8), alt)


def _views(image: np.ndarray, at: tuple[int, ...], edges: np.ndarray) -> np.ndarray:
    """Sagittal, coronal and axial section side by side, in square pixels, (HEIGHT, width)."""
    x, y, z = at
    sections = ((image[x], edges[[1, 2]]), (image[:, y], edges[[0, 2]]), (image[:, :, z], edges[[0, 1]]))
    views = []
    for section, size in sections:
        wanted = np.maximum(1, np.round(section.shape * size * HEIGHT / (section.shape[1] * size[1]))).astype(int)
        axes = [(np.arange(n) + 0.5) * old / n - 0.5 for n, old in zip(wanted, section.shape, strict=True)]
        places = np.meshgrid(*axes, indexing="ij")
        views.append(ndimage.map_coordinates(section, places, order=1, mode="nearest").T[::-1])
    return np.concatenate(views, axis=1)


def _picture(pixels: np.ndarray, alt: str) -> Picture:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=75, method=4)
    return Picture(buffer.getvalue(), (pixels.shape[1], pixels.shape[0]), alt)
