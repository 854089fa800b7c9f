"""The MNI152 template that nilearn carries in its wheel, prepared once: everybody's anatomy starts here.

The template is the mean of 152 people (ICBM 2009, Fonov et al. 2009, 2011; copyright Louis Collins, McConnell Brain
Imaging Centre, Montreal Neurological Institute, McGill University). It is read from the installed package and never
copied into this one. What is prepared from it is smooth where a person will differ and sharp where anatomy is known:
log-probabilities of the tissues with the ventricles filled in (each person gets ventricles of their own size), signed
distances, and fifteen-label regions.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy import ndimage
from torch import Tensor

from harmony_lite.simulate.fields import Box, average_down
from harmony_lite.storage import cache_folder, written_whole

__all__ = ["LABELS", "TEMPLATE_BOX", "Template", "template"]

LABELS = (
    "background",
    "cerebellum GM",
    "cerebellum WM",
    "cerebral GM",
    "cerebral WM",
    "thalamus",
    "hippocampus",
    "amygdala",
    "ventricles",
    "caudate",
    "putamen",
    "pallidum",
    "ventral DC",
    "CSF",
    "brainstem",
)  # the fifteen groups of Harmonizing Flows, section 3, in its order

TEMPLATE_BOX = Box(corner=(-80.5, -114.5, -76.5), extent=(161.0, 193.0, 165.0))  # voxel centres at whole millimetres

# Deep structures as ellipsoids in MNI millimetres (right side; the left is the mirror image): centre, radii.
# Landmark regions, not segmentations: they are warped with the person, so that their overlap and volume can be scored.
_LANDMARKS = {
    "ventral DC": [((8, -15, -9), (8, 9, 6))],
    "thalamus": [((12, -19, 8), (10, 14, 9))],
    "caudate": [((13, 13, 8), (6.5, 10, 10)), ((16, -2, 19), (4.5, 13, 6))],
    "putamen": [((26, 3, 1), (6.5, 15, 11))],
    "pallidum": [((18.5, -3, 0), (4.5, 8, 6.5))],
    "hippocampus": [((26, -17, -18), (8, 9, 6)), ((26, -31, -8), (6.5, 10, 6.5))],
    "amygdala": [((23, -4, -19), (7.5, 7, 7))],
}
_BRAINSTEM = [((0, -27, -32), (18, 14, 17)), ((0, -38, -56), (11, 11, 24)), ((0, -26, -13), (15, 11, 9))]


@dataclass(frozen=True)
class Template:
    """What a person is made from; every field fills `TEMPLATE_BOX`.

    Attributes:
        log_tissue: (3, D, H, W) at 1 mm: log-probabilities of CSF, GM, WM, ventricles filled with what surrounds them.
        ventricle_distance: (1, d, h, w) at 2 mm: signed distance in mm to the lateral ventricles' wall, below 0 inside.
        outer_csf: (1, d, h, w), 0..1: nearness of sulcal CSF, where cortex is lost with age.
        noise: (1, d, h, w), 0..1: how far a person's own random detail may act (small in deep grey and inner white).
        softness: (1, d, h, w), 0..1: where tissues stay mixed (deep grey, brainstem).
        cortex_distance: (1, d, h, w): distance in mm to the cortex.
        depth: (1, d, h, w): distance in mm to the brain's outside.
        brain: (1, d, h, w), 0..1: the brain mask, smooth enough for a sub-voxel boundary.
        regions: (1, D, H, W) at 1 mm, uint8 as `LABELS`: cerebral GM stands for the whole cerebrum, cerebellum GM
            for the whole cerebellum; the tissue decides the rest.
        lesion_sites: (M, 3) mm: where a white-matter lesion may start.
        lesion_weights: (M,): relative chance of each site, falling with distance from the ventricles.
    """

    log_tissue: Tensor
    ventricle_distance: Tensor
    outer_csf: Tensor
    noise: Tensor
    softness: Tensor
    cortex_distance: Tensor
    depth: Tensor
    brain: Tensor
    regions: Tensor
    lesion_sites: Tensor
    lesion_weights: Tensor


@cache
def template() -> Template:
    """The prepared template: made on first use, kept on disk, then in memory."""
    source = b"".join((Path(__file__).parent / name).read_bytes() for name in ("template.py", "fields.py"))
    path = cache_folder() / f"template-{hashlib.sha256(source).hexdigest()[:16]}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        prepared = _prepare()
        with written_whole(path) as part:
            save_file({f.name: getattr(prepared, f.name).contiguous() for f in fields(prepared)}, part)
    stored = load_file(path)
    return Template(**{name: t.float() if t.dtype == torch.float16 else t for name, t in stored.items()})


def _prepare() -> Template:
    t1, gm, wm, brain = _load()
    depth = ndimage.distance_transform_edt(brain).astype(np.float32)
    csf = np.clip(brain - gm - wm, 0, 1).astype(np.float32)
    ventricles = _ventricles(csf, depth)
    to_ventricle = _signed_distance(ventricles)
    csf_filled, gm_filled, wm_filled = _fill(ventricles, csf, gm, wm)
    regions = _regions(csf, gm, wm, brain)
    soft = _softness(regions)
    log_tissue = _log_tissue(t1, csf_filled, gm_filled, wm_filled, to_ventricle, soft)
    white = ndimage.gaussian_filter(wm_filled, 2.0)
    cortex = (gm_filled > 0.5) & np.isin(regions, [LABELS.index("cerebral GM")]) & (depth < 22)
    to_cortex = ndimage.distance_transform_edt(~cortex).astype(np.float32)
    outer = np.clip(ndimage.gaussian_filter(csf_filled, 2.5) * 4.0, 0, 1)
    sites, weights = _lesion_sites(wm_filled, gm_filled, to_ventricle, to_cortex, regions)
    return Template(
        log_tissue=torch.from_numpy(log_tissue).half(),
        ventricle_distance=_coarse(to_ventricle),
        outer_csf=_coarse(outer),
        noise=_coarse((1 - 0.75 * soft) * (1 - np.clip((white - 0.85) / 0.1, 0, 1))),
        softness=_coarse(soft),
        cortex_distance=_coarse(to_cortex),
        depth=_coarse(depth),
        brain=_coarse(ndimage.gaussian_filter(brain, 0.7)),
        regions=torch.from_numpy(regions)[None],
        lesion_sites=torch.from_numpy(sites),
        lesion_weights=torch.from_numpy(weights),
    )


def _load() -> tuple[np.ndarray, ...]:
    """T1, GM, WM and brain mask on the 1 mm grid of `TEMPLATE_BOX`, float32, 0..1."""
    from nilearn import datasets

    images = [
        datasets.load_mni152_template(resolution=1),
        datasets.load_mni152_gm_template(resolution=1),
        datasets.load_mni152_wm_template(resolution=1),
        datasets.load_mni152_brain_mask(resolution=1),
    ]
    shape = TEMPLATE_BOX.shape((1.0, 1.0, 1.0))
    first = np.array(TEMPLATE_BOX.corner) + 0.5
    cropped = []
    for image in images:
        data = np.asarray(image.dataobj, dtype=np.float32)
        start = np.round(first - image.affine[:3, 3]).astype(int)  # negative: the box reaches below the file
        out = np.zeros(shape, dtype=np.float32)
        source = tuple(slice(max(s, 0), min(s + n, m)) for s, n, m in zip(start, shape, data.shape, strict=True))
        target = tuple(slice(sl.start - s, sl.stop - s) for sl, s in zip(source, start, strict=True))
        out[target] = data[source]
        cropped.append(out)
    return tuple(cropped)


def _signed_distance(inside: np.ndarray) -> np.ndarray:
    outside_mm = ndimage.distance_transform_edt(~inside)
    return (outside_mm - ndimage.distance_transform_edt(inside)).astype(np.float32)


def _ventricles(csf: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Lateral ventricles: deep CSF in large components whose centre lies above the midbrain."""
    components, count = ndimage.label((csf > 0.45) & (depth > 14))
    sizes = ndimage.sum_labels(np.ones_like(csf), components, range(1, count + 1))
    heights = [
        c[2] + TEMPLATE_BOX.corner[2] + 0.5 for c in ndimage.center_of_mass(csf, components, range(1, count + 1))
    ]
    keep = [i + 1 for i, (size, z) in enumerate(zip(sizes, heights, strict=True)) if size > 3000 and z > 5]
    return np.isin(components, keep)


def _fill(ventricles: np.ndarray, *tissues: np.ndarray) -> list[np.ndarray]:
    """Tissues with the ventricles and their blurred rim replaced by the nearest tissue around them."""
    hole = ndimage.distance_transform_edt(~ventricles) <= 2.0
    nearest = ndimage.distance_transform_edt(hole, return_distances=False, return_indices=True)
    return [np.where(hole, tissue[tuple(nearest)], tissue) for tissue in tissues]


def _log_tissue(t1, csf, gm, wm, to_ventricle, soft) -> np.ndarray:
    """Log-probabilities, sharpened by what the template's T1 image still shows of sulci and white-matter blades.

    The probability maps are blurred by averaging people, the T1 average a little less so: its detail (the image minus
    its own 3 mm blur) says where white matter and CSF really are. It is switched off near the ventricles, which it
    would inflate, and where grey and white matter truly mix.
    """
    stack = np.log(np.clip(np.stack([csf, gm, wm]), 0.01, 1))
    detail = (t1 - ndimage.gaussian_filter(t1, 3.0)) * np.clip((to_ventricle - 2) / 4, 0, 1) * (1 - soft)
    stack[0] -= 14.0 * detail
    stack[2] += 2.0 * detail
    return stack


def _regions(csf, gm, wm, brain) -> np.ndarray:
    """Cerebrum, cerebellum, brainstem and the deep landmarks: uint8 as `LABELS`."""
    from skimage.segmentation import watershed

    points = TEMPLATE_BOX.points(brain.shape).numpy()
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    cerebrum, cerebellum = LABELS.index("cerebral GM"), LABELS.index("cerebellum GM")
    markers = np.zeros(brain.shape, dtype=np.int32)
    markers[(z > 10) & (brain > 0)] = cerebrum
    markers[(y > -20) & (brain > 0)] = cerebrum
    markers[(np.abs(x) > 52) & (z > -18) & (brain > 0)] = cerebrum
    for centre, radii in [((0, -62, -32), (6, 12, 10)), ((28, -62, -40), (14, 14, 8))]:
        for side in (-1, 1):
            markers[_ellipsoid(points, (side * centre[0], *centre[1:]), radii)] = cerebellum
    coarse = np.s_[::2, ::2, ::2]  # the tentorium is several millimetres thick in the average: 2 mm is enough
    parts = watershed(ndimage.gaussian_filter(csf, 1.0)[coarse], markers[coarse], mask=brain[coarse] > 0)
    parts = parts.repeat(2, 0).repeat(2, 1).repeat(2, 2)[tuple(slice(n) for n in brain.shape)]
    regions = np.where(brain > 0, np.where(parts == cerebellum, cerebellum, cerebrum), 0).astype(np.uint8)
    for centre, radii in _BRAINSTEM:
        regions[_ellipsoid(points, centre, radii) & (wm + gm > 0.5)] = LABELS.index("brainstem")
    for name, ellipsoids in _LANDMARKS.items():
        for centre, radii in ellipsoids:
            for side in (-1, 1):
                regions[_ellipsoid(points, (side * centre[0], *centre[1:]), radii)] = LABELS.index(name)
    return np.where(brain > 0, regions, 0).astype(np.uint8)


def _ellipsoid(points: np.ndarray, centre, radii) -> np.ndarray:
    return (((points - np.array(centre, np.float32)) / np.array(radii, np.float32)) ** 2).sum(-1) < 1


def _softness(regions: np.ndarray) -> np.ndarray:
    """Where grey and white matter mix below the voxel: the deep nuclei, ventral diencephalon, brainstem."""
    mixed = [LABELS.index(n) for n in ("thalamus", "pallidum", "ventral DC", "brainstem", "caudate", "putamen")]
    return np.clip(ndimage.gaussian_filter(np.isin(regions, mixed).astype(np.float32), 2.0) * 1.2, 0, 1)


def _lesion_sites(wm, gm, to_ventricle, to_cortex, regions) -> tuple[np.ndarray, np.ndarray]:
    """White matter away from cortex; chance falls off with 9 mm from the ventricles (Wen & Sachdev 2004)."""
    allowed = (wm > 0.9) & (ndimage.gaussian_filter(gm, 4.0) < 0.12) & (to_cortex > 5) & (to_ventricle > 1)
    allowed &= regions == LABELS.index("cerebral GM")
    sites = np.argwhere(allowed).astype(np.float32) + np.array(TEMPLATE_BOX.corner, np.float32) + 0.5
    return sites, np.exp(-to_ventricle[allowed] / 9.0).astype(np.float32)


def _coarse(volume: np.ndarray) -> Tensor:
    """The same box at 2 mm, as half floats: `(1, d, h, w)`."""
    shape = TEMPLATE_BOX.shape((2.0, 2.0, 2.0))
    return average_down(torch.from_numpy(np.ascontiguousarray(volume, dtype=np.float32))[None], shape).half()
