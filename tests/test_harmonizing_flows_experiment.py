"""Harmonizing Flows' experiment: judges' changes, what is adapted to a site, shading, and the tables' cells."""

from types import SimpleNamespace

import pytest
import torch
from test_harmonizing_flows import TINY

from harmony_lite.cohort import Cohort, Needs
from harmony_lite.evaluate.fits import Fit
from harmony_lite.papers.harmonizing_flows import experiment, sites
from harmony_lite.papers.harmonizing_flows.harmonizer import HarmonizingFlows
from harmony_lite.papers.harmonizing_flows.judges import big_changes, small_changes
from harmony_lite.papers.harmonizing_flows.sites import AdaptedSite, SiteFit, shaded
from harmony_lite.tasks.structures import StructureSettings, StructureUNet


@pytest.fixture(scope="module")
def cohort():
    return Cohort.simulate(4, ["abide_caltech", "abide_nyu"], spacing=5.0, seed=3)


@pytest.fixture(scope="module")
def tiny(cohort):
    """A method and a judge of the target, trained for a few steps."""

    method = HarmonizingFlows(TINY).fit(cohort.subset(range(3)).view(Needs.TARGET_ONLY), progress=False)
    settings = StructureSettings(
        width=4, training_steps=60, batch=4, learning_rate=1e-2, rarity=0.5, validation_share=0.34
    )
    judge = StructureUNet(settings).fit(cohort.scans("abide_caltech"), cohort.mask, cohort.labels, progress=False)
    return method, judge


@pytest.fixture
def with_tiny(tiny, monkeypatch):
    monkeypatch.setattr(sites, "load_method", lambda name, variant, target: tiny[0])
    monkeypatch.setattr(sites, "judge", lambda target: tiny[1])
    monkeypatch.setattr(sites, "CHECK_EVERY", 1)


def slices(count=6):
    levels = torch.randint(1, 256, (count, 1, 24, 20), generator=torch.Generator().manual_seed(1)).float()
    levels[:, :, :5] = 0
    return levels


@pytest.mark.parametrize("change", [big_changes, small_changes])
def test_changes_stay_within_grey_levels_and_leave_the_background(change):
    levels = slices(40)
    changed = change(levels, torch.Generator().manual_seed(2))
    assert changed.shape == levels.shape and not changed[levels == 0].any()
    assert float(changed.min()) >= 0 and float(changed.max()) <= 255 and torch.equal(changed, changed.round())
    again = change(levels, torch.Generator().manual_seed(2))
    assert torch.equal(changed, again) and not torch.equal(changed, change(levels, torch.Generator().manual_seed(3)))


def test_bigaug_changes_more_than_aue():
    levels, chance = slices(60), torch.Generator().manual_seed(4)
    big, small = ((change(levels, chance) - levels).abs().mean() for change in (big_changes, small_changes))
    assert big > 2 * small > 0


def test_what_was_adapted_to_a_site_comes_back_from_its_state(with_tiny, cohort):
    scans, mask = cohort.scans("abide_nyu")[:3], cohort.masks("abide_nyu")[:3]
    made = AdaptedSite("abide_caltech").adapt(scans, mask, cohort.labels[:3])
    again = AdaptedSite("abide_caltech").load_state(made.state())
    assert set(again.methods) == set(made.methods) == {"entropy minimum", "bits", "oracle", "entropy plateau"}
    for stop, method in made.methods.items():
        found = again.methods[stop]
        assert found.adaptation.kept == method.adaptation.kept and found.adaptation.steps == method.adaptation.steps
        assert found.adaptation.bits == pytest.approx(method.adaptation.bits)
        assert torch.equal(found.harmonize(scans[:1], mask=mask[:1]), method.harmonize(scans[:1], mask=mask[:1]))
    assert torch.equal(again.tent.segment(scans[:1], mask[:1]), made.tent.segment(scans[:1], mask[:1]))


def test_labels_are_looked_at_by_the_oracle_alone(with_tiny, cohort):
    scans, mask = cohort.scans("abide_nyu")[:2], cohort.masks("abide_nyu")[:2]
    one = AdaptedSite("abide_caltech").adapt(scans, mask, cohort.labels[:2])
    other = AdaptedSite("abide_caltech").adapt(scans, mask, cohort.labels[:2].flip(0))
    for stop in ("entropy minimum", "bits", "entropy plateau"):
        assert one.methods[stop].adaptation == other.methods[stop].adaptation
    assert one.methods["oracle"].adaptation.judged != other.methods["oracle"].adaptation.judged


def test_shading_turns_the_order_of_tissues(cohort):
    """No curve of intensities takes the field back: it is twice as strong in the middle as at the rim."""
    scans, mask = cohort.scans("abide_caltech")[:1], cohort.mask[:1]
    field = (shaded(scans, mask) / scans.clamp_min(1e-6))[mask]
    assert float(field.max()) == pytest.approx(2**0.505, rel=0.02) and float(field.min()) < 0.8
    places = mask[0, 0].nonzero().float()
    from_middle = (places - places.mean(0)).norm(dim=1)
    assert float(torch.corrcoef(torch.stack([from_middle, field]))[0, 1]) < -0.8


def test_a_site_is_named_by_all_that_it_depends_on():
    fits = [
        SiteFit("site", "", ("a", "b")), SiteFit("site", "", ("a", "b"), True),
        SiteFit("site", "", ("a", "b"), is_shaded=True), SiteFit("site", "", ("b", "a")),
    ]  # fmt: skip
    assert len({fit.label for fit in fits}) == len(fits)
    assert not any(fit.is_shipped or fit.shipped_hash() for fit in fits)


def test_every_setting_has_its_fits():
    fits = experiment.FITS
    adapted = [fit for fit in fits if isinstance(fit, SiteFit)]
    assert len(adapted) == 2 * 12 + 3 and len({fit.label for fit in fits}) == len(fits)
    for target, *_ in experiment.SETTINGS.values():
        assert Fit("harmonizing-flows", "ours", (target,)) in fits


# -------------------------------------------------------------------------------------------- some rows without others


@pytest.fixture(scope="module")
def person():
    return Cohort.simulate(1, experiment.PEOPLE_ON, spacing=5.0, seed=4)


class Recorded:
    """In the place of `Fitted` and of a method: notes whom it was fitted to, and which reference it was sent to."""

    takes_reference, profile = True, SimpleNamespace(spacing=5.0)

    def __init__(self):
        self.fits, self.references = [], []

    def __call__(self, fit):
        self.fits.append(fit)
        return self

    def without_fields(self, cohort):
        return cohort

    def reference(self, scanner, *, corrected=False):
        self.references.append((scanner, corrected))
        return scanner

    def to_reference(self, reference):
        return self

    def harmonize(self, scan, *, scanner, mask):
        return scan * mask


def test_some_rows_are_those_and_the_untouched_ones(person, monkeypatch):
    monkeypatch.setattr(experiment, "judge", lambda target: None)
    monkeypatch.setattr(experiment._Setting, "_segmented", lambda self, image: self.person.labels)
    fitted = Recorded()
    found = list(experiment.measure(person, fitted, ("Style-transfer",)))
    assert {one.row for one in found} == {"Baseline", "Without harmonization", "Style-transfer"}
    assert {one.place for one in found} == {"Table 1", "Table 2", "Table 4", "section 4.2, N4"}
    assert {one.condition for one in found if one.row == "Style-transfer"} == {*"ABCD", "A shaded", "Average"}
    assert {one.target for one in found if one.row == "Style-transfer"} == {""}  # one network for all targets


def test_style_transfer_has_one_network_and_each_targets_own_reference(person, monkeypatch):
    monkeypatch.setattr(experiment, "judge", lambda target: None)
    (entry,) = (entry for entry in experiment.PRINTED if entry.method == "style-transfer")
    for corrected in (False, True):
        fitted = Recorded()
        for sites_ in experiment.SETTINGS.values():
            setting = experiment._Setting(person, sites_, fitted, corrected=corrected)
            setting._harmonized(entry, sites_[1])
        assert set(fitted.fits) == {Fit("style-transfer", "sites", tuple(experiment.PEOPLE_ON))}
        assert fitted.references == [(target, corrected) for target, *_ in experiment.SETTINGS.values()]
