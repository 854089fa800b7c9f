"""Files whole or not at all, and the folder where things are kept."""

import os
from pathlib import Path

import pytest

from harmony_lite import storage


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_failed_write_keeps_the_old_file_and_leaves_nothing_beside(tmp_path, monkeypatch, moment, error):
    path = tmp_path / "kept.bin"
    path.write_bytes(b"before")

    def fail(*_):
        raise error

    monkeypatch.setattr(os, moment, fail)
    with pytest.raises(error), storage.written_whole(path) as part:
        part.write_bytes(b"after")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("kept.bin", b"before")]


def test_an_interrupt_in_the_moment_the_unfinished_file_appears_leaves_nothing(tmp_path, monkeypatch):
    touch = Path.touch

    def touched_then_stopped(path, *arguments, **named):
        touch(path, *arguments, **named)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "touch", touched_then_stopped)
    with pytest.raises(KeyboardInterrupt), storage.written_whole(tmp_path / "new.bin"):
        pytest.fail("the block ran after the interrupt")
    assert list(tmp_path.iterdir()) == []


def test_a_result_is_an_ordinary_file(tmp_path):
    with storage.written_whole(tmp_path / "new.bin") as part:
        part.write_bytes(b"x")
    (tmp_path / "plain").write_bytes(b"x")
    assert (tmp_path / "new.bin").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("HARMONY_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert storage.cache_folder() == tmp_path / "xdg" / "harmony_lite"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    monkeypatch.setattr(storage.sys, "platform", "linux")
    assert storage.cache_folder() == tmp_path / ".cache" / "harmony_lite"
    monkeypatch.setattr(storage.sys, "platform", "darwin")
    assert storage.cache_folder() == tmp_path / "Library" / "Caches" / "harmony_lite"
    monkeypatch.setenv("HARMONY_CACHE", "~/mine")
    assert storage.cache_folder() == tmp_path / "mine"


def test_the_temporary_name_keeps_its_suffixes_and_an_absent_folder_is_named(tmp_path):
    with storage.written_whole(tmp_path / "a.nii.gz") as part:
        assert part.parent == tmp_path and part.name.endswith(".nii.gz")
        part.write_bytes(b"x")
    assert [Path(p).name for p in tmp_path.iterdir()] == ["a.nii.gz"]
    with pytest.raises(FileNotFoundError, match="found no folder"), storage.written_whole(tmp_path / "no" / "a"):
        pass
