"""What MISPEL costs: a training step, step 2 with and without a cache and solved, inference; beside what it could."""

import copy
import time

import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from harmony_lite.methods.decoder_optimum import solved_weights
from harmony_lite.methods.mispel_steps import (
    MispelSettings,
    PairedSlices,
    Units,
    coupling_loss,
    embeddings_of,
    fit_decoders,
    reconstruction_loss,
)

SCANNERS, SIZE = 4, (80, 96)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES = {"quick": 8, "full size": 32}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def finished():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


@pytest.fixture(scope="session")
def peak():
    """Operations a second of a 3 x 3 convolution of 32 channels, the largest that the networks have, by width."""
    rates = {}
    for name, width in SIZES.items():
        images = torch.rand(4, 4 * width, 40, 48, device=DEVICE).contiguous(memory_format=torch.channels_last)
        kernel = torch.rand(4 * width, 4 * width, 3, 3, device=DEVICE)
        seconds = []
        with torch.no_grad():
            for _ in range(15):
                began = time.perf_counter()
                functional.conv2d(images, kernel, padding=1)
                finished()
                seconds.append(time.perf_counter() - began)
        rates[name] = 2 * images.numel() * 4 * width * 9 / min(seconds)
    return rates


def units_and_slices(width, batch=4):
    torch.manual_seed(0)
    settings = MispelSettings(width=width)
    return Units(SCANNERS, settings).to(DEVICE), torch.rand(batch, SCANNERS, *SIZE, device=DEVICE), settings


def said(benchmark, operations, peak, slices):
    seconds = benchmark.stats.stats.median
    text = (
        f"{slices / seconds:.0f} slices/s, {operations / seconds / 1e9:.1f} GFLOP/s, "
        f"{operations / seconds / peak:.0%} of the measured peak of {peak / 1e9:.0f}"
    )
    benchmark.extra_info["rate"] = text
    print(f"\n{text}")


@pytest.mark.parametrize("size", list(SIZES))
def test_training_step(benchmark, size, peak):
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
    said(benchmark, counted.get_total_flops(), peak[size], images.shape[0] * SCANNERS)


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
def test_inference(benchmark, size, peak):
    """A batch of 16 slices of one scanner through its encoder and decoder."""
    benchmark.group = "MISPEL, 16 slices of one scanner"
    units, _, _ = units_and_slices(SIZES[size])
    images = torch.rand(16, 1, *SIZE, device=DEVICE)

    @torch.no_grad()
    def run():
        (units.encoders[0](images) * units.weights[0, :, None, None]).sum(1)
        finished()

    with FlopCounterMode(display=False) as counted:
        run()
    benchmark(run)
    said(benchmark, counted.get_total_flops(), peak[size], len(images))
