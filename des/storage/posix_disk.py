"""The node's own disk, through the calls POSIX and Linux give."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from des.storage.disk import DiskFile, DiskLock
from des.storage.folders import sync_folder

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
BUFFERS_MAX: Final = min(1024, os.sysconf("SC_IOV_MAX"))
"""Buffers that one call takes; the rest is a short write."""
_NOT_CACHED: Final = frozenset({errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})
_NOWAIT: Final[int | None] = getattr(os, "RWF_NOWAIT", None)


class PosixFile:
    """An open file of a `PosixDisk`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def _fd(self) -> int:
        if self._descriptor is None:
            raise OSError(errno.EBADF, "the file is closed")
        return self._descriptor

    def pwrite(self, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        """Write with one pwritev."""
        return os.pwritev(self._fd(), buffers[:BUFFERS_MAX], offset)

    def pread(self, size: int, offset: int) -> bytes:
        """Read until `size` bytes or the end of the file."""
        data = os.pread(self._fd(), size, offset)
        if len(data) in {0, size}:
            return data
        parts = [data]
        missing = size - len(data)
        while missing and (data := os.pread(self._fd(), missing, offset + size - missing)):
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    def pread_cached(self, size: int, offset: int) -> bytes | None:
        """Read with RWF_NOWAIT; None as well where the kernel or file system has no such thing."""
        if _NOWAIT is None:
            return None
        buffer = bytearray(size)
        try:
            taken = os.preadv(self._fd(), [buffer], offset, _NOWAIT)
        except OSError as error:
            if error.errno in _NOT_CACHED:
                return None
            raise
        return bytes(buffer) if taken == size else None

    def sync(self) -> None:
        """Fdatasync."""
        os.fdatasync(self._fd())

    def allocate(self, size: int) -> None:
        """Reserve with posix_fallocate."""
        if size:
            os.posix_fallocate(self._fd(), 0, size)

    def truncate(self, size: int) -> None:
        """Ftruncate."""
        os.ftruncate(self._fd(), size)

    def size(self) -> int:
        """Return the length that fstat gives."""
        return os.fstat(self._fd()).st_size

    def close(self) -> None:
        """Close the descriptor. Twice is once."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class PosixLock:
    """A flock, released with its descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Close the descriptor. Twice is once."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class PosixDisk:
    """The files under one folder of the machine, which `make_directory` makes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def _path(self, path: str) -> Path:
        return self._root / path

    def create(self, path: str) -> DiskFile:
        """Make a file that no one else may read."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return PosixFile(os.open(self._path(path), flags, FILE_MODE))

    def open(self, path: str) -> DiskFile:
        """Open for reading and writing."""
        return PosixFile(os.open(self._path(path), os.O_RDWR | os.O_CLOEXEC))

    def make_directory(self, path: str) -> None:
        """Make the folder and its parents and sync the folders that hold their names."""
        target = self._path(path).absolute()
        missing = [folder for folder in (target, *target.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        # A folder that exists may be one that a crashed start made and never synced.
        root = self._root.absolute()
        inside = [folder for folder in target.parents if folder.is_relative_to(root)]
        for folder in {target, *inside, *(each.parent for each in missing)}:
            sync_folder(folder)
        if root.parent not in missing:
            with contextlib.suppress(PermissionError):  # not ours to open: its owner made the root
                sync_folder(root.parent)

    def list(self, path: str) -> list[str]:
        """Return the names in a folder, sorted."""
        try:
            return sorted(os.listdir(self._path(path)))  # noqa: PTH208  names are wanted, not paths
        except FileNotFoundError:
            return []

    def rename(self, source: str, target: str) -> None:
        """Rename over `target`."""
        self._path(source).replace(self._path(target))

    def remove(self, path: str) -> None:
        """Unlink."""
        self._path(path).unlink(missing_ok=True)

    def sync_directory(self, path: str) -> None:
        """Fsync the folder."""
        sync_folder(self._path(path))

    def lock(self, path: str) -> DiskLock:
        """Take a flock."""
        descriptor = os.open(self._path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(descriptor)
            raise
        return PosixLock(descriptor)

    def free_bytes(self) -> int:
        """Return what an unprivileged process may still use."""
        room = os.statvfs(self._root)
        return room.f_bavail * room.f_frsize
