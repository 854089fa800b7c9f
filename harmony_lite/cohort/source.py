"""What a cohort asks of the place where its people come from."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from torch import Tensor

__all__ = ["Source"]


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
