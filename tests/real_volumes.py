"""The real volumes, the methods that need no training on them, and what each result owes: geometry, record, detail."""

import hashlib
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from harmony_lite import cli
from harmony_lite.cohort import Needs
from harmony_lite.images import nifti
from harmony_lite.images.intake import take_in
from harmony_lite.methods import method_class, names
from harmony_lite.own_scans.quality import detail_kept

FOLDER = Path(os.environ.get("HARMONY_REAL_DATA") or Path(__file__).parents[2] / "shared" / "data")
NEEDED = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no real scans at {FOLDER}: HARMONY_REAL_DATA names them")

# a scan, and another one of its contrast and kind
BRAINS = {
    "ds002748_sub-52/sub-52_T1w.nii.gz": "open_ms_patient26/T1.nii.gz",
    "open_ms_patient26/T1.nii.gz": "ds002748_sub-52/sub-52_T1w.nii.gz",
    "open_ms_patient26/FLAIR.nii.gz": "open_ms_patient26/T1.nii.gz",  # there is no other one without its skull
}
HEADS = {
    "ds011_sub-01/sub-01_T1w.nii.gz": "pumi_sub-001/sub-001_T1w.nii.gz",
    "pumi_sub-001/sub-001_T1w.nii.gz": "open_ms_patient01/study1_T1W.nii.gz",
    **{
        f"open_ms_patient01/{study}_{kind}.nii.gz": f"open_ms_patient01/{other}_{kind}.nii.gz"
        for kind in ("T1W", "T2W", "FLAIR")
        for study, other in (("study1", "study2"), ("study2", "study1"))
    },
}
BLIND = [
    name
    for name in names()
    if (cls := method_class(name)).needs is Needs.TARGET_ONLY or cls.reference_is_enough or cls.takes_reference
]
BENT = ("histogram-matching", "nyul")  # one curve for an image, which is not straight
CURVES = [name for name in BLIND if not method_class(name).is_trained and not method_class(name).on_template_grid]


def harmonized(tmp_path, capsys, method, name, reference):
    """Status, what was said, and the result's path."""
    out = tmp_path / "out.nii"
    cls = method_class(method)
    asked = ["--reference", str(FOLDER / reference)] if cls.reference_is_enough or cls.takes_reference else []
    if method == "ncc-ascent":
        asked = []  # with a reference it wants scans of one grid
    status = cli.main(["harmonize", "--method", method, *asked, str(FOLDER / name), str(out)])
    return status, capsys.readouterr(), out


def check(name, out, least):
    result, original = nib.load(out), nib.load(FOLDER / name)
    assert result.shape == original.shape and result.get_data_dtype() == np.float32
    np.testing.assert_array_equal(result.affine, original.affine)
    for field in ("qform_code", "sform_code", "xyzt_units", "descrip", "pixdim"):
        np.testing.assert_array_equal(result.header[field], original.header[field], err_msg=field)
    assert np.isfinite(np.asarray(result.dataobj)).all()
    own = json.loads(out.with_suffix(".json").read_text())["HarmonyLite"]
    assert own["output_sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert own["identity"]["input_sha256"] == hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()
    scan = nifti.read(FOLDER / name)
    taken = take_in(scan.volume)
    images = taken.images, nifti.read_map(out).volume
    kept = detail_kept(*images, taken.mask)
    print(f"\ndetail kept: {own['identity']['method']} {name} {kept:.3f} {own['warnings']}")
    if own["identity"]["method"] in BENT:
        # its slope differs from one intensity to the next, and so does what becomes of an edge (0.68 to 0.99 here);
        # that no edge was lost is seen once each intensity is replaced by its rank
        kept = detail_kept(*(ranked(image, taken.mask) for image in images), taken.mask)
        print(f"by ranks: {kept:.3f}")
    assert kept >= least
    return own["warnings"]


def ranked(image, mask):
    """Each value inside a mask replaced by its rank, equal values by their mean rank; 0 outside."""
    result = torch.zeros_like(image)
    result[mask] = torch.from_numpy(rankdata(image[mask].numpy())).float()
    return result
