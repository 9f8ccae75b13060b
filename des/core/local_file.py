"""A local file read by place, sound container or not: what tools look at before a reader would open it."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from des.core.byte_source import PIECE_SIZE
from des.format.byte_range import ByteRange
from des.format.errors import CorruptContainerError
from des.format.reads import Reads, run

T = TypeVar("T")


class LocalFile:
    """An open file. Safe for threads: every read is a pread."""

    def __init__(self, path: str | Path) -> None:
        """Open it.

        Raises:
            OSError: it cannot be opened.
        """
        self._path: Final = os.fspath(path)
        self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        # A third of what fstat costs. Nothing here reads from where the descriptor stands.
        self._size: Final = os.lseek(self._descriptor, 0, os.SEEK_END)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def name(self) -> str:
        """The path."""
        return self._path

    @property
    def size(self) -> int:
        """Bytes, as it was opened."""
        return self._size

    def close(self) -> None:
        """Give the file back. Twice is once."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def read(self, wanted: ByteRange) -> bytes:
        """Return exactly the bytes of `wanted`.

        Raises:
            CorruptContainerError: the file ends before.
        """
        if wanted.stop > self._size:
            raise CorruptContainerError(
                f"{self._path!r} ends at {self._size}, expected at least {wanted.stop} bytes"
            )
        return read_exactly(self._descriptor, wanted, self._path)

    def read_at(self, size: int, offset: int) -> bytes:
        """Return exactly `size` bytes at `offset`, of which there is at least one. Raises as `read`."""
        data = os.pread(self._descriptor, size, offset)
        return data if len(data) == size else self.read(ByteRange(offset, offset + size))

    def read_up_to(self, size: int, offset: int) -> bytes:
        """Return up to `size` bytes at `offset`; fewer only at the end."""
        stop = min(offset + size, self._size)
        return self.read(ByteRange(offset, stop)) if offset < stop else b""

    def drive(self, plan: Reads[T]) -> T:
        """Run a plan over the file."""
        return run(plan, self.read)

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes `[start, stop)` in order, a MiB at a time."""
        for low in range(start, stop, PIECE_SIZE):
            yield self.read(ByteRange(low, min(low + PIECE_SIZE, stop)))


def read_exactly(descriptor: int, wanted: ByteRange, path: str | Path) -> bytes:
    """Return exactly the bytes `[start, stop)` of an open file.

    Raises:
        CorruptContainerError: the file ends before.
    """
    parts: list[bytes] = []
    start = wanted.start
    while start < wanted.stop:
        # Linux moves at most 2 GiB at a time.
        part = os.pread(descriptor, wanted.stop - start, start)
        if not part:
            raise CorruptContainerError(
                f"{str(path)!r} ends at {start}, expected at least {wanted.stop} bytes"
            )
        parts.append(part)
        start += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
