"""Normalisations, foreground, slices, padding and N4."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harmony_lite.images import bias_field, normalize
from harmony_lite.images.slices import axial_slices

SCALINGS = {
    "slice_minmax": normalize.slice_minmax,
    "subject_percentile": normalize.subject_percentile,
    "divide_by_mean": normalize.divide_by_mean,
    "full_range_minmax": normalize.full_range_minmax,
    "grey_levels": normalize.grey_levels,
}


def head(size=24, people=2, seed=0):
    """Masked volumes: a ball of tissue with texture, exactly 0 around; and the ball."""
    generator = torch.Generator().manual_seed(seed)
    axis = torch.linspace(-1, 1, size)
    radius = (axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2).sqrt()
    ball = (radius < 0.8).expand(people, 1, size, size, size)
    texture = 500 + 300 * radius + 50 * torch.rand(people, 1, size, size, size, generator=generator)
    return torch.where(ball, texture, 0.0), ball


@pytest.mark.parametrize("name", SCALINGS)
def test_every_scaling_keeps_shape_and_type_and_refuses_what_has_no_contrast(name):
    scale = SCALINGS[name]
    volumes, _ = head()
    for images in (volumes, volumes[..., 12]):
        scaled = scale(images)
        assert scaled.shape == images.shape and scaled.dtype == torch.float32 and bool(scaled.isfinite().all())
    constant = torch.cat([volumes[:1], torch.full_like(volumes[:1], 3.0)])
    with pytest.raises(ValueError, match="found image 1 constant at 3"):
        scale(constant)
    spoilt = volumes.clone()
    spoilt[0, 0, 3, 3, 3] = float("nan")
    with pytest.raises(ValueError, match="found 1 values that are NaN"):
        scale(spoilt)
    with pytest.raises(ValueError, match="found shape"):
        scale(volumes[:, 0, 0])


@pytest.mark.parametrize("name", ["subject_percentile", "full_range_minmax", "grey_levels"])
@settings(max_examples=20, deadline=None)
@given(gain=st.floats(0.1, 50))
def test_the_scanner_gain_does_not_matter(name, gain):
    volumes, _ = head(size=12, people=1)
    wanted = SCALINGS[name](volumes)
    allowed = 1 if name == "grey_levels" else 1e-4  # a level may fall on the other side of the rounding
    assert float((SCALINGS[name](volumes * gain) - wanted).abs().max()) <= allowed


def test_slice_minmax_takes_each_axial_slice_by_itself():
    volumes, _ = head()
    scaled = normalize.slice_minmax(volumes)
    for k in range(volumes.shape[-1]):
        part = volumes[..., k]
        if bool((part.flatten(1).amax(1) > 0).all()):
            torch.testing.assert_close(scaled[..., k], normalize.slice_minmax(part))
        else:
            assert not bool(scaled[..., k].any()), "a slice of air stays 0"
    negative = torch.tensor([[[[-4.0, 1.0, 2.0]]]])
    torch.testing.assert_close(normalize.slice_minmax(negative), torch.tensor([[[[1.0, 0.0, 1 / 3]]]]))


def test_percentiles_agree_with_numpy_and_count_the_mask_only():
    volumes, ball = head()
    lower, upper = normalize.percentiles(volumes, ball, 2, 97)
    for index in range(len(volumes)):
        wanted = np.percentile(volumes[index][ball[index]].numpy(), [2, 97])
        np.testing.assert_allclose([lower[index], upper[index]], wanted, rtol=1e-6)
    scaled = normalize.subject_percentile(volumes, ball)
    assert scaled[ball].max() > 1 and scaled[ball].min() < 0, "not clipped unless asked for"
    assert float(normalize.subject_percentile(volumes, ball, clip=True).max()) == 1
    again = normalize.percentiles(scaled, ball)
    torch.testing.assert_close(torch.stack(again), torch.tensor([[0.0, 0.0], [1.0, 1.0]]), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="wanted 0 <= low < high <= 100"):
        normalize.percentiles(volumes, ball, 99, 1)
    with pytest.raises(ValueError, match="mask: found torch.float32"):
        normalize.percentiles(volumes, ball.float())
    with pytest.raises(ValueError, match="no voxel inside"):
        normalize.percentiles(volumes, torch.zeros_like(ball))


def test_percentiles_of_more_voxels_than_torch_quantile_takes():
    volume = torch.arange(257 * 257 * 257, dtype=torch.float32).reshape(1, 1, 257, 257, 257)
    lower, upper = normalize.percentiles(volume, torch.ones(1).bool().expand(volume.shape))
    np.testing.assert_allclose([lower.item(), upper.item()], [0.01 * volume.numel(), 0.99 * volume.numel()], rtol=1e-5)


def test_divide_by_mean_counts_the_zeros():
    volumes, ball = head()
    torch.testing.assert_close(normalize.divide_by_mean(volumes).flatten(1).mean(1), torch.ones(2))
    inside = (volumes * ball).flatten(1).sum(1) / ball.flatten(1).sum(1)
    assert bool((inside / volumes.flatten(1).mean(1) > 2).all()), "the mean of the brain alone is another one"
    with pytest.raises(ValueError, match="found a mean of"):
        normalize.divide_by_mean(-volumes)


def test_grey_levels_are_integers_from_0_to_255():
    volumes, ball = head()
    levels = normalize.grey_levels(volumes + 100 * torch.rand(volumes.shape), ball)
    assert bool((levels == levels.round()).all()) and float(levels.min()) == 0 and float(levels.max()) == 255
    assert not bool(levels[~ball].any()), "outside is 0"
    assert float((levels[ball] == 255).float().mean()) < 0.01, "few voxels are cut"


def test_foreground_of_a_masked_scan_is_what_is_not_background():
    volumes, ball = head()
    assert torch.equal(normalize.foreground(volumes), ball)
    assert torch.equal(normalize.foreground(volumes - 1000), ball), "the constant may be another one than 0"
    dark = volumes.clone()
    dark[0, 0, 12, 12, 12] = -5.0
    assert bool(normalize.foreground(dark)[0, 0, 12, 12, 12]), "a dark voxel inside belongs to it"


def test_foreground_of_a_whole_head_with_noise_is_otsus():
    volumes, ball = head()
    noisy = volumes + 40 * torch.rand(volumes.shape, generator=torch.Generator().manual_seed(1))
    assert torch.equal(normalize.foreground(noisy), ball)


def test_foreground_does_not_take_frequent_tissue_for_background():
    volumes, ball = head()
    flat = torch.where(ball, 700.0, 40 * torch.rand(volumes.shape, generator=torch.Generator().manual_seed(1)))
    found = normalize.foreground(flat)  # the constant fills the ball, but no corner has it
    assert bool(found[ball].all()) and float(found[~ball].float().mean()) < 0.05


def test_axial_slices_are_the_volumes_own():
    volumes, ball = head()
    slices, positions = axial_slices(volumes, 5)
    assert slices.shape == (10, 1, 24, 24) and positions.shape == (2, 5)
    for person in range(2):
        for row, k in enumerate(positions[person].tolist()):
            assert torch.equal(slices[person * 5 + row], volumes[person, ..., k])
    occupied = torch.nonzero(ball[0, 0].any(0).any(0)).flatten()
    assert int(positions.min()) > int(occupied[0]) and int(positions.max()) < int(occupied[-1])
    assert set(positions[0].diff().tolist()) <= {3, 4}, "evenly spaced"
    again, _ = axial_slices(volumes + 1, 5, positions=positions[0])
    assert torch.equal(again, slices + 1)
    alone, _ = axial_slices(volumes[1:], 5)
    assert torch.equal(alone, slices[5:]), "a person's slices do not depend on the others"


def test_axial_slices_refuse():
    volumes, ball = head()
    with pytest.raises(ValueError, match="wanted at least 24"):
        axial_slices(volumes, 24)
    with pytest.raises(ValueError, match="found 0, wanted at least 1"):
        axial_slices(volumes, 0)
    with pytest.raises(ValueError, match=r"wanted \(N, 1, D, H, W\)"):
        axial_slices(volumes[..., 0], 3)
    with pytest.raises(ValueError, match="wanted .2, 3. within 0 to 23"):
        axial_slices(volumes, 3, positions=torch.tensor([1, 2, 24]))


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(1, 20), min_size=2, max_size=3), multiple=st.integers(1, 16))
def test_padding_and_its_undoing(sizes, multiple):
    images = torch.rand(2, 1, *sizes)
    padded, crop = normalize.pad_to_multiple(images, multiple, value=-1.0)
    assert all(
        size % multiple == 0 and size - old < multiple for size, old in zip(padded.shape[2:], sizes, strict=True)
    )
    assert torch.equal(crop(padded), images)
    assert float(padded.sum()) == pytest.approx(float(images.sum()) - (padded.numel() - images.numel()), abs=1e-2)


def test_padding_refuses():
    padded, crop = normalize.pad_to_multiple(torch.rand(1, 1, 10, 10), 4)
    with pytest.raises(ValueError, match="found size"):
        crop(padded[..., 1:])
    with pytest.raises(ValueError, match="found 0, wanted at least 1"):
        normalize.pad_to_multiple(padded, 0)


def test_n4_takes_out_a_smooth_field():
    volumes, ball = head(size=32, people=1)
    tissue = torch.where(ball, 500 + 20 * (volumes % 7), 0.0)
    ramp = torch.linspace(0.7, 1.3, 32)[:, None, None]
    corrected = bias_field.n4(tissue * ramp, ball, shrink=2)
    assert corrected.shape == tissue.shape and corrected.dtype == torch.float32

    def field_left(image):
        left = image[ball] / tissue[ball]
        return float(left.std() / left.mean())

    assert field_left(corrected) < 0.5 * field_left(tissue * ramp)
    with pytest.raises(ValueError, match="below 0"):
        bias_field.n4(tissue - 10, ball)
    with pytest.raises(ValueError, match="wanted .N, 1, D, H, W."):
        bias_field.n4(tissue[..., 0])
