"""Scans: stored like a scanner's, mixed like tissue, different between sessions, blurred and noisy as told."""

import math
from dataclasses import replace

import pytest
import torch

from harmony_lite.simulate import PRESETS, preset, scan, simulate_person, tissue_constants
from harmony_lite.simulate.scanners import _gaussian, _rician, protocol_image, tissue_signal


@pytest.fixture(scope="module")
def person():
    return simulate_person(50, torch.Generator().manual_seed(2))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_scan_is_twelve_bit_and_skull_stripped(person):
    image = scan(person, "oasis_trio", generator())
    assert image.dtype == torch.float32 and image.shape == (1, 80, 96, 80)
    assert torch.equal(image, image.round()) and float(image.min()) >= 0 and float(image.max()) <= 4095
    assert float(image[~person.mask].abs().max()) == 0


def test_sessions_differ_and_repeat(person):
    first, again, other = (scan(person, "trio", generator(s)) for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("scanner", PRESETS)
def test_every_preset_scans(person, scanner):
    image = scan(person, scanner, generator())
    inside = image[person.mask]
    assert float(inside.std()) > 20 and float((inside >= 4095).float().mean()) < 0.01


def test_tissue_means_follow_the_protocol(person):
    """Pure voxels of a quiet, evenly shaded scanner show the signal equation's contrast."""
    quiet = replace(preset("oasis_sonata"), noise=0.0, receive=0.0)
    image = scan(person, quiet, generator())
    gm, wm = (float(image[0][person.tissues[k] > 0.98].mean()) for k in (1, 2))
    own = tissue_constants(1.5)
    own = replace(own, t1=own.t1 * person.t1_factors)
    signal = tissue_signal(quiet.protocol, own)
    assert gm / wm == pytest.approx(float(signal[1] / signal[2]), abs=0.04)


def test_partial_volume_mixes_signals_not_contrasts():
    fractions = torch.tensor([[0.5, 0.0], [0.0, 0.5], [0.5, 0.5]])
    image = protocol_image(fractions, preset("trio").protocol, 3.0)
    signal = tissue_signal(preset("trio").protocol, tissue_constants(3.0))[:3]
    torch.testing.assert_close(image, (fractions * signal[:, None]).sum(0).abs() / signal[2].abs())


def test_transmit_field_changes_contrast():
    constants = tissue_constants(3.0)
    low, high = (tissue_signal(preset("trio").protocol, constants, kappa) for kappa in (0.8, 1.2))
    assert float(high[1] / high[2]) - float(low[1] / low[2]) > 0.05


def test_noise_is_rician():
    sd = 10.0
    air = _rician(torch.zeros(1, 60, 60, 60), sd, generator())
    assert float(air.mean()) == pytest.approx(sd * math.sqrt(math.pi / 2), rel=0.01)
    bright = _rician(torch.full((1, 60, 60, 60), 50 * sd), sd, generator())
    assert float(bright.std()) == pytest.approx(sd, rel=0.02)


def test_gaussian_keeps_the_sum_and_has_its_width():
    point = torch.zeros(1, 41, 41, 41)
    point[0, 20, 20, 20] = 1
    sigma = (1.5, 0.3, 0.75)
    blurred = _gaussian(point, sigma)
    assert float(blurred.sum()) == pytest.approx(1, abs=1e-4)
    position = torch.arange(41.0) - 20
    for axis in range(3):
        profile = blurred.sum([0] + [1 + other for other in range(3) if other != axis])
        assert float((profile * position**2).sum().sqrt()) == pytest.approx(sigma[axis], rel=0.03), axis


def test_unknown_scanner_names_the_known_ones(person):
    with pytest.raises(ValueError, match="scanner: found 'skyra', wanted one of the presets: oasis_trio"):
        scan(person, "skyra", generator())


def test_short_names():
    assert preset("vida") is PRESETS["oasis_vida"]
