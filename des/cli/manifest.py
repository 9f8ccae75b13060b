r"""The manifest of an import: one line `NAME <TAB> SHA256 <TAB> PATH` per stored file.

A line is written when the store has acknowledged the file, in one write: an import that was interrupted
goes on where its manifest ends. Paths are escaped (`des.cli.text`), so that any path is one line; a later
line of the same path replaces the earlier one.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from des.cli import text
from des.cli.exits import Exit, Failure

_LINE: Final = re.compile(r"([^\t]+)\t([0-9a-f]{64})\t([^\t]+)")
_DIGEST_SIZE: Final = 16
"""Bytes kept per path, so that a manifest of ten million lines fits in memory."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored file."""

    name: str
    sha256: str
    """Of the file's bytes, in hex."""
    path: str
    """Relative to the folder that was put."""

    def encode(self) -> bytes:
        """Return the line, with its newline."""
        return f"{self.name}\t{self.sha256}\t{text.escape(self.path)}\n".encode()


def digest(path: str) -> bytes:
    """Return what stands for a path in sets of many."""
    return hashlib.blake2b(os.fsencode(path), digest_size=_DIGEST_SIZE).digest()


def read(file: Path) -> Iterator[Entry]:
    """Yield the entries of a manifest, in order.

    A last line without its newline was torn off by a crash and is left out.

    Raises:
        Failure: the file cannot be read, or a line is not one of a manifest.
    """
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.endswith(b"\n"):
                    yield _decode(line[:-1], file, number)
    except OSError as error:
        raise Failure(f"manifest {file}: {error.strerror}", code=Exit.USAGE) from None


def _decode(line: bytes, file: Path, number: int) -> Entry:
    try:
        found = _LINE.fullmatch(line.decode())
        if found is not None:
            name, sha256, path = found.groups()
            return Entry(name, sha256, text.unescape(path))
    except ValueError:
        pass
    raise Failure(
        f"manifest {file}, line {number}: found {line[:80]!r}, expected NAME<TAB>SHA256<TAB>PATH",
        code=Exit.USAGE,
    )


def read_last(file: Path) -> Iterator[Entry]:
    """Yield for each path its last entry; the whole manifest is checked before the first one."""
    last = {digest(entry.path): number for number, entry in enumerate(read(file))}
    for number, entry in enumerate(read(file)):
        if last.get(digest(entry.path)) == number:
            yield entry


class ManifestWriter:
    """Appends entries to a manifest that may exist already."""

    def __init__(self, file: Path) -> None:
        """Open `file`, created if absent; a torn last line is cut off.

        Raises:
            Failure: the file cannot be written, or is no manifest: nothing of it is touched then.
        """
        self.known: set[bytes] = {digest(entry.path) for entry in read(file)} if file.exists() else set()
        """Digests of the paths it held when it was opened."""
        try:
            self._fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            _cut_torn_line(self._fd)
        except OSError as error:
            raise Failure(f"manifest {file}: {error.strerror}", code=Exit.USAGE) from None

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def append(self, entry: Entry) -> None:
        """Write one line; it is with the kernel when this returns.

        Raises:
            OSError: the disk is full or failed.
        """
        line = entry.encode()
        written = os.write(self._fd, line)
        if written != len(line):
            raise OSError(f"wrote {written} of {len(line)} bytes of a manifest line")


def _cut_torn_line(fd: int) -> None:
    size = os.fstat(fd).st_size
    position = size
    while position > 0:
        start = max(0, position - 4096)
        newline = os.pread(fd, position - start, start).rfind(b"\n")
        if newline >= 0:
            position = start + newline + 1
            break
        position = start
    if position != size:
        os.ftruncate(fd, position)
