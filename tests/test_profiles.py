"""Profiles: numbers, chosen once by the environment."""

import dataclasses

import pytest

from harmony_lite import profiles
from harmony_lite.methods.trained import cyclegan, unet
from harmony_lite.papers.blindharmony import prior
from harmony_lite.papers.mispel import settings
from harmony_lite.tasks import segmentation


@pytest.fixture(autouse=True)
def unread(monkeypatch):
    """The profile is read once per process; each test here reads it anew, and leaves it unread for the next."""
    monkeypatch.delenv("HARMONY_PROFILE", raising=False)
    profiles.active.cache_clear()
    yield
    profiles.active.cache_clear()


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(None, profiles.QUICK), ("", profiles.QUICK), ("quick", profiles.QUICK), ("full", profiles.FULL)],
)
def test_environment_chooses_the_profile(monkeypatch, value, wanted):
    if value is not None:
        monkeypatch.setenv("HARMONY_PROFILE", value)
    assert profiles.active() is wanted


def test_environment_is_read_once(monkeypatch):
    first = profiles.active()
    monkeypatch.setenv("HARMONY_PROFILE", "full")
    assert profiles.active() is first


def test_unknown_profile_is_refused_with_found_and_wanted(monkeypatch):
    monkeypatch.setenv("HARMONY_PROFILE", "medium")
    with pytest.raises(ValueError, match=r"found 'medium', wanted one of quick, gpu, full, tiny"):
        profiles.active()


def test_full_is_at_least_as_big_as_quick_in_every_number():
    quick, full = dataclasses.asdict(profiles.QUICK), dataclasses.asdict(profiles.FULL)
    assert full.pop("spacing") < quick.pop("spacing")
    assert full.pop("seed") == quick.pop("seed")
    assert full.pop("travelling_subjects") == quick.pop("travelling_subjects") == 18  # the paper's
    assert (full.pop("name"), quick.pop("name")) == ("full", "quick")
    assert all(full[size] > quick[size] for size in quick)


def test_lesson_people_are_test_people():
    for profile in profiles.PROFILES.values():
        assert profile.lesson_subjects <= profile.test_subjects


def test_a_profile_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        profiles.QUICK.slices = 3


def test_sizes_follow_the_profile_and_a_missing_one_is_named(monkeypatch):
    assert profiles.sized({"quick": 1, "full": 2}) == 1
    with pytest.raises(ValueError, match="profile: found quick, wanted one that the method has settings for: full"):
        profiles.sized({"full": 2})


SIZED = (cyclegan, unet, prior, settings, segmentation)


@pytest.mark.parametrize("module", SIZED, ids=lambda module: module.__name__.rpartition(".")[2])
def test_full_settings_are_at_least_as_big_as_quick_ones(module):
    quick, full = (dataclasses.asdict(module.SIZES[name]) for name in ("quick", "full"))
    assert set(module.SIZES) == set(profiles.PROFILES)
    for name, value in quick.items():
        if isinstance(value, int | tuple) and not isinstance(value, bool):
            assert full[name] >= value, name
        elif isinstance(value, float) and name == "learning_rate":
            assert full[name] <= value  # where steps are few they are larger
        else:
            assert full[name] == value, name
