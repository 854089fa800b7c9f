"""What the spline, the whole flow and one harmonized slice cost, ours beside plain nflows with the same parameters."""

import warnings

import pytest
import torch
from nflows.transforms.splines import unconstrained_rational_quadratic_spline
from torch.utils.flop_counter import FlopCounterMode

from conftest import told
from harmony_lite.nets.flows import spline_flow
from harmony_lite.nets.spline import rational_quadratic_spline
from harmony_lite.papers.blindharmony.optimization import VARIANTS, optimise

BINS, BATCH = 8, 4
LITE = {"levels": 4, "steps": 7, "hidden": 32}
WHO = ["ours", "plain nflows"]


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("inverse", [False, True], ids=["forward", "inverse"])
@pytest.mark.parametrize("shape", [(2, 32, 32), (2, 64, 64)], ids=["2x32x32", "2x64x64"])
def test_spline(benchmark, shape, inverse, who):
    benchmark.group = f"spline {shape}, {'inverse' if inverse else 'forward'}"
    generator = torch.Generator().manual_seed(0)
    channels, height, width = shape
    inputs = 6 * torch.rand((BATCH, *shape), generator=generator) - 3
    sizes = [(BATCH, channels, n, height, width) for n in (BINS, BINS, BINS - 1)]
    numbers = [torch.randn(size, generator=generator) for size in sizes]
    if who == "ours":
        benchmark(rational_quadratic_spline, inputs, *numbers, inverse=inverse)
    else:
        last = [values.movedim(2, -1).contiguous() for values in numbers]
        # a copy each time: nflows writes into what it is given
        benchmark(
            lambda: unconstrained_rational_quadratic_spline(
                inputs, *(values.clone() for values in last), inverse=inverse, tails="linear", tail_bound=3.0
            )
        )


def flow_and_images(who, size, *, batch=BATCH, **changes):
    height, width = size if isinstance(size, tuple) else (size, size)
    torch.manual_seed(0)
    flow = spline_flow((1, height, width), **LITE | changes, plain=who != "ours")
    images = torch.rand(batch, 1, height, width) - 0.5
    flow.train().log_prob(images)  # sets ActNorm
    return flow, images


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("mode", ["forward", "inverse", "training step"])
@pytest.mark.parametrize("size", [64, 96])
def test_flow(benchmark, size, mode, who):
    benchmark.group = f"flow {size} x {size}, {mode}"
    flow, images = flow_and_images(who, size)

    def training_step():
        flow.zero_grad()
        (-flow.log_prob(images).mean()).backward()

    if mode == "training step":
        benchmark(training_step)
        return
    flow.eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # plain nflows' inverse uses a solver that torch has deprecated
        latent, _ = flow.encode(images)
        benchmark(lambda: flow.encode(images) if mode == "forward" else flow.decode(latent))


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("mode", ["forward", "inverse"])
def test_the_papers_flow(benchmark, mode, who, convolution_peak):
    """144 x 176 pixels, 96 channels, 14.5 million parameters; as many FLOP as its convolutions have."""
    benchmark.group = f"the paper's flow, one slice of 144 x 176, {mode}"
    flow, images = flow_and_images(who, (144, 176), batch=1, hidden=96)
    flow.eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        latent, _ = flow.encode(images)
        with FlopCounterMode(display=False) as counted:
            flow.encode(images)
        run = (lambda: flow.encode(images)) if mode == "forward" else (lambda: flow.decode(latent))
        benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    told(benchmark, counted.get_total_flops(), convolution_peak(96, 72, 88))


@pytest.mark.parametrize("who", WHO)
def test_one_harmonized_slice(benchmark, who):
    benchmark.group = "one slice of 64 x 64 harmonized"
    flow, images = flow_and_images(who, 64)
    source = (images[:1] + 0.5).clamp(0.01, 1)
    mask = torch.ones_like(source, dtype=torch.bool)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        benchmark(lambda: optimise(flow.eval(), source.flip(2), source, mask, VARIANTS["ours"]))
