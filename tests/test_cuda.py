"""CUDA graphs: the numbers of eager steps on a GPU, a way out where nothing can be recorded, few graphs kept."""

import pytest
import torch

from harmony_lite.cuda_graphs import GraphCache
from harmony_lite.nets.flows import spline_flow
from harmony_lite.papers.blindharmony.optimization import VARIANTS, optimise
from harmony_lite.papers.blindharmony.prior import FlowSettings, new_flow, train_prior

on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="found no GPU: not tested here")
PRIOR = FlowSettings(levels=3, steps=2, hidden=16, training_steps=60, batch=16)


def losses(capture, checkpoint=None, steps=50):
    slices = torch.rand(64, 1, 48, 64, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    flow = new_flow(PRIOR, (48, 64))
    generator = torch.Generator().manual_seed(0)
    return train_prior(
        flow, slices, slices[:4], PRIOR, generator, checkpoint, False, steps=steps, capture=capture
    ).losses


@on_a_gpu
def test_fifty_captured_steps_have_the_losses_of_eager_ones():
    torch.testing.assert_close(torch.tensor(losses(True)), torch.tensor(losses(False)), rtol=1e-4, atol=1e-4)


@on_a_gpu
def test_latent_steps_from_a_graph_are_those_of_eager_ones():
    torch.manual_seed(0)
    flow = spline_flow((1, 48, 64), levels=3, steps=2, hidden=16).cuda()
    images = torch.rand(6, 1, 48, 64, device="cuda")
    flow.train().log_prob(images - 0.5)
    mask = torch.ones_like(images, dtype=torch.bool)
    flow.eval()
    with torch.no_grad():
        graph = optimise(flow, images.flip(2), images, mask, VARIANTS["ours"]).images
    eager = optimise(flow, images.flip(2), images, mask, VARIANTS["ours"]).images.detach()  # gradients: no graph
    torch.testing.assert_close(graph, eager, rtol=0, atol=2e-3)  # tf32


@on_a_gpu
def test_what_cannot_be_recorded_is_called_with_a_warning():
    cache = GraphCache()
    with torch.no_grad(), pytest.warns(UserWarning, match="without a CUDA graph"):
        assert float(cache("reads", lambda x: x * float(x.sum()), torch.ones(2, device="cuda")).sum()) == 4


def test_on_a_cpu_a_function_is_called():
    cache, calls = GraphCache(), []
    with torch.no_grad():
        for _ in range(2):
            assert torch.equal(
                cache("add", lambda x, y: calls.append(1) or x + y, torch.ones(2), torch.ones(2)), 2 * torch.ones(2)
            )
    assert len(calls) == 2 and len(cache) == 0


def test_the_oldest_graph_is_forgotten(monkeypatch):
    """Recording needs a GPU; which graphs are kept does not."""
    cache, made = GraphCache(most=2), []
    monkeypatch.setattr(GraphCache, "_runs_from_a_graph", staticmethod(lambda tensor: True))

    def recorded(function, inputs):
        made.append(tuple(inputs[0].shape))
        places = tuple(tensor.clone() for tensor in inputs)
        return places, lambda: function(*places)

    monkeypatch.setattr(GraphCache, "_recorded", staticmethod(recorded))
    sizes = [1, 2, 1, 3, 1, 2]  # 2 is the oldest when 3 comes
    for size in sizes:
        tensor = torch.arange(float(size))
        assert torch.equal(cache("square", lambda x: x**2, tensor), tensor**2)
    assert made == [(1,), (2,), (3,), (2,)] and len(cache) == 2
