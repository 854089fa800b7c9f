"""From a folder of scans to weights of one's own, which the next `harmonize` takes."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harmony_lite import weights
from harmony_lite.cohort import Cohort, Needs
from harmony_lite.images.normalize import divide_by_mean
from harmony_lite.methods import Harmonizer, load_method
from harmony_lite.profiles import active
from harmony_lite.storage import cache_folder
from harmony_lite.training import History

__all__ = ["Recipe", "Trained", "train_on_folder"]

PAIRED = (Needs.PAIRED, Needs.SEVERAL_SCANNERS)


@dataclass(frozen=True)
class Recipe:
    """What is trained, and on whom.

    Attributes:
        method: name of the method.
        cohort: folder as `Cohort.from_files` reads it.
        variant: reading of the method; the first one when None.
        target: the scanner that is the target, for methods that have one; the first by name when None.
        held_out: people who are not trained on and measured afterwards; one in five when None, one of three or four.
        out: the weights' file; one's own weights in the cache folder when None, which come before the shipped ones.
    """

    method: str
    cohort: Path
    variant: str | None = None
    target: str | None = None
    held_out: int | None = None
    out: Path | None = None


@dataclass(frozen=True)
class Trained:
    """What came out.

    Attributes:
        path: of the weights.
        used: method, variant, people and scanners, as one line.
        metric: of the people held out, by name; empty where nobody was, or the method has no named scanners.
    """

    path: Path
    used: str
    metric: dict[str, float]


def train_on_folder(recipe: Recipe) -> Trained:
    """Fit a method to the scans of a folder and keep the weights with a card.

    An interrupted training of many steps goes on where it stopped when it is called again on the same files.

    Raises:
        ValueError, FileNotFoundError: an unknown method, variant or scanner; scans that the method cannot be fitted to;
            people who lack a scan, or whose scans lie on different grids, where the method needs pairs.
    """
    method = load_method(recipe.method, recipe.variant, fitted=False)
    variant = recipe.variant or method.variants[0]
    out = recipe.out or cache_folder() / "weights" / f"{method.name}.{variant}.{active().name}.safetensors"
    if out.suffix != ".safetensors" or (recipe.out is not None and not out.resolve().parent.is_dir()):
        raise ValueError(f"{out}: found no such place for weights, wanted NAME.safetensors in a folder that exists")
    cohort = Cohort.from_files(recipe.cohort)
    if recipe.target is not None:
        cohort = cohort.with_target(recipe.target)
    training, held_out = _split(cohort, recipe.held_out)
    if method.needs in PAIRED:
        _check_one_grid(cohort)
    checkpoint = cache_folder() / "training" / f"own.{_identity(recipe, variant)}.checkpoint"
    start = time.perf_counter()
    method.fit(training.view(method.needs), **({"checkpoint": checkpoint} if method.is_trained else {}))
    metric = _between_scanners(method, held_out) if held_out and method.needs is Needs.SEVERAL_SCANNERS else {}
    weights.save(
        method.state(),
        out,
        command=f"harmony-lite train {method.name} --cohort FOLDER --variant {variant}",
        profile=active().name,
        data_seed=0,
        minutes=round((time.perf_counter() - start) / 60, 3),
        metric=metric,
        settings=weights.settings_to_store(getattr(method, "settings", None)),
        recipe={
            "people": len(training),
            "people held out": len(held_out) if held_out else 0,
            "scanners": list(cohort.scanners),
            "grid": _grid(cohort),
        },
        **History.described(method.histories),
        half=False,
        limit=None,
    )
    for left in checkpoint.parent.glob(f"{checkpoint.stem}*"):
        left.unlink()
    used = f"{method.name}, variant {variant}, on {len(training)} people and {', '.join(cohort.scanners)}"
    return Trained(out, used, metric)


def _split(cohort: Cohort, held_out: int | None) -> tuple[Cohort, Cohort | None]:
    """Those who are trained on, and the last ones, who are not."""
    usual = max(1, len(cohort) // 5) if len(cohort) > 2 else 0
    count = usual if held_out is None else held_out
    if not 0 <= count < len(cohort):
        raise ValueError(f"--held-out: found {count} of {len(cohort)} people, wanted at least one left to train on")
    if not count:
        return cohort, None
    return cohort.split(len(cohort) - count, count)


def _check_one_grid(cohort: Cohort) -> None:
    """Refuse people whose scans are not registered to each other (ValueError)."""
    first = cohort.scanners[0]
    for i, person in enumerate(cohort.subjects):
        one = cohort.subset([i])
        for scanner in cohort.scanners[1:]:
            if (
                one.has(first)
                and one.has(scanner)
                and not np.allclose(one.affine(0, first), one.affine(0, scanner), atol=1e-3)
            ):
                raise ValueError(
                    f"{person}: found scans of {first} and {scanner} on different grids, "
                    "wanted scans registered to each other on one grid"
                )


def _grid(cohort: Cohort) -> dict[str, list]:
    """Shape and affine of the first scan: where scans lie for a method that works on one grid."""
    return {"shape": list(cohort.subset([0]).scans(cohort.scanners[0]).shape[2:]), "affine": cohort.affine().tolist()}


def _identity(recipe: Recipe, variant: str) -> str:
    """Hash of method, profile and files, so that a checkpoint is never taken for another cohort's."""
    files = [
        (str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(recipe.cohort.rglob("*.nii*"))
    ]
    parts = (recipe.method, variant, recipe.target, recipe.held_out, active(), str(recipe.cohort.resolve()), files)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _between_scanners(method: Harmonizer, people: Cohort) -> dict[str, float]:
    """Mean absolute difference between two scanners in people held out, in per cent of the brain's mean."""
    view = people.view(Needs.SEVERAL_SCANNERS)
    brain = torch.stack([scans.mask for scans in view.scanners.values()]).all(0)
    before = [_over_mean(scans.images, brain) for scans in view.scanners.values()]
    after = [
        _over_mean(method.harmonize(scans.images, scanner=name, mask=scans.mask), brain)
        for name, scans in view.scanners.items()
    ]
    return {
        f"difference between scanners {when}, %": round(
            100 * float(torch.stack([(a - b).abs().mean() for a, b in combinations(images, 2)]).mean()), 3
        )
        for when, images in (("before", before), ("after", after))
    }


def _over_mean(images: Tensor, brain: Tensor) -> Tensor:
    """Brain voxels of all people in one row, each person's divided by their mean."""
    return divide_by_mean(images, brain)[brain]
