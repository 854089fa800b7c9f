"""Harmonizing Flows: its flow against autograd, its sizes against the paper, its guiding term against its words."""

import math
from dataclasses import replace

import pytest
import torch
from torch.autograd.functional import jacobian

from harmony_lite import weights
from harmony_lite.cohort import Cohort, Needs, Scans, TargetOnly
from harmony_lite.papers.harmonizing_flows.adaptation import AdaptationSettings, adapt, adapt_by
from harmony_lite.papers.harmonizing_flows.augmentation import DISTANCES, GUIDING, PRETRAINING, augmented, dissimilarity
from harmony_lite.papers.harmonizing_flows.flow import FORMS, FlowSizes, GuidedFlow, bits_per_dimension
from harmony_lite.papers.harmonizing_flows.guiding import guided_batch, guided_loss, guided_step
from harmony_lite.papers.harmonizing_flows.harmonizer import HarmonizingFlows
from harmony_lite.papers.harmonizing_flows.network import HarmonizerNetwork
from harmony_lite.papers.harmonizing_flows.settings import FlowSettings, HarmonizingFlowsSettings, NetworkSettings
from harmony_lite.papers.harmonizing_flows.training import bits_of

SMALL = FlowSizes(widths=(4,))  # on 8 x 8 pixels autograd can write the Jacobian down


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape):
    return torch.rand(*shape, generator=generator(1), dtype=torch.float64)


def new_flow(size=(8, 8), sizes=SMALL):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = GuidedFlow(size, sizes).double()
        for parameter in flow.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape, dtype=torch.float64)
    return flow


def slices(count=4, size=32):
    """Smooth discs of grey levels around 150 on background 0."""
    line = torch.linspace(-1, 1, size)
    inside = (line[:, None].square() + line.square()) < 0.7
    waves = torch.stack([torch.sin((2 + i) * line[:, None] + i) * torch.cos(3 * line) for i in range(count)])
    return ((150 + 60 * waves).round() * inside)[:, None]


# ---------------------------------------------------------------------------------------------------------- the flow


def test_sizes_are_the_papers():
    full = GuidedFlow((224, 224), FlowSizes())
    assert sum(p.numel() for p in full.parameters()) == 4_023_176  # printed by the public code as 4.02 M
    assert sum(p.numel() for p in HarmonizerNetwork().parameters()) == 816_594


@pytest.mark.parametrize("form", FORMS)
def test_log_determinants_are_those_of_autograd(form):
    flow = new_flow(sizes=replace(SMALL, form=form))
    values = noise(1, 1, 8, 8)
    latents, log_det = flow.encode(values)
    matrix = jacobian(lambda v: flow.encode(v)[0].flatten(), values).reshape(64, 64)
    assert torch.allclose(torch.linalg.slogdet(matrix).logabsdet, log_det, atol=1e-8)
    back, log_det_back = flow.decode(latents)
    assert torch.allclose(back, values, atol=1e-10) and torch.allclose(log_det_back, -log_det, atol=1e-8)


def test_the_variational_noise_has_the_density_that_it_says():
    """What it adds to the log-density is the log-determinant from uniform noise to the value in [0, 1]."""
    flow = new_flow()
    levels = torch.randint(0, 256, (1, 1, 8, 8), generator=generator()).double()
    uniform = noise(1, 1, 8, 8)
    values, log_det = flow.dequantized(levels, uniform)
    matrix = jacobian(lambda u: flow.dequantized(levels, u)[0].flatten(), uniform).reshape(64, 64)
    assert torch.allclose(torch.linalg.slogdet(matrix).logabsdet, log_det, atol=1e-8)
    assert bool(((values * 256).floor() == levels).all())  # within its grey level


def test_uniform_noise_costs_the_width_of_a_level():
    flow = new_flow(sizes=replace(SMALL, dequantization="uniform"))
    values, log_det = flow.dequantized(torch.zeros(1, 1, 8, 8).double(), noise(1, 1, 8, 8))
    assert float(log_det) == pytest.approx(-64 * math.log(256)) and float(values.max()) < 1 / 256


def test_an_identity_start_moves_nothing_but_the_logit():
    flow = new_flow(sizes=FlowSizes(widths=(4,), first_scale=0.0))
    for coupling in (*flow.noise, *(c for stage in flow.stages for c in stage)):
        coupling.last.weight.data.zero_()
        coupling.last.bias.data.zero_()
    values = noise(1, 1, 8, 8)
    latents, _ = flow.encode(values)
    inner = values * (1 - 1e-5) + 5e-6
    assert torch.allclose(latents.flatten().sort().values, torch.logit(inner).flatten().sort().values)


def test_a_uniform_density_has_eight_bits():
    """The logistic density under an identity flow is not normal, but log p_v = 0 of a uniform one is 8 bits exactly."""
    flow = new_flow(sizes=replace(SMALL, dequantization="uniform"))
    levels, uniform = torch.full((2, 1, 8, 8), 100.0).double(), noise(2, 1, 8, 8)
    values, from_noise = flow.dequantized(levels, uniform)
    latents, log_det = flow.encode(values)
    by_hand = -0.5 * (latents.square() + math.log(2 * math.pi)).flatten(1).sum(1) + log_det
    bits = bits_per_dimension(flow, levels, uniform)
    assert torch.allclose(bits, 8 - by_hand / (64 * math.log(2))) and torch.allclose(
        from_noise, torch.full((2,), -64 * math.log(256)).double()
    )


@pytest.mark.parametrize("size", [(30, 32), (4, 4), (32,)])
def test_a_slice_that_cannot_be_halved_is_refused(size):
    with pytest.raises(ValueError, match="wanted height and width divisible by 8"):
        GuidedFlow(size, FlowSizes(widths=(4, 8)))


# ------------------------------------------------------------------------------------------------------ augmentation


@pytest.mark.parametrize("changes", [GUIDING, PRETRAINING])
def test_changes_stay_in_range_and_leave_the_background(changes):
    levels = slices(200)
    changed = augmented(levels, changes, generator())
    assert changed.min() >= 0 and changed.max() <= 255 and torch.equal(changed, changed.round())
    assert not changed[levels == 0].any() and (changed != levels).flatten(1).any(1).float().mean() > 0.9


def test_nothing_wraps_around():
    """In 8 bits a slice that is three levels brighter is 253 levels away (methods.md 3.2)."""
    levels = slices(1)
    brighter = (levels + 3) * (levels > 0)
    assert float(dissimilarity(brighter, levels)) == 9
    assert float(dissimilarity(levels, brighter, DISTANCES[1])) == pytest.approx(3)
    with pytest.raises(ValueError, match="distance: found 'far'"):
        dissimilarity(brighter, levels, "far")


# ----------------------------------------------------------------------------------------------------------- guiding


def test_changed_slices_are_as_many_as_asked_and_far_enough():
    levels = slices(400)
    settings = FlowSettings(sizes=SMALL, negatives=0.5)
    batch, is_changed = guided_batch(levels, settings, generator())
    assert 0.3 < is_changed.float().mean() < 0.5  # some changes are too small
    assert bool((dissimilarity(batch, levels)[is_changed] > settings.threshold).all())
    assert torch.equal(batch[~is_changed], levels[~is_changed])


def test_the_guiding_terms_gradient_stops_at_the_margin():
    bits = torch.tensor([2.0, 2.5, 4.0], requires_grad=True)
    is_changed = torch.tensor([False, True, True])
    guided_loss(bits, is_changed, FlowSettings(margin=3.0)).backward()
    assert torch.allclose(bits.grad, torch.tensor([1 / 3, -1 / 3, 0.0]))
    bits.grad = None
    guided_loss(bits, is_changed, FlowSettings(above_target=1.0)).backward()  # the margin is 3, and has no gradient
    assert torch.allclose(bits.grad, torch.tensor([1 / 3, -1 / 3, 0.0]))


def test_a_training_step_parts_the_looks():
    """Some steps on one batch: the gap between changed and unchanged slices grows."""
    torch.manual_seed(0)
    flow = GuidedFlow((32, 32), FlowSizes(widths=(4, 8), first_scale=0.0, dequantization="uniform"))
    settings = FlowSettings(negatives=0.5, above_target=1.0)
    levels, optimizer = slices(8), torch.optim.Adam(flow.parameters(), lr=2e-3)

    def gap():
        with torch.no_grad():
            far = augmented(levels, GUIDING, generator(7))
            uniform = torch.rand(levels.shape, generator=generator(8))
            return (bits_per_dimension(flow, far, uniform) - bits_per_dimension(flow, levels, uniform)).mean().item()

    before, chance = gap(), generator()
    for _ in range(40):
        optimizer.zero_grad()
        guided_step(flow, levels, settings, chance).backward()
        optimizer.step()
    assert gap() > before + 0.05


# -------------------------------------------------------------------------------------------------- the harmonizer's


@pytest.mark.parametrize("size", [(16, 16), (80, 96), (224, 224)])
def test_the_network_takes_every_size_divisible_by_16(size):
    alpha, beta = HarmonizerNetwork().factor_and_offset(torch.rand(2, 1, *size))
    assert alpha.shape == (2, 1, 1, 1) and beta.shape == (2, 1, *size)
    with pytest.raises(ValueError, match="divisible by 16"):
        HarmonizerNetwork()(torch.rand(1, 1, 20, 32))


# -------------------------------------------------------------------------------------------------------- adaptation


@pytest.fixture
def pair():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = GuidedFlow((32, 32), FlowSizes(widths=(4, 8), dequantization="uniform"))
        network = HarmonizerNetwork((4, 6, 8, 8, 8), identity=True, unit=255.0)
        network.beta.reset_parameters()  # as after a pre-training: not the identity any more
        return network, flow


def adapted(pair, stop, judge=None, target_bits=None, **settings):
    rates = AdaptationSettings(stop=stop, **{"learning_rate": 1e-3, "most_steps": 6, "batch": 4} | settings)
    return adapt(*pair, slices(6), rates, generator(), target_bits=target_bits, judge=judge, progress=False)


def test_adaptation_lowers_the_bits_and_leaves_flow_and_first_network_as_they_are(pair):
    before = [{name: v.clone() for name, v in part.state_dict().items()} for part in pair]
    network, found = adapted(pair, "never", most_steps=20)
    for part, state in zip(pair, before, strict=True):
        assert all(torch.equal(v, state[name]) for name, v in part.state_dict().items())
    assert all(parameter.requires_grad for parameter in pair[1].parameters())
    assert found.bits[-1] < found.bits[0] - 0.1 and found.kept == 20 and found.steps == list(range(21))
    assert not torch.equal(network(slices(1)), pair[0](slices(1)))


def test_the_rule_of_bits_stops_where_the_targets_are_reached(pair):
    _, whole = adapted(pair, "never")
    between = (whole.bits[2] + whole.bits[3]) / 2
    network, found = adapted(pair, "bits", target_bits=between)
    assert found.kept == 3 and found.bits == whole.bits[:4] and "reached" in found.reason
    _, none = adapted(pair, "bits", target_bits=whole.bits[0] + 1)
    assert none.kept == 0 and "already below" in none.reason
    _, last = adapted(pair, "bits", target_bits=-100.0)
    assert last.kept == 6 and "still above" in last.reason


def test_entropy_and_oracle_keep_the_best_look(pair):
    values = [5.0, 4.0, 3.0, 3.5, 2.9, 3.2, 3.4]
    for stop, kept in (("entropy minimum", 4), ("oracle", 0)):
        ahead = iter(values)
        _, found = adapted(pair, stop, judge=lambda _, ahead=ahead: next(ahead))
        assert found.kept == kept and found.judged == values
    ahead = iter(values)
    _, found = adapted(pair, "entropy plateau", judge=lambda _: next(ahead), flat=0.1, patience=3)
    assert found.kept == 5 and found.reason == "the entropy is flat"


def test_several_rules_look_at_one_adaptation(pair):
    """Each keeps what it keeps when it is alone, and a judge is asked once a look, whatever rules have it."""
    asked = []

    def judge(network):
        asked.append(float(network(slices(2)).detach().mean()))
        return asked[-1]

    rates = AdaptationSettings(learning_rate=1e-3, most_steps=6, batch=4)
    stops = {"entropy minimum": judge, "oracle": judge, "never": None}
    found = adapt_by(*pair, slices(6), rates, generator(), stops=stops, progress=False)
    assert len(asked) == 7 and set(found) == set(stops)
    for stop, one in stops.items():
        network, alone = adapted(pair, stop, judge=one)
        assert alone.kept == found[stop][1].kept and alone.bits == found[stop][1].bits
        assert torch.equal(network(slices(2)), found[stop][0](slices(2)))


def test_a_rule_without_what_it_needs_is_refused(pair):
    with pytest.raises(ValueError, match="target_bits: found none"):
        adapted(pair, "bits")
    with pytest.raises(ValueError, match="judge: found none"):
        adapted(pair, "oracle")
    with pytest.raises(ValueError, match="stop: found 'soon'"):
        AdaptationSettings(stop="soon")
    with pytest.raises(ValueError, match="wanted at least one slice"):
        adapt(*pair, torch.zeros(0, 1, 32, 32), AdaptationSettings("never"), generator(), progress=False)


# -------------------------------------------------------------------------------------------------------- the method

TINY = HarmonizingFlowsSettings(
    FlowSettings(
        FlowSizes(widths=(4, 6), couplings=2, dequantization="uniform", first_scale=0.0),
        negatives=0.5, above_target=1.0, training_steps=6, batch=4,
    ),
    NetworkSettings((4, 4, 6), identity=True, training_steps=6, batch=4),
    AdaptationSettings("bits", learning_rate=1e-3, most_steps=3, batch=4),
    validation_share=0.34,
)  # fmt: skip


@pytest.fixture(scope="module")
def cohort():
    return Cohort.simulate(4, ["abide_caltech", "abide_nyu"], spacing=5.0, seed=3)


@pytest.fixture(scope="module")
def fitted(cohort):
    view = cohort.subset(range(3)).view(Needs.TARGET_ONLY)
    return HarmonizingFlows(TINY).fit(view, progress=False)


def test_the_method_gives_volumes_in_the_targets_units(fitted, cohort):
    images, mask = cohort.scans("abide_nyu"), cohort.masks("abide_nyu")
    found = fitted.harmonize(images, mask=mask)
    assert found.shape == images.shape and not found[~mask].any() and bool((found >= 0).all())
    target = cohort.scans("abide_caltech")[cohort.mask]
    assert 0.3 < float(found[mask].mean() / target.mean()) < 3
    assert set(fitted.histories) == {"flow", "harmonizer"} and fitted.target_bits > 0


def test_the_rule_of_bits_rests_on_people_that_the_flow_was_not_trained_on(fitted, cohort):
    """The last of the three people is held out: the target's bits are this person's."""
    held, scans = cohort.subset([2]), cohort.subset([2]).view(Needs.TARGET_ONLY).target
    assert fitted.target_bits == pytest.approx(bits_of(fitted._flow, fitted.slices_of(scans.images, scans.mask)))
    training = cohort.subset(range(2)).view(Needs.TARGET_ONLY).target
    others = bits_of(fitted._flow, fitted.slices_of(training.images, training.mask))
    assert len(held) == 1 and fitted.target_bits != pytest.approx(others, rel=1e-4)


def test_adapting_makes_another_method_and_leaves_this_one(fitted, cohort):
    images, mask = cohort.scans("abide_nyu"), cohort.masks("abide_nyu")
    before = fitted.harmonize(images, mask=mask)
    flow = {name: v.clone() for name, v in fitted._flow.state_dict().items()}
    one = fitted.with_adaptation(stop="never").adapted(images[:2], mask[:2], progress=False)
    assert one.adaptation.kept == 3 and fitted.adaptation is None
    assert torch.equal(fitted.harmonize(images, mask=mask), before)
    assert not torch.equal(one.harmonize(images, mask=mask), before)
    assert all(torch.equal(v, flow[name]) for name, v in one._flow.state_dict().items())


def test_a_judge_is_asked_about_the_method(fitted, cohort):
    images, mask = cohort.scans("abide_nyu")[:2], cohort.masks("abide_nyu")[:2]
    asked = []

    def judge(method):
        asked.append(float(method.harmonize(images, mask=mask).mean()))
        return asked[-1]

    oracle = fitted.with_adaptation(stop="oracle", most_steps=2).adapted(images, mask, judge=judge, progress=False)
    assert oracle.adaptation.judged == asked and len(set(asked)) == 3
    assert oracle.adaptation.kept == max(range(3), key=asked.__getitem__)


def test_bad_scans_to_adapt_on_are_refused(fitted, cohort):
    images, mask = cohort.scans("abide_nyu"), cohort.masks("abide_nyu")
    with pytest.raises(ValueError, match="wanted two volumes or more"):
        fitted.adapted(images[:1], mask[:1], progress=False)
    small = (slice(None), slice(None), slice(4, -8), slice(None), slice(4, -8))
    with pytest.raises(ValueError, match="images: found"):
        fitted.adapted(images[small], mask[small], progress=False)
    with pytest.raises(ValueError, match="found slices"):
        fitted.harmonize(images[..., 8])
    view = cohort.view(Needs.TARGET_ONLY).target
    for window, message in (
        ((..., slice(20, 21), slice(None)), "found 3 coronal slices, wanted at least 4, one batch"),
        (
            (slice(None), slice(None), slice(14, 18), slice(None), slice(14, 18)),
            "found coronal slices of 4 x 4, wanted",
        ),
    ):
        scans = TargetOnly(Scans(view.images[window], view.mask[window]))
        with pytest.raises(ValueError, match=message):
            HarmonizingFlows(TINY).fit(scans, progress=False)
    with pytest.raises(ValueError, match="wanted at least 2, one of them held out"):
        HarmonizingFlows(TINY).fit(cohort.subset([0]).view(Needs.TARGET_ONLY), progress=False)


def test_state_and_card_bring_the_method_back(fitted, cohort, tmp_path):
    path = tmp_path / "a.safetensors"
    facts = {"command": "", "profile": "tiny", "data_seed": 3, "minutes": 0.0, "metric": {}, "recipe": {}}
    stored = weights.settings_to_store(fitted.settings)
    weights.save(fitted.state(), path, settings=stored, commit="", half=False, **facts)
    again = HarmonizingFlows(HarmonizingFlowsSettings()).load(path)
    assert again.settings == fitted.settings
    images, mask = cohort.scans("abide_nyu"), cohort.masks("abide_nyu")
    assert torch.equal(again.harmonize(images, mask=mask), fitted.harmonize(images, mask=mask))
    state = fitted.state()
    state["harmonizer/alpha.bias"] = torch.zeros(3)
    with pytest.raises(ValueError, match=r"harmonizer/alpha.bias of shape \(3,\), wanted \(1,\)"):
        HarmonizingFlows(TINY).load_state(state)


def test_an_interrupted_training_goes_on_to_the_same_numbers(cohort, tmp_path):
    view = cohort.subset(range(3)).view(Needs.TARGET_ONLY)
    whole = HarmonizingFlows(TINY).fit(view, checkpoint=tmp_path / "a", progress=False)
    again = HarmonizingFlows(TINY).fit(view, checkpoint=tmp_path / "a", progress=False)
    assert all(torch.equal(v, again.state()[name]) for name, v in whole.state().items())


def test_variants_differ_as_they_say():
    ours, paper, released, unguided = (HarmonizingFlows.from_variant(v).settings for v in HarmonizingFlows.variants)
    assert ours.flow.above_target == 1.0 and ours.flow.negatives == 0.5 and ours.network.identity
    assert paper.flow.margin == 1.2 and paper.flow.sizes.form == FORMS[0] and paper.adaptation.stop == "entropy minimum"
    assert released.flow.margin == 1.0 and released.flow.sizes.form == FORMS[1] and released.network.beta2 == 0.99
    assert released.adaptation.stop == "never" and released.adaptation.learning_rate == 4e-6
    network = replace(ours.network, training_steps=ours.network.training_steps // 10)
    assert unguided == replace(ours, flow=replace(ours.flow, negatives=0.0), network=network)
