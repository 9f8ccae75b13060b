"""What the contract suite cannot see: modes, the page cache, and what is synced."""

import errno
import os
import stat

import pytest

import des.storage.posix_disk
from des.storage.posix_disk import PosixDisk


@pytest.fixture(autouse=True)
def _open_umask():
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_nobody_else_may_read(tmp_path):
    disk = PosixDisk(tmp_path / "root")
    disk.make_directory("log")
    disk.create("log/a").close()
    disk.lock("lock").release()
    assert [mode(tmp_path / "root" / each) for each in (".", "log", "log/a", "lock")] == [
        0o700,
        0o700,
        0o600,
        0o600,
    ]


def test_every_folder_whose_names_changed_is_synced(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(des.storage.posix_disk, "sync_folder", synced.append)
    PosixDisk(tmp_path / "root").make_directory("log/deep")
    assert {tmp_path, tmp_path / "root", tmp_path / "root/log", tmp_path / "root/log/deep"} == set(synced)
    synced.clear()
    PosixDisk(tmp_path / "root").make_directory("log/deep")
    assert {tmp_path / "root", tmp_path / "root/log"} <= set(synced)


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EOPNOTSUPP])
def test_a_cold_or_unsupported_cached_read_is_none(tmp_path, monkeypatch, code):
    file = PosixDisk(tmp_path).create("a")
    file.pwrite([b"abc"], 0)

    def refuse(*_):
        raise OSError(code, "planned")

    monkeypatch.setattr(os, "preadv", refuse)
    assert file.pread_cached(3, 0) is None
    file.close()


def test_a_cached_read_without_the_flag_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(des.storage.posix_disk, "_NOWAIT", None)
    file = PosixDisk(tmp_path).create("a")
    file.pwrite([b"abc"], 0)
    assert file.pread_cached(3, 0) is None
    file.close()


def test_a_short_read_is_continued(tmp_path, monkeypatch):
    file = PosixDisk(tmp_path).create("a")
    file.pwrite([b"abcdefgh"], 0)
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, offset: pread(fd, min(size, 3), offset))
    assert file.pread(7, 1) == b"bcdefgh"
    assert file.pread(99, 6) == b"gh"
    file.close()
