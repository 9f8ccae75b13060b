"""A container's bytes by place, wherever they lie: what tools and the local reader read from."""

from collections.abc import Iterator
from typing import Protocol, TypeVar

from des.format.byte_range import ByteRange
from des.format.reads import Reads

T = TypeVar("T")

PIECE_SIZE = 1 << 20
"""Bytes read at once where a long run is passed over."""


class ByteSource(Protocol):
    """Immutable bytes: a local file, or an object of a store. Safe for threads."""

    @property
    def name(self) -> str:
        """What people call it: a path or a URL."""
        ...

    @property
    def size(self) -> int:
        """Length in bytes, as it was opened."""
        ...

    def read(self, wanted: ByteRange) -> bytes:
        """Return exactly the bytes of `wanted`.

        Raises:
            CorruptError: it ends before.
            UnavailableError: it could not be read now.
        """
        ...

    def drive(self, plan: Reads[T]) -> T:
        """Run a plan over it."""
        ...

    def pieces(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes `[start, stop)` in order, `PIECE_SIZE` at a time."""
        ...

    def close(self) -> None:
        """Give back what is held. Twice is once."""
        ...
