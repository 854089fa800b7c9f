"""ComBat: neuroCombat's numbers in sample, a closed form out of sample, and what it refuses."""

import contextlib
import io

import numpy as np
import pandas as pd
import pytest
import torch

from harmony_lite import methods
from harmony_lite.cohort import Cohort, Needs, Scans, SeveralScanners
from harmony_lite.methods.classical.combat import ComBat, ComBatSettings
from harmony_lite.methods.classical.combat_table import fit_combat

FEATURES = 200


def features_table(seed=0, samples=60, features=FEATURES):
    """Samples x features with an effect of age and sex, and three scanners' own locations and scales."""
    generator = np.random.default_rng(seed)
    scanners = generator.choice(["trio", "sonata", "vision"], samples)
    age, sex = generator.uniform(20, 80, samples), generator.choice(["female", "male"], samples)
    data = generator.normal(size=(samples, features)) * generator.uniform(0.5, 3, features) + 10
    data += 0.02 * age[:, None] * generator.normal(size=features)
    data += (sex == "male")[:, None] * generator.normal(size=features)
    for name, shift, scale in (("trio", 0, 1), ("sonata", 2, 1.5), ("vision", -1, 0.6)):
        rows = scanners == name
        data[rows] = (data[rows] - 10) * scale * generator.uniform(0.8, 1.2, features) + 10 + shift
        data[rows] += generator.normal(size=features) * 0.3
    return data, scanners, {"sex": sex, "age": age}


def neurocombat(data, scanners, covariates=None, **options):
    """The reference implementation, which takes features x samples and reports on the screen."""
    from neuroCombat import neuroCombat

    covariates = covariates or {}
    kinds = {name: np.asarray(values).dtype.kind in "iuf" for name, values in covariates.items()}
    with contextlib.redirect_stdout(io.StringIO()):
        done = neuroCombat(
            dat=np.array(data, dtype=float).T,
            covars=pd.DataFrame({"scanner": scanners, **covariates}),
            batch_col="scanner",
            categorical_cols=[name for name, is_number in kinds.items() if not is_number],
            continuous_cols=[name for name, is_number in kinds.items() if is_number],
            **options,
        )
    return done["data"].T


@pytest.mark.parametrize("with_covariates", [True, False])
@pytest.mark.parametrize("empirical_bayes", [True, False])
def test_a_features_table_is_neurocombats_in_sample(with_covariates, empirical_bayes):
    data, scanners, covariates = features_table()
    covariates = covariates if with_covariates else None
    ours = fit_combat(data, scanners, covariates, empirical_bayes=empirical_bayes).apply(data, scanners, covariates)
    np.testing.assert_allclose(ours, neurocombat(data, scanners, covariates, eb=empirical_bayes), atol=1e-4)
    assert np.abs(ours - data).max() > 1, "there was something to harmonize"


def test_a_target_scanner_is_neurocombats_in_sample(monkeypatch):
    monkeypatch.setattr(np, "int", int, raising=False)  # its reference batch still asks for what numpy has dropped
    data, scanners, covariates = features_table(1)
    ours = fit_combat(data, scanners, covariates, target="trio").apply(data, scanners, covariates)
    np.testing.assert_allclose(ours, neurocombat(data, scanners, covariates, ref_batch="trio"), atol=1e-4)
    np.testing.assert_allclose(ours[scanners == "trio"], data[scanners == "trio"], atol=1e-5)


def test_fitted_then_applied_is_the_closed_form():
    """No empirical Bayes, no covariates: every scanner's training mean and deviation become the common ones."""
    data, scanners, _ = features_table(2)
    train, held_out = slice(0, 45), slice(45, None)
    model = fit_combat(data[train], scanners[train], empirical_bayes=False)
    applied = model.apply(data[held_out], scanners[held_out])
    names, seen = scanners[train], data[train]
    own = {name: (seen[names == name].mean(0), seen[names == name].var(0, ddof=1)) for name in model.scanners}
    residuals = np.stack([row - own[name][0] for row, name in zip(seen, names, strict=True)])
    mean, deviation = seen.mean(0), np.sqrt((residuals**2).mean(0))
    for row, name, result in zip(data[held_out], scanners[held_out], applied, strict=True):
        wanted = (row - own[name][0]) / np.sqrt(own[name][1]) * deviation + mean
        np.testing.assert_allclose(result, wanted, atol=1e-4)


def test_fitted_then_applied_keeps_the_covariates_effect_and_the_posterior_means():
    """Held-out rows with covariates: least squares and the fixed point of Johnson's two equations, written out."""
    data, scanners, covariates = features_table(3)
    train, held_out = slice(0, 45), slice(45, None)
    part = {name: values[train] for name, values in covariates.items()}
    rest = {name: values[held_out] for name, values in covariates.items()}
    applied = fit_combat(data[train], scanners[train], part).apply(data[held_out], scanners[held_out], rest)

    def columns(rows):
        return np.column_stack([covariates["sex"][rows] == "male", covariates["age"][rows]])

    known = np.array(["sonata", "trio", "vision"])
    one_hot = (scanners[train][:, None] == known).astype(float)
    beta = np.linalg.lstsq(np.hstack([one_hot, columns(train)]), data[train], rcond=None)[0]
    alpha = one_hot.mean(0) @ beta[:3]
    sigma = np.sqrt(((data[train] - np.hstack([one_hot, columns(train)]) @ beta) ** 2).mean(0))
    z = (data[train] - alpha - columns(train) @ beta[3:]) / sigma
    for name in known:
        own = z[scanners[train] == name]
        n, gamma, delta2 = len(own), own.mean(0), own.var(0, ddof=1)
        g_bar, t2, m, s2 = gamma.mean(), gamma.var(ddof=1), delta2.mean(), delta2.var(ddof=1)
        shape, rate = (m**2 + 2 * s2) / s2, (m**3 + m * s2) / s2
        g, d = gamma, delta2
        for _ in range(200):
            g = (n * t2 * gamma + d * g_bar) / (n * t2 + d)
            d = (rate + 0.5 * ((own - g) ** 2).sum(0)) / (n / 2 + shape - 1)
        rows = np.flatnonzero(scanners[held_out] == name)
        expected = alpha + columns(held_out)[rows] @ beta[3:]
        wanted = sigma * ((data[held_out][rows] - expected) / sigma - g) / np.sqrt(d) + expected
        np.testing.assert_allclose(applied[rows], wanted, atol=1e-4)


def test_shrinkage_moves_towards_what_the_scanner_does_everywhere():
    data, scanners, _ = features_table(4, samples=12)
    raw, shrunk = (fit_combat(data, scanners, empirical_bayes=flag) for flag in (False, True))
    assert (shrunk.shift.std(1) < raw.shift.std(1)).all() and (shrunk.scale.std(1) < raw.scale.std(1)).all()
    np.testing.assert_allclose(shrunk.shift.mean(1), raw.shift.mean(1), atol=0.1)


def test_features_that_never_vary_are_left_as_they_are():
    data, scanners, _ = features_table(5)
    data[:, 7] = 0.1
    data[scanners == "trio", 8] = 4.0  # constant on one scanner only
    harmonized = fit_combat(data, scanners).apply(data, scanners)
    assert np.isfinite(harmonized).all()
    np.testing.assert_allclose(harmonized[:, 7], 0.1, rtol=1e-6)


def test_blocks_of_features_do_not_matter(monkeypatch):
    data, scanners, covariates = features_table(6)
    whole = fit_combat(data, scanners, covariates).apply(data, scanners, covariates)
    monkeypatch.setattr("harmony_lite.methods.classical.combat_table._BLOCK", 33)
    np.testing.assert_allclose(fit_combat(data, scanners, covariates).apply(data, scanners, covariates), whole)


def test_the_model_says_its_size():
    data, scanners, covariates = features_table()
    assert fit_combat(data, scanners, covariates).bytes == FEATURES * (2 + 2 * 3 + 2) * 4


def test_refusals_of_the_table():
    data, scanners, covariates = features_table()
    model = fit_combat(data, scanners, covariates)

    def subset(rows):
        return {name: values[rows] for name, values in covariates.items()}

    with pytest.raises(ValueError, match="scanner: found prisma, wanted one seen in the fit: sonata, trio, vision"):
        model.apply(data[:2], ["trio", "prisma"], subset(slice(2)))
    with pytest.raises(ValueError, match="covariates: found none, wanted sex, age"):
        model.apply(data[:2], scanners[:2])
    with pytest.raises(ValueError, match="covariate sex: found other, wanted one of female, male"):
        model.apply(data[:1], scanners[:1], {"sex": ["other"], "age": [40.0]})
    with pytest.raises(ValueError, match="covariate age: found values that are not finite"):
        model.apply(data[:1], scanners[:1], {"sex": ["male"], "age": [np.nan]})
    with pytest.raises(ValueError, match="covariate age: found shape"):
        model.apply(data[:1], scanners[:1], {"sex": ["male"], "age": [40.0, 41.0]})
    with pytest.raises(ValueError, match="found 3 features, wanted the 200 of the fit"):
        model.apply(data[:2, :3], scanners[:2], subset(slice(2)))
    with pytest.raises(ValueError, match="found 2 names, wanted one for each of 60 samples"):
        fit_combat(data, scanners[:2])
    with pytest.raises(ValueError, match="wanted two scanners or more"):
        fit_combat(data, ["trio"] * len(data))
    with pytest.raises(ValueError, match=r"found samples \(a: 1, b: 59\)"):
        fit_combat(data, ["a"] + ["b"] * 59)
    with pytest.raises(ValueError, match="found site confounded with the scanners"):
        fit_combat(data, scanners, {"site": scanners})
    with pytest.raises(ValueError, match="found 1 values that are NaN or infinite"):
        fit_combat(np.where(np.arange(data.size).reshape(data.shape) == 5, np.nan, data), scanners)
    with pytest.raises(ValueError, match="target: found 'prisma', wanted one of sonata, trio, vision"):
        fit_combat(data, scanners, target="prisma")
    with pytest.raises(ValueError, match=r"found shape \(60,\), wanted \(scans, features\)"):
        fit_combat(data[:, 0], scanners)


# ------------------------------------------------------------------------------------------------------- on voxels

SCANNERS = ["oasis_trio", "oasis_vision", "oasis_sonata"]


@pytest.fixture(scope="module")
def cohort():
    return Cohort.simulate(9, SCANNERS, 4.0, seed=11)


@pytest.fixture(scope="module")
def train(cohort):
    return cohort.subset(range(6))


@pytest.fixture(params=["paper", "target"])
def fitted(request, train):
    return methods.load_method("combat", request.param, fitted=False).fit(train.view(Needs.SEVERAL_SCANNERS))


def relative(scans, mask):
    return np.stack(
        [
            (image - np.percentile(image[inside], 1)) / np.diff(np.percentile(image[inside], [1, 99]))
            for image, inside in zip(scans[:, 0].numpy(), mask[:, 0].numpy(), strict=True)
        ]
    )


def test_voxels_are_neurocombats_in_sample(train):
    method = ComBat().fit(train.view(Needs.SEVERAL_SCANNERS))
    common = torch.stack([train.masks(name) for name in SCANNERS]).flatten(0, 2).all(0).numpy()
    table = np.concatenate([relative(train.scans(name), train.masks(name))[:, common] for name in SCANNERS])
    wanted = neurocombat(table, np.repeat(SCANNERS, len(train)))
    low, high = (
        np.mean([np.percentile(i[m], q) for i, m in zip(train.scans("trio"), train.mask, strict=True)]) for q in (1, 99)
    )
    for index, name in enumerate(SCANNERS):
        harmonized = method.harmonize(train.scans(name), scanner=name, mask=train.masks(name))
        ours = (harmonized[:, 0].numpy()[:, common] - low) / (high - low)
        np.testing.assert_allclose(ours, wanted[index * len(train) : (index + 1) * len(train)], atol=1e-4)


def test_held_out_people_come_closer_to_the_target(cohort, fitted):
    """Closer than the same percentile scaling without ComBat, in the common brain and in the whole of it."""
    for held_out in (cohort.subset([person]) for person in (6, 7, 8)):
        target, mask = held_out.scans("trio"), held_out.mask
        wanted = fitted.harmonize(target, scanner="trio", mask=mask) if fitted.settings.keep_target is False else target
        for scanner in SCANNERS[1:]:
            source = held_out.scans(scanner)
            low, high = np.percentile(source[mask], [1, 99])
            goal = np.percentile(target[mask], [1, 99])
            scaled = (source - low) / (high - low) * (goal[1] - goal[0]) + goal[0]
            harmonized = fitted.harmonize(source, scanner=scanner, mask=mask)
            before, after = (
                float((image - aim)[mask].square().mean().sqrt())
                for image, aim in ((scaled, target), (harmonized, wanted))
            )
            assert after < 0.9 * before, (scanner, before, after)


def test_the_target_stays_as_it_is(train):
    method = ComBat(ComBatSettings(keep_target=True)).fit(train.view(Needs.SEVERAL_SCANNERS))
    scans, mask = train.scans("trio"), train.mask
    harmonized = method.harmonize(scans, scanner="trio", mask=mask)
    for image, result, inside in zip(scans, harmonized, mask, strict=True):
        assert np.corrcoef(image[inside], result[inside])[0, 1] > 0.99999


def test_scans_in_another_place_are_refused(train, fitted):
    images = train.scans("trio")[:1]
    with pytest.raises(ValueError, match=r"found the grid \(40, 48, 39\), wanted \(40, 48, 40\) of the fit"):
        fitted.harmonize(images[..., 1:], scanner="trio")
    left = torch.arange(40)[:, None, None] < 20
    nowhere = {
        name: Scans(train.scans(name), train.masks(name) & half)
        for name, half in zip(SCANNERS[:2], (left, ~left), strict=True)
    }
    with pytest.raises(ValueError, match="masks: found 0 voxels inside all of them"):
        ComBat().fit(SeveralScanners(nowhere))


def test_covariates_of_people(cohort, train, tmp_path):
    """Ages and sexes enter the fit, are asked for, and go round the state with their names."""
    people = {"sex": ["f", "m", "d", "f", "m", "d"], "age": train.ages.numpy()}
    method = ComBat().fit(train.view(Needs.SEVERAL_SCANNERS), covariates=people)
    images, mask = cohort.scans("vision")[6:7], cohort.masks("vision")[6:7]
    own = {"sex": ["m"], "age": cohort.ages[6:7].numpy()}
    with pytest.raises(ValueError, match="covariates: found none, wanted sex, age as in the fit"):
        method.harmonize(images, scanner="vision", mask=mask)
    wanted = method.harmonize(images, scanner="vision", mask=mask, covariates=own)
    assert {name for name in method.state() if name.startswith("effect.")} == {
        "effect.sex=d|f",
        "effect.sex=d|m",
        "effect.age",
    }
    again = ComBat().load_state(method.state())
    assert again.model.coding == method.model.coding
    torch.testing.assert_close(again.harmonize(images, scanner="vision", mask=mask, covariates=own), wanted)


def test_parameters_of_another_shape_are_refused(fitted):
    with pytest.raises(ValueError, match="of another shape than the mask"):
        ComBat().load_state(fitted.state() | {"mean": torch.zeros(3)})
