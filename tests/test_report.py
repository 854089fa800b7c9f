"""One report for every method, its reference rows, and what the shipped standards reach on people they have not met."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import harmony_lite as hl
from harmony_lite.cohort import Cohort, Needs
from harmony_lite.evaluate import metrics
from harmony_lite.evaluate.report import MEASURES, report, summary
from harmony_lite.images.intensity_maps import MAPS
from harmony_lite.images.normalize import full_range_minmax
from harmony_lite.methods import load_method
from harmony_lite.papers.recipes import method_recipe, recipes
from harmony_lite.weights import SHIPPED, load

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def cohort():
    return Cohort.simulate(4, ["oasis_trio", "oasis_sonata"], spacing=4.0, seed=12)


@pytest.fixture(scope="module")
def table(cohort):
    training, test = cohort.split(2, 2)
    method = load_method("histogram-matching", fitted=False).fit(training.view(Needs.TARGET_ONLY))
    return report(method, test, beside=True)


def test_columns_rows_and_people(table):
    assert list(table.columns) == ["person", "scanner", "row", "measure", "value"]
    assert set(table.person) == {"sub-003", "sub-004"} and set(table.measure) == set(MEASURES)
    assert set(table[table.scanner == "oasis_sonata"].row) == {"source", "percentile", "harmonized"}
    assert set(table[table.scanner == "oasis_trio"].row) == {"rescan"}
    assert np.isfinite(table.value).all()


def test_values_are_what_the_measures_say(cohort, table):
    one = cohort.subset([2])
    target, source, mask = one.scans("trio"), one.scans("sonata"), one.mask
    low, high = np.percentile(target[mask], [1, 99])
    a, b = ((image - low) / (high - low) * mask for image in (source, target))
    wanted = -10 * np.log10(float(((a - b)[mask] ** 2).mean()))
    row = table.query("person == 'sub-003' and scanner == 'oasis_sonata' and row == 'source' and measure == 'psnr'")
    assert float(row.value.iloc[0]) == pytest.approx(wanted, abs=1e-4)


def test_nothing_passes_the_rescan(table):
    means = summary(table)
    floor = means.xs("rescan", level="row")["psnr"].iloc[0]
    assert (means.drop("rescan", level="row")["psnr"] < floor).all()


def test_a_perfect_method_is_measured_as_perfect(cohort):
    class Oracle:
        def harmonize(self, images, *, reference, scanner, mask):
            return next(
                target for target in cohort.scans("trio").split(1) if torch.equal(target > 0, mask & (target > 0))
            )

    one = cohort.subset([0])
    oracle = report(Oracle(), one, measures=["psnr", "ncc"])
    assert oracle.query("measure == 'ncc'").value.iloc[0] == pytest.approx(1, abs=1e-6)
    assert oracle.query("measure == 'psnr'").value.iloc[0] > 100


def test_wrong_requests(cohort):
    with pytest.raises(ValueError, match="found mse, wanted some of psnr"):
        report(None, cohort, measures=["mse"])
    with pytest.raises(ValueError, match="wanted a target and at least one source"):
        report(None, Cohort.simulate(1, ["trio"], spacing=4.0))


def test_histogram_matching_cannot_tell_monotone_maps_apart(cohort):
    """BlindHarmony's simulated domains are one and the same to it."""
    training, test = cohort.split(2, 2)
    view = training.view(Needs.TARGET_ONLY)
    method = load_method("histogram-matching", fitted=False).fit(view)
    mask, target = test.mask, test.scans("trio")
    scaled = full_range_minmax(target)
    low, high = np.percentile(target[mask], [1, 99])
    found = {}
    for name in ("exp", "log", "gamma0.7", "gamma1.5"):
        image = method.harmonize(MAPS[name](scaled), mask=mask)
        found[name] = metrics.psnr(image, target, mask, data_range=float(high - low))
    spread = torch.stack(list(found.values()))
    assert float((spread.amax(0) - spread.amin(0)).max()) < 0.05, found


@pytest.mark.parametrize("recipe", recipes(), ids=lambda recipe: f"{recipe.name}-{recipe.variant}")
def test_shipped_weights_are_those_of_their_recipe(recipe):
    """Begin the recipe on the first two training people again, and hold that against the card.

    After three steps of Adam, processors of other makers and other instruction sets were seen to differ by 3e-5, once
    the statistics of volumes did not depend on them (`harmony_lite.nets.volume_norm`).
    """
    _, card = load(recipe.path)
    training, _ = recipe.people()
    assert recipe.fingerprint(training, card.settings) == pytest.approx(card.fingerprint, rel=1e-3)


def test_a_method_without_shipped_weights_has_no_recipe():
    with pytest.raises(ValueError, match="recipe of combat: found a class without `shipping`"):
        method_recipe("combat", "target")


def test_every_shipped_file_has_a_recipe():
    assert {path.name for path in SHIPPED.glob("*.quick.safetensors")} == {recipe.path.name for recipe in recipes()}


def test_the_public_names():
    assert set(hl.methods.names()) >= {"histogram-matching", "affine-match", "percentile"}
    assert hl.load_method("histogram_matching").needs == "target only"
    with pytest.raises(ValueError, match="method: found 'nothing', wanted one of affine-match"):
        hl.load_method("nothing")
    with pytest.raises(ValueError, match="variant of percentile: found 'best', wanted one of volume, slice"):
        hl.load_method("percentile", variant="best")
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        hl.nonsense  # noqa: B018


def test_the_package_does_not_import_what_costs_seconds():
    code = (
        "import sys, harmony_lite as hl; assert 'torch' not in sys.modules;"
        "hl.Cohort, hl.load_method, hl.report, hl.metrics, hl.simulate;"
        "slow = {'monai', 'lightning', 'lightning_fabric', 'nilearn', 'SimpleITK', 'sklearn', 'IPython'};"
        "assert not slow & set(sys.modules), slow & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
