"""Typical wrong answers of notebook 30: what was tried, and the property that must fail."""

import numpy as np
from scipy import ndimage

# ------------------------------------------------------------------------------------------- 30.1


def only_the_strong(strength, high, low):
    return strength > high


def all_the_weak(strength, high, low):
    return strength > low


def faces_only(strength, high, low):
    """Voxels that touch at a corner are not joined: scipy's usual neighbours."""
    parts, _ = ndimage.label(strength > low)
    return np.isin(parts, parts[strength > high]) & (parts > 0)


def neighbours_once(strength, high, low):
    """Weak voxels beside strong ones, and none further on."""
    return ndimage.binary_dilation(strength > high, np.ones((3, 3, 3))) & (strength > low)


def filled_between(strength, high, low):
    return ndimage.binary_dilation(strength > high, np.ones((3, 3, 3)))


# ------------------------------------------------------------------------------------------- 30.2


def as_printed(share_at, wanted, lowest, highest):
    """Too many edges: the threshold is lowered, as the paper says."""
    for _ in range(40):
        middle = (lowest + highest) / 2
        if share_at(middle) > wanted:
            highest = middle
        else:
            lowest = middle
    return (lowest + highest) / 2


def the_middle(share_at, wanted, lowest, highest):
    return (lowest + highest) / 2


def the_share_itself(share_at, wanted, lowest, highest):
    """Eight per cent of the range."""
    return lowest + wanted * (highest - lowest)


def in_small_steps(share_at, wanted, lowest, highest):
    threshold = 0.0
    while share_at(threshold) > wanted:
        threshold += 1e-4
    return threshold


# ------------------------------------------------------------------------------------------- 30.3


def of_the_patch(first, stride, size, side):
    """From -1 to 1 within every patch: the network would not know where it is."""
    return first + stride * np.arange(size), np.linspace(-1, 1, size)


def as_a_share(first, stride, size, side):
    index = first + stride * np.arange(size)
    return index, index / (side - 1)


def by_the_side(first, stride, size, side):
    """The last voxel does not reach 1."""
    index = first + stride * np.arange(size)
    return index, 2 * index / side - 1


def without_stride(first, stride, size, side):
    index = first + np.arange(size)
    return index, 2 * index / (side - 1) - 1


WRONG_ANSWERS = {
    "30.1": [
        (only_the_strong, "weak voxels that are joined to strong ones stay"),
        (all_the_weak, "weak voxels alone go"),
        (faces_only, "weak voxels that are joined to strong ones stay"),
        (neighbours_once, "weak voxels that are joined to strong ones stay"),
        (filled_between, "nothing below the lower threshold"),
    ],
    "30.2": [
        (as_printed, "it reaches eight per cent"),
        (the_middle, "it reaches eight per cent"),
        (the_share_itself, "and shares from either side of the first guess"),
        (in_small_steps, "it reaches eight per cent"),
    ],
    "30.3": [
        (of_the_patch, "coordinates are those of the whole volume"),
        (as_a_share, "coordinates are those of the whole volume"),
        (by_the_side, "coordinates are those of the whole volume"),
        (without_stride, "with stride 2 it takes every second"),
    ],
}
