"""BlindHarmonyDiff: its network, patches, solvers and refinement, each against something independent."""

import math
from dataclasses import replace

import pytest
import torch
from phantoms import target_view

from harmony_lite.cohort import TargetOnly
from harmony_lite.evaluate import metrics
from harmony_lite.images.normalize import subject_percentile
from harmony_lite.methods import load_method
from harmony_lite.nets.averaged import Averaged
from harmony_lite.nets.blocks import folded, unfolded
from harmony_lite.papers.blindharmonydiff import settings as blindharmonydiff_settings
from harmony_lite.papers.blindharmonydiff.flow import on_the_way, velocity_loss
from harmony_lite.papers.blindharmonydiff.harmonizer import BlindHarmonyDiff
from harmony_lite.papers.blindharmonydiff.network import NetworkSizes, VelocityNetwork, velocity_towards
from harmony_lite.papers.blindharmonydiff.patches import (
    FLIPS,
    Patches,
    PatchSettings,
    coordinates,
    draw_patches,
    strides_for,
)
from harmony_lite.papers.blindharmonydiff.refinement import (
    RefinementSettings,
    mutual_information,
    mutual_information_gradient,
    refine,
)
from harmony_lite.papers.blindharmonydiff.sampler import SamplerSettings, Velocity, sample, velocity_of
from harmony_lite.papers.blindharmonydiff.settings import (
    VARIANTS,
    BlindHarmonyDiffSettings,
    InferenceSettings,
    TrainingSettings,
    inference_of,
    settings_of,
)
from harmony_lite.profiles import FULL
from harmony_lite.splits import people

SMALL = NetworkSizes(width=4, multiples=(1, 2), blocks=1, first_side=3, block_side=2)
TINY = BlindHarmonyDiffSettings(
    SMALL,
    TrainingSettings(
        PatchSettings((8, 8, 8), flips=FLIPS[0]), learning_rate=1e-2, training_steps=12, batch=2, decay=0.9
    ),
    edge_fraction=0.05,
    validation_share=0.34,
)
FAST = InferenceSettings(SamplerSettings(points=3), inside=True)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------------------------------------------------------ network


@pytest.mark.parametrize(
    ("width", "attention", "millions"), [(64, True, 98.5), (32, True, 24.9), (16, True, 6.4), (8, True, 1.67)]
)
def test_the_released_network_has_its_parameters(width, attention, millions):
    with torch.device("meta"):
        network = VelocityNetwork(NetworkSizes(width=width, attention=attention))
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)


def test_the_full_variants_are_as_printed_and_as_released(monkeypatch):
    monkeypatch.setattr(blindharmonydiff_settings, "sized", lambda sizes: sizes[FULL.name])
    paper, released = settings_of("paper"), settings_of("released")
    assert (paper.network.attention, released.network.attention) == (False, True)
    for settings in (paper, released):
        training = settings.training
        assert (training.batch, training.training_steps, training.learning_rate) == (8, 150_000, 5e-5)
        assert training.patches.size == (64, 64, 64) and training.patches.multi_stride == 0.2
        assert settings.edge_fraction == 0.08 and training.decay == 0
    assert inference_of("paper").sampler.evaluations == 30
    assert [inference_of(name).refinement.step for name in ("paper", "released")] == [0.02, 0.005]


@pytest.mark.parametrize("shape", [(2, 3, 6, 8), (2, 3, 4, 6, 8)])
def test_folding_loses_nothing(shape):
    x = torch.randn(shape, generator=seeded(0))
    assert torch.equal(unfolded(folded(x, 2), 2), x)
    first = folded(x, 2)[:, : 2 ** (len(shape) - 2), *[0] * (len(shape) - 2)]  # the corner block of the first channel
    corner = x[:, 0, *[slice(2)] * (len(shape) - 2)].flatten(1)
    assert torch.equal(first, corner)


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_network_takes_any_size_it_can_halve(dimensions, attention):
    sizes = replace(SMALL, dimensions=dimensions, attention=attention)
    network = VelocityNetwork(sizes)
    for sides in ((8, 12, 4), (4, 8, 8)):
        x, conditions = torch.randn(2, 1, *sides), torch.randn(2, 4, *sides)
        velocity = network(x, torch.tensor([0.2, 0.9]), conditions)
        assert velocity.shape == x.shape
        alone = network(x[1:], torch.tensor([0.9]), conditions[1:])
        assert torch.allclose(velocity[1:], alone, atol=1e-5)  # people do not see each other
        if dimensions == 2:  # nor do slices
            one = network(x[..., 1:2], torch.tensor([0.2, 0.9]), conditions[..., 1:2])
            assert torch.allclose(velocity[..., 1:2], one, atol=1e-5)


def test_time_and_place_matter():
    network = VelocityNetwork(SMALL)
    x, conditions = torch.randn(1, 1, 8, 8, 8), torch.randn(1, 4, 8, 8, 8)
    first = network(x, torch.zeros(1), conditions)
    assert not torch.allclose(first, network(x, torch.ones(1), conditions), atol=1e-4)
    assert not torch.allclose(first, network(x, torch.zeros(1), conditions.flip(2)), atol=1e-4)


# ------------------------------------------------------------------------------------------------------------ patches


def numbered(people_=3, sides=(16, 24, 20)):
    """Volumes whose every voxel holds its own number, so that a patch says where each came from."""
    count = math.prod((people_, *sides))
    return torch.arange(float(count)).reshape(people_, *sides)


def places_of(values, sides):
    """Coordinates (B, 3, d, h, w) of voxels by their number."""
    x, y, z = (torch.arange(side) for side in sides)
    number = values.long() % math.prod(sides)
    at = number // (sides[1] * sides[2]), number // sides[2] % sides[1], number % sides[2]
    whole = coordinates(sides)
    return torch.stack([whole[axis][at] for axis in range(3)], 1)


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("flips", FLIPS[:2])
def test_every_voxel_of_a_patch_keeps_its_place(share, flips):
    """Of the whole volume; of the mirrored volume where that is mirrored."""
    settings, volumes = PatchSettings((8, 8, 8), share, flips=flips), numbered()
    sides = tuple(volumes.shape[1:])
    found = draw_patches(volumes, volumes % 2 == 0, strides_for(sides, settings), settings, 60, seeded(1))
    places, wanted = found.conditions[:, 1:], places_of(found.images[:, 0], sides)
    assert torch.equal(found.conditions[:, 0], (found.images[:, 0] % 2 == 0).float())
    assert torch.allclose(places[:, 1:], wanted[:, 1:])
    same, mirrored = (
        torch.tensor([torch.allclose(a, sign * b, atol=1e-6) for a, b in zip(places[:, 0], wanted[:, 0], strict=True)])
        for sign in (1, -1)
    )
    if flips == FLIPS[0]:
        assert (same | mirrored).all() and same.any() and mirrored.any()
    else:
        assert same.all()


def test_the_public_code_always_mirrors_one_axis_and_leaves_the_coordinates():
    settings, volumes = PatchSettings((8, 8, 8), 0.0, flips=FLIPS[2]), numbered()
    sides = tuple(volumes.shape[1:])
    found = draw_patches(volumes, volumes > 0, strides_for(sides, settings), settings, 40, seeded(2))
    values = found.images[:, 0].long()
    steps = [(values.select(axis, 1) - values.select(axis, 0)).flatten(1)[:, 0] for axis in (1, 2, 3)]
    falling = torch.stack([step < 0 for step in steps])
    assert torch.equal(falling.sum(0), torch.ones(40, dtype=torch.long)) and falling.any(1).all()
    rising = [
        (found.conditions[:, 1 + axis].select(1 + axis, 1) - found.conditions[:, 1 + axis].select(1 + axis, 0))
        for axis in range(3)
    ]
    assert all(bool((step > 0).all()) for step in rising)


def test_strides_are_those_of_the_paper_and_of_the_public_code():
    paper = strides_for((144, 208, 96), PatchSettings())
    assert {tuple(row) for row in paper.tolist()} == {(1, 2, 1), (1, 3, 1), (2, 1, 1), (2, 2, 1), (2, 3, 1)}
    released = strides_for((144, 208, 96), PatchSettings(counts_stride_1=True, whole_sides=False))
    assert len(released) == 6 and [1, 1, 1] in released.tolist()  # so one patch of six is none: 16.7 per cent, not 20
    assert [2, 2, 2] in strides_for((64, 64, 64), PatchSettings((32, 32, 32))).tolist()
    assert [2, 2, 2] not in strides_for(
        (64, 64, 64), PatchSettings((32, 32, 32), whole_sides=False, multi_stride=0)
    ).tolist()


def test_a_fifth_of_the_patches_has_strides():
    settings, volumes = PatchSettings((4, 4, 4)), numbered(1, (12, 12, 12))
    strides = strides_for((12, 12, 12), settings)
    found = draw_patches(volumes, volumes > 0, strides, settings, 4000, seeded(3))
    step = (found.images[:, 0, 1] - found.images[:, 0, 0]).abs()[:, 0, 0]
    steps = torch.stack([step / 144, (found.images[:, 0, 0, 1] - found.images[:, 0, 0, 0]).abs()[:, 0] / 12])
    assert float((steps.amax(0) > 1.5).float().mean()) == pytest.approx(
        0.2 * 24 / 26, abs=0.02
    )  # 2 of 26 stride z only


@pytest.mark.parametrize(("sides", "message"), [((6, 24, 24), "a patch"), ((15, 15, 15), "room for a stride")])
def test_volumes_that_are_too_small_are_refused(sides, message):
    with pytest.raises(ValueError, match=message):
        strides_for(sides, PatchSettings((8, 8, 8)))


# --------------------------------------------------------------------------------------------------- flow and sampler


def test_the_way_is_straight_and_the_loss_is_of_its_direction():
    noise, images = (torch.randn(2, 1, 12, 12, 12, generator=seeded(seed)) for seed in (0, 1))
    ends = [on_the_way(noise, images, torch.full((2,), float(t))) for t in (0, 1)]
    assert torch.equal(ends[0], noise) and torch.equal(ends[1], images)
    conditions = torch.zeros(2, 4, 12, 12, 12)

    def knows(x, time, _):  # the direction, from where x is and what the image was
        return (images - x) / (1 - time)[:, None, None, None, None]

    assert float(velocity_loss(knows, Patches(images, conditions), seeded(5))) < 1e-6
    still = velocity_loss(lambda x, *_: torch.zeros_like(x), Patches(images, conditions), seeded(5))
    assert float(still) == pytest.approx(float(images.square().mean()) + 1, abs=0.1)  # noise has variance 1


def test_a_constant_velocity_is_followed_exactly():
    noise, towards = torch.randn(1, 1, 3, 3, 3, generator=seeded(0)), torch.randn(1, 1, 3, 3, 3, generator=seeded(1))
    for solver in ("euler", "midpoint"):
        for points in (2, 5, 16):
            end = sample(lambda x, t: towards, noise, SamplerSettings(points, solver))
            assert torch.allclose(end, noise + towards, atol=1e-6)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2)])
def test_the_error_falls_with_the_step_as_it_should(solver, order):
    """dx/dt = 2 t x^2 from x = 1/2 has the solution 1 / (2 - t^2), which is 1 at the end."""
    noise, wanted = torch.full((1,), 0.5, dtype=torch.float64), 1.0

    def field(x, t):
        return 2 * t * x**2

    errors = [abs(float(sample(field, noise, SamplerSettings(points, solver))) - wanted) for points in (21, 41)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


def test_sixteen_points_ask_thirty_times():
    velocity = Velocity(lambda x, t: x)
    sample(velocity, torch.ones(1), SamplerSettings())
    assert velocity.evaluations == SamplerSettings().evaluations == 30
    assert SamplerSettings(5, "euler").evaluations == 4


def test_a_volume_in_windows_is_the_volume_as_a_whole_where_places_do_not_see_each_other():
    """A network of convolutions of side 1: windows then change nothing but the rounding."""

    class Pointwise(torch.nn.Module):
        sizes = SMALL

        def forward(self, x, time, conditions):
            return 0.3 * x + time[:, None, None, None, None] * conditions.sum(1, keepdim=True)

    conditions, noise = torch.randn(1, 4, 20, 24, 16), torch.randn(1, 1, 20, 24, 16)
    whole, parts = (
        sample(velocity_of(Pointwise(), conditions, settings), noise, settings)
        for settings in (SamplerSettings(4), SamplerSettings(4, window=8))
    )
    assert torch.allclose(whole, parts, atol=1e-5)


def test_the_velocity_towards_a_named_image_is_the_mean_of_all_that_lead_through_a_point():
    """Against a million pairs of noise and images, those whose way passes near x."""
    chance, error, count = seeded(4), 0.5, 1_000_000
    noise, images = torch.randn(count, generator=chance), 0.3 + error * torch.randn(count, generator=chance)
    for time in (0.0, 0.4, 0.8, 1.0):
        on = on_the_way(noise, images, torch.full((count,), time))
        for x in (-0.5, 0.2):
            near = (on - x).abs() < 0.02
            wanted = float((images - noise)[near].mean())
            found = velocity_towards(torch.tensor([0.3]), torch.tensor([x]), torch.tensor([time]), error)
            assert float(found) == pytest.approx(wanted, abs=0.03), (time, x)


def test_a_network_that_names_the_image_ends_near_it():
    """Wherever it starts: a constant image is reached but for what the last step leaves of the noise."""
    sizes = replace(SMALL, image_error=0.25)
    network = VelocityNetwork(sizes)
    network._through_layers = lambda together, time: torch.full_like(together[:, :1], 0.7)
    conditions, settings = torch.zeros(1, 4, 16, 16, 16), SamplerSettings()
    noise = torch.randn(1, 1, 16, 16, 16, generator=seeded(1))
    found = sample(velocity_of(network, conditions, settings), noise, settings)
    # x - D shrinks from 1 to the error: sqrt(t^2 s^2 + (1 - t)^2) at t = 1
    torch.testing.assert_close(found, 0.7 + 0.25 * noise, atol=0.02, rtol=0)


DEPARTING = replace(SMALL, image_error=0.25, from_averaged=True)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_patch_with_strides_departs_from_the_averaged_image_at_its_own_voxels(dimensions):
    """The network adds nothing here: what it names at time 0 is what the whole volume has at the patch's voxels."""
    averaged = torch.rand(28, 26, 24, generator=seeded(3)) * 2 - 1
    network = VelocityNetwork(replace(DEPARTING, dimensions=dimensions)).look_up_in(averaged)
    torch.nn.init.zeros_(network.out.weight)
    torch.nn.init.zeros_(network.out.bias)
    volumes = averaged[None].expand(2, -1, -1, -1)
    settings = PatchSettings((8, 8, 8), 0.5, flips=FLIPS[1])
    patches = draw_patches(volumes, volumes > 0, strides_for(averaged.shape, settings), settings, 30, seeded(4))
    noise = torch.randn(patches.images.shape, generator=seeded(5))
    with torch.no_grad():
        velocity = network(noise, torch.zeros(30), patches.conditions)
    assert torch.allclose(noise + velocity, patches.images, atol=1e-4)


def test_the_averaged_image_comes_back_with_the_weights_and_is_stored_once(target):
    settings = replace(TINY, network=DEPARTING, training=replace(TINY.training, training_steps=2))
    method = BlindHarmonyDiff(settings, FAST).fit(TargetOnly(target), progress=False)
    again = BlindHarmonyDiff(settings, FAST).load_state(method.state())
    edges = method.edges_of(target.images[:1])
    assert torch.equal(again.image_of(edges), method.image_of(edges))
    assert not [name for name in method.state() if name.startswith("flow/averaged")]
    padded = method._padded(method.averaged[None, None])[0][0, 0]
    assert torch.equal(method.network.averaged[0, 0], 2 * padded - 1)


def test_a_network_without_an_averaged_image_says_so():
    with pytest.raises(ValueError, match="call look_up_in first"):
        VelocityNetwork(DEPARTING)(torch.zeros(1, 1, 8, 8, 8), torch.zeros(1), torch.zeros(1, 4, 8, 8, 8))


def test_the_average_follows_the_weights():
    model = Averaged(VelocityNetwork(SMALL), decay=0.9)
    with torch.no_grad():
        for weight in model.network.parameters():
            weight.fill_(1.0)
    for _ in range(200):
        model.follow()
    assert all(torch.allclose(weight, torch.ones_like(weight), atol=1e-3) for weight in model.average.parameters())


# --------------------------------------------------------------------------------------------------------- refinement


def pair(count=400, seed=0):
    chance = seeded(seed)
    source = torch.rand(count, generator=chance, dtype=torch.float64)
    return 0.5 * source**2 + 0.25 + 0.1 * torch.randn(count, generator=chance, dtype=torch.float64), source


def test_mutual_information_is_that_of_the_densities():
    """Against one Gaussian a voxel, written out; a bin's width is all that differs."""
    image, source = pair()
    centres = torch.linspace(0, 1, 64, dtype=torch.float64)
    a, b = (torch.exp(-0.5 * ((centres[:, None] - values) / 0.04) ** 2) for values in (image, source))
    joint = a @ b.T
    joint = joint / joint.sum()
    apart = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    wanted = float((joint * (joint / apart).log().nan_to_num()).sum())
    assert float(mutual_information(image, source, bins=64, kernel=0.04)) == pytest.approx(wanted, rel=0.02)


def test_the_gradient_of_mutual_information_is_that_of_finite_differences():
    image, source = pair(60)
    gradient = mutual_information_gradient(image, source, bins=64, kernel=0.04)
    step = 1e-6  # within one bin
    for index in range(0, 60, 7):
        there = [
            mutual_information(
                image + sign * step * torch.nn.functional.one_hot(torch.tensor(index), 60), source, bins=64, kernel=0.04
            )
            for sign in (1, -1)
        ]
        assert float(gradient[index]) == pytest.approx(float(there[0] - there[1]) / (2 * step), rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("kind", ["ncc", "mi"])
def test_every_step_goes_up(kind):
    image, source = pair()
    settings = RefinementSettings(kind=kind, steps=1, step=0.05, kernel=0.05)
    goals = {
        "ncc": lambda x: torch.corrcoef(torch.stack([x, source]))[0, 1],
        "mi": lambda x: mutual_information(x, source, kernel=0.05),
    }
    reached = [goals[kind](image)]
    for _ in range(4):
        image = refine(image, source, settings)
        reached.append(goals[kind](image))
    assert all(later > earlier for earlier, later in zip(reached, reached[1:], strict=False))


def test_in_units_of_the_variance_neither_range_nor_size_matters():
    image, source = pair()
    settings = RefinementSettings(steps=6, step=0.3)
    once = refine(image, source, settings)
    wide = refine(200 * image + 7, 5 * source - 1, settings)
    assert torch.allclose((wide - 7) / 200, once, atol=1e-6)
    twice = refine(image.repeat(2), source.repeat(2), settings)[:400]
    assert torch.allclose(twice, once, atol=1e-6)
    voxels = replace(settings, unit="voxels", step=0.02)
    assert not torch.allclose(refine(2 * image, source, voxels) / 2, refine(image, source, voxels), atol=1e-3)


def test_no_refinement_changes_nothing():
    image, source = pair()
    assert torch.equal(refine(image, source, RefinementSettings(kind="none")), image)


# --------------------------------------------------------------------------------------------------------- the method


@pytest.fixture(scope="module")
def target():
    return target_view().target


@pytest.fixture(scope="module")
def method(target):
    return BlindHarmonyDiff(TINY, FAST).fit(TargetOnly(target), progress=False)


def test_an_image_of_the_target_comes_out(method, target):
    found = method.harmonize(3 * target.images, mask=target.mask)
    assert found.shape == target.images.shape and not found[~target.mask].any()
    assert torch.allclose(found, method.harmonize(3 * target.images, mask=target.mask))  # one scan, one result
    low, high = method.state()["ends"].tolist()
    assert low < float(found[target.mask].mean()) < high


def test_harmonizing_needs_the_edges_alone_until_it_is_refined(method, target):
    """Any gain and offset of the source, and nothing of it but where its edges are."""
    bare = method.with_inference(refinement=RefinementSettings(kind="none"))
    once, scaled = (
        bare.harmonize(images * target.mask, mask=target.mask) for images in (target.images, 40 * target.images + 3)
    )
    assert torch.allclose(once, scaled, rtol=1e-3, atol=1e-3 * float(once.abs().max()))
    edges = bare.edges_of(target.images)
    assert torch.allclose(bare.image_of(edges), bare.image_of(edges.clone()))


@pytest.mark.parametrize("start", ["random edges", "averaged image", "noise alone"])
def test_the_refinement_may_start_elsewhere(method, target, start):
    other = method.with_inference(start=start)
    found = other.harmonize(target.images, mask=target.mask)
    assert torch.isfinite(found).all() and not torch.allclose(found, method.harmonize(target.images, mask=target.mask))
    assert method.inference.start == "edges"


def test_more_refinement_follows_the_source_more(method, target):
    def ncc(found):
        values = [
            torch.corrcoef(torch.stack([f[m], i[m]]))[0, 1]
            for f, i, m in zip(found, target.images, target.mask, strict=True)
        ]
        return float(torch.stack(values).mean())

    reached = [
        ncc(method.with_inference(refinement=RefinementSettings(step=step)).harmonize(target.images, mask=target.mask))
        for step in (0.05, 0.2, 0.6)
    ]
    assert reached == sorted(reached) and reached[-1] > 0.98


def test_a_training_has_edges_and_coordinates_of_the_padded_volume(method, target):
    conditions = method.conditions_of(method.edges_of(target.images[:1]))
    assert conditions.shape == (1, 4, 28, 32, 28)  # a side of 26 is filled up to what can be halved twice
    assert float(conditions[:, 1:].amin()) == -1 and float(conditions[:, 1:].amax()) == 1


def test_weights_come_back_as_they_were(method, target):
    again = BlindHarmonyDiff(TINY, FAST).load_state(method.state())
    assert torch.equal(
        again.harmonize(target.images[:1], mask=target.mask[:1]),
        method.harmonize(target.images[:1], mask=target.mask[:1]),
    )
    with pytest.raises(ValueError, match="as the settings say"):
        BlindHarmonyDiff(replace(TINY, network=replace(SMALL, width=8)), FAST).load_state(method.state())


def test_the_twin_for_slices_takes_each_by_itself(target):
    settings = replace(
        TINY, network=replace(SMALL, dimensions=2), training=replace(TINY.training, patches=PatchSettings((8, 8, 1)))
    )
    method = BlindHarmonyDiff(settings, FAST).fit(TargetOnly(target), progress=False)
    found = method.harmonize(target.images[:1], mask=target.mask[:1])
    assert found.shape == (1, 1, 28, 32, 26) and torch.isfinite(found).all()


def test_refined_slice_by_slice_the_brightness_of_each_slice_does_not_matter(target):
    method = BlindHarmonyDiff(TINY, replace(FAST, inside=True)).fit(TargetOnly(target), progress=False)
    scan, mask = target.images[:1] * target.mask[:1], target.mask[:1]
    shaded = scan * torch.linspace(0.6, 1.4, scan.shape[-1])
    begun = torch.rand(scan.shape, generator=torch.Generator().manual_seed(0)) * mask
    low, high = method.ends

    def gap(slice_by_slice):
        one = method.with_inference(slice_by_slice=slice_by_slice)
        return float((one.finish(begun, scan, mask) - one.finish(begun, shaded, mask)).abs().max()) / (high - low)

    assert gap(True) < 1e-4 < 1e-2 < gap(False)


def test_an_interrupted_training_goes_on_to_the_same_numbers(target, tmp_path):
    view, whole = TargetOnly(target), BlindHarmonyDiff(TINY, FAST)
    whole.fit(view, progress=False)
    assert BlindHarmonyDiff(TINY, FAST).fingerprint(view) == pytest.approx(sum(whole.history.losses[:3]) / 3, rel=1e-6)
    path = tmp_path / "training.pt"
    again = BlindHarmonyDiff(TINY, FAST).fit(view, checkpoint=path, progress=False)
    read = BlindHarmonyDiff(TINY, FAST).fit(view, checkpoint=path, progress=False)
    for name, tensor in whole.state().items():
        assert torch.equal(again.state()[name], tensor) and torch.equal(read.state()[name], tensor)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_has_settings(variant):
    method = BlindHarmonyDiff.from_variant(variant)
    assert (method.settings.network.dimensions == 2) == (variant == "slices")
    assert method.inference.inside == (variant in ("ours", "slices"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: settings_of("other"), "wanted one of ours"),
        (lambda: inference_of("other"), "wanted one of ours"),
        (lambda: InferenceSettings(start="nowhere"), "start"),
        (lambda: SamplerSettings(points=1), "at least 2"),
        (lambda: SamplerSettings(solver="rk4"), "midpoint"),
        (lambda: SamplerSettings(overlap=1.0), "below 1"),
        (lambda: RefinementSettings(kind="ssim"), "ncc"),
        (lambda: RefinementSettings(unit="mm"), "variance"),
        (lambda: RefinementSettings(step=0.0), "above 0"),
        (lambda: PatchSettings(multi_stride=2.0), "share"),
        (lambda: PatchSettings(flips="sometimes"), "flips"),
        (lambda: NetworkSizes(dimensions=4), "2 or 3"),
        (lambda: NetworkSizes(from_averaged=True), "found no image_error"),
    ],
)
def test_wrong_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_several_refinements_share_one_beginning(method, target):
    begun = method.begin(target.images, target.mask)
    for kind in ("ncc", "mi", "none"):
        other = method.with_inference(refinement=RefinementSettings(kind=kind, steps=2))
        assert torch.equal(
            other.finish(begun, target.images, target.mask), other.harmonize(target.images, mask=target.mask)
        )
    assert not begun[~target.mask].any()


# ----------------------------------------------------------------------------------------------------- shipped weights


@pytest.fixture(scope="module")
def held_out():
    """The shipped method, and a person whom no training has seen: scaled scan of the target, mask, edges."""
    method, person = load_method("blindharmonydiff"), people(["oasis_trio"])[1].subset([3])
    scan = subject_percentile(person.scans("oasis_trio"), person.mask) * person.mask
    return method, scan, person.mask, method.edges_of(scan)


def test_the_shipped_network_draws_a_held_out_person_from_the_own_edges(held_out):
    """Midpoint, 30 evaluations, inside the brain."""
    method, scan, mask, edges = held_out
    assert method.inference.sampler.evaluations == 30
    assert float(metrics.psnr(method.image_of(edges) * mask, scan, mask, data_range=1.0)) > 17.5


def test_windows_leave_no_borders(held_out):
    """A volume in windows, their velocities blended at each step, is the volume as a whole, nearly.

    Steps at the borders are held against steps elsewhere on the axis. A brain has larger steps in some planes without
    any window, up to 1.10 times at these borders; so each ratio is held against that of the volume as a whole.
    """
    method, _, mask, edges = held_out
    few, window = SamplerSettings(5, "euler"), 48
    whole, parts = (
        method.with_inference(sampler=settings).image_of(edges) for settings in (few, replace(few, window=window))
    )
    assert float((parts - whole)[mask].abs().mean()) < 0.02  # of the range
    for axis in (2, 3, 4):
        ratio, without = (at_borders(volume, mask, axis, window) for volume in (parts, whole))
        assert ratio <= 1.05 * without, (axis, ratio, without)


def at_borders(volume, mask, axis, window):
    """Mean step across the borders of half overlapping windows, over that elsewhere on the axis, inside the mask."""
    side = volume.shape[axis]
    begins = [*range(0, side - window, window // 2), side - window]
    borders = sorted({place for begin in begins for place in (begin, begin + window)} - {0, side})
    both = mask.narrow(axis, 0, side - 1) & mask.narrow(axis, 1, side - 1)
    steps = torch.where(both, volume.diff(dim=axis).abs(), 0).movedim(axis, 0).flatten(1).sum(1)
    counts = both.movedim(axis, 0).flatten(1).sum(1)
    at = torch.zeros(side - 1, dtype=torch.bool)
    at[[border - 1 for border in borders]] = True
    across, elsewhere = (float(steps[part].sum() / counts[part].sum()) for part in (at, ~at))
    return across / elsewhere
