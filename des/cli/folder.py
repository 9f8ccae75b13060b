"""Writing files below one folder and nowhere else, whatever their paths say.

A path comes from a manifest that somebody may have edited, and the folder may hold links. So every step
down is taken with `openat` and `O_NOFOLLOW`: there is no moment between a check and a use.
"""

import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO, Final, Self

from des.cli.exits import Failure

_OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK_BYTES: Final = 1 << 20


def parts(path: str) -> list[str]:
    """Split a relative path into its names.

    Raises:
        Failure: it is absolute, goes up, or is empty.
    """
    names = path.split("/")
    if path.startswith("/"):
        raise Failure(f"path {path!r} is absolute, expected one below the folder", reason="UNSAFE_PATH")
    if any(name in {"", ".", ".."} or "\0" in name for name in names):
        raise Failure(f"path {path!r} has an empty, '.' or '..' part", reason="UNSAFE_PATH")
    return names


@dataclass
class Folder:
    """An open folder; what is written below it appears whole or not at all."""

    fd: int

    @classmethod
    def open(cls, path: str) -> Self:
        """Open a folder, created with its parents if absent. Links on the way to it are the user's own.

        Raises:
            OSError: it cannot be made or opened.
        """
        os.makedirs(path, exist_ok=True)  # noqa: PTH103  paths stay text
        return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def close(self) -> None:
        """Close it."""
        os.close(self.fd)

    @contextmanager
    def _parent(self, names: list[str], *, create: bool) -> Iterator[int]:
        """Open the folder that the last name lies in."""
        fd = os.dup(self.fd)
        try:
            for name in names[:-1]:
                if create:
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=fd)
                below = os.open(name, _OPEN_FOLDER, dir_fd=fd)
                os.close(fd)
                fd = below
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def replace(self, path: str) -> Iterator[BinaryIO]:
        """Write a file: it takes its place when the block ends well, and leaves no trace otherwise.

        Raises:
            Failure: the path leads out of the folder.
            OSError: it cannot be written, or a part of the path is a link or no folder.
        """
        names = parts(path)
        with self._parent(names, create=True) as parent:
            # Short and fixed in length: a name of 255 bytes has no room for a suffix.
            temporary = f".des-{secrets.token_hex(8)}"
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(temporary, flags, 0o666, dir_fd=parent)
            try:
                with os.fdopen(fd, "w+b") as file:
                    yield file
                os.rename(temporary, names[-1], src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=parent)
                raise

    def sha256(self, path: str) -> str | None:
        """Return the SHA-256 of a regular file below the folder, in hex; None where there is none."""
        names = parts(path)
        try:
            with self._parent(names, create=False) as parent:
                fd = os.open(
                    names[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent
                )
            with os.fdopen(fd, "rb", buffering=0) as file:
                return sha256_of(file) if stat.S_ISREG(os.fstat(fd).st_mode) else None
        except OSError:
            return None


def sha256_of(file: BinaryIO) -> str:
    """Read a file from where it stands to its end, and return its SHA-256 in hex."""
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()
