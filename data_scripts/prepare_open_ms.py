"""Bring the two studies of an open longitudinal MS patient to one grid, in a folder that `Cohort.from_files` reads.

    python data_scripts/prepare_open_ms.py PATIENT OUT

PATIENT holds one patient of the longitudinal MS database of Lesjak et al. (CC-BY): `gt.nii.gz` (whose grid is the
common one), `brainmask_common_space.nii.gz`, and for both studies `studyN_T1W.nii.gz` with the ITK transforms
`studyN_T1W_intrastudy_to_FLAIR.txt` and `studyN_FLAIR_to_common_space.txt`.
OUT gets `sub-patient01/ses-studyN/anat/sub-patient01_ses-studyN_T1w.nii.gz` with `..._desc-brain_mask.nii.gz` beside,
and `participants.tsv`. The two studies are 203 days apart and were taken with different protocols; the scanners'
names are not stated at the source, so the sessions are called study1 and study2.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import zlib
from pathlib import Path

import SimpleITK

__all__ = ["main", "prepare"]

STUDIES = ("study1", "study2")
REFERENCE = "gt.nii.gz"
BRAIN = "brainmask_common_space.nii.gz"
DESCRIPTION = {
    "Name": "Open longitudinal MS patient, T1w of two studies on one grid",
    "BIDSVersion": "1.9.0",
    "License": "CC-BY",
    "HowToAcknowledge": "Cite Lesjak et al., longitudinal MR image database of MS patients.",
}


def prepare(folder: str | Path, out: str | Path, *, subject: str = "patient01") -> list[Path]:
    """Resample both studies' T1w to the grid of `gt.nii.gz` and write them with the brain mask beside.

    The intensities are interpolated linearly (a spline rings at the skull), once, and kept in scanner units as
    float32; voxels outside a study's field of view are 0. The head is kept. The mask, the same for both, is the
    brain as far as both fields of view reach (the first study misses 0.4 % of it, at top and bottom).

    Args:
        folder: the patient's files, named as above.
        out: made where it is absent; files of the same names are replaced.
        subject: label of the person, letters and digits.

    Returns:
        The T1w files, study1 first.

    Raises:
        FileNotFoundError: the folder, or a file in it, is absent.
        ValueError: a file that cannot be read, a mask on another grid or empty, a label with other characters, a
            file where the output folder should be.
    """
    folder, out = Path(folder), Path(out)
    if not subject.isalnum():
        raise ValueError(f"subject: found {subject!r}, wanted letters and digits only")
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: found a file, wanted a folder to write to")
    _require_files(folder)
    reference = _read_image(folder / REFERENCE)
    brain = _brain_on(reference, folder / BRAIN)
    scans = []
    for study in STUDIES:
        scan, seen = _on_grid(folder, study, reference)
        scans.append(scan)
        brain = brain * seen
    if not SimpleITK.GetArrayViewFromImage(brain).any():
        raise ValueError(f"{folder}: found no brain voxel that both studies reach, wanted overlapping fields of view")

    written = []
    for study, scan in zip(STUDIES, scans, strict=True):
        anat = out / f"sub-{subject}" / f"ses-{study}" / "anat"
        stem = f"sub-{subject}_ses-{study}"
        written.append(_write_image(scan, anat / f"{stem}_T1w.nii.gz"))
        _write_image(brain, anat / f"{stem}_desc-brain_mask.nii.gz")
    _write_text("participant_id\tage\tsex\n" + f"sub-{subject}\tn/a\tn/a\n", out / "participants.tsv")
    _write_text(json.dumps(DESCRIPTION, indent=2) + "\n", out / "dataset_description.json")
    return written


def _transforms(study: str) -> tuple[str, str]:
    return f"{study}_FLAIR_to_common_space.txt", f"{study}_T1W_intrastudy_to_FLAIR.txt"


def _require_files(folder: Path) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: found no such folder, wanted one patient of the open MS database")
    wanted = [REFERENCE, BRAIN, *(name for study in STUDIES for name in (f"{study}_T1W.nii.gz", *_transforms(study)))]
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder}: found {len(wanted) - len(missing)} of {len(wanted)} files, wanted also {', '.join(missing)}"
        )


def _on_grid(folder: Path, study: str, reference: SimpleITK.Image) -> tuple[SimpleITK.Image, SimpleITK.Image]:
    """A study's T1w on the common grid, interpolated once, and 1 where its field of view reaches."""
    to_common, to_flair = _transforms(study)
    # ITK maps output points to input points, the transform added last first: common space -> FLAIR -> T1w
    transform = SimpleITK.CompositeTransform(3)
    transform.AddTransform(_read_transform(folder / to_flair))
    transform.AddTransform(_read_transform(folder / to_common))
    moving = _read_image(folder / f"{study}_T1W.nii.gz")
    everywhere = SimpleITK.Cast(moving * 0 + 1, SimpleITK.sitkUInt8)
    scan = SimpleITK.Resample(moving, reference, transform, SimpleITK.sitkLinear, 0.0, SimpleITK.sitkFloat32)
    seen = SimpleITK.Resample(everywhere, reference, transform, SimpleITK.sitkNearestNeighbor, 0, SimpleITK.sitkUInt8)
    return scan, seen


def _brain_on(reference: SimpleITK.Image, path: Path) -> SimpleITK.Image:
    brain = SimpleITK.Cast(_read_image(path) > 0.5, SimpleITK.sitkUInt8)
    same = brain.GetSize() == reference.GetSize() and all(
        abs(found - wanted) < 1e-3
        for part in ("GetOrigin", "GetSpacing", "GetDirection")
        for found, wanted in zip(getattr(brain, part)(), getattr(reference, part)(), strict=True)
    )
    if not same:
        raise ValueError(
            f"{path}: found a grid of {brain.GetSize()} at {brain.GetOrigin()}, "
            f"wanted that of {REFERENCE}, {reference.GetSize()} at {reference.GetOrigin()}"
        )
    brain.CopyInformation(reference)  # to the last digit
    return brain


def _read_image(path: Path) -> SimpleITK.Image:
    try:
        with gzip.open(path) as file:  # ITK reads a file that was cut short without a word, and fills it with zeros
            while file.read(1 << 20):
                pass
        image = SimpleITK.ReadImage(str(path))
    except (EOFError, OSError, RuntimeError, zlib.error) as error:
        raise ValueError(f"{path}: found a file that cannot be read whole, wanted a NIfTI volume, .nii.gz") from error
    if image.GetDimension() != 3:
        raise ValueError(f"{path}: found {image.GetDimension()} dimensions, wanted 3")
    return image


def _read_transform(path: Path) -> SimpleITK.Transform:
    try:
        return SimpleITK.ReadTransform(str(path))
    except RuntimeError as error:
        raise ValueError(f"{path}: found a file that cannot be read, wanted an ITK transform") from error


def _write_image(image: SimpleITK.Image, path: Path) -> Path:
    """Write beside, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part{os.getpid()}_{path.name}")
    try:
        SimpleITK.WriteImage(image, str(part), useCompression=True)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _write_text(text: str, path: Path) -> None:
    part = path.with_name(f".part{os.getpid()}_{path.name}")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    """Command line: 0 done, 2 the user's mistake, told in one line on standard error."""
    parser = argparse.ArgumentParser(
        description="Bring the two studies of an open longitudinal MS patient to one grid, BIDS-like.",
        epilog="example: python data_scripts/prepare_open_ms.py open_ms_patient01 open_ms_bids",
    )
    parser.add_argument("patient", type=Path, help="folder with gt.nii.gz, the studies' T1W and their transforms")
    parser.add_argument("out", type=Path, help="folder to write sub-*/ses-*/anat and participants.tsv to")
    parser.add_argument("--subject", default="patient01", help="label of the person (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        written = prepare(options.patient, options.out, subject=options.subject)
    except (ValueError, OSError) as error:
        print(f"prepare_open_ms: error: {error}", file=sys.stderr)
        return 2
    for path in written:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
