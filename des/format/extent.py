"""A file's bytes as a run of blocks, any of which can be verified without the others.

The run lies in the container or, for an external file, is an object of its own.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from des.format.byte_range import ByteRange
from des.format.checksums import Checksums
from des.format.errors import ChecksumMismatchError
from des.format.frame import check_data
from des.format.index import IndexEntry
from des.format.metadata import Metadata
from des.format.name_key import bound_seed
from des.format.plan import Reads

PIECE_SIZE_MAX: Final = 1 << 22
"""Bytes of a file that a reader holds at once: the largest checksum block."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a file's bytes lie in their object, and how to prove them."""

    name: str
    start: int
    """First byte of the file in its object."""
    size: int
    crc32c: int | None
    """CRC32C of the whole file; None where nobody recorded one."""
    block_size: int | None
    """Bytes per checksum block; None where there are none."""
    block_crc32c: tuple[int, ...]
    seed: int = 0
    """What `crc32c` starts from: in EXT, the checksum of the name's digest."""

    @property
    def needs_blocks(self) -> bool:
        """Whether only the whole file can be proven: `learn_blocks` mends that."""
        return self.size > 0 and self.crc32c is not None and self.block_size is None


def extent_of(entry: IndexEntry, metadata: Metadata) -> Extent:
    """Return the extent of a file whose metadata is known."""
    system = metadata.system
    extent = Extent(
        name=entry.name,
        start=0 if entry.is_external else entry.data_offset,
        size=entry.data_length,
        crc32c=system.crc32c,
        block_size=system.block_size,
        block_crc32c=system.block_crc32c,
    )
    if extent.needs_blocks and system.crc32c is not None and extent.size <= PIECE_SIZE_MAX:
        return replace(extent, block_size=extent.size, block_crc32c=(system.crc32c,))
    return extent


def pieces(extent: Extent, start: int, stop: int) -> list[ByteRange]:
    """Cut the range `[start, stop)` of a file into reads of at most `PIECE_SIZE_MAX` bytes.

    Cuts fall on block boundaries, so that no block is read twice.
    """
    step = PIECE_SIZE_MAX
    if extent.block_size is not None:
        step -= step % extent.block_size
    cuts = [start, *range(start - start % step + step, stop, step), stop]
    return [ByteRange(low, high) for low, high in pairwise(cuts) if low < high]


def read_piece(extent: Extent, piece: ByteRange) -> Reads[bytes]:
    """Plan the read of one of `pieces`: the blocks that cover it, each verified.

    Raises:
        ChecksumMismatchError: a block is not what was written.
    """
    if extent.block_size is None:
        return (yield ByteRange(extent.start + piece.start, extent.start + piece.stop))
    first = piece.start // extent.block_size
    covered = ByteRange(
        first * extent.block_size, min(extent.size, -(-piece.stop // extent.block_size) * extent.block_size)
    )
    data = yield ByteRange(extent.start + covered.start, extent.start + covered.stop)
    for ordinal, start in enumerate(range(0, len(data), extent.block_size), first):
        check_data(data[start : start + extent.block_size], extent.block_crc32c[ordinal], extent.name)
    return data[piece.start - covered.start : piece.stop - covered.start]


def learn_blocks(extent: Extent) -> Reads[Extent]:
    """Plan one pass over a file that has only a checksum of the whole; return it with block checksums.

    Costs the whole file once, in pieces; nothing is held.

    Raises:
        ChecksumMismatchError: the whole is not what was written.
    """
    checksums = Checksums(PIECE_SIZE_MAX)
    checksums.crc32c = extent.seed
    for piece in pieces(extent, 0, extent.size):
        checksums.update((yield ByteRange(extent.start + piece.start, extent.start + piece.stop)))
    if checksums.crc32c != extent.crc32c:
        raise ChecksumMismatchError(
            f"bytes of {extent.name!r} have CRC32C {checksums.crc32c:08x}, expected {extent.crc32c:08x}",
            name=extent.name,
        )
    return replace(extent, block_size=PIECE_SIZE_MAX, block_crc32c=checksums.block_crc32c)


def bound_extent(extent: Extent, digest: bytes, proof: int) -> Extent:
    """Return the extent of a v1 file with the proof that its record has, where it has none of its own."""
    if extent.crc32c is not None or extent.block_size is not None:
        return extent
    return replace(extent, crc32c=proof, seed=bound_seed(digest))
