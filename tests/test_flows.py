"""The image flow: counted as the paper's, the same as plain nflows, invertible, and a density by autograd."""

import warnings

import pytest
import torch
from graphs import UnfitForAGraph
from nflows.transforms import ActNorm, OneByOneConvolution

from harmony_lite.nets import flows
from harmony_lite.nets.flows import SplineCoupling, spline_flow

SMALL = {"levels": 2, "steps": 2, "hidden": 8, "blocks": 1, "bins": 4}


def settled(flow, seed=0, dtype=torch.float32):
    """A flow as after some training: ActNorm set by a batch, every parameter a little off its start."""
    generator = torch.Generator().manual_seed(seed)
    flow = flow.to(dtype)
    with torch.no_grad():
        flow.train().log_prob(images(8, size=16, seed=seed, dtype=dtype))
        for parameter in flow.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator, dtype=dtype)
    return flow.eval()


def images(count, size=16, seed=1, dtype=torch.float32):
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(seed), dtype=dtype) - 0.5


def both(mixing="released", dtype=torch.float32):
    """Plain nflows, and ours with its parameters."""
    plain = settled(spline_flow((1, 16, 16), **SMALL, mixing=mixing, plain=True), dtype=dtype)
    ours = spline_flow((1, 16, 16), **SMALL, mixing=mixing).to(dtype)
    ours.load_state_dict(plain.state_dict())
    return plain, ours.eval()


@pytest.mark.parametrize(("mixing", "parameters"), [("released", 14_486_534), ("paper", 14_495_054)])
@pytest.mark.parametrize("plain", [False, True])
def test_the_full_configuration_has_as_many_parameters_as_the_paper_s(mixing, parameters, plain):
    flow = spline_flow((1, 144, 176), levels=4, steps=7, hidden=96, mixing=mixing, plain=plain)
    assert sum(p.numel() for p in flow.parameters()) == parameters


@pytest.mark.parametrize("mixing", ["released", "paper"])
def test_equals_plain_nflows_both_ways(mixing):
    plain, ours = both(mixing)
    batch = images(4)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nflows' inverse uses a solver that torch has deprecated
        (z, log_det), (z_plain, log_det_plain) = ours.encode(batch), plain.encode(batch)
        assert torch.allclose(z, z_plain, atol=1e-4) and torch.allclose(log_det, log_det_plain, rtol=1e-4)
        back, log_back = ours.decode(z_plain)
        back_plain, log_back_plain = plain.decode(z_plain)
    assert torch.allclose(back, back_plain, atol=1e-4) and torch.allclose(log_back, log_back_plain, rtol=1e-4)
    assert (back - batch).abs().max() < 1e-4


@pytest.mark.parametrize("training", [False, True])
def test_gradients_equal_those_of_plain_nflows(training):
    batch, gradients = images(4, dtype=torch.float64), []
    for flow in both(dtype=torch.float64):
        flow.train(training).log_prob(batch).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in flow.parameters()]))
    assert (gradients[0] - gradients[1]).norm() <= 1e-10 * gradients[0].norm()


def test_the_log_determinant_is_that_of_the_jacobian():
    flow = settled(spline_flow((1, 16, 16), **SMALL), dtype=torch.float64)
    image = images(1, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: flow.encode(x)[0].flatten(), image)
    _, wanted = torch.linalg.slogdet(jacobian.reshape(256, 256))
    assert flow.encode(image)[1].item() == pytest.approx(float(wanted), rel=1e-9)


def test_gradients_reach_every_parameter():
    flow = settled(spline_flow((1, 16, 16), **SMALL)).train()
    flow.log_prob(images(4)).sum().backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in flow.parameters())


def test_what_is_multiplied_out_is_forgotten_when_a_parameter_changes():
    flow = settled(spline_flow((1, 16, 16), **SMALL))
    batch = images(2)
    with torch.no_grad():
        before = flow.log_prob(batch)
        assert torch.equal(flow.log_prob(batch), before)
        next(p for name, p in flow.named_parameters() if name.endswith("log_scale")).add_(0.3)
        changed = flow.log_prob(batch)
        assert not torch.allclose(changed, before)
        fresh = spline_flow((1, 16, 16), **SMALL).eval()
        fresh.load_state_dict(flow.state_dict())
        assert torch.allclose(fresh.log_prob(batch), changed, atol=1e-3)


def test_actnorm_is_set_by_the_first_batch_and_saved_with_the_rest():
    flow = spline_flow((1, 16, 16), **SMALL).train()
    flow.log_prob(images(4, seed=3))
    state = flow.state_dict()
    assert all(bool(value) for name, value in state.items() if name.endswith("initialized"))
    again = spline_flow((1, 16, 16), **SMALL)
    again.load_state_dict(state)
    scales = {name: value.clone() for name, value in state.items() if name.endswith("log_scale")}
    again.train().log_prob(10 * images(4, seed=4))
    assert all(torch.equal(again.state_dict()[name], value) for name, value in scales.items())


def test_one_level_and_one_step_by_hand():
    """Squeeze, ActNorm and convolution at their start change nothing but places: the coupling does the rest."""
    flow = spline_flow((1, 4, 4), levels=1, steps=1, hidden=4, blocks=1, bins=4).eval()
    coupling = next(m for m in flow.modules() if isinstance(m, SplineCoupling))
    assert coupling.num_transform_features == coupling.num_identity_features == 2
    assert bool((coupling.transform_features == torch.tensor([0, 1])).all())  # the first half


def test_samples_have_the_shape_of_images():
    flow = settled(spline_flow((1, 16, 16), **SMALL))
    with torch.no_grad():
        assert flow.sample(3).shape == (3, 1, 16, 16)


@pytest.mark.parametrize(
    ("shape", "change", "message"),
    [
        ((1, 18, 16), {}, "divisible by 4"),
        ((16, 16), {}, "wanted channels, height and width"),
        ((1, 16, 16), {"mixing": "both"}, "found 'both', wanted one of released, paper"),
        ((1, 16, 16), {"levels": 0}, "for 0 levels"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(shape, change, message):
    with pytest.raises(ValueError, match=message):
        spline_flow(shape, **(SMALL | change))


# ------------------------------------------------------------------------------------------------ fit for a CUDA graph


def test_the_watch_for_unfit_operations_sees_them():
    plain = settled(spline_flow((1, 16, 16), **SMALL, plain=True)).train()
    with UnfitForAGraph() as watch:
        plain.log_prob(images(2))
        torch.ones(3)[torch.tensor([True, False, True])]
        float(torch.ones(()))
    assert {"_local_scalar_dense", "index", "lift_fresh"} <= set(watch.found)


def test_a_step_of_training_and_both_ways_of_evaluation_are_fit_for_a_graph():
    flow = settled(spline_flow((1, 16, 16), **SMALL))
    batch = images(4)
    with UnfitForAGraph() as watch:
        flow.train().log_prob(batch).sum().backward()
    assert watch.found == []
    with torch.no_grad():
        flow.eval().decode(flow.encode(batch)[0])  # multiplied out once, and kept
        with UnfitForAGraph() as watch:
            flow.decode(flow.encode(batch)[0])
    assert watch.found == []


@pytest.mark.parametrize("mixing", ["released", "paper"])
def test_gives_the_log_densities_of_the_flow_with_nflows_linear_maps(mixing, monkeypatch):
    """As it was before it was made fit for a graph, with the same state, which has the same names."""
    monkeypatch.setattr(flows, "StoredActNorm", ActNorm)
    monkeypatch.setattr(flows, "IndexedConvolution", OneByOneConvolution)
    before = spline_flow((1, 16, 16), **SMALL, mixing=mixing)
    monkeypatch.undo()
    now = settled(spline_flow((1, 16, 16), **SMALL, mixing=mixing))
    assert before.state_dict().keys() == now.state_dict().keys()
    before.load_state_dict(now.state_dict())
    batch = images(4)
    with torch.no_grad():
        assert torch.allclose(now.log_prob(batch), before.eval().log_prob(batch), rtol=1e-6, atol=0)
    (one, other) = (next(m for m in flow.modules() if isinstance(m, OneByOneConvolution)) for flow in (before, now))
    assert all(torch.equal(a, b) for a, b in zip(one._create_lower_upper(), other._create_lower_upper(), strict=True))
