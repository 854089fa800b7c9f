"""White matter by a U-Net that has seen the target only."""

import pytest
import torch

from harmony_lite.cohort import Cohort
from harmony_lite.evaluate import metrics
from harmony_lite.evaluate.measuring import white_matter_overlap
from harmony_lite.tasks.segmentation import SegmentationSettings, WhiteMatterUNet

SMALL = SegmentationSettings(width=3, training_steps=60, batch=4)


@pytest.fixture(scope="module")
def people():
    return Cohort.simulate(3, ["oasis_trio"], spacing=5.0, seed=3)


@pytest.fixture(scope="module")
def fitted(people):
    white = people.largest_tissue == 3
    return WhiteMatterUNet(SMALL).fit(people.scans("trio"), people.mask, white, progress=False)


def test_it_learns_white_matter(fitted, people):
    found = fitted.segment(people.scans("trio"), people.mask)
    white = (people.largest_tissue == 3).to(torch.uint8)
    by_nobody = metrics.iou(people.mask.to(torch.uint8), white, labels=[1]).mean()  # all brain called white
    assert float(metrics.iou(found.to(torch.uint8), white, labels=[1]).mean()) > 1.3 * float(by_nobody)
    assert found.dtype == torch.bool and not bool(found[~people.mask].any())
    assert sum(fitted.history.losses[-5:]) < sum(fitted.history.losses[:5])


def test_a_gain_changes_nothing(fitted, people):
    scans = people.scans("trio")
    assert torch.equal(fitted.segment(scans, people.mask), fitted.segment(4 * scans, people.mask))


def test_state_round_trip_and_foreign_states(fitted, people):
    again = WhiteMatterUNet(SMALL).load_state(fitted.state())
    pair = [judge.segment(people.scans("trio"), people.mask) for judge in (fitted, again)]
    assert torch.equal(*pair)
    with pytest.raises(ValueError, match="white-matter U-Net: found a network of another form"):
        WhiteMatterUNet(SegmentationSettings(width=4)).load_state(fitted.state())


def test_bad_input(fitted, people):
    scans = people.scans("trio")
    with pytest.raises(ValueError, match="mask: found torch.bool"):
        fitted.segment(scans, people.mask[:1])
    with pytest.raises(ValueError, match="truth: found shape"):
        WhiteMatterUNet(SMALL).fit(scans, people.mask, people.mask[:1])
    with pytest.raises(ValueError, match="found no network, wanted `fit` or the shipped weights"):
        WhiteMatterUNet(SMALL).segment(scans, people.mask)
    with pytest.raises(ValueError, match="constant"):
        fitted.segment(torch.zeros_like(scans), people.mask)


def test_the_shipped_one_needs_the_targets_contrast():
    """A person whom it has not seen: better on the target than under another contrast."""
    person = Cohort.simulate(44, ["oasis_trio", "oasis_vision"], 2.0, 0).subset([40])
    overlap = {s: white_matter_overlap(person, person.scans(s), 20)[0] for s in person.scanners}
    assert overlap["oasis_trio"] > 0.8 and overlap["oasis_vision"] < overlap["oasis_trio"] - 0.1
