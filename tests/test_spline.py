"""The branch-free spline against nflows' own, against autograd, and against what a monotone curve has to be."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nflows.transforms.splines import unconstrained_rational_quadratic_spline

from harmony_lite.nets.spline import MIN_WIDTH, knots, rational_quadratic_spline


def drawn(shape=(2, 3, 5, 4), bins=8, seed=0, dtype=torch.float32, spread=3.0, reach=5.0):
    """Inputs from -reach to reach, and the three kinds of numbers that shape a spline for each pixel."""
    generator = torch.Generator().manual_seed(seed)
    batch, channels, height, width = shape
    inputs = reach * (2 * torch.rand(shape, generator=generator, dtype=dtype) - 1)
    sizes = [(batch, channels, n, height, width) for n in (bins, bins, bins - 1)]
    return inputs, *(spread * torch.randn(size, generator=generator, dtype=dtype) for size in sizes)


def peer(inputs, widths, heights, derivatives, **options):
    """nflows' spline, whose bins lie on the last axis."""
    last = [values.movedim(2, -1).clone() for values in (widths, heights, derivatives)]
    return unconstrained_rational_quadratic_spline(inputs, *last, tails="linear", **options)


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize(("bins", "bound"), [(8, 3.0), (4, 1.0), (2, 0.5)])
def test_equals_nflows(inverse, bins, bound):
    arguments = drawn(bins=bins, reach=1.5 * bound, dtype=torch.float64)
    ours = rational_quadratic_spline(*arguments, inverse=inverse, tail_bound=bound)
    theirs = peer(*arguments, inverse=inverse, tail_bound=bound)
    for found, wanted in zip(ours, theirs, strict=True):
        assert torch.allclose(found, wanted, atol=1e-10)


@pytest.mark.parametrize("inverse", [False, True])
def test_gradients_equal_those_of_nflows(inverse):
    gradients = []
    for function in (rational_quadratic_spline, peer):
        arguments = [values.requires_grad_() for values in drawn(dtype=torch.float64)]
        outputs, log_derivative = function(*arguments, inverse=inverse, tail_bound=3.0)
        (outputs.square().sum() + log_derivative.sum()).backward()
        gradients.append([values.grad for values in arguments])
    for found, wanted in zip(*gradients, strict=True):
        assert (found - wanted).norm() <= 1e-10 * wanted.norm()


@given(seed=st.integers(0, 10_000), spread=st.floats(0.1, 12.0))
@settings(deadline=None, max_examples=40)
def test_there_and_back(seed, spread):
    arguments = drawn(seed=seed, spread=spread, dtype=torch.float64)
    outputs, log_derivative = rational_quadratic_spline(*arguments)
    back, log_back = rational_quadratic_spline(outputs, *arguments[1:], inverse=True)
    assert torch.allclose(back, arguments[0], atol=1e-6)
    assert torch.allclose(log_back, -log_derivative, atol=1e-4)


def test_there_and_back_in_single_precision():
    arguments = drawn(shape=(4, 2, 32, 32), spread=0.5)  # as far as networks in training go
    outputs, _ = rational_quadratic_spline(*arguments)
    back, _ = rational_quadratic_spline(outputs, *arguments[1:], inverse=True)
    assert (back - arguments[0]).abs().max() < 1e-4


def test_the_logarithm_is_that_of_the_derivative():
    inputs, *rest = drawn(dtype=torch.float64)
    inputs.requires_grad_()
    outputs, log_derivative = rational_quadratic_spline(inputs, *rest)
    (slope,) = torch.autograd.grad(outputs.sum(), inputs)
    assert torch.allclose(slope.log(), log_derivative, atol=1e-9)


def test_rises_and_is_the_identity_outside():
    _, *rest = drawn(shape=(1, 1, 1, 1), dtype=torch.float64)
    line = torch.linspace(-5, 5, 2001, dtype=torch.float64).reshape(1, 1, 2001, 1)
    outputs, log_derivative = rational_quadratic_spline(line, *(r.expand(-1, -1, -1, 2001, -1) for r in rest))
    assert bool((outputs.diff(dim=2) > 0).all())
    outside = line.abs() > 3
    assert torch.equal(outputs[outside], line[outside]) and bool((log_derivative[outside] == 0).all())


def test_zero_numbers_make_a_straight_line_at_the_knots():
    """Equal bins; the slopes inside are softplus(0), so only the knots lie on the diagonal."""
    zeros = [torch.zeros(1, 1, n, 9, 1) for n in (8, 8, 7)]
    edges = torch.linspace(-3, 3, 9).reshape(1, 1, 9, 1)
    outputs, _ = rational_quadratic_spline(edges, *zeros)
    assert torch.allclose(outputs, edges, atol=1e-5)


def test_knots_rise_from_bound_to_bound():
    found = knots(30 * torch.randn(2, 3, 8, 4, 4, generator=torch.Generator().manual_seed(0)), 3.0)
    assert bool((found[:, :, 0] == -3).all()) and bool((found[:, :, -1] == 3).all())
    assert float(found.diff(dim=2).min()) > 0.99 * MIN_WIDTH * 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: torch.zeros(2, 3, 4)}, "wanted \\(B, C, H, W\\)"),
        ({2: torch.zeros(2, 3, 7, 5, 4)}, "heights: found shape"),
        ({3: torch.zeros(2, 3, 8, 5, 4)}, "derivatives: found shape"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change, message):
    arguments = list(drawn())
    for position, value in change.items():
        arguments[position] = value
    with pytest.raises(ValueError, match=message):
        rational_quadratic_spline(*arguments)
    with pytest.raises(ValueError, match="tail_bound: found 0"):
        rational_quadratic_spline(*drawn(), tail_bound=0)
