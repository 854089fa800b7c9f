"""Every method, fitted on a folder whose scanners have names of its user's own, and applied, by the command line."""

import nibabel as nib
import numpy as np
import phantoms
import pytest

from harmony_lite import cli, weights
from harmony_lite.cohort import Cohort
from harmony_lite.methods import method_class, names

pytestmark = pytest.mark.filterwarnings("ignore:no pixel of any source is flat")
SITES = {"oasistrio": "siteA", "oasisvision": "siteB"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five people on two scanners that no preset is called by."""
    folder = tmp_path_factory.mktemp("cohort")
    Cohort.simulate(5, ["oasis_trio", "oasis_vision"], spacing=(5.0, 4.0, 5.0), seed=8).to_files(folder)
    for old, new in SITES.items():
        for session in folder.glob(f"sub-*/ses-{old}"):
            for path in session.glob("anat/*"):
                path.rename(path.with_name(path.name.replace(old, new)))
            session.rename(session.with_name(f"ses-{new}"))
    return folder


@pytest.mark.parametrize("name", names())
def test_train_on_ones_own_scanners_and_harmonize_by_them(name, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HARMONY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("harmony_lite.own_scans.training.load_method", lambda n, v, fitted: phantoms.small(n, v))
    own, out = tmp_path / "own.safetensors", tmp_path / "out.nii.gz"

    def run(*arguments):
        status = cli.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert status == 0, said.err
        return said.out

    assert f"{own}: {name}, variant" in run("train", name, "--cohort", folder, "--out", own)
    assert weights.read_card(own).recipe["scanners"] == ["siteA", "siteB"]
    scan = folder / "sub-005/ses-siteB/anat/sub-005_ses-siteB_T1w.nii.gz"
    said = run("harmonize", "--method", name, "--weights", own, "--scanner", "siteB", scan, out)
    assert f"by {name}, variant {method_class(name).variants[0]}, weights own (sha256 " in said
    before, after = nib.load(scan), nib.load(out)
    assert after.shape == before.shape and np.array_equal(after.affine, before.affine)
    brain = before.get_fdata() > 0
    values = after.get_fdata()
    assert np.isfinite(values).all() and values[brain].std() > 0 and not values[~brain].any()


def test_a_scan_elsewhere_than_those_of_the_training_is_refused(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HARMONY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("harmony_lite.own_scans.training.load_method", lambda n, v, fitted: phantoms.small(n, v))
    own = tmp_path / "own.safetensors"
    assert cli.main(["train", "blindharmony", "--cohort", str(folder), "--out", str(own)]) == 0
    image = nib.load(folder / "sub-005/ses-siteA/anat/sub-005_ses-siteA_T1w.nii.gz")
    moved = image.affine.copy()
    moved[0, 3] += 7
    nib.save(nib.Nifti1Image(image.get_fdata(), moved), tmp_path / "moved.nii.gz")
    capsys.readouterr()
    call = ["harmonize", "--method", "blindharmony", "--weights", own, tmp_path / "moved.nii.gz", tmp_path / "o.nii.gz"]
    assert cli.main([str(part) for part in call]) == 2
    assert "wanted 32x48x32 where the scans of the training lay" in capsys.readouterr().err
