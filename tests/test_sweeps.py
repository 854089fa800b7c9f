"""The sweeps that are stored: every condition of each `data_scripts/sweep_PAPER.py`, on people who trained nothing."""

import json
from importlib import import_module
from pathlib import Path

import pytest

from harmony_lite.papers.sweeps import sweeps

SCRIPTS = Path(__file__).parents[1] / "data_scripts"
PAPERS = sorted(path.stem.removeprefix("sweep_") for path in SCRIPTS.glob("sweep_*.py"))


@pytest.fixture(scope="module", params=PAPERS)
def swept(request):
    """A paper, its script, and what is stored."""
    return request.param, import_module(f"sweep_{request.param}"), sweeps(request.param, "quick")


def test_every_condition_is_stored_and_nothing_else(swept):
    _, script, found = swept
    wanted = {}
    for condition in script.conditions():
        wanted.setdefault(condition.part, set()).add(condition.name)
    assert {part: set(names) for part, names in found.items()} == wanted


def test_measured_people_trained_nothing_and_each_has_a_value(swept):
    _, script, found = swept
    for condition in script.conditions():
        one = found[condition.part][condition.name]
        training, measured = script.people_of(condition)
        assert tuple(one["people"]) == measured.subjects and not set(one["people"]) & set(training.subjects)
        assert one["values"] and all(len(values) == len(measured) for values in one["values"].values())
        assert len(one["made"]["commit"]) == 40


def test_stored_values_are_numbers_that_json_can_hold(swept):
    json.dumps(swept[2], allow_nan=False)


def test_a_profile_without_a_sweep_names_the_script(swept):
    paper = swept[0]
    with pytest.raises(FileNotFoundError, match=f"wanted what data_scripts/sweep_{paper}.py writes"):
        sweeps(paper, "full")
