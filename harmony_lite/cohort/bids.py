"""Names of files in the form of BIDS: which person, session and kind of scan a file is, by its name alone.

Source: the Brain Imaging Data Structure, version 1.10 (https://bids-specification.readthedocs.io): `KEY-LABEL` pairs
with underscores between them, then a suffix (`T1w`) and the file's ending.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harmony_lite.images import nifti

__all__ = ["BidsName", "brain_mask_beside", "is_nifti", "repeats"]

BRAIN = "desc-brain_mask"  # of a name, where it stands for the brain of a scan
OWN_SPACES = ("T1w", "individual", "native", "orig", "scanner")  # labels of a scan's own space
_NAME = re.compile(r"((?:[a-zA-Z]+-[a-zA-Z0-9+]+_)+)([a-zA-Z0-9]+)(\.nii(?:\.gz)?)")


@dataclass(frozen=True)
class BidsName:
    """One file's name, taken apart.

    Attributes:
        entities: pairs of key and label, in the order of the name.
        suffix: the kind of image, as `T1w`.
        ending: `.nii` or `.nii.gz`.

    >>> name = BidsName.of("sub-01_ses-trio_run-2_T1w.nii.gz")
    >>> name.suffix, name.label("ses"), name.label("acq")
    ('T1w', 'trio', None)
    >>> str(name.with_label("desc", "nyul"))
    'sub-01_ses-trio_run-2_desc-nyul_T1w.nii.gz'
    """

    entities: tuple[tuple[str, str], ...]
    suffix: str
    ending: str

    @classmethod
    def of(cls, name: str) -> BidsName | None:
        """The parts of a file's name that begins with a subject; None for another name."""
        match = _NAME.fullmatch(name)
        if match is None or not name.startswith("sub-"):
            return None
        pairs = [tuple(part.split("-", 1)) for part in match[1].rstrip("_").split("_")]
        return cls(tuple(pairs), match[2], match[3])

    def label(self, key: str) -> str | None:
        """The label of an entity; None where the name has none."""
        return dict(self.entities).get(key)

    def with_label(self, key: str, label: str) -> BidsName:
        """The same name with an entity's label in its place, or at the end where there was none."""
        if self.label(key) is None:
            return replace(self, entities=(*self.entities, (key, label)))
        return replace(self, entities=tuple((k, label if k == key else old) for k, old in self.entities))

    def without(self, *keys: str) -> BidsName:
        """The same name without some entities."""
        return replace(self, entities=tuple(pair for pair in self.entities if pair[0] not in keys))

    def __str__(self) -> str:
        return "_".join([*(f"{key}-{label}" for key, label in self.entities), self.suffix]) + self.ending


def is_nifti(path: Path) -> bool:
    """Whether a path ends as a NIfTI file does and is none of the files that a system leaves beside one."""
    return path.name.endswith(nifti.SUFFIXES) and not path.name.startswith(".")


def repeats(paths: Sequence[Path]) -> list[Path]:
    """Scans of one person and session that differ in their run alone, in the order of their runs.

    Raises:
        ValueError: names that differ in anything else, or one run twice; the message lists them.

    >>> [path.name for path in repeats([Path("sub-1_run-10_T1w.nii"), Path("sub-1_run-2_T1w.nii")])]
    ['sub-1_run-2_T1w.nii', 'sub-1_run-10_T1w.nii']
    """
    names = {path: BidsName.of(path.name) for path in paths}
    others = {None if name is None else (name.without("run").entities, name.suffix) for name in names.values()}
    runs = [_run_of(name) for name in names.values() if name is not None]
    if None in others or len(others) > 1 or len(set(runs)) < len(paths):
        listed = ", ".join(sorted(path.name for path in paths))
        raise ValueError(
            f"{paths[0].parent}: found {listed}, wanted one scan, or repeats of one whose names differ in run- alone"
        )
    return sorted(paths, key=lambda path: _run_of(names[path]))


def brain_mask_beside(scan: Path, person: Path | None = None) -> Path | None:
    """The brain mask that lies beside a scan, by its name; None where there is none.

    For a scan whose name has the form of BIDS it is `..._desc-brain_mask.nii.gz` in the scan's folder, else in
    `sub-*/anat` of the same person, with the scan's entities or fewer of them; that with the most is taken.
    `space-orig`, `space-T1w` and the like name the scan's own space. For another scan it is `NAME_mask`,
    `NAME_brain_mask` or `NAME_desc-brain_mask` beside it.

    Args:
        scan: path of the scan.
        person: folder of the person, `sub-*`, where there is one.
    """
    name = BidsName.of(scan.name)
    if name is None:
        names = [f"{nifti.stem(scan)}{end}" for end in ("_desc-brain_mask", "_brain_mask", "_mask")]
        return next((path for path in _with_endings(scan.parent, names) if path.is_file()), None)
    for folder in [scan.parent] if person is None else [scan.parent, person / "anat"]:
        fitting = [
            (len(mask.entities), path)
            for path in sorted(folder.glob(f"*_{BRAIN}.nii*"))
            if is_nifti(path) and (mask := BidsName.of(path.name)) is not None and _fits(mask, name)
        ]
        if fitting:
            return max(fitting)[1]
    return None


def _fits(mask: BidsName, scan: BidsName) -> bool:
    """Whether a mask says nothing that its scan does not say, but for its own space."""
    return all(
        key == "desc" or scan.label(key) == label or (key == "space" and label in OWN_SPACES)
        for key, label in mask.entities
    )


def _with_endings(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    for name in names:
        for ending in reversed(nifti.SUFFIXES):
            yield folder / f"{name}{ending}"


def _run_of(name: BidsName) -> int | str:
    run = name.label("run")
    return 0 if run is None else int(run) if run.isdigit() else run
