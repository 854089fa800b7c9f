"""A lesson's people are test people, in the same order as everywhere, and its slices lie on each other."""

from dataclasses import replace

import pytest
import torch

from harmony_lite import lesson as lesson_module
from harmony_lite import profiles, splits
from harmony_lite.images.intensity_maps import MAPS
from harmony_lite.lesson import lesson

SMALL = replace(
    profiles.QUICK, spacing=4.0, train_subjects=2, validation_subjects=1, test_subjects=3, seed=5
)  # small people are people too


@pytest.fixture
def small(monkeypatch):
    for module in (lesson_module, splits):
        monkeypatch.setattr(module, "active", lambda: SMALL)


@pytest.mark.usefixtures("small")
def test_people_are_test_people_and_slices_lie_on_each_other():
    found = lesson(["oasis_trio", "oasis_vision"], people=2, slices=3, maps=["exp"])
    training, validation, test = splits.people(["oasis_trio", "oasis_vision"])
    assert found.cohort.subjects == test.subjects[:2]
    assert not set(found.cohort.subjects) & {*training.subjects, *validation.subjects}
    assert list(found.scans) == list(found.slices) == ["oasis_trio", "oasis_vision", "exp"]
    assert torch.equal(found.scans["oasis_vision"], test.subset(range(2)).scans("oasis_vision"))
    assert found.heights.shape == (2, 3) and found.brain.dtype == torch.bool
    for images in found.slices.values():
        assert images.shape == found.brain.shape == (6, 1, 40, 48)
        assert images[~found.brain].abs().max() == 0 and torch.equal(images.amax((1, 2, 3)), torch.ones(6))
    assert torch.equal(found.brain[4, 0], found.cohort.mask[1, 0, ..., found.heights[1, 1]])
    target = found.slices["oasis_trio"][0][found.brain[0]]
    assert torch.equal(target.argsort(stable=True), found.slices["exp"][0][found.brain[0]].argsort(stable=True))
    assert "2 held-out simulated people" in found.about and "oasis_vision, exp" in found.about


@pytest.mark.usefixtures("small")
def test_values_of_slices_become_values_of_people():
    found = lesson(["oasis_trio"], people=2, slices=2)
    assert found.by_person(torch.tensor([1.0, 3.0, 5.0, 9.0])).tolist() == [2, 7]
    with pytest.raises(ValueError, match=r"found shape \(3,\)"):
        found.by_person(torch.zeros(3))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("maps", "names"), [(True, list(MAPS)), (False, []), ({"half": lambda x: x / 2}, ["half"])])
def test_maps_are_those_that_were_asked_for(maps, names):
    assert list(lesson(["oasis_trio"], people=1, slices=1, maps=maps).slices) == ["oasis_trio", *names]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"scanners": "oasis_trio"}, "wanted a list of presets"),
        ({"scanners": []}, "wanted a list of presets"),
        ({"people": 0}, "wanted 1 to 3"),
        ({"people": 4}, "wanted 1 to 3"),
        ({"slices": 0}, "wanted at least 1"),
        ({"maps": ["sine"]}, "wanted names of exp"),
        ({"maps": "exp"}, "wanted names of exp"),
    ],
)
def test_a_lesson_that_cannot_be_is_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        lesson(**{"scanners": ["oasis_trio"], **arguments})
