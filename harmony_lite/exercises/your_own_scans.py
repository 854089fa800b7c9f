"""Exercises of notebook 70: a mask's volume, a median of neighbours, how much detail is kept, a scan's brain mask.

`ANSWERS` holds one right answer each: the notebook uses it until the learner's own function has passed its check.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Set

import numpy as np
from scipy import ndimage

from harmony_lite.cohort.bids import BidsName
from harmony_lite.exercises import Exercise, Property, answers, register

__all__ = ["ANSWERS"]


def _exercise(id: str, title: str, minutes: int, properties: dict[str, Callable], *hints: str) -> None:
    register(Exercise(id, title, minutes, tuple(Property(*item) for item in properties.items()), hints))


# ------------------------------------------------------------------------------------------ 70.1: a mask's volume


def _right_millilitres(mask: np.ndarray, affine: np.ndarray) -> float:
    return float(mask.sum()) * abs(float(np.linalg.det(affine[:3, :3]))) / 1000


def _turned(degrees: float) -> np.ndarray:
    """An affine whose first two axes are turned; voxels of 1 x 2 x 3 mm."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    affine = np.array([[c, -s, 0, -30], [s, c, 0, 12], [0, 0, 1, 5], [0, 0, 0, 1.0]])
    return affine @ np.diag([1.0, 2.0, 3.0, 1.0])


def _volume(affine: np.ndarray, said: str) -> Callable:
    def held(answer: Callable) -> tuple[bool, str]:
        mask = np.zeros((20, 20, 20), bool)
        mask[2:12, 3:13, 4:14] = True
        found = answers.one_number(answer(mask.copy(), affine.copy()), "a volume")
        wanted = _right_millilitres(mask, affine)
        return math.isclose(found, wanted, rel_tol=1e-6), f"1,000 {said} are {wanted:g} ml, found {found:g}"

    return held


_exercise(
    "70.1", "the volume of a mask", 6,
    {
        "voxels of 1 mm are counted in ml": _volume(np.eye(4), "voxels of 1 x 1 x 1 mm"),
        "the three edges may differ": _volume(np.diag([1.0, 1.2, 3.0, 1.0]), "voxels of 1 x 1.2 x 3 mm"),
        "the axes may be turned": _volume(_turned(30), "turned voxels of 1 x 2 x 3 mm"),
        "an axis may run to the left": _volume(np.diag([-2.0, 1.0, 1.0, 1.0]), "voxels whose first axis runs left"),
    },
    "How many voxels are inside, and how large is one of them?",
    "A voxel's volume is the absolute value of the determinant of the affine's upper left 3 x 3; 1 ml is 1,000 mm3.",
    "mask.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000",
)  # fmt: skip

# ---------------------------------------------------------------------------------- 70.2: the median of the neighbours


def _right_median(image: np.ndarray, usable: np.ndarray, place: tuple[int, int, int]) -> float:
    box = tuple(slice(max(i - 1, 0), i + 2) for i in place)
    return float(np.median(image[box][usable[box]]))


def _noisy() -> tuple[np.ndarray, np.ndarray]:
    """An image in which every voxel is another one's neighbour, and all of it usable."""
    image = np.random.default_rng(702).gamma(2.0, 50.0, (7, 7, 7))
    return image, np.ones(image.shape, bool)


def _median(answer: Callable, image: np.ndarray, usable: np.ndarray, place: tuple[int, int, int]) -> tuple[bool, str]:
    image, usable = image.copy(), usable.copy()
    image[place], usable[place] = 1e6, False
    found = answers.one_number(answer(image.copy(), usable.copy(), place), "an intensity")
    wanted = _right_median(image, usable, place)
    return math.isclose(found, wanted, rel_tol=1e-6), f"at {place} found {found:.4g}, wanted {wanted:.4g}"


def _in_the_middle(answer: Callable) -> tuple[bool, str]:
    return _median(answer, *_noisy(), (3, 3, 3))


def _in_a_corner(answer: Callable) -> tuple[bool, str]:
    found = [_median(answer, *_noisy(), place) for place in ((0, 0, 0), (0, 3, 6), (6, 6, 6))]
    return next((one for one in found if not one[0]), found[0])


def _of_the_usable(answer: Callable) -> tuple[bool, str]:
    image, usable = _noisy()
    image[2, 2:5, 2:5], usable[2, 2:5, 2:5] = 1e6, False  # nine more hot voxels
    usable[3:5, 2, 2] = False
    return _median(answer, image, usable, (3, 3, 3))


def _of_nobody_else(answer: Callable) -> tuple[bool, str]:
    image, usable = _noisy()
    near = np.zeros(image.shape, bool)
    near[2:5, 2:5, 2:5] = True
    image[~near] += 1000
    return _median(answer, image, usable, (3, 3, 3))


_exercise(
    "70.2", "the median of the neighbours", 8,
    {
        "it is the median of the 26 neighbours": _in_the_middle,
        "voxels that are not usable do not count": _of_the_usable,
        "at a border of the volume there are fewer neighbours": _in_a_corner,
        "voxels farther away do not count": _of_nobody_else,
    },
    "Cut the 3 x 3 x 3 box around the voxel out of both arrays.",
    "A slice that begins at -1 is empty: begin at max(i - 1, 0). A slice may end beyond the array.",
    "box = tuple(slice(max(i - 1, 0), i + 2) for i in place); np.median(image[box][usable[box]])",
)  # fmt: skip

# ------------------------------------------------------------------------------------- 70.3: how much detail is kept


def _right_detail(before: np.ndarray, after: np.ndarray, inside: np.ndarray) -> float:
    deep = ndimage.binary_erosion(inside, np.ones((3, 3, 3)), border_value=1)
    first, second = (np.sqrt(sum(part[deep] ** 2 for part in np.gradient(image))) for image in (before, after))
    return float(np.corrcoef(first, second)[0, 1])


def _folds() -> tuple[np.ndarray, np.ndarray]:
    """A ball of folds (16, 18, 20), bright against a background of 0, and its mask."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in (16, 18, 20)], indexing="ij")
    inside = x**2 + y**2 + z**2 < 0.8
    folds = 300 + 60 * np.sin(9 * x) * np.cos(7 * y) + 40 * np.sin(8 * z + 3 * x * y)
    return np.where(inside, folds, 0.0), inside


def _detail(answer: Callable, before: np.ndarray, after: np.ndarray, inside: np.ndarray) -> float:
    found = answer(before.copy(), after.copy(), inside.copy())
    return answers.one_number(found, "a correlation")


def _a_line_keeps_all(answer: Callable) -> tuple[bool, str]:
    before, inside = _folds()
    found = _detail(answer, before, 2.5 * before - 80, inside)
    return math.isclose(found, 1, abs_tol=1e-6), f"after a gain and an offset it is {found:.4f}, wanted 1"


def _a_blur_keeps_less(answer: Callable) -> tuple[bool, str]:
    before, inside = _folds()
    after = ndimage.gaussian_filter(before, 0.8)
    found, wanted = _detail(answer, before, after, inside), _right_detail(before, after, inside)
    return math.isclose(found, wanted, abs_tol=1e-6), f"after a blur it is {found:.4f}, wanted {wanted:.4f}"


def _the_rim_does_not_count(answer: Callable) -> tuple[bool, str]:
    before, inside = _folds()
    near, far = (_detail(answer, before, np.where(inside, before, value), inside) for value in (0.0, 5000.0))
    return math.isclose(near, far, abs_tol=1e-6), f"with another background {near:.4f} becomes {far:.4f}"


def _a_length_has_no_sign(answer: Callable) -> tuple[bool, str]:
    before, inside = _folds()
    found = _detail(answer, before, np.where(inside, 600 - before, 0), inside)
    return math.isclose(found, 1, abs_tol=1e-6), f"with dark and bright exchanged it is {found:.4f}, wanted 1"


_exercise(
    "70.3", "how much detail is kept", 10,
    {
        "a gain and an offset keep all": _a_line_keeps_all,
        "a blur keeps less": _a_blur_keeps_less,
        "the step at the rim does not count": _the_rim_does_not_count,
        "lengths are compared, without a direction": _a_length_has_no_sign,
    },
    "np.gradient gives the three parts of the gradient; its length is the root of the sum of their squares.",
    "scipy.ndimage.binary_erosion(inside, np.ones((3, 3, 3))) leaves voxels whose neighbours are all inside.",
    "deep = the eroded mask; length = np.sqrt(sum(part[deep] ** 2 for part in np.gradient(image))) of both images; "
    "np.corrcoef(first, second)[0, 1]",
)  # fmt: skip

# ------------------------------------------------------------------------------------------- 70.4: whose mask it is


def _right_mask(scan: str, names: Set[str]) -> str | None:
    kept = list(BidsName.of(scan).without("desc").entities)
    while kept:
        wanted = "_".join([*(f"{key}-{label}" for key, label in kept), "desc-brain_mask.nii.gz"])
        if wanted in names:
            return wanted
        kept.pop()
    return None


SCAN = "sub-01_ses-b_run-2_T1w.nii.gz"
OWN, OF_THE_SESSION, OF_THE_PERSON = (
    f"{part}_desc-brain_mask.nii.gz" for part in ("sub-01_ses-b_run-2", "sub-01_ses-b", "sub-01")
)
OF_OTHERS = ("sub-01_ses-a_desc-brain_mask.nii.gz", "sub-02_desc-brain_mask.nii.gz")


def _mask(*names: str, wanted: str | None) -> Callable:
    def held(answer: Callable) -> tuple[bool, str]:
        found = answer(SCAN, {SCAN, *names})
        return found == wanted, f"{SCAN} beside {', '.join(names)}: found {found}, wanted {wanted}"

    return held


_exercise(
    "70.4", "the mask that belongs to a scan", 8,
    {
        "a mask with all the scan's entities is its own": _mask(OWN, wanted=OWN),
        "a mask of the session, or of the person, will do": lambda answer: next(
            (held for name in (OF_THE_SESSION, OF_THE_PERSON) if not (held := _mask(name, wanted=name)(answer))[0]),
            (True, ""),
        ),
        "the most of the scan's entities comes first": _mask(
            OF_THE_PERSON, OF_THE_SESSION, *OF_OTHERS, wanted=OF_THE_SESSION
        ),
        "another session's and another person's are not taken": _mask(*OF_OTHERS, wanted=None),
        "a lesion's mask is no brain's": _mask("sub-01_ses-b_run-2_label-lesion_mask.nii.gz", wanted=None),
    },
    "Take the suffix off the name: what is left are entities, with underscores between them.",
    "Try the name with all entities, then leave out the last one, then the last two, until only the person is left.",
    'parts = scan.split("_")[:-1]; for n from len(parts) down to 1 try "_".join(parts[:n]) + "_desc-brain_mask.nii.gz"',
)  # fmt: skip

ANSWERS = {"70.1": _right_millilitres, "70.2": _right_median, "70.3": _right_detail, "70.4": _right_mask}
