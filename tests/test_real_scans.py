"""Real scans in and out, through the command line.

The three first methods on each T1w of the real-data folder, and BlindHarmony on a skull-stripped one.
"""

import os
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from harmony_lite import cli
from harmony_lite.evaluate.measuring import histogram_distances
from harmony_lite.evaluate.metrics import ncc
from harmony_lite.images import nifti
from harmony_lite.images.edges import canny
from harmony_lite.images.normalize import foreground

FOLDER = Path(os.environ.get("HARMONY_REAL_DATA") or Path(__file__).parents[2] / "shared" / "data")
SCANS = {
    "ds002748": "ds002748_sub-52/sub-52_T1w.nii.gz",
    "ds011": "ds011_sub-01/sub-01_T1w.nii.gz",
    "pumi": "pumi_sub-001/sub-001_T1w.nii.gz",
    "open_ms_study1": "open_ms_patient01/study1_T1W.nii.gz",
    "open_ms_study2": "open_ms_patient01/study2_T1W.nii.gz",
    "open_ms_26": "open_ms_patient26/T1.nii.gz",
}
# like with like: the two skull-stripped scans are each other's reference, the whole heads follow in a ring
REFERENCES = {
    "ds002748": "open_ms_26",
    "open_ms_26": "ds002748",
    "ds011": "pumi",
    "pumi": "open_ms_study1",
    "open_ms_study1": "open_ms_study2",
    "open_ms_study2": "ds011",
}


def test_no_t1w_of_the_folder_is_left_out():
    there = {path.relative_to(FOLDER).as_posix() for path in FOLDER.glob("*/*T1*.nii*")}
    assert there == set(SCANS.values())


pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(),
    reason=f"no real scans at {FOLDER}: name their folder in HARMONY_REAL_DATA",
)


@pytest.mark.parametrize("method", ["histogram-matching", "affine-match", "percentile"])
@pytest.mark.parametrize("name", SCANS)
def test_a_real_scan_in_and_out(tmp_path, capsys, name, method):
    source, reference = FOLDER / SCANS[name], FOLDER / SCANS[REFERENCES[name]]
    out = tmp_path / "harmonized.nii"
    call = ["harmonize", "--method", method, "--reference", str(reference), str(source), str(out)]
    assert cli.main(call) == 0, capsys.readouterr().err

    result, original, target = nib.load(out), nib.load(source), nib.load(reference)
    assert result.shape == original.shape
    np.testing.assert_array_equal(result.affine, original.affine)
    assert nib.aff2axcodes(result.affine) == nib.aff2axcodes(original.affine)
    for field in ("qform_code", "sform_code", "xyzt_units", "descrip", "pixdim"):
        np.testing.assert_array_equal(result.header[field], original.header[field], err_msg=field)
    np.testing.assert_array_equal(result.get_qform(), original.get_qform())
    np.testing.assert_array_equal(result.get_sform(), original.get_sform())
    assert result.get_data_dtype() == np.float32

    values, before = np.asarray(result.dataobj), np.asarray(original.dataobj)
    assert np.isfinite(values).all()
    ceiling = np.percentile(target.get_fdata()[target.get_fdata() > 0], 99)
    assert 0.4 < np.percentile(values[values > 0], 99) / ceiling < 2.5, "the target's units"
    # each method is one non-decreasing curve, so voxels keep their order, whatever the orientation of the file
    sample = np.random.default_rng(0).choice(before.size, 20_000, replace=False)
    sample = sample[before.flat[sample] != 0]
    order = np.argsort(before.flat[sample], kind="stable")
    assert np.all(np.diff(values.flat[sample][order]) >= -1e-2)


def test_blindharmony_keeps_geometry_and_native_detail(tmp_path, capsys):
    source, out = FOLDER / SCANS["open_ms_26"], tmp_path / "harmonized.nii"
    assert cli.main(["harmonize", "--method", "blindharmony", str(source), str(out)]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert re.search(r"by blindharmony, variant ours, weights blindharmony\.ours\.\w+ \(sha256 [0-9a-f]{12}\)$", said)

    result, original = nib.load(out), nib.load(source)
    assert result.shape == original.shape and result.get_data_dtype() == np.float32
    np.testing.assert_array_equal(result.affine, original.affine)
    for field in ("qform_code", "sform_code", "xyzt_units", "descrip", "pixdim"):
        np.testing.assert_array_equal(result.header[field], original.header[field], err_msg=field)

    values, before = result.get_fdata(), original.get_fdata()
    brain = before != 0
    assert np.isfinite(values).all() and not values[~brain].any()
    # to the target's units: about three times those of this scan, so that an unchanged one would not pass
    assert np.median(values[brain]) > 2 * np.median(before[brain])
    deep = ndimage.binary_erosion(brain, iterations=3)  # the step at the rim is no detail
    fine = [(image - ndimage.gaussian_filter(image, 1.5))[deep] for image in (values, before)]
    assert np.corrcoef(*fine)[0, 1] > 0.95
    gains = np.sqrt(np.square(fine[0]).mean() / np.square(fine[1]).mean()) / (values[deep].std() / before[deep].std())
    assert gains == pytest.approx(1, abs=0.1), "detail grew as the contrast did"


def test_hail_takes_one_real_scan_to_another(tmp_path, capsys):
    """Skull-stripped scans of two people and two scanners; the histogram comes nearer, the anatomy stays."""
    source, reference = FOLDER / SCANS["ds002748"], FOLDER / SCANS["open_ms_26"]
    out = tmp_path / "harmonized.nii.gz"
    call = ["harmonize", "--method", "hail", "--reference", str(reference), str(source), str(out)]
    assert cli.main(call) == 0, capsys.readouterr().err
    assert re.search(r"by hail, variant ours, weights .*, to .*T1\.nii\.gz$", capsys.readouterr().out)
    result, original = nib.load(out), nib.load(source)
    assert result.shape == original.shape
    np.testing.assert_array_equal(result.affine, original.affine)
    scan, image, target = (nifti.read(path).volume for path in (source, out, reference))
    brain = foreground(scan)
    distances = histogram_distances(scan, image, target, brain)
    print(f"\nreal scan to real scan by HAIL: {distances}")
    assert distances["nWD(t,p)"] < 80 < distances["nWD(i,p)"]
    assert float(ncc(image, scan, brain)) > 0.97


def test_style_transfer_takes_a_reference_of_another_grid(tmp_path, capsys):
    """Scan and reference both go to the model's grid; the scan comes back with its own voxels and detail."""
    source, reference = FOLDER / SCANS["ds002748"], FOLDER / SCANS["open_ms_26"]
    out = tmp_path / "harmonized.nii.gz"
    call = ["harmonize", "--method", "style-transfer", "--reference", str(reference), str(source), str(out)]
    assert cli.main(call) == 0, capsys.readouterr().err
    scan, image, target = (nifti.read(path).volume for path in (source, out, reference))
    brain = foreground(scan)
    assert image.shape == scan.shape and bool(image.isfinite().all()) and not image[~brain].any()
    assert float(ncc(image, scan, brain)) > 0.9
    assert 0.5 < float(image[brain].median() / target[foreground(target)].median()) < 2, "the reference's units"


def test_gz_in_and_out(tmp_path):
    source, reference = FOLDER / SCANS["pumi"], FOLDER / SCANS["ds011"]
    plain, packed = tmp_path / "a.nii", tmp_path / "a.nii.gz"
    for out in (plain, packed):
        assert (
            cli.main(["harmonize", "--method", "percentile", "--reference", str(reference), str(source), str(out)]) == 0
        )
    np.testing.assert_array_equal(np.asarray(nib.load(plain).dataobj), np.asarray(nib.load(packed).dataobj))
    assert packed.stat().st_size < plain.stat().st_size


@pytest.mark.parametrize("name", ["ds002748", "pumi"])
def test_edges_of_a_real_scan(name):
    """Eight per cent of the voxels of the box around what is there: one skull-stripped scan, one whole head."""
    volume = nifti.read(FOLDER / SCANS[name]).volume[0, 0]
    places = torch.nonzero(foreground(volume[None, None])[0, 0])
    box = tuple(slice(int(a), int(b) + 1) for a, b in zip(places.amin(0), places.amax(0), strict=True))
    edges = canny(volume[box])
    assert float(edges.float().mean()) == pytest.approx(0.08, abs=0.003)
