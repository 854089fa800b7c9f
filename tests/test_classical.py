"""Histogram matching, affine match and percentile: what they fit, what they leave alone, what they refuse."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from phantoms import people, target_view
from skimage.exposure import match_histograms

from harmony_lite import methods
from harmony_lite.cohort import Scans, TargetOnly
from harmony_lite.images.intensity_maps import MAPS
from harmony_lite.images.normalize import full_range_minmax
from harmony_lite.images.slices import axial_slices
from harmony_lite.methods.classical.matching import AffineMatch, HistogramMatching, MatchingSettings, Percentile

CLASSICAL = ("affine-match", "histogram-matching", "percentile")


@pytest.fixture(params=CLASSICAL)
def name(request):
    return request.param


@pytest.fixture(params=["volume", "slice"])
def variant(request):
    return request.param


def unfitted(name, variant="volume"):
    return methods.load_method(name, variant, fitted=False)


def test_harmonizing_the_target_changes_little(name, variant):
    view = target_view(count=1)
    method = unfitted(name, variant).fit(view)
    harmonized = method.harmonize(view.target.images, mask=view.target.mask)
    change = (harmonized - view.target.images)[view.target.mask].abs()
    # in the variant `slice` the standards are those of neighbouring heights, in between
    allowed = 0.002 if variant == "volume" else 0.05
    assert float(change.mean()) < allowed * float(view.target.images[view.target.mask].mean())


@settings(max_examples=15, deadline=None)
@given(gain=st.floats(0.05, 20), offset=st.floats(-100, 1000))
@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize("variant", ["volume", "slice"])
def test_gain_and_offset_of_the_source_do_not_matter(name, variant, gain, offset):
    images, inside = people(1)
    method = unfitted(name, variant).fit(target_view())
    wanted = method.harmonize(images, mask=inside)
    moved = method.harmonize(torch.where(inside, gain * images + offset, 0.0), mask=inside)
    assert float((moved - wanted)[inside].abs().mean()) < 1e-3 * float(wanted[inside].mean())


def test_affine_match_reaches_mean_and_deviation():
    view, (images, inside) = target_view(), people()
    harmonized = AffineMatch().fit(view).harmonize(images, mask=inside)
    people_means = [image[mask].mean() for image, mask in zip(view.target.images, view.target.mask, strict=True)]
    people_deviations = [
        image[mask].std(correction=0) for image, mask in zip(view.target.images, view.target.mask, strict=True)
    ]
    for image, mask in zip(harmonized, inside, strict=True):
        assert float(image[mask].mean()) == pytest.approx(float(np.mean(people_means)), rel=1e-4)
        assert float(image[mask].std(correction=0)) == pytest.approx(float(np.mean(people_deviations)), rel=1e-4)


def test_percentile_reaches_the_percentiles_and_does_not_clip():
    view, (images, inside) = target_view(), people()
    harmonized = Percentile().fit(view).harmonize(images, mask=inside)
    wanted = np.mean(
        [np.percentile(image[mask], [1, 99]) for image, mask in zip(view.target.images, view.target.mask, strict=True)],
        axis=0,
    )
    for image, mask in zip(harmonized, inside, strict=True):
        np.testing.assert_allclose(np.percentile(image[mask], [1, 99]), wanted, rtol=1e-4)
        assert float(image[mask].max()) > wanted[1] and float(image[mask].min()) < wanted[0]


def test_histogram_matching_is_scikit_images_inside_the_mask():
    view, (images, inside) = target_view(), people()
    method = HistogramMatching().fit(view)
    harmonized = method.harmonize(images, mask=inside)
    standard = method.state()["standard"].numpy()
    whole = [image[mask].numpy() for image, mask in zip(view.target.images, view.target.mask, strict=True)]
    for image, result, mask in zip(images, harmonized, inside, strict=True):
        exactly = match_histograms(image[mask].numpy(), standard)
        np.testing.assert_allclose(result[mask].numpy(), exactly, rtol=1e-5)
        # and the 1,024 points stand for the people's whole histograms
        against = np.mean([match_histograms(image[mask].numpy(), values) for values in whole], axis=0)
        assert np.abs(result[mask].numpy() - against).mean() < 0.003 * against.mean()


def test_histogram_matching_cannot_see_a_monotone_map():
    """The free test of the facts: exp, log and gamma of a source give one and the same result."""
    view, (images, inside) = target_view(), people(1)
    source = full_range_minmax(images)
    method = HistogramMatching().fit(view)
    wanted = method.harmonize(source, mask=inside)
    span = float(wanted[inside].max() - wanted[inside].min())
    for curve in MAPS.values():
        harmonized = method.harmonize(curve(source), mask=inside)
        assert float((harmonized - wanted)[inside].abs().max()) < 2e-3 * span


def test_the_curve_goes_on_outside_the_mask_without_a_seam():
    """A brain mask on a whole head: skull and air go through the same curve, in order and finite; exact zeros stay."""
    images, inside = people(1)
    brain = inside & (images > 500) & (images < 950)
    for name in CLASSICAL:
        harmonized = unfitted(name).fit(target_view()).harmonize(images, mask=brain)
        order = images.flatten().argsort()
        nonzero = order[images.flatten()[order] != 0]
        assert bool((harmonized.flatten()[nonzero].diff() > -1e-3).all()), name
        assert not bool(harmonized[images == 0].any()), name
        assert len(harmonized[inside & ~brain].unique()) > 1000, f"{name}: what is outside is not flattened"


def test_a_dark_voxel_outside_runs_to_zero():
    curve = HistogramMatching().curve(np.linspace(10, 20, 500), np.linspace(100, 300, 1024))
    np.testing.assert_allclose(curve(np.array([0.0, 5.0, 20.0, 30.0])), [0, 50, 300, 500], atol=1)
    negative = HistogramMatching().curve(np.linspace(-10, 10, 500), np.linspace(100, 300, 1024))
    np.testing.assert_allclose(negative(np.array([-20.0])), [0], atol=1)


def test_slice_variant_undoes_what_changes_with_height():
    """A receive field along z: one curve for the volume cannot take it out, a curve for each slice can."""
    images, inside = people(1)
    view = TargetOnly(Scans(images, inside))
    shaded = images * torch.linspace(0.6, 1.4, images.shape[-1])

    def error(variant):
        harmonized = unfitted("affine-match", variant).fit(view).harmonize(shaded, mask=inside)
        return float((harmonized - images)[inside].abs().mean())

    assert error("slice") < 0.4 * error("volume")


def test_slice_variant_takes_slices_as_axial_slices_gives_them():
    images, inside = people(2)
    settings_ = MatchingSettings(per_slice=True, positions=6)
    method = HistogramMatching(settings_).fit(target_view())
    slices, positions = axial_slices(images, 6, mask=inside)
    masks, _ = axial_slices(inside, 6, positions=positions)
    harmonized = method.harmonize(slices, mask=masks)
    assert harmonized.shape == slices.shape and not bool(harmonized[~masks].any())
    standard = method.state()["standard"].numpy()
    assert standard.shape == (6, 1024)
    wanted = match_histograms(slices[7][masks[7]].numpy(), standard[1])
    np.testing.assert_allclose(harmonized[7][masks[7]].numpy(), wanted, rtol=1e-5)
    with pytest.raises(ValueError, match="found 11 slices, wanted a multiple of 6"):
        method.harmonize(slices[:11], mask=masks[:11])


def test_slices_with_next_to_nothing_inside_take_their_neighbours_curve():
    images, inside = people(1)
    first = int(torch.nonzero(inside[0, 0].any(0).any(0))[0])
    thin = inside.clone()
    thin[..., first] = False
    thin[0, 0, 14, 15, first] = True
    harmonized = unfitted("histogram-matching", "slice").fit(target_view()).harmonize(images * thin, mask=thin)
    assert bool(harmonized.isfinite().all())
    assert 0 < float(harmonized[0, 0, 14, 15, first]) < float(target_view().target.images.max())


def test_a_standard_of_another_length_is_refused(name, variant):
    with pytest.raises(ValueError, match="found a standard of shape"):
        unfitted(name, variant).load_state({"standard": torch.zeros(7)})
