"""Two studies of one patient on one grid: on a made-up patient whose answer is known, and on the real one."""

import os
from pathlib import Path

import nibabel
import numpy as np
import prepare_open_ms as script
import pytest
import SimpleITK

ROOT = Path(__file__).parents[1]
REAL = Path(os.environ.get("HARMONY_REAL_DATA") or ROOT.parent / "shared" / "data") / "open_ms_patient01"


def anatomy(points):
    """A smooth head, lopsided in every direction; `points` (..., 3) in mm, values 0..300."""
    centres = np.array([[0, 0, 0], [14, 6, -4], [-9, 16, 8], [4, -18, 10]])
    widths, heights = np.array([18, 7, 8, 6]), np.array([120, 110, 90, 140])
    distances = ((points[..., None, :] - centres) ** 2).sum(-1)
    return (heights * np.exp(-distances / (2 * widths**2))).sum(-1)


def points_of(image):
    """Physical coordinates of all voxels, (z, y, x, 3), mm."""
    z, y, x = np.meshgrid(*(np.arange(size) for size in image.GetSize()[::-1]), indexing="ij")
    index = np.stack([x, y, z], -1) * np.array(image.GetSpacing())
    return index @ np.array(image.GetDirection()).reshape(3, 3).T + np.array(image.GetOrigin())


def grid(size, spacing, origin, direction=(1, 0, 0, 0, 1, 0, 0, 0, 1)):
    image = SimpleITK.Image(*size, SimpleITK.sitkFloat32)
    image.SetSpacing(spacing), image.SetOrigin(origin), image.SetDirection(direction)
    return image


def filled(image, values, kind):
    made = SimpleITK.Cast(SimpleITK.GetImageFromArray(values), kind)
    made.CopyInformation(image)
    return made


def undone(transform, points):
    """The points that `transform` brings to `points`."""
    matrix = np.array(transform.GetMatrix()).reshape(3, 3)
    centre = np.array(transform.GetCenter())
    return (points - centre - np.array(transform.GetTranslation())) @ np.linalg.inv(matrix).T + centre


@pytest.fixture
def patient(tmp_path):
    """Studies tilted and shifted by transforms that do not commute, each with its own grid and brightness."""
    folder = tmp_path / "patient"
    folder.mkdir()
    common = grid((60, 64, 30), (1.1, 1.1, 2.5), (-32.0, -34.0, -36.0))
    head = anatomy(points_of(common))
    SimpleITK.WriteImage(filled(common, np.zeros_like(head), SimpleITK.sitkUInt8), folder / "gt.nii.gz")
    brain = filled(common, (head > 60).astype(float), SimpleITK.sitkInt16)
    SimpleITK.WriteImage(brain, folder / "brainmask_common_space.nii.gz")
    own_grids = {
        "study1": grid((72, 80, 34), (1.0, 1.0, 2.4), (34.0, 38.0, -40.0), (-1, 0, 0, 0, -1, 0, 0, 0, 1)),
        "study2": grid((64, 64, 64), (1.3, 1.3, 1.4), (-40.0, -40.0, -42.0)),
    }
    for study, sign, gain in (("study1", 1, 1.0), ("study2", -1, 2.5)):
        to_flair = SimpleITK.Euler3DTransform((0, 0, 0), 0.15 * sign, -0.1, 0.2, (4.0 * sign, -3.0, 2.0))
        to_t1w = SimpleITK.Euler3DTransform((5, 0, 0), -0.1, 0.2 * sign, 0.1, (-2.0, 5.0 * sign, 1.0))
        SimpleITK.WriteTransform(to_flair, folder / f"{study}_FLAIR_to_common_space.txt")
        SimpleITK.WriteTransform(to_t1w, folder / f"{study}_T1W_intrastudy_to_FLAIR.txt")
        own = points_of(own_grids[study])
        values = gain * anatomy(undone(to_flair, undone(to_t1w, own)))
        SimpleITK.WriteImage(
            filled(own_grids[study], values.round(), SimpleITK.sitkUInt16), folder / f"{study}_T1W.nii.gz"
        )
    return folder, head.transpose(2, 1, 0)


def test_both_studies_come_to_the_known_place(patient, tmp_path):
    folder, head = patient
    written = script.prepare(folder, tmp_path / "out")
    reference = nibabel.load(folder / "gt.nii.gz")
    for path, gain in zip(written, (1.0, 2.5), strict=True):
        scan = nibabel.load(path)
        mask = nibabel.load(str(path).replace("_T1w", "_desc-brain_mask"))
        assert scan.shape == mask.shape == reference.shape
        assert scan.get_data_dtype() == np.float32 and mask.get_data_dtype() == np.uint8
        np.testing.assert_allclose(scan.affine, reference.affine, atol=1e-4)
        np.testing.assert_allclose(mask.affine, scan.affine, atol=1e-6)
        inside = np.asanyarray(mask.dataobj) == 1
        assert inside.sum() > 0.9 * (head > 60).sum()
        # interpolation and rounding cost a few grey levels of 300; the transforms in the wrong order cost over 100
        assert np.abs(scan.get_fdata() / gain - head)[inside].max() < 5


def test_the_layout_is_as_bids_has_it(patient, tmp_path):
    out = tmp_path / "out"
    script.prepare(patient[0], out)
    stems = [f"sub-patient01/ses-{study}/anat/sub-patient01_ses-{study}" for study in ("study1", "study2")]
    wanted = {f"{stem}_{kind}.nii.gz" for stem in stems for kind in ("T1w", "desc-brain_mask")}
    found = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert found == wanted | {"participants.tsv", "dataset_description.json"}
    assert (out / "participants.tsv").read_text().splitlines() == [
        "participant_id\tage\tsex",
        "sub-patient01\tn/a\tn/a",
    ]


def test_the_mask_ends_where_a_field_of_view_ends(patient, tmp_path):
    folder, _ = patient
    path = folder / "study2_T1W.nii.gz"
    image = SimpleITK.ReadImage(path)
    SimpleITK.WriteImage(image[:, :, :34], path)  # the top is not scanned
    script.prepare(folder, tmp_path / "out")
    (first, second) = sorted((tmp_path / "out").rglob("*_desc-brain_mask.nii.gz"))
    mask = np.asanyarray(nibabel.load(first).dataobj)
    assert np.array_equal(mask, np.asanyarray(nibabel.load(second).dataobj))
    brain = np.asanyarray(nibabel.load(folder / "brainmask_common_space.nii.gz").dataobj)
    assert 0.2 * brain.sum() < mask.sum() < 0.8 * brain.sum()
    scan = nibabel.load(next((tmp_path / "out").rglob("*study2_T1w.nii.gz"))).get_fdata()
    assert (scan[mask == 1] > 0).all()


def break_mask_grid(folder):
    path = folder / "brainmask_common_space.nii.gz"
    SimpleITK.WriteImage(SimpleITK.ReadImage(path)[:, :, 1:], path)


def empty_mask(folder):
    path = folder / "brainmask_common_space.nii.gz"
    SimpleITK.WriteImage(SimpleITK.ReadImage(path) * 0, path)


def cut(name, kept):
    """Damage that leaves the first `kept` part of a file."""

    def damage(folder):
        path = folder / name
        path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])

    return damage


def remove_two(folder):
    (folder / "study2_T1W.nii.gz").unlink()
    (folder / "study1_FLAIR_to_common_space.txt").unlink()


@pytest.mark.parametrize(
    ("damage", "kind", "message"),
    [
        (remove_two, FileNotFoundError, "found 6 of 8 files, wanted also study1_FLAIR_to_common_space.txt, study2_T1W"),
        (break_mask_grid, ValueError, r"found a grid of \(60, 64, 29\) at .* wanted that of gt.nii.gz, \(60, 64, 30\)"),
        (empty_mask, ValueError, "found no brain voxel that both studies reach"),
        (lambda f: (f / "study1_T1W.nii.gz").write_bytes(b"no"), ValueError, "study1_T1W.nii.gz: .* cannot be read"),
        (cut("study1_T1W.nii.gz", 0.02), ValueError, "study1_T1W.nii.gz: found a file that cannot be read whole"),
        (cut("study1_T1W.nii.gz", 0.6), ValueError, "study1_T1W.nii.gz: found a file that cannot be read whole"),
        (cut("study2_T1W.nii.gz", 0.9999), ValueError, "study2_T1W.nii.gz: found a file that cannot be read whole"),
        (cut("brainmask_common_space.nii.gz", 0.5), ValueError, "brainmask_common_space.nii.gz: found a file that"),
        (lambda f: (f / "gt.nii.gz").write_bytes(b""), ValueError, "gt.nii.gz: found a file that cannot be read"),
        (
            lambda f: (f / "study2_T1W_intrastudy_to_FLAIR.txt").write_text("no"),
            ValueError,
            "study2_T1W_intrastudy_to_FLAIR.txt: .* wanted an ITK transform",
        ),
    ],
)
def test_wrong_input_is_refused_and_nothing_is_written(patient, tmp_path, capsys, damage, kind, message):
    folder, _ = patient
    damage(folder)
    with pytest.raises(kind, match=message):
        script.prepare(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert script.main([str(folder), str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and told[0].startswith("prepare_open_ms: error: ")


def test_wrong_arguments(patient, tmp_path):
    with pytest.raises(FileNotFoundError, match="found no such folder"):
        script.prepare(tmp_path / "absent", tmp_path / "out")
    with pytest.raises(ValueError, match="subject: found 'a/b', wanted letters and digits only"):
        script.prepare(patient[0], tmp_path / "out", subject="a/b")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file: found a file, wanted a folder"):
        script.prepare(patient[0], tmp_path / "file")


def test_a_failed_write_leaves_no_part(patient, tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(script.os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        script.prepare(patient[0], tmp_path / "out")
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_command_line_prints_the_scans(patient, tmp_path, capsys):
    assert script.main([str(patient[0]), str(tmp_path / "out"), "--subject", "p2"]) == 0
    printed = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.name for path in printed] == ["sub-p2_ses-study1_T1w.nii.gz", "sub-p2_ses-study2_T1w.nii.gz"]
    assert all(path.is_file() for path in printed)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"needs the real patient in {REAL} (set HARMONY_REAL_DATA)")
def test_the_real_studies_are_aligned(tmp_path):
    written = script.prepare(REAL, tmp_path)
    first, second = (nibabel.load(path).get_fdata() for path in written)
    mask = nibabel.load(str(written[0]).replace("_T1w", "_desc-brain_mask")).get_fdata() == 1
    assert 700_000 < mask.sum() < 850_000  # 1.1-1.3 litres
    aligned = np.corrcoef(first[mask], second[mask])[0, 1]
    assert aligned == pytest.approx(0.92, abs=0.02)
    for axis in range(3):  # moved by two voxels along any axis, they agree less
        for shift in (-2, 2):
            assert np.corrcoef(first[mask], np.roll(second, shift, axis)[mask])[0, 1] < aligned - 0.05
