"""What the benches share: one thread, the device, and what a convolution reaches at best on this machine."""

import time

import pytest
import torch
from torch.nn import functional

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def finished():
    """Wait until the device has done what it was given."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def time_a_step(benchmark, trained, steps):
    """Bench a training step: what twice so many steps take beyond so many, whose start is thereby taken off.

    `trained` takes a number of steps and gives the seconds of its training.
    """
    start = trained(steps)
    seconds = benchmark.pedantic(lambda: trained(2 * steps), rounds=1)
    benchmark.extra_info["step"] = f"{1000 * (seconds - start) / steps:.0f} ms a step"
    print(f"\n{benchmark.name}: {benchmark.extra_info['step']}")


@pytest.fixture(scope="session")
def convolution_peak():
    """(channels, height, width) to the operations a second of a 3 x 3 convolution of that size, at best."""
    rates = {}

    def peak(channels, height, width):
        if (channels, height, width) not in rates:
            images = torch.rand(4, channels, height, width, device=DEVICE).contiguous(memory_format=torch.channels_last)
            kernel = torch.rand(channels, channels, 3, 3, device=DEVICE)
            seconds = []
            with torch.no_grad():
                for _ in range(15):
                    began = time.perf_counter()
                    functional.conv2d(images, kernel, padding=1)
                    finished()
                    seconds.append(time.perf_counter() - began)
            rates[channels, height, width] = 2 * images.numel() * channels * 9 / min(seconds)
        return rates[channels, height, width]

    return peak


def told(benchmark, operations, peak, slices=None):
    """Print and keep operations (and slices) a second, and their share of the peak; nothing where no time was taken."""
    if benchmark.stats is None:  # --benchmark-disable
        return
    seconds = benchmark.stats.stats.median
    rate = f"{operations / seconds / 1e9:.1f} GFLOP/s, {operations / seconds / peak:.0%} of the peak {peak / 1e9:.0f}"
    benchmark.extra_info["rate"] = rate if slices is None else f"{slices / seconds:.0f} slices/s, {rate}"
    print(f"\n{benchmark.name}: {benchmark.extra_info['rate']}")
