"""A folder of scans in the form of BIDS: read as people on scanners, and written."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from harmony_lite.cohort.bids import brain_mask_beside, is_nifti, repeats
from harmony_lite.images import nifti
from harmony_lite.images.intake import take_in
from harmony_lite.simulate import PRESETS
from harmony_lite.simulate.anatomy import VOLUMES
from harmony_lite.simulate.physics import TISSUES

__all__ = ["FilesInFolder", "write_person"]

COLUMNS = ("participant_id", "age")  # of participants.tsv, in capitals or not
NOT_KNOWN = ("", "n/a", "na", "nan")  # in place of an age


@dataclass(frozen=True)
class FilesInFolder:
    """Scans on disk: `paths[name][scanner]` lists the repeats."""

    folder: Path
    scanners: tuple[str, ...]
    paths: dict[str, dict[str, list[Path]]]
    people: pd.DataFrame

    @classmethod
    def found_in(cls, folder: Path) -> FilesInFolder:
        """Look for scans; nothing is read yet."""
        if not folder.exists():
            raise FileNotFoundError(
                f"{folder}: found no such folder, wanted sub-*/ses-SCANNER/anat/*_T1w.nii.gz below it"
            )
        if not folder.is_dir():
            raise ValueError(
                f"{folder}: found a file, wanted a folder with sub-*/ses-SCANNER/anat/*_T1w.nii.gz below it"
            )
        paths: dict[str, dict[str, list[Path]]] = {}
        for path in filter(is_nifti, sorted(folder.glob("sub-*/ses-*/anat/*_T1w.nii*"))):
            subject, session = path.relative_to(folder).parts[:2]
            scanner = _scanner_of(session.removeprefix("ses-"))
            paths.setdefault(subject, {}).setdefault(scanner, []).append(path)
        paths = {name: {scanner: repeats(found) for scanner, found in scans.items()} for name, scans in paths.items()}
        if not paths:
            raise ValueError(f"{folder}: found no sub-*/ses-SCANNER/anat/*_T1w.nii.gz, wanted at least one")
        table = folder / "participants.tsv"
        people = _participants(table) if table.is_file() else pd.DataFrame()
        scanners = tuple(sorted({scanner for sessions in paths.values() for scanner in sessions}))
        return cls(folder, scanners, paths, people)

    @property
    def names(self) -> list[str]:
        return list(self.paths)

    def with_scanners(self, scanners: tuple[str, ...]) -> FilesInFolder:
        return replace(self, scanners=scanners)

    def _path(self, person: int, scanner: str, repeat: int = 0) -> Path:
        return self.paths[self.names[person]][scanner][repeat]

    def has(self, person: int, scanner: str, repeat: int) -> bool:
        return repeat < len(self.paths[self.names[person]].get(scanner, ()))

    def scan(self, person: int, scanner: str, repeat: int) -> Tensor:
        path = self._path(person, scanner, repeat)
        image = nifti.read(path)
        return take_in(image.volume, self._given_mask(path, person, image), what=f"{path}").images[0]

    def mask(self, person: int, scanner: str) -> Tensor:
        path = self._path(person, scanner)
        image = nifti.read(path)
        return take_in(image.volume, self._given_mask(path, person, image), what=f"{path}").mask[0]

    def _given_mask(self, path: Path, person: int, image: nifti.NiftiScan) -> Tensor | None:
        beside = brain_mask_beside(path, self.folder / self.names[person])
        return None if beside is None else nifti.read_mask(beside, image)

    def affine(self, person: int, scanner: str | None = None) -> np.ndarray:
        if scanner is None:
            scanner = next(s for s in self.scanners if self.has(person, s, 0))  # the target where there is a scan of it
        return nifti.read(self._path(person, scanner)).affine

    def truth(self, person: int, name: str) -> Any:
        subject = self.names[person]
        if name == "age":
            return self.people["age"].get(subject, math.nan) if "age" in self.people else math.nan
        if name == "smallest_jacobian":
            return math.nan
        if name == "volumes_ml":
            row = self.people.loc[subject] if subject in self.people.index else {}
            return {volume: row[volume] for volume in VOLUMES if volume in row}
        patterns, convert = _TRUTH_FILES[name]
        folder = self.folder / subject / "anat"
        found = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
        if len(found) != len(patterns):
            raise ValueError(f"{folder}: found no {' or '.join(patterns)}, wanted them for the cohort's {name}")
        return convert(torch.cat([nifti.read_map(path).volume[0] for path in found]))


_TRUTH_FILES: dict[str, tuple[tuple[str, ...], Callable[[Tensor], Tensor]]] = {
    "labels": (("*_dseg.nii*",), lambda volume: volume.round().to(torch.uint8)),
    "lesions": (("*_label-lesion_mask.nii*",), lambda volume: volume > 0.5),
    "lesion_fractions": (("*_label-lesion_mask.nii*",), lambda volume: (volume > 0.5).float()),
    "tissues": (tuple(f"*_label-{tissue}_probseg.nii*" for tissue in TISSUES[:3]), lambda volume: volume),
}


def _participants(table: Path) -> pd.DataFrame:
    """One row a person, by `sub-ID`; ages in years, `89+` as 89, those not known as NaN."""
    try:
        people = pd.read_csv(table, sep="\t", dtype=str, index_col=False, encoding="utf-8-sig", keep_default_na=False)
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{table}: found a table that cannot be read ({error}), wanted columns and tabs") from error
    people.columns = [name.strip().lower() if name.strip().lower() in COLUMNS else name.strip() for name in people]
    if "participant_id" not in people:
        raise ValueError(f"{table}: found the columns {', '.join(people)}, wanted participant_id among them")
    ids = people.pop("participant_id").str.strip()
    people.index = pd.Index([name if name.startswith("sub-") else f"sub-{name}" for name in ids], name="participant_id")
    if people.index.has_duplicates:
        twice = ", ".join(people.index[people.index.duplicated()].unique())
        raise ValueError(f"{table}: found more than one row for {twice}, wanted one row a person")
    if "age" in people:
        people["age"] = [_years(table, name, text) for name, text in people["age"].items()]
    for name in set(VOLUMES) & set(people):
        people[name] = pd.to_numeric(people[name], errors="coerce")
    return people


def _years(table: Path, person: str, text: str) -> float:
    """An age; BIDS has "89+" for people whose age would tell who they are."""
    try:
        return math.nan if text.strip().lower() in NOT_KNOWN else float(text.strip().removesuffix("+"))
    except ValueError as error:
        raise ValueError(f"{table}: found the age {text!r} of {person}, wanted years, n/a or 89+") from error


def _scanner_of(session: str) -> str:
    """Session labels hold no underscores in BIDS: `oasistrio` is the preset `oasis_trio`; others stay as they are."""
    known = {name.replace("_", ""): name for name in PRESETS}
    return known.get(session, session)


def write_person(
    folder: Path,
    name: str,
    affine: np.ndarray,
    *,
    scans: dict[str, list[Tensor]],
    mask: Tensor,
    labels: Tensor,
    lesions: Tensor,
    tissues: Tensor,
) -> None:
    """Write one person as `FilesInFolder` finds it.

    Args:
        folder: of the cohort.
        name: of the person, `sub-...`.
        affine: voxel index to RAS+ millimetres, (4, 4).
        scans: the repeats of each scanner, (1, 1, D, H, W) each.
        mask: (1, 1, D, H, W), as are `labels` and `lesions`; `tissues` (1, 3, D, H, W).
        labels: fifteen groups.
        lesions: white-matter lesions.
        tissues: fractions of CSF, GM and WM.
    """

    def put(path: Path, volume: Tensor, description: str, dtype: str = "float32") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        like = nifti.NiftiScan.from_volume(volume, affine, description=description)
        nifti.write(path, volume.float(), like, dtype=dtype)

    anat = folder / name / "anat"
    put(anat / f"{name}_desc-brain_mask.nii.gz", mask, "simulated brain mask", "uint8")
    put(anat / f"{name}_dseg.nii.gz", labels, "simulated labels 0..14", "uint8")
    put(anat / f"{name}_label-lesion_mask.nii.gz", lesions, "simulated lesions", "uint8")
    for tissue, fraction in zip(TISSUES[:3], tissues[0], strict=True):
        put(anat / f"{name}_label-{tissue}_probseg.nii.gz", fraction[None, None], f"simulated fraction of {tissue}")
    for scanner, images in scans.items():
        session = scanner.replace("_", "")
        for repeat, image in enumerate(images):
            run = f"_run-{repeat + 1}" if len(images) > 1 else ""
            path = folder / name / f"ses-{session}" / "anat" / f"{name}_ses-{session}{run}_T1w.nii.gz"
            put(path, image, f"simulated, {scanner}")
