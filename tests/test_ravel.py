"""RAVEL: a planted factor is found in the control voxels and gone from all of them, in people seen and held out."""

import numpy as np
import pytest
import torch

from harmony_lite import methods
from harmony_lite.cohort import Cohort, Needs, Scans, SeveralScanners
from harmony_lite.methods.classical.ravel import Ravel, RavelSettings, darkest_class, fit_ravel

VOXELS = 2000
CONTROL = np.arange(VOXELS) < 150


def planted(scans=40, seed=0):
    """Scans x voxels with a factor that every voxel follows in its own measure, and the factor (scans,)."""
    generator = np.random.default_rng(7)  # voxels: the same in every call
    base, gamma = generator.uniform(1, 3, VOXELS), generator.normal(0.3, 0.2, VOXELS)
    generator = np.random.default_rng(seed)
    factor = generator.normal(size=scans)
    return base + factor[:, None] * gamma + 0.1 * generator.normal(size=(scans, VOXELS)), factor


def correlation(factor, data):
    """Mean absolute correlation of the factor with each voxel, and that with the mean over voxels."""
    per_voxel = [abs(np.corrcoef(factor, column)[0, 1]) for column in data.T]
    return float(np.mean(per_voxel)), abs(float(np.corrcoef(factor, data.mean(1))[0, 1]))


def test_a_planted_factor_is_gone_in_sample():
    data, factor = planted()
    model = fit_ravel(data, CONTROL)
    assert abs(np.corrcoef(model.factors(data)[:, 0], factor)[0, 1]) > 0.999
    assert min(correlation(factor, data)) > 0.8
    assert max(correlation(factor, model.apply(data))) < 0.05
    np.testing.assert_allclose(model.apply(data).mean(0), data.mean(0), atol=1e-4)  # `alpha` stays


def test_a_planted_factor_is_gone_in_held_out_scans():
    data, factor = planted(2000, seed=1)  # many: the correlation of chance is one over the root of their number
    assert min(correlation(factor, data)) > 0.8
    harmonized = fit_ravel(planted(800, seed=2)[0], CONTROL).apply(data)
    assert correlation(factor, harmonized)[0] < 0.05
    # The mean over voxels has next to no noise, in which a trace correlates; its slope on the factor is what counts.
    assert abs(np.polyfit(factor, harmonized.mean(1), 1)[0]) < 0.01 * np.polyfit(factor, data.mean(1), 1)[0]
    few = fit_ravel(planted(40)[0], CONTROL).apply(data)
    assert correlation(factor, few)[0] < 0.2, "with 40 training scans gamma is off by its own standard error"


def test_it_is_the_regression_with_an_intercept():
    data, _ = planted(12)
    centred = data[:, CONTROL] - data[:, CONTROL].mean(0)
    z = np.linalg.svd(centred, full_matrices=False)[0][:, :2]  # scans x scans: the right ones of voxels x scans
    design = np.column_stack([np.ones(len(z)), z])
    coefficients = np.linalg.lstsq(design, data, rcond=None)[0]
    np.testing.assert_allclose(fit_ravel(data, CONTROL, factors=2).apply(data), data - z @ coefficients[1:], atol=1e-4)


def test_projection_gives_training_scans_their_own_factors():
    data, _ = planted()
    for released in (False, True):
        model = fit_ravel(data, CONTROL, released=released)
        chosen = data[:, CONTROL] if released else data[:, CONTROL] - data[:, CONTROL].mean(0)
        wanted = np.linalg.svd(chosen.T, full_matrices=False)[2][0]
        found = model.factors(data)[:, 0]
        np.testing.assert_allclose(found * np.sign(found @ wanted), wanted, atol=1e-4)


def test_as_released_the_factor_is_brightness_and_the_planted_one_stays():
    """No centring: the R code's own three lines, and what they do to a factor that voxels follow unequally."""
    data, factor = planted()
    released = fit_ravel(data, CONTROL, released=True)
    z = np.linalg.svd(data[:, CONTROL].T, full_matrices=False)[2][:1]
    wanted = data - z.T @ (z @ data) + data.mean(0)
    np.testing.assert_allclose(released.apply(data), wanted, atol=1e-4)
    assert (
        correlation(factor, released.apply(data))[0]
        > 0.2
        > correlation(factor, fit_ravel(data, CONTROL).apply(data))[0]
    )


def test_refusals_of_the_table():
    data, _ = planted(6)
    for spoilt, control, options, message in (
        (data[:, 0], CONTROL, {}, "wanted \\(scans, voxels\\)"),
        (np.where(np.arange(data.size).reshape(data.shape) == 3, np.inf, data), CONTROL, {}, "found 1 values that are"),
        (data, CONTROL[1:], {}, "control: found bool \\(1999,\\), wanted bool \\(2000,\\)"),
        (data, CONTROL.astype(int), {}, "control: found int64"),
        (data, CONTROL, {"factors": 6}, "factors: found 6 of 6 scans"),
        (data, np.zeros(VOXELS, bool), {}, "and 0 control voxels"),
        (np.tile(data[:1], (6, 1)), CONTROL, {}, "voxels that hardly vary"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_ravel(spoilt, control, **options)
    with pytest.raises(ValueError, match="found 5 voxels, wanted the 2000 of the fit"):
        fit_ravel(data, CONTROL).apply(data[:, :5])


# ------------------------------------------------------------------------------------------------------- on voxels

SCANNERS = ["oasis_trio", "oasis_vision"]


@pytest.fixture(scope="module")
def cohort():
    return Cohort.simulate(9, SCANNERS, 4.0, seed=11)


@pytest.fixture(scope="module")
def train(cohort):
    return cohort.subset(range(6))


@pytest.fixture(params=["ours", "released"])
def fitted(request, train):
    return methods.load_method("ravel", request.param, fitted=False).fit(train.view(Needs.SEVERAL_SCANNERS))


def test_control_voxels_are_csf(train):
    """By the truth, not by the histogram that chose them: CSF is the largest fraction in nearly all people."""
    control = Ravel().fit(train.view(Needs.SEVERAL_SCANNERS)).state()["control"].bool()
    assert int(control.sum()) >= 20
    half = Ravel(RavelSettings(share=0.5)).fit(train.view(Needs.SEVERAL_SCANNERS)).state()["control"].bool()
    assert int(half.sum()) > int(control.sum()) and bool((half >= control).all())
    largest = train.tissues.argmax(1)[:, control]
    assert float((largest == 0).float().mean()) > 0.8
    found = darkest_class(train.scans("trio"), train.mask)
    assert bool((found <= train.mask).all()) and 0.05 < float(found.sum() / train.mask.sum()) < 0.5


def test_a_factor_planted_in_images_is_gone_in_held_out_people(cohort):
    """CSF and grey matter brightened by an amount of each session's own; white matter, the standard, is not."""
    generator = torch.Generator().manual_seed(5)
    scans, tissues = cohort.scans("trio"), cohort.tissues
    amounts = 200 * torch.randn(2, len(cohort), generator=generator)
    pattern = tissues[:, :1] + 0.5 * tissues[:, 1:2]
    sessions = [scans + amount[:, None, None, None, None] * pattern * cohort.mask for amount in amounts]
    view = SeveralScanners({f"s{k}": Scans(s[:6], cohort.mask[:6]) for k, s in enumerate(sessions)})
    method = Ravel().fit(view)
    held_out = torch.cat([s[6:] for s in sessions])
    mask = torch.cat([cohort.mask[6:]] * 2)
    truth = torch.cat([tissues[6:]] * 2)
    harmonized = method.harmonize(held_out, mask=mask)

    def effect(images):  # of the amount on grey matter, between a person's two sessions: the anatomy drops out
        grey = torch.tensor([float(i[0][t[1] > 0.8].mean()) for i, t in zip(images, truth, strict=True)])
        difference, planted = grey[:3] - grey[3:], (amounts[0] - amounts[1])[6:]
        return float((difference @ planted) / (planted @ planted))

    # 12 training scans, whose misregistration is in the control voxels too: two thirds go, not all
    assert effect(held_out) > 0.35 and abs(effect(harmonized)) < 0.5 * effect(held_out)


def test_refusals(train, fitted):
    with pytest.raises(ValueError, match=r"found the grid \(40, 48, 39\), wanted \(40, 48, 40\) of the fit"):
        fitted.harmonize(train.scans("trio")[:1, ..., 1:])
    with pytest.raises(ValueError, match="found restored of another shape"):
        Ravel().load_state(fitted.state() | {"restored": torch.zeros(3)})
    nobody = RavelSettings(csf=lambda images, mask: torch.zeros_like(mask))
    with pytest.raises(ValueError, match="control voxels: found 0 that are CSF in 12 of 12 training scans, wanted at"):
        Ravel(nobody).fit(train.view(Needs.SEVERAL_SCANNERS))


def test_the_model_says_its_size(fitted):
    state = fitted.state()
    voxels, control = int(state["mask"].sum()), int(state["control"].sum())
    assert fitted.model.bytes == voxels + 4 * (2 * control + 2 * voxels)
