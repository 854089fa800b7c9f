"""ComBat on scans: every voxel of the training people's common brain is a feature of `combat_table.fit_combat`.

It can only be applied to scanners that it was fitted on; an unseen one is refused, and the message names the seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from harmony_lite.cohort import SeveralScanners
from harmony_lite.images.normalize import percentiles
from harmony_lite.methods.classical.combat_table import ComBatModel, fit_combat
from harmony_lite.methods.classical.voxelwise import Voxelwise

__all__ = ["ComBat", "ComBatSettings"]


@dataclass(frozen=True)
class ComBatSettings:
    """How voxels are harmonized.

    Attributes:
        keep_target: bring every scanner to the first one, which stays as it is, rather than to what is common to all.
        empirical_bayes: shrink each voxel's location and scale (Fortin 2017) rather than take it as it is.
    """

    keep_target: bool = False
    empirical_bayes: bool = True


class ComBat(Voxelwise):
    """ComBat with a location and a scale for every voxel and scanner.

    Voxels are compared across people, so scans have to lie on one grid in template space. The features are the voxels
    in the brain of every training scan. Each scan is first scaled by its own 1st and 99th percentiles inside its
    mask: the gain of a T1-weighted scan has no meaning (Fortin 2017 harmonizes diffusion maps, whose units have one).
    Results come in the units of the cohort's first scanner, by the mean of its training people's percentiles.

    Two variants. `paper`: to what is common to all scanners. `target`: to the first scanner, which stays as it is.

    It is fitted on the spot and not shipped: the parameters are four bytes times `2 + 2 scanners + covariates` for
    each voxel (`model.bytes`), 4.4 MB for three scanners and 24 people at 2 mm.
    """

    name: ClassVar[str] = "combat"
    variants: ClassVar[tuple[str, ...]] = ("paper", "target")

    def __init__(self, settings: ComBatSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or ComBatSettings()
        self.model: ComBatModel | None = None
        self._covariates: Mapping[str, Sequence[Any]] | None = None  # of the images in hand

    @classmethod
    def from_variant(cls, variant: str) -> Self:
        """`paper` or `target`."""
        return cls(ComBatSettings(keep_target=variant == "target"))

    def scale(self, images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The 1st percentile inside the mask, and its distance to the 99th."""
        low, high = percentiles(images, mask)
        if bool((low == high).any()):
            raise ValueError("images: found the 1st and 99th percentile of one equal, wanted them apart")
        return low, high - low

    def fit(
        self,
        view: SeveralScanners,
        *,
        generator: torch.Generator | None = None,
        covariates: Mapping[str, Sequence[Any]] | None = None,
    ) -> Self:
        """Fit location and scale of every voxel and scanner.

        Nothing is random; `generator` is not used.

        Args:
            view: training people on every scanner, in template space; the first scanner gives the units.
            generator: not used.
            covariates: values by name, one per person, whose effects are kept (age, sex). Everybody is on every
                scanner here, so that people and scanners are not confounded without them either.

        Raises:
            ValueError: scans that are not finite or without contrast, one scanner or one person only, no common brain.
        """
        table, samples = self._table(view)
        scanners = len(view.scanners)
        self.model = fit_combat(
            table,
            samples,
            {key: np.tile(np.asarray(values), scanners) for key, values in (covariates or {}).items()},
            target=samples[0] if self.settings.keep_target else None,
            empirical_bayes=self.settings.empirical_bayes,
        )
        return self

    def harmonize(
        self,
        images: Tensor,
        *,
        reference: Tensor | None = None,
        scanner: str | None = None,
        mask: Tensor | None = None,
        covariates: Mapping[str, Sequence[Any]] | None = None,
    ) -> Tensor:
        """As for every method, on the grid of the training scans, all images from one scanner of the fit.

        Args:
            images: `(N, 1, D, H, W)`, scanner units.
            reference: not taken.
            scanner: name of the scanner.
            mask: bool, same shape; the foreground where absent.
            covariates: one value per image by name, where the fit had covariates.

        Returns:
            Same shape, float32, in the units of the fit's first scanner.

        Raises:
            ValueError: as for every method; other covariates than those of the fit.
        """
        told = copy(self)
        told._covariates = covariates
        return super(ComBat, told).harmonize(images, reference=reference, scanner=scanner, mask=mask)

    def _harmonize(self, images: Tensor, mask: Tensor, scanner: str | None) -> Tensor:
        names = [scanner] * len(images)
        return self._through_table(images, mask, lambda table: self.model.apply(table, names, self._covariates))

    @property
    def scanners(self) -> tuple[str, ...]:
        """Those of the fit."""
        return () if self.model is None else self.model.scanners

    def state(self) -> dict[str, Tensor]:
        """Parameters by name: `mask` (D, H, W), `units`, `mean`, `deviation`, and `shift.NAME`, `scale.NAME` (F,)."""
        if self.model is None:
            return {}
        model, state = self.model, self._grid_state()
        state |= {"mean": torch.from_numpy(model.mean), "deviation": torch.from_numpy(model.deviation)}
        for row, name in enumerate(model.scanners):
            state |= {f"shift.{name}": torch.from_numpy(model.shift[row])}
            state |= {f"scale.{name}": torch.from_numpy(model.scale[row])}
        first = 0
        for covariate, levels in model.coding.items():  # one name per column: age, or sex=female|male for a level
            columns = [covariate] if levels is None else [f"{covariate}={levels[0]}|{level}" for level in levels[1:]]
            for column in columns:
                state[f"effect.{column}"] = torch.from_numpy(model.effects[first])
                first += 1
        return state

    def load_state(self, state: dict[str, Tensor]) -> Self:
        """Take over parameters.

        Raises:
            ValueError: names that are missing, or tensors of another length than the mask has voxels.
        """
        scanners = tuple(sorted(name.removeprefix("shift.") for name in state if name.startswith("shift.")))
        effects = sorted(name for name in state if name.startswith("effect."))  # files do not keep the order
        fields = ["mean", "deviation", *(f"{kind}.{name}" for kind in ("shift", "scale") for name in scanners)]
        if len(scanners) < 2 or set(state) != {"mask", "units", *fields, *effects}:
            raise ValueError(
                f"{self.name}: found the tensors {sorted(state)}, wanted mask, units, mean, deviation, and shift.NAME "
                "and scale.NAME of two scanners or more"
            )
        mask = state["mask"].bool()
        wrong = [name for name in (*fields, *effects) if state[name].shape != (int(mask.sum()),)]
        if wrong or state["units"].shape != (2,):
            raise ValueError(f"{self.name}: found {wrong or ['units']} of another shape than the mask and scales want")
        values = {name: tensor.float().cpu().numpy() for name, tensor in state.items()}
        rows = {kind: np.stack([values[f"{kind}.{name}"] for name in scanners]) for kind in ("shift", "scale")}
        columns = np.array([values[name] for name in effects], np.float32).reshape(len(effects), int(mask.sum()))
        coding = _coding_from([name.removeprefix("effect.") for name in effects])
        self.model = ComBatModel(
            scanners, coding, values["mean"], values["deviation"], columns, rows["shift"], rows["scale"]
        )
        self._load_grid(state)
        return self


def _coding_from(columns: list[str]) -> dict[str, tuple[str, ...] | None]:
    """Coding of covariates from the names of their columns in a state."""
    coding: dict[str, tuple[str, ...] | None] = {}
    for column in columns:
        name, equals, levels = column.partition("=")
        if not equals:
            coding[name] = None
            continue
        baseline, _, level = levels.partition("|")
        coding[name] = (*(coding.get(name) or (baseline,)), level)
    return coding
