"""Sources whose scans are those of another source, changed: under intensity maps, or without their receive field."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors.torch
from torch import Tensor

from harmony_lite.cohort.source import Source
from harmony_lite.images.bias_field import without_field
from harmony_lite.images.intensity_maps import mapped_slices
from harmony_lite.storage import cached_file, kept

__all__ = ["CorrectedScans", "MappedTarget"]


@dataclass(frozen=True)
class _ChangedScans:
    """Everything but the scans is the other source's.

    Attributes:
        source: the other source.
        scanners: names, in any order.
    """

    source: Source
    scanners: tuple[str, ...]

    def _origin(self, scanner: str) -> str:
        """The other source's scanner that a scan comes from."""
        return scanner

    @property
    def names(self) -> list[str]:
        return self.source.names

    def with_scanners(self, scanners: tuple[str, ...]) -> Self:
        return replace(self, scanners=scanners)

    def has(self, person: int, scanner: str, repeat: int) -> bool:
        return scanner in self.scanners and self.source.has(person, self._origin(scanner), repeat)

    def mask(self, person: int, scanner: str) -> Tensor:
        return self.source.mask(person, self._origin(scanner))

    def truth(self, person: int, name: str) -> Any:
        return self.source.truth(person, name)

    def affine(self, person: int, scanner: str | None = None) -> np.ndarray:
        return self.source.affine(person, scanner and self._origin(scanner))


@dataclass(frozen=True)
class MappedTarget(_ChangedScans):
    """People on one scanner, and the same scans under intensity maps as if these were further scanners.

    Attributes:
        target: the scanner whose scans are mapped.
        maps: curves of [0, 1] by the names of the further scanners.
    """

    target: str
    maps: Mapping[str, Callable[[Tensor], Tensor]]

    def _origin(self, scanner: str) -> str:
        return self.target

    def scan(self, person: int, scanner: str, repeat: int) -> Tensor:
        scan = self.source.scan(person, self.target, repeat)
        if scanner == self.target:
            return scan
        return mapped_slices(self.maps[scanner], (scan * self.mask(person, scanner)).clamp_min(0)[None])[0]


@dataclass(frozen=True)
class CorrectedScans(_ChangedScans):
    """Scans after N4 bias correction; each is corrected once and kept as a file.

    Attributes:
        folder: of these files.
    """

    folder: Path

    def scan(self, person: int, scanner: str, repeat: int) -> Tensor:
        scan = self.source.scan(person, scanner, repeat)
        which = hashlib.sha256(scan.numpy().tobytes()).hexdigest()[:16]  # of one name there are people of several ages
        path = self.folder / f"{self.source.names[person]}.{scanner}.{repeat}.{which}.safetensors"
        if not cached_file(path):
            corrected = without_field(scan[None], self.mask(person, scanner)[None])[0]
            with kept(path) as part:
                part.write_bytes(safetensors.torch.save({"scan": corrected.contiguous()}))
        return safetensors.torch.load(path.read_bytes())["scan"]
