"""Where a cohort's people come from: made by the simulator and kept on disk, or found in a folder of files."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from harmony_lite.images import nifti
from harmony_lite.images.intensity_maps import mapped_slices
from harmony_lite.images.normalize import foreground
from harmony_lite.simulate import PRESETS, Person, preset, scan, simulate_person
from harmony_lite.simulate.anatomy import VOLUMES
from harmony_lite.simulate.physics import TISSUES
from harmony_lite.storage import cache_folder, written_whole

__all__ = ["FilesInFolder", "MappedTarget", "SimulatedPeople", "Source", "drawn_age", "write_person"]


class Source(Protocol):
    """What a cohort asks of its people; `person` is an index into all of them, volumes are (1, D, H, W)."""

    names: list[str]
    scanners: tuple[str, ...]

    def with_scanners(self, scanners: tuple[str, ...]) -> Source:
        """The same people with the scanners in another order."""

    def has(self, person: int, scanner: str, repeat: int) -> bool:
        """Whether there is such a scan."""

    def scan(self, person: int, scanner: str, repeat: int) -> Tensor:
        """One scan, float32, scanner units."""

    def mask(self, person: int, scanner: str) -> Tensor:
        """The brain in the scans of that scanner, bool."""

    def truth(self, person: int, name: str) -> Any:
        """What is known about a person: `labels`, `tissues`, `lesions`, `age`, `volumes_ml`, ..."""

    def affine(self, person: int, scanner: str | None = None) -> np.ndarray:
        """Voxel index to RAS+ millimetres of a scanner's scan, or of the first scan there is, (4, 4)."""


# --------------------------------------------------------------------------------------------------- intensity maps


@dataclass(frozen=True)
class MappedTarget:
    """People on one scanner, and the same scans under intensity maps as if these were further scanners.

    Attributes:
        source: where the people come from.
        target: the scanner whose scans are mapped.
        maps: curves of [0, 1] by name.
        scanners: the target and the maps' names, in any order.
    """

    source: Source
    target: str
    maps: Mapping[str, Callable[[Tensor], Tensor]]
    scanners: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        return self.source.names

    def with_scanners(self, scanners: tuple[str, ...]) -> MappedTarget:
        return replace(self, scanners=scanners)

    def has(self, person: int, scanner: str, repeat: int) -> bool:
        return scanner in self.scanners and self.source.has(person, self.target, repeat)

    def affine(self, person: int, scanner: str | None = None) -> np.ndarray:
        return self.source.affine(person, scanner and self.target)

    def mask(self, person: int, scanner: str) -> Tensor:
        return self.source.mask(person, self.target)

    def truth(self, person: int, name: str) -> Any:
        return self.source.truth(person, name)

    def scan(self, person: int, scanner: str, repeat: int) -> Tensor:
        scan = self.source.scan(person, self.target, repeat)
        if scanner == self.target:
            return scan
        return mapped_slices(self.maps[scanner], (scan * self.mask(person, scanner)).clamp_min(0)[None])[0]


# ------------------------------------------------------------------------------------------------------ from physics


def _number(*parts: object) -> int:
    """A seed from the recipe of one thing, independent of every other thing."""
    return int.from_bytes(hashlib.sha256(json.dumps(parts).encode()).digest()[:6])


def drawn_age(seed: int, person: int) -> float:
    """A person's age where none is given: evenly from 20 to 80 years."""
    generator = torch.Generator().manual_seed(_number("age", seed, person))
    return round(20 + 60 * float(torch.rand(1, generator=generator)), 1)


@cache
def _simulator_version() -> str:
    """Hash of the simulator's sources: a changed simulator never meets people that an older one has cached."""
    folder = Path(__file__).parent / "simulate"
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))).hexdigest()


@dataclass(frozen=True)
class SimulatedPeople:
    """People made on demand; in the cache a person takes about 3 MB at 2 mm, a scan 0.4 MB."""

    scanners: tuple[str, ...]
    ages: tuple[float, ...]
    spacing: tuple[float, float, float]
    seed: int
    oversampling: float
    misregistration: float | None = None  # mm and degrees, in place of each scanner's own

    @property
    def names(self) -> list[str]:
        return [f"sub-{i + 1:03d}" for i in range(len(self.ages))]

    def with_scanners(self, scanners: tuple[str, ...]) -> SimulatedPeople:
        return replace(self, scanners=scanners)

    def has(self, person: int, scanner: str, repeat: int) -> bool:
        return scanner in self.scanners and repeat >= 0

    def affine(self, person: int, scanner: str | None = None) -> np.ndarray:
        return self._person(person).affine

    def mask(self, person: int, scanner: str) -> Tensor:
        return self._person(person).mask

    def truth(self, person: int, name: str) -> Any:
        if name == "age":
            return self.ages[person]
        whole = self._person(person)
        lesions = {"lesions": whole.lesion > 0.5, "lesion_fractions": whole.lesion}
        return lesions[name] if name in lesions else getattr(whole, name)

    def scan(self, person: int, scanner: str, repeat: int) -> Tensor:
        settings = preset(scanner)
        if self.misregistration is not None:
            settings = replace(settings, misregistration=self.misregistration)
        which = hashlib.sha256(json.dumps(asdict(settings)).encode()).hexdigest()[:12]
        path = self._folder(person) / f"scan-{which}-{repeat}.safetensors"
        whole = self._person(person)
        inside = whole.mask
        if not path.exists():
            generator = torch.Generator().manual_seed(_number("scan", self.seed, person, scanner, repeat))
            _keep(path, {"levels": scan(whole, settings, generator)[inside].to(torch.int16)})
        volume = torch.zeros(inside.shape)
        volume[inside] = load_file(path)["levels"].float()  # 12-bit whole numbers: nothing is lost
        return volume

    def _folder(self, person: int) -> Path:
        recipe = (_simulator_version(), self.seed, person, self.ages[person], self.spacing, self.oversampling)
        return cache_folder() / "people" / hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:24]

    def _person(self, person: int) -> Person:
        path = self._folder(person) / "person.safetensors"
        if not path.exists():
            generator = torch.Generator().manual_seed(_number("person", self.seed, person))
            made = simulate_person(self.ages[person], generator, spacing=self.spacing, oversampling=self.oversampling)
            _keep(path, _packed(made))
        return _unpacked(load_file(path))


def _keep(path: Path, tensors: dict[str, Tensor]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as part:
        save_file(tensors, part)


def _packed(person: Person) -> dict[str, Tensor]:
    """A person without the empty space around the head; fractions are whole half floats already."""
    inside = person.tissues.sum(0, keepdim=True) > 0
    maps = torch.cat([person.tissues, person.lesion, person.texture])[:, inside[0]]
    numbers = [person.age, person.smallest_jacobian, *person.spacing, *person.volumes_ml.values()]
    return {
        "inside": inside.to(torch.uint8),
        "maps": maps.half().contiguous(),
        "labels": person.labels[inside].contiguous(),
        "t1_factors": person.t1_factors,
        "affine": torch.from_numpy(person.affine),
        "numbers": torch.tensor(numbers, dtype=torch.float64),
        "volume_names": torch.frombuffer(bytearray(json.dumps(list(person.volumes_ml)).encode()), dtype=torch.uint8),
    }


def _unpacked(stored: dict[str, Tensor]) -> Person:
    inside = stored["inside"].bool()
    maps = torch.zeros(5, *inside.shape[1:])
    maps[:, inside[0]] = stored["maps"].float()
    labels = torch.zeros(inside.shape, dtype=torch.uint8)
    labels[inside] = stored["labels"]
    age, jacobian, *rest = stored["numbers"].tolist()
    names = json.loads(bytes(stored["volume_names"].tolist()))
    return Person(
        age=age,
        tissues=maps[:3],
        lesion=maps[3:4],
        labels=labels,
        texture=maps[4:5],
        t1_factors=stored["t1_factors"],
        volumes_ml=dict(zip(names, rest[3:], strict=True)),
        spacing=tuple(rest[:3]),
        affine=stored["affine"].numpy(),
        smallest_jacobian=jacobian,
    )


# -------------------------------------------------------------------------------------------------------- from files


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
        for path in sorted(folder.glob("sub-*/ses-*/anat/*_T1w.nii*")):
            subject, session = path.relative_to(folder).parts[:2]
            scanner = _scanner_of(session.removeprefix("ses-"))
            paths.setdefault(subject, {}).setdefault(scanner, []).append(path)
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
        return nifti.read(self._path(person, scanner, repeat)).volume[0]

    def mask(self, person: int, scanner: str) -> Tensor:
        path = self._path(person, scanner)
        image = nifti.read(path)
        for beside in (path.parent, self.folder / self.names[person] / "anat"):
            found = sorted(beside.glob("*_desc-brain_mask.nii*"))
            if found:
                return nifti.read_mask(found[0], image)[0]
        return foreground(image.volume)[0]

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
    people = pd.read_csv(table, sep="\t")
    if "participant_id" not in people:
        raise ValueError(f"{table}: found the columns {', '.join(people)}, wanted participant_id among them")
    return people.set_index("participant_id")


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
    for scanner, repeats in scans.items():
        session = scanner.replace("_", "")
        for repeat, image in enumerate(repeats):
            run = f"_run-{repeat + 1}" if len(repeats) > 1 else ""
            path = folder / name / f"ses-{session}" / "anat" / f"{name}_ses-{session}{run}_T1w.nii.gz"
            put(path, image, f"simulated, {scanner}")
