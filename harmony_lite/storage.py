"""Where things are kept on disk, and how a file is written whole or not at all."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["cache_folder", "cached_file", "kept", "written_whole"]

OWN_PLACE = "HARMONY_CACHE=FOLDER chooses another place for what is kept"


def cache_folder() -> Path:
    """Where computed things are kept between runs; the folder need not exist yet.

    `HARMONY_CACHE` where it is set; else `harmony_lite` in the user's cache: `XDG_CACHE_HOME` where it is set, else
    the platform's place. Somebody without a home has it in the system's folder for temporary files.
    """
    if own := os.environ.get("HARMONY_CACHE"):
        return Path(own).expanduser()
    xdg = Path(os.environ.get("XDG_CACHE_HOME", "")).expanduser()
    if xdg.is_absolute():  # the XDG specification has relative paths ignored
        return xdg / "harmony_lite"
    if sys.platform == "win32" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "harmony_lite"
    try:
        home = Path.home()
    except RuntimeError:  # neither HOME nor an entry in passwd, as in some containers
        return Path(tempfile.gettempdir()) / f"harmony_lite-{os.getuid()}"
    return home / "Library" / "Caches" / "harmony_lite" if sys.platform == "darwin" else home / ".cache/harmony_lite"


def cached_file(path: Path) -> bool:
    """Whether a file of the cache is there, and can be read.

    Raises:
        ValueError: it is there, but belongs to somebody else who lets nobody read it.
    """
    if not path.is_file():
        return False
    if not os.access(path, os.R_OK):
        raise ValueError(f"{path}: found a file that may not be read, wanted to read it; {OWN_PLACE}")
    return True


@contextmanager
def kept(path: Path) -> Iterator[Path]:
    """As `written_whole` for a file of the cache, whose folder is made; others may read it, as the umask says.

    Raises:
        ValueError: a cache that cannot be written; the message says how to choose another one.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as part:
            yield part
            umask = os.umask(0)
            os.umask(umask)
            part.chmod(0o666 & ~umask)  # some writers make files that are their owner's alone
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"{path}: found a cache that cannot be written ({reason}); {OWN_PLACE}") from error


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
    part = path.with_name(f".part-{os.getpid()}-{secrets.token_hex(8)}{''.join(path.suffixes[-2:])}")
    try:  # the name is known before the file is made: an interrupt at any moment after finds what to remove
        part.touch(exist_ok=False)
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())  # else a power cut after the rename may leave an empty file
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
