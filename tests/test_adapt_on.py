"""`harmonize --adapt-on FOLDER`: a method adapts to the scans of a site, or one line says what is wrong with them."""

import nibabel as nib
import numpy as np
import pytest
import torch
from phantoms import SMALL, smaller

from harmony_lite import cli, weights
from harmony_lite.cohort import Cohort, Needs
from harmony_lite.images import nifti
from harmony_lite.methods.own_grid import model_grid
from harmony_lite.papers.harmonizing_flows.harmonizer import HarmonizingFlows
from harmony_lite.papers.harmonizing_flows.settings import settings_of
from harmony_lite.profiles import active


@pytest.fixture(scope="module")
def people():
    return Cohort.simulate(3, ["abide_caltech", "abide_nyu"], spacing=active().spacing, seed=5)


@pytest.fixture(scope="module")
def trained(people, tmp_path_factory):
    """Weights of a method that was fitted for a few steps, on the model's grid."""
    settings = settings_of("ours")
    sizes = SMALL[type(settings)] | {"adaptation": {"stop": "never", "learning_rate": 1e-3, "most_steps": 2}}
    method = HarmonizingFlows(smaller(settings, sizes)).fit(people.view(Needs.TARGET_ONLY), progress=False)
    path = tmp_path_factory.mktemp("weights") / "mine.safetensors"
    facts = {"command": "", "profile": "quick", "data_seed": 5, "minutes": 0.0, "metric": {}, "recipe": {}}
    weights.save(method.state(), path, settings=weights.settings_to_store(method.settings), commit="", **facts)
    return path


def write(path, volume, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(volume[0].numpy(), model_grid()[1] if affine is None else affine), path)
    return path


@pytest.fixture
def site(people, tmp_path):
    """A folder with the scans of two people, and a scan of the third."""
    images = people.scans("abide_nyu") * people.masks("abide_nyu")
    for number in (0, 1):
        write(tmp_path / "site" / f"sub-{number}_T1w.nii.gz", images[number])
    write(tmp_path / "site" / "sub-0_mask.nii.gz", (images[0] > 0).float())  # no scan
    return tmp_path / "site", write(tmp_path / "scan.nii.gz", images[2])


def run(*arguments):
    return cli.main(["harmonize", "--method", "harmonizing-flows", *map(str, arguments)])


def test_an_adapted_scan_is_another_one_and_the_message_says_on_what(site, trained, tmp_path, capsys):
    folder, scan = site
    assert run("--weights", trained, scan, tmp_path / "plain.nii.gz") == 0
    assert "adapted on" not in capsys.readouterr().out
    assert run("--weights", trained, "--adapt-on", folder, scan, tmp_path / "out.nii.gz") == 0
    assert f"adapted on 2 scans of {folder}" in capsys.readouterr().out
    plain, out = (nifti.read(tmp_path / name).volume for name in ("plain.nii.gz", "out.nii.gz"))
    assert out.shape == plain.shape and not torch.equal(out, plain)


def test_a_folder_of_scans_is_adapted_for_once(site, trained, tmp_path, capsys):
    """Two processes give what one gives, and the bar of the adaptation is shown once."""
    folder, scan = site
    assert run("--weights", trained, "--adapt-on", folder, folder, tmp_path / "one") == 0
    assert run("--weights", trained, "--adapt-on", folder, "--jobs", 2, folder, tmp_path / "two") == 0
    assert "2 of 2 scans" in capsys.readouterr().out
    for name in ("sub-0_desc-harmonizingflows_T1w.nii.gz", "sub-1_desc-harmonizingflows_T1w.nii.gz"):
        first, second = (nifti.read(tmp_path / out / name).volume for out in ("one", "two"))
        assert torch.allclose(first, second, atol=1e-3)


def test_scans_that_nothing_can_be_adapted_on_are_refused(site, trained, tmp_path, capsys):
    folder, scan = site
    out = tmp_path / "out.nii.gz"
    asked = ("--weights", trained, scan, out)

    def complaint(where):
        assert run("--adapt-on", where, *asked) == 2 and not out.exists()
        return capsys.readouterr().err

    assert "found no such folder" in complaint(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "found 0 scans, wanted two of the site or more" in complaint(tmp_path / "empty")
    volume = nifti.read(scan).volume[0]
    one = tmp_path / "single"
    write(one / "a.nii.gz", volume)
    assert "found 1 scans, wanted two" in complaint(one)
    write(one / "b.nii.gz", volume[:, ::2, ::2, ::2], model_grid()[1] @ np.diag([2.0, 2, 2, 1]))
    assert "found scans of 2 grids" in complaint(one)
    (one / "b.nii.gz").write_bytes(b"no scan")
    assert "b.nii.gz" in complaint(one)


def test_a_method_that_does_not_adapt_says_so(site, tmp_path, capsys):
    folder, scan = site
    found = cli.main(
        ["harmonize", "--method", "affine-match", "--adapt-on", str(folder), str(scan), str(tmp_path / "o.nii.gz")]
    )
    assert found == 2 and "affine-match does not adapt" in capsys.readouterr().err
