"""What chance decides about a person, drawn before anything depends on age or grid, and the volumes of an age."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from harmony_lite.simulate.fields import smooth_noise
from harmony_lite.simulate.template import TEMPLATE_BOX

__all__ = ["TEMPLATE_SCALE", "VELOCITY_SHAPE", "Draws", "draw", "expected_volumes", "head_factor", "target_volumes"]

TEMPLATE_SCALE = 0.92  # the MNI brain is large: 1.89 l; 0.92 gives an adult mean of about 1.5 l
VELOCITY_SHAPE = TEMPLATE_BOX.shape((3.0, 3.0, 3.0))
_NOISE_SHAPE = TEMPLATE_BOX.shape((2.0, 2.0, 2.0))
_T1_SPREAD = 0.045  # relative, per tissue: published white-matter T1 spans 0.6 to 1.1 s at 3 T
_REFERENCE_AGE = 25.0


@dataclass(frozen=True)
class Draws:
    """Everything random about a person, drawn before anything depends on age or grid."""

    scale: Tensor  # (3,) person over template, along x, y, z
    velocity: Tensor  # (3, d, h, w) mm
    noise: Tensor  # (4, d, h, w): CSF, GM, WM detail and texture
    gm_factor: float
    wm_factor: float
    ventricle_factor: float
    t1_factors: Tensor
    lesion_factor: float
    lesion_generator: torch.Generator


def draw(generator: torch.Generator) -> Draws:
    """One person's draws, always in the same order: the same state of the generator is the same person."""

    def normal(count: int) -> Tensor:
        return torch.randn(count, generator=generator)

    size, axes = normal(1), normal(3)
    scale = TEMPLATE_SCALE * torch.exp(0.023 * size + 0.012 * (axes - axes.mean()))
    broad = 2.6 * smooth_noise(VELOCITY_SHAPE, 24.0 / 3.0, generator, count=3)  # mm: head and lobes
    local = 1.3 * smooth_noise(VELOCITY_SHAPE, 9.0 / 3.0, generator, count=3)  # gyri
    detail = smooth_noise(_NOISE_SHAPE, 1.0, generator, count=3)
    texture = smooth_noise(_NOISE_SHAPE, 1.5, generator)
    gm, wm, ventricle, lesion = normal(4).tolist()
    t1_factors = torch.exp(_T1_SPREAD * normal(4))
    seed = int(torch.randint(2**31, (1,), generator=generator))
    return Draws(
        scale=scale,
        velocity=broad + local,
        noise=torch.cat([detail, texture]),
        gm_factor=math.exp(0.025 * gm),
        wm_factor=math.exp(0.03 * wm),
        ventricle_factor=math.exp(0.30 * ventricle - 0.045),  # mean 1
        t1_factors=t1_factors,
        lesion_factor=math.exp(0.8 * lesion - 0.32),  # mean 1
        lesion_generator=torch.Generator().manual_seed(seed),
    )


def head_factor(draws: Draws) -> float:
    """Volume of the head relative to the template's."""
    return float(draws.scale.prod())


def expected_volumes(age: float, head: float) -> dict[str, float]:
    """Mean volumes in ml at an age, for a head of that volume factor relative to the template.

    Grey matter falls by 0.35 % of its value at 25 per year (cross-sectional; Storsve 2014 found 0.51 % within people);
    ventricles grow by 0.30 ml a year, faster after 55; white matter is an inverted U with its top at 45 (Fjell 2013).
    Sulcal CSF is what remains of a cavity that does not change.
    """
    gm = 950.0 * (1 - 0.0035 * (age - _REFERENCE_AGE))
    wm = 690.0 * (1 - 4.0e-5 * (age - 45.0) ** 2)
    ventricles = (16.0 + 0.30 * (age - _REFERENCE_AGE) + 0.008 * max(0.0, age - 55.0) ** 2) / TEMPLATE_SCALE**3
    return {"GM": gm * head, "WM": wm * head, "ventricles": ventricles * head}


def target_volumes(draws: Draws, age: float) -> dict[str, float]:
    """Volumes in ml that the person has at an age: the mean of the age times the person's own factors."""
    mean = expected_volumes(age, head_factor(draws))
    factors = {"GM": draws.gm_factor, "WM": draws.wm_factor, "ventricles": draws.ventricle_factor}
    return {name: mean[name] * factors[name] for name in mean}
