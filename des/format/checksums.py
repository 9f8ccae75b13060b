"""Checksums of a file as its bytes go by."""

from typing import Final

import google_crc32c
import numpy as np

from des.files import BLOCK_SIZE

_NO_BYTES: Final = 0
_COPIED_MAX: Final = 1 << 15
SEALED: Final = google_crc32c.value(bytes(4))
"""The CRC32C of any bytes that end with their own CRC32C, little-endian: that of no bytes is 0.

What is sealed so is proven without cutting the checksum off, which copies all before it.
"""


def block_checksums(data: bytes, block_size: int = BLOCK_SIZE) -> tuple[int, ...]:
    """Return the CRC32C of each `block_size` bytes of `data`, the last block as short as it is."""
    return tuple(
        google_crc32c.value(data[start : start + block_size]) for start in range(0, len(data), block_size)
    )


class BlockChecksums:
    """CRC32C of each block of a stream."""

    def __init__(self, block_size: int = BLOCK_SIZE) -> None:
        self.size = 0
        """Bytes seen."""
        self._block_size = block_size
        self._blocks: list[int] = []
        self._open = _NO_BYTES

    @property
    def block_crc32c(self) -> tuple[int, ...]:
        """CRC32C of each block, the last one as far as it was seen."""
        return (*self._blocks, self._open) if self.size % self._block_size else tuple(self._blocks)

    def update(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        # An array's slice is no copy, and is what the checksum takes; of few bytes a copy is cheaper.
        view = data if len(data) < _COPIED_MAX else np.frombuffer(data, np.uint8)
        start = 0
        while start < len(data):
            room = self._block_size - self.size % self._block_size
            part = view[start : start + room]
            self._open = google_crc32c.extend(self._open, part)
            self.size += len(part)
            start += len(part)
            if self.size % self._block_size == 0:
                self._blocks.append(self._open)
                self._open = _NO_BYTES


class Checksums(BlockChecksums):
    """CRC32C of a stream: of the whole and of each block."""

    def __init__(self, block_size: int = BLOCK_SIZE) -> None:
        super().__init__(block_size)
        self.crc32c = _NO_BYTES
        """CRC32C of all bytes seen."""

    def update(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        self.crc32c = google_crc32c.extend(self.crc32c, data)
        super().update(data)
