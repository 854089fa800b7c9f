"""What MISPEL costs: a training step, step 2 with and without a cache and solved, inference; beside what it could."""

import copy

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from conftest import DEVICE, finished, told
from harmony_lite.papers.mispel.decoder_optimum import solved_weights
from harmony_lite.papers.mispel.losses import coupling_loss, reconstruction_loss
from harmony_lite.papers.mispel.networks import Units, embeddings_of
from harmony_lite.papers.mispel.settings import MispelSettings
from harmony_lite.papers.mispel.steps import PairedSlices, fit_decoders

SCANNERS, SIZE = 4, (80, 96)
SIZES = {"quick": 8, "full size": 32}


def units_and_slices(width, batch=4):
    torch.manual_seed(0)
    settings = MispelSettings(width=width)
    return Units(SCANNERS, settings).to(DEVICE), torch.rand(batch, SCANNERS, *SIZE, device=DEVICE), settings


@pytest.mark.parametrize("size", list(SIZES))
def test_training_step(benchmark, size, convolution_peak):
    """Step 1: four slices on four scanners, forward, backward and Adam."""
    benchmark.group = "MISPEL, one step of step 1"
    units, images, settings = units_and_slices(SIZES[size])
    optimizer = torch.optim.Adam(units.parameters())

    def step():
        embeddings = units.embed(images)
        loss = reconstruction_loss(images, units.decode(embeddings)) + 0.3 * coupling_loss(embeddings)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        finished()

    with FlopCounterMode(display=False) as counted:
        step()
    benchmark.pedantic(step, rounds=10, warmup_rounds=2)
    told(benchmark, counted.get_total_flops(), convolution_peak(4 * SIZES[size], 40, 48), images.shape[0] * SCANNERS)


@pytest.mark.parametrize("how", ["cached", "uncached"])
def test_step_two(benchmark, how):
    """Forty batches of step 2 at the size of `quick`; embedding every slice once is counted to the cached one."""
    benchmark.group = "MISPEL, forty batches of step 2"
    units, images, settings = units_and_slices(8, 20)
    slices = PairedSlices(images.cpu(), torch.ones(20, 1, *SIZE).bool(), tuple("abcd"))
    chance = torch.Generator()
    losses = []

    def forty():
        own = copy.deepcopy(units)
        chance.manual_seed(0)
        history = fit_decoders(
            own, slices, settings, generator=chance, cached=how == "cached", progress=False, steps=40
        )
        losses.append(history.seconds)

    benchmark.pedantic(forty, rounds=3, warmup_rounds=1)
    print(f"\n{how}: {1000 * min(losses) / 40:.2f} ms a batch without the embedding beforehand")


@pytest.mark.parametrize("how", ["L1", "least squares"])
def test_solved(benchmark, how):
    benchmark.group = "MISPEL, step 2 solved, 100,000 pixels"
    units, images, settings = units_and_slices(8)
    z = embeddings_of(units, images.cpu()).permute(0, 3, 4, 1, 2).flatten(0, 2)
    x = images.cpu().permute(0, 2, 3, 1).flatten(0, 2)
    times = -(-100_000 // len(z))
    z, x = z.repeat(times, 1, 1)[:100_000], x.repeat(times, 1)[:100_000]
    benchmark.pedantic(lambda: solved_weights(z, x, settings, absolute=how == "L1"), rounds=3)


@pytest.mark.parametrize("size", list(SIZES))
def test_inference(benchmark, size, convolution_peak):
    """A batch of 16 slices of one scanner through its encoder and decoder."""
    benchmark.group = "MISPEL, 16 slices of one scanner"
    units, _, _ = units_and_slices(SIZES[size])
    images = torch.rand(16, 1, *SIZE, device=DEVICE)

    @torch.no_grad()
    def run():
        units.decode(units.encoders[0](images)[:, None], slice(0, 1))
        finished()

    with FlopCounterMode(display=False) as counted:
        run()
    benchmark(run)
    told(benchmark, counted.get_total_flops(), convolution_peak(4 * SIZES[size], 40, 48), len(images))
