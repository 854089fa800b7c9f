"""What CUDA graphs buy: the paper's flow and the prior's training step, beside plain nflows and beside eager steps.

144 x 176 pixels, 4 levels x 7 steps, hidden 96, 14.5 million parameters. Without a GPU every row is skipped.
"""

import warnings

import pytest
import torch

from conftest import DEVICE, finished, time_a_step
from harmony_lite.cuda_graphs import WARM_UP, on_side_stream, recorded
from harmony_lite.nets.flows import spline_flow
from harmony_lite.papers.blindharmony.optimization import VARIANTS, optimise
from harmony_lite.papers.blindharmony.prior import SIZES, new_flow, train_prior
from harmony_lite.profiles import GPU

pytestmark = pytest.mark.skipif(DEVICE != "cuda", reason="found no GPU: not measured here")
PAPER = {"levels": 4, "steps": 7, "hidden": 96}
WHO = ["ours, one graph", "ours, eager", "plain nflows"]
STEPS = 100  # of a training that is timed; as many again are taken off with the start


def paper_flow(who, batch):
    torch.manual_seed(0)
    flow = spline_flow((1, 144, 176), **PAPER, plain=who == "plain nflows").to(DEVICE)
    images = torch.rand(batch, 1, 144, 176, device=DEVICE) - 0.5
    flow.train().log_prob(images)  # sets ActNorm
    return flow, images


@pytest.mark.parametrize("who", WHO)
def test_forward_and_backward_of_16_slices(benchmark, who):
    benchmark.group = "the paper's flow on a GPU, 16 slices of 144 x 176, forward and backward"
    flow, images = paper_flow(who, 16)

    def step():
        flow.zero_grad(set_to_none=True)
        (-flow.log_prob(images).mean()).backward()

    if who == "ours, one graph":
        for _ in range(WARM_UP):
            on_side_stream(step)
        flow.zero_grad(set_to_none=True)
        step = recorded(step)
    benchmark.pedantic(lambda: (step(), finished()), rounds=10, warmup_rounds=3)


@pytest.mark.parametrize("who", ["ours, one graph", "plain nflows"])
def test_50_slices_through_10_iterations(benchmark, who):
    benchmark.group = "the paper's flow on a GPU, 50 slices of 144 x 176 through Algorithm 1"
    flow, images = paper_flow(who, 50)
    source = (images + 0.5).clamp(0.01, 1)
    mask = torch.ones_like(source, dtype=torch.bool)

    def harmonized():
        optimise(flow.eval(), source.flip(2), source, mask, VARIANTS["ours"])
        finished()

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # plain nflows cannot be recorded, and its solver is deprecated
        benchmark.pedantic(harmonized, rounds=3, warmup_rounds=1)
    if benchmark.stats is not None:
        benchmark.extra_info["rate"] = f"{50 / benchmark.stats.stats.median:.0f} slices/s"
        print(f"\n{benchmark.name}: {benchmark.extra_info['rate']}")


@pytest.mark.parametrize("capture", [True, False], ids=["one graph", "eager"])
def test_training_step_of_the_gpu_profiles_prior(benchmark, capture):
    """Draw, mirror, loss, backward, clipping and Adam for 64 slices of 80 x 96: `STEPS` of them."""
    benchmark.group = f"{STEPS} training steps of the gpu profile's prior"
    prior = SIZES[GPU.name]
    slices = torch.rand(640, 1, 80, 96, generator=torch.Generator().manual_seed(0))

    def trained(steps):
        generator = torch.Generator().manual_seed(0)
        flow = new_flow(prior, (80, 96))
        history = train_prior(flow, slices, slices[:1], prior, generator, None, False, steps=steps, capture=capture)
        return history.seconds

    time_a_step(benchmark, trained, STEPS)
