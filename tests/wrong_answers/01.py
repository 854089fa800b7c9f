"""Typical wrong answers of notebook 01: what was tried, and the property that must fail."""

import math

import numpy as np
from scipy.ndimage import gaussian_filter


def blurred(volume, inside):
    """The notebook's `blur`."""
    weight = gaussian_filter(inside.astype(np.float32), 4.0)
    return np.where(inside, gaussian_filter(np.where(inside, volume, 0.0), 4.0) / np.maximum(weight, 1e-6), 0.0)


def divides_by_the_raw_ratio(image, reference, inside):
    """Forgets to blur: the reference comes back, its contrast and all."""
    with np.errstate(all="ignore"):
        return np.where(inside, image / (image / np.maximum(reference, 1e-3)), 0.0)


def multiplies_by_the_field(image, reference, inside):
    """The sign of the logarithm is turned round: the shading is doubled."""
    ratio = np.log(np.maximum(image, 1e-3)) - np.log(np.maximum(reference, 1e-3))
    return np.where(inside, image * np.exp(blurred(ratio, inside)), 0.0)


def blurs_the_image_itself(image, reference, inside):
    """Takes the image's own blur for the field and divides everywhere."""
    with np.errstate(all="ignore"):
        return image / blurred(image, inside)


WRONG_ANSWERS = {
    "01.1": [
        (lambda tr, t1: math.acos(math.exp(-tr / t1)), "the angle is in degrees"),
        (lambda tr, t1: math.degrees(math.asin(math.exp(-tr / t1))), "a longer TR wants a larger angle"),
        (lambda tr, t1: math.degrees(math.acos(math.exp(-tr * t1))), "no neighbouring angle gives more signal"),
        (lambda tr, t1: 8.0, "a longer TR wants a larger angle"),
    ],
    "01.2": [
        (divides_by_the_raw_ratio, "the image keeps its own contrast"),
        (multiplies_by_the_field, "the result is much closer to the unshaded image"),
        (blurs_the_image_itself, "the background stays 0 and every value is finite"),
        (lambda image, reference, inside: image, "the result is much closer to the unshaded image"),
    ],
    "01.3": [
        (
            lambda image, white, lesions: 1 - image[lesions].mean() / image[white > 0.9].mean(),
            "lesions of 70 in white matter of 100 have contrast 0.3",
        ),
        (
            lambda image, white, lesions: image[(white > 0.9) & ~lesions].mean() - image[lesions].mean(),
            "another gain of the scanner changes nothing",
        ),
        (
            lambda image, white, lesions: 1 - image[lesions].mean() / image[image > 0].mean(),
            "a lesion as bright as white matter has contrast 0",
        ),
        (
            lambda image, white, lesions: image[lesions].mean() / image[(white > 0.9) & ~lesions].mean(),
            "a lesion as bright as white matter has contrast 0",
        ),
    ],
}
