"""NIfTI files in and out, with everything that a viewer or the next program relies on kept.

A scan is handed to the package as a float32 tensor in RAS+ (first axis to the right, second to the front, third
upwards), whatever orientation its file has. `write` turns the result back into the file's own orientation and keeps
its affine, qform and sform codes, units, description and shape. A result is written beside its place and then
renamed, so that a file is either complete or absent.

Formats: NIfTI-1 (https://nifti.nimh.nih.gov/nifti-1) and NIfTI-2, as one file, plain or gzipped.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch
from torch import Tensor

from harmony_lite.storage import written_whole

if TYPE_CHECKING:
    import nibabel as nib

__all__ = ["NiftiScan", "check_destination", "check_same_grid", "read", "read_map", "read_mask", "same_grid", "write"]

SUFFIXES = (".nii", ".nii.gz")
SMALLEST_AXIS = 8  # voxels; below this no percentile, window or slice of ours means anything
_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK = 1 << 20  # bytes written at a time, so that an interruption is answered at once


@dataclass(frozen=True, eq=False)
class NiftiScan:
    """One scan and what is needed to write a result in its form.

    Attributes:
        volume: `(1, 1, D, H, W)` float32, RAS+, the file's values after its slope and intercept.
        affine: `(4, 4)` float64, voxel indices of `volume` to mm.
        path: where it was read from; None for one made in memory.
        header: the file's header as nibabel has it, extensions included.
        orientation: `(3, 2)` nibabel orientation that turns the file's axes into RAS+.
        disk_shape: the shape in the file, trailing axes of length 1 included.
    """

    volume: Tensor
    affine: np.ndarray
    path: Path | None
    header: nib.Nifti1Header
    orientation: np.ndarray
    disk_shape: tuple[int, ...]

    @classmethod
    def from_volume(cls, volume: Tensor, affine: np.ndarray, *, description: str = "") -> NiftiScan:
        """A scan that has no file yet, for example a simulated one.

        Args:
            volume: `(1, 1, D, H, W)`, RAS+.
            affine: `(4, 4)`, voxel indices to mm; its axes point to RAS+.
            description: at most 79 characters, kept in the file's `descrip` field.

        >>> import torch, numpy as np
        >>> scan = NiftiScan.from_volume(torch.rand(1, 1, 8, 9, 10), np.diag([2.0, 2.0, 2.0, 1.0]))
        >>> scan.disk_shape
        (8, 9, 10)
        """
        import nibabel as nib

        affine = np.asarray(affine, dtype=np.float64)
        shape = tuple(volume.shape[2:])
        header = nib.Nifti1Header()
        header.set_data_shape(shape)
        header.set_xyzt_units("mm", "sec")
        header.set_sform(affine, code="scanner")
        header.set_qform(affine, code="scanner")
        header["descrip"] = description.encode("ascii", "replace")[:79]
        volume = volume.detach().to("cpu", torch.float32)
        return cls(volume, affine, None, header, nib.io_orientation(affine), shape)


def read(path: str | Path) -> NiftiScan:
    """Read one scan of one frame.

    The file is read to its last byte, so that a download or a copy that broke off anywhere is found.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a folder, a file that is unreadable, truncated or not NIfTI; NaN or infinite values, an image that
            is constant or all zero, more than one frame, a single slice, an axis below 8 voxels. The message names
            the file, what was found and what was wanted.
    """
    scan = _load(Path(path), "a NIfTI scan (.nii or .nii.gz)")
    low, high = float(scan.volume.min()), float(scan.volume.max())
    if low == high:
        found = "all voxels zero" if low == 0 else f"all voxels at {low:g}"
        raise ValueError(f"{path}: found {found}, wanted an image with contrast")
    return scan


def read_map(path: str | Path) -> NiftiScan:
    """Read labels, a lesion mask or a tissue fraction: as `read`, but a map without contrast or all zero is allowed.

    Raises:
        FileNotFoundError: no such file.
        ValueError: as `read`, except for constant and all-zero images.
    """
    return _load(Path(path), "a NIfTI map (.nii or .nii.gz)")


def read_mask(path: str | Path, like: NiftiScan) -> Tensor:
    """Read a mask that lies on the grid of `like`; inside is where its value is above 0.5.

    Returns:
        bool, `(1, 1, D, H, W)`, RAS+.

    Raises:
        FileNotFoundError: no such file.
        ValueError: as `read`; also another grid than the scan's (shapes and affines are named) or no voxel inside.
    """
    mask = _load(Path(path), "a NIfTI mask (.nii or .nii.gz)")
    check_same_grid(mask, like, "mask")
    inside = mask.volume > 0.5
    if not bool(inside.any()):
        raise ValueError(f"{path}: found no voxel above 0.5, wanted a mask with voxels inside")
    return inside


def same_grid(a: NiftiScan, b: NiftiScan, tolerance: float = 1e-3) -> bool:
    """Whether two scans share shape and affine (each entry within `tolerance`, mm) once both are in RAS+."""
    return a.volume.shape == b.volume.shape and bool(np.allclose(a.affine, b.affine, rtol=0, atol=tolerance))


def check_same_grid(found: NiftiScan, wanted: NiftiScan, what: str) -> None:
    """Refuse two scans on different grids.

    Raises:
        ValueError: the message names both files with their shapes and affines.
    """
    if not same_grid(found, wanted):
        raise ValueError(
            f"{what} {found.path or 'in memory'}: found grid {_grid(found)}, "
            f"wanted that of {wanted.path or 'the scan in memory'}: {_grid(wanted)}"
        )


def write(path: str | Path, volume: Tensor, like: NiftiScan, *, dtype: str | np.dtype = "float32") -> Path:
    """Write a result in the form of the scan that it was made from.

    Orientation, affine, qform and sform codes, units, description, extensions and shape are those of `like`; slope is
    1 and intercept 0. The display window (`cal_min`, `cal_max`) is cleared, since it belongs to the old intensities.

    Args:
        path: ends in .nii or .nii.gz; a file already there is replaced once the new one is complete.
        volume: shape of `like.volume`, RAS+, finite.
        like: the scan whose form is kept.
        dtype: type of the voxels on disk; masks and labels may ask for "uint8".

    Returns:
        The path.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: the path is the input's own or no NIfTI name, values are not finite, the shape is another one, or
            the system refuses to write.
    """
    path = Path(path)
    check_destination(path, like.path)
    if volume.shape != like.volume.shape:
        raise ValueError(f"volume: found shape {tuple(volume.shape)}, wanted {tuple(like.volume.shape)}")
    data = volume.detach().to("cpu").numpy()[0, 0]
    bad = int(data.size - np.isfinite(data).sum())
    if bad:
        raise ValueError(f"volume for {path}: found {bad} values that are NaN or infinite, wanted finite values")
    payload = _to_bytes(data, like, np.dtype(dtype))
    try:
        with written_whole(path) as partial, open(partial, "wb") as file:
            _pack(file, payload, path.name.endswith(".gz"))
    except OSError as error:
        raise ValueError(f"output {path}: found a place that cannot be written ({error.strerror})") from error
    return path


def check_destination(path: str | Path, *sources: Path | None) -> None:
    """Refuse a place where no result can be written, before any work is done.

    Args:
        path: where a result is to go.
        sources: files that must not be overwritten.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: no NIfTI name, a folder of that name, a parent that is a file, or one of `sources`.
    """
    path = Path(path)
    if not path.name.endswith(SUFFIXES) or path.name in SUFFIXES:
        raise ValueError(f"output {path}: found the name {path.name!r}, wanted one that ends in .nii or .nii.gz")
    if path.is_dir():
        raise ValueError(f"output {path}: found a folder, wanted a file name")
    if not path.parent.exists():
        raise FileNotFoundError(f"output {path}: found no folder {path.parent}, wanted one that exists")
    if not path.parent.is_dir():
        raise ValueError(f"output {path}: found a file at {path.parent}, wanted a folder")
    for source in sources:
        if source is not None and source.exists() and path.exists() and path.samefile(source):
            raise ValueError(f"output {path}: found one of the input files, wanted another name")


def _load(path: Path, wanted: str) -> NiftiScan:
    import nibabel as nib

    image = _parse(path, _read_bytes(path, wanted), wanted)
    shape = tuple(int(size) for size in image.shape)
    _check_shape(path, shape)
    header = image.header
    if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine[:3, :3])) < 1e-9:
        raise ValueError(f"{path}: found an affine that cannot be inverted, wanted one that places voxels in space")
    with np.errstate(over="ignore", invalid="ignore"):
        data = np.asarray(image.dataobj, dtype=np.float32).reshape(shape[:3])
    bad = int(data.size - np.isfinite(data).sum())
    if bad:
        raise ValueError(f"{path}: found {bad} voxels that are NaN or infinite, wanted finite values")
    orientation = nib.io_orientation(image.affine)
    canonical = np.ascontiguousarray(nib.apply_orientation(data, orientation))
    affine = image.affine @ nib.orientations.inv_ornt_aff(orientation, shape[:3])
    return NiftiScan(torch.from_numpy(canonical)[None, None], affine, path, header, orientation, shape)


def _read_bytes(path: Path, wanted: str) -> bytes:
    if not path.exists():
        raise FileNotFoundError(f"{path}: found no such file, wanted {wanted}")
    if path.is_dir():
        raise ValueError(f"{path}: found a folder, wanted {wanted}")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: found a file that cannot be read ({error.strerror}), wanted {wanted}") from error
    try:
        return gzip.decompress(raw) if raw[:2] == _GZIP_MAGIC else raw
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path}: found a truncated or damaged gzip file, wanted a complete one") from error


def _parse(path: Path, raw: bytes, wanted: str) -> nib.Nifti1Image:
    """Header and lazy voxels from the unpacked file; the length is checked against what the header announces."""
    import nibabel as nib

    classes = {348: (nib.Nifti1Image, b"n+1\0", 344), 540: (nib.Nifti2Image, b"n+2\0", 4)}
    size = {int.from_bytes(raw[:4], "little"), int.from_bytes(raw[:4], "big")} & set(classes)
    kind, magic, offset = classes[size.pop()] if size else (nib.Nifti1Image, b"n+1\0", 344)
    if raw[offset : offset + 4] != magic:
        found = "an empty file" if not raw else f"{len(raw)} bytes that are no single-file NIfTI"
        raise ValueError(f"{path}: found {found}, wanted {wanted}")
    try:
        image = kind.from_bytes(raw)
        stored = image.header.get_data_dtype()
        announced = image.dataobj.offset + int(np.prod(image.shape, dtype=np.int64)) * stored.itemsize
    except Exception as error:  # nibabel raises many kinds on a damaged header; each means the same to the user
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: found a NIfTI header that cannot be read ({reason}), wanted {wanted}") from error
    if stored.kind not in "iuf":
        raise ValueError(f"{path}: found voxels of type {stored}, wanted one real number each")
    if len(raw) < announced:
        raise ValueError(f"{path}: found a truncated file of {len(raw)} bytes, wanted {announced} bytes")
    return image


def _check_shape(path: Path, shape: tuple[int, ...]) -> None:
    if len(shape) < 3 or min(shape[:3]) == 1:
        raise ValueError(f"{path}: found a 2D image of shape {shape}, wanted a 3D volume")
    if any(size != 1 for size in shape[3:]):
        raise ValueError(f"{path}: found a {len(shape)}D image of shape {shape}, wanted one 3D volume")
    if min(shape[:3]) < SMALLEST_AXIS:
        raise ValueError(f"{path}: found shape {shape}, wanted at least {SMALLEST_AXIS} voxels along each axis")


def _grid(scan: NiftiScan) -> str:
    rows = ", ".join("[" + " ".join(f"{value:.6g}" for value in row) + "]" for row in scan.affine[:3])
    return f"{'x'.join(str(size) for size in scan.volume.shape[2:])} with affine {rows}"


def _to_bytes(data: np.ndarray, like: NiftiScan, dtype: np.dtype) -> bytes:
    import nibabel as nib

    back = nib.orientations.ornt_transform([[0, 1], [1, 1], [2, 1]], like.orientation)
    on_disk = nib.apply_orientation(data, back).astype(dtype).reshape(like.disk_shape)
    header = like.header.copy()
    header.set_data_dtype(dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    # the affine is the header's own best one, so that nibabel leaves qform, sform and their codes alone
    return kind(on_disk, header.get_best_affine(), header).to_bytes()


def _pack(file: BinaryIO, payload: bytes, compress: bool) -> None:
    if not compress:
        _write_chunks(file, payload)
        return
    # no time stamp and no name inside, so that the same result gives the same bytes
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=3, mtime=0) as packed:
        _write_chunks(packed, payload)


def _write_chunks(file: BinaryIO | gzip.GzipFile, payload: bytes) -> None:
    view = memoryview(payload)
    for start in range(0, len(view), _CHUNK):
        file.write(view[start : start + _CHUNK])
