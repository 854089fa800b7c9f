"""Typical wrong answers of notebook 70: what was tried, and the property that must fail."""

import numpy as np
from scipy import ndimage

# ------------------------------------------------------------------------------------------- 70.1


def cubic_millimetres(mask, affine):
    return mask.sum() * abs(np.linalg.det(affine[:3, :3]))


def diagonal(mask, affine):
    """The edges are read off the diagonal: right as long as nothing is turned."""
    return mask.sum() * abs(np.prod(np.diag(affine)[:3])) / 1000


def signed(mask, affine):
    return mask.sum() * np.linalg.det(affine[:3, :3]) / 1000


def cubes(mask, affine):
    return mask.sum() * np.linalg.norm(affine[:3, 0]) ** 3 / 1000


def whole_affine(mask, affine):
    """All voxels of the volume, not those of the mask."""
    return mask.size * abs(np.linalg.det(affine[:3, :3])) / 1000


# ------------------------------------------------------------------------------------------- 70.2


def box_around(place):
    return tuple(slice(max(i - 1, 0), i + 2) for i in place)


def mean(image, usable, place):
    box = box_around(place)
    return image[box][usable[box]].mean()


def whoever_is_there(image, usable, place):
    return np.median(image[box_around(place)])


def begins_at_minus_one(image, usable, place):
    box = tuple(slice(i - 1, i + 2) for i in place)
    return np.median(image[box][usable[box]])


def five_wide(image, usable, place):
    box = tuple(slice(max(i - 2, 0), i + 3) for i in place)
    return np.median(image[box][usable[box]])


def faces_only(image, usable, place):
    at = np.zeros(image.shape, bool)
    at[place] = True
    near = ndimage.binary_dilation(at) & usable
    return np.median(image[near])


# ------------------------------------------------------------------------------------------- 70.3


def deep(inside):
    return ndimage.binary_erosion(inside, np.ones((3, 3, 3)), border_value=1)


def of_intensities(before, after, inside):
    return np.corrcoef(before[inside], after[inside])[0, 1]


def with_the_rim(before, after, inside):
    first, second = (np.sqrt(sum(part[inside] ** 2 for part in np.gradient(i))) for i in (before, after))
    return np.corrcoef(first, second)[0, 1]


def of_the_parts(before, after, inside):
    """Gradients with their directions: dark and bright exchanged gives -1."""
    first, second = (np.concatenate([part[deep(inside)] for part in np.gradient(i)]) for i in (before, after))
    return np.corrcoef(first, second)[0, 1]


def ratio_of_lengths(before, after, inside):
    """How steep the edges are, which any gain changes."""
    first, second = (np.sqrt(sum(part[deep(inside)] ** 2 for part in np.gradient(i))) for i in (before, after))
    return second.mean() / first.mean()


# ------------------------------------------------------------------------------------------- 70.4


def exact(scan, names):
    wanted = scan.replace("_T1w", "_desc-brain_mask")
    return wanted if wanted in names else None


def shortest_first(scan, names):
    parts = scan.split("_")[:-1]
    for n in range(1, len(parts) + 1):
        wanted = "_".join(parts[:n]) + "_desc-brain_mask.nii.gz"
        if wanted in names:
            return wanted
    return None


def any_brain_mask(scan, names):
    return next((name for name in sorted(names) if name.endswith("desc-brain_mask.nii.gz")), None)


def any_mask_of_the_person(scan, names):
    person = scan.split("_")[0]
    return next((name for name in sorted(names) if name.startswith(person) and name.endswith("_mask.nii.gz")), None)


WRONG_ANSWERS = {
    "70.1": [
        (cubic_millimetres, "voxels of 1 mm are counted in ml"),
        (diagonal, "the axes may be turned"),
        (signed, "an axis may run to the left"),
        (cubes, "the three edges may differ"),
        (whole_affine, "voxels of 1 mm are counted in ml"),
    ],
    "70.2": [
        (mean, "it is the median of the 26 neighbours"),
        (whoever_is_there, "voxels that are not usable do not count"),
        (begins_at_minus_one, "at a border of the volume there are fewer neighbours"),
        (five_wide, "voxels farther away do not count"),
        (faces_only, "it is the median of the 26 neighbours"),
    ],
    "70.3": [
        (of_intensities, "a blur keeps less"),
        (with_the_rim, "the step at the rim does not count"),
        (of_the_parts, "lengths are compared, without a direction"),
        (ratio_of_lengths, "a gain and an offset keep all"),
    ],
    "70.4": [
        (exact, "a mask of the session, or of the person, will do"),
        (shortest_first, "the most of the scan's entities comes first"),
        (any_brain_mask, "another session's and another person's are not taken"),
        (any_mask_of_the_person, "a lesion's mask is no brain's"),
    ],
}
