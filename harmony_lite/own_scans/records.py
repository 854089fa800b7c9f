"""What a result says of itself: a JSON beside it, and `dataset_description.json` for a folder of results.

The same record decides a rerun: a result is left alone when it was made by the same method, settings, weights, version
and files, and is still what was written.

Source: BIDS derivatives (https://bids-specification.readthedocs.io/en/stable/derivatives/introduction.html).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harmony_lite import __version__
from harmony_lite.images import nifti
from harmony_lite.own_scans.job import Task
from harmony_lite.storage import written_whole

__all__ = [
    "DESCRIPTION",
    "OWN",
    "check_record_place",
    "describe_folder",
    "is_up_to_date",
    "record_of",
    "record_path",
    "sha256_of",
    "write_record",
]

DESCRIPTION = "dataset_description.json"
PROGRAM = "harmony-lite"  # as the records of a result name it
OWN = "HarmonyLite"  # key of our part of a record
_CHUNK = 1 << 20


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(_CHUNK):
            digest.update(part)
    return digest.hexdigest()


def record_path(out: Path) -> Path:
    """Where the record of a result lies: its name with `.json`."""
    return out.with_name(f"{nifti.stem(out)}.json")


def record_of(out: Path) -> dict[str, Any] | None:
    """The record of a result of this program; None for any other file."""
    try:
        record = json.loads(record_path(out).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get(OWN), dict) else None


def check_record_place(out: Path) -> None:
    """Refuse a place where a JSON lies that is not ours (ValueError): it may describe the user's own scan."""
    path = record_path(out)
    if path.exists() and record_of(out) is None:
        raise ValueError(f"output {out}: found {path.name} of another program beside it, wanted another name or folder")


def identity(task: Task, made_by: Mapping[str, Any]) -> dict[str, Any]:
    """All that decides the numbers of a result: how it is made, and the hashes of the files that it is made from."""
    mask = None if task.mask is None else sha256_of(task.mask)
    return {**made_by, "version": __version__, "input_sha256": sha256_of(task.source), "mask_sha256": mask}


def is_up_to_date(task: Task, made_by: Mapping[str, Any]) -> bool:
    """Whether a result is there, whole, and made as it would be made now."""
    record = record_of(task.out)
    if record is None or not task.out.is_file():
        return False
    own = record[OWN]
    try:
        return own.get("identity") == identity(task, made_by) and own.get("output_sha256") == sha256_of(task.out)
    except OSError:  # an input that cannot be read is said when it is its turn
        return False


def write_record(
    task: Task, made_by: Mapping[str, Any], used: str, command: str, remarks: Sequence[str], *, stripped: bool
) -> Path:
    """Write the record of a result that has just been written; returns its path.

    Args:
        task: the scan and its result.
        made_by: method, variant, and hashes of weights and reference.
        used: the same as one line.
        command: what the user typed.
        remarks: one line for each thing that is odd about the scan, or that was changed.
        stripped: whether the result is 0 outside the brain.
    """
    record = {
        "Description": f"harmonized by {used}",
        "Sources": [str(task.source)],
        "SkullStripped": stripped,
        "GeneratedBy": [{"Name": PROGRAM, "Version": __version__}],
        OWN: {
            "command": command,
            "warnings": list(remarks),
            "input": str(task.source),
            "mask": None if task.mask is None else str(task.mask),
            "identity": identity(task, made_by),
            "output_sha256": sha256_of(task.out),
        },
    }
    path = record_path(task.out)
    with written_whole(path) as part:
        part.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return path


def describe_folder(out: Path, source: Path, used: str) -> None:
    """Write `dataset_description.json` of a folder of results, unless one of another program lies there."""
    path = out / DESCRIPTION
    if path.exists():
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            ours = said["GeneratedBy"][0]["Name"] == PROGRAM
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            ours = False
        if not ours:
            raise ValueError(f"{path}: found a data set of another program, wanted a new folder for results")
    content = {
        "Name": f"Scans of {source.name or source.resolve().name}, harmonized",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": PROGRAM, "Version": __version__, "Description": used}],
        "SourceDatasets": [{"URL": source.resolve().as_uri()}],
    }
    with written_whole(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
