"""People x scanners: the one thing that methods are given, from simulation or from files.

A method is handed a *view*, which holds copies of exactly the scans that the method says it needs. A blind method's
view has no way back to the source scans.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from harmony_lite.cohort.changed import CorrectedScans, MappedTarget
from harmony_lite.cohort.files import FilesInFolder, write_person
from harmony_lite.cohort.side_by_side import make_scans
from harmony_lite.cohort.simulated import SimulatedPeople
from harmony_lite.cohort.source import Source
from harmony_lite.cohort.views import Needs, OneReference, Paired, Scans, SeveralScanners, TargetOnly, Unpaired, View
from harmony_lite.images.intensity_maps import MAPS
from harmony_lite.images.slices import axial_slices
from harmony_lite.simulate import full_name
from harmony_lite.storage import cache_folder, written_whole

__all__ = ["Cohort"]


@dataclass(frozen=True)
class Cohort:
    """People on scanners; the first scanner is the target unless one says otherwise.

    Everything is read, or simulated, when it is asked for. Splits are by person and share nothing.
    """

    _source: Source
    _members: tuple[int, ...]

    # ------------------------------------------------------------------------------------------------- where from

    @classmethod
    def simulate(
        cls,
        subjects: int = 8,
        scanners: Sequence[str] = ("oasis_trio", "oasis_vision"),
        spacing: float | Sequence[float] = 2.0,
        seed: int = 0,
        *,
        ages: Sequence[float] | None = None,
        oversampling: float = 1.5,
        misregistration: float | None = None,
        jobs: int = 1,
    ) -> Cohort:
        """Simulated people, every one of them on every scanner, as often as one likes.

        Person `i` of a seed is always the same person, whatever the number of subjects, the scanners and the spacing;
        what is simulated once is kept on disk (`HARMONY_CACHE`) under the hash of its recipe.

        Args:
            subjects: how many people.
            scanners: names of presets, the target first.
            spacing: voxel size in mm, one number or three, each 1 mm or more.
            seed: of people and scans.
            ages: years, one per person; drawn evenly from 20 to 80 when absent.
            oversampling: how much finer than the grid tissue is made (partial volume).
            misregistration: size of the rigid error of every scan, mm and degrees, in place of the scanners' own 0.45;
                noise and the error's direction stay those of the scan.
            jobs: above 1, so many processes make everybody's scan on each scanner at once, side by side; with 1 a scan
                is made when it is asked for. The numbers are the same.

        Raises:
            ValueError: no people, an unknown or repeated scanner, ages of another number or out of range, a
                misregistration below 0 or over 10 mm, a number of jobs below 1.
        """
        people = SimulatedPeople.asked_for(subjects, scanners, spacing, seed, ages, oversampling, misregistration)
        cohort = cls(people, tuple(range(subjects)))
        if jobs != 1:
            make_scans(cohort, jobs)
        return cohort

    @classmethod
    def from_files(cls, folder: str | Path) -> Cohort:
        """People and scanners from a BIDS-like folder.

        `sub-*/ses-SCANNER/anat/*_T1w.nii.gz`, a second scan of the same session as `*_run-2_T1w.nii.gz`; optional
        `*_desc-brain_mask.nii.gz` beside the scan or in `sub-*/anat`, `sub-*/anat/*_dseg.nii.gz` labels, and
        `participants.tsv` with `participant_id` and `age`. Without a mask the foreground is found in the image.
        Scanners are sorted by name; `cohort.with_target(name)` puts another one first.

        Raises:
            FileNotFoundError: no such folder.
            ValueError: a file instead of a folder, or a folder without any scan of that form.
        """
        source = FilesInFolder.found_in(Path(folder))
        return cls(source, tuple(range(len(source.names))))

    # ---------------------------------------------------------------------------------------------- who and where

    @property
    def scanners(self) -> tuple[str, ...]:
        """Names of the scanners, the target first."""
        return self._source.scanners

    @property
    def subjects(self) -> tuple[str, ...]:
        """Names of the people."""
        return tuple(self._source.names[i] for i in self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        return f"Cohort({len(self)} subjects x {', '.join(self.scanners)})"

    def subset(self, people: Sequence[int]) -> Cohort:
        """The people at these positions, in this order."""
        if not people or not all(0 <= i < len(self) for i in people):
            raise ValueError(f"people: found {list(people)}, wanted positions from 0 to {len(self) - 1}")
        return replace(self, _members=tuple(self._members[i] for i in people))

    def split(self, *sizes: int) -> tuple[Cohort, ...]:
        """Disjoint groups of people, in order: `train, validation, test = cohort.split(24, 4, 16)`.

        Raises:
            ValueError: more people asked for than there are.
        """
        if sum(sizes) > len(self) or min(sizes, default=0) < 1:
            raise ValueError(f"split: found sizes {sizes}, wanted positive ones of at most {len(self)} people together")
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        return tuple(self.subset(range(start, start + size)) for start, size in zip(starts, sizes, strict=True))

    def with_target(self, scanner: str) -> Cohort:
        """The same cohort with this scanner as the target."""
        scanner = self._known(scanner)
        rest = tuple(s for s in self.scanners if s != scanner)
        return replace(self, _source=self._source.with_scanners((scanner, *rest)))

    def with_maps(self, maps: Mapping[str, Callable[[Tensor], Tensor]] = MAPS) -> Cohort:
        """The target's scans, and the same scans under intensity maps as further "scanners": domain shift of tier (i).

        Each axial slice is mapped by itself (`harmony_lite.images.intensity_maps.mapped_slices`) inside the brain.

        Args:
            maps: curves of [0, 1] by the names that the new scanners get.

        Raises:
            ValueError: no map, or a map with the target's name.
        """
        target = self.scanners[0]
        if not maps or target in maps:
            raise ValueError(f"maps: found {list(maps)}, wanted at least one name, and none that is {target}")
        source = MappedTarget(self._source, (target, *maps), target, dict(maps))
        return replace(self, _source=source)

    def corrected(self, folder: str | Path | None = None) -> Cohort:
        """The same people and scanners after N4 bias correction; a scan is corrected once and kept as a file.

        Args:
            folder: of these files; `corrected` in the cache folder when None.
        """
        folder = cache_folder() / "corrected" if folder is None else Path(folder)
        return replace(self, _source=CorrectedScans(self._source, self.scanners, folder))

    def affine(self, person: int = 0, scanner: str | None = None) -> np.ndarray:
        """Voxel index to RAS+ millimetres of a person's grid, of a scanner's scan or of the first there is: (4, 4)."""
        return self._source.affine(self._members[person], scanner and self._known(scanner))

    # ------------------------------------------------------------------------------------------------------ scans

    def scans(self, scanner: str, repeat: int = 0) -> Tensor:
        """(N, 1, D, H, W) float32, scanner units, background near 0, RAS+: the people who have a scan there.

        Args:
            scanner: one of `scanners`.
            repeat: 0 for the scan, 1 for the same people again on the same scanner (the rescan), and so on.

        Raises:
            ValueError: an unknown scanner, no such repeat, scans on different grids.
        """
        scanner = self._known(scanner)
        members = [i for i in self._members if self._source.has(i, scanner, repeat)]
        if not members:
            raise ValueError(f"scanner {scanner}: found no scan with repeat {repeat} of these {len(self)} subjects")
        steps = tqdm(members, desc=scanner, unit="scan", disable=None, leave=False)
        return _stack([self._source.scan(i, scanner, repeat) for i in steps], f"scans of {scanner}")

    def masks(self, scanner: str) -> Tensor:
        """(N, 1, D, H, W) bool: brain of the people who have a scan there, in the order of `scans`."""
        scanner = self._known(scanner)
        members = [i for i in self._members if self._source.has(i, scanner, 0)]
        return _stack([self._source.mask(i, scanner) for i in members], f"masks of {scanner}")

    def has(self, scanner: str, repeat: int = 0) -> bool:
        """Whether everybody has that scan."""
        return all(self._source.has(i, self._known(scanner), repeat) for i in self._members)

    def slices(self, scanner: str, count: int, repeat: int = 0) -> Tensor:
        """(N * count, 1, D, H): `count` axial positions per person, evenly spaced over the person's brain."""
        return axial_slices(self.scans(scanner, repeat), count, mask=self.masks(scanner))[0]

    @property
    def mask(self) -> Tensor:
        """(N, 1, D, H, W) bool: the brain, on the target scanner."""
        return self.masks(self.scanners[0])

    # ------------------------------------------------------------------------------------------------------ truth

    @property
    def labels(self) -> Tensor:
        """(N, 1, D, H, W) uint8, 0..14 as `harmony_lite.simulate.LABELS`."""
        return self._truth("labels")

    @property
    def tissues(self) -> Tensor:
        """(N, 3, D, H, W): true fractions of CSF, GM and WM."""
        return self._truth("tissues")

    @property
    def largest_tissue(self) -> Tensor:
        """(N, 1, D, H, W) uint8: 0 outside the brain, else 1 CSF, 2 GM or 3 WM, whichever fraction is the largest."""
        return ((self.tissues.argmax(1, keepdim=True) + 1) * self.mask).to(torch.uint8)

    @property
    def lesions(self) -> Tensor:
        """(N, 1, D, H, W) bool: white-matter lesions."""
        return self._truth("lesions")

    @property
    def lesion_fractions(self) -> Tensor:
        """(N, 1, D, H, W): the share of each voxel that white-matter lesions fill; 0 or 1 of scans from files."""
        return self._truth("lesion_fractions")

    @property
    def ages(self) -> Tensor:
        """(N,) years; NaN where unknown."""
        return torch.tensor([float(self._source.truth(i, "age")) for i in self._members])

    @property
    def volumes_ml(self) -> pd.DataFrame:
        """True volumes in millilitres, one row per person."""
        rows = [self._source.truth(i, "volumes_ml") for i in self._members]
        return pd.DataFrame(rows, index=pd.Index(self.subjects, name="subject"))

    @property
    def smallest_jacobians(self) -> Tensor:
        """(N,) smallest Jacobian determinant of each simulated person's warp; positive where nothing is folded."""
        return torch.tensor([float(self._source.truth(i, "smallest_jacobian")) for i in self._members])

    def _truth(self, name: str) -> Tensor:
        return _stack([self._source.truth(i, name) for i in self._members], name)

    # ------------------------------------------------------------------------------------------------------ views

    def view(self, needs: Needs) -> View:
        """What a method may see, as copies; ValueError where there are no such scanners or scans."""
        needs = Needs(needs)
        target = self.scanners[0]
        if needs is Needs.TARGET_ONLY:
            return TargetOnly(self._scans_of(target))
        if needs is Needs.ONE_REFERENCE:
            scanned = [i for i, member in enumerate(self._members) if self._source.has(member, target, 0)]
            if not scanned:
                raise ValueError(f"{needs}: found no scan on {target} of these {len(self)} subjects, wanted one")
            return OneReference(self.subset(scanned[:1])._scans_of(target))
        if len(self.scanners) < 2:
            raise ValueError(f"{needs}: found one scanner ({target}), wanted at least two")
        if needs is Needs.UNPAIRED:
            return self._unpaired()
        complete = [i for i, m in enumerate(self._members) if all(self._source.has(m, s, 0) for s in self.scanners)]
        if len(complete) < len(self):
            raise ValueError(f"{needs}: found {len(complete)} of {len(self)} subjects on every scanner, wanted all")
        scans = {scanner: self._scans_of(scanner) for scanner in self.scanners}
        if needs is Needs.SEVERAL_SCANNERS:
            return SeveralScanners(scans)
        return Paired(scans.pop(target), scans)

    def _scans_of(self, scanner: str) -> Scans:
        return Scans(self.scans(scanner).clone(), self.masks(scanner).clone())

    def _unpaired(self) -> Unpaired:
        """Of those who have scans on both sides every other one lends to the target only, the rest to the sources."""
        target, *sources = self.scanners
        having = {s: {i for i, m in enumerate(self._members) if self._source.has(m, s, 0)} for s in self.scanners}
        both = having[target] & set().union(*(having[source] for source in sources))
        lent = having[target] - both | set(sorted(both)[::2])
        people = {target: sorted(lent), **{source: sorted(having[source] - lent) for source in sources}}
        empty = [scanner for scanner, indices in people.items() if not indices]
        if empty:
            raise ValueError(
                f"unpaired domains: found {len(self)} subjects for {len(self.scanners)} scanners, "
                f"none left for {', '.join(empty)}; wanted at least one different person each"
            )
        scans = {scanner: self.subset(indices)._scans_of(scanner) for scanner, indices in people.items()}
        return Unpaired(scans.pop(target), scans)

    def _known(self, scanner: str) -> str:
        return full_name(scanner, self.scanners, "one of this cohort's")

    # ------------------------------------------------------------------------------------------------------ files

    def to_files(self, folder: str | Path, *, repeats: int = 1) -> Path:
        """Write the cohort as the folder that `from_files` reads; returns the folder.

        Raises:
            ValueError: a folder that exists and is not empty, or a file of that name.
        """
        folder = Path(folder)
        if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise ValueError(
                f"{folder}: found a {'file' if folder.is_file() else 'folder that is not empty'}, wanted a new folder"
            )
        rows = []
        for position, name in enumerate(tqdm(self.subjects, desc="people", unit="person", disable=None)):
            person = self.subset([position])
            scans = {scanner: [person.scans(scanner, repeat) for repeat in range(repeats)] for scanner in self.scanners}
            truth = {"mask": person.mask, "labels": person.labels, "lesions": person.lesions, "tissues": person.tissues}
            write_person(folder, name, person.affine(), scans=scans, **truth)
            rows.append(
                {"participant_id": name, "age": round(float(person.ages[0]), 1), **person.volumes_ml.iloc[0].round(2)}
            )
        with written_whole(folder / "participants.tsv") as part:
            pd.DataFrame(rows).to_csv(part, sep="\t", index=False)
        return folder


def _stack(volumes: list[Tensor], what: str) -> Tensor:
    shapes = {tuple(v.shape[1:]) for v in volumes}
    if len(shapes) > 1:
        raise ValueError(f"{what}: found grids {sorted(shapes)}, wanted one grid for all people")
    return torch.stack(volumes)
