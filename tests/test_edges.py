"""Canny's edges: where a ball's surface is, linking against another algorithm, and the share that was asked for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.feature import canny as canny_in_2d

from harmony_lite.cohort import Cohort
from harmony_lite.images.edges import LOW, canny, gradient, linked, smoothed, thinned, threshold_for
from harmony_lite.images.intensity_maps import MAPS
from harmony_lite.images.normalize import subject_percentile
from harmony_lite.simulate import PRESETS


def from_middle(side=48, middle=23.3):
    return torch.stack(torch.meshgrid(*[torch.arange(float(side)) - middle] * 3, indexing="ij")).norm(dim=0)


def waves(*sides, seed=0):
    """Smooth blobs with some noise."""
    chance = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, 1, *[max(2, side // 8) for side in sides], generator=chance)
    mode = "trilinear" if len(sides) == 3 else "bilinear"
    smooth = torch.nn.functional.interpolate(coarse, size=sides, mode=mode)[0, 0]
    return smooth + 0.02 * torch.randn(sides, generator=chance)


# ----------------------------------------------------------------------------------------------------------- one step


@pytest.mark.parametrize("sharpness", [3.0, 30.0])
def test_the_surface_of_a_ball_is_where_it_is(sharpness):
    """Half a voxel at most on average, one voxel nowhere passed, and the surface is closed and thin."""
    radius, distance = 15.2, from_middle()
    ball = torch.sigmoid((radius - distance) * sharpness)
    edges = linked(thinned(gradient(smoothed(ball, 1.0))), 0.05)
    found = distance[edges]
    assert abs(float(found.mean()) - radius) < 0.5
    assert float((found - radius).abs().max()) < 1.0
    area = 4 * torch.pi * radius**2
    assert 0.8 * area < int(edges.sum()) < 1.8 * area  # one layer of voxels: a plane along the axes has 1, a tilted 1.7


def test_a_gaussian_of_no_width_changes_nothing_and_any_keeps_a_constant():
    volume = waves(9, 8, 7)
    assert torch.equal(smoothed(volume, 0), volume)
    assert torch.allclose(smoothed(torch.full((9, 8, 7), 3.0), 1.5), torch.full((9, 8, 7), 3.0), atol=1e-5)


def test_a_ramp_has_the_gradient_of_its_slope():
    x = torch.arange(6.0)[:, None, None].expand(6, 5, 4)
    inner = gradient(2 * x + 1)[:, 1:-1]
    assert torch.allclose(inner[0], torch.full_like(inner[0], 2.0)) and not inner[1:].any()


def linked_by_spreading(strength, high, in_slices):
    """Hysteresis again, by growing the strong places step by step."""
    weak, reached = strength > LOW * high, strength > high
    window = (3, 3, 1) if in_slices else (3, 3, 3)
    pad = tuple(side // 2 for side in window)
    while True:
        grown = torch.nn.functional.max_pool3d(reached[None, None].float(), window, 1, pad)[0, 0] > 0
        grown = grown & weak
        if torch.equal(grown, reached):
            return reached
        reached = grown


@pytest.mark.parametrize("in_slices", [False, True])
@pytest.mark.parametrize("high", [0.02, 0.05, 0.1])
def test_linking_is_what_growing_finds(high, in_slices):
    strength = thinned(gradient(smoothed(waves(20, 18, 16), 1.0, in_slices=in_slices), in_slices=in_slices))
    found = linked(strength, high, in_slices=in_slices)
    assert found.any() and torch.equal(found, linked_by_spreading(strength, high, in_slices))


def test_edges_in_slices_are_nearly_those_of_a_library_for_images():
    image = smoothed(waves(64, 72)[..., None], 1.0, in_slices=True)
    ours = canny(image, fraction=0.06, in_slices=True)[..., 0]
    theirs = max(
        (
            torch.from_numpy(canny_in_2d(image[..., 0].numpy(), 1.0, LOW * high, high))
            for high in torch.logspace(-2, 1, 60).tolist()
        ),
        key=lambda found: -abs(float(found.float().mean()) - 0.06),
    )
    shared = 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum())
    assert float(shared) > 0.85


# ----------------------------------------------------------------------------------------------------------- the share


@given(seed=st.integers(0, 50), fraction=st.floats(0.02, 0.1), gain=st.floats(0.1, 50), offset=st.floats(-5, 5))
@settings(max_examples=15, deadline=None)
def test_the_share_is_reached_whatever_gain_and_offset(seed, fraction, gain, offset):
    volume = waves(24, 28, 20, seed=seed)
    edges = canny(volume, fraction=fraction)
    assert abs(float(edges.float().mean()) - fraction) < 0.003
    again = canny(gain * volume + offset, fraction=fraction)
    assert float((edges != again).float().mean()) < 0.002  # rounding


def test_more_edges_need_a_lower_threshold():
    strength = thinned(gradient(waves(20, 20, 20)))
    few, many = (threshold_for(strength, count, count=8000) for count in (200, 600))
    assert few > many * (1 - 1e-4) and linked(strength, few).sum() <= linked(strength, many).sum()


def test_edges_of_a_mask_are_a_share_of_it():
    volume, mask = waves(24, 28, 20), from_middle(28, 13)[:24, :, :20] < 10
    edges = canny(volume, fraction=0.1, mask=mask)
    assert not edges[~mask].any() and float(edges[mask].float().mean()) == pytest.approx(0.1, abs=0.003)


@pytest.fixture(scope="module")
def scanned():
    return Cohort.simulate(1, list(PRESETS), spacing=2.5, seed=4)


def test_eight_per_cent_on_every_scanner(scanned):
    for scanner in scanned.scanners:
        edges = canny(subject_percentile(scanned.scans(scanner), scanned.masks(scanner)) * scanned.masks(scanner))
        assert float(edges.float().mean()) == pytest.approx(0.08, abs=0.003), scanner


def test_a_fixed_share_is_more_alike_across_contrasts_than_a_fixed_threshold(scanned):
    """Supplement S1, Figure S1a: curves of the same scan."""
    mask = scanned.mask
    scan = subject_percentile(scanned.scans(scanned.scanners[0]), mask, clip=True) * mask

    def dice(a, b):
        return float(2 * (a & b).sum() / (a.sum() + b.sum()))

    own = canny(scan)
    strength = thinned(gradient(smoothed(scan[0, 0], 1.0)))
    fixed = threshold_for(strength, round(0.08 * scan.numel()), count=scan.numel())
    for name in ("exp", "log"):
        curved = MAPS[name](scan) * mask
        assert dice(canny(curved), own) > dice(canny(curved, threshold=fixed), own) - 1e-3, name
        assert dice(canny(curved), own) > 0.7


# ----------------------------------------------------------------------------------------------------------- bad input


def test_where_there_are_fewer_edges_than_wanted_all_are_taken():
    volume = waves(20, 20, 20)
    with pytest.warns(UserWarning, match="wanted 60.00%; all of them are taken"):
        edges = canny(volume, fraction=0.6)
    assert torch.equal(edges, thinned(gradient(smoothed(volume, 1.0))) > 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"volume": torch.zeros(4, 4)}, "wanted a tensor"),
        ({"volume": torch.full((4, 4, 4), torch.nan)}, "wanted finite"),
        ({"volume": torch.zeros(8, 8, 8)}, "found no edge"),
        ({"fraction": 0.0}, "wanted above 0 and below 1"),
        ({"sigma": -1.0}, "wanted voxels"),
        ({"mask": torch.ones(3, 3, 3).bool()}, r"wanted torch.bool \(8, 8, 8\)"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        canny(**({"volume": waves(8, 8, 8)} | arguments))
