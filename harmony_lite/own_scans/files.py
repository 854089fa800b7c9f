"""From scan files to harmonized files: one, or a folder of them in several processes."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from nibabel.affines import voxel_sizes
from torch import Tensor
from tqdm import tqdm

from harmony_lite import weights
from harmony_lite.images import nifti
from harmony_lite.images.normalize import foreground
from harmony_lite.interruption import interrupt
from harmony_lite.methods import Harmonizer, load_method, method_class
from harmony_lite.methods.own_grid import harmonize_on_own_grid, is_model_grid, on_model_grid

__all__ = ["Job", "harmonize_file", "harmonize_folder"]

# BIDS endings of files that hold no intensities
NO_SCANS = ("_mask", "_dseg", "_probseg")


@dataclass(frozen=True)
class Job:
    """What is done to each file; plain values, so that it travels to other processes.

    Attributes:
        method: name of the method.
        variant: its reading; the first one when None.
        reference: scan of the target's look.
        reference_mask: brain of the reference; what lies outside is set to 0.
        mask: brain of the input, on its grid.
        scanner: the input's scanner, for methods that are trained on named ones.
        weights: file of one's own weights; the cache folder's or the shipped ones when None.
        adapt_on: folder of scans of one site that the method is adapted on first.
        threads: of torch in each process; the number of processors when None.
    """

    method: str
    variant: str | None = None
    reference: Path | None = None
    reference_mask: Path | None = None
    mask: Path | None = None
    scanner: str | None = None
    weights: Path | None = None
    adapt_on: Path | None = None
    threads: int | None = None


def harmonize_file(job: Job, source: Path, out: Path) -> str:
    """Harmonize one file.

    Returns:
        What did it: the method, its variant, and the reference or the weights with the start of their SHA-256.

    Raises:
        ValueError, FileNotFoundError: what is wrong with a file, the method or the output's place, in one line.
    """
    _check_output(out, source, job)
    prepared = _prepare(job)
    _scan(prepared, source, out, job)
    return prepared.used


def harmonize_folder(job: Job, source: Path, out: Path, *, jobs: int = 1) -> tuple[int, list[str], str]:
    """Harmonize every scan below a folder; a bad one does not stop the others.

    Args:
        job: the method and its files.
        source: folder; files that end in _mask, _dseg or _probseg and hidden ones are left out.
        out: folder, made if need be; results lie in it as the scans lie in `source`.
        jobs: processes.

    Returns:
        How many scans were harmonized, one message for each that was not, and what did it, as `harmonize_file` says it.

    Raises:
        ValueError, FileNotFoundError: what is wrong with the folders, the method or the reference, in one line.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"output {out}: found a file, wanted a folder, as the input {source} is one")
    if out.exists() and out.samefile(source):
        raise ValueError(f"output {out}: found the input folder, wanted another one")
    scans = list(_scans_below(source, out))
    if not scans:
        raise ValueError(f"{source}: found no scan in it, wanted files that end in .nii or .nii.gz")
    pairs = [(scan, out / scan.relative_to(source)) for scan in scans]
    existed = {folder for _, target in pairs for folder in target.parents if folder.exists()}
    try:
        failures, used = _run_all(job, pairs, min(jobs, len(pairs)))
    finally:
        _remove_empty({folder for _, target in pairs for folder in target.parents} - existed)
    return len(pairs) - len(failures), failures, used


def _run_all(job: Job, pairs: list[tuple[Path, Path]], jobs: int) -> tuple[list[str], str]:
    """Harmonize every pair (input, output); gives the message of each that the user has to mend, and what did it."""
    progress = partial(tqdm, total=len(pairs), unit="scan", desc=job.method, disable=None)  # none where nobody looks
    prepared = _prepare(job)  # what is wrong with the method or the reference is said once, here
    if jobs == 1:
        return [message for pair in progress(pairs) if (message := _attempt(prepared, *pair, job))], prepared.used
    threads = max(1, (os.cpu_count() or 1) // jobs)
    job = replace(job, threads=threads)
    # a forked child of a process that has used torch may hang
    context = multiprocessing.get_context("spawn")
    once = prepared if job.adapt_on else None  # adapted once, for all processes
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(job, once)) as pool:
        try:
            waiting = [pool.submit(_work, *pair) for pair in pairs]
            failures = [message for done in progress(as_completed(waiting)) if (message := done.result())]
            return failures, prepared.used
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)  # the files in hand are finished, no other is begun
            raise


_worker: tuple[_Prepared, Job] | None = None  # of a child process: the method, loaded once


def _start_worker(job: Job, prepared: _Prepared | None) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted and lets us finish the file in hand
    signal.signal(signal.SIGTERM, interrupt)
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)
    torch.set_num_threads(job.threads or 1)
    _worker = (prepared or _prepare(job), job)


def _work(source: Path, out: Path) -> str | None:
    assert _worker is not None
    method, job = _worker
    return _attempt(method, source, out, job)


def _attempt(method: _Prepared, source: Path, out: Path, job: Job) -> str | None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _check_output(out, source, job)
        _scan(method, source, out, job)
    except (ValueError, OSError) as error:
        return str(error)
    return None


@dataclass(frozen=True)
class _Prepared:
    """A method ready for scans, the reference it is given, and what is said about both."""

    method: Harmonizer
    reference: Tensor | None
    used: str


def _prepare(job: Job) -> _Prepared:
    """The method with its weights, or unfitted where a reference is all it needs; and the reference."""
    cls = method_class(job.method)
    enough = cls.reference_is_enough
    if job.reference is not None and not (enough or cls.takes_reference):
        raise ValueError(f"--reference: found {job.reference}, wanted none: {cls.name} is fitted on its target")
    if job.adapt_on is not None and not cls.adapts:
        raise ValueError(f"--adapt-on: found {job.adapt_on}, wanted none: {cls.name} does not adapt")
    reference = None
    if job.reference is not None:
        scan = nifti.read(job.reference)
        reference = scan.volume
        if job.reference_mask is not None:
            reference = reference * nifti.read_mask(job.reference_mask, scan)
    method = load_method(job.method, job.variant, fitted=False)
    used = f"{cls.name}, variant {job.variant or cls.variants[0]}"
    if enough and reference is not None:
        method.check_scanner(job.scanner)
        return _Prepared(method, reference, f"{used}, to {job.reference}")
    try:
        path = job.weights or cls.shipped_weights(job.variant or cls.variants[0])
    except FileNotFoundError as error:
        hint = "; or give --reference FILE" if enough else ""
        raise FileNotFoundError(f"{error}{hint}") from error
    sha256 = _load(method, path)
    method.check_scanner(job.scanner)
    used = f"{used}, weights {path.stem} (sha256 {sha256[:12]})"
    if reference is not None:
        method = _sent_to(method, reference, scan.affine, job.reference)
        reference, used = None, f"{used}, to {job.reference}"
    if job.adapt_on is not None:
        images, masks = _of_one_site(job.adapt_on, method)
        method = method.adapted(images, masks)
        used = f"{used}, adapted on {len(images)} scans of {job.adapt_on}"
    return _Prepared(method, reference, used)


def _of_one_site(folder: Path, method: Harmonizer) -> tuple[Tensor, Tensor]:
    """All scans below a folder and their brains, (N, 1, D, H, W), on the grid that the method takes.

    Raises:
        ValueError, FileNotFoundError: no folder, fewer than two scans, scans of different grids, one without a brain.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"--adapt-on {folder}: found no such folder, wanted one with scans of the site")
    paths = list(_scans_below(folder))
    if len(paths) < 2:
        raise ValueError(f"--adapt-on {folder}: found {len(paths)} scans, wanted two of the site or more")
    scans = [nifti.read(path) for path in paths]
    grids = {(tuple(scan.volume.shape[2:]), tuple(voxel_sizes(scan.affine).round(3).tolist())) for scan in scans}
    if len(grids) > 1:
        found = "; ".join(f"{shape} voxels of {size} mm" for shape, size in sorted(grids))
        raise ValueError(f"--adapt-on {folder}: found scans of {len(grids)} grids ({found}), wanted one site's")
    pairs = []
    for path, scan in zip(paths, scans, strict=True):
        try:
            pairs.append(_on_its_grid(method, scan.volume, scan.affine))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    images, masks = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    return images, masks


def _sent_to(method: Harmonizer, reference: Tensor, affine: np.ndarray, path: Path) -> Harmonizer:
    """A fitted method with the reference as its target, on the grid that the method takes; errors name the file."""
    try:
        return method.to_reference(_on_its_grid(method, reference, affine)[0])
    except ValueError as error:
        raise ValueError(f"--reference {path}: {error}") from error


def _on_its_grid(method: Harmonizer, volume: Tensor, affine: np.ndarray) -> tuple[Tensor, Tensor]:
    """A scan (1, 1, D, H, W) and its brain on the grid that the method takes, which may be the scan's."""
    brain = foreground(volume)
    if not method.on_template_grid or is_model_grid(volume, affine):
        return volume, brain
    return on_model_grid(volume, affine, brain)[:2]


def _load(method: Harmonizer, path: Path) -> str:
    """Give a method its weights; returns their SHA-256."""
    state, card = weights.load(path)
    try:
        method.take_settings(card.settings).load_state(state)
    except (ValueError, KeyError, IndexError, RuntimeError) as error:  # tensors of another method, size or number
        raise ValueError(f"{path}: found weights that {method.name} cannot take, wanted its own: {error}") from error
    return card.sha256


def _scan(prepared: _Prepared, source: Path, out: Path, job: Job) -> None:
    method, reference = prepared.method, prepared.reference
    scan = nifti.read(source)
    mask = nifti.read_mask(job.mask, scan) if job.mask else None
    # an ascent from a reference takes place on the reference's own grid
    is_native = method.on_template_grid and not (method.reference_is_enough and reference is not None)
    try:
        if is_native and not is_model_grid(scan.volume, scan.affine):
            brain = foreground(scan.volume) if mask is None else mask
            harmonized = harmonize_on_own_grid(
                method, scan.volume, scan.affine, brain, reference=reference, scanner=job.scanner
            )
        else:
            harmonized = method.harmonize(scan.volume, reference=reference, scanner=job.scanner, mask=mask)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    nifti.write(out, harmonized, scan)


def _check_output(out: Path, source: Path, job: Job) -> None:
    nifti.check_destination(out, source, job.reference, job.reference_mask, job.mask)


def _scans_below(folder: Path, out: Path | None = None) -> Iterator[Path]:
    """NIfTI files below a folder, sorted; not hidden ones, not masks or labels, not what lies in the output folder."""
    out = None if out is None else out.resolve()
    for path in sorted(folder.rglob("*.nii*")):
        inner = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in inner.parts)
        stem = path.name.removesuffix(".gz").removesuffix(".nii")
        is_scan = path.name.endswith(nifti.SUFFIXES) and path.is_file() and not stem.endswith(NO_SCANS)
        if is_scan and not hidden and out not in path.resolve().parents:
            yield path


def _remove_empty(folders: set[Path]) -> None:
    """Remove folders that were made for results that did not come."""
    for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
