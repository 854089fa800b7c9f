"""HAIL: AdaIN to its moments, losses by hand and against MONAI, the frozen encoder, volumes in parts, one reference."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.losses import SSIMLoss
from torch import nn

from harmony_lite.cohort import Cohort, Needs
from harmony_lite.evaluate import metrics
from harmony_lite.papers.hail import experiment
from harmony_lite.papers.hail import settings as hail_settings
from harmony_lite.papers.hail.adain import adain, style_of, weights_at
from harmony_lite.papers.hail.harmonizer import Hail
from harmony_lite.papers.hail.losses import content_loss, likeness_loss, ssim, style_loss
from harmony_lite.papers.hail.networks import AutoEncoder, Decoder, Encoder, radius
from harmony_lite.papers.hail.parts import parts_of
from harmony_lite.papers.hail.phases import PlateauDecay, Sites, drawn_pairs, phase_1, phase_2
from harmony_lite.papers.hail.settings import (
    CONTENTS,
    SCALINGS,
    STATISTICS,
    FeatureSettings,
    HailSettings,
    InferenceSettings,
    NetworkSizes,
    TransferSettings,
    settings_of,
)
from harmony_lite.papers.published import load
from harmony_lite.profiles import FULL

NETWORKS = {
    "pools": NetworkSizes((4, 6, 8), pools=2),
    "blocks": NetworkSizes((6, 8), pools=0, block_side=2),
    "both": NetworkSizes((4, 6), pools=1, block_side=2),
    "full size": NetworkSizes((3, 4), pools=0),
}
SMALL = HailSettings(
    NETWORKS["blocks"],
    FeatureSettings(crop=8, batch=4, learning_rate=1e-2, training_steps=12),
    TransferSettings(crop=8, batch=4, learning_rate=1e-2, training_steps=12, held_against=CONTENTS[1]),
    statistics=STATISTICS[0],
    scaling=SCALINGS[0],
    precision="32-true",
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed))


def sites(counts=(3, 2, 2), size=(12, 10, 14)):
    """Volumes whose site can be told from their brightness."""
    volumes = torch.rand(sum(counts), *size, generator=generator())
    site = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return Sites(volumes + 10 * site[:, None, None, None], torch.ones(len(volumes), *size).bool(), counts)


@pytest.fixture(scope="module")
def cohort():
    return Cohort.simulate(6, ["hail_a", "hail_b", "hail_c"], spacing=5.0, seed=3)


@pytest.fixture(scope="module")
def fitted(cohort):
    return Hail(SMALL).fit(cohort.view(Needs.UNPAIRED), progress=False)


# ------------------------------------------------------------------------------------------------------------- network


def test_encoder_and_decoder_of_full_size_are_those_of_the_figures():
    sizes, printed = NetworkSizes(), load("hail").hyperparameters
    assert (sizes.widths[0], sizes.widths[-1]) == printed["widths"].value
    encoder, decoder = Encoder(sizes), Decoder(sizes)
    assert sum(weight.numel() for weight in encoder.parameters()) == 4_647_552
    assert sum(weight.numel() for weight in decoder.parameters()) == 4_647_041
    kinds = [(layer.in_channels, layer.out_channels) for layer in decoder.modules() if isinstance(layer, nn.Conv3d)]
    assert kinds == [(512, 256), (256, 128), (128, 64), (64, 1)]
    assert not any(isinstance(layer, nn.modules.batchnorm._NormBase) for layer in encoder.modules())


def test_the_paper_variant_of_full_size_is_as_printed(monkeypatch):
    monkeypatch.setattr(hail_settings, "sized", lambda sizes: sizes[FULL.name])
    found, printed = settings_of("paper"), {name: one.value for name, one in load("hail").hyperparameters.items()}
    features, transfer = found.features, found.transfer
    assert (features.crop,) * 3 == (transfer.crop,) * 3 == printed["patch"]
    assert (features.batch, transfer.batch) == (printed["phase1_batch"], printed["phase2_batch"])
    assert features.learning_rate == transfer.learning_rate == printed["learning_rate"]
    weights = printed["lambda_content"], printed["lambda_style"], printed["lambda_consistency"]
    assert (transfer.content, transfer.style, transfer.consistency) == weights
    assert transfer.decay == printed["phase2_decay"] and transfer.held_against == CONTENTS[0]


@pytest.mark.parametrize("sizes", NETWORKS.values(), ids=list(NETWORKS))
def test_volumes_come_back_in_their_size(sizes):
    volume = noise(2, 1, 8, 16, 12)
    assert AutoEncoder(sizes)(volume).shape == volume.shape
    sides = [tuple(level.shape[2:]) for level in Encoder(sizes)(volume)]
    assert sides[-1] == tuple(side // sizes.divisor for side in (8, 16, 12))


@pytest.mark.parametrize("sizes", NETWORKS.values(), ids=list(NETWORKS))
def test_a_voxel_looks_as_far_as_the_radius_says(sizes):
    """Beyond it nothing moves the deepest features; within it something does."""
    torch.manual_seed(0)
    encoder, reach = Encoder(sizes), radius(sizes)
    reach = -(-reach // sizes.divisor) * sizes.divisor
    side = 4 * reach + sizes.divisor
    volume = torch.rand(1, 1, sizes.divisor, sizes.divisor, side, requires_grad=True)
    middle = side // sizes.divisor // 2
    encoder(volume)[-1][..., middle].sum().backward()
    touched = volume.grad[0, 0].abs().sum((0, 1)).nonzero().flatten()
    assert middle * sizes.divisor - touched.min() <= radius(sizes)
    assert touched.max() - (middle + 1) * sizes.divisor + 1 <= radius(sizes)
    assert len(touched) > sizes.divisor


# --------------------------------------------------------------------------------------------------------------- AdaIN


@given(st.integers(0, 1000), st.floats(0.1, 100), st.floats(-50, 50))
def test_adain_gives_the_references_means_and_deviations(seed, gain, offset):
    x, y = noise(2, 3, 4, 5, 3, seed=seed), gain * noise(2, 3, 2, 6, 4, seed=seed + 1) + offset
    wanted, found = style_of(y), style_of(adain(x, style_of(x), style_of(y)))
    size = max(1.0, gain, abs(offset))
    for a, b in zip(found, wanted, strict=True):
        assert float((a - b).abs().max()) < 1e-5 * size


def test_adain_to_itself_is_the_identity():
    x = noise(2, 3, 4, 5, 6) + 4
    assert torch.allclose(adain(x, style_of(x), style_of(x)), x, atol=1e-6)


def test_a_style_is_that_of_the_mask_alone():
    x, mask = noise(1, 3, 6, 6, 6), torch.zeros(1, 1, 6, 6, 6)
    mask[..., :3] = 1
    spoilt = torch.where(mask.bool(), x, 1e3)
    for found, wanted in zip(style_of(spoilt, mask), style_of(x[..., :3]), strict=True):
        assert torch.allclose(found, wanted, atol=1e-5)
    nobody = style_of(x, torch.zeros_like(mask))
    assert all(torch.allclose(a, b) for a, b in zip(nobody, style_of(x), strict=True))


def test_a_constant_channel_moves_and_stays_finite():
    flat, other = torch.full((1, 2, 3, 3, 3), 5.0), noise(1, 2, 3, 3, 3)
    found = adain(flat, style_of(flat), style_of(other))
    assert torch.allclose(style_of(found).means, style_of(other).means, atol=1e-5)


def test_weights_are_shares_of_a_features_voxels():
    mask = torch.zeros(1, 1, 4, 4, 4)
    mask[..., :1, :] = 1
    found = weights_at(mask, torch.zeros(1, 7, 2, 2, 2))
    assert found.shape == (1, 1, 2, 2, 2) and found[0, 0, 0].tolist() == [[0.5, 0.5], [0.0, 0.0]]


# -------------------------------------------------------------------------------------------------------------- losses


@pytest.mark.parametrize("side", [11, 16])
def test_ssim_is_monais(side):
    x = torch.rand(3, 1, side, 14, 12, generator=generator())
    y = (x + 0.2 * noise(3, 1, side, 14, 12)).clamp(0, 1)
    assert float(ssim(x, y)) == pytest.approx(1 - float(SSIMLoss(3)(x, y)), abs=1e-4)
    assert float(ssim(x, x)) == pytest.approx(1, abs=1e-5)


def test_losses_by_hand():
    one, other = torch.zeros(1, 1, 1, 1, 2), torch.tensor([1.0, 3.0]).reshape(1, 1, 1, 1, 2)
    assert float(content_loss(one, other)) == pytest.approx((1 + 9) / 2)
    # means 0 and 2, deviations 0 and 1, at two levels alike
    assert float(style_loss([one, one], [other, other], [None, None])) == pytest.approx(2 * (4 + 1), rel=1e-4)
    volume = torch.rand(1, 1, 12, 12, 12, generator=generator())
    assert float(likeness_loss(volume, volume)) == pytest.approx(0, abs=1e-5)
    off = volume + 0.1
    assert float(likeness_loss(off, volume)) == pytest.approx(0.1 + 1 - float(ssim(off, volume)), rel=1e-4)


@pytest.mark.parametrize("held_against", CONTENTS)
def test_the_losses_of_phase_2_are_those_that_the_settings_say(held_against):
    transfer = replace(SMALL.transfer, held_against=held_against)
    settings = replace(SMALL, transfer=transfer, statistics=STATISTICS[1])
    model = phase_2(AutoEncoder(SMALL.network), settings, generator()).model
    inputs, targets = ((torch.rand(2, 1, 12, 12, 12, generator=generator(k)), None) for k in (1, 2))
    found = model.losses(inputs, targets, settings)
    own, wanted = (model.encoder(part[0])[-1] for part in (inputs, targets))
    moved = adain(own, style_of(own), style_of(wanted))
    drawn = model.encoder(model.decoder(moved))
    against = own if held_against == CONTENTS[0] else moved
    assert torch.allclose(found["content"], (drawn[-1] - against).square().mean())
    assert torch.allclose(found["consistency"], likeness_loss(model.decoder(own), inputs[0]))
    assert torch.allclose(found["style"], style_loss(drawn, model.encoder(targets[0]), (None, None)))
    without = replace(settings, transfer=replace(transfer, consistency=0.0))
    assert "consistency" not in model.losses(inputs, targets, without)


# -------------------------------------------------------------------------------------------------------------- phases


def test_phase_1_draws_from_the_sites_it_is_to_see():
    phase = phase_1(replace(SMALL, features=replace(SMALL.features, sites=2)), generator())
    data = sites().first(2).tensors()
    means = torch.cat([phase.draw_batch(data, generator(seed)).mean((1, 2, 3, 4)) for seed in range(20)])
    assert set((means / 10).floor().int().tolist()) == {0, 1}


@pytest.mark.parametrize("seen", [2, 3])
def test_pairs_are_of_two_sites_in_both_directions_at_one_place(seen):
    data = sites().first(seen).tensors()
    ways = set()
    for seed in range(30):
        inputs, targets = drawn_pairs(*data[2:], 6, generator(seed))
        site = [(data[0][people].mean((1, 2, 3)) / 10).floor().int() for people in (inputs, targets)]
        assert bool((site[0] != site[1]).all())
        assert (site[0] < site[1]).tolist() == [True, False] * 3
        ways |= set(zip(site[0].tolist(), site[1].tolist(), strict=True))
    assert ways == {(a, b) for a in range(seen) for b in range(seen) if a != b}


def test_crops_of_a_pair_lie_at_one_place():
    size = (12, 10, 14)
    place = torch.arange(12 * 10 * 14, dtype=torch.float32).reshape(1, *size)
    same = Sites(place.repeat(4, 1, 1, 1), torch.ones(4, *size).bool(), (2, 2))
    phase = phase_2(AutoEncoder(SMALL.network), SMALL, generator())
    inputs, _, targets, _ = phase.draw_batch(same.tensors(), generator())
    assert torch.equal(inputs, targets) and len(inputs.flatten(1)[:, 0].unique()) > 1


def test_the_encoder_is_frozen_bit_by_bit():
    features = AutoEncoder(SMALL.network)
    before = {name: value.clone() for name, value in features.encoder.state_dict().items()}
    decoder = {name: value.clone() for name, value in features.decoder.state_dict().items()}
    phase = phase_2(features, SMALL, generator())
    assert all(torch.equal(value, decoder[name]) for name, value in phase.model.decoder.state_dict().items())
    phase.train(sites(), sites((1, 1, 1)), SMALL, generator(), progress=False)
    assert all(torch.equal(value, before[name]) for name, value in phase.model.encoder.state_dict().items())
    assert not all(torch.equal(value, decoder[name]) for name, value in phase.model.decoder.state_dict().items())
    fresh = phase_2(features, replace(SMALL, transfer=replace(SMALL.transfer, keeps_decoder=False)), generator())
    assert not all(torch.equal(value, decoder[name]) for name, value in fresh.model.decoder.state_dict().items())


def test_the_rate_falls_whenever_a_validation_is_no_better():
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule, rates = PlateauDecay(optimizer, 0.8), []
    for value in (5.0, 4.0, 4.0, 4.5, 3.0, 3.5):
        schedule.see(value)
        optimizer.step()
        schedule.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([1, 1, 0.8, 0.64, 0.64, 0.512])
    again = PlateauDecay(torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1.0), 0.8)
    again.load_state_dict(schedule.state_dict())
    again.see(3.2)
    assert again.get_lr() == pytest.approx([0.4096])


# -------------------------------------------------------------------------------------------------------------- method


@given(st.tuples(*[st.integers(1, 6)] * 3), st.integers(1, 20), st.integers(0, 9), st.sampled_from([1, 2, 4]))
def test_parts_cover_a_volume_once(halves, window, around, divisor):
    sides = tuple(half * divisor for half in halves)
    seen = torch.zeros(1, 1, *sides)
    for part in parts_of(sides, window, around, divisor):
        seen[part.inner] += 1
        assert torch.zeros(1, 1, *sides)[part.outer][part.within].shape == seen[part.inner].shape
        assert all((s.stop - s.start) % divisor == 0 for box in part for s in box[2:])
    assert bool((seen == 1).all())


@pytest.mark.parametrize("network", NETWORKS.values(), ids=list(NETWORKS))
def test_windows_give_what_the_whole_volume_gives(cohort, network):
    """So the step across a border is what it is elsewhere."""
    settings = replace(
        SMALL,
        network=network,
        features=replace(SMALL.features, training_steps=1),
        transfer=replace(SMALL.transfer, training_steps=1),
    )
    method = Hail(settings).fit(cohort.view(Needs.UNPAIRED), progress=False)
    scan, mask, reference = cohort.scans("hail_b")[:1], cohort.mask[:1], cohort.scans("hail_c")[1:2]
    whole = method.with_inference(window=None).harmonize(scan, mask=mask, reference=reference)
    for window in (8, 12):
        parts = method.with_inference(window=window).harmonize(scan, mask=mask, reference=reference)
        assert float((parts - whole).abs().max()) < 1e-4 * float(whole.max() - whole.min())


def test_the_reference_twice_gives_the_output_twice(fitted, cohort):
    scan, mask, reference = cohort.scans("hail_a")[:1], cohort.mask[:1], cohort.scans("hail_c")[2:3]
    found = [fitted.harmonize(scan, mask=mask, reference=reference) for _ in range(2)]
    assert torch.equal(*found)


def test_scan_and_reference_may_have_any_shape(fitted, cohort):
    scan, mask = cohort.scans("hail_a")[:1, :, 1:, :-3, 2:], cohort.mask[:1, :, 1:, :-3, 2:]
    found = fitted.harmonize(scan, mask=mask, reference=cohort.scans("hail_c")[:1, :, 3:-2])
    assert found.shape == scan.shape and not bool(found[~mask].any()) and bool(found[mask].isfinite().all())


def test_the_result_has_the_references_units(fitted, cohort):
    scan, mask, reference = cohort.scans("hail_a")[:1], cohort.mask[:1], cohort.scans("hail_b")[1:2]
    found, brighter = (fitted.harmonize(scan, mask=mask, reference=gain * reference) for gain in (1, 7))
    assert torch.allclose(brighter, 7 * found, rtol=1e-3, atol=1e-3 * float(brighter.max()))


def test_statistics_in_patches_want_a_reference_on_the_scans_grid(fitted, cohort):
    scan, mask, reference = cohort.scans("hail_a")[:1], cohort.mask[:1], cohort.scans("hail_c")[1:2]
    patches = fitted.with_inference(window=8, in_patches=True)
    found, whole = (method.harmonize(scan, mask=mask, reference=reference) for method in (patches, fitted))
    assert bool(found.isfinite().all()) and not torch.allclose(found, whole, rtol=0.01)
    with pytest.raises(ValueError, match="in_patches: found no reference image, wanted one"):
        patches.harmonize(scan, mask=mask)
    with pytest.raises(ValueError, match="in_patches: found a reference of .* voxels, wanted"):
        patches.harmonize(scan, mask=mask, reference=reference[:, :, 8:])


def test_half_the_style_lies_between_none_and_all(fitted, cohort):
    """With no style at all, decoder and encoder give the scan back as well as they can, in the reference's units."""
    scan, mask, reference = cohort.scans("hail_a")[:1], cohort.mask[:1], cohort.scans("hail_c")[1:2]
    none, half, whole = (
        fitted.with_inference(amount=amount).harmonize(scan, mask=mask, reference=reference) for amount in (0, 0.5, 1)
    )
    there, back = ((half - end)[mask].abs().mean() for end in (none, whole))
    assert float(there + back) < 1.5 * float((whole - none)[mask].abs().mean()) and float(there) > 0 < float(back)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NetworkSizes((4, 8), pools=2), "pools: found 2 for 2 levels, wanted fewer"),
        (lambda: TransferSettings(held_against="nothing"), "held_against: found 'nothing', wanted one of 'features"),
        (lambda: TransferSettings(sites=1), "sites: found 1, wanted at least two"),
        (lambda: HailSettings(statistics="air"), "statistics: found 'air', wanted one of 'mask'"),
        (lambda: HailSettings(scaling="none"), "scaling: found 'none', wanted one of 'percentiles'"),
        (lambda: InferenceSettings(window=None, in_patches=True), "in_patches: found no window, wanted one"),
        (lambda: settings_of("best"), "variant: found 'best', wanted one of ours, paper"),
    ],
)
def test_settings_that_cannot_be(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_volumes_smaller_than_a_crop_and_single_sites_are_refused(cohort):
    large = replace(SMALL, features=replace(SMALL.features, crop=64))
    with pytest.raises(
        ValueError, match="scans: found a grid of .* voxels, wanted at least 64 along each axis, a crop"
    ):
        Hail(large).fit(cohort.view(Needs.UNPAIRED), progress=False)
    view = cohort.view(Needs.UNPAIRED)
    with pytest.raises(ValueError, match="sites: found 1, wanted at least 2"):
        Hail(SMALL).fit(replace(view, sources={}), progress=False)


# ------------------------------------------------------------------------------------------------------------ measures


def test_nwd_is_0_and_100_at_its_ends_and_blind_to_one_affine_change():
    source = torch.rand(1, 1, 6, 6, 6, generator=generator())
    target = source**2 + 0.3
    assert [float(value) for value in metrics.nwd(source, source, target)] == pytest.approx([0, 100])
    assert [float(value) for value in metrics.nwd(source, target, target)] == pytest.approx([100, 0])
    found = metrics.nwd(source, source**1.5, target)
    changed = metrics.nwd(*(7 * image - 3 for image in (source, source**1.5, target)))
    assert [float(v) for v in changed] == pytest.approx([float(v) for v in found], rel=1e-5)


def test_some_rows_of_its_tables_are_those_and_the_source(monkeypatch):
    person = Cohort.simulate(1, experiment.PEOPLE_ON, spacing=5.0, seed=5)
    made = []

    def harmonized(entry, person, source, target, fitted):
        made.append((entry.row, source, target))
        return person.scans(source) ** 1.2

    monkeypatch.setattr(experiment, "_harmonized", harmonized)
    fitted = SimpleNamespace(profile=SimpleNamespace(spacing=5.0), reference=person.scans)
    found = list(experiment.measure(person, fitted, ("Liu et al.",)))
    assert made == [("Liu et al.", *pair) for pair in experiment.PAIRS.values()]
    assert {one.row for one in found} == {"Source", "Liu et al."} and {one.place for one in found} == {"Table 2"}
    averages = {"seen average", "unseen average", "overall"}
    assert {one.condition for one in found} == {*experiment.PAIRS, *averages}
    assert {one.measure for one in found if one.row == "Source"} == {"dice with the truth"}
