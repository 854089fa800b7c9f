"""Typical wrong answers of notebook 31: what was tried, and the property that must fail."""

# ------------------------------------------------------------------------------------------- 31.1


def the_other_way(noise, image, time):
    """Time runs from the image to the noise."""
    t = time[:, None]
    return (1 - t) * image + t * noise, noise - image


def one_time_for_all(noise, image, time):
    t = time.mean()
    return t * image + (1 - t) * noise, image - noise


def towards_from_here(noise, image, time):
    """The way that is left, not the velocity."""
    t = time[:, None]
    x = t * image + (1 - t) * noise
    return x, image - x


def the_noise(noise, image, time):
    """What a diffusion model predicts."""
    t = time[:, None]
    return t * image + (1 - t) * noise, noise


# ------------------------------------------------------------------------------------------- 31.2


def euler(velocity, x, now, step):
    return x + step * velocity(x, now)


def time_stays(velocity, x, now, step):
    middle = x + step / 2 * velocity(x, now)
    return x + step * velocity(middle, now)


def from_the_middle(velocity, x, now, step):
    """Half a step too far: it goes on from the middle."""
    middle = x + step / 2 * velocity(x, now)
    return middle + step * velocity(middle, now + step / 2)


def two_halves(velocity, x, now, step):
    """Two half steps of Euler's method."""
    middle = x + step / 2 * velocity(x, now)
    return middle + step / 2 * velocity(middle, now + step / 2)


# ------------------------------------------------------------------------------------------- 31.3


def only_the_lesion(image, source, lesion, around):
    return image[lesion].mean() / source[lesion].mean()


def differences(image, source, lesion, around):
    """Differences of means: other units give another share."""
    contrast = [values[lesion].mean() - values[around].mean() for values in (image, source)]
    return contrast[0] / contrast[1]


def against_everything(image, source, lesion, around):
    contrast = [values[lesion].mean() / values.mean() - 1 for values in (image, source)]
    return contrast[0] / contrast[1]


def upside_down(image, source, lesion, around):
    contrast = [values[lesion].mean() / values[around].mean() - 1 for values in (image, source)]
    return contrast[1] / contrast[0]


WRONG_ANSWERS = {
    "31.1": [
        (the_other_way, "it begins at the noise"),
        (one_time_for_all, "each image has its own time"),
        (towards_from_here, "the velocity is how x changes"),
        (the_noise, "the velocity is how x changes"),
    ],
    "31.2": [
        (euler, "it asks twice, at the beginning and in the middle"),
        (time_stays, "a velocity that changes with time is met in the middle"),
        (from_the_middle, "a constant velocity is followed exactly"),
        (two_halves, "so is one that changes with x"),
    ],
    "31.3": [
        (only_the_lesion, "nothing, where it is gone"),
        (differences, "units do not matter"),
        (against_everything, "nothing, where it is gone"),
        (upside_down, "half, where it is half as dark"),
    ],
}
