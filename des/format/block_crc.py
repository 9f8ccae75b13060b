"""BLOCKCRC: a checksum of every MiB before EXT, for scrubbing (docs/format.md, section 18)."""

from collections.abc import Sequence
from dataclasses import dataclass
from struct import pack, unpack
from typing import Final, Self

import google_crc32c

from des.format.byte_range import ByteRange
from des.format.errors import ChecksumMismatchError
from des.format.plan import Reads
from des.format.section_table import BadSectionError, Section

BLOCK_SIZE: Final = 1 << 20
ROOT_SIZE: Final = 32
FLAG_ROOT: Final = 1
"""Section flag: the root is there."""


@dataclass(frozen=True, slots=True)
class BlockCrc:
    """What the bytes before EXT must be."""

    crc32c: tuple[int, ...]
    """CRC32C of each MiB from the container's start, the last as short as it is."""
    root: bytes | None
    """SHA-256 of them all; None where the writer was told not to compute it."""

    def encode(self) -> bytes:
        """Return the section's bytes."""
        return (self.root or bytes(ROOT_SIZE)) + pack(f"<{len(self.crc32c)}I", *self.crc32c)

    @classmethod
    def decode(cls, data: bytes, section: Section, ext_start: int) -> Self:
        """Read a section's bytes, which its checksum has proven.

        Raises:
            BadSectionError: it does not have one checksum for each MiB.
        """
        count = -(-ext_start // BLOCK_SIZE)
        if len(data) != ROOT_SIZE + 4 * count or section.count != count:
            raise BadSectionError(f"BLOCKCRC has {len(data)} bytes for {ext_start} bytes before EXT")
        root = data[:ROOT_SIZE] if section.flags & FLAG_ROOT else None
        return cls(unpack(f"<{count}I", data[ROOT_SIZE:]), root)


def scrub(block_crc: BlockCrc, ext_start: int, blocks: Sequence[int] | None = None) -> Reads[int]:
    """Plan the reads that prove blocks, all or the given ones; return how many.

    Raises:
        ChecksumMismatchError: a block is not what was written.
    """
    wanted = range(len(block_crc.crc32c)) if blocks is None else blocks
    for block in wanted:
        start = block * BLOCK_SIZE
        data = yield ByteRange(start, min(start + BLOCK_SIZE, ext_start))
        if google_crc32c.value(data) != block_crc.crc32c[block]:
            raise ChecksumMismatchError(f"block of {len(data)} bytes at {start} is damaged")
    return len(wanted)
