"""BlindHarmony: its gradients against finite differences and autograd, its loop against the ascent without a flow."""

from dataclasses import replace

import pytest
import torch

from harmony_lite.cohort import Cohort, Needs
from harmony_lite.evaluate.report import report
from harmony_lite.images.intensity_maps import Gamma
from harmony_lite.images.normalize import slice_minmax
from harmony_lite.methods import load_method
from harmony_lite.methods.correlation import correlation, correlation_gradient
from harmony_lite.nets.flows import spline_flow
from harmony_lite.papers.blindharmony.harmonizer import BlindHarmony
from harmony_lite.papers.blindharmony.ncc_ascent import ascend
from harmony_lite.papers.blindharmony.optimization import (
    VARIANTS,
    LoopSettings,
    edge_descent,
    flat_regions,
    ncc_and_gradient,
    optimise,
)
from harmony_lite.papers.blindharmony.prior import Encoding, FlowSettings, bits_per_dimension
from harmony_lite.profiles import active

SMALL = FlowSettings(levels=2, steps=1, hidden=6, training_steps=6, batch=4)
STEEP = LoopSettings(alpha=0.0, beta1=None, step=0.5, beta2=0.0, inside=True)


def slices(count=2, size=24, seed=0):
    """Smooth patterns in a disc of [0, 1], the disc, and another smooth pattern to start from."""
    generator = torch.Generator().manual_seed(seed)
    line = torch.linspace(-1, 1, size, dtype=torch.float64)
    inside = (line[:, None].square() + line.square()) < 0.8
    waves = torch.rand(count, 2, 3, generator=generator, dtype=torch.float64) * 3
    images = [sum(torch.sin(w[0] * line[:, None] + w[1] * line + 6 * w[2]) for w in pair)[None] for pair in waves]
    images = torch.stack(images)
    images = (images - images.amin((1, 2, 3), keepdim=True)) / 5 + 0.1
    mask = inside.expand(count, 1, size, size)
    start = (0.4 + 0.2 * torch.cos(3 * line[:, None]) * torch.cos(2 * line)).expand(count, 1, size, size)
    return images * mask, mask, start * mask


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_the_gradient_of_the_correlation_equals_finite_differences(centred, whole):
    sources, mask, images = slices(size=8)
    mask = torch.ones_like(mask) if whole else mask
    _, gradient = ncc_and_gradient(images, sources, mask, centred=centred)
    step = 1e-6
    for index in ((0, 0, 4, 4), (0, 0, 3, 5), (1, 0, 5, 2), (1, 0, 0, 0)):
        up, down = images.clone(), images.clone()
        up[index] += step
        down[index] -= step
        values = [ncc_and_gradient(x, sources, mask, centred=centred)[0][index[0]] for x in (up, down)]
        assert gradient[index].item() == pytest.approx(((values[0] - values[1]) / (2 * step)).item(), abs=1e-7)


def test_inside_the_mask_it_is_the_correlation_of_the_ascent():
    sources, mask, images = slices()
    ncc, gradient = ncc_and_gradient(images, sources, mask)
    for i in range(len(images)):
        x, s = images[i][mask[i]], sources[i][mask[i]]
        assert ncc[i].item() == pytest.approx(correlation(x, s).item(), abs=1e-12)
        assert torch.allclose(gradient[i][mask[i]], correlation_gradient(x, s), atol=1e-12)
        assert bool((gradient[i][~mask[i]] == 0).all())


def test_the_edge_descent_is_minus_the_gradient_of_the_masked_norm():
    sources, mask, images = slices()
    flat = flat_regions(sources, mask, 0.3)
    images = (images + 0.01 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))).requires_grad_()
    sobel = torch.tensor([[[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], [[-1, -2, -1], [0, 0, 0], [1, 2, 1]]]).double()
    norm = (torch.nn.functional.conv2d(images, sobel[:, None], padding=1) * flat).abs().sum()
    (gradient,) = torch.autograd.grad(norm, images)
    assert torch.allclose(edge_descent(images.detach(), flat), -gradient, atol=1e-12)


def test_flat_regions_are_a_share_of_the_brain_and_none_of_an_empty_background():
    sources, mask, _ = slices(size=40)
    share = flat_regions(sources, mask, 0.3).sum((1, 2, 3)) / (2 * mask.sum((1, 2, 3)))
    assert bool((share > 0.25).all() and (share < 0.31).all())
    mostly_empty = sources.clone()
    mostly_empty[..., :20] = 0  # more than 30 % of the slice is exactly flat: nothing lies strictly below 0
    assert not flat_regions(mostly_empty, None, 0.3).any()
    with pytest.warns(UserWarning, match="the edge term of Equation 3 does nothing"):
        optimise(None, sources, mostly_empty, mask, replace(VARIANTS["paper"], iterations=1))


def test_without_a_flow_the_loop_is_the_ascent():
    sources, mask, start = slices()
    found = optimise(None, start, sources, mask, STEEP)
    for i in range(len(start)):
        reached, path = ascend(start[i][mask[i]], sources[i][mask[i]], step=STEEP.step, steps=STEEP.iterations)
        assert torch.allclose(found.images[i][mask[i]], reached.clamp(0, 1), atol=1e-10)
        assert torch.allclose(found.ncc[i], path, atol=1e-10)


def test_with_alpha_zero_the_flow_is_applied_and_undone():
    sources, mask, start = (v.float() if v.is_floating_point() else v for v in slices(size=16))
    flow = spline_flow((1, 16, 16), levels=2, steps=1, hidden=6, blocks=1).eval()
    with torch.no_grad():
        found = optimise(flow, start, sources, mask, STEEP)
    alone = optimise(None, start, sources, mask, STEEP)
    assert (found.images - alone.images).abs().max() < 1e-3 and (found.ncc - alone.ncc).abs().max() < 1e-3


def test_the_step_does_not_know_the_size_of_the_image():
    reached = []
    for size in (64, 96, 128):
        sources, mask, start = slices(size=size)
        reached.append(optimise(None, start, sources, mask, STEEP).ncc[:, -1])
    assert (torch.stack(reached).amax(0) - torch.stack(reached).amin(0)).max() < 0.01


def test_the_printed_weight_means_another_step_on_every_size():
    """The part of x that does not follow the source is multiplied by 1 - beta1 NCC / |x|^2, which shrinks with size."""
    shrink = []
    for size in (32, 128):
        sources, mask, start = slices(size=size)
        settings = replace(VARIANTS["paper"], iterations=1, beta2=0.0)
        shrink.append(optimise(None, start, sources, mask, settings).step_factor[:, 0])
    assert bool((shrink[1] > shrink[0]).all()) and bool((shrink[0] < -1).any())  # the small one runs away


@pytest.mark.parametrize("settings", [STEEP, replace(VARIANTS["paper"], beta2=0.0, beta1=20.0)])
def test_the_shrink_factor_is_that_of_the_part_that_does_not_follow_the_source(settings):
    sources, mask, start = slices()
    counted = mask if settings.inside else torch.ones_like(mask)
    steps = []
    optimise(None, start, sources, mask, replace(settings, iterations=1), watch=lambda _, x: steps.append(x))
    found = optimise(None, start, sources, mask, replace(settings, iterations=1))

    def centred(values):
        mean = (values * counted).sum((1, 2, 3), keepdim=True) / counted.sum((1, 2, 3), keepdim=True)
        return (values - mean) * counted

    def stray(x):
        x, s = centred(x), centred(sources)
        return x - (x * s).sum((1, 2, 3), keepdim=True) / s.square().sum((1, 2, 3), keepdim=True) * s

    ratio = stray(steps[0]).flatten(1).norm(dim=1) / stray(start).flatten(1).norm(dim=1)
    assert torch.allclose(ratio, found.step_factor[:, 0].abs(), atol=1e-9)


def test_grey_levels_there_and_back():
    image = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    for bits in (8, 12):
        encoding = Encoding(bits)
        assert torch.allclose(encoding.decode(encoding.encode(image)), image, atol=1e-5)
        noisy = encoding.encode(image, torch.full_like(image, 0.999))
        assert (encoding.decode(noisy, floor=True) - image).abs().max() <= 1 / (encoding.levels - 1)
        assert noisy.min() >= -0.5 and noisy.max() <= 0.5


def test_bits_per_pixel_of_a_flow_that_does_nothing():
    """Standard normal noise itself: the density is known in closed form."""

    class Nothing:
        def log_prob(self, inputs):
            return torch.distributions.Normal(0.0, 1.0).log_prob(inputs).flatten(1).sum(1)

    image, noise = torch.full((1, 1, 4, 4), 0.5), torch.full((1, 1, 4, 4), 0.5)
    wanted = 8 - torch.distributions.Normal(0.0, 1.0).log_prob(torch.tensor(127.5 / 256 - 0.5)) / torch.log(
        torch.tensor(2.0)
    )
    assert bits_per_dimension(Nothing(), image, Encoding(8), noise).item() == pytest.approx(wanted.item(), abs=1e-4)


def test_variants_are_data():
    assert tuple(VARIANTS) == ("ours", "paper", "released")
    assert VARIANTS["paper"].beta1 == 1000 and VARIANTS["paper"].centred and not VARIANTS["paper"].after_shrink
    assert not VARIANTS["released"].centred and VARIANTS["released"].after_shrink
    assert all((v.alpha, v.beta2, v.iterations) == (0.001, 0.001, 10) for v in VARIANTS.values())


@pytest.fixture(scope="module")
def cohort():
    return Cohort.simulate(5, ["oasis_trio", "oasis_vision"], spacing=4.0, seed=3)


@pytest.fixture(scope="module")
def fitted(cohort):
    return BlindHarmony(VARIANTS["ours"], SMALL).fit(cohort.subset(range(4)).view(Needs.TARGET_ONLY), progress=False)


@pytest.fixture
def person(cohort):
    """Somebody whom the fit has not seen: (D, H, W) on another scanner than the target, and the brain."""
    somebody = cohort.subset([4])
    return somebody.scans("oasis_vision")[0, 0], somebody.mask[0, 0]


def test_training_lowers_the_bits_and_keeps_whole_people_apart(fitted):
    history = fitted.histories["prior"]
    assert len(history.losses) == SMALL.training_steps and history.validations[-1][1] < history.validations[0][1]
    assert history.best_step is not None and not fitted.flow.training


def test_the_result_follows_the_source(fitted, person):
    result = fitted.slices(*person, range(14, 20))
    assert result.ncc.shape == (6, 11) and result.step_factor.shape == (6, 10)
    assert bool((result.ncc[:, -1] > result.ncc[:, 0]).all()) and float(result.ncc[:, -1].min()) > 0.9


def test_the_result_comes_in_the_targets_units(fitted, person):
    image, inside = (values[None, None] for values in person)
    assert float(fitted.harmonize(image, mask=inside).max()) > 100


def test_a_slice_with_one_voxel_of_brain_comes_out_finite(fitted, person):
    """The top of a brain may be one voxel, which has no deviation."""
    image, inside = (values[None, None].clone() for values in person)
    top = int(inside.any(2).any(2)[0, 0].nonzero()[-1])
    where = inside[..., top].nonzero()[0]
    inside[..., top] = False
    inside[(*where.tolist(), top)] = True
    result = fitted.harmonize(image, mask=inside)
    assert bool(torch.isfinite(result).all()) and float(result[(*where.tolist(), top)]) > 0


def test_a_loaded_prior_gives_nearly_the_same(fitted, person):
    """The averaged slices are kept in 8 bits and in blocks."""
    image, inside = (values[None, None] for values in person)
    again = BlindHarmony().load_state(fitted.state())
    pair = [method.harmonize(image, mask=inside) for method in (fitted, again)]
    assert (pair[0] - pair[1]).abs().max() < 20
    assert again.prior.levels == SMALL.levels and again.prior.hidden == SMALL.hidden


def test_foreign_states_are_refused(fitted):
    state = fitted.state()
    with pytest.raises(ValueError, match="blindharmony: found the tensors"):
        BlindHarmony().load_state({name: value for name, value in state.items() if name != "tops"})
    state["prior"] = torch.tensor([2, 1, 12, 8, 0])
    with pytest.raises(ValueError, match="found a flow of another form"):
        BlindHarmony().load_state(state)


def test_one_person_is_not_enough(cohort):
    with pytest.raises(ValueError, match="wanted at least 2, one of them held out"):
        BlindHarmony(VARIANTS["ours"], SMALL).fit(cohort.subset([0]).view(Needs.TARGET_ONLY))


def in_slices(volume, heights):
    """(B, 1, D, H) of (D, H, W)."""
    return volume[..., heights].permute(2, 0, 1)[:, None]


def starts(cohort, heights):
    """x0 at the same height: the mean over the target's people of slices in [0, 1], in 255 steps as a file keeps it."""
    target = cohort.subset(range(4)).view(Needs.TARGET_ONLY).target
    averaged = slice_minmax(target.images * target.mask).mean(0)[0]
    return in_slices((averaged / averaged.max() * 255).round() / 255 * averaged.max(), heights)


def test_the_ascent_keeps_the_mean_and_the_deviation_of_where_it_begins(fitted, cohort, person):
    """Small steps without a flow: only the pattern changes, so x0's contrast decides."""
    heights = torch.arange(14, 20)
    masks = in_slices(person[1], heights)
    ends = {}
    for start in ("at the same height", "at full contrast"):
        slow = fitted.with_loop(start=start, use_flow=False, beta2=0.0, step=0.02, iterations=300)
        found = slow.slices(*person, heights).images
        ends[start] = torch.stack([torch.stack([x[m].mean(), x[m].std()]) for x, m in zip(found, masks, strict=True)])
    averaged = starts(cohort, heights)
    begun = torch.stack([torch.stack([x[m].mean(), x[m].std()]) for x, m in zip(averaged, masks, strict=True)])
    assert torch.allclose(ends["at the same height"][:, 0], begun[:, 0], atol=0.02)
    assert torch.allclose(ends["at the same height"][:, 1], begun[:, 1], rtol=0.1)
    assert bool((ends["at full contrast"][:, 1] > ends["at the same height"][:, 1]).all())
    moments = fitted.state()["moments"][heights]  # one person's, on average
    assert torch.allclose(ends["at full contrast"][:, 0], moments[:, 0], atol=0.03)
    assert torch.allclose(ends["at full contrast"][:, 1], moments[:, 1], rtol=0.15)


def test_an_unknown_start_is_refused():
    with pytest.raises(ValueError, match="start: found 'anywhere', wanted one of 'at the same height'"):
        LoopSettings(start="anywhere")


def test_use_flow_leaves_the_flow_out(fitted, cohort, person):
    image, inside = person
    heights = torch.tensor([15, 16])
    averaged = fitted.with_loop(use_flow=False, start="at the same height")
    found = averaged.slices(image, inside, heights).images
    sources = in_slices(slice_minmax((image * inside)[None, None])[0, 0], heights)
    wanted = optimise(None, starts(cohort, heights), sources, in_slices(inside, heights), VARIANTS["ours"]).images
    assert torch.allclose(found, wanted, atol=1e-6) and fitted.loop.use_flow


def test_the_shipped_prior_mends_curves_that_nobody_has_seen():
    """People of another seed than the profile's, maps that are none of the paper's: 3 dB over the source at least."""
    curves = {
        "gamma 0.6": Gamma(0.6),
        "sigmoid": lambda x: torch.sigmoid(8 * (x - 0.4)),
        "half and root": lambda x: (x + x.sqrt()) / 2,
    }
    profile = active()
    strangers = Cohort.simulate(2, ["oasis_trio"], profile.spacing, seed=profile.seed + 2026).with_maps(curves)
    table = report(load_method("blindharmony"), strangers, measures=["psnr"], beside=True, rescan=False)
    psnr = table.pivot_table(index="scanner", columns="row", values="value")
    assert bool((psnr["harmonized"] > psnr["source"] + 3).all()), psnr
