"""The report on two real protocols of one patient: whatever the methods do, it is measured and shown."""

import os
from pathlib import Path

import numpy as np
import prepare_open_ms
import pytest

from harmony_lite.cohort import Cohort, Needs
from harmony_lite.evaluate.report import report, summary
from harmony_lite.ledger import real_pair
from harmony_lite.methods import load_method
from harmony_lite.papers.mispel.harmonizer import Mispel
from harmony_lite.papers.mispel.tone_curve import ToneCurve

ROOT = Path(__file__).parents[1]
REAL = Path(os.environ.get("HARMONY_REAL_DATA") or ROOT.parent / "shared" / "data") / "open_ms_patient01"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    if not REAL.is_dir():
        pytest.skip(f"no real volumes in {REAL.parent}")
    folder = tmp_path_factory.mktemp("open_ms") / "bids"
    prepare_open_ms.prepare(REAL, folder)
    return Cohort.from_files(folder).with_target("study1")


def test_the_pair_is_one_cohort(pair):
    assert pair.scanners == ("study1", "study2") and len(pair) == 1
    assert pair.scans("study1").shape == pair.scans("study2").shape == pair.mask.shape


@pytest.mark.parametrize("name", ["affine-match", "histogram-matching", "percentile"])
def test_the_report_shows_what_a_method_changes(pair, name, capsys):
    """One reference, the patient's other study: the best that a curve of this kind could do."""
    method = load_method(name, fitted=False).fit(pair.view(Needs.ONE_REFERENCE))
    table = summary(report(method, pair, measures=["psnr", "ncc", "wasserstein"], beside=True))
    print(f"\n{name}\n{table.round(4)}")
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("source", "percentile", "harmonized", "psnr", "ncc", "wasserstein"))
    assert set(table.index) == {("study2", row) for row in ("source", "percentile", "harmonized")}
    assert list(table.columns) == ["psnr", "ncc", "wasserstein"]
    source, harmonized = (table.loc[("study2", row)] for row in ("source", "harmonized"))
    assert np.isfinite(table.to_numpy()).all()
    assert harmonized["wasserstein"] < source["wasserstein"]  # each of the three fits the distribution by construction
    if name != "histogram-matching":
        assert harmonized["ncc"] == pytest.approx(source["ncc"], abs=1e-6)  # a straight line leaves NCC as it is


def test_methods_for_pairs_are_measured_on_slices_that_they_have_not_seen(monkeypatch):
    """On a simulated patient under two protocols; where nothing is trained, the result is that of the very scans."""
    monkeypatch.setattr(real_pair, "TARGET", "mispel_ge")
    monkeypatch.setattr(real_pair, "SOURCE", "mispel_trio")
    cohort = Cohort.simulate(1, ("mispel_ge", "mispel_trio"), spacing=(5.0, 4.0, 2.5), seed=3, ages=[78])
    lesions = cohort.lesion_fractions > 0.1
    seen = []

    def recorded(fit):
        def wrapper(self, view, **options):
            seen.append([scans.images.shape[-1] for scans in view.scanners.values()])
            return fit(self, view, **options)

        return wrapper

    for cls in (Mispel, ToneCurve):
        monkeypatch.setattr(cls, "fit", recorded(cls.fit))
    found = list(real_pair.measure_on_other_slices(cohort, lesions, steps=2))
    rows = {(one.row, one.measure): one.value for one in found}
    wanted = {"source, after N4", *real_pair.BLURS, "tone-curve", "mispel (paper)", "mispel (ours)"}
    assert {row for row, _ in rows} == wanted
    by_width = [rows[row, "ssim"] for row in ("source, after N4", *real_pair.BLURS)]
    assert by_width == sorted(by_width)  # a blur makes two scans of one head more alike
    assert {one.place for one in found} == {real_pair.ON_OTHER_SLICES} and np.isfinite(list(rows.values())).all()
    occupied = int(cohort.mask.flatten(0, 3).any(0).sum())
    assert seen == [[occupied // 2] * 2] * 3  # every other height
    assert rows["tone-curve", "psnr"] > rows["source, after N4", "psnr"]
