"""What a notebook starts from: held-out people on a few scanners, and their slices.

One call, so that nobody can take the wrong people: methods were trained on the training people of the profile, and a
lesson is about test people, whom no method has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from harmony_lite.cohort import Cohort
from harmony_lite.images.intensity_maps import MAPS
from harmony_lite.images.slices import unit_slices
from harmony_lite.profiles import active
from harmony_lite.splits import people as split_people

__all__ = ["Lesson", "lesson"]


@dataclass(frozen=True)
class Lesson:
    """Test people, their scans, and some axial slices of each.

    Attributes:
        cohort: the test people on the scanners that were asked for, the target first.
        scans: name to volumes `(N, 1, D, H, W)`: in scanner units; maps: in those of the target.
        slices: the same names to slices `(B, 1, D, H)` in [0, 1], each scaled by its own maximum, 0 outside the
            brain; B = people x slices, person by person and upwards within each.
        brain: the brain in these slices, `(B, 1, D, H)` bool.
        heights: axial positions of the slices, `(people, slices)`.
        about: who is in it, as a line to print.
    """

    cohort: Cohort
    scans: Mapping[str, Tensor]
    slices: Mapping[str, Tensor]
    brain: Tensor
    heights: Tensor
    about: str

    def by_person(self, values: Tensor) -> Tensor:
        """One value a slice, `(B,)`, to one value a person, `(people,)`: two slices of a person are no two people.

        Raises:
            ValueError: another number of values than slices.
        """
        if values.shape != (len(self.brain),):
            raise ValueError(f"values: found shape {tuple(values.shape)}, wanted ({len(self.brain)},): one for a slice")
        return values.reshape(self.heights.shape).mean(1)


def lesson(
    scanners: Sequence[str],
    people: int = 3,
    slices: int = 2,
    maps: Mapping[str, Callable[[Tensor], Tensor]] | Sequence[str] | bool = False,
) -> Lesson:
    """The first test people of the active profile, whom no method was trained on, and slices of them.

    Args:
        scanners: presets, the target first: `("oasis_trio", "oasis_vision")`.
        people: how many test people.
        slices: axial slices of each, evenly spaced over the person's brain on the target's scan.
        maps: intensity maps of the target's scans as further sources: True for all that the package has, their names,
            or curves of [0, 1] by name.

    Returns:
        The people with scans and slices by the names given here.

    Raises:
        ValueError: no scanner or an unknown one, more people than the profile tests on, fewer than one slice, an
            unknown map.
    """
    profile = active()
    if isinstance(scanners, str) or not scanners:
        raise ValueError(f"scanners: found {scanners!r}, wanted a list of presets, the target first")
    if not 1 <= people <= profile.test_subjects:
        raise ValueError(f"people: found {people}, wanted 1 to {profile.test_subjects}, the profile's test people")
    if slices < 1:
        raise ValueError(f"slices: found {slices}, wanted at least 1")
    curves = _curves(maps)
    cohort = split_people(scanners)[2].subset(range(people))
    scans = {name: cohort.scans(name) for name in scanners}
    if curves:
        mapped = cohort.with_maps(curves)
        scans |= {name: mapped.scans(name) for name in curves}
    mask = cohort.mask
    taken, brain, heights = unit_slices(scans[scanners[0]], mask, slices)
    pictures = {scanners[0]: taken}
    pictures |= {name: unit_slices(scans[name], mask, slices, positions=heights)[0] for name in list(scans)[1:]}
    about = (
        f"profile {profile.name}: {people} held-out simulated people, {slices} slices each, "
        f"{profile.spacing:g} mm voxels; sources: {', '.join(list(scans)[1:]) or 'none'}"
    )
    return Lesson(cohort, scans, pictures, brain, heights, about)


def _curves(
    maps: Mapping[str, Callable[[Tensor], Tensor]] | Sequence[str] | bool,
) -> dict[str, Callable[[Tensor], Tensor]]:
    """The curves that were asked for, by name."""
    if isinstance(maps, bool):
        return dict(MAPS) if maps else {}
    if isinstance(maps, Mapping):
        return dict(maps)
    unknown = [name for name in maps if name not in MAPS]
    if unknown or isinstance(maps, str):
        raise ValueError(f"maps: found {maps!r}, wanted names of {', '.join(MAPS)}")
    return {name: MAPS[name] for name in maps}
