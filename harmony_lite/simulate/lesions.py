"""White-matter lesions: how many, how large, where, and which part of each voxel they fill."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harmony_lite.simulate.fields import sample
from harmony_lite.simulate.template import TEMPLATE_BOX, template

__all__ = ["draw_lesions", "lesion_fraction", "place_lesions"]


def draw_lesions(age: float, generator: torch.Generator, *, factor: float = 1.0) -> Tensor:
    """Radii in mm of a person's white-matter lesions: `(count,)`, empty before 43.

    The count is Poisson with mean `20 exp(0.05 (age - 62))` times the person's factor, the radius log-normal around
    2 mm with a tail to 10 mm: about 20 lesions of together 4.9 ml at 60-64 (Wen & Sachdev 2004).
    """
    rate = 20.0 * math.exp(0.05 * (age - 62.0)) * factor if age > 43 else 0.0
    count = int(torch.poisson(torch.tensor(rate), generator=generator))
    return (2.0 * torch.exp(0.71 * torch.randn(count, generator=generator))).clamp(1.0, 10.0)


def place_lesions(age: float, generator: torch.Generator, *, factor: float, scale: float) -> tuple[Tensor, Tensor]:
    """Centres (n, 3) in template mm and radii (n,), grown to template size.

    Args:
        age: years.
        generator: of the person's lesions.
        factor: the person's number of lesions over the mean at that age.
        scale: the person's head over the template, in length.
    """
    radii = draw_lesions(age, generator, factor=factor) / scale
    if not len(radii):
        return torch.empty(0, 3), radii
    near = template()
    chosen = torch.multinomial(near.lesion_weights, len(radii), replacement=False, generator=generator)
    return near.lesion_sites[chosen], radii


def lesion_fraction(points: Tensor, centres: Tensor, radii: Tensor) -> Tensor:
    """Union of balls with a soft edge of 1 mm, cut off 4 mm from the cortex, at template points (N, 3): (N,)."""
    fraction = torch.zeros(len(points))
    for centre, radius in zip(centres, radii, strict=True):
        offset = points - centre
        close = (offset.abs().amax(1) < radius + 2).nonzero()[:, 0]
        edge = (radius - offset[close].norm(dim=1)) / 0.5
        fraction[close] = torch.maximum(fraction[close], torch.sigmoid(edge))
    touched = fraction > 0.01
    if touched.any():
        distance = sample(template().cortex_distance, TEMPLATE_BOX, points[touched])[0]
        fraction[touched] *= torch.sigmoid((distance - 4.5) / 0.25)
    return fraction
