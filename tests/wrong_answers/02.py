"""Typical wrong answers of notebook 02: what was tried, and the property that must fail."""

import math

import numpy as np
import torch


def shuffles_the_whole_image(target, mask):
    """Forgets the mask: the background is shuffled into the brain."""
    order = torch.randperm(target.numel(), generator=torch.Generator().manual_seed(0))
    return target.flatten()[order].reshape(target.shape)


def noise_with_the_same_mean_and_deviation(target, mask):
    """Matches two numbers of the histogram, not the histogram."""
    image, values = target.clone(), target[mask]
    noise = torch.randn(len(values), generator=torch.Generator().manual_seed(0))
    image[mask] = values.mean() + values.std() * noise
    return image


def shuffles_and_forgets_the_background(target, mask):
    """Right inside the mask, empty outside it."""
    image, values = torch.zeros_like(target), target[mask]
    image[mask] = values[torch.randperm(len(values), generator=torch.Generator().manual_seed(0))]
    return image


def means(values, people):
    """One mean per person."""
    return np.array([values[people == person].mean() for person in np.unique(people)])


def slices_taken_for_people(values, people):
    """The error of a mean of independent values, which slices are not."""
    return values.std(ddof=1) / math.sqrt(len(values))


WRONG_ANSWERS = {
    "02.1": [
        (lambda psnr, old, new: psnr + 10 * math.log10(new / old), "twice the range adds 6.02 dB"),
        (lambda psnr, old, new: psnr - 20 * math.log10(new / old), "twice the range adds 6.02 dB"),
        (lambda psnr, old, new: psnr * new / old, "it agrees with the package on a pair of images"),
        (lambda psnr, old, new: psnr + 6.02, "the same range leaves the number alone"),
    ],
    "02.2": [
        (lambda target, mask: target.clone(), "inside the mask NCC with the target is below 0.1 in size"),
        (lambda target, mask: -target, "inside the mask the Wasserstein distance to the target is zero"),
        (shuffles_the_whole_image, "outside the mask nothing changes"),
        (shuffles_and_forgets_the_background, "outside the mask nothing changes"),
        (noise_with_the_same_mean_and_deviation, "inside the mask the Wasserstein distance to the target is zero"),
        (lambda target, mask: target[mask], "the answer is an image of the target's shape"),
    ],
    "02.3": [
        (
            lambda values, people: values.std(ddof=1) / math.sqrt(len(values)),
            "copies of the same slices change nothing",
        ),
        (lambda values, people: means(values, people).std(ddof=1), "the example worked by hand comes out"),
        (
            lambda values, people: means(values, people).std() / math.sqrt(len(np.unique(people))),
            "the example worked by hand comes out",
        ),
        (
            lambda values, people: means(values, people).std(ddof=1) / math.sqrt(len(values)),
            "copies of the same slices change nothing",
        ),
        (
            lambda values, people: values.std(ddof=1) / math.sqrt(len(np.unique(people))),
            "a person counts once, however many slices there are",
        ),
    ],
}
