"""What BlindHarmonyDiff costs: the search for a share of edges, a training step, a velocity, a whole sampling.

Each beside a peer: SimpleITK's Canny run again for every threshold; on a GPU eager against captured steps, and float32
against bf16, at the paper's size.
"""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from torch.utils.flop_counter import FlopCounterMode

from conftest import DEVICE, finished
from harmony_lite.cuda_graphs import WARM_UP, on_side_stream, recorded
from harmony_lite.images.edges import canny
from harmony_lite.papers.blindharmonydiff.flow import velocity_loss
from harmony_lite.papers.blindharmonydiff.network import NetworkSizes, VelocityNetwork
from harmony_lite.papers.blindharmonydiff.patches import Patches
from harmony_lite.papers.blindharmonydiff.refinement import RefinementSettings, refine
from harmony_lite.papers.blindharmonydiff.sampler import SamplerSettings, sample, velocity_of
from harmony_lite.papers.blindharmonydiff.settings import settings_of

ON_GPU = pytest.mark.skipif(DEVICE != "cuda", reason="found no GPU: not measured here")
PAPER = NetworkSizes(attention=True)
FLOPS_PEAK = 989e12  # of an H200 in bf16, dense


def blobs(*sides):
    """A smooth volume with noise on it, as full of edges as a brain."""
    chance = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, 1, *(side // 8 for side in sides), generator=chance)
    smooth = torch.nn.functional.interpolate(coarse, size=sides, mode="trilinear")[0, 0]
    return smooth + 0.05 * torch.randn(sides, generator=chance)


def share_by_sitk(volume, wanted, runs=14):
    """The same search with a library: its Canny once for every threshold that is tried."""
    image, lowest, highest = sitk.GetImageFromArray(volume.numpy()), 0.0, float(volume.max() - volume.min())
    for _ in range(runs):
        high = (lowest + highest) / 2
        edges = sitk.GetArrayViewFromImage(sitk.CannyEdgeDetection(image, high / 2, high, [1.0] * 3))
        lowest, highest = (high, highest) if np.mean(edges > 0) > wanted else (lowest, high)
    return high


@pytest.mark.parametrize("who", ["one gradient, many linkings", "SimpleITK, again for each threshold"])
def test_share_of_edges(benchmark, who):
    benchmark.group = "the threshold for eight per cent of edges in 96 x 112 x 96 voxels"
    volume = blobs(96, 112, 96)
    search = canny if who == "one gradient, many linkings" else lambda image: share_by_sitk(image, 0.08)
    benchmark.pedantic(search, (volume,), rounds=3, warmup_rounds=1)


def network_of(sizes):
    """A network of first weights, with an averaged image to look up where it wants one."""
    torch.manual_seed(0)
    network = VelocityNetwork(sizes).to(DEVICE)
    return network.look_up_in(torch.zeros(80, 96, 80)) if sizes.from_averaged else network


def patches_of(batch, side):
    chance = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 1, side, side, side, generator=chance)
    conditions = torch.randn(batch, 4, side, side, side, generator=chance)
    return Patches(images.to(DEVICE), conditions.to(DEVICE))


@pytest.mark.parametrize("who", ["ours", "a plain U-Net of 16, 32, 64 channels"])
def test_training_step(benchmark, who):
    """Two patches of 32 voxels a side; forward, backward, Adam."""
    benchmark.group = "a training step on 2 patches of 32 x 32 x 32"
    plain = NetworkSizes(width=16, multiples=(1, 2, 4), blocks=1, first_side=3)
    network = network_of(settings_of("ours").network if who == "ours" else plain)
    optimizer, patches, chance = torch.optim.Adam(network.parameters()), patches_of(2, 32), torch.Generator(DEVICE)

    def step():
        optimizer.zero_grad()
        velocity_loss(network, patches, chance).backward()
        optimizer.step()
        finished()

    benchmark.pedantic(step, rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("who", ["4 Euler steps", "15 midpoint steps", "4 Euler steps, in windows of 48"])
def test_sampling(benchmark, who):
    benchmark.group = "sampling 80 x 96 x 80 voxels"
    settings = {
        "4 Euler steps": SamplerSettings(5, "euler"),
        "15 midpoint steps": SamplerSettings(),
        "4 Euler steps, in windows of 48": SamplerSettings(5, "euler", window=48),
    }[who]
    network = network_of(settings_of("ours").network).eval()
    noise, conditions = torch.randn(1, 1, 80, 96, 80, device=DEVICE), torch.randn(1, 4, 80, 96, 80, device=DEVICE)
    benchmark.pedantic(
        lambda: (sample(velocity_of(network, conditions, settings), noise, settings), finished()), rounds=2
    )


@pytest.mark.parametrize("kind", ["ncc", "mi"])
def test_refinement(benchmark, kind):
    benchmark.group = "refining 200,000 voxels, 6 steps"
    image, source = torch.rand(2, 200_000, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    benchmark.pedantic(lambda: (refine(image, source, RefinementSettings(kind)), finished()), rounds=3, warmup_rounds=1)


# ----------------------------------------------------------------------------------------- the paper's size, on a GPU


@ON_GPU
@pytest.mark.parametrize("who", ["one graph", "eager"])
def test_papers_training_step(benchmark, who):
    """Eight patches of 64 voxels a side, width 64 with attention, bf16; forward and backward."""
    benchmark.group = "the paper's network on a GPU, 8 patches of 64 x 64 x 64, forward and backward"
    torch.manual_seed(0)
    network, patches, chance = VelocityNetwork(PAPER).to(DEVICE), patches_of(8, 64), torch.Generator(DEVICE)

    def step():
        network.zero_grad(set_to_none=True)
        with torch.autocast(DEVICE, torch.bfloat16):
            loss = velocity_loss(network, patches, chance)
        loss.backward()

    if who == "one graph":
        for _ in range(WARM_UP):
            on_side_stream(step)
        network.zero_grad(set_to_none=True)
        step = recorded(step)
    benchmark.pedantic(lambda: (step(), finished()), rounds=10, warmup_rounds=3)
    benchmark.extra_info["peak GiB"] = torch.cuda.max_memory_allocated() / 2**30


@ON_GPU
@pytest.mark.parametrize("precision", ["bf16", "float32"])
def test_papers_volume(benchmark, precision):
    """144 x 208 x 96 voxels, 30 evaluations; memory, and the share of the arithmetic peak."""
    benchmark.group = "the paper's network on a GPU, sampling 144 x 208 x 96 voxels with 30 evaluations"
    torch.manual_seed(0)
    network, settings = VelocityNetwork(PAPER).to(DEVICE).eval(), SamplerSettings()
    noise, conditions = torch.randn(1, 1, 144, 208, 96, device=DEVICE), torch.randn(1, 4, 144, 208, 96, device=DEVICE)
    torch.cuda.reset_peak_memory_stats()

    def run():
        with torch.autocast(DEVICE, torch.bfloat16, enabled=precision == "bf16"):
            sample(velocity_of(network, conditions, settings), noise, settings)
        finished()

    benchmark.pedantic(run, rounds=2, warmup_rounds=1)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(noise, torch.zeros(1, device=DEVICE), conditions)
    seconds = benchmark.stats.stats.mean
    benchmark.extra_info["peak GiB"] = torch.cuda.max_memory_allocated() / 2**30
    benchmark.extra_info["share of the bf16 peak"] = 30 * counter.get_total_flops() / seconds / FLOPS_PEAK
