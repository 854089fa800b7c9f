"""The simulator against published figures, on the 2 mm grid, twelve people, one fixed seed.

The functions are those that write the figures which notebook 01 shows (`data_scripts/calibrate_simulator.py`).
"""

import json
from pathlib import Path

import calibrate_simulator as script
import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from harmony_lite.cohort import Cohort
from harmony_lite.simulate import PRESETS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def psnr():
    return script.preset_psnr()


def test_rescan_floor(psnr):
    rescan = psnr["oasis_trio"]
    assert len(rescan) >= 12
    assert 23 <= np.mean(rescan) <= 26, rescan
    assert min(rescan) >= 20 and max(rescan) <= 31, rescan


@pytest.mark.parametrize("scanner", [name for name in PRESETS if name not in ("oasis_trio", "t2_spin_echo")])
def test_every_t1w_preset_lies_between_14_db_and_the_rescan(psnr, scanner):
    mean = np.mean(psnr[scanner])
    assert 14 <= mean <= 26.5 and mean < np.mean(psnr["oasis_trio"]), psnr[scanner]


def test_the_stored_figures_are_those_of_this_simulator(psnr):
    stored = json.loads((ROOT / "harmony_lite/simulate/calibration.quick.json").read_text())
    for scanner, values in psnr.items():
        np.testing.assert_allclose(values, stored["psnr dB"][scanner], atol=0.05, err_msg=scanner)


def test_ageing_rates():
    rates = script.ageing_rates(script.ageing())
    assert rates["GM %/yr"] == pytest.approx(-0.35, rel=0.10)
    assert rates["ventricles ml/yr"] == pytest.approx(0.30, rel=0.20)
    assert rates["cavity spread %"] < 0.5


def test_lesion_load_at_60_to_64():
    load = script.lesion_load()
    assert load["count"] == pytest.approx(20, rel=0.2)
    assert load["ml"] == pytest.approx(4.9, rel=0.2)


def test_people_are_alike_as_people_are():
    figures = script.likeness()
    assert figures["mirror Dice"] < 0.85
    assert figures["lowest label Dice"] > 0.45 and figures["highest label Dice"] < 0.85
    assert figures["smallest Jacobian"] > 0 and figures["smallest Jacobian at 85"] > 0


def test_age_can_be_read_from_volumes_and_from_nothing_else():
    cohort = Cohort.simulate(
        200, ["oasis_trio"], spacing=4.0, seed=script.SEED, ages=np.linspace(20, 85, 200).tolist(), oversampling=1.0
    )
    volumes = cohort.volumes_ml[["GM", "WM", "ventricles", "sulcal CSF"]].to_numpy()
    ages = cohort.ages.numpy()
    model = make_pipeline(StandardScaler(), Ridge(1.0))
    folds = np.random.default_rng(0).permutation(200)

    def error(features, truth):
        return float(np.abs(cross_val_predict(model, features, truth, cv=10) - truth).mean())

    assert error(volumes[folds], ages[folds]) < 8
    assert error(volumes[folds], ages[np.random.default_rng(1).permutation(200)]) > 14
    assert torch.isfinite(cohort.ages).all()
