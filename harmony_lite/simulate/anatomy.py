"""A person: tissue fractions, labels, age and lesions, from the MNI152 template.

Three random things make people differ: a smooth diffeomorphic warp (which also breaks the template's exact left-right
symmetry), smooth noise on the tissues' log-probabilities (whose sharpening turns the blurred average back into crisp
tissue, each time another one), and sizes. Age then sets three volumes, each hit by solving for one number: grey
matter by thinning cortex next to sulcal CSF, white matter by moving the grey-white border, ventricles by moving their
wall.

All random draws are made first and in a fixed order (`person_draws`), so that one seed is one person at every age and
on every grid.
Scans of these people are skull-stripped; the deep structures are landmark regions of template space, warped along.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harmony_lite.simulate.fields import (
    Box,
    average_down,
    exponentiate,
    jacobian_determinant,
    sample,
)
from harmony_lite.simulate.lesions import lesion_fraction, place_lesions
from harmony_lite.simulate.person_draws import (
    TEMPLATE_SCALE,
    VELOCITY_SHAPE,
    Draws,
    draw,
    expected_volumes,
    head_factor,
    target_volumes,
)
from harmony_lite.simulate.template import LABELS, TEMPLATE_BOX, template

__all__ = [
    "HEAD_BOX",
    "HEAD_CENTRE",
    "TEMPLATE_CENTRE",
    "TEMPLATE_SCALE",
    "VOLUMES",
    "Person",
    "check_age",
    "expected_volumes",
    "simulate_person",
    "voxel_size",
]

HEAD_BOX = Box(corner=(-80.0, -112.0, -75.0), extent=(160.0, 192.0, 160.0))  # 80 x 96 x 80 voxels of 2 mm

VOLUMES = ("cavity", "GM", "WM", "CSF", "ventricles", "sulcal CSF", "lesions")

TEMPLATE_CENTRE = torch.tensor([0.0, -17.0, 6.0])  # of the template's brain
HEAD_CENTRE = torch.tensor([0.0, -16.0, 5.0])  # of HEAD_BOX, and the isocentre of the scanners
_NOISE_SD, _TEMPERATURE, _SOFT_TEMPERATURE = 0.7, 0.3, 0.8


@dataclass(frozen=True)
class Person:
    """Truth about one simulated person on one grid.

    Attributes:
        age: years.
        tissues: (3, D, H, W) fractions of CSF, GM, WM, 0..1, summing to 1 in the brain and 0 outside.
        lesion: (1, D, H, W) fraction of white-matter lesion, contained in the WM fraction.
        labels: (1, D, H, W) uint8 as `harmony_lite.simulate.template.LABELS`.
        texture: (1, D, H, W) relative fine structure of the signal, mean 0, a few per cent.
        t1_factors: (4,) this person's T1 over the table's, per entry of `physics.TISSUES`.
        volumes_ml: cavity, GM, WM, CSF, ventricles, sulcal CSF, lesions in millilitres.
        spacing: voxel size in mm along x, y, z; whole voxels fill the head's box, so it may differ from what was asked
            for by one per cent.
        affine: (4, 4) voxel index to RAS+ millimetres.
        smallest_jacobian: of the warp; positive means that nothing was folded.
    """

    age: float
    tissues: Tensor
    lesion: Tensor
    labels: Tensor
    texture: Tensor
    t1_factors: Tensor
    volumes_ml: dict[str, float]
    spacing: tuple[float, float, float]
    affine: np.ndarray
    smallest_jacobian: float

    @property
    def mask(self) -> Tensor:
        """Brain: (1, D, H, W) bool, where at least half of the voxel is tissue or CSF."""
        return self.tissues.sum(0, keepdim=True) > 0.5


def simulate_person(
    age: float,
    generator: torch.Generator,
    *,
    spacing: float | Sequence[float] = 2.0,
    oversampling: float = 1.5,
) -> Person:
    """A person of that age.

    Args:
        age: years, 18 to 95.
        generator: the person's own; the same state gives the same person at every age and spacing.
        spacing: voxel size in mm, one number or three (x, y, z), each 1 mm or more.
        oversampling: tissue is made on a grid that much finer (1 mm at best) and averaged: partial volume.

    Raises:
        ValueError: an age or a spacing outside the stated range.
    """
    asked = voxel_size(spacing)
    check_age(age)
    draws = draw(generator)
    shape = HEAD_BOX.shape(asked)
    fine = HEAD_BOX.shape(tuple(min(s, max(s / oversampling, 1.0)) for s in asked))
    spacing = tuple(extent / n for extent, n in zip(HEAD_BOX.extent, shape, strict=True))
    warp = _warp(draws, age)
    inside, where = _brain_points(draws, warp, fine)
    solved = _solve(draws, age, where, voxel_ml=_voxel_ml(fine))
    fractions = torch.empty(6, len(where))
    for part in torch.arange(len(where)).split(400_000):  # a million points at once would cost a gigabyte
        fractions[:, part] = _tissue_fractions(draws, where[part], solved)
    dense = torch.zeros(6, inside.numel())
    dense[:, inside.flatten()] = fractions
    coarse = average_down(dense.reshape(6, *fine), shape).half().float()  # as the cache keeps it
    tissues, ventricle, lesion, texture = coarse[:3], coarse[3:4], coarse[4:5], coarse[5:6]
    return Person(
        age=float(age),
        tissues=tissues,
        lesion=torch.minimum(lesion, tissues[2:3]),
        labels=_labels(draws, warp, tissues, ventricle),
        texture=texture,
        t1_factors=draws.t1_factors,
        volumes_ml=_volumes(tissues, ventricle, lesion, spacing),
        spacing=spacing,
        affine=HEAD_BOX.affine(shape),
        smallest_jacobian=float(jacobian_determinant(warp, TEMPLATE_BOX).min()),
    )


def check_age(age: float) -> None:
    """Refuse an age that the simulator has no rates for.

    Raises:
        ValueError: outside 18 to 95 years.
    """
    if not 18 <= age <= 95:
        raise ValueError(f"age: found {age}, wanted 18 to 95 years")


def voxel_size(spacing: float | Sequence[float]) -> tuple[float, float, float]:
    """One number or three as three.

    Raises:
        ValueError: another count, or a number outside 1 to 8 mm.
    """
    values = tuple(float(s) for s in np.atleast_1d(spacing))
    values = values * 3 if len(values) == 1 else values
    if len(values) != 3 or not all(1.0 <= s <= 8.0 for s in values):
        raise ValueError(f"spacing: found {spacing}, wanted one number or three, each 1 to 8 mm")
    return values


def _voxel_ml(shape: tuple[int, int, int]) -> float:
    return math.prod(HEAD_BOX.extent) / math.prod(shape) / 1000.0


def _warp(draws: Draws, age: float) -> Tensor:
    """Displacement from the person's (template-sized) space to the template's: (3, d, h, w) mm.

    The random velocity is joined by a pull along the normal of the ventricles' wall: what surrounds a large ventricle
    is moved outward, not overwritten. The wall itself is set exactly afterwards (`_solve`).
    """
    near = template()
    maps = torch.cat([near.ventricle_distance, near.depth])
    distance, depth = sample(maps, TEMPLATE_BOX, TEMPLATE_BOX.points(VELOCITY_SHAPE))
    normal = torch.stack(torch.gradient(distance, spacing=3.0))
    normal = normal / normal.norm(dim=0).clamp_min(0.1)
    wanted = target_volumes(draws, age)["ventricles"] / head_factor(draws)  # ml in template space
    radius = wanted ** (1 / 3) - _TEMPLATE_VENTRICLES_ML ** (1 / 3)
    reach = torch.exp(-distance.clamp_min(0) / 14.0) * ((depth - 4.0) / 12.0).clamp(0, 1)  # the skull stays
    pull = -1.3 * radius * normal * reach
    return exponentiate(draws.velocity + pull, TEMPLATE_BOX)


_TEMPLATE_VENTRICLES_ML = 24.0  # of the template's lateral ventricles as they are drawn here, wall at distance 0


def _to_template(draws: Draws, warp: Tensor, points: Tensor) -> Tensor:
    """Points of the person's head in template millimetres."""
    unscaled = TEMPLATE_CENTRE + (points - HEAD_CENTRE) / draws.scale
    return unscaled + sample(warp, TEMPLATE_BOX, unscaled).movedim(0, -1)


def _brain_points(draws: Draws, warp: Tensor, fine: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Brain of the fine grid, `(D, H, W)` bool, and its points in template millimetres, `(N, 3)`.

    A coarse look finds where the brain can be at all, so that the warp is evaluated at those points only.
    """
    brain = template().brain
    coarse_shape = HEAD_BOX.shape((4.0, 4.0, 4.0))
    coarse = sample(brain, TEMPLATE_BOX, _to_template(draws, warp, HEAD_BOX.points(coarse_shape)))
    reach = torch.nn.functional.max_pool3d(coarse[None], 3, stride=1, padding=1)
    candidate = torch.nn.functional.interpolate(reach, fine, mode="nearest")[0, 0] > 0.02
    where = _to_template(draws, warp, HEAD_BOX.points(fine)[candidate])
    keep = sample(brain, TEMPLATE_BOX, where)[0] > 0.5
    inside = candidate.clone()
    inside[candidate] = keep
    return inside, where[keep]


@dataclass(frozen=True)
class _Solved:
    """The numbers that make the volumes right: wall of the ventricles in mm, two log-odds, and the lesions."""

    wall: float
    thinning: float
    border: float
    lesion_centres: Tensor
    lesion_radii: Tensor


def _solve(draws: Draws, age: float, where: Tensor, *, voxel_ml: float) -> _Solved:
    """Find wall, thinning and border on every n-th point, so that ventricles, GM and WM have this age's volumes."""
    wanted = target_volumes(draws, age)
    step = max(1, len(where) // 60_000)
    points, share = where[::step], voxel_ml * step
    logits, temperature, distance, outer = _logits(draws, points)

    def volumes(wall: float, thinning: float, border: float) -> Tensor:
        ventricle = torch.sigmoid((wall - distance) / _WALL_WIDTH)
        soft = _soft_tissue(logits, temperature, outer, thinning, border)
        return torch.stack([ventricle.sum(), *((1 - ventricle) * soft[1:]).sum(1)]) * share

    wall = _root(lambda w: volumes(w, 0.0, 0.0)[0] - wanted["ventricles"], -6.0, 10.0)
    thinning = border = 0.0
    for _ in range(4):  # the two log-odds act on different borders: solving them in turn converges at once
        thinning = _root(lambda t, b=border: wanted["GM"] - volumes(wall, t, b)[1], -4.0, 12.0)
        border = _root(lambda b, t=thinning: volumes(wall, t, b)[2] - wanted["WM"], -3.0, 3.0)
    scale = float(draws.scale.mean())
    centres, radii = place_lesions(age, draws.lesion_generator, factor=draws.lesion_factor, scale=scale)
    return _Solved(wall, thinning, border, centres, radii)


_WALL_WIDTH = 0.35  # mm; the ventricle's wall is sharp, the grid blurs it


def _root(function, low: float, high: float, *, steps: int = 14) -> float:
    """Bisection of an increasing function; at the edge when there is no root inside."""
    for _ in range(steps):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if function(middle) > 0 else (middle, high)
    return 0.5 * (low + high)


def _logits(draws: Draws, points: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """At template points: noisy log-probabilities (3, N), temperature (N,), ventricle distance (N,), outer CSF (N,)."""
    near = template()
    maps = torch.cat([near.ventricle_distance, near.outer_csf, near.noise, near.softness])
    distance, outer, amplitude, softness = sample(maps, TEMPLATE_BOX, points)
    detail = sample(draws.noise[:3], TEMPLATE_BOX, points)
    logits = sample(near.log_tissue, TEMPLATE_BOX, points) + _NOISE_SD * amplitude * detail
    return logits, _TEMPERATURE + (_SOFT_TEMPERATURE - _TEMPERATURE) * softness, distance, outer


def _soft_tissue(logits: Tensor, temperature: Tensor, outer: Tensor, thinning: float, border: float) -> Tensor:
    """Softmax of the log-probabilities, cortex thinned next to sulcal CSF, grey-white border moved: (3, N)."""
    shift = torch.stack([thinning * outer, torch.zeros_like(outer), border * (1 - outer)])
    return torch.softmax((logits + shift) / temperature, dim=0)


def _tissue_fractions(draws: Draws, points: Tensor, solved: _Solved) -> Tensor:
    """CSF, GM, WM, ventricle, lesion, texture at template points: (6, N)."""
    logits, temperature, distance, outer = _logits(draws, points)
    soft = _soft_tissue(logits, temperature, outer, solved.thinning, solved.border)
    ventricle = torch.sigmoid((solved.wall - distance) / _WALL_WIDTH)
    tissue = (1 - ventricle) * soft
    tissue[0] += ventricle
    lesion = lesion_fraction(points, solved.lesion_centres, solved.lesion_radii) * tissue[2]
    texture = 0.015 * sample(draws.noise[3:], TEMPLATE_BOX, points)
    return torch.cat([tissue, ventricle[None], lesion[None], texture])


def _labels(draws: Draws, warp: Tensor, tissues: Tensor, ventricle: Tensor) -> Tensor:
    """Fifteen groups: the region says where, the largest fraction says what: (1, D, H, W) uint8."""
    mask = tissues.sum(0) > 0.5
    points = _to_template(draws, warp, HEAD_BOX.points(tissues.shape[1:])[mask])
    region = sample(template().regions.float(), TEMPLATE_BOX, points, mode="nearest")[0].to(torch.uint8)
    tissue = tissues[:, mask].argmax(0)
    code = {name: index for index, name in enumerate(LABELS)}
    region[region == 0] = code["cerebral GM"]  # half a voxel at the rim, where the template's own grid says outside
    label = region.clone()
    for part in ("cerebral", "cerebellum"):
        label[(region == code[f"{part} GM"]) & (tissue == 2)] = code[f"{part} WM"]
    label[tissue == 0] = code["CSF"]
    label[ventricle[0, mask] > 0.5] = code["ventricles"]
    labels = torch.zeros(1, *mask.shape, dtype=torch.uint8)
    labels[0, mask] = label
    return labels


def _volumes(tissues: Tensor, ventricle: Tensor, lesion: Tensor, spacing: tuple[float, ...]) -> dict[str, float]:
    ml = math.prod(spacing) / 1000.0
    csf, gm, wm = (float(t) * ml for t in tissues.double().sum(dim=(1, 2, 3)))
    ventricles, lesions = float(ventricle.double().sum()) * ml, float(lesion.double().sum()) * ml
    return dict(zip(VOLUMES, (csf + gm + wm, gm, wm, csf, ventricles, csf - ventricles, lesions), strict=True))
