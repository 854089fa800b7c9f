"""Intensity maps: monotone, in [0, 1], and the random one distributed as the paper's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harmony_lite.images.intensity_maps import MAPS, Gamma, TableMap, exp, log, mapped_slices, random_monotone


@pytest.mark.parametrize("name", MAPS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_maps_keep_the_order_and_the_range(name, seed):
    images = torch.rand(2, 1, 9, 8, generator=torch.Generator().manual_seed(seed))
    mapped = MAPS[name](images)
    assert mapped.shape == images.shape and mapped.dtype == torch.float32
    flat = mapped.flatten(1)
    torch.testing.assert_close(flat.amin(1), torch.zeros(2))
    torch.testing.assert_close(flat.amax(1), torch.ones(2))
    for before, after in zip(images.flatten(1), flat, strict=True):
        assert bool((after[before.argsort()].diff() >= 0).all())


def test_formulas():
    x = torch.linspace(0, 1, 11).reshape(1, 1, 1, 11)
    torch.testing.assert_close(exp(x), (x.exp() - 1) / (torch.e - 1))
    torch.testing.assert_close(log(x), torch.log(1 + 3 * x) / torch.log(torch.tensor(4.0)))
    torch.testing.assert_close(Gamma(0.7)(x), x**0.7)
    narrow = 0.2 + 0.5 * x
    torch.testing.assert_close(exp(narrow).amax(), torch.tensor(1.0)), "min-max again, whatever the range was"


def test_maps_refuse():
    for call in (*MAPS.values(), random_monotone(torch.Generator())):
        with pytest.raises(ValueError, match="wanted 0 to 1"):
            call(torch.tensor([[[[0.0, 2.0]]]]))
        with pytest.raises(ValueError, match="wanted 0 to 1"):
            call(torch.tensor([[[[0.0, float("nan")]]]]))
    with pytest.raises(ValueError, match="constant"):
        exp(torch.zeros(1, 1, 2, 2))
    with pytest.raises(ValueError, match="wanted above 0"):
        Gamma(0)
    with pytest.raises(ValueError, match="wanted 1 to 8"):
        random_monotone(torch.Generator(), levels=9)
    with pytest.raises(ValueError, match="wanted 0 to 1"):
        random_monotone(torch.Generator(), central=1.5)


def test_random_maps_are_distributed_as_the_papers_code():
    """Numbers of 2,000 draws of the public code: at 128 mean 129, sd 44, range 51-204; 23 levels from the identity."""
    generator = torch.Generator().manual_seed(0)
    tables = torch.stack([random_monotone(generator).table for _ in range(2000)])
    middle = tables[:, 128]
    assert middle.min() >= 51 and middle.max() <= 204
    assert float(middle.mean()) == pytest.approx(128, abs=3)
    assert float(middle.std()) == pytest.approx(44, abs=2)
    assert float((tables - torch.arange(256)).abs().mean()) == pytest.approx(23, abs=1)
    steps = tables.diff(dim=1)
    assert bool((steps >= 0).all()) and bool((tables == tables.round()).all()) and not bool(tables[:, 0].any())
    assert float((steps == 0).float().mean()) == pytest.approx(0.49, abs=0.02)


def test_a_random_map_is_its_generators():
    def draw(seed):
        return random_monotone(torch.Generator().manual_seed(seed)).table

    assert torch.equal(draw(3), draw(3)) and not torch.equal(draw(3), draw(4))


def test_few_levels_give_straight_pieces():
    table = random_monotone(torch.Generator().manual_seed(0), levels=1).table
    torch.testing.assert_close(table[:129].diff(), (table[128] / 128).expand(128), atol=1e-3, rtol=0)
    straight = random_monotone(torch.Generator(), central=0.0).table
    assert float((straight - torch.arange(256)).abs().max()) <= 8


def test_a_table_is_applied_exactly_at_levels_and_straight_between():
    table = TableMap(torch.arange(256.0) ** 2 / 255)
    levels = torch.arange(256.0).reshape(1, 1, 16, 16)
    torch.testing.assert_close(table(levels / 255) * 255, levels**2 / 255, atol=1e-3, rtol=0)
    between = table(torch.full((1, 1, 1, 1), 100.5 / 255)) * 255
    assert float(between) == pytest.approx((100**2 + 101**2) / 2 / 255, abs=1e-3)


def test_slices_are_mapped_one_by_one_and_keep_their_tops():
    generator = torch.Generator().manual_seed(0)
    volumes = torch.rand(2, 1, 6, 5, 4, generator=generator) * torch.tensor([0.0, 1.0, 10.0, 300.0])
    volumes[:, :, 0, 0] = 0  # a background, as brains have
    found = mapped_slices(MAPS["exp"], volumes)
    assert torch.equal(found[..., 0], volumes[..., 0])  # without contrast it stays as it is
    for person in range(2):
        for height in (1, 2, 3):
            one = volumes[person, 0, ..., height]
            wanted = MAPS["exp"]((one / one.max())[None, None]) * one.max()
            assert torch.allclose(found[person, 0, ..., height], wanted[0, 0], rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="volumes: found values down to -1"):
        mapped_slices(MAPS["exp"], volumes - 1)
