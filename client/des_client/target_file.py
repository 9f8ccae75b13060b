"""Writing a download to a path so that nobody ever sees half a file."""

import contextlib
import os
import secrets
from pathlib import Path
from typing import BinaryIO


class TargetFile:
    """A file written beside its final path, which takes that path at `commit`."""

    def __init__(self, target: str | os.PathLike[str]) -> None:
        self._target = Path(target)
        if self._target.is_dir():
            raise IsADirectoryError(f"{str(self._target)!r} is a directory, expected the path of a file")
        self._partial = self._target.with_name(f".{self._target.name[:200]}.{secrets.token_hex(6)}.part")
        self.file: BinaryIO = self._partial.open("xb")

    def commit(self, *, fsync: bool) -> None:
        """Put the file in place, over whatever was there."""
        self.file.flush()
        if fsync:
            os.fsync(self.file.fileno())
        self.file.close()
        self._partial.replace(self._target)
        if fsync:
            _sync_folder(self._target.parent)

    def discard(self) -> None:
        """Leave no trace."""
        with contextlib.suppress(OSError):
            self.file.close()
        self._partial.unlink(missing_ok=True)


def write_all(file: BinaryIO, data: bytes) -> None:
    """Write every byte; an unbuffered file may take them in several bites."""
    written = file.write(data)
    if written is None or written == len(data):
        return
    view = memoryview(data)[written:]
    while view:
        view = view[file.write(view) :]


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders; a rename there is durable with the journal
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
