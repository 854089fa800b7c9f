"""Exercises of notebook 10: a density on a line, a coupling and a spline backwards, squeezing, bits per pixel."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from harmony_lite.exercises import Exercise, Property, answers, register
from harmony_lite.nets.flows import spline_flow
from harmony_lite.papers.blindharmony.prior import Encoding, bits_per_dimension

# ------------------------------------------------------------------------------- 10.1: a transformed Gaussian's density


def _line() -> Tensor:
    return torch.linspace(-3, 3, 2001, dtype=torch.float64)


def _log_density(answer: Callable, x: Tensor, f: Callable) -> Tensor:
    return answers.tensor_of_shape(answer(x.clone(), f), x.shape)


def _normal(x: Tensor, mean: float, deviation: float) -> Tensor:
    return torch.distributions.Normal(mean, deviation).log_prob(x)


def _largest_gap(found: Tensor, wanted: Tensor) -> float:
    gap = (found - wanted).abs().max()
    return float(gap) if bool(gap.isfinite()) else math.inf


def _identity_is_the_gaussian(answer: Callable) -> tuple[bool, str]:
    gap = _largest_gap(_log_density(answer, _line(), lambda x: 1 * x), _normal(_line(), 0, 1))
    return gap < 1e-6, f"for f(x) = x it is up to {gap:.3g} away from the standard normal's log-density"


def _stretched(answer: Callable) -> tuple[bool, str]:
    gap = _largest_gap(_log_density(answer, _line(), lambda x: (x - 1) / 0.5), _normal(_line(), 1, 0.5))
    return gap < 1e-6, f"for f(x) = (x - 1) / 0.5, X is normal with mean 1 and deviation 0.5; the gap is {gap:.3g}"


def _falling(answer: Callable) -> tuple[bool, str]:
    gap = _largest_gap(_log_density(answer, _line(), lambda x: -2 * x), _normal(_line(), 0, 0.5))
    return gap < 1e-6, f"for f(x) = -2x, X is normal with deviation 0.5; the gap is {gap:.3g}"


def _adds_up_to_one(answer: Callable) -> tuple[bool, str]:
    x = torch.linspace(-6, 6, 4001, dtype=torch.float64)
    total = float(torch.trapezoid(_log_density(answer, x, lambda x: x + x**3 / 2).exp(), x))
    return abs(total - 1) < 1e-3, f"for f(x) = x + x^3 / 2 the density adds up to {total:.3f}"


register(
    Exercise(
        id="10.1",
        title="the log-density of a transformed Gaussian on a line",
        minutes=8,
        properties=(
            Property("without a transformation it is the standard normal", _identity_is_the_gaussian),
            Property("a shift and a scale give the normal that one expects", _stretched),
            Property("a falling f is as good as a rising one", _falling),
            Property("under a bent f the density still adds up to one", _adds_up_to_one),
        ),
        hints=(
            "Equation 5 in one dimension has two factors; take the logarithm of each and add.",
            "The derivative comes from autograd: x = x.clone().requires_grad_(), then torch.autograd.grad(f(x).sum(), "
            "x). Density is never negative, so its absolute value counts.",
            "-0.5 * (z**2 + math.log(2 * math.pi)) + slope.abs().log(), with z = f(x) and slope its derivative.",
        ),
    )
)

# ----------------------------------------------------------------------------------- 10.2: an affine coupling backwards


def _network(kept: Tensor) -> tuple[Tensor, Tensor]:
    """A log-scale and a shift that nobody could invert: even functions, the same for many inputs."""
    mixed = kept.abs().sum(-1, keepdim=True) + kept.square()
    return torch.tanh(mixed - 1.5), torch.cos(3 * mixed)


def _coupled() -> tuple[Tensor, Tensor, Tensor]:
    """Vectors (5, 6), what the coupling makes of them, and the log-determinant (5,)."""
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(102)).double()
    changed, kept = x.chunk(2, -1)
    log_scale, shift = _network(kept)
    return x, torch.cat([changed * log_scale.exp() + shift, kept], -1), log_scale.sum(-1)


def _uncoupled(answer: Callable) -> tuple[Tensor, Tensor]:
    _, z, _ = _coupled()
    found = answer(z.clone(), _network)
    x, log_det = answers.pair(found, "two things: x and the log-determinant", shown=type(found).__name__)
    return answers.tensor_of_shape(x, z.shape, "x"), torch.as_tensor(log_det)


def _half_comes_back(answer: Callable) -> tuple[bool, str]:
    gap = _largest_gap(_uncoupled(answer)[0][:, :3], _coupled()[0][:, :3])
    return gap < 1e-9, f"the changed half is up to {gap:.3g} away from where it started"


def _kept_half(answer: Callable) -> tuple[bool, str]:
    gap = _largest_gap(_uncoupled(answer)[0][:, 3:], _coupled()[0][:, 3:])
    return gap < 1e-9, f"the second half, which never moved, is up to {gap:.3g} away"


def _minus_the_log_determinant(answer: Callable) -> tuple[bool, str]:
    _, log_det = _uncoupled(answer)
    wanted = -_coupled()[2]
    if log_det.shape != wanted.shape:
        return False, f"found shape {tuple(log_det.shape)}, wanted one number for each of {len(wanted)} vectors"
    return _largest_gap(log_det, wanted) < 1e-9, f"the first is {log_det[0]:.3f}, wanted {wanted[0]:.3f}"


register(
    Exercise(
        id="10.2",
        title="an affine coupling backwards",
        minutes=8,
        properties=(
            Property("the changed half comes back", _half_comes_back),
            Property("the kept half stays", _kept_half),
            Property("the log-determinant is minus that of the way there", _minus_the_log_determinant),
        ),
        hints=(
            "The kept half is still there, so the network can be asked again, and says the same.",
            "Undo the two steps in the opposite order: first take the shift away, then the scale.",
            "changed, kept = z.chunk(2, -1); log_scale, shift = net(kept); x = torch.cat([(changed - shift) * "
            "(-log_scale).exp(), kept], -1); the log-determinant is -log_scale.sum(-1).",
        ),
    )
)

# ------------------------------------------------------------------------------------- 10.3: one spline piece backwards

PIECES = ((-1.0, 0.5, 0.2, 1.7, 0.4, 2.5), (0.0, 1.0, -1.0, 3.0, 0.1, 0.1), (0.3, 0.4, 0.0, 2.0, 5.0, 9.0))


def _piece(x: Tensor, x0: float, x1: float, y0: float, y1: float, d0: float, d1: float) -> Tensor:
    """The rational-quadratic piece (Durkan et al. 2019, Eq. 4)."""
    s, t = (y1 - y0) / (x1 - x0), (x - x0) / (x1 - x0)
    return y0 + (y1 - y0) * (s * t**2 + d0 * t * (1 - t)) / (s + (d0 + d1 - 2 * s) * t * (1 - t))


def _piece_back(answer: Callable, piece: tuple, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Places on the piece, and where the answer says that they are."""
    x = torch.linspace(piece[0], piece[1], 41, dtype=torch.float64)
    return x, answers.tensor_of_shape(answer(_piece(x, *piece).to(dtype), *piece), x.shape).double()


def _there_and_back(answer: Callable) -> tuple[bool, str]:
    gap = max(_largest_gap(*_piece_back(answer, piece)) for piece in PIECES)
    return gap < 1e-6, f"on three pieces x comes back up to {gap:.3g} away"


def _knots_to_knots(answer: Callable) -> tuple[bool, str]:
    for piece in PIECES:
        _, found = _piece_back(answer, piece)
        if not (abs(float(found[0]) - piece[0]) < 1e-6 and abs(float(found[-1]) - piece[1]) < 1e-6):
            return False, f"the knots {piece[0]} and {piece[1]} come back as {found[0]:.3f} and {found[-1]:.3f}"
    return True, ""


def _straight(answer: Callable) -> tuple[bool, str]:
    gap = _largest_gap(*_piece_back(answer, (0.0, 2.0, 1.0, 2.0, 0.5, 0.5)))
    return gap < 1e-6, f"on a straight piece, where the square's factor a is 0, the gap is {gap:.3g}"


def _nearly_straight(answer: Callable) -> tuple[bool, str]:
    gap = _largest_gap(*_piece_back(answer, (0.0, 1.0, 0.0, 1.0, 1 + 1e-6, 1 + 3e-6), torch.float32))
    return gap < 1e-4, f"in single precision, on a piece that is almost straight, the gap is {gap:.3g}"


register(
    Exercise(
        id="10.3",
        title="one piece of the spline backwards",
        minutes=12,
        properties=(
            Property("there and back is the same place", _there_and_back),
            Property("knots come back as knots", _knots_to_knots),
            Property("a straight piece is no special case", _straight),
            Property("an almost straight piece keeps its digits", _nearly_straight),
        ),
        hints=(
            "Multiply the fraction out: what remains is a quadratic a t^2 + b t + c = 0 for t.",
            "With r = y - y0, h = y1 - y0 and u = d0 + d1 - 2s: a = h (s - d0) + r u, b = h d0 - r u, c = -s r. Two "
            "roots: take the one in [0, 1], in a form that does not divide by a.",
            "t = 2 * c / (-b - (b**2 - 4 * a * c).sqrt()); return x0 + (x1 - x0) * t.",
        ),
    )
)

# ------------------------------------------------------------------------------------------ 10.4: squeezing, and back


def _folded(answer: Callable, values: Tensor, **options: bool) -> Tensor:
    found = answer(values.clone(), **options)
    if not isinstance(found, Tensor):
        raise ValueError(f"found {type(found).__name__}, wanted a tensor")
    return found


def _shape(answer: Callable) -> tuple[bool, str]:
    found = tuple(_folded(answer, torch.zeros(2, 3, 6, 8)).shape)
    return found == (2, 12, 3, 4), f"(2, 3, 6, 8) became {found}, wanted (2, 12, 3, 4)"


def _neighbours_share_a_place(answer: Callable) -> tuple[bool, str]:
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    corner = sorted(_folded(answer, image)[0, :, 0, 0].tolist())
    return corner == [0, 1, 4, 5], f"of 0 to 15 in a 4 x 4 image, the first place holds {corner}, wanted 0, 1, 4, 5"


def _order_of_channels(answer: Callable) -> tuple[bool, str]:
    image = torch.stack([torch.arange(16.0), 100 + torch.arange(16.0)]).reshape(1, 2, 4, 4)
    found, wanted = _folded(answer, image)[0, :, 0, 0].tolist(), [0, 1, 4, 5, 100, 101, 104, 105]
    return found == wanted, f"with two channels the first place holds {found}, wanted {wanted}"


def _unfolds(answer: Callable) -> tuple[bool, str]:
    image = torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(104))
    folded = torch.nn.functional.pixel_unshuffle(image, 2)
    found = _folded(answer, folded, back=True)
    if found.shape != image.shape:
        return False, f"back=True made shape {tuple(found.shape)}, wanted {tuple(image.shape)}"
    wrong = int((found != image).sum())
    return wrong == 0, f"{wrong} of {image.numel()} values are in another place"


register(
    Exercise(
        id="10.4",
        title="squeeze 2 x 2 pixels into channels, and back",
        minutes=8,
        properties=(
            Property("four times the channels, half of each side", _shape),
            Property("four neighbours share a place", _neighbours_share_a_place),
            Property("channels are ordered by channel, row parity, column parity", _order_of_channels),
            Property("back=True undoes it", _unfolds),
        ),
        hints=(
            "Every even number is 2 i + p with the parity p: give each side two axes, i and p.",
            "reshape(B, C, H / 2, 2, W / 2, 2), then permute so that the two axes of length 2 come right after C.",
            "There: .reshape(B, C, H // 2, 2, W // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(B, 4 * C, H // 2, W // 2). "
            "Back: .reshape(B, C // 4, 2, 2, H, W).permute(0, 1, 4, 2, 5, 3).reshape(B, C // 4, 2 * H, 2 * W).",
        ),
    )
)

# ---------------------------------------------------------------------------------------------- 10.5: bits per pixel


def _bits(answer: Callable, log_density: Tensor, bits: int, pixels: int) -> Tensor:
    return answers.tensor_of_shape(answer(log_density.clone(), bits, pixels), log_density.shape)


def _knows_nothing(answer: Callable) -> tuple[bool, str]:
    found = [float(_bits(answer, torch.zeros(1), bits, 100)[0]) for bits in (8, 12)]
    return (
        all(abs(f - w) < 1e-5 for f, w in zip(found, (8, 12), strict=True)),
        f"a density of 1 on the unit cube cost {found[0]:.3g} and {found[1]:.3g} bits, wanted 8 and 12",
    )


def _certain(answer: Callable) -> tuple[bool, str]:
    found = float(_bits(answer, torch.tensor([100 * 8 * math.log(2)]), 8, 100)[0])
    return abs(found) < 1e-4, f"a density of 256 in every one of 100 pixels cost {found:.3g} bits, wanted 0"


def _twice_as_likely(answer: Callable) -> tuple[bool, str]:
    found = _bits(answer, torch.tensor([0.0, math.log(2)], dtype=torch.float64), 8, 50)
    less = float(found[0] - found[1])
    return abs(less - 1 / 50) < 1e-9, f"of 50 pixels, an image twice as likely is {less:.4f} bits cheaper, wanted 0.02"


def _agrees_with_the_package(answer: Callable) -> tuple[bool, str]:
    generator = torch.Generator().manual_seed(105)
    images, noise = (torch.rand(3, 1, 8, 8, generator=generator) for _ in range(2))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(105)
        flow = spline_flow((1, 8, 8), levels=1, steps=1, hidden=4).eval()
        wanted = bits_per_dimension(flow, images, Encoding(5), noise)
        found = _bits(answer, flow.log_prob(Encoding(5).encode(images, noise)), 5, 64)
    gap = _largest_gap(found, wanted)
    return gap < 1e-4, f"on a small flow with 5 bits it is up to {gap:.3g} away"


register(
    Exercise(
        id="10.5",
        title="bits per pixel from a log-density",
        minutes=6,
        properties=(
            Property("a flow that knows nothing costs what is stored", _knows_nothing),
            Property("an image that is certain costs nothing", _certain),
            Property("an image twice as likely costs one bit less", _twice_as_likely),
            Property("it agrees with the package", _agrees_with_the_package),
        ),
        hints=(
            "A probability p takes -log2(p) bits; the flow gives a natural logarithm, of a whole image.",
            "Each grey level is 1 / 2**bits wide, so a probability is the density times that, for every pixel.",
            "-log_density / (math.log(2) * pixels) + bits.",
        ),
    )
)
