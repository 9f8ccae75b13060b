"""The door to the node's own disk: what the ingest log does to files, and nothing more.

`PosixDisk` is the real one, `des.testing.SimulatedDisk` its twin with crashes, torn writes and
failed syncs; both pass `des.testing.DiskSuite`. Paths are relative to the disk's root and use "/".
"""

from collections.abc import Sequence
from typing import Protocol


class DiskFile(Protocol):
    """One open file. All calls block; the caller chooses the thread."""

    def pwrite(self, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        """Write at `offset` and return how many bytes were taken, which may be fewer than given."""
        ...

    def pread(self, size: int, offset: int) -> bytes:
        """Return up to `size` bytes at `offset`; fewer only at the end of the file."""
        ...

    def pread_cached(self, size: int, offset: int) -> bytes | None:
        """Return the bytes if memory holds them all, else None; never waits for the device."""
        ...

    def sync(self) -> None:
        """Return when every byte written so far is on the device (fdatasync).

        Raises:
            OSError: the device refused. What was written since the last sync may be gone, and a
                later sync that succeeds proves nothing about it.
        """
        ...

    def allocate(self, size: int) -> None:
        """Reserve room for `size` bytes from the start (posix_fallocate).

        Raises:
            OSError: ENOSPC or EDQUOT when there is no room.
        """
        ...

    def truncate(self, size: int) -> None:
        """Cut or extend the file to `size` bytes."""
        ...

    def size(self) -> int:
        """Return the file's length in bytes."""
        ...

    def close(self) -> None:
        """Give the file back. Twice is once."""
        ...


class DiskLock(Protocol):
    """An exclusive lock that the death of its process releases."""

    def release(self) -> None:
        """Let go. Twice is once."""
        ...


class Disk(Protocol):
    """A tree of files under one root. A name is durable only after `sync_directory`."""

    def create(self, path: str) -> DiskFile:
        """Make a new file (0600) for reading and writing.

        Raises:
            FileExistsError: the path is taken.
        """
        ...

    def open(self, path: str) -> DiskFile:
        """Open an existing file for reading and writing.

        Raises:
            FileNotFoundError: no such file.
        """
        ...

    def make_directory(self, path: str) -> None:
        """Make a folder (0700) and its parents; an existing one is fine. Synced when it returns."""
        ...

    def list(self, path: str) -> list[str]:
        """Return the names in a folder, sorted; an absent folder is empty."""
        ...

    def rename(self, source: str, target: str) -> None:
        """Move a file over `target` atomically."""
        ...

    def remove(self, path: str) -> None:
        """Remove a file; an absent one is fine."""
        ...

    def sync_directory(self, path: str) -> None:
        """Return when the folder's names are on the device."""
        ...

    def lock(self, path: str) -> DiskLock:
        """Take an exclusive lock on a file, made if absent, without waiting.

        Raises:
            BlockingIOError: another process holds it.
        """
        ...

    def free_bytes(self) -> int:
        """Return the room left on the device, in bytes."""
        ...
