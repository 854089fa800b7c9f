"""NIfTI files in and out, with everything that a viewer or the next program relies on kept.

A scan is handed to the package as a float32 tensor in RAS+ (first axis to the right, second to the front, third
upwards), whatever orientation its file has. `write` turns the result back into the file's own orientation and keeps
its affine, qform and sform codes, units, description and shape. A result is written beside its place and then
renamed, so that a file is either complete or absent.

Formats: NIfTI-1 (https://nifti.nimh.nih.gov/nifti-1) and NIfTI-2, as one file, plain or gzipped.
"""

from __future__ import annotations

import gzip
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import torch
from torch import Tensor

from harmony_lite.images.intake import without_missing
from harmony_lite.images.nifti_bytes import announced_length, data_offset, read_bytes, read_header
from harmony_lite.storage import written_whole

if TYPE_CHECKING:
    import nibabel as nib

__all__ = [
    "NiftiScan",
    "check_destination",
    "check_same_grid",
    "read",
    "read_map",
    "read_mask",
    "same_grid",
    "stem",
    "write",
]

SUFFIXES = (".nii", ".nii.gz")
SMALLEST_AXIS = 8  # voxels; below this no percentile, window or slice of ours means anything
FEWEST_INSIDE = 100  # voxels of a mask; with fewer, a 1st percentile is one voxel
PLAUSIBLE = (0.05, 20.0)  # mm, of a voxel's edge
SHARE_OF_A_VOXEL = 0.05  # by which the corners of two equal grids may lie apart: headers round in float32
_IN_MM = {"meter": 1000.0, "micron": 0.001}  # other units are mm or not said


@dataclass(frozen=True, eq=False)
class NiftiScan:
    """One scan and what is needed to write a result in its form.

    Attributes:
        volume: `(1, 1, D, H, W)` float32, RAS+, the file's values after its slope and intercept; 0 where it had NaN.
        affine: `(4, 4)` float64, voxel indices of `volume` to mm, whatever unit the file is in.
        path: where it was read from; None for one made in memory.
        header: the file's header as nibabel has it, extensions included.
        orientation: `(3, 2)` nibabel orientation that turns the file's axes into RAS+.
        disk_shape: the shape in the file, trailing axes of length 1 included.
        missing: bool, shape of `volume`: where the file had NaN around the head, which comes back; None for nowhere.
    """

    volume: Tensor
    affine: np.ndarray
    path: Path | None
    header: nib.Nifti1Header
    orientation: np.ndarray
    disk_shape: tuple[int, ...]
    missing: Tensor | None = None

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

    The file is read to its last byte, so that a download or a copy that broke off anywhere is found. NaN all around the
    head is background: it becomes 0, and `write` puts it back. An affine in metres or micrometres is taken as such.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a folder, a file that is unreadable, truncated or not NIfTI; NaN in the head or infinite values, an
            image of one value or of two, more than one frame, a single slice, an axis below 8 voxels, voxels below
            0.05 or above 20 mm. The message names the file, what was found and what was wanted.
    """
    scan = _load(Path(path), "a NIfTI scan (.nii or .nii.gz)")
    low, high = float(scan.volume.min()), float(scan.volume.max())
    if low == high:
        found = "all voxels zero" if low == 0 else f"all voxels at {low:g}"
        raise ValueError(f"{path}: found {found}, wanted an image with contrast")
    if bool(((scan.volume == low) | (scan.volume == high)).all()):
        raise ValueError(f"{path}: found two values only, {low:g} and {high:g}, wanted a scan and no mask of one")
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
        ValueError: as `read`; also another grid than the scan's (shapes and affines are named), or fewer than 100
            voxels inside.
    """
    mask = _load(Path(path), "a NIfTI mask (.nii or .nii.gz)")
    check_same_grid(mask, like, "mask")
    inside = mask.volume > 0.5
    if not bool(inside.any()):
        raise ValueError(f"{path}: found no voxel above 0.5, wanted a mask with voxels inside")
    if (count := int(inside.sum())) < FEWEST_INSIDE:
        raise ValueError(f"{path}: found a mask of {count} voxels, wanted a brain's, at least {FEWEST_INSIDE}")
    return inside


def same_grid(a: NiftiScan, b: NiftiScan, tolerance: float = SHARE_OF_A_VOXEL) -> bool:
    """Whether two scans have the same voxels once both are in RAS+.

    Their shapes are equal, and no corner of one lies further than `tolerance`, a share of the smallest voxel edge, from
    that of the other.
    """
    if a.volume.shape != b.volume.shape:
        return False
    last = np.array(a.volume.shape[2:]) - 1
    corners = np.array(np.meshgrid(*[(0, n) for n in last], indexing="ij")).reshape(3, -1)
    difference = a.affine - b.affine
    apart = np.linalg.norm(difference[:3, :3] @ corners + difference[:3, 3:], axis=0).max()
    edge = min(np.linalg.norm(scan.affine[:3, :3], axis=0).min() for scan in (a, b))
    return bool(apart <= tolerance * edge)


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
    NaN around the head of `like` comes back where the voxels can hold it.

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
    try:
        with written_whole(path) as partial, open(partial, "wb") as file:
            if path.name.endswith(".gz"):
                # no time stamp and no name inside, so that the same result gives the same bytes
                with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=3, mtime=0) as packed:
                    _put(packed, data, like, np.dtype(dtype))
            else:
                _put(file, data, like, np.dtype(dtype))
    except OSError as error:
        raise ValueError(f"output {path}: found a place that cannot be written ({error.strerror})") from error
    return path


def stem(path: Path) -> str:
    """A file's name without .nii or .nii.gz."""
    return path.name.removesuffix(".gz").removesuffix(".nii")


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

    raw = read_bytes(path, wanted)
    header = read_header(path, raw, wanted)
    shape = tuple(int(size) for size in header.get_data_shape())
    _check_shape(path, shape)
    affine = header.get_best_affine()
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-30:
        raise ValueError(f"{path}: found an affine that cannot be inverted, wanted one that places voxels in space")
    announced = announced_length(header)
    if len(raw) < announced:
        raise ValueError(f"{path}: found a truncated file of {len(raw)} bytes, wanted {announced} bytes")
    orientation = nib.io_orientation(affine)
    stored = np.frombuffer(raw, header.get_data_dtype(), int(np.prod(shape)), data_offset(header))
    turned = nib.apply_orientation(stored.reshape(shape[:3], order="F"), orientation)
    data = _scaled(turned, *header.get_slope_inter())
    affine = _in_mm(path, affine @ nib.orientations.inv_ornt_aff(orientation, shape[:3]), header)
    volume, missing = without_missing(torch.from_numpy(data)[None, None], f"{path}", "voxels")
    return NiftiScan(volume, affine, path, header, orientation, shape, missing)


def _scaled(stored: np.ndarray, slope: float | None, intercept: float | None) -> np.ndarray:
    """Stored voxels times slope plus intercept, float32: slab by slab, for a scan in double precision is large."""
    slope, intercept = 1.0 if slope is None else slope, 0.0 if intercept is None else intercept
    data = np.empty(stored.shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for into, part in zip(data, stored, strict=True):
            into[:] = part if (slope, intercept) == (1.0, 0.0) else part.astype(np.float64) * slope + intercept
    return data


def _in_mm(path: Path, affine: np.ndarray, header: nib.Nifti1Header) -> np.ndarray:
    """The affine in mm, by the header's unit; by the size of the voxels where the unit makes no sense."""
    factor = _IN_MM.get(header.get_xyzt_units()[0], 1.0)
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    for tried in (factor, 1.0):
        if PLAUSIBLE[0] <= tried * edges.min() and tried * edges.max() <= PLAUSIBLE[1]:
            return np.diag([tried, tried, tried, 1.0]) @ affine
    sizes = " x ".join(f"{factor * edge:g}" for edge in edges)
    raise ValueError(
        f"{path}: found voxels of {sizes} mm, wanted edges of {PLAUSIBLE[0]:g} to {PLAUSIBLE[1]:g} mm: its header "
        "says another unit than its affine has"
    )


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


def _put(file: BinaryIO | gzip.GzipFile, data: np.ndarray, like: NiftiScan, dtype: np.dtype) -> None:
    """Write header, extensions and voxels in the form of `like`; the voxels slab by slab, for a copy is large."""
    import nibabel as nib

    back = nib.orientations.ornt_transform([[0, 1], [1, 1], [2, 1]], like.orientation)
    on_disk = nib.apply_orientation(data, back)
    missing = None if like.missing is None else nib.apply_orientation(like.missing[0, 0].numpy(), back)
    header = like.header.copy()
    header.set_data_dtype(dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    header["vox_offset"] = 0  # where the extensions end
    # nothing but these fields is touched: the header's qform, sform and their codes stay as they are
    begin = io.BytesIO()
    header.write_to(begin)
    file.write(begin.getvalue().ljust(int(header.get_data_offset()), b"\0"))
    stored = header.get_data_dtype()
    for k in range(on_disk.shape[2]):
        slab = on_disk[..., k]
        if missing is not None and stored.kind == "f":
            slab = np.where(missing[..., k], np.nan, slab)
        file.write(slab.astype(stored, order="F").tobytes(order="F"))
