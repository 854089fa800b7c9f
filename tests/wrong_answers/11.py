"""Typical wrong answers of notebook 11: what was tried, and the property that must fail."""

import torch

# ------------------------------------------------------------------------------------------- 11.1


def gradient(image, source, inside, centred=True, own_part=True, power=1, mask=None):
    """The gradient with one thing done otherwise."""
    counted = inside if mask is None else mask
    x, s = ((v - (v[counted].mean() if centred else 0)) * counted for v in (image, source))
    x_hat, s_hat = x / x.norm(), s / s.norm()
    return (s_hat - own_part * (x_hat * s_hat).sum() * x_hat) / x.norm() ** power


def cosine(image, source, inside):
    """The released code's: no means."""
    return gradient(image, source, inside, centred=False)


def towards_the_source(image, source, inside):
    """Forgets that NCC is a quotient."""
    return gradient(image, source, inside, own_part=False)


def without_the_length(image, source, inside):
    return gradient(image, source, inside, power=0)


def whole_slice(image, source, inside):
    return gradient(image, source, inside, mask=torch.ones_like(inside))


def difference(image, source, inside):
    """The gradient of a squared error."""
    return (source - image) * inside


# ------------------------------------------------------------------------------------------- 11.4


def over_the_whole_slice(size, inside, quantile):
    """The released code's: the background's zeros make the quantile 0."""
    return size < torch.quantile(size, quantile)


def or_equal(size, inside, quantile):
    return (size <= torch.quantile(size[inside], quantile)) & inside


def everywhere(size, inside, quantile):
    """The quantile inside, the comparison everywhere."""
    return size < torch.quantile(size[inside], quantile)


def edges(size, inside, quantile):
    return (size > torch.quantile(size[inside], quantile)) & inside


def share_of_the_range(size, inside, quantile):
    return (size < quantile * size[inside].max()) & inside


# ------------------------------------------------------------------------------------------- 11.3


def parts(image, source, inside, centred=True):
    x, s = (v[inside] - (v[inside].mean() if centred else 0) for v in (image, source))
    return x, x @ s / (x.norm() * s.norm())


def without_ncc(image, source, inside, share):
    x, _ = parts(image, source, inside)
    return (1 - share) * x @ x


def variance_without_the_count(image, source, inside, share):
    x, ncc = parts(image, source, inside)
    return (1 - share) * x.square().mean() / ncc


def uncentred(image, source, inside, share):
    x, ncc = parts(image, source, inside, centred=False)
    return (1 - share) * x @ x / ncc


def norm_instead_of_its_square(image, source, inside, share):
    x, ncc = parts(image, source, inside)
    return (1 - share) * x.norm() / ncc


def forgets_the_one(image, source, inside, share):
    x, ncc = parts(image, source, inside)
    return share * x @ x / ncc


# ------------------------------------------------------------------------------------------- 11.2


def climbs_in_the_latent(z, f, f_inverse, ascent, alpha):
    z = z + ascent(z)
    return f_inverse(z), (1 - alpha) * z


def shrinks_the_image(z, f, f_inverse, ascent, alpha):
    x = f_inverse(z)
    x = x + ascent(x)
    return x, f((1 - alpha) * x)


def returns_after_the_shrink(z, f, f_inverse, ascent, alpha):
    """The released code's order."""
    x = f_inverse(z)
    z = (1 - alpha) * f(x + ascent(x))
    return f_inverse(z), z


def forgets_the_new_image(z, f, f_inverse, ascent, alpha):
    x = f_inverse(z)
    return x + ascent(x), (1 - alpha) * z


# ------------------------------------------------------------------------------------------- 11.5


def source_itself(start, source, inside):
    return source * inside


def only_the_norm(start, source, inside):
    """The end of the uncentred ascent: a gain and no offset."""
    return source * inside * start[inside].norm() / source[inside].norm()


def stays_at_the_start(start, source, inside):
    return start * inside


def deviation_of_the_source(start, source, inside):
    return (source - source[inside].mean() + start[inside].mean()) * inside


def with_surroundings(start, source, inside):
    s = source[inside]
    return start[inside].mean() + start[inside].std() * (source - s.mean()) / s.std()


WRONG_ANSWERS = {
    "11.1": [
        (cosine, "gain and offset of the source do not matter"),
        (towards_the_source, "it changes neither the mean nor the norm"),
        (without_the_length, "it agrees with finite differences"),
        (whole_slice, "pixels outside the brain neither count nor move"),
        (difference, "it agrees with finite differences"),
    ],
    "11.4": [
        (over_the_whole_slice, "it marks the share that the quantile says"),
        (or_equal, "a gradient at the quantile is not below it"),
        (everywhere, "nothing outside the brain is marked"),
        (edges, "it marks the smallest gradients"),
        (share_of_the_range, "it marks the share that the quantile says"),
        (over_the_whole_slice, "the background does not move the threshold"),
    ],
    "11.3": [
        (without_ncc, "one step leaves the share that was asked for"),
        (variance_without_the_count, "four times the pixels need four times the weight"),
        (uncentred, "one step leaves the share that was asked for"),
        (uncentred, "an offset of the images does not matter"),
        (forgets_the_one, "one step leaves the share that was asked for"),
        (norm_instead_of_its_square, "ten times the range needs a hundred times the weight"),
    ],
    "11.2": [
        (climbs_in_the_latent, "the ascent happens in the image"),
        (shrinks_the_image, "the shrink happens in the latent vector"),
        (returns_after_the_shrink, "the image is the one before the shrink"),
        (forgets_the_new_image, "the next latent vector comes from the climbed image"),
    ],
    "11.5": [
        (source_itself, "its mean is that of x0"),
        (only_the_norm, "its standard deviation is that of x0"),
        (stays_at_the_start, "many small steps end there"),
        (deviation_of_the_source, "its standard deviation is that of x0"),
        (deviation_of_the_source, "many small steps end there"),
        (with_surroundings, "outside the brain it is 0"),
    ],
}
