"""Where things are kept on disk, and how a file is written whole or not at all."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["cache_folder", "written_whole"]


def cache_folder() -> Path:
    """Where computed things are kept between runs; the folder need not exist yet.

    `HARMONY_CACHE` where it is set; else `harmony_lite` in the user's cache: `XDG_CACHE_HOME` where it is set, else
    the platform's place.
    """
    if own := os.environ.get("HARMONY_CACHE"):
        return Path(own).expanduser()
    xdg = Path(os.environ.get("XDG_CACHE_HOME", "")).expanduser()
    if xdg.is_absolute():  # the XDG specification has relative paths ignored
        return xdg / "harmony_lite"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "harmony_lite"
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "harmony_lite"
    return Path.home() / ".cache" / "harmony_lite"


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it to `path` when the block ends well, remove it when it does not.

    The temporary name keeps every suffix (`.nii.gz`), because writers choose the format by it.

    Raises:
        FileNotFoundError: the folder that should hold `path` does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: found no folder {path.parent}, wanted an existing one")
    part = path.with_name(f".part-{secrets.token_hex(8)}{''.join(path.suffixes[-2:])}")
    try:  # the name is known before the file is made: an interrupt at any moment after finds what to remove
        part.touch(exist_ok=False)
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())  # else a power cut after the rename may leave an empty file
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
