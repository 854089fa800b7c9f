"""MISPEL: its losses by hand, its parameters counted, its second step solved, its people and scanners checked."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from harmony_lite.cohort import Cohort, Needs, Scans, SeveralScanners
from harmony_lite.methods import load_method
from harmony_lite.papers.mispel.decoder_optimum import solved_weights
from harmony_lite.papers.mispel.harmonizer import Mispel
from harmony_lite.papers.mispel.losses import coupling_loss, harmonization_loss, reconstruction_loss, step_two_loss
from harmony_lite.papers.mispel.networks import Encoder, Units, embeddings_of
from harmony_lite.papers.mispel.settings import VARIANTS, MispelSettings
from harmony_lite.papers.mispel.steps import PairedSlices, fit_decoders, learn_embeddings

TINY = MispelSettings(width=2, embeddings=3, epochs=(2, 2), slices=4, bias_correction=False)
SCANNERS = ("mispel_ge", "mispel_philips", "mispel_prisma", "mispel_trio")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def slices(scanners=3, count=6, size=(16, 20), seed=0):
    """The same pictures under a gain and an offset of each scanner, some of the frame empty."""
    chance = generator(seed)
    common = torch.rand(count, 1, *size, generator=chance)
    gains = 1 + 0.5 * torch.rand(1, scanners, 1, 1, generator=chance)
    brain = torch.zeros(count, 1, *size, dtype=torch.bool)
    brain[..., 3:-3, 4:-4] = True
    images = (gains * common + 0.02 * torch.rand(count, scanners, *size, generator=chance)) * brain
    return PairedSlices(images, brain, tuple(f"scanner{i}" for i in range(scanners)))


@pytest.fixture(scope="module")
def cohort():
    """An axial slice has 32 x 48 pixels."""
    return Cohort.simulate(3, SCANNERS, spacing=(5.0, 4.0, 5.0), seed=3)


@pytest.fixture(scope="module", params=list(VARIANTS))
def fitted(request, cohort):
    settings = replace(TINY, **VARIANTS[request.param])
    return Mispel(settings).fit(cohort.view(Needs.SEVERAL_SCANNERS), progress=False)


# -------------------------------------------------------------------------------------------------------------- network


def test_an_encoder_of_full_size_has_the_papers_parameters():
    encoder = Encoder(32, 6)
    assert sum(weight.numel() for weight in encoder.parameters()) == 518_854
    widths = [layer.out_channels for layer in encoder.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert widths == [32, 32, 64, 64, 128, 128, 64, 64, 64, 32, 32, 32, 6]


def test_embeddings_have_the_size_of_the_image_whatever_it_is():
    encoder = Encoder(2, 6)
    for size in ((16, 20), (17, 22), (80, 96)):
        assert encoder(torch.rand(2, 1, *size)).shape == (2, 6, *size)
    image = torch.rand(1, 1, 17, 22, generator=generator())
    filled = torch.nn.functional.pad(image, (0, 2, 0, 3))
    assert torch.allclose(encoder(image), encoder(filled)[..., :17, :22], atol=1e-6)


@given(st.floats(-3, 3), st.floats(-3, 3), st.integers(0, 5))
def test_the_decoder_is_linear(a, b, seed):
    units = Units(3, TINY)
    one, other = torch.rand(2, 2, 3, 3, 4, 5, generator=generator(seed)).unbind()
    together = units.decode(a * one + b * other)
    assert torch.allclose(together, a * units.decode(one) + b * units.decode(other), atol=1e-5)


def test_decoding_is_the_sum_that_equation_1_says():
    units = Units(2, replace(TINY, embeddings=2))
    with torch.no_grad():
        units.weights.copy_(torch.tensor([[2.0, -1.0], [0.5, 3.0]]))
    z = torch.tensor([[[1.0, 4.0], [10.0, 1.0]]])[..., None, None]  # (1, M, L, 1, 1)
    assert units.decode(z).flatten().tolist() == [2 - 4, 5 + 3]
    units.rectified = True
    assert units.decode(z).flatten().tolist() == [0, 8]


def test_every_parameter_has_a_gradient():
    units, data = Units(3, TINY), slices()
    embeddings = units.embed(data.images)
    loss = reconstruction_loss(data.images, units.decode(embeddings)) + coupling_loss(embeddings)
    loss.backward()
    assert all(float(weight.grad.abs().sum()) > 0 for weight in units.parameters())


# --------------------------------------------------------------------------------------------------------------- losses


def test_the_losses_by_hand():
    images = torch.tensor([[1.0, 2.0], [3.0, 5.0], [0.0, 4.0]])[None, :, None]  # (1, M = 3, 1, 2)
    outputs = torch.tensor([[1.5, 2.0], [2.0, 5.0], [0.0, 6.0]])[None, :, None]
    assert float(reconstruction_loss(images, outputs)) == pytest.approx(0.5 / 2 + 1 / 2 + 2 / 2)
    pairs = [(0.5 + 3) / 2, (1.5 + 4) / 2, (2 + 1) / 2]
    assert float(harmonization_loss(outputs)) == pytest.approx(sum(pairs) / 3)
    assert float(harmonization_loss(outputs, pairs_over_scanners=True)) == pytest.approx(sum(pairs) / 3)  # M = 3
    settings = MispelSettings(lambda3=2.0, lambda4=10.0)
    loss, first, second = step_two_loss(images, outputs, settings)
    assert float(loss) == pytest.approx(2 * float(first) + 10 * float(second))
    inside = torch.tensor([[True, False]])[None, None]
    assert float(reconstruction_loss(images, outputs, inside)) == pytest.approx(0.5 + 1 + 0)
    assert float(harmonization_loss(outputs, inside)) == pytest.approx((0.5 + 1.5 + 2) / 3)


def test_the_public_codes_pairs_weigh_half_as_much_again_for_four_scanners():
    outputs = torch.rand(2, 4, 5, 6, generator=generator())
    both = [float(harmonization_loss(outputs, pairs_over_scanners=which)) for which in (False, True)]
    assert both[1] / both[0] == pytest.approx(1.5)


def test_coupling_is_the_population_variance():
    z = torch.rand(2, 4, 3, 5, 6, generator=generator())
    wanted = np.var(z.numpy(), axis=1).mean()
    assert float(coupling_loss(z)) == pytest.approx(wanted, rel=1e-5)
    brain = torch.rand(2, 1, 5, 6, generator=generator(1)) > 0.5
    inside = np.var(z.numpy(), axis=1).transpose(0, 2, 3, 1)[brain[:, 0].numpy()].mean()
    assert float(coupling_loss(z, brain)) == pytest.approx(inside, rel=1e-5)


@given(st.floats(0.1, 10))
def test_the_degenerate_direction(c):
    """Embeddings over c and weights times c: the same images, coupling over c squared, unless it is scale-free."""
    units, data = Units(3, TINY), slices()
    with torch.no_grad():
        z = units.embed(data.images)
        before = units.decode(z)
        units.weights.mul_(c)
        assert torch.allclose(units.decode(z / c), before, atol=1e-5)
    assert float(coupling_loss(z / c)) == pytest.approx(float(coupling_loss(z)) / c**2, rel=1e-3)
    free = [float(coupling_loss(y, scale_free=True)) for y in (z, z / c)]
    assert free[1] == pytest.approx(free[0], rel=1e-3)


def test_scale_free_coupling_is_a_share_of_variance():
    common, own = torch.randn(2, 1, 1, 3, 40, 40, generator=generator()).unbind()
    same = common.expand(1, 4, 3, 40, 40)
    assert float(coupling_loss(same, scale_free=True)) == pytest.approx(0, abs=1e-6)
    apart = torch.randn(1, 4, 3, 200, 200, generator=generator())
    assert float(coupling_loss(apart, scale_free=True)) == pytest.approx(3 / 4, abs=0.01)  # population variance of four
    half = same.repeat(1, 1, 1, 5, 5) + apart  # one part in common, one part of each scanner
    assert float(coupling_loss(half, scale_free=True)) == pytest.approx(3 / 8, abs=0.02)


# ------------------------------------------------------------------------------------------------------------ two steps


def test_step_1_learns_and_step_2_leaves_encoders_bit_identical():
    data, settings = slices(), replace(TINY, learning_rate=1e-2)
    units, history = learn_embeddings(data, settings, generator=generator(), progress=False, steps=60)
    assert sum(history.losses[-5:]) < 0.5 * sum(history.losses[:5])
    before = {name: value.clone() for name, value in units.encoders.state_dict().items()}
    weights = units.weights.detach().clone()
    fit_decoders(units, data, settings, generator=generator(), progress=False, steps=20)
    after = units.encoders.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(weights, units.weights)
    assert all(weight.requires_grad for weight in units.encoders.parameters())


def test_harmonization_has_a_gradient_exactly_where_lambda4_is_above_0():
    data, units = slices(), Units(3, TINY)
    z = embeddings_of(units, data.images)

    def gradient(settings):
        loss, reconstruction, _ = step_two_loss(data.images, units.decode(z), settings)
        found = torch.autograd.grad(loss, units.weights, retain_graph=True)[0]
        return found - torch.autograd.grad(settings.lambda3 * reconstruction, units.weights)[0]

    assert float(gradient(replace(TINY, lambda4=4.0)).abs().sum()) > 1e-3
    assert float(gradient(replace(TINY, **VARIANTS["released"])).abs().sum()) == 0


def test_a_cache_changes_no_loss():
    data = slices(4, 8)
    units, _ = learn_embeddings(data, TINY, generator=generator(), progress=False, steps=5)
    both = []
    for cached in (True, False):
        own = copy.deepcopy(units)
        history = fit_decoders(own, data, TINY, generator=generator(), cached=cached, progress=False, steps=30)
        both.append((history.losses, own.weights.detach()))
    assert np.allclose(both[0][0], both[1][0], rtol=1e-5) and torch.allclose(both[0][1], both[1][1], atol=1e-5)


@pytest.mark.parametrize("scanners", [2, 3, 5])
def test_any_number_of_scanners(scanners):
    data = slices(scanners)
    settings = replace(TINY, **VARIANTS["ours"])
    units, _ = learn_embeddings(data, settings, generator=generator(), progress=False, steps=3)
    assert units.weights.shape == (scanners, 3) and units.embed(data.images).shape == (6, scanners, 3, 16, 20)
    fit_decoders(units, data, settings, generator=generator(), progress=False, steps=3)
    found = solved_weights(torch.rand(100, scanners, 3), torch.rand(100, scanners), settings)
    assert found.shape == (scanners, 3) and bool(torch.isfinite(found).all())


# --------------------------------------------------------------------------------------------------------------- solved


def objective(weights, embeddings, images, settings):
    outputs = torch.einsum("pml,ml->pm", embeddings.double(), weights.double()).T[None, :, None]
    return float(step_two_loss(images.double().T[None, :, None], outputs, settings)[0])


def pixels(scanners=3, count=60, embeddings=2, seed=0):
    z = torch.rand(count, scanners, embeddings, generator=generator(seed))
    truth = torch.rand(scanners, embeddings, generator=generator(seed + 1))
    noise = 0.2 * torch.randn(count, scanners, generator=generator(seed + 2))
    return z, (z * truth).sum(-1) + noise


def linear_programme(embeddings, images, settings):
    """The same optimum by simplex: weights, then a bound on each residual and on each pair's difference."""
    z, x = embeddings.double().numpy(), images.double().numpy()
    count, scanners, each = z.shape
    pairs = [(i, k) for i in range(scanners) for k in range(i + 1, scanners)]
    own, between = settings.lambda3 / count, settings.lambda4 / len(pairs) / count
    rows, wanted = [], []
    for i in range(scanners):
        block = np.zeros((count, scanners, each))
        block[:, i] = z[:, i]
        rows.append(block.reshape(count, -1))
        wanted.append(x[:, i])
    for i, k in pairs:
        block = np.zeros((count, scanners, each))
        block[:, i], block[:, k] = z[:, i], -z[:, k]
        rows.append(block.reshape(count, -1))
        wanted.append(np.zeros(count))
    a, b = np.concatenate(rows), np.concatenate(wanted)
    cost = np.concatenate([np.zeros(scanners * each), np.repeat([own] * scanners + [between] * len(pairs), count)])
    bound = -np.eye(len(a))
    system = np.block([[a, bound], [-a, bound]])
    free, positive = [(None, None)] * (scanners * each), [(0, None)] * len(a)
    found = linprog(cost, system, np.concatenate([b, -b]), bounds=free + positive)
    return found.fun


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_solved_step_is_the_optimum_of_a_linear_programme(seed):
    z, x = pixels(seed=10 * seed)
    found = objective(solved_weights(z, x, MispelSettings()), z, x, MispelSettings())
    assert found == pytest.approx(linear_programme(z, x, MispelSettings()), rel=2e-3)


def test_least_squares_is_another_optimum():
    z, x = pixels(count=400)
    settings = MispelSettings()
    absolute, squares = (solved_weights(z, x, settings, absolute=which) for which in (True, False))
    assert objective(absolute, z, x, settings) < objective(squares, z, x, settings)

    def squared(weights):
        outputs = (z * weights).sum(-1)
        pairs = [(0, 1), (0, 2), (1, 2)]
        between = sum((outputs[:, i] - outputs[:, k]).square().mean() for i, k in pairs) / 3
        return settings.lambda3 * (x - outputs).square().mean(0).sum() + settings.lambda4 * between

    free = squares.clone().requires_grad_()
    assert float(torch.autograd.grad(squared(free), free)[0].abs().max()) < 1e-4
    alone = solved_weights(z, x, replace(settings, lambda4=0.0), absolute=False)
    for i in range(3):
        wanted = torch.linalg.lstsq(z[:, i].double(), x[:, i, None].double()).solution[:, 0]
        assert torch.allclose(alone[i].double(), wanted, atol=1e-5)


def test_descending_step_2_arrives_at_the_solved_one():
    data, settings = slices(4, 8), replace(TINY, learning_rate=1e-2, batch=8)
    units, _ = learn_embeddings(data, settings, generator=generator(), progress=False, steps=40)
    z = embeddings_of(units, data.images)
    fit_decoders(units, data, replace(settings, learning_rate=3e-3), generator=generator(), progress=False, steps=2500)
    flat, x = z.permute(0, 3, 4, 1, 2).flatten(0, 2), data.images.permute(0, 2, 3, 1).flatten(0, 2)
    best = objective(solved_weights(flat, x, settings), flat, x, settings)
    assert best <= objective(units.weights.detach(), flat, x, settings) <= 1.02 * best


def test_pixels_that_do_not_fit_are_refused():
    z, x = pixels()
    with pytest.raises(ValueError, match=r"images: found shape \(60, 2\), wanted \(60, 3\)"):
        solved_weights(z, x[:, :2], MispelSettings())
    with pytest.raises(ValueError, match="found 5 pixels, wanted at least 6"):
        solved_weights(z[:5], x[:5], MispelSettings())


# ----------------------------------------------------------------------------------------------------------- the method


def test_variants_are_as_the_module_says():
    paper, ours, released = (load_method("mispel", v, fitted=False).settings for v in ("paper", "ours", "released"))
    assert (paper.lambda1, paper.lambda2, paper.lambda3, paper.lambda4) == (1, 0.3, 1, 4) and paper.embeddings == 6
    assert not (paper.rectified or paper.scale_free or paper.brain_only or paper.solved)
    assert released.rectified and released.lambda4 == 0 and released.pairs_over_scanners
    assert ours.scale_free and ours.brain_only and ours.solved


def test_what_is_divided_has_the_mean_1(fitted, cohort):
    images, mask = cohort.scans("mispel_ge"), cohort.mask
    divided, means = fitted.divided(images, mask)
    inside = [image[m] for image, m in zip(divided, mask, strict=True)] if fitted.settings.brain_only else divided
    assert all(float(values.mean()) == pytest.approx(1, rel=1e-4) for values in inside)
    assert torch.allclose(divided[0] * means[0], images[0] * mask[0], rtol=1e-4)


def test_slices_of_all_scanners_lie_at_the_same_heights(fitted, cohort):
    found = fitted.slices_of(cohort.view(Needs.SEVERAL_SCANNERS))
    assert found.images.shape == (3 * 4, 4, 32, 48) and found.scanners == SCANNERS
    flat = found.images.permute(1, 0, 2, 3)[:, found.brain[:, 0]]
    assert float(torch.corrcoef(flat).min()) > 0.8


def test_n4_is_run_where_it_has_not_been(cohort, monkeypatch):
    ran = []
    monkeypatch.setattr(
        "harmony_lite.papers.mispel.harmonizer.without_field", lambda images, mask: ran.append(1) or images
    )
    images, mask = cohort.scans("mispel_ge")[:1], cohort.mask[:1]
    method = Mispel(replace(TINY, bias_correction=True))
    method.divided(images, mask)
    assert ran == [1]
    method.on_corrected().divided(images, mask)
    assert ran == [1]


def test_slices_follow_the_encoders_whatever_the_order_of_the_scanners(fitted, cohort):
    """A file keeps no order: encoders come sorted by name, and slices with them."""
    turned = {name: fitted.state()[name] for name in reversed(fitted.state())}
    again, view = Mispel(fitted.settings).load_state(turned), cohort.view(Needs.SEVERAL_SCANNERS)
    backwards = SeveralScanners({name: view.scanners[name] for name in reversed(SCANNERS)})
    assert again.scanners == SCANNERS
    usual, other = again.slices_of(view), again.slices_of(backwards)
    assert usual.scanners == other.scanners == SCANNERS and torch.equal(usual.images, other.images)
    with pytest.raises(ValueError, match="wanted those of the encoders: mispel_ge, mispel_philips"):
        again.slices_of(SeveralScanners({name: view.scanners[name] for name in SCANNERS[:2]}))


def test_foreign_states_are_refused(fitted):
    state = fitted.state()
    with pytest.raises(ValueError, match="mispel: found the tensors"):
        Mispel(fitted.settings).load_state({name: v for name, v in state.items() if name != "unit"})
    name = "mispel_ge/head.weight"
    with pytest.raises(ValueError, match="wanted .* as the settings say"):
        Mispel(fitted.settings).load_state({**state, name: state[name][:1]})


def test_scans_that_are_no_pairs_are_refused(cohort):
    view = cohort.view(Needs.SEVERAL_SCANNERS)
    scans = {name: view.scanners[name] for name in SCANNERS[:2]}
    second = scans[SCANNERS[1]]
    one_less = SeveralScanners({**scans, SCANNERS[1]: Scans(second.images[1:], second.mask[1:])})
    with pytest.raises(ValueError, match="pairs: found 2 people on mispel_philips and 3 on mispel_ge"):
        Mispel(TINY).fit(one_less, progress=False)
    other_grid = SeveralScanners({**scans, SCANNERS[1]: Scans(second.images[..., 1:], second.mask[..., 1:])})
    with pytest.raises(ValueError, match="pairs: found a grid of .* on mispel_philips and .* registered to each other"):
        Mispel(TINY).fit(other_grid, progress=False)
    with pytest.raises(ValueError, match="scanners: found mispel_ge, wanted at least two"):
        Mispel(TINY).fit(SeveralScanners({SCANNERS[0]: scans[SCANNERS[0]]}), progress=False)
    with pytest.raises(ValueError, match="several scanners of the same people: found one scanner"):
        Cohort.simulate(2, SCANNERS[:1], spacing=(5.0, 4.0, 5.0)).view(Needs.SEVERAL_SCANNERS)


def test_fingerprint_are_the_beginning_of_the_recipe(cohort):
    view = cohort.view(Needs.SEVERAL_SCANNERS)
    method = Mispel(TINY).fit(view, progress=False)
    wanted = method.histories["step 1"].losses[:3]
    assert math.isclose(Mispel(TINY).fingerprint(view), sum(wanted) / 3, rel_tol=1e-6)
