"""NAMES: every name in order, in blocks that are read alone (docs/format.md, section 16)."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from struct import Struct
from typing import Final

import google_crc32c
import numpy as np
import numpy.typing as npt
import zstandard

from des.format.byte_range import ByteRange
from des.format.errors import ChecksumMismatchError, UnsupportedContainerError
from des.format.footer import Footer
from des.format.index import ENTRY_SIZE_MIN, NAME_LENGTH_MAX
from des.format.plan import Reads
from des.format.section_table import BadSectionError, Section

BLOCK_NAMES: Final = 512
"""Names in a block; the last may have fewer."""
LEVEL: Final = 3
"""Of zstd. Higher ones gain under 3 % on names that follow a clock."""
BLOCK_SIZE_MAX: Final = BLOCK_NAMES * (NAME_LENGTH_MAX + 4)
"""Bytes of a block, uncompressed."""
DIRECTORY_SIZE_MAX: Final = 1 << 28
"""Bytes of the directory that a reader takes, uncompressed."""
READ_BLOCKS_MAX: Final = 64
"""Blocks fetched in one read."""
_MATRIX_MAX: Final = 1 << 26
_U32: Final = Struct("<I")


@dataclass(frozen=True, slots=True)
class NamesDirectory:
    """Where the blocks lie and what each starts with."""

    firsts: list[str]
    """First name of each block."""
    ranges: list[ByteRange]
    """Each block's bytes in the container."""
    crc32c: list[int]
    """Checksum of each block's bytes."""
    count: int
    """Names in all blocks."""
    names_bytes_max: int
    """Bytes that the names of one block can have, since INDEX has them too."""

    def decode(self, block: int, data: bytes) -> list[str]:
        """Prove one block's bytes and read them.

        Raises:
            ChecksumMismatchError: they are not what was written.
            BadSectionError: they are no block.
        """
        if google_crc32c.value(data) != self.crc32c[block]:
            raise ChecksumMismatchError(f"block {block} of NAMES does not have the checksum recorded for it")
        expected = min(BLOCK_NAMES, self.count - block * BLOCK_NAMES)
        size_max = min(BLOCK_SIZE_MAX, 4 * expected + self.names_bytes_max)
        return _decode_names(_decompress(data, size_max), expected, self.names_bytes_max)


def encode_names(names: Sequence[bytes]) -> Iterator[bytes]:
    """Yield NAMES of sorted names in UTF-8: blocks, then the directory, whose length is the last part's."""
    lengths: list[int] = []
    crc32c: list[int] = []
    firsts: list[bytes] = []
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=False, write_content_size=True)
    for start in range(0, len(names), BLOCK_NAMES):
        block = names[start : start + BLOCK_NAMES]
        firsts.append(block[0])
        data = compressor.compress(_encode_names(block))
        lengths.append(len(data))
        crc32c.append(google_crc32c.value(data))
        yield data
    if names:
        raw = np.array([lengths, crc32c], "<u4").tobytes() + _encode_names(firsts)
        directory = compressor.compress(raw)
        yield directory + _U32.pack(google_crc32c.value(directory))


def read_directory(section: Section, footer: Footer) -> Reads[NamesDirectory]:
    """Plan the one read of the directory.

    What it and the blocks unpack to is bounded by INDEX, which has the same names at full length: few bytes
    of NAMES cannot be made to stand for many.

    Raises:
        ChecksumMismatchError: it is damaged.
        BadSectionError: it contradicts itself or the section.
    """
    if section.count != footer.file_count:
        raise BadSectionError(f"NAMES is of {section.count} files, the footer says {footer.file_count}")
    names_bytes_max = footer.index_length - ENTRY_SIZE_MIN * footer.file_count
    if not section.count:
        return NamesDirectory([], [], [], 0, names_bytes_max)
    data = yield section.range(section.length - section.param, section.length)
    if google_crc32c.value(data[: -_U32.size]) != _U32.unpack_from(data, len(data) - _U32.size)[0]:
        raise ChecksumMismatchError("directory of NAMES does not have the checksum it carries")
    count = -(-section.count // BLOCK_NAMES)
    raw = _decompress(data[: -_U32.size], min(DIRECTORY_SIZE_MAX, 12 * count + names_bytes_max))
    if len(raw) < 8 * count:
        raise BadSectionError(f"directory of NAMES has {len(raw)} bytes for {count} blocks")
    lengths, crc32c = np.frombuffer(raw, "<u4", 2 * count).reshape(2, count).astype(np.int64)
    stops = np.cumsum(lengths)
    if (lengths == 0).any() or int(stops[-1]) + section.param != section.length:
        raise BadSectionError(f"blocks of NAMES have {int(stops[-1])} bytes, the section {section.length}")
    places = [section.start, *(stops + section.start).tolist()]
    return NamesDirectory(
        _decode_names(raw[8 * count :], count, names_bytes_max),
        [ByteRange(low, high) for low, high in pairwise(places)],
        crc32c.tolist(),
        section.count,
        names_bytes_max,
    )


def list_names(
    directory: NamesDirectory, *, prefix: str = "", start_after: str = "", limit: int | None = None
) -> Reads[list[str]]:
    """Plan the reads of names that start with `prefix` and sort after `start_after`, at most `limit`.

    Reads only blocks that may hold them, neighbours together.

    Raises:
        CorruptContainerError: a block is damaged.
    """
    found: list[str] = []
    passed = 0
    after = max(start_after, prefix)
    block = max(0, bisect_right(directory.firsts, after) - 1)
    while block < len(directory.firsts) and (limit is None or len(found) < limit):
        if block and _behind(directory.firsts[block], prefix):
            break
        wanted = READ_BLOCKS_MAX if limit is None else -(-(limit - len(found)) // BLOCK_NAMES) + 1
        stop = min(block + min(wanted, READ_BLOCKS_MAX), len(directory.firsts))
        while stop > block + 1 and _behind(directory.firsts[stop - 1], prefix):
            stop -= 1
        span = ByteRange(directory.ranges[block].start, directory.ranges[stop - 1].stop)
        data = yield span
        for number in range(block, stop):
            part = directory.ranges[number]
            names = directory.decode(number, data[part.start - span.start : part.stop - span.start])
            passed += sum(map(len, names))
            if passed > directory.names_bytes_max:
                raise BadSectionError(
                    f"names in NAMES have more than the {directory.names_bytes_max} bytes of all in INDEX"
                )
            found += [name for name in names if name.startswith(prefix) and name > start_after]
        block = stop
    return found[:limit]


def _behind(name: str, prefix: str) -> bool:
    """Whether all names from `name` on sort behind those that start with `prefix`."""
    return name > prefix and not name.startswith(prefix)


def _encode_names(names: Sequence[bytes]) -> bytes:
    """Return sorted names as u16 lengths shared with the one before, u16 lengths of the rest, the rests."""
    lengths = np.fromiter(map(len, names), np.int64, len(names))
    width = int(lengths.max())
    if width * len(names) > _MATRIX_MAX:
        return _encode_long_names(names)
    matrix = np.array(names, dtype=f"S{width}").view(np.uint8).reshape(len(names), width)
    shared = np.zeros(len(names), np.int64)
    if len(names) > 1:
        differs = matrix[1:] != matrix[:-1]
        shared[1:] = np.where(differs.any(axis=1), differs.argmax(axis=1), width)
        shared[1:] = np.minimum(shared[1:], np.minimum(lengths[1:], lengths[:-1]))
    column = np.arange(width)
    rest = matrix[(column >= shared[:, None]) & (column < lengths[:, None])]
    return shared.astype("<u2").tobytes() + (lengths - shared).astype("<u2").tobytes() + rest.tobytes()


def _encode_long_names(names: Sequence[bytes]) -> bytes:
    shared = [0]
    for before, name in pairwise(names):
        low, high = 0, min(len(before), len(name))
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if before[:middle] == name[:middle] else (low, middle - 1)
        shared.append(low)
    rests = [name[length:] for name, length in zip(names, shared, strict=True)]
    return (
        np.array(shared, "<u2").tobytes()
        + np.fromiter(map(len, rests), "<u2", len(rests)).tobytes()
        + b"".join(rests)
    )


def _decode_names(data: bytes, count: int, bytes_max: int) -> list[str]:
    if len(data) < 4 * count:
        raise BadSectionError(f"{count} names cannot be in {len(data)} bytes")
    shared: npt.NDArray[np.uint16] = np.frombuffer(data, "<u2", count)
    lengths: npt.NDArray[np.uint16] = np.frombuffer(data, "<u2", count, 2 * count)
    if int(lengths.sum(dtype=np.int64)) != len(data) - 4 * count:
        raise BadSectionError(f"rests of {count} names do not fill {len(data) - 4 * count} bytes")
    if int(shared.sum(dtype=np.int64) + lengths.sum(dtype=np.int64)) > bytes_max:
        raise BadSectionError(f"{count} names in NAMES have more than the {bytes_max} bytes of all in INDEX")
    names: list[str] = []
    name = b""
    start = 4 * count
    for kept, length in zip(shared.tolist(), lengths.tolist(), strict=True):
        if kept > len(name) or not 0 < kept + length <= NAME_LENGTH_MAX:
            raise BadSectionError(f"name in NAMES shares {kept} bytes with one of {len(name)}")
        after = name[:kept] + data[start : start + length]
        if after <= name:
            raise BadSectionError(f"names {name!r} and {after!r} are out of order")
        name = after
        start += length
        try:
            names.append(name.decode())
        except UnicodeDecodeError as error:
            raise BadSectionError(f"name {name!r} in NAMES is not UTF-8") from error
    return names


def _decompress(data: bytes, size_max: int) -> bytes:
    """Return what zstd compressed, once it says how much that is and it is not too much."""
    try:
        size = zstandard.frame_content_size(data)
        if not 0 <= size <= size_max:
            raise UnsupportedContainerError(f"NAMES has {size} bytes in a run, at most {size_max} are read")
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise BadSectionError(f"NAMES is not zstd: {error}") from error
