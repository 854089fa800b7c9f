"""Measures against scikit-image, scipy and MONAI on random pairs, against worked numbers, and by their properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
import skimage.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import spatial, stats

from harmony_lite.evaluate import metrics

TOLERANCE = {"abs": 1e-5, "rel": 1e-5}
SHAPES = [(3, 1, 24, 20), (2, 1, 16, 14, 13)]
PAIRED = [metrics.psnr, metrics.ssim, metrics.ncc, metrics.cosine, metrics.mae, metrics.wasserstein]
OVERLAPS = [metrics.dice, metrics.iou, metrics.ravd]
SEEDS = st.integers(0, 2**31 - 1)


def _pair(shape=(2, 1, 16, 16), seed=0):
    """A reference of 0 to 1000 units, a noisy version of it, and a random mask of about 70 %."""
    draws = torch.Generator().manual_seed(seed)
    reference = 1000 * torch.rand(shape, generator=draws)
    image = 0.8 * reference + 150 * torch.rand(shape, generator=draws)
    return image, reference, torch.rand(shape, generator=draws) < 0.7


def _labels(shape, seed=0, count=4):
    return torch.randint(count, shape, generator=torch.Generator().manual_seed(seed))


def _box(corner, sides, shape=(1, 1, 20, 18, 16)):
    """A mask that is one box: `corner` its first voxel, `sides` its lengths in voxels."""
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[(0, 0, *(slice(start, start + side) for start, side in zip(corner, sides, strict=True)))] = True
    return mask


def _per_image(measure, *images):
    return [measure(*(image[n].double().numpy() for image in images)) for n in range(len(images[0]))]


# --- against libraries


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("masked", [False, True])
def test_psnr_is_scikit_images_and_the_formula(shape, masked):
    image, reference, mask = _pair(shape)
    found = metrics.psnr(image, reference, mask if masked else None)

    def oracle(a, b, m):
        m = m > 0 if masked else np.ones_like(a, dtype=bool)
        formula = 10 * np.log10(np.ptp(b[m]) ** 2 / np.mean((a[m] - b[m]) ** 2))
        library = skimage.metrics.peak_signal_noise_ratio(b[m], a[m], data_range=np.ptp(b[m]))
        assert library == pytest.approx(formula)
        return formula

    assert found.tolist() == pytest.approx(_per_image(oracle, image, reference, mask), **TOLERANCE)
    assert found.dtype == torch.float64 and found.shape == (shape[0],)


@pytest.mark.parametrize("shape", SHAPES)
def test_ssim_without_mask_is_scikit_images(shape):
    image, reference, _ = _pair(shape)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}

    def oracle(a, b):
        return skimage.metrics.structural_similarity(a[0], b[0], data_range=np.ptp(b), **options)

    expected = _per_image(oracle, image, reference)
    assert metrics.ssim(image, reference).tolist() == pytest.approx(expected, **TOLERANCE)


def test_ssim_is_the_formula_under_an_eleven_wide_gaussian_window():
    """One voxel in the middle of the mask, worked out by hand from Wang et al. 2004, Eq. 13."""
    image, reference = (values / 20 for values in _pair((1, 1, 11, 11))[:2])  # so faint that the constants weigh in
    window = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2
    a, b = image[0, 0].double().numpy(), reference[0, 0].double().numpy()
    mean_a, mean_b = (window * a).sum(), (window * b).sum()
    var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
    covariance = (window * (a - mean_a) * (b - mean_b)).sum()
    c1, c2 = (0.01 * 1000) ** 2, (0.03 * 1000) ** 2
    expected = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    expected /= (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    middle = torch.zeros(1, 1, 11, 11, dtype=torch.bool)
    middle[0, 0, 5, 5] = True
    assert metrics.ssim(image, reference, middle, data_range=1000).item() == pytest.approx(expected, **TOLERANCE)


@pytest.mark.parametrize("shape", SHAPES)
def test_ssim_is_monais(shape):
    from monai.losses import SSIMLoss  # its mean runs over the windows inside the image, as ours without a mask

    image, reference, _ = _pair(shape)
    loss = SSIMLoss(len(shape) - 2, data_range=1000.0, win_size=11, kernel_sigma=1.5, reduction="none")
    expected = 1 - loss(image.double(), reference.double()).flatten()
    assert metrics.ssim(image, reference, data_range=1000).tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_ssim_in_a_mask_is_the_mean_of_scikit_images_map():
    image, reference, mask = _pair((1, 1, 20, 21))
    a, b, m = (x[0, 0].double().numpy() for x in (image, reference, mask))
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "full": True}
    _, score_map = skimage.metrics.structural_similarity(a, b, data_range=np.ptp(b[m > 0]), **options)
    assert metrics.ssim(image, reference, mask).item() == pytest.approx(score_map[m > 0].mean(), **TOLERANCE)


@pytest.mark.parametrize("shape", SHAPES)
def test_correlations_distances_and_errors_are_scipys(shape):
    image, reference, mask = _pair(shape)
    oracles = {
        metrics.ncc: lambda a, b: stats.pearsonr(a, b).statistic,
        metrics.cosine: lambda a, b: 1 - spatial.distance.cosine(a, b),
        metrics.mae: lambda a, b: np.abs(a - b).mean(),
        metrics.wasserstein: stats.wasserstein_distance,
    }
    for measure, oracle in oracles.items():
        expected = _per_image(lambda a, b, m, oracle=oracle: oracle(a[m > 0], b[m > 0]), image, reference, mask)
        assert measure(image, reference, mask).tolist() == pytest.approx(expected, **TOLERANCE)


@pytest.mark.parametrize("shape", SHAPES)
def test_dice_and_iou_are_monais(shape):
    from monai.metrics import compute_dice, compute_iou

    ours, truth = _labels(shape, 1), _labels(shape, 2)
    one_hot = [torch.cat([values == label for label in (1, 2, 3)], dim=1).float() for values in (ours, truth)]
    for measure, oracle in ((metrics.dice, compute_dice), (metrics.iou, compute_iou)):
        found = measure(ours, truth, labels=[1, 2, 3])
        assert found.shape == (shape[0], 3)
        np.testing.assert_allclose(found, oracle(*one_hot, include_background=True), atol=1e-6)
        np.testing.assert_allclose(measure(ours == 2, truth == 2), found[:, 1])


@pytest.mark.parametrize("shape", SHAPES)
def test_surface_distances_are_the_brute_force_ones(shape):
    """Every surface voxel against every other, with unequal spacing; hd95 is MONAI's, so this checks its use too."""
    spacing = (2.0, 0.7, 1.1)[: len(shape) - 2]
    corners = [(2, 3, 4), (4, 2, 3)]
    ours, truth = (
        torch.cat([_box(c[: len(spacing)], (6, 5, 6)[: len(spacing)], (1, *shape[1:]))] * 2) for c in corners
    )
    ours[1] ^= _pair((2, *shape[1:]))[2][1]  # the second pair has a ragged surface

    def surface(mask):
        m = np.pad(mask[0] > 0, 1)
        axes = range(m.ndim)
        inner = np.all([np.roll(m, step, axis) for axis in axes for step in (1, -1)], axis=0)
        return np.argwhere(m & ~inner) * spacing

    def directed(a, b):
        return spatial.distance.cdist(surface(a), surface(b)).min(1)

    def modified(a, b):
        return max(directed(a, b).mean(), directed(b, a).mean())

    def percentile(a, b):
        return max(np.percentile(directed(a, b), 95), np.percentile(directed(b, a), 95))

    for measure, oracle in ((metrics.modified_hausdorff, modified), (metrics.hd95, percentile)):
        found = measure(ours, truth, spacing=spacing)
        assert found.dtype == torch.float64
        assert found.tolist() == pytest.approx(_per_image(oracle, ours, truth), **TOLERANCE)


def test_modified_hausdorff_is_scikit_images_on_surfaces():
    outline = torch.zeros(2, 1, 1, 30, 30, dtype=torch.bool)  # curves one voxel wide are their own surface
    outline[0, 0, 0, 4, 3:20] = True
    outline[1, 0, 0, range(2, 25), range(2, 25)] = True
    expected = skimage.metrics.hausdorff_distance(outline[0, 0, 0].numpy(), outline[1, 0, 0].numpy(), method="modified")
    found = metrics.modified_hausdorff(outline[0], outline[1], spacing=1)
    assert found.item() == pytest.approx(expected, **TOLERANCE)


# --- worked numbers


def test_shifted_box_has_the_distances_that_geometry_gives():
    """A 6 x 6 x 1 plate moved by 3 voxels along its normal, 2 mm each: every distance is 6 mm, nothing overlaps."""
    ours, truth = _box((5, 5, 4), (6, 6, 1)), _box((5, 5, 7), (6, 6, 1))
    assert metrics.modified_hausdorff(ours, truth, spacing=2.0).item() == pytest.approx(6)
    assert metrics.hd95(ours, truth, spacing=(1.0, 1.0, 2.0)).item() == pytest.approx(6)
    assert metrics.dice(ours, truth).item() == 0
    assert metrics.ravd(ours, truth).item() == 0  # equal volumes, no common voxel: rAVD's blind spot


def test_hd95_forgives_a_stray_voxel_that_the_mean_feels():
    """1 stray voxel among more than 20 surface voxels is beyond the 95th percentile."""
    truth = _box((4, 4, 4), (6, 6, 6))
    stray = truth.clone()
    stray[0, 0, 19, 17, 15] = True
    assert metrics.hd95(stray, truth, spacing=1.0).item() == 0
    assert metrics.modified_hausdorff(stray, truth, spacing=1.0).item() > 0.05


def test_overlaps_by_hand():
    ours, truth = _box((0, 0, 0), (4, 2, 2)), _box((2, 0, 0), (4, 2, 2))  # 16 voxels each, 8 in common
    assert metrics.dice(ours, truth).item() == pytest.approx(0.5)
    assert metrics.iou(ours, truth).item() == pytest.approx(1 / 3)
    assert metrics.ravd(_box((0, 0, 0), (5, 2, 2)), truth).item() == pytest.approx(25)
    assert metrics.ravd(torch.tensor([[7.0, 12.0]]), torch.tensor([[8.0, 10.0]])).tolist() == [[12.5, 20.0]]


def test_structures_that_are_absent():
    nothing, something = torch.zeros(1, 1, 16, 16, 16, dtype=torch.bool), _box((4, 4, 4), (3, 3, 3), (1, 1, 16, 16, 16))
    for measure, lost in ((metrics.dice, 0), (metrics.iou, 0), (metrics.ravd, math.inf)):
        assert measure(nothing, nothing).isnan().item()
        assert measure(something, nothing).item() == lost
    for distance in (metrics.modified_hausdorff, metrics.hd95):
        assert distance(nothing, nothing, spacing=2.0).isnan().item()
        assert distance(something, nothing, spacing=2.0).item() == math.inf
        assert distance(nothing, something, spacing=2.0).item() == math.inf


def test_nwd_by_hand():
    """Eq. 1 of HAIL: source 0..15, target 10 higher, harmonized 8 higher and then 12 higher (past the target)."""
    source = torch.arange(16.0).reshape(1, 1, 4, 4)
    moved, left = metrics.nwd(source.repeat(2, 1, 1, 1), torch.cat([source + 8, source + 12]), source + 10)
    assert moved.tolist() == pytest.approx([80, 120])
    assert left.tolist() == pytest.approx([20, 20])


def test_nwd_takes_another_persons_target_with_a_mask_of_its_own():
    source = torch.zeros(1, 1, 12, 12)
    mask = torch.zeros_like(source, dtype=torch.bool)
    mask[..., 2:8, 2:8] = True
    source[mask] = torch.linspace(1, 2, 36)
    target = torch.zeros(1, 1, 14, 10)
    target_mask = torch.zeros_like(target, dtype=torch.bool)
    target_mask[..., 5:11, 1:7] = True
    target[target_mask] = 3 * torch.linspace(1, 2, 36).flip(0)
    moved, left = metrics.nwd(source, 3 * source, target, mask, target_mask=target_mask)
    assert moved.item() == pytest.approx(100) and left.item() == pytest.approx(0, abs=1e-4)
    _, whole = metrics.nwd(source, 3 * source, target)
    assert whole.item() > 1  # the size of the image is in the histogram, and no method can take it out


def test_wasserstein_of_one_reference_serves_all_images():
    image, reference, mask = _pair((3, 1, 12, 12))
    found = metrics.wasserstein(image, reference[:1], mask, reference_mask=mask[:1])
    expected = metrics.wasserstein(
        image, reference[:1].repeat(3, 1, 1, 1), mask, reference_mask=mask[:1].repeat(3, 1, 1, 1)
    )
    assert found.tolist() == expected.tolist()
    with pytest.raises(ValueError, match="reference: found 2 images, wanted 1 or 3"):
        metrics.wasserstein(image, reference[:2])


def test_volume_spread_across_scanners():
    volumes = torch.tensor([[600.0, 610.0, 590.0], [500.0, 490.0, 500.0]])
    assert metrics.mean_absolute_volume_difference(volumes)[0].tolist() == [0, 10, 5]
    expected = [[math.sqrt(((a - b) ** 2).mean()) for b in volumes.T] for a in volumes.T]
    np.testing.assert_allclose(metrics.rmse_across_scanners(volumes), expected)


RATINGS = torch.tensor([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])


def test_intraclass_correlation_of_shrout_and_fleiss():
    """Shrout and Fleiss 1979, Tables 2 to 4: six targets, four judges; 0.29 and 0.71 as printed there."""
    agreement, consistency = (metrics.intraclass_correlation(RATINGS, form).item() for form in ("ICC(2,1)", "ICC(3,1)"))
    assert round(agreement, 2) == 0.29 and round(consistency, 2) == 0.71
    # the mean squares of their Table 3, printed to two digits
    targets, judges, error = 11.24, 32.49, 1.02
    assert agreement == pytest.approx((targets - error) / (targets + 3 * error + 4 * (judges - error) / 6), abs=2e-3)
    assert consistency == pytest.approx((targets - error) / (targets + 3 * error), abs=2e-3)


def test_offset_of_one_scanner_lowers_agreement_and_leaves_consistency():
    shifted = RATINGS + torch.tensor([0, 20, 0, 0])
    before, after = (metrics.intraclass_correlation(ratings) for ratings in (RATINGS, shifted))
    assert after < before
    before, after = (metrics.intraclass_correlation(ratings, "ICC(3,1)") for ratings in (RATINGS, shifted))
    assert after.item() == pytest.approx(before.item())


def test_bits_per_dim_of_noise_with_a_known_entropy():
    """Mean -log p of a standard normal is its entropy, 0.5 log2(2 pi e) = 2.047 bits."""
    normal = torch.distributions.Normal(0.0, 1.0)
    samples = torch.randn(50, 4000, generator=torch.Generator().manual_seed(0))
    found = metrics.bits_per_dim(normal.log_prob(samples).sum(1), 4000)
    assert found.shape == (50,)
    assert found.mean().item() == pytest.approx(0.5 * math.log2(2 * math.pi * math.e), abs=0.01)


def test_equal_images_are_perfect():
    image, _, mask = _pair((1, 1, 16, 16))
    assert metrics.psnr(image, image, mask).item() == math.inf
    assert metrics.ssim(image, image, mask).item() == pytest.approx(1)
    assert metrics.ncc(image, image, mask).item() == pytest.approx(1)
    assert metrics.mae(image, image, mask).item() == metrics.wasserstein(image, image, mask).item() == 0


@pytest.mark.parametrize("measure", [m for m in PAIRED if m is not metrics.ssim])
def test_what_lies_outside_the_mask_does_not_count(measure):
    image, reference, mask = _pair((2, 1, 12, 13))
    changed = torch.where(mask, image, 5000 + image)
    assert measure(changed, reference, mask).tolist() == measure(image, reference, mask).tolist()
    assert measure(changed, reference).tolist() != measure(image, reference).tolist()


@pytest.mark.parametrize("measure", PAIRED)
def test_images_are_measured_one_by_one_and_left_alone(measure):
    image, reference, mask = _pair((3, 1, 12, 13))
    image.requires_grad_()
    copies = [values.clone() for values in (image, reference, mask)]
    together = measure(image, reference, mask)
    alone = [measure(image[n : n + 1], reference[n : n + 1], mask[n : n + 1]).item() for n in range(3)]
    assert together.tolist() == alone and together.dtype == torch.float64 and not together.requires_grad
    assert all(torch.equal(now, then) for now, then in zip((image, reference, mask), copies, strict=True))


def test_data_range_moves_psnr_by_the_decibels_it_should():
    image, reference, _ = _pair()
    ranges = metrics.psnr(image, reference, data_range=torch.tensor([1000.0, 2000.0]))
    assert ranges[0].item() == metrics.psnr(image, reference, data_range=1000)[0].item()
    assert (ranges[1] - metrics.psnr(image, reference, data_range=1000)[1]).item() == pytest.approx(20 * math.log10(2))


# --- properties


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, small=st.floats(1, 100), factor=st.floats(1.05, 10))
def test_psnr_falls_as_noise_grows(seed, small, factor):
    _, reference, mask = _pair(seed=seed)
    noise = torch.randn(reference.shape, generator=torch.Generator().manual_seed(seed))
    less, more = (metrics.psnr(reference + size * noise, reference, mask) for size in (small, small * factor))
    assert (more < less).all()
    assert (less - more).tolist() == pytest.approx([20 * math.log10(factor)] * 2, abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, gain=st.floats(0.1, 10), offset=st.floats(-2000, 2000))
def test_ncc_is_blind_to_gain_and_offset(seed, gain, offset):
    image, reference, mask = (x.double() if x.is_floating_point() else x for x in _pair(seed=seed))
    before = metrics.ncc(image, reference, mask).tolist()
    assert metrics.ncc(gain * image + offset, reference, mask).tolist() == pytest.approx(before, abs=1e-9)
    assert metrics.ncc(-gain * image, reference, mask).tolist() == pytest.approx([-value for value in before], abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, gain=st.floats(0.1, 10), offset=st.floats(200, 2000))
def test_cosine_is_blind_to_gain_but_not_to_offset(seed, gain, offset):
    image, reference, mask = (x.double() if x.is_floating_point() else x for x in _pair(seed=seed))
    before = metrics.cosine(image, reference, mask)
    assert metrics.cosine(gain * image, reference, mask).tolist() == pytest.approx(before.tolist(), abs=1e-9)
    assert ((metrics.cosine(image - offset, reference, mask) - before).abs() > 1e-4).all()


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, shift=st.floats(-500, 500), gain=st.floats(1, 5))
def test_wasserstein_of_a_shift_is_the_shift_and_place_does_not_matter(seed, shift, gain):
    image, reference, _ = _pair(seed=seed)
    assert metrics.wasserstein(image + shift, image).tolist() == pytest.approx([abs(shift)] * 2, abs=1e-3)
    there, back = metrics.wasserstein(image, reference), metrics.wasserstein(reference, image)
    assert there.tolist() == pytest.approx(back.tolist())
    assert metrics.wasserstein(gain * image, gain * reference).tolist() == pytest.approx(
        (gain * there).tolist(), rel=1e-4
    )
    order = torch.randperm(256, generator=torch.Generator().manual_seed(seed))
    shuffled = image.flatten(1)[:, order].reshape(image.shape)
    assert metrics.wasserstein(shuffled, reference).tolist() == pytest.approx(there.tolist())


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, bigger=st.floats(1.01, 3))
def test_nwd_has_no_unit_and_obeys_the_triangle(seed, bigger):
    """Scanner units cancel; and the way over a stop is never shorter: nWD(i,p) + nWD(t,p) >= 100."""
    image, reference, mask = _pair(seed=seed)
    harmonized = 0.5 * image + 0.6 * reference
    moved, left = metrics.nwd(image, harmonized, reference, mask)
    scaled = metrics.nwd(bigger * image, bigger * harmonized, bigger * reference, mask)
    assert scaled[0].tolist() == pytest.approx(moved.tolist(), rel=1e-3)
    assert scaled[1].tolist() == pytest.approx(left.tolist(), rel=1e-3)
    assert (moved + left >= 100 - 1e-6).all()


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_overlaps_lie_between_zero_and_one_and_agree(seed):
    ours, truth = _labels((2, 1, 6, 5, 4), seed), _labels((2, 1, 6, 5, 4), seed + 1)
    dice, iou = (measure(ours, truth, labels=[0, 1, 2, 3]) for measure in (metrics.dice, metrics.iou))
    assert ((dice >= 0) & (dice <= 1) & (iou <= dice)).all()
    np.testing.assert_allclose(iou, dice / (2 - dice))
    np.testing.assert_allclose(dice, metrics.dice(truth, ours, labels=[0, 1, 2, 3]))
    assert (metrics.dice(ours, ours, labels=[0, 1, 2, 3]) == 1).all()


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, spacing=st.floats(0.5, 4))
def test_surface_distance_is_symmetric_and_grows_with_the_voxel(seed, spacing):
    masks = torch.rand(2, 1, 7, 6, 5, generator=torch.Generator().manual_seed(seed)) < 0.3
    there, back = (
        metrics.modified_hausdorff(*pair, spacing=1) for pair in ((masks[:1], masks[1:]), (masks[1:], masks[:1]))
    )
    assert there.item() == back.item()
    assert metrics.modified_hausdorff(masks[:1], masks[1:], spacing=spacing).item() == pytest.approx(
        spacing * there.item()
    )


# --- errors: what was found, what was wanted


IMAGE = torch.linspace(0, 1, 288).reshape(2, 1, 12, 12)
MASK = torch.ones_like(IMAGE, dtype=torch.bool)
HALF_EMPTY = MASK & (torch.arange(2) == 0).reshape(2, 1, 1, 1)


def _with(value):
    broken = IMAGE.clone()
    broken[1, 0, 3, 4:6] = value
    return broken


@pytest.mark.parametrize("measure", PAIRED)
@pytest.mark.parametrize(
    ("image", "reference", "mask", "message"),
    [
        (_with(math.nan), IMAGE, None, "found 2 values that are NaN or infinite, wanted finite values"),
        (IMAGE, _with(math.inf), None, "found 2 values that are NaN or infinite, wanted finite values"),
        (IMAGE, IMAGE, HALF_EMPTY, "mask: found no voxel inside for image 1, wanted at least one"),
        (IMAGE, IMAGE, MASK.float(), r"mask: found torch.float32 \(.*\), wanted torch.bool \(.*\), as the"),
        (IMAGE, IMAGE, MASK[..., 1:], r"torch.bool \(2, 1, 12, 11\), wanted torch.bool \(2, 1, 12, 12\)"),
        (IMAGE[:, 0], IMAGE[:, 0], None, r"found shape \(2, 12, 12\), wanted \(N, 1, H, W\) or \(N, 1, D, H, W\)"),
        (IMAGE[:0], IMAGE[:0], None, r"wanted \(N, 1, H, W\) or \(N, 1, D, H, W\)"),
        (IMAGE.numpy(), IMAGE, None, "found a ndarray, wanted a torch tensor"),
    ],
)
def test_bad_images_are_refused(measure, image, reference, mask, message):
    with pytest.raises(ValueError, match=message) as caught:
        measure(image, reference, mask)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("measure", [m for m in PAIRED if m is not metrics.wasserstein])
def test_images_of_two_shapes_are_refused(measure):
    with pytest.raises(ValueError, match=r"found shape \(2, 1, 12, 11\), wanted \(2, 1, 12, 12\), the same as"):
        measure(IMAGE, IMAGE[..., 1:])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.psnr(IMAGE, torch.ones_like(IMAGE)), "reference: found image 0 constant in its mask, wanted"),
        (lambda: metrics.ssim(IMAGE, torch.ones_like(IMAGE)), "reference: found image 0 constant"),
        (lambda: metrics.ncc(IMAGE, torch.full_like(IMAGE, 0.1)), "reference: found image 0 constant"),
        (lambda: metrics.ncc(torch.full_like(IMAGE, 0.1), IMAGE), "image: found image 0 constant"),
        (lambda: metrics.cosine(0 * IMAGE, IMAGE), "image: found image 0 zero everywhere"),
        (lambda: metrics.psnr(IMAGE, IMAGE, data_range=0), "data_range: found .*, wanted one positive number"),
        (lambda: metrics.psnr(IMAGE, IMAGE, data_range=torch.ones(3)), "or 2 of them"),
        (lambda: metrics.ssim(IMAGE[..., :10], IMAGE[..., :10]), "wanted at least 11 voxels along every axis"),
        (lambda: metrics.nwd(IMAGE, IMAGE + 1, IMAGE), "source: found image 0 with the target's histogram"),
        (
            lambda: metrics.nwd(IMAGE, IMAGE[..., 1:], IMAGE + 1),
            "harmonized: found shape .*, wanted .*, the same as source",
        ),
        (lambda: metrics.nwd(IMAGE, _with(math.nan), IMAGE + 1), "harmonized: found 2 values that are NaN"),
        (lambda: metrics.nwd(IMAGE, IMAGE, _with(math.nan)), "target: found 2 values that are NaN"),
        (lambda: metrics.wasserstein(IMAGE, IMAGE[..., 1:], MASK), "mask: found .*, as the reference"),
        (lambda: metrics.wasserstein(IMAGE, IMAGE, MASK, reference_mask=~MASK), "reference_mask: found no voxel"),
        (lambda: metrics.nwd(IMAGE, IMAGE, IMAGE + 1, MASK, target_mask=~MASK), "target_mask: found no voxel"),
        (lambda: metrics.nwd(IMAGE, IMAGE, IMAGE[:1] + 1, MASK), "mask: found .*, as the target"),
        (
            lambda: metrics.dice(_labels((1, 1, 8, 8)), _labels((1, 1, 8, 8))),
            "segmentation: found other values than 0 and 1, wanted a mask",
        ),
        (
            lambda: metrics.dice(_labels((1, 1, 8, 8)), _labels((1, 1, 8, 8)), labels=2),
            r"labels: found 2, wanted a list such as \[2\]",
        ),
        (lambda: metrics.hd95(MASK, MASK, spacing=(1.0, 1.0, 1.0)), "or 2 of them"),
        (
            lambda: metrics.modified_hausdorff(MASK, MASK, spacing=0),
            "spacing: found 0, wanted one positive number in mm",
        ),
        (lambda: metrics.hd95(MASK, MASK), "^spacing: found none, wanted the voxel size in mm$"),
        (lambda: metrics.modified_hausdorff(MASK, MASK), "^spacing: found none, wanted the voxel size in mm$"),
        (lambda: metrics.ravd(torch.ones(3), torch.ones(2)), r"reference: found shape \(2,\), wanted \(3,\)"),
        (lambda: metrics.ravd(MASK, MASK[..., 1:]), "reference: found shape .*, the same as predicted"),
        (lambda: metrics.mae(torch.ones(3), torch.tensor([1.0, math.nan, 2.0])), "true: found 1 values"),
        (lambda: metrics.mean_absolute_volume_difference(torch.ones(3)), "2 axes"),
        (lambda: metrics.rmse_across_scanners(torch.tensor([[1.0, math.nan]])), "volumes: found 1 values"),
        (lambda: metrics.intraclass_correlation(torch.full((4, 3), 0.1)), "ratings: found no spread"),
        (lambda: metrics.intraclass_correlation(torch.ones(4, 1)), "wanted at least two people and two scanners"),
        (lambda: metrics.intraclass_correlation(RATINGS, "ICC(1,1)"), "form: found 'ICC.1,1.', wanted"),
        (lambda: metrics.bits_per_dim(torch.zeros(2), 0), "dimensions: found 0, wanted a positive count"),
        (lambda: metrics.bits_per_dim(torch.tensor([math.inf]), 3), "log_likelihood: found 1 values"),
    ],
)
def test_undefined_quantities_are_refused(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("measure", OVERLAPS)
def test_segmentations_of_two_shapes_are_refused(measure):
    with pytest.raises(ValueError, match="(truth|reference): found shape .*, the same as "):
        measure(MASK, MASK[:1])
