"""One scan in and out: read, checked, harmonized, written with its record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor
from tqdm import tqdm

from harmony_lite.images import nifti
from harmony_lite.images.intake import Intake, take_in
from harmony_lite.images.normalize import is_masked
from harmony_lite.methods.own_grid import Placed, change_brought_back, is_model_grid, on_model_grid
from harmony_lite.own_scans.job import Job, Outcome, Task
from harmony_lite.own_scans.prepared import Grid, Prepared
from harmony_lite.own_scans.records import OWN, check_record_place, record_of, write_record
from harmony_lite.own_scans.remarks import about_contrast, about_mask, about_result, about_scan, inwards

if TYPE_CHECKING:
    from harmony_lite.own_scans.quality import Look

__all__ = ["attempt", "harmonize_scan", "look_again"]

STEPS = ("reading", "aligning", "harmonizing", "writing")


def attempt(prepared: Prepared, task: Task, job: Job) -> Outcome:
    """Harmonize one scan of many: whatever goes wrong with it, the others are not stopped."""
    try:
        task.out.parent.mkdir(parents=True, exist_ok=True)
        return look_again(task) if task.is_done else harmonize_scan(prepared, task, job)
    except MemoryError:
        return Outcome(task, f"{task.source}: found too little memory for it, wanted more, or fewer --jobs")
    except Exception as error:  # a library may raise anything on a scan that nobody has thought of
        kind = "" if isinstance(error, ValueError | OSError) else f"{task.source}: {type(error).__name__}: "
        return Outcome(task, f"{kind}{' '.join(str(error).split())}")


def harmonize_scan(prepared: Prepared, task: Task, job: Job, *, progress: bool = False) -> Outcome:
    """Harmonize one file and write its record beside it.

    Args:
        prepared: the method.
        task: the scan, and where its result goes.
        job: what is done.
        progress: show a bar of the steps, where somebody looks.

    Raises:
        ValueError, FileNotFoundError: what is wrong with a file, with the scan for this method, or with the output's
            place, in one line.
    """
    nifti.check_destination(task.out, task.source, job.reference, job.reference_mask, task.mask)
    check_record_place(task.out)
    with tqdm(total=len(STEPS), unit="step", leave=False, disable=None if progress else True) as bar:
        return _step_by_step(prepared, task, job, partial(_begin, bar))


def _begin(bar: tqdm, step: str) -> None:
    bar.set_description(step)
    bar.update(STEPS.index(step) - bar.n)


def _step_by_step(prepared: Prepared, task: Task, job: Job, begin: Callable[[str], None]) -> Outcome:
    begin("reading")
    scan = nifti.read(task.source)
    mask = nifti.read_mask(task.mask, scan) if task.mask else None
    method = prepared.method
    try:
        taken = take_in(scan.volume, mask, takes_negatives=method.takes_negatives)
        is_stripped = is_masked(taken.images)
        is_bare = mask is not None or is_stripped
        _check_kind(prepared, is_bare)
        result, placed = _harmonized(prepared, taken, scan, job, begin)
        remarks = [*taken.remarks, *_remarks(prepared, taken, scan, (result, placed), job, is_bare=is_bare)]
        if mask is not None and is_stripped:
            remarks += about_mask(taken.images, taken.mask, scan.affine)
    except ValueError as error:
        raise ValueError(f"{task.source}: {error}") from error
    begin("writing")
    nifti.write(task.out, taken.give_back(result), scan)
    stripped = not bool(((result != 0) & ~taken.mask).any())
    write_record(task, prepared.made_by, prepared.used, job.command, remarks, stripped=stripped)
    return Outcome(task, None, tuple(remarks), _look(task, taken, result, scan, remarks) if job.report else None)


def look_again(task: Task) -> Outcome:
    """What the quality page shows of a result that is there already."""
    scan, result = nifti.read(task.source), nifti.read_map(task.out)
    mask = nifti.read_mask(task.mask, scan) if task.mask else None
    record = record_of(task.out)
    remarks = [] if record is None else record[OWN].get("warnings", [])
    taken = take_in(scan.volume, mask)
    return Outcome(task, None, tuple(remarks), _look(task, taken, result.volume, scan, remarks))


def _harmonized(
    prepared: Prepared, taken: Intake, scan: nifti.NiftiScan, job: Job, begin: Callable[[str], None]
) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
    """The result on the scan's grid; and the scan and its brain on the model's grid, where the method works there."""
    method = prepared.method
    begin("harmonizing")
    if prepared.grid is not None and prepared.on_model_grid:
        _check_own_grid(prepared.grid, scan)
        return method.harmonize(taken.images, scanner=job.scanner, mask=taken.mask), None
    if not prepared.on_model_grid:
        return method.harmonize(taken.images, scanner=job.scanner, mask=taken.mask), None
    if is_model_grid(taken.images, scan.affine):
        result = method.harmonize(taken.images, scanner=job.scanner, mask=taken.mask)
        return result, (taken.images, taken.mask)
    begin("aligning")
    placed: Placed = on_model_grid(taken.images, scan.affine, taken.mask)
    begin("harmonizing")
    result = change_brought_back(method, taken.images, taken.mask, placed, scanner=job.scanner)
    return result, (placed.images, placed.mask)


def _remarks(
    prepared: Prepared,
    taken: Intake,
    scan: nifti.NiftiScan,
    made: tuple[Tensor, tuple[Tensor, Tensor] | None],
    job: Job,
    *,
    is_bare: bool,
) -> list[str]:
    """What is odd about a scan, its contrast, and what was made of it."""
    method, (result, placed) = prepared.method, made
    remarks = about_scan(taken.mask, scan.affine, is_bare=is_bare)
    if prepared.contrast is not None and is_bare and placed is None:
        found = inwards(taken.images, taken.mask, scan.affine)
        is_known = job.reference is not None  # else the target is many people's T1-weighted scans
        remarks += about_contrast(found, prepared.contrast, prepared.target_is, either_way=is_known)
    if method.is_trained or prepared.on_model_grid:
        remarks += about_result(taken.images, result, taken.mask, placed, method.name)
        if not is_bare:
            remarks.append("whole head: this method was made for brains; a --mask leaves the rest out")
    return remarks


def _check_own_grid(grid: Grid, scan: nifti.NiftiScan) -> None:
    """Refuse a scan elsewhere than where those of the training lay (ValueError): a place in them means anatomy."""
    if not grid.is_of(scan.volume, scan.affine):
        found = "x".join(map(str, scan.volume.shape[2:]))
        raise ValueError(
            f"found a grid of {found} voxels, wanted {'x'.join(map(str, grid.shape))} where the scans of the training "
            "lay: register it as those were"
        )


def _check_kind(prepared: Prepared, is_bare: bool) -> None:
    """Refuse a whole head where a brain is wanted, and a brain where the target is a whole head (ValueError)."""
    if is_bare and prepared.target == "head":
        raise ValueError(
            f"found a skull-stripped scan and a whole head in {prepared.target_is}, wanted two of a kind: give "
            "--reference-mask"
        )
    if not is_bare and prepared.on_model_grid:
        raise ValueError(
            "mask: found none, and a whole head: a scan with its skull needs a brain mask; wanted --mask, a mask "
            "beside the scan, or a skull-stripped scan"
        )
    if not is_bare and prepared.target == "brain":
        raise ValueError(f"found a whole head, and brains in {prepared.target_is}, wanted two of a kind: give --mask")


def _look(task: Task, taken: Intake, result: Tensor, scan: nifti.NiftiScan, remarks: list[str]) -> Look:
    from harmony_lite.own_scans.quality import look

    return replace(
        look(taken.images, result, taken.mask, scan.affine),
        name=task.name or str(task.source),
        remarks=tuple(remarks),
    )
