"""Bytes in memory as a body to upload."""


class BytesBody:
    """A `Body` of bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def size(self) -> int:
        """Return the length in bytes."""
        return len(self._data)

    def pread(self, size: int, offset: int) -> bytes:
        """Return up to `size` bytes at `offset`."""
        return self._data[offset : offset + size]
