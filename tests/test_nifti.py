"""NIfTI in and out: what is kept, what is refused, and that no file is left half written."""

import gzip
import warnings

import nibabel as nib
import numpy as np
import pytest
import torch

from harmony_lite.images import nifti

SHAPE = (9, 10, 11)


def image_values(shape=SHAPE, seed=0):
    return np.random.default_rng(seed).integers(0, 3000, shape)


def oblique(axes="RAS"):
    """An affine with the given axis codes, anisotropic voxels and a small rotation."""
    angle = 0.1
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([0.9, 1.1, 3.0])
    affine[:3, 3] = [-12.5, 7.25, 31.0]
    back = nib.orientations.ornt_transform([[0, 1], [1, 1], [2, 1]], nib.orientations.axcodes2ornt(axes))
    return affine @ nib.orientations.inv_ornt_aff(back, SHAPE)


def save(path, data, affine, *, kind=nib.Nifti1Image, sform=1, qform=2, dtype=np.int16):
    image = kind(data.astype(dtype), affine)
    image.set_sform(affine, code=sform)
    image.set_qform(affine, code=qform)
    image.header.set_xyzt_units("mm", "msec")
    image.header["descrip"] = b"a scan of one's own"
    nib.save(image, path)
    return path


@pytest.mark.parametrize("axes", ["RAS", "LAS", "LPS", "PIR", "SAR", "AIL"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_scan_comes_back_in_its_own_form(tmp_path, axes, suffix):
    path = save(tmp_path / f"in{suffix}", image_values(), oblique(axes))
    scan = nifti.read(path)
    canonical = nib.as_closest_canonical(nib.load(path))
    assert nib.aff2axcodes(scan.affine) == ("R", "A", "S")
    np.testing.assert_allclose(scan.affine, canonical.affine, atol=1e-5)
    np.testing.assert_array_equal(scan.volume[0, 0].numpy(), canonical.get_fdata())
    assert scan.volume.dtype == torch.float32 and scan.volume.shape[:2] == (1, 1)

    written = nib.load(nifti.write(tmp_path / f"out{suffix}", scan.volume * 2 + 0.5, scan))
    original = nib.load(path)
    assert written.shape == original.shape == SHAPE
    assert written.get_data_dtype() == np.float32
    np.testing.assert_array_equal(written.get_fdata(), original.get_fdata() * 2 + 0.5)
    np.testing.assert_array_equal(written.affine, original.affine)
    for field in ("qform_code", "sform_code", "xyzt_units", "descrip", "pixdim", "srow_x", "quatern_b", "qoffset_x"):
        np.testing.assert_array_equal(written.header[field], original.header[field], err_msg=field)
    assert not [name for name in tmp_path.iterdir() if name.name.startswith(".")]


@pytest.mark.parametrize(("qform", "sform"), [(0, 0), (1, 0), (0, 4), (3, 2)])
def test_codes_are_kept(tmp_path, qform, sform):
    path = save(tmp_path / "in.nii", image_values(), np.diag([2.0, 2.0, 2.0, 1.0]), qform=qform, sform=sform)
    scan = nifti.read(path)
    header = nib.load(nifti.write(tmp_path / "out.nii", scan.volume, scan)).header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (qform, sform)
    np.testing.assert_array_equal(header.get_best_affine(), nib.load(path).affine)


def test_slope_intercept_window_and_extensions(tmp_path):
    path = tmp_path / "in.nii"
    image = nib.Nifti1Image(image_values().astype(np.int16), np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"from the scanner"))
    image.header["cal_max"] = 3000
    image.header.set_slope_inter(0.5, -10)
    nib.save(image, path)
    scan = nifti.read(path)
    np.testing.assert_allclose(scan.volume[0, 0].numpy(), nib.load(path).get_fdata(), rtol=1e-6)
    out = nifti.write(tmp_path / "out.nii", scan.volume, scan)
    slope, intercept = np.frombuffer(out.read_bytes()[112:120], "<f4")
    assert (slope, intercept) == (1.0, 0.0)
    header = nib.load(out).header
    assert header["cal_max"] == 0, "the display window belongs to the old intensities"
    assert header.extensions[0].get_content() == b"from the scanner"


@pytest.mark.parametrize("tail", [(1,), (1, 1)])
def test_trailing_axes_of_one_are_accepted_and_restored(tmp_path, tail):
    path = save(tmp_path / "in.nii.gz", image_values(SHAPE + tail), oblique("LAS"))
    scan = nifti.read(path)
    assert scan.volume.shape == (1, 1, *SHAPE)
    # nibabel itself drops axes of length 1 beyond the fourth when it saves
    assert nib.load(nifti.write(tmp_path / "out.nii.gz", scan.volume, scan)).shape == nib.load(path).shape


def test_nifti2_and_big_endian(tmp_path):
    values, affine = image_values(), oblique("LPS")
    second = save(tmp_path / "second.nii", values, affine, kind=nib.Nifti2Image)
    swapped = nib.Nifti1Image(values.astype(">i2"), affine, nib.Nifti1Header(endianness=">"))
    nib.save(swapped, tmp_path / "swapped.nii")
    for path in (second, tmp_path / "swapped.nii"):
        scan = nifti.read(path)
        written = nib.load(nifti.write(tmp_path / "out.nii", scan.volume, scan))
        assert type(written) is type(nib.load(path))
        np.testing.assert_array_equal(written.get_fdata(), values)


def test_a_plain_file_under_a_gz_name_is_read(tmp_path):
    plain = save(tmp_path / "in.nii", image_values(), np.eye(4))
    plain.rename(tmp_path / "in.nii.gz")
    assert nifti.read(tmp_path / "in.nii.gz").volume.shape == (1, 1, *SHAPE)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_file_cut_anywhere_is_refused(tmp_path, suffix):
    whole = save(tmp_path / f"in{suffix}", image_values((8, 8, 8)), np.eye(4)).read_bytes()
    cut = tmp_path / f"cut{suffix}"
    for length in range(0, len(whole), 1 if suffix == ".nii.gz" else 7):
        cut.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut\.nii.*found .*wanted"):
            nifti.read(cut)
    cut.write_bytes(whole)
    nifti.read(cut)


def test_a_flipped_byte_inside_gzip_is_refused(tmp_path):
    path = save(tmp_path / "in.nii.gz", image_values(), np.eye(4))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path.write_bytes(bytes(raw))
    with pytest.raises(ValueError, match="damaged"):
        nifti.read(path)


def spoil(value):
    data = image_values().astype(np.float32)
    data[2, 3, 4] = data[0, 0, 0] = value
    return data


REFUSED = {
    "nan": (spoil(np.nan), "found 2 voxels that are NaN or infinite, wanted finite"),
    "infinite": (spoil(np.inf), "found 2 voxels that are NaN or infinite, wanted finite"),
    "beyond float32": (spoil(1.0).astype(np.float64) * 1e38, "NaN or infinite"),
    "constant": (np.full(SHAPE, 7.0), "found all voxels at 7, wanted an image with contrast"),
    "zero": (np.zeros(SHAPE), "found all voxels zero, wanted an image with contrast"),
    "4D": (image_values((*SHAPE, 3)), r"found a 4D image of shape \(9, 10, 11, 3\), wanted one 3D volume"),
    "5D": (image_values((*SHAPE, 1, 3)), "found a 5D image"),
    "2D": (image_values((20, 20)), "found a 2D image"),
    "one slice": (image_values((20, 20, 1)), "found a 2D image"),
    "tiny": (image_values((20, 20, 7)), "wanted at least 8 voxels along each axis"),
    "complex": (image_values().astype(np.complex64), "wanted one real number each"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_scan_is_refused(tmp_path, case):
    data, message = REFUSED[case]
    data = data.astype(np.int16) if data.dtype == np.int64 else data
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "in.nii.gz")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=message) as caught:
            nifti.read(tmp_path / "in.nii.gz")
    assert "in.nii.gz" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x1f\x8b", b"\x5c\x01\x00\x00" + bytes(2000), bytes(5000)])
def test_what_is_no_nifti_is_refused(tmp_path, content):
    (tmp_path / "in.nii").write_bytes(content)
    with pytest.raises(ValueError, match=r"in\.nii: found .*wanted"):
        nifti.read(tmp_path / "in.nii")


def test_a_damaged_header_is_refused(tmp_path):
    path = save(tmp_path / "in.nii", image_values(), np.eye(4))
    raw = bytearray(path.read_bytes())
    raw[70:72] = (9999).to_bytes(2, "little")  # datatype
    path.write_bytes(bytes(raw))
    with pytest.raises(ValueError, match="header that cannot be read"):
        nifti.read(path)
    singular = save(tmp_path / "flat.nii", image_values(), np.eye(4))
    raw = bytearray(singular.read_bytes())
    raw[312:328] = bytes(16)  # the third row of the sform
    singular.write_bytes(bytes(raw))
    with pytest.raises(ValueError, match="affine that cannot be inverted"):
        nifti.read(singular)


def test_missing_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="found no such file, wanted a NIfTI"):
        nifti.read(tmp_path / "absent.nii")
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(ValueError, match="found a folder"):
        nifti.read(tmp_path / "folder.nii")


def test_a_mask_may_have_another_orientation_but_not_another_grid(tmp_path):
    scan = nifti.read(save(tmp_path / "in.nii", image_values(), oblique("RAS")))
    inside = nib.Nifti1Image((image_values() > 1500).astype(np.uint8), oblique("RAS"))
    turned = inside.as_reoriented(nib.orientations.axcodes2ornt("LPS"))
    nib.save(turned, tmp_path / "mask.nii")
    mask = nifti.read_mask(tmp_path / "mask.nii", scan)
    assert mask.dtype == torch.bool and mask.shape == scan.volume.shape
    np.testing.assert_array_equal(mask[0, 0].numpy(), inside.get_fdata() > 0.5)

    shifted = oblique("RAS")
    shifted[0, 3] += 0.5
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.uint8), shifted), tmp_path / "shifted.nii")
    with pytest.raises(ValueError, match=r"shifted\.nii: found grid 9x10x11.*wanted that of .*in\.nii"):
        nifti.read_mask(tmp_path / "shifted.nii", scan)
    nib.save(nib.Nifti1Image(np.ones((9, 10, 12), np.uint8), oblique("RAS")), tmp_path / "longer.nii")
    with pytest.raises(ValueError, match="found grid 9x10x12"):
        nifti.read_mask(tmp_path / "longer.nii", scan)
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), oblique("RAS")), tmp_path / "empty.nii")
    with pytest.raises(ValueError, match="found no voxel above 0.5"):
        nifti.read_mask(tmp_path / "empty.nii", scan)


def test_a_map_may_be_empty(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), oblique("LPS")), tmp_path / "lesions.nii")
    assert not bool(nifti.read_map(tmp_path / "lesions.nii").volume.any())
    nib.save(nib.Nifti1Image(spoil(np.nan), oblique("LPS")), tmp_path / "spoilt.nii")
    with pytest.raises(ValueError, match="NaN"):
        nifti.read_map(tmp_path / "spoilt.nii")


def test_same_grid_tolerance():
    volume = torch.rand(1, 1, 8, 8, 8)
    one = nifti.NiftiScan.from_volume(volume, np.eye(4))
    moved = np.eye(4)
    moved[0, 3] = 0.1
    other = nifti.NiftiScan.from_volume(volume, moved)
    assert nifti.same_grid(one, one) and not nifti.same_grid(one, other) and nifti.same_grid(one, other, 0.2)
    fine, moved_fine = (
        nifti.NiftiScan.from_volume(volume, affine @ np.diag([9, 9, 9, 1])) for affine in (np.eye(4), moved)
    )
    assert nifti.same_grid(fine, moved_fine), "a tenth of a millimetre is little of a voxel of 9 mm"
    turned = np.diag([1.02, 1.0, 1.0, 1.0])
    assert not nifti.same_grid(one, nifti.NiftiScan.from_volume(volume, turned)), "the far corner lies apart"


def test_a_mask_whose_header_rounds_otherwise_fits(tmp_path):
    """An oblique LPS scan by its sform, its mask by the qform alone: the quaternion rounds a few micrometres away."""
    from scipy.spatial.transform import Rotation

    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [7, -11, 5], degrees=True).as_matrix() @ np.diag([-0.9, -0.9, 1.2])
    affine[:3, 3] = 88.1, 120.7, -95.3
    data = image_values((160, 180, 120))
    scan = nifti.read(save(tmp_path / "scan.nii", data, affine))
    image = nib.Nifti1Image((data > data.mean()).astype(np.uint8), None)
    image.set_qform(affine, code=1)
    image.set_sform(None, code=0)
    nib.save(image, tmp_path / "mask.nii")
    apart = np.abs(nib.load(tmp_path / "mask.nii").affine - affine).max()
    assert apart > 0
    assert nifti.read_mask(tmp_path / "mask.nii", scan).shape == scan.volume.shape


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1000), ("micron", 0.001), ("mm", 1), ("unknown", 1)])
def test_an_affine_in_another_unit_is_read_in_mm_and_written_as_it_was(tmp_path, unit, factor):
    affine = oblique()
    stored = np.diag([1 / factor, 1 / factor, 1 / factor, 1]) @ affine
    image = nib.Nifti1Image(image_values().astype(np.int16), stored)
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "in.nii.gz")
    scan = nifti.read(tmp_path / "in.nii.gz")
    np.testing.assert_allclose(scan.affine, affine, rtol=1e-5)
    written = nib.load(nifti.write(tmp_path / "out.nii.gz", scan.volume, scan))
    np.testing.assert_allclose(written.affine, stored, rtol=1e-5)
    assert written.header.get_xyzt_units()[0] == unit


def test_a_unit_that_makes_no_sense_is_passed_over(tmp_path):
    """Voxels of two metres are voxels of two millimetres in a header that says so wrongly."""
    image = nib.Nifti1Image(image_values().astype(np.int16), np.diag([2.0, 2.0, 2.0, 1.0]))
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "in.nii.gz")
    np.testing.assert_allclose(nifti.read(tmp_path / "in.nii.gz").affine, np.diag([2.0, 2.0, 2.0, 1.0]))


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR"])
def test_nan_around_the_head_comes_back(tmp_path, axes):
    data = image_values().astype(np.float32)
    data[:, 6:] = np.nan
    path = tmp_path / "in.nii.gz"
    nib.save(nib.Nifti1Image(data, oblique(axes)), path)
    scan = nifti.read(path)
    assert bool(scan.volume.isfinite().all()) and int(scan.missing.sum()) == np.isnan(data).sum()
    written = nifti.write(tmp_path / "out.nii.gz", scan.volume * 2, scan)
    np.testing.assert_array_equal(np.asarray(nib.load(written).dataobj), data * 2)
    mask = nib.load(nifti.write(tmp_path / "mask.nii.gz", scan.volume > 5, scan, dtype="uint8"))
    assert set(np.unique(np.asarray(mask.dataobj))) == {0, 1}


@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (0.37, -12.25), (2.5e-3, 0)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, ">i2", np.float32, np.float64])
def test_voxels_are_what_nibabel_reads(tmp_path, slope, intercept, dtype):
    image = nib.Nifti1Image(image_values().clip(0, 255).astype(dtype), oblique("LPS"))
    image.header.set_data_dtype(dtype)
    raw = bytearray(image.to_bytes())
    raw[112:120] = np.array([slope, intercept], "<f4").tobytes()
    (tmp_path / "in.nii").write_bytes(raw)
    wanted = nib.as_closest_canonical(nib.load(tmp_path / "in.nii")).get_fdata()
    np.testing.assert_allclose(nifti.read(tmp_path / "in.nii").volume[0, 0].numpy(), wanted, rtol=1e-6)


def _packed(path, header, zeros):
    """A packed file of a header and so many bytes of 0, which take a thousandth of their number."""
    with gzip.open(path, "wb") as file:
        file.write(header)
        for _ in range(zeros >> 20):
            file.write(bytes(1 << 20))
    return path


def test_packed_files_that_unpack_to_more_than_they_say_are_refused(tmp_path):
    """A bomb costs no memory: neither the voxels that a header announces, nor those that follow unannounced."""
    import tracemalloc

    image = nib.Nifti1Image(image_values().astype(np.int16), np.eye(4))
    small = image.to_bytes()
    huge = image.header.copy()
    huge["dim"][1:4] = 30000
    large = image.header.copy()
    large["dim"][1:4] = 600, 600, 600
    begin = [header.binaryblock + bytes(4) for header in (huge, large)]
    cases = (
        (small, 300 << 20, "found a packed file that goes on long after the 2332 bytes that its header announces"),
        (begin[0], 1 << 20, "found a header that announces 27,000,000,000,000 voxels, wanted at most 1,073,741,824"),
        (begin[1], 1 << 20, "found a truncated file of .* bytes, wanted 432000352 bytes"),
    )
    for header, zeros, message in cases:
        path = _packed(tmp_path / "bomb.nii.gz", header, zeros)
        tracemalloc.start()
        with pytest.raises(ValueError, match=message):
            nifti.read(path)
        assert tracemalloc.get_traced_memory()[1] < 40e6
        tracemalloc.stop()


def test_a_scan_made_in_memory(tmp_path):
    affine = np.array([[2.0, 0, 0, -80], [0, 2, 0, -110], [0, 0, 2, -70], [0, 0, 0, 1]])
    labels = torch.randint(0, 15, (1, 1, *SHAPE))
    scan = nifti.NiftiScan.from_volume(labels, affine, description="simulated")
    written = nib.load(nifti.write(tmp_path / "labels.nii.gz", labels, scan, dtype="uint8"))
    assert written.get_data_dtype() == np.uint8 and bytes(written.header["descrip"]).startswith(b"simulated")
    np.testing.assert_array_equal(written.affine, affine)
    np.testing.assert_array_equal(np.asarray(written.dataobj), labels[0, 0].numpy())


def test_same_values_give_the_same_bytes(tmp_path):
    scan = nifti.read(save(tmp_path / "in.nii.gz", image_values(), oblique()))
    first = nifti.write(tmp_path / "a.nii.gz", scan.volume, scan).read_bytes()
    assert nifti.write(tmp_path / "b.nii.gz", scan.volume, scan).read_bytes() == first
    assert gzip.decompress(first)[:4] == b"\x5c\x01\x00\x00"


def test_write_refuses(tmp_path):
    path = save(tmp_path / "in.nii.gz", image_values(), oblique())
    before = path.read_bytes()
    scan = nifti.read(path)
    spoilt = scan.volume.clone()
    spoilt[0, 0, 1, 1, 1] = float("nan")
    with pytest.raises(ValueError, match="found 1 values that are NaN"):
        nifti.write(tmp_path / "out.nii", spoilt, scan)
    with pytest.raises(ValueError, match="found shape"):
        nifti.write(tmp_path / "out.nii", scan.volume[..., 1:], scan)
    with pytest.raises(ValueError, match="found one of the input files"):
        nifti.write(tmp_path / ".." / tmp_path.name / "in.nii.gz", scan.volume, scan)
    (tmp_path / "link.nii.gz").symlink_to(path)
    with pytest.raises(ValueError, match="found one of the input files"):
        nifti.write(tmp_path / "link.nii.gz", scan.volume, scan)
    with pytest.raises(FileNotFoundError, match="found no folder"):
        nifti.write(tmp_path / "absent" / "out.nii", scan.volume, scan)
    with pytest.raises(ValueError, match="found a file at"):
        nifti.write(path / "out.nii", scan.volume, scan)
    with pytest.raises(ValueError, match=r"wanted one that ends in \.nii"):
        nifti.write(tmp_path / "out.img", scan.volume, scan)
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(ValueError, match="found a folder"):
        nifti.write(tmp_path / "folder.nii", scan.volume, scan)
    assert path.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"in.nii.gz", "link.nii.gz", "folder.nii"}


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(28, "No space left on device"), MemoryError()])
def test_an_interrupted_write_leaves_what_was_there(tmp_path, monkeypatch, failure):
    scan = nifti.read(save(tmp_path / "in.nii.gz", image_values(), oblique()))
    out = nifti.write(tmp_path / "out.nii.gz", scan.volume, scan)
    before = out.read_bytes()

    whole = nifti._put

    def broken(file, *rest):
        whole(file, *rest)
        raise failure

    monkeypatch.setattr(nifti, "_put", broken)
    expected = ValueError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(expected):
        nifti.write(out, scan.volume * 3, scan)
    assert out.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"in.nii.gz", "out.nii.gz"}
