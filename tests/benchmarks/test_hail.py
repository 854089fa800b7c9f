"""What HAIL costs: a step of each phase, the loss beside MONAI's, a volume whole and in parts; full size on a GPU."""

from dataclasses import replace

import pytest
import torch
from monai.losses import SSIMLoss
from torch.utils.flop_counter import FlopCounterMode

from conftest import DEVICE, finished, time_a_step
from harmony_lite.papers.hail.adain import style_of
from harmony_lite.papers.hail.harmonizer import Hail, Reference
from harmony_lite.papers.hail.losses import ssim
from harmony_lite.papers.hail.networks import AutoEncoder
from harmony_lite.papers.hail.phases import Sites, phase_1, phase_2
from harmony_lite.papers.hail.settings import SIZES, HailSettings, InferenceSettings, NetworkSizes, settings_of
from harmony_lite.profiles import GPU

ON_GPU = pytest.mark.skipif(DEVICE != "cuda", reason="found no GPU: not measured here")
FLOPS_PEAK = 989e12  # of an H200 in bf16, dense
STEPS = 50  # of a training that is timed; as many again are taken off with the start


def sites(side):
    volumes = torch.rand(4, side, side, side, generator=torch.Generator().manual_seed(0))
    return Sites(volumes, torch.ones_like(volumes).bool(), (2, 2))


@pytest.mark.parametrize("phase", [1, 2])
@pytest.mark.parametrize("variant", ["ours", "paper"])
def test_training_step(benchmark, variant, phase):
    """Four crops of 32 voxels a side, forward, backward and AdamW."""
    benchmark.group = f"HAIL, a step of phase {phase} on 4 crops of 32 x 32 x 32"
    settings, chance = settings_of(variant), torch.Generator().manual_seed(0)
    made = phase_1(settings, chance) if phase == 1 else phase_2(AutoEncoder(settings.network), settings, chance)
    model, chance = made.model.to(DEVICE), torch.Generator(DEVICE).manual_seed(0)
    data = tuple(tensor.to(DEVICE) for tensor in sites(40).tensors())
    optimizer = torch.optim.AdamW(made.trained.parameters(), fused=True)

    def step():
        optimizer.zero_grad()
        made.batch_loss(model, made.draw_batch(data, chance), chance).backward()
        optimizer.step()
        finished()

    benchmark.pedantic(step, rounds=5, warmup_rounds=1)


@ON_GPU
@pytest.mark.parametrize("capture", [True, False], ids=["one graph", "eager"])
@pytest.mark.parametrize("phase", [1, 2])
def test_training_step_of_the_gpu_profile(benchmark, phase, capture):
    """Draw, loss, backward and AdamW at the sizes of the profile `gpu`: `STEPS` of them."""
    benchmark.group = f"HAIL, {STEPS} steps of phase {phase} at the gpu profile's size"
    settings, data = SIZES[GPU.name], sites(80)
    nobody = Sites(data.volumes[:0], data.masks[:0], (0, 0))  # is held out

    def trained(steps):
        chance = torch.Generator().manual_seed(0)
        made = phase_1(settings, chance) if phase == 1 else phase_2(AutoEncoder(settings.network), settings, chance)
        return made.train(data, nobody, settings, chance, None, False, steps=steps, capture=capture).seconds

    time_a_step(benchmark, trained, STEPS)


@pytest.mark.parametrize("who", ["one axis after the other", "MONAI"])
def test_ssim(benchmark, who):
    benchmark.group = "SSIM of 4 crops of 32 x 32 x 32, and its gradient"
    image, other = torch.rand(2, 4, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    image = image.clone().requires_grad_()
    monai = SSIMLoss(3)

    def step():
        (1 - ssim(image, other) if who != "MONAI" else monai(image, other)).backward()
        finished()

    benchmark.pedantic(step, rounds=3, warmup_rounds=1)


def untrained(sizes, inference):
    """A method of first weights whose reference is noise."""
    torch.manual_seed(0)
    method = Hail(HailSettings(network=sizes), inference)
    method._network = AutoEncoder(sizes).to(DEVICE).requires_grad_(False)
    noise = torch.rand(1, 1, 32, 32, 32).to(DEVICE)
    method._reference = Reference(style_of(method._network.encoder(noise)[-1]), (0.0, 1.0))
    return method


@pytest.mark.parametrize("window", [None, 48])
@pytest.mark.parametrize("variant", ["ours", "paper"])
def test_volume(benchmark, variant, window):
    benchmark.group = "HAIL, a volume of 80 x 96 x 80 voxels, whole and in parts"
    method = untrained(settings_of(variant).network, InferenceSettings(window=window))
    volume = torch.rand(1, 1, 80, 96, 80).to(DEVICE)
    benchmark.pedantic(lambda: (method.harmonize(volume), finished()), rounds=2, warmup_rounds=1)


@ON_GPU
def test_volume_of_full_size(benchmark):
    """256 x 256 x 256 voxels at the paper's widths, in parts, with the share of the device's peak."""
    benchmark.group = "HAIL, a volume of 256 x 256 x 256 voxels, paper's widths"
    method = untrained(NetworkSizes(), replace(InferenceSettings(), window=128))
    volume = torch.rand(1, 1, 256, 256, 256, device=DEVICE)
    with FlopCounterMode(display=False) as counted:
        method.harmonize(volume)
    benchmark.pedantic(lambda: (method.harmonize(volume), finished()), rounds=2, warmup_rounds=1)
    seconds = benchmark.stats.stats.min
    benchmark.extra_info["share of the peak"] = round(counted.get_total_flops() / seconds / FLOPS_PEAK, 3)
    benchmark.extra_info["GiB"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
