"""Typical wrong answers of notebook 10: what was tried, and the property that must fail."""

import math

import torch


def normal(z):
    return -0.5 * (z**2 + math.log(2 * math.pi))


def slope_of(x, f):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(f(x).sum(), x)[0]


def without_the_derivative(x, f):
    """The density of z, written at x."""
    return normal(f(x))


def derivative_the_other_way(x, f):
    """Divides by the slope, as for the density of z given x."""
    return normal(f(x)) - slope_of(x, f).abs().log()


def signed_slope(x, f):
    """Forgets that a density is not negative."""
    return normal(f(x)) + slope_of(x, f).log()


def adds_the_slope(x, f):
    """Forgets the logarithm."""
    return normal(f(x)) + slope_of(x, f).abs()


def without_the_constant(x, f):
    """Forgets 2 pi: it does not add up to one."""
    return -0.5 * f(x) ** 2 + slope_of(x, f).abs().log()


def uncouple(z, net, *, order="right", sign=-1.0, each=False, ask_changed=False):
    """The coupling backwards, with slips."""
    changed, kept = z.chunk(2, -1)
    log_scale, shift = net(changed if ask_changed else kept)
    shrunk = (-log_scale).exp()
    changed = (changed - shift) * shrunk if order == "right" else changed * shrunk - shift
    return torch.cat([changed, kept], -1), sign * (log_scale if each else log_scale.sum(-1))


def moves_both(z, net):
    """Undoes the coupling on the kept half too."""
    changed, kept = z.chunk(2, -1)
    log_scale, shift = net(kept)
    return torch.cat([(h - shift) * (-log_scale).exp() for h in (changed, kept)], -1), -log_scale.sum(-1)


def textbook_root(y, x0, x1, y0, y1, d0, d1, sign=1.0):
    """Divides by a, which is 0 on a straight piece."""
    s, r, h = (y1 - y0) / (x1 - x0), y - y0, y1 - y0
    u = d0 + d1 - 2 * s
    a, b, c = h * (s - d0) + r * u, h * d0 - r * u, -s * r
    return x0 + (x1 - x0) * (-b + sign * (b**2 - 4 * a * c).sqrt()) / (2 * a)


def slopes_exchanged(y, x0, x1, y0, y1, d0, d1):
    """Right but for the order of the slopes."""
    s, r, h = (y1 - y0) / (x1 - x0), y - y0, y1 - y0
    u = d0 + d1 - 2 * s
    a, b, c = h * (s - d1) + r * u, h * d1 - r * u, -s * r
    return x0 + (x1 - x0) * 2 * c / (-b - (b**2 - 4 * a * c).sqrt())


def straight_line(y, x0, x1, y0, y1, d0, d1):
    """Right at the knots only."""
    return x0 + (x1 - x0) * (y - y0) / (y1 - y0)


def axes_exchanged(y, x0, x1, y0, y1, d0, d1):
    """The inverse's slopes are 1 / d, but its curve is no spline of the same kind."""
    s, t = (x1 - x0) / (y1 - y0), (y - y0) / (y1 - y0)
    d0, d1 = 1 / d0, 1 / d1
    return x0 + (x1 - x0) * (s * t**2 + d0 * t * (1 - t)) / (s + (d0 + d1 - 2 * s) * t * (1 - t))


def shares_of_the_bin(y, *piece):
    """Forgets to go from t to x."""
    x0, x1 = piece[:2]
    return (textbook_root(y, *piece) - x0) / (x1 - x0)


def fold(values, back=False, *, there=(0, 1, 3, 5, 2, 4), home=(0, 1, 4, 2, 5, 3)):
    """Squeezes with the axes in an order of choice."""
    batch, channels, height, width = values.shape
    if back:
        parts = values.reshape(batch, channels // 4, 2, 2, height, width).permute(home)
        return parts.reshape(batch, channels // 4, 2 * height, 2 * width)
    parts = values.reshape(batch, channels, height // 2, 2, width // 2, 2).permute(there)
    return parts.reshape(batch, 4 * channels, height // 2, width // 2)


def reshapes(values, back=False):
    """The right shape, the wrong neighbours."""
    batch, channels, height, width = values.shape
    if back:
        return values.reshape(batch, channels // 4, 2 * height, 2 * width)
    return values.reshape(batch, 4 * channels, height // 2, width // 2)


def quarters(values, back=False):
    """Cuts the image into four quarters."""
    if back:
        return torch.nn.functional.pixel_shuffle(values, 2)
    return torch.cat([half for side in values.chunk(2, 2) for half in side.chunk(2, 3)], 1)


WRONG_ANSWERS = {
    "10.1": [
        (without_the_derivative, "a shift and a scale give the normal that one expects"),
        (derivative_the_other_way, "under a bent f the density still adds up to one"),
        (signed_slope, "a falling f is as good as a rising one"),
        (adds_the_slope, "without a transformation it is the standard normal"),
        (without_the_constant, "without a transformation it is the standard normal"),
    ],
    "10.2": [
        (lambda z, net: uncouple(z, net, order="wrong"), "the changed half comes back"),
        (lambda z, net: uncouple(z, net, sign=1.0), "the log-determinant is minus that of the way there"),
        (lambda z, net: uncouple(z, net, each=True), "the log-determinant is minus that of the way there"),
        (lambda z, net: uncouple(z, net, ask_changed=True), "the changed half comes back"),
        (moves_both, "the kept half stays"),
    ],
    "10.3": [
        (textbook_root, "a straight piece is no special case"),
        (textbook_root, "an almost straight piece keeps its digits"),
        (lambda *piece: textbook_root(*piece, sign=-1.0), "there and back is the same place"),
        (slopes_exchanged, "there and back is the same place"),
        (straight_line, "there and back is the same place"),
        (axes_exchanged, "there and back is the same place"),
        (shares_of_the_bin, "knots come back as knots"),
    ],
    "10.4": [
        (reshapes, "four neighbours share a place"),
        (quarters, "four neighbours share a place"),
        (
            lambda v, back=False: fold(v, back, there=(0, 1, 5, 3, 2, 4)),
            "channels are ordered by channel, row parity, column parity",
        ),
        (
            lambda v, back=False: fold(v, back, there=(0, 3, 5, 1, 2, 4)),
            "channels are ordered by channel, row parity, column parity",
        ),
        (lambda v, back=False: fold(v, back, home=(0, 1, 2, 4, 3, 5)), "back=True undoes it"),
        (lambda v, back=False: fold(v), "back=True undoes it"),
    ],
    "10.5": [
        (lambda log_density, bits, pixels: -log_density / pixels + bits, "an image twice as likely costs one bit less"),
        (
            lambda log_density, bits, pixels: -log_density / (math.log(2) * pixels),
            "a flow that knows nothing costs what is stored",
        ),
        (
            lambda log_density, bits, pixels: log_density / (math.log(2) * pixels) + bits,
            "an image that is certain costs nothing",
        ),
        (lambda log_density, bits, pixels: -log_density / math.log(2) + bits, "it agrees with the package"),
        (
            lambda log_density, bits, pixels: -log_density / (math.log(2) * pixels) - bits,
            "a flow that knows nothing costs what is stored",
        ),
    ],
}
