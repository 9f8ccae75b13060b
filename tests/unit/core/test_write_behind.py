"""A sync that fails behind the writer's back fails the container: the kernel tells of it once."""

import errno
import os
import threading

import pytest

from des.core import DesReader, DesWriter
from des.core.write_behind import SYNC_EVERY, WriteBehind

PIECE = bytes(1 << 20)


def test_a_container_is_synced_while_it_grows_and_whole_at_the_end(tmp_path, monkeypatch):
    synced = []
    fdatasync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (fdatasync(fd), synced.append(os.fstat(fd).st_size)))
    with DesWriter(tmp_path / "c.des") as writer:
        for i in range(2 * SYNC_EVERY // len(PIECE)):
            writer.add_file(str(i), PIECE)
    assert synced
    assert not any(thread.name.startswith("des-write-behind") for thread in threading.enumerate())
    with DesReader(tmp_path / "c.des") as reader:
        assert len(reader) == 2 * SYNC_EVERY // len(PIECE)
        assert reader.get_file("0") == PIECE


def test_a_sync_that_failed_leaves_no_container(tmp_path, monkeypatch):
    def refuse(_descriptor):
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(os, "fdatasync", refuse)

    def write():
        with DesWriter(tmp_path / "c.des") as writer:
            for i in range(2 * SYNC_EVERY // len(PIECE)):
                writer.add_file(str(i), PIECE)

    with pytest.raises(OSError, match="I/O error"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_short_file_starts_no_thread(tmp_path):
    descriptor = os.open(tmp_path / "f", os.O_WRONLY | os.O_CREAT)
    behind = WriteBehind(descriptor)
    before = threading.active_count()
    behind.wrote(SYNC_EVERY - 1)
    assert threading.active_count() <= before
    behind.close()
    behind.close()
    os.close(descriptor)
