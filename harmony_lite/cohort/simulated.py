"""People and scans made by the simulator on demand, and kept on disk under the hash of their recipe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from harmony_lite import simulate
from harmony_lite.simulate import Person, preset, scan, simulate_person
from harmony_lite.simulate.anatomy import check_age, voxel_size
from harmony_lite.storage import cache_folder, cached_file, kept

__all__ = ["SimulatedPeople", "drawn_age"]


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
    folder = Path(simulate.__file__).parent
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

    @classmethod
    def asked_for(
        cls,
        subjects: int,
        scanners: Sequence[str],
        spacing: float | Sequence[float],
        seed: int,
        ages: Sequence[float] | None,
        oversampling: float,
        misregistration: float | None,
    ) -> SimulatedPeople:
        """What `Cohort.simulate` was asked for, checked (ValueError)."""
        for name, number, least in (("subjects", subjects, 1), ("seed", seed, 0)):
            if isinstance(number, bool) or not isinstance(number, Integral) or number < least:
                raise ValueError(f"{name}: found {number!r}, wanted a whole number of at least {least}")
        sizes = [spacing] if isinstance(spacing, str | Real) else list(spacing)
        if any(isinstance(size, bool) or not isinstance(size, Real) for size in sizes):
            raise ValueError(f"spacing: found {spacing!r}, wanted a number of mm or three")
        if isinstance(scanners, str) or not all(isinstance(scanner, str) for scanner in scanners):
            raise ValueError(f"scanners: found {scanners!r}, wanted a list of names of presets")
        names = tuple(preset(scanner).name for scanner in scanners)
        if not names or len(set(names)) < len(names):
            raise ValueError(f"scanners: found {list(scanners)}, wanted at least one name and none twice")
        if ages is not None and len(ages) != subjects:
            raise ValueError(f"ages: found {len(ages)} of them, wanted one for each of {subjects} subjects")
        drawn = [drawn_age(seed, i) for i in range(subjects)] if ages is None else [float(a) for a in ages]
        for age in drawn:
            check_age(age)
        if misregistration is not None and not 0 <= misregistration <= 10:
            raise ValueError(f"misregistration: found {misregistration:g}, wanted 0 to 10 mm")
        return cls(names, tuple(drawn), voxel_size(spacing), seed, oversampling, misregistration)

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

        def make() -> dict[str, Tensor]:
            generator = torch.Generator().manual_seed(_number("scan", self.seed, person, scanner, repeat))
            return {"levels": scan(whole, settings, generator)[inside].to(torch.int16)}

        volume = torch.zeros(inside.shape)
        volume[inside] = _made_once(path, make)["levels"].float()  # 12-bit whole numbers: nothing is lost
        return volume

    def _folder(self, person: int) -> Path:
        recipe = (_simulator_version(), self.seed, person, self.ages[person], self.spacing, self.oversampling)
        return cache_folder() / "people" / hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:24]

    def _person(self, person: int) -> Person:
        path = self._folder(person) / "person.safetensors"

        def make() -> dict[str, Tensor]:
            generator = torch.Generator().manual_seed(_number("person", self.seed, person))
            age, sizes = self.ages[person], {"spacing": self.spacing, "oversampling": self.oversampling}
            return _packed(simulate_person(age, generator, **sizes))

        return _unpacked(_made_once(path, make))


def _made_once(path: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What a file of the cache holds; made where it is missing, and made again where it is damaged."""
    if cached_file(path):
        try:
            return load_file(path)
        except SafetensorError:  # a disk that was full, a copy that broke off
            path.unlink()
    with kept(path) as part:
        save_file(make(), part)
    return load_file(path)


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
