"""People: what is kept, what age does, and that a seed is a person at every age and on every grid."""

import pytest
import torch

from harmony_lite.simulate import LABELS, draw_lesions, simulate_person
from harmony_lite.simulate.person_draws import draw, target_volumes
from harmony_lite.simulate.scanners import scan


def person(age=60.0, seed=4, **settings):
    return simulate_person(age, torch.Generator().manual_seed(seed), **settings)


@pytest.fixture(scope="module")
def sixty():
    return person()


def test_a_person_holds_its_truth(sixty):
    assert sixty.tissues.shape == (3, 80, 96, 80)
    inside = sixty.tissues.sum(0)
    assert float(inside.max()) < 1.01 and float(sixty.tissues.min()) >= 0
    assert bool((sixty.lesion <= sixty.tissues[2:]).all())
    assert set(sixty.labels.unique().tolist()) == set(range(len(LABELS)))
    assert bool(((sixty.labels > 0) == sixty.mask).all())
    assert sixty.smallest_jacobian > 0
    ml = 0.008 * sixty.tissues.sum((1, 2, 3))
    for value, name in zip(ml.tolist(), ("CSF", "GM", "WM"), strict=True):
        assert sixty.volumes_ml[name] == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("age", [18, 55, 95])
def test_volumes_are_those_of_the_age(age):
    for seed in (1, 2, 3):
        made = person(age=age, seed=seed, spacing=3.0)
        wanted = target_volumes(draw(torch.Generator().manual_seed(seed)), age)
        for name, ml in wanted.items():
            assert made.volumes_ml[name] == pytest.approx(ml, rel=0.05 if name == "ventricles" else 0.015), (seed, name)
        assert made.smallest_jacobian > 0


def test_landmarks_have_adult_sizes_and_both_sides(sixty):
    for name in ("thalamus", "hippocampus", "amygdala", "caudate", "putamen", "pallidum"):
        structure = sixty.labels[0] == LABELS.index(name)
        left, right = structure[:40].sum() * 0.008, structure[40:].sum() * 0.008
        assert 0.3 < float(left) < 9 and 0.3 < float(right) < 9, name


def test_lesions_keep_away_from_cortex(sixty):
    old = person(age=84, seed=9)
    cortex = (old.labels == LABELS.index("cerebral GM")) & (old.tissues[1:2] > 0.9)
    lesions = old.lesion > 0.5
    assert int(lesions.sum()) > 20
    near = torch.nn.functional.max_pool3d(lesions.float()[None], 3, stride=1, padding=1)[0] > 0
    assert float((near & cortex).sum()) / float(lesions.sum()) < 0.02


def test_one_seed_is_one_person_on_every_grid():
    fine, coarse = person(spacing=1.5), person(spacing=3.0)
    for name in ("GM", "WM", "cavity"):
        assert fine.volumes_ml[name] == pytest.approx(coarse.volumes_ml[name], rel=0.02), name
    both = torch.nn.functional.avg_pool3d(fine.tissues[None], 2)[0][:, :53, :64, :53]
    assert float((both - coarse.tissues[:, :53, :64, :53]).abs().mean()) < 0.06


def test_anisotropic_voxels():
    flat = person(spacing=(1.5, 1.5, 4.0))
    assert flat.tissues.shape[1:] == (107, 128, 40)
    assert scan(flat, "trio", torch.Generator().manual_seed(0)).shape == (1, 107, 128, 40)


def test_the_same_generator_state_gives_the_same_person(sixty):
    again = person()
    assert torch.equal(again.tissues, sixty.tissues) and torch.equal(again.labels, sixty.labels)
    assert not torch.equal(person(seed=5).tissues, sixty.tissues)


def test_no_lesions_in_the_young():
    assert len(draw_lesions(40, torch.Generator().manual_seed(0))) == 0
    assert float(person(age=30).lesion.max()) == 0


@pytest.mark.parametrize("age", [17, 96, float("nan")])
def test_impossible_ages_are_refused(age):
    with pytest.raises(ValueError, match="wanted 18 to 95 years"):
        person(age=age)


@pytest.mark.parametrize("spacing", [0.5, 9.0, (2.0, 2.0), (2.0, 0.2, 2.0)])
def test_impossible_spacings_are_refused(spacing):
    with pytest.raises(ValueError, match="each 1 to 8 mm"):
        person(spacing=spacing)
