"""A few files kept open for reading, so that a hot read costs no open."""

import os
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import Final

_NOWAIT: Final[int] = getattr(os, "RWF_NOWAIT", 0)
"""Linux has it; elsewhere a thread reads."""


class OpenFile:
    """A descriptor that closes itself when nobody refers to it any more.

    Readers in threads hold a reference while they read, so dropping the cache's own never closes a
    descriptor under a read, and no count has to be kept.
    """

    __slots__ = ("descriptor", "stat")

    def __init__(self, path: Path | str) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.stat = os.fstat(self.descriptor)

    def __del__(self) -> None:
        descriptor = getattr(self, "descriptor", None)
        if descriptor is not None:
            os.close(descriptor)

    def is_same(self, stat: os.stat_result) -> bool:
        """Whether `stat` is of this very file, unchanged. An inode is not reused while we hold it."""
        ours = self.stat
        return (
            ours.st_ino == stat.st_ino
            and ours.st_mtime_ns == stat.st_mtime_ns
            and ours.st_size == stat.st_size
            and ours.st_dev == stat.st_dev
        )

    def read(self, start: int, size: int) -> bytes:
        """Return up to `size` bytes at `start`; fewer only at the end of the file."""
        data = os.pread(self.descriptor, size, start)
        if len(data) == size or not data:
            return data
        parts = [data]
        taken = len(data)
        while taken < size:
            data = os.pread(self.descriptor, size - taken, start + taken)
            if not data:
                break
            parts.append(data)
            taken += len(data)
        return b"".join(parts)

    def read_cached(self, start: int, size: int) -> bytes | None:
        """Return `size` bytes when memory holds them all, else None; never waits for the device."""
        if not _NOWAIT:
            return None
        buffer = bytearray(size)
        try:
            taken = os.preadv(self.descriptor, [buffer], start, _NOWAIT)
        except OSError:
            # EAGAIN: not in memory. EOPNOTSUPP: a file system without this. Either way a thread reads.
            return None
        return bytes(buffer) if taken == size else None


class OpenFiles:
    """The most recently read files; safe for threads."""

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._files: OrderedDict[str, OpenFile] = OrderedDict()
        self._lock = Lock()

    def __contains__(self, key: str) -> bool:
        return key in self._files

    def get(self, key: str, stat: os.stat_result) -> OpenFile | None:
        """Return the open file of `key` if it still is the file that `stat` describes."""
        with self._lock:
            file = self._files.get(key)
            if file is None:
                return None
            if not file.is_same(stat):
                del self._files[key]
                return None
            self._files.move_to_end(key)
            return file

    def open(self, key: str, path: Path | str) -> OpenFile:
        """Open a file and remember it."""
        file = OpenFile(path)
        with self._lock:
            self._files[key] = file
            self._files.move_to_end(key)
            while len(self._files) > self._count_max:
                self._files.popitem(last=False)
        return file

    def forget(self, key: str) -> None:
        """Drop a file; a read under way ends unharmed."""
        with self._lock:
            self._files.pop(key, None)

    def close(self) -> None:
        """Drop all files."""
        with self._lock:
            self._files.clear()
