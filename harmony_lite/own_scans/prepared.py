"""A method made ready for scans: its weights, its reference, and what is said about both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nibabel.affines import voxel_sizes
from torch import Tensor

from harmony_lite import weights
from harmony_lite.cohort import Scans
from harmony_lite.images import nifti
from harmony_lite.images.checks import errors_about
from harmony_lite.images.intake import take_in
from harmony_lite.images.normalize import is_masked
from harmony_lite.methods import Harmonizer, load_method, method_class
from harmony_lite.methods.own_grid import is_model_grid, on_model_grid
from harmony_lite.own_scans.found import scans_in
from harmony_lite.own_scans.job import Job
from harmony_lite.own_scans.records import sha256_of
from harmony_lite.own_scans.remarks import T1_WEIGHTED, inwards

__all__ = ["Grid", "Prepared", "prepare"]


@dataclass(frozen=True)
class Grid:
    """Shape (D, H, W) and affine (4, 4) of scans that were registered to each other."""

    shape: tuple[int, ...]
    affine: tuple[tuple[float, ...], ...]

    def is_of(self, volume: Tensor, affine: np.ndarray) -> bool:
        """Whether a scan (1, 1, D, H, W) lies on this grid, within a micrometre an entry."""
        return tuple(volume.shape[2:]) == self.shape and bool(np.allclose(affine, self.affine, rtol=0, atol=1e-3))


@dataclass(frozen=True)
class Prepared:
    """A method ready for scans.

    Attributes:
        method: fitted, to a reference where that was given.
        made_by: what decides its results: names, and hashes of weights and files.
        used: the same as one line for people.
        on_model_grid: whether scans go to the model's grid; an ascent from a reference takes place on the reference's.
        target: what the target shows, `"brain"` or `"head"`; None where nothing is known of it.
        target_is: the target's name in a message.
        contrast: `inwards` of the target's brains; None where that is not known.
        grid: where the scans of a training of one's own lay; None where that was the model's grid.
    """

    method: Harmonizer
    made_by: Mapping[str, Any]
    used: str
    on_model_grid: bool
    target: str | None = None
    target_is: str = ""
    contrast: float | None = None
    grid: Grid | None = None


def prepare(job: Job) -> Prepared:
    """The method with its weights, or unfitted where a reference is all it needs; and the reference.

    Raises:
        ValueError, FileNotFoundError: what is wrong with the method, the weights, the reference, or the scans to adapt
            on, in one line.
    """
    cls = method_class(job.method)
    enough = cls.reference_is_enough
    if job.reference is not None and not (enough or cls.takes_reference):
        raise ValueError(f"--reference: found {job.reference}, wanted none: {cls.name} is fitted on its target")
    if job.adapt_on is not None and not cls.adapts:
        raise ValueError(f"--adapt-on: found {job.adapt_on}, wanted none: {cls.name} does not adapt")
    reference, told = _reference_of(job, cls)
    method = load_method(job.method, job.variant, fitted=False)
    variant = job.variant or cls.variants[0]
    used = f"{cls.name}, variant {variant}"
    made_by = {"method": cls.name, "variant": variant, "scanner": job.scanner, **told}
    shows = None if reference is None else "brain" if reference.is_bare else "head"
    if enough and reference is not None:
        method.check_scanner(job.scanner)
        with errors_about(f"--reference {job.reference}"):
            method = method.to_reference(reference.scans.images, reference.scans.mask)
        used, contrast = f"{used}, to {job.reference}", reference.contrast
        return Prepared(method, made_by, used, False, shows, f"--reference {job.reference}", contrast)
    path = _weights_path(job, cls, variant)
    card = _load(method, path)
    if job.scanner not in card.recipe.get("scanners", ()) or method.scanners:
        method.check_scanner(job.scanner)  # a method that treats all alike takes the names of its own training, too
    used = f"{used}, weights {path.stem} (sha256 {card.sha256[:12]})"
    made_by["weights_sha256"] = card.sha256
    is_shipped = path.parent == weights.SHIPPED
    target, target_is = ("brain", f"the shipped weights of {cls.name}") if is_shipped else (None, "")
    contrast = T1_WEIGHTED if is_shipped else None
    if reference is not None:
        method = _sent_to(method, reference, job.reference)
        used, target, target_is = f"{used}, to {job.reference}", shows, f"--reference {job.reference}"
        contrast = reference.contrast
    if job.adapt_on is not None:
        images, masks = _of_one_site(job.adapt_on, method)
        method = method.adapted(images, masks)
        used = f"{used}, adapted on {len(images)} scans of {job.adapt_on}"
        made_by["adapted_on_sha256"] = [sha256_of(path) for path, _ in scans_in(job.adapt_on).scans]
    return Prepared(method, made_by, used, method.on_template_grid, target, target_is, contrast, _own_grid(card))


@dataclass(frozen=True)
class _Reference:
    """The scan that a user gives as the target's look."""

    scans: Scans
    scan: nifti.NiftiScan
    is_bare: bool
    contrast: float | None


def _reference_of(job: Job, cls: type[Harmonizer]) -> tuple[_Reference | None, dict[str, str]]:
    """The reference with its brain, and the hashes of both files."""
    if job.reference is None:
        return None, {}
    scan = nifti.read(job.reference)
    mask = None if job.reference_mask is None else nifti.read_mask(job.reference_mask, scan)
    taken = take_in(scan.volume, mask, what=f"--reference {job.reference}", takes_negatives=cls.takes_negatives)
    is_bare = mask is not None or is_masked(taken.images)
    told = {"reference_sha256": sha256_of(job.reference)}
    if job.reference_mask is not None:
        told["reference_mask_sha256"] = sha256_of(job.reference_mask)
    images = taken.images if mask is None else taken.images * taken.mask
    contrast = inwards(taken.images, taken.mask, scan.affine) if is_bare else None
    return _Reference(Scans(images, taken.mask), scan, is_bare, contrast), told


def _own_grid(card: weights.Card) -> Grid | None:
    """Where the scans of a training on a folder lay, unless it was the model's grid."""
    stored = card.recipe.get("grid")
    if not isinstance(stored, dict):
        return None
    shape, affine = tuple(stored["shape"]), tuple(map(tuple, stored["affine"]))
    is_models = is_model_grid(torch.empty(1, 1, *shape), np.array(affine))
    return None if is_models else Grid(shape, affine)


def _weights_path(job: Job, cls: type[Harmonizer], variant: str) -> Path:
    try:
        return job.weights or cls.shipped_weights(variant)
    except FileNotFoundError as error:
        hint = "; or give --reference FILE" if cls.reference_is_enough else ""
        raise FileNotFoundError(f"{error}{hint}") from error


def _load(method: Harmonizer, path: Path) -> weights.Card:
    """Give a method its weights; returns their card."""
    state, card = weights.load(path)
    try:
        method.take_settings(card.settings).load_state(state)
    except (ValueError, KeyError, IndexError, RuntimeError) as error:  # tensors of another method, size or number
        raise ValueError(f"{path}: found weights that {method.name} cannot take, wanted its own: {error}") from error
    return card


def _sent_to(method: Harmonizer, reference: _Reference, path: Path) -> Harmonizer:
    """A fitted method with the reference as its target, on the grid that the method takes."""
    with errors_about(f"--reference {path}"):
        images, mask = _on_its_grid(method, reference.scans.images, reference.scan, reference.scans.mask)
        return method.to_reference(images, mask)


def _of_one_site(folder: Path, method: Harmonizer) -> tuple[Tensor, Tensor]:
    """All scans below a folder and their brains, (N, 1, D, H, W), on the grid that the method takes.

    Raises:
        ValueError, FileNotFoundError: no folder, fewer than two scans, scans of different grids, one without a brain.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"--adapt-on {folder}: found no such folder, wanted one with scans of the site")
    try:
        paths = scans_in(folder).scans
    except ValueError:
        paths = []
    if len(paths) < 2:
        raise ValueError(f"--adapt-on {folder}: found {len(paths)} scans, wanted two of the site or more")
    scans = [nifti.read(path) for path, _ in paths]
    grids = {(tuple(scan.volume.shape[2:]), tuple(voxel_sizes(scan.affine).round(3).tolist())) for scan in scans}
    if len(grids) > 1:
        found = "; ".join(f"{shape} voxels of {size} mm" for shape, size in sorted(grids))
        raise ValueError(f"--adapt-on {folder}: found scans of {len(grids)} grids ({found}), wanted one site's")
    pairs = []
    for (path, mask_path), scan in zip(paths, scans, strict=True):
        with errors_about(f"{path}"):
            mask = None if mask_path is None else nifti.read_mask(mask_path, scan)
            taken = take_in(scan.volume, mask, takes_negatives=method.takes_negatives)
            pairs.append(_on_its_grid(method, taken.images, scan, taken.mask))
    images, masks = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    return images, masks


def _on_its_grid(method: Harmonizer, volume: Tensor, scan: nifti.NiftiScan, brain: Tensor) -> tuple[Tensor, Tensor]:
    """A scan (1, 1, D, H, W) and its brain on the grid that the method takes, which may be the scan's."""
    if not method.on_template_grid or is_model_grid(volume, scan.affine):
        return volume, brain
    return on_model_grid(volume, scan.affine, brain)[:2]
