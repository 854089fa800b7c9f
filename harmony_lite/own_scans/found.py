"""Which files of a folder are scans, which masks belong to them, and what was left out and why."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harmony_lite.cohort.bids import BidsName, brain_mask_beside, is_nifti
from harmony_lite.images import nifti
from harmony_lite.own_scans.records import DESCRIPTION, record_of

__all__ = ["USUAL", "Found", "is_derivative", "scans_in"]

USUAL = "T1w"  # suffix of the scans of a BIDS folder, where none is chosen
NO_SCANS = ("mask", "dseg", "probseg")  # suffixes of files that hold no intensities
NOT_RAW = ("sourcedata", "derivatives")  # folders of a BIDS tree that hold something else than its scans


@dataclass
class Found:
    """What a folder holds.

    Attributes:
        folder: where it was looked.
        scans: paths of scans, sorted, each with its brain mask or None.
        left_out: why other NIfTI files are no scans, and how many of each reason.
        broken: one line for each entry that cannot be read.
    """

    folder: Path
    scans: list[tuple[Path, Path | None]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    @property
    def left_out_line(self) -> str:
        """What was left out, in one line; empty where nothing was."""
        return ", ".join(f"{count} {reason}" for reason, count in sorted(self.left_out.items()))


def scans_in(folder: Path, *, suffix: str | None = None, out: Path | None = None) -> Found:
    """Look for scans below a folder; nothing is read yet. Links are followed, a circle of links once.

    Where any file has a name in the form of BIDS (`sub-01_T1w.nii.gz`), the scans are those with such a name and the
    suffix; else every NIfTI file is one. Masks and labels, hidden files, `sourcedata` and `derivatives`, results of
    this program and other derivative data sets are left out; to harmonize those, name their folder as the input.

    Args:
        folder: where to look.
        suffix: kind of image, as `T2w`; `T1w` when None.
        out: folder of results, which is left out where it lies in `folder`.

    Raises:
        ValueError: a suffix that no file has; a folder without a scan. The message says what was found.
    """
    found = Found(folder)
    paths = list(_files(folder, out, found))
    names = {path: BidsName.of(path.name) for path in paths}
    has_bids_names = any(name is not None for name in names.values())
    wanted = suffix or USUAL
    for path in paths:
        reason = _why_no_scan(path, names[path], wanted if has_bids_names else suffix)
        if reason is None:
            found.scans.append((path, brain_mask_beside(path, _person_of(path, folder))))
        else:
            found.left_out[reason] += 1
    if not found.scans and not found.broken:
        _refuse(found, wanted if has_bids_names or suffix else None)
    return found


def is_derivative(folder: Path) -> bool:
    """Whether a folder says of itself that it holds results: a `dataset_description.json` of a derivative."""
    try:
        said = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(said, dict) and (said.get("DatasetType") == "derivative" or bool(said.get("GeneratedBy")))


def _files(folder: Path, out: Path | None, found: Found) -> Iterator[Path]:
    """NIfTI files below a folder, sorted by their paths; what cannot be read goes to `found.broken`."""
    out = None if out is None else out.resolve()
    seen: set[Path] = set()

    def note(error: OSError) -> None:
        found.broken.append(f"{error.filename}: found a folder that cannot be read ({error.strerror})")

    collected = []
    for name, folders, files in os.walk(folder, followlinks=True, onerror=note):
        here = Path(name)
        real = here.resolve()
        if real in seen or real == out:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(part for part in folders if _is_looked_into(here / part, found))
        collected += [here / part for part in files if is_nifti(here / part) or _may_be_a_folder(here / part)]
    for path in sorted(collected):
        if path.exists():
            yield path
        else:
            found.broken.append(f"{path}: found a link to nothing, wanted a scan or a folder of scans")


def _may_be_a_folder(path: Path) -> bool:
    """Whether a link that leads nowhere was one to a folder, by its name: there is nothing else to tell."""
    return path.is_symlink() and not path.exists() and not path.suffix and not path.name.startswith(".")


def _is_looked_into(folder: Path, found: Found) -> bool:
    if folder.name.startswith("."):
        return False
    if is_nifti(folder):
        found.broken.append(f"{folder}: found a folder, wanted a scan")
        return False
    if folder.name in NOT_RAW:
        found.left_out[f"folder {folder.name}"] += 1
        return False
    if is_derivative(folder):
        found.left_out["folder of results"] += 1
        return False
    return True


def _why_no_scan(path: Path, name: BidsName | None, suffix: str | None) -> str | None:
    """Why a file is not harmonized, as a word to count; None for a scan. Without a suffix any name will do."""
    if nifti.stem(path).rsplit("_", 1)[-1] in NO_SCANS:
        return "masks and labels"
    if record_of(path) is not None:
        return "results of this program"
    if suffix is None:
        return None
    if name is None:
        return "files without a BIDS name"
    return None if name.suffix == suffix else name.suffix


def _person_of(path: Path, folder: Path) -> Path | None:
    """The folder `sub-*` that a scan lies in, where there is one below the folder or it is the folder itself."""
    parents = [part for part in path.parents if len(part.parts) >= len(folder.parts)]
    return next((part for part in parents if part.name.startswith("sub-")), None)


def _refuse(found: Found, suffix: str | None) -> None:
    kinds = found.left_out_line
    if suffix is None:
        wanted = "files that end in .nii or .nii.gz"
    else:
        others = [reason for reason in found.left_out if " " not in reason]
        wanted = f"sub-*_{suffix}.nii.gz" + (f", or --suffix {others[0]}" if others else "")
    held = f" ({kinds})" if kinds else ""
    raise ValueError(f"{found.folder}: found no scan in it{held}, wanted {wanted}")
