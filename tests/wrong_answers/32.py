"""Typical wrong answers of notebook 32: what was tried, and the property that must fail."""

import torch

# ------------------------------------------------------------------------------------------- 32.1


def _parts(image, source):
    x, s = image - image.mean(), source - source.mean()
    ncc = (x * s).sum() / (x.norm() * s.norm())
    return x, s, ncc, (s / s.norm() - ncc * x / x.norm()) / x.norm()


def downhill(image, source, c):
    """The minus of a descent is left in."""
    x, _, _, gradient = _parts(image, source)
    return image - c * x.square().sum() * gradient


def printed_step(image, source, c):
    """The gradient times c, as printed: next to nothing happens, and the range matters."""
    return image + c * _parts(image, source)[3]


def times_the_number(image, source, c):
    """N times the gradient, as the public code has it: the range matters."""
    return image + c * image.numel() * _parts(image, source)[3]


def not_centred(image, source, c):
    """The correlation of the raw values."""
    ncc = (image * source).sum() / (image.norm() * source.norm())
    return image + c * image.norm() * (source / source.norm() - ncc * image / image.norm())


def towards_the_source(image, source, c):
    """A mean of both: what does not follow the source shrinks by 1 - c."""
    x, s, _, _ = _parts(image, source)
    return image.mean() + (1 - c) * x + c * s * x.norm() / s.norm()


# ------------------------------------------------------------------------------------------- 32.2


def _steps(volume, inside, axis):
    size = volume.shape[axis] - 1
    both = inside.narrow(axis, 0, size) & inside.narrow(axis, 1, size)
    return volume.diff(dim=axis)[both]


def signed(volume, inside):
    x, y, z = (_steps(volume, inside, axis).mean() for axis in range(3))
    return z / ((x + y) / 2)


def only_z(volume, inside):
    return _steps(volume, inside, 2).abs().mean()


def one_is_enough(volume, inside):
    """The first neighbour is inside; the second need not be."""
    x, y, z = (volume.diff(dim=a)[inside.narrow(a, 0, volume.shape[a] - 1)].abs().mean() for a in range(3))
    return z / ((x + y) / 2)


def along_x(volume, inside):
    """Slices are taken along the first axis."""
    x, y, z = (_steps(volume, inside, axis).abs().mean() for axis in range(3))
    return x / ((y + z) / 2)


def squared(volume, inside):
    x, y, z = (torch.sqrt(_steps(volume, inside, axis).square().mean()) for axis in range(3))
    return z / ((x + y) / 2)


WRONG_ANSWERS = {
    "32.1": [
        (downhill, "the correlation rises"),
        (printed_step, "the range does not matter"),
        (times_the_number, "the range does not matter"),
        (not_centred, "the mean stays"),
        (towards_the_source, "what does not follow the source shrinks by 1 - c NCC"),
    ],
    "32.2": [
        (signed, "steps up and steps down do not cancel"),
        (only_z, "steps up and steps down do not cancel"),
        (one_is_enough, "what lies outside does not count"),
        (along_x, "slices that jump stand out"),
        (squared, "steps up and steps down do not cancel"),
    ],
}
