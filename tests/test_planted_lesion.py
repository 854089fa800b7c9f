"""A planted lesion: where it lies, how dark it is, and what a method may and may not change about its number."""

import pytest
import torch

from harmony_lite.evaluate.planted_lesion import PlantedLesion


@pytest.fixture(scope="module")
def tissues():
    """White matter in a box, thicker at its lower end; grey matter around."""
    white = torch.zeros(32, 24, 24)
    white[2:16, 2:22, 2:22] = 1
    white[16:30, 8:16, 8:16] = 1
    return torch.stack([torch.zeros_like(white), 1 - white, white])[None]


@pytest.fixture(scope="module")
def scan(tissues):
    return 100 * tissues[:, 2:] + 70 * tissues[:, 1:2]


def test_it_lies_where_white_matter_is_thickest(tissues):
    lesion = PlantedLesion.deepest(tissues)
    assert (lesion.inside.nonzero().float().mean(0) - torch.tensor([8.5, 11.5, 11.5])).abs().max() <= 1
    assert int(lesion.inside.sum()) == 123  # voxels within 3 of a voxel
    assert bool((tissues[0, 2][lesion.inside | lesion.around] == 1).all())
    assert not bool((lesion.inside & lesion.around).any())


def test_it_keeps_away_from_other_lesions(tissues):
    before = PlantedLesion.deepest(tissues)
    after = PlantedLesion.deepest(tissues, lesions=before.inside[None, None])
    assert not bool((before.inside & after.inside).any())


def test_all_of_it_none_of_it_and_half(tissues, scan):
    lesion = PlantedLesion.deepest(tissues, dark=0.6)
    ill = lesion.into(scan)
    assert lesion.contrast(ill) == pytest.approx(0.4) and lesion.contrast(scan) == pytest.approx(0)
    assert [lesion.share_left(one) for one in (ill, scan, (ill + scan) / 2)] == pytest.approx([1, 0, 0.5], abs=1e-6)
    assert lesion.share_left(7 * ill) == pytest.approx(1)  # units do not matter
    assert torch.equal(scan[0, 0][~lesion.inside], ill[0, 0][~lesion.inside])


def test_too_little_white_matter_is_named(tissues):
    with pytest.raises(ValueError, match=r"found white matter at most .* from its border, wanted more than .* 12"):
        PlantedLesion.deepest(tissues, radius=12)
