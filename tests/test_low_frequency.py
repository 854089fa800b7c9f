"""SSIMH, N4 and the ascent of correlation: what they change, what they leave alone, what they refuse."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from phantoms import SIZE, axes_of, people, small, target_view
from scipy.fft import dctn

from harmony_lite.cohort import Cohort, Scans, TargetOnly
from harmony_lite.evaluate import metrics
from harmony_lite.methods.classical.matching import AffineMatch, Percentile
from harmony_lite.methods.classical.n4 import N4, N4Settings
from harmony_lite.methods.classical.ssimh import Ssimh, SsimhSettings, low_frequencies, swap_low_frequencies
from harmony_lite.methods.correlation import correlation, correlation_gradient
from harmony_lite.papers.blindharmony import ncc_ascent
from harmony_lite.papers.blindharmony.ncc_ascent import (
    NccAscent,
    NccAscentSettings,
    ascend,
)

EVERY = [(cls.name, variant) for cls in (Ssimh, N4, NccAscent) for variant in cls.variants]


@pytest.fixture(params=EVERY, ids=[f"{name}.{variant}" for name, variant in EVERY])
def method(request):
    return small(*request.param)


# ------------------------------------------------------------------------------------------------------------ shared


def test_variants_are_settings():
    assert [Ssimh.from_variant(variant).settings.per_slice for variant in Ssimh.variants] == [False, True]
    assert [NccAscent.from_variant(variant).settings.matched for variant in NccAscent.variants] == [False, True]


def test_the_result_is_in_the_targets_units(method):
    view, (images, inside) = target_view(), people()
    method.fit(view)
    wanted, found = view.target.images[view.target.mask], method.harmonize(images, mask=inside)
    assert float(found[inside].mean()) == pytest.approx(float(wanted.mean()), rel=0.1)
    assert float(found[inside].std()) == pytest.approx(float(wanted.std()), rel=0.2)


@pytest.mark.parametrize("cls", [Ssimh, NccAscent])
def test_another_grid_is_refused(cls):
    images, inside = people(1, size=(26, 32, 26))
    found_and_wanted = r"found a grid of \(26, 32, 26\) voxels, wanted \(28, 32, 26\)"
    with pytest.raises(ValueError, match=found_and_wanted):
        cls().fit(target_view()).harmonize(images, mask=inside)
    with pytest.raises(ValueError, match=found_and_wanted):
        cls().harmonize(images, reference=target_view(1).target.images, mask=inside)


def test_settings_that_mean_nothing_are_refused():
    for cutoff in (0, -0.1, 1.5):
        with pytest.raises(ValueError, match="cutoff: found .* wanted above 0 and at most 1"):
            SsimhSettings(cutoff)
    for step in (0, 1.2):
        with pytest.raises(ValueError, match="step: found .* wanted above 0 and at most 1"):
            NccAscentSettings(step=step)
    with pytest.raises(ValueError, match="steps: found 0, wanted at least 1"):
        NccAscentSettings(steps=0)


# ------------------------------------------------------------------------------------------------------------- SSIMH


@pytest.mark.parametrize("axes", [(0, 1, 2), (0, 1)])
def test_the_swap_leaves_high_frequencies_and_replaces_low_ones(axes):
    """Checked with a transform of another normalization, on images of a range of 1."""
    rng = np.random.default_rng(0)
    source, target = rng.random((20, 24, 15)), rng.random((20, 24, 15))
    cutoff = 0.2
    swapped = swap_low_frequencies(source, low_frequencies(target, cutoff, axes), axes)
    before, after, wanted = (dctn(v, axes=axes, norm="ortho") for v in (source, swapped, target))
    kept = [n * cutoff if axis in axes else n for axis, n in enumerate(source.shape)]
    low = np.all([i < k for i, k in zip(np.indices(source.shape), kept, strict=True)], axis=0)
    assert low.sum() == np.prod([np.ceil(k) for k in kept])
    np.testing.assert_allclose(after[~low], before[~low], atol=1e-6)
    np.testing.assert_allclose(after[low], wanted[low], atol=1e-6)
    assert np.abs(before - wanted)[low].max() > 1e-3


@pytest.mark.parametrize("variant", Ssimh.variants)
def test_harmonized_scans_keep_the_high_frequencies_of_the_matched_source(variant):
    """Without a background there is nothing to put back, and the method is the swap alone."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(1, 1, 20, 24, 15, generator=generator, dtype=torch.float64).float()
    target = torch.rand(2, 1, 20, 24, 15, generator=generator) + 0.5
    everywhere = torch.ones_like(target).bool()
    view = TargetOnly(Scans(target, everywhere))
    method = Ssimh(SsimhSettings(0.2, per_slice=variant == "slice")).fit(view)
    harmonized = method.harmonize(images, mask=everywhere[:1])
    matched = Percentile().fit(view).harmonize(images, mask=everywhere[:1])
    axes = method.settings.axes
    before, after, average = (
        dctn(v.double().numpy(), axes=axes, norm="forward")
        for v in (matched[0, 0], harmonized[0, 0], target.mean(0)[0])
    )
    low = np.zeros(before.shape, bool)
    low[tuple(slice(0, n) for n in method.state()["low"].shape)] = True
    np.testing.assert_allclose(after[~low], before[~low], atol=1e-6)
    np.testing.assert_allclose(after[low], average[low], atol=1e-6)


def test_the_average_is_of_images_and_the_state_is_small():
    view = target_view(3)
    for variant, shape in (("volume", (2, 2, 2)), ("slice", (2, 2, 26))):
        state = Ssimh.from_variant(variant).fit(view).state()
        assert tuple(state["low"].shape) == shape and state["grid"].tolist() == list(SIZE)
        constant = state["low"].flatten()[0] if variant == "volume" else state["low"][0, 0].mean()
        assert float(constant) == pytest.approx(float(view.target.images.mean()), rel=1e-5)


def test_a_smooth_field_goes_and_the_swap_rings_where_there_was_nothing():
    images, inside = people(1)
    x = axes_of(SIZE)[0]
    shaded = images * (1 + 0.4 * x)
    view = TargetOnly(Scans(images, inside))

    def error(method):
        return float((method.fit(view).harmonize(shaded, mask=inside) - images)[inside].abs().mean())

    assert error(Ssimh(SsimhSettings(0.15))) < 0.7 * error(Percentile())
    # the ring: outside the head the swap alone is not 0
    low = low_frequencies(target_view().target.images.mean(0)[0].numpy(), 0.15)
    swapped = torch.from_numpy(swap_low_frequencies(shaded[0, 0].numpy(), low))
    assert float(swapped[~inside[0, 0]].abs().max()) > 0.05 * float(images.max())


def test_the_target_is_left_nearly_as_it_is():
    view = target_view(1)
    for variant in Ssimh.variants:
        harmonized = Ssimh.from_variant(variant).fit(view).harmonize(view.target.images, mask=view.target.mask)
        torch.testing.assert_close(harmonized, view.target.images, rtol=0, atol=1e-2)


def test_ssimh_refuses_coefficients_of_another_cutoff():
    state = Ssimh().fit(target_view()).state()
    with pytest.raises(ValueError, match=r"found coefficients of shape \(2, 2, 2\), wanted \(9, 10, 8\) for the grid"):
        Ssimh(SsimhSettings(0.3)).load_state(state)


# ---------------------------------------------------------------------------------------------------------------- N4


def test_n4_evens_out_white_matter_of_a_biased_scan():
    """A simulated person, the truth known: the coefficient of variation inside white matter goes down."""
    cohort = Cohort.simulate(1, ["oasis_trio"], spacing=4.0, seed=3, ages=[30.0])
    images, inside = cohort.scans("oasis_trio"), cohort.mask
    white = cohort.tissues[:, 2:] > 0.9
    x, y, z = axes_of(images.shape[2:])
    biased = images * torch.exp(0.35 * x - 0.25 * y * z)

    def variation(volume):
        return float(volume[white].std() / volume[white].mean())

    method = N4(N4Settings(working_size=24)).fit(TargetOnly(Scans(images, inside)))
    harmonized = method.harmonize(biased, mask=inside)
    assert variation(biased) > 1.3 * variation(images), "the field is there"
    assert variation(harmonized) < 0.75 * variation(biased)
    matched = Percentile().fit(TargetOnly(Scans(images, inside))).harmonize(biased, mask=inside)
    assert variation(harmonized) < 0.8 * variation(matched), "and it is N4 that takes it out"
    for low_or_high in (1, 99):
        assert float(np.percentile(harmonized[inside], low_or_high)) == pytest.approx(
            float(np.percentile(images[inside], low_or_high)), rel=1e-3
        )


def test_n4_refuses_values_below_zero_and_finds_its_own_mask():
    images, inside = people(1)
    method = small("n4").fit(target_view())
    with pytest.raises(ValueError, match="found 42 % of image 0 below 0 .*, wanted magnitudes of 0 and more"):
        method.harmonize(images - 300 * inside, mask=inside)
    torch.testing.assert_close(method.harmonize(images), method.harmonize(images, mask=inside))


# -------------------------------------------------------------------------------------------------------- NCC ascent


def pair(seed, size=500):
    generator = torch.Generator().manual_seed(seed)
    source = torch.randn(size, generator=generator, dtype=torch.float64) * 40 + 300
    return 0.3 * source + 20 * torch.randn(size, generator=generator, dtype=torch.float64), source


def test_correlation_is_the_measure_of_the_report():
    image, source = (values.reshape(1, 1, 20, 25) for values in pair(0))
    assert float(correlation(image, source)) == pytest.approx(float(metrics.ncc(image, source)), abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3))
def test_the_gradient_is_autograds_and_that_of_finite_differences(seed, scale):
    image, source = pair(seed, size=40)
    image = (image * scale).requires_grad_()
    (wanted,) = torch.autograd.grad(correlation(image, source), image)
    found = correlation_gradient(image.detach(), source)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12 / scale)
    small = 1e-4 * scale
    for index in (0, 17, 39):
        ahead, behind = image.detach().clone(), image.detach().clone()
        ahead[index] += small
        behind[index] -= small
        difference = (correlation(ahead, source) - correlation(behind, source)) / (2 * small)
        assert float(found[index]) == pytest.approx(float(difference), rel=1e-4, abs=1e-8 / scale)
    # it changes neither the mean nor, to first order, the norm
    centred = image.detach() - image.detach().mean()
    assert abs(float(found.sum())) < 1e-9 / scale and abs(float(found @ centred)) < 1e-9


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), step=st.floats(0.05, 1.0), sign=st.sampled_from([1.0, -0.5]))
def test_correlation_rises_in_every_step(seed, step, sign):
    image, source = pair(seed)
    _, reached = ascend(sign * image, source, step=step, steps=10)
    assert reached.shape == (11,)
    assert bool((reached.diff() > -1e-12).all()), "also from a start that runs against the source"
    if sign > 0 and step > 0.5:
        assert float(reached[-1]) > 0.999


def test_a_step_depends_neither_on_size_nor_on_range_and_grows_the_norm_as_written():
    image, source = pair(3)
    _, reached = ascend(image, source, step=0.4)
    _, larger = ascend(image.repeat(8), source.repeat(8), step=0.4)
    _, brighter = ascend(1000 * image + 5, 0.01 * source, step=0.4)
    torch.testing.assert_close(reached, larger)
    torch.testing.assert_close(reached, brighter)
    once, _ = ascend(image, source, step=0.4, steps=1)
    growth = once.var() / image.var()
    assert float(growth) == pytest.approx(1 + 0.4**2 * (1 - float(reached[0]) ** 2), rel=1e-9)
    assert float(once.mean()) == pytest.approx(float(image.mean()), rel=1e-9)


def test_the_ascent_ends_at_a_gain_and_an_offset_of_the_source():
    """BlindHarmony without its flow is an affine match to the averaged image."""
    view, (images, inside) = target_view(), people()
    for variant in NccAscent.variants:
        method = NccAscent.from_variant(variant).fit(view)
        harmonized = method.harmonize(images, mask=inside)
        assert float(metrics.ncc(harmonized, images, inside).min()) > 0.999
        start = method.start()[inside[0, 0]]
        begun = float(start.mean()) if variant == "mean" else float(view.target.images[view.target.mask].mean())
        assert float(harmonized[0][inside[0]].mean()) == pytest.approx(begun, rel=1e-3)
    affine = AffineMatch().fit(view).harmonize(images, mask=inside)
    distance = (NccAscent.from_variant("matched").fit(view).harmonize(images, mask=inside) - affine)[inside]
    assert float(distance.abs().mean()) < 0.02 * float(affine[inside].mean())


def test_outside_the_mask_there_is_nothing():
    images, inside = people(1)
    brain = inside & (axes_of(SIZE)[0] < 0.3)
    harmonized = NccAscent().fit(target_view()).harmonize(images, mask=brain)
    assert not bool(harmonized[~brain].any()) and bool(harmonized[brain].any())
    with pytest.raises(ValueError, match="found image 0's mask where the averaged target has no contrast"):
        NccAscent().fit(target_view()).harmonize(torch.rand(images.shape), mask=~inside & (axes_of(SIZE)[0] < -0.99))


def test_the_averaged_image_is_kept_in_eight_bits_within_the_box():
    view = target_view()
    method = NccAscent().fit(view)
    state, average = method.state(), view.target.images.mean(0)[0]
    assert state["image"].dtype == torch.uint8 and state["image"].numel() < average.numel()
    assert torch.equal(NccAscent().load_state(state).start(), method.start()), "loading changes nothing"
    assert float((method.start() - average).abs().max()) <= 0.51 / 255 * float(average.max() - average.min())


def test_a_large_average_is_kept_on_blocks(monkeypatch):
    images, inside = people(3, seed=9, size=(41, 45, 38))
    smooth = torch.nn.functional.avg_pool3d(images, 5, 1, 2)
    whole = NccAscent().fit(TargetOnly(Scans(smooth, inside)))
    monkeypatch.setattr(ncc_ascent, "MOST_BYTES", 8000)
    coarse = NccAscent().fit(TargetOnly(Scans(smooth, inside)))
    state = coarse.state()
    assert state["image"].numel() <= 8000 < whole.state()["image"].numel() and int(state["block"]) == 2
    difference = (coarse.start() - whole.start())[inside[0, 0]].abs()
    assert float(difference.mean()) < 0.03 * float(whole.start().max())
    again = NccAscent().load_state(state)
    torch.testing.assert_close(again.start(), coarse.start())


def test_ncc_ascent_refuses_states_that_do_not_fit():
    state = NccAscent().fit(target_view()).state()
    with pytest.raises(ValueError, match="wanted torch.uint8"):
        NccAscent().load_state({**state, "image": state["image"].float()})
    with pytest.raises(ValueError, match="wanted torch.uint8"):
        NccAscent().load_state({**state, "image": state["image"][1:]})
    with pytest.raises(ValueError, match=r"wanted it within the grid \[10, 10, 10\]"):
        NccAscent().load_state({**state, "grid": torch.tensor([10, 10, 10])})
