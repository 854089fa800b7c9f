"""What Harmonizing Flows costs: a training step of the flow, a step of adaptation, harmonizing; each beside a peer."""

import pytest
import torch

from conftest import DEVICE, finished
from harmony_lite.nets.unet import UNet
from harmony_lite.papers.blindharmony.prior import SIZES as SPLINE_SIZES
from harmony_lite.papers.blindharmony.prior import Encoding, new_flow
from harmony_lite.papers.harmonizing_flows.adaptation import harmonized_levels
from harmony_lite.papers.harmonizing_flows.flow import GuidedFlow, bits_per_dimension
from harmony_lite.papers.harmonizing_flows.guiding import guided_step
from harmony_lite.papers.harmonizing_flows.network import HarmonizerNetwork
from harmony_lite.papers.harmonizing_flows.settings import SIZES, FlowSettings

QUICK = (80, 80)  # a coronal slice of 2 mm
PAPER = (224, 224)


def levels(batch, size):
    slices = torch.randint(1, 256, (batch, 1, *size), generator=torch.Generator().manual_seed(0)).float()
    slices[:, :, :20] = 0
    return slices.to(DEVICE)


def flow_of(size, sizes):
    torch.manual_seed(0)
    return GuidedFlow(size, sizes).to(DEVICE)


def stepping(parameters, loss):
    """One step of Adam on a loss."""
    optimizer = torch.optim.Adam(parameters, lr=1e-5)

    def step():
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        finished()

    return step


@pytest.mark.parametrize("who", ["guided flow", "guided flow, the paper's size", "BlindHarmony's spline flow"])
def test_training_step(benchmark, who):
    """Eight slices of 80 x 80, or one of 224 x 224 at the paper's size; forward, backward, Adam."""
    benchmark.group = "a training step of a flow: 8 slices of 80 x 80, or 1 of 224 x 224"
    chance = torch.Generator(DEVICE)
    if who == "BlindHarmony's spline flow":
        slices = levels(8, QUICK) / 255
        flow = new_flow(SPLINE_SIZES["quick"], slices.shape[2:]).to(DEVICE)
        loss = lambda: -flow.log_prob(Encoding(8).encode(slices, torch.rand_like(slices))).mean()  # noqa: E731
    else:
        is_quick = who == "guided flow"
        slices = levels(8, QUICK) if is_quick else levels(1, PAPER)
        settings = SIZES["quick"].flow if is_quick else FlowSettings()
        flow = flow_of(slices.shape[2:], settings.sizes)
        loss = lambda: guided_step(flow, slices, settings, chance)  # noqa: E731
    benchmark.pedantic(stepping(flow.parameters(), loss), rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("who", ["harmonizer and flow", "harmonizer alone"])
def test_step_of_adaptation(benchmark, who):
    """Sixteen slices of 80 x 80: Equation 6, beside the same step on a loss without the flow."""
    benchmark.group = "a step of adaptation, 16 slices of 80 x 80"
    slices, network = levels(16, QUICK), HarmonizerNetwork(identity=True, unit=255.0).to(DEVICE)
    flow, uniform = flow_of(QUICK, SIZES["quick"].flow.sizes).requires_grad_(False), torch.rand_like(slices)

    def loss():
        found = harmonized_levels(network, slices)
        return bits_per_dimension(flow, found, uniform).mean() if who == "harmonizer and flow" else found.mean()

    benchmark.pedantic(stepping(network.parameters(), loss), rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("who", ["harmonizer", "a plain U-Net of 16 channels"])
def test_harmonize_16_slices(benchmark, who):
    benchmark.group = "harmonizing 16 slices of 80 x 80"
    torch.manual_seed(0)
    network = (HarmonizerNetwork() if who == "harmonizer" else UNet(16)).to(DEVICE).eval()
    slices = levels(16, QUICK)

    @torch.no_grad()
    def run():
        network(slices)
        finished()

    benchmark.pedantic(run, rounds=5, warmup_rounds=1)
