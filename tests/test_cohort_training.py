"""`harmony-lite train`: from a folder of scans to weights of one's own, and back to harmonized files."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from harmony_lite import cli, weights
from harmony_lite.cohort import Cohort
from harmony_lite.images import nifti
from harmony_lite.papers.mispel.settings import SIZES, MispelSettings

SCANNERS = ("mispel_ge", "mispel_trio")
SMALL = MispelSettings(width=2, epochs=(2, 1), slices=4)


def run(*arguments):
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """Five people on two scanners; one of these gets a name that no preset has."""
    folder = tmp_path_factory.mktemp("cohort")
    Cohort.simulate(5, SCANNERS, spacing=(5.0, 4.0, 5.0), seed=5).to_files(folder)
    for session in folder.glob("sub-*/ses-mispeltrio"):
        for path in session.glob("anat/*"):
            path.rename(path.with_name(path.name.replace("mispeltrio", "upstairs")))
        session.rename(session.with_name("ses-upstairs"))
    return folder


@pytest.fixture
def own(simulated, tmp_path, monkeypatch):
    """The folder, where weights and checkpoints are kept apart, and trainings that take seconds."""
    monkeypatch.setenv("HARMONY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(SIZES, "quick", SMALL)
    monkeypatch.setattr("harmony_lite.papers.mispel.harmonizer.without_field", lambda images, mask: images)
    folder = tmp_path / "cohort"
    shutil.copytree(simulated, folder)
    return folder


def scan_of(folder, person="sub-005", session="upstairs"):
    return next((folder / person / f"ses-{session}" / "anat").glob("*_T1w.nii.gz"))


def test_own_weights_are_kept_and_taken(own, tmp_path, capsys):
    assert run("train", "mispel", "--cohort", own) == 0
    printed = capsys.readouterr().out.splitlines()
    path = tmp_path / "cache" / "weights" / "mispel.ours.quick.safetensors"
    assert printed[0] == f"{path}: mispel, variant ours, on 4 people and mispel_ge, upstairs"
    assert [line.split(":")[0] for line in printed[1:]] == [
        f"people held out, difference between scanners {when}, %" for when in ("before", "after")
    ]
    state, card = weights.load(path)
    assert {name.partition("/")[0] for name in state} == {"mispel_ge", "upstairs", "unit", "grid"}
    assert card.recipe["people"] == 4 and card.recipe["people held out"] == 1 and len(card.metric) == 2
    assert not list((tmp_path / "cache" / "training").glob("*"))  # a finished training leaves no checkpoint
    out, scan = tmp_path / "out.nii.gz", scan_of(own)
    assert run("harmonize", "--method", "mispel", "--scanner", "upstairs", scan, out) == 0
    found, source = nifti.read(out), nifti.read(scan)
    assert found.volume.shape == source.volume.shape and np.array_equal(found.affine, source.affine)
    method = cli_method(path)
    mask = Cohort.from_files(own).subset([4]).mask
    wanted = method.harmonize(source.volume, scanner="upstairs", mask=None)
    assert np.allclose(found.volume, wanted, atol=1e-2) and bool(mask.any())


def cli_method(path):
    from harmony_lite.methods import load_method

    return load_method("mispel", fitted=False).load(path)


def test_weights_of_a_file(own, tmp_path, capsys):
    out = tmp_path / "own.safetensors"
    assert run("train", "mispel", "--cohort", own, "--out", out, "--held-out", 0, "--variant", "paper") == 0
    assert "on 5 people" in capsys.readouterr().out and json.loads(out.with_suffix(".json").read_text())["metric"] == {}
    call = ["harmonize", "--method", "mispel", "--variant", "paper", "--weights", out]
    assert run(*call, "--scanner", "mispel_ge", scan_of(own, session="mispelge"), tmp_path / "a.nii") == 0
    capsys.readouterr()
    assert run(*call, "--scanner", "downstairs", scan_of(own), tmp_path / "b.nii") == 2
    said = capsys.readouterr().err
    assert "found 'downstairs', wanted one that mispel was fitted to: mispel_ge, upstairs" in said
    assert said.count("\n") == 1 and not (tmp_path / "b.nii").exists()
    assert run(*call, scan_of(own), tmp_path / "b.nii") == 2
    assert "scanner: found none" in capsys.readouterr().err


def test_somebody_is_held_out_of_three(own, tmp_path, capsys):
    for person in ("sub-001", "sub-002"):
        shutil.rmtree(own / person)
    assert run("train", "mispel", "--cohort", own, "--out", tmp_path / "own.safetensors") == 0
    printed = capsys.readouterr().out
    assert "on 2 people" in printed and "people held out, difference between scanners after" in printed


def test_the_same_training_twice_gives_the_same_weights(own, tmp_path):
    files = [tmp_path / f"{name}.safetensors" for name in "ab"]
    for file in files:
        assert run("train", "mispel", "--cohort", own, "--out", file) == 0
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_method_without_steps_is_fitted_too(own, tmp_path, capsys):
    assert run("train", "histogram-matching", "--cohort", own, "--target", "upstairs", "--held-out", 0) == 0
    assert "on 5 people and upstairs, mispel_ge" in capsys.readouterr().out
    out = tmp_path / "out.nii.gz"
    assert run("harmonize", "--method", "histogram-matching", scan_of(own, session="mispelge"), out) == 0


def refused(capsys, tmp_path, *arguments):
    """What is said, in one line, with exit status 2 and no weights."""
    assert run("train", "mispel", *arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("harmony-lite: error: ") and said.count("\n") == 1
    assert not list(tmp_path.rglob("*.safetensors"))
    return said


def test_unpaired_people_are_refused(own, tmp_path, capsys):
    scan_of(own, "sub-002").unlink()
    said = refused(capsys, tmp_path, "--cohort", own)
    assert "several scanners of the same people: found 3 of 4 subjects on every scanner, wanted all" in said


def test_one_scanner_is_refused(own, tmp_path, capsys):
    for session in own.glob("sub-*/ses-upstairs"):
        shutil.rmtree(session)
    assert "found one scanner (mispel_ge), wanted at least two" in refused(capsys, tmp_path, "--cohort", own)


def test_other_grids_are_refused(own, tmp_path, capsys):
    path = scan_of(own, "sub-002")
    image = nib.load(path)
    shifted = image.affine.copy()
    shifted[0, 3] += 3
    nib.save(nib.Nifti1Image(image.get_fdata().astype(np.float32), shifted), path)
    said = refused(capsys, tmp_path, "--cohort", own)
    assert "sub-002: found scans of mispel_ge and upstairs on different grids" in said
    nib.save(nib.Nifti1Image(image.get_fdata()[:-1].astype(np.float32), image.affine), path)
    assert "grid" in refused(capsys, tmp_path, "--cohort", own)


def test_what_cannot_be_trained_on_is_refused(own, tmp_path, capsys):
    assert "found no such folder" in refused(capsys, tmp_path, "--cohort", tmp_path / "nowhere")
    assert "--held-out: found 5 of 5 people" in refused(capsys, tmp_path, "--cohort", own, "--held-out", 5)
    assert "wanted NAME.safetensors" in refused(capsys, tmp_path, "--cohort", own, "--out", tmp_path / "a.pt")
    assert "scanner: found 'downstairs'" in refused(capsys, tmp_path, "--cohort", own, "--target", "downstairs")
    assert "variant of mispel: found 'mine'" in refused(capsys, tmp_path, "--cohort", own, "--variant", "mine")
