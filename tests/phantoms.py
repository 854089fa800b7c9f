"""Phantom people for tests of methods: an ellipsoid of three tissues on several scanners, and methods made small."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from harmony_lite import methods
from harmony_lite.cohort import Needs, OneReference, Paired, Scans, SeveralScanners, TargetOnly, Unpaired, View
from harmony_lite.methods import Harmonizer
from harmony_lite.methods.classical.n4 import N4Settings
from harmony_lite.methods.trained.cyclegan import AdversarialSettings
from harmony_lite.methods.trained.deepharmony import VolumeSettings
from harmony_lite.methods.trained.style_transfer import StyleTransferSettings
from harmony_lite.methods.trained.unet import SupervisedSettings
from harmony_lite.papers.blindharmony.prior import FlowSettings
from harmony_lite.papers.blindharmonydiff.patches import FLIPS
from harmony_lite.papers.blindharmonydiff.settings import BlindHarmonyDiffSettings
from harmony_lite.papers.hail.settings import HailSettings
from harmony_lite.papers.harmonizing_flows.settings import HarmonizingFlowsSettings
from harmony_lite.papers.mispel.settings import MispelSettings

SIZE = (28, 32, 26)  # an axial slice can be folded, or halved, twice
MOSTLY_WHITE = {"radii": (0.6, 0.75), "slope": 30.0}  # as much, and as even, as a white stripe wants it
SCANNERS: dict[str, Callable[[Tensor], Tensor]] = {  # the first one is the target; 0 stays 0
    "oasis_trio": lambda images: 0.4 * images**1.1,
    "oasis_sonata": lambda images: images,
    "oasis_vision": lambda images: 20 * images**0.6,
}
SMALL: dict[type, dict[str, Any]] = {
    AdversarialSettings: dict(width=2, training_steps=8, batch=2, learning_rate=1e-2),
    BlindHarmonyDiffSettings: dict(
        network=dict(width=4, multiples=(1, 2), blocks=1, first_side=3, block_side=2),
        training=dict(patches=dict(size=(8, 8, 8), flips=FLIPS[0]), training_steps=4, batch=2, warm_up=0),
        edge_fraction=0.05,
        validation_share=0.3,
    ),
    FlowSettings: dict(levels=2, steps=1, hidden=6, training_steps=4, batch=4),
    HailSettings: dict(
        network=dict(widths=(4, 6), pools=1),
        features=dict(crop=8, batch=2, training_steps=12, learning_rate=1e-2),
        transfer=dict(crop=8, batch=2, training_steps=4),
        precision="32-true",
    ),
    HarmonizingFlowsSettings: dict(
        flow=dict(sizes=dict(widths=(4, 6), couplings=2), training_steps=4, batch=4),
        network=dict(widths=(4, 4, 6), training_steps=4, batch=4),
        adaptation=dict(most_steps=2, batch=4),
    ),
    MispelSettings: dict(width=2, embeddings=3, epochs=(6, 4), learning_rate=1e-2, slices=4, bias_correction=False),
    N4Settings: dict(working_size=8, iterations=(3, 3)),
    StyleTransferSettings: dict(
        width=2,
        halvings=1,
        style=3,
        latent=2,
        copying_steps=8,
        training_steps=8,
        batch=2,
        learning_rate=1e-2,
        decay=0.5,
    ),
    SupervisedSettings: dict(width=3, training_steps=40, batch=4),
    VolumeSettings: dict(width=2, levels=2, side=3, optimizer="adam", training_steps=10, batch=2, crop=8),
}


def axes_of(size: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Coordinates from -1 to 1 along each axis, each of shape `size`."""
    return torch.meshgrid(*[torch.linspace(-1, 1, n) for n in size], indexing="ij")


def people(
    count: int = 2,
    seed: int = 0,
    size: tuple[int, ...] = SIZE,
    *,
    radii: tuple[float, float] = (0.4, 0.7),
    slope: float = 100.0,
) -> tuple[Tensor, Tensor]:
    """Volumes above 0 in an ellipsoid, exactly 0 around, `(count, 1, *size)`; and the ellipsoid, bool.

    White matter ends at the first of the radii and grey matter at the second; `slope` brightens with the height.
    """
    generator = torch.Generator().manual_seed(seed)
    axes = axes_of(size)
    radius = sum(axis**2 for axis in axes).sqrt()
    inside = (radius < 0.9).repeat(count, 1, 1, 1, 1)
    tissue = torch.where(radius < radii[0], 900.0, torch.where(radius < radii[1], 600.0, 250.0)) + slope * axes[2]
    noise = 30 * torch.randn(count, 1, *size, generator=generator)
    return torch.where(inside, (tissue + noise).clamp_min(1), 0.0), inside


def target_view(count: int = 3, seed: int = 9, **anatomy: Any) -> TargetOnly:
    """Other people than `people()`, on the target scanner."""
    return TargetOnly(_on("oasis_trio", count, seed, **anatomy))


def view_for(needs: Needs, count: int = 3, **anatomy: Any) -> View:
    """What a method with these needs may see: `count` people on each of the scanners that it sees."""
    target, *sources = SCANNERS
    scans = {name: _on(name, count, 9, **anatomy) for name in SCANNERS}
    match needs:
        case Needs.TARGET_ONLY:
            return TargetOnly(scans[target])
        case Needs.ONE_REFERENCE:
            return OneReference(_on(target, 1, 9, **anatomy))
        case Needs.PAIRED:
            return Paired(scans[target], {name: scans[name] for name in sources})
        case Needs.UNPAIRED:
            return Unpaired(scans[target], {name: _on(name, count, 8, **anatomy) for name in sources})
        case Needs.SEVERAL_SCANNERS:
            return SeveralScanners(scans)
    pytest.fail(f"phantoms.view_for knows no people for {needs!r}: add a case")


def changed(view: View, change: Callable[[Scans], Scans]) -> View:
    """A view with every scan of it changed."""
    parts = {
        name: change(part) if isinstance(part, Scans) else {key: change(scans) for key, scans in part.items()}
        for name, part in vars(view).items()
    }
    return type(view)(**parts)


def small(name: str, variant: str | None = None) -> Harmonizer:
    """A method by name, unfitted, so small that a fit takes no time.

    A method that is trained has its sizes in `SMALL`, by the class of its settings.
    """
    method = methods.load_method(name, variant, fitted=False)
    settings = getattr(method, "settings", None)
    if type(settings) in SMALL:
        (attribute,) = (key for key, value in vars(method).items() if value is settings)
        setattr(method, attribute, smaller(settings, SMALL[type(settings)]))
    elif method.is_trained:
        pytest.fail(
            f"{name} is trained, and tests do not know how to make it small: add to SMALL in tests/phantoms.py\n"
            f"    {type(settings).__name__}: dict(...)  # its few steps and narrow networks"
        )
    return method


def smaller(settings: Any, sizes: dict[str, Any]) -> Any:
    """Settings with other sizes; settings may hold settings, whose sizes are a dict then."""
    values = {k: smaller(getattr(settings, k), v) if isinstance(v, dict) else v for k, v in sizes.items()}
    return replace(settings, **values)


def fit(method: Harmonizer, view: View | None = None, **options: Any) -> Harmonizer:
    """Fit on what the method needs, or on a view; without a bar where there is one."""
    quiet = {"progress": False} if method.is_trained else {}
    return method.fit(view_for(method.needs) if view is None else view, **quiet, **options)


def _on(scanner: str, count: int, seed: int, **anatomy: Any) -> Scans:
    images, inside = people(count, seed, **anatomy)
    return Scans(SCANNERS[scanner](images), inside)
