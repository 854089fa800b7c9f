"""The bytes of a NIfTI file: unpacked to the end and no further, and the header that they begin with.

A packed file may say anything about its size. Nothing is set aside for voxels before their bytes have come.
"""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

if TYPE_CHECKING:
    import nibabel as nib

__all__ = ["announced_length", "data_offset", "read_bytes", "read_header"]

MOST_VOXELS = 1 << 30  # 1024 x 1024 x 1024: no scan of a head has more, and a packed file of zeros may say anything
SURPLUS = 1 << 26  # bytes that may follow the voxels of a packed file
_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK = 1 << 20  # bytes read at a time, so that an interruption is answered at once
_LONGEST_HEADER = 540  # bytes, of NIfTI-2


def read_bytes(path: Path, wanted: str) -> bytes | bytearray:
    """The unpacked file; of a packed one no more than its header announces, the rest is only checked."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: found no such file, wanted {wanted}")
    if path.is_dir():
        raise ValueError(f"{path}: found a folder, wanted {wanted}")
    try:
        with open(path, "rb") as file:
            is_packed = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            return _unpacked(path, file, wanted) if is_packed else file.read()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"{path}: found a file that cannot be read ({reason}), wanted {wanted}") from error


def _unpacked(path: Path, file: BinaryIO, wanted: str) -> bytearray:
    raw = bytearray()
    try:
        with gzip.GzipFile(fileobj=file) as packed:
            raw += packed.read(_LONGEST_HEADER)
            announced = announced_length(read_header(path, raw, wanted))
            while len(raw) < announced and (part := packed.read(min(_CHUNK, announced - len(raw)))):
                raw += part
            surplus = 0  # read to the end, where the check sum stands, and thrown away
            while part := packed.read(_CHUNK):
                surplus += len(part)
                if surplus > SURPLUS:
                    raise ValueError(
                        f"{path}: found a packed file that goes on long after the {announced} bytes that its header "
                        "announces, wanted one scan"
                    )
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: found a truncated or damaged gzip file, wanted a complete one") from error
    return raw


def read_header(path: Path, raw: bytes | bytearray, wanted: str) -> nib.Nifti1Header:
    """The header at the beginning of a file, and its extensions as far as they are there; no voxel is needed."""
    import nibabel as nib

    classes = {348: (nib.Nifti1Image, b"n+1\0", 344), 540: (nib.Nifti2Image, b"n+2\0", 4)}
    size = {int.from_bytes(raw[:4], "little"), int.from_bytes(raw[:4], "big")} & set(classes)
    kind, magic, offset = classes[size.pop()] if size else (nib.Nifti1Image, b"n+1\0", 344)
    if bytes(raw[offset : offset + 4]) != magic:
        found = "an empty file" if not raw else f"{len(raw)} bytes that are no single-file NIfTI"
        raise ValueError(f"{path}: found {found}, wanted {wanted}")
    try:
        first = kind.header_class(bytes(raw[: kind.header_class.sizeof_hdr]))
        begin = data_offset(first)
        header = kind.header_class.from_fileobj(io.BytesIO(raw[:begin])) if len(raw) >= begin else first
        stored, voxels = header.get_data_dtype(), int(np.prod(header.get_data_shape(), dtype=np.float64))
        header.get_slope_inter(), header.get_best_affine(), header.get_xyzt_units()
    except Exception as error:  # nibabel raises many kinds on a damaged header; each means the same to the user
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: found a NIfTI header that cannot be read ({reason}), wanted {wanted}") from error
    if stored.kind not in "iuf":
        raise ValueError(f"{path}: found voxels of type {stored}, wanted one real number each")
    if voxels > MOST_VOXELS:
        raise ValueError(f"{path}: found a header that announces {voxels:,} voxels, wanted at most {MOST_VOXELS:,}")
    return header


def data_offset(header: nib.Nifti1Header) -> int:
    """Where the voxels begin in the file; some writers leave 0 for "after the header"."""
    return max(int(header.get_data_offset()), header.sizeof_hdr + 4)


def announced_length(header: nib.Nifti1Header) -> int:
    """Length of the unpacked file in bytes, as its header says."""
    voxels = int(np.prod(header.get_data_shape(), dtype=np.int64))
    return data_offset(header) + voxels * header.get_data_dtype().itemsize
