"""INDEXDIR: where every 64th entry of INDEX stands, and its proof (docs/format.md, section 15)."""

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Final

import google_crc32c

from des.format.byte_range import ByteRange
from des.format.errors import ChecksumMismatchError
from des.format.index import (
    ENTRY_SIZE_MIN,
    FIXED,
    FLAGS_KNOWN,
    NAME_LENGTH,
    NAME_LENGTH_MAX,
    BadIndexError,
    IndexEntry,
)
from des.format.section_table import BadSectionError

GROUP_SIZE: Final = 64
"""Entries of INDEX in a group."""
GROUP_LENGTH_MAX: Final = GROUP_SIZE * (ENTRY_SIZE_MIN + NAME_LENGTH_MAX)
"""Bytes of INDEX that a group can have."""
DIRECTORY_ENTRY_SIZE: Final = 16

# position u64 | index_crc32c u32 | meta_crc32c u32
_LAYOUT: Final = Struct("<QII")
assert _LAYOUT.size == DIRECTORY_ENTRY_SIZE


@dataclass(frozen=True, slots=True)
class Group:
    """64 neighbouring entries of INDEX; the last group may have fewer."""

    start: int
    """First byte in INDEX, from INDEX's start."""
    stop: int
    """One past the last."""
    index_crc32c: int
    """CRC32C of these bytes."""
    meta_crc32c: int
    """v1: CRC32C of the files' metadata, one after the other. `framed`: 0."""

    def range(self, index_start: int) -> ByteRange:
        """Return the group's bytes in the container."""
        return ByteRange(index_start + self.start, index_start + self.stop)

    def holds(self, data: bytes) -> bool:
        """Whether `data` is what was written as this group of INDEX."""
        return len(data) == self.stop - self.start and bool(google_crc32c.value(data) == self.index_crc32c)

    def entries(self, data: bytes) -> list[IndexEntry]:
        """Prove the group's bytes of INDEX and read them.

        Raises:
            ChecksumMismatchError: they are not what was written.
            BadIndexError: they are no entries.
        """
        if not self.holds(data):
            raise ChecksumMismatchError(
                f"bytes [{self.start}, {self.stop}) of INDEX have CRC32C {google_crc32c.value(data):08x}, "
                f"expected {self.index_crc32c:08x}"
            )
        return decode_entries(data)


def group_count(file_count: int) -> int:
    """Return how many groups there are."""
    return -(-file_count // GROUP_SIZE)


def group_starts(index: bytes) -> list[int]:
    """Return where each group starts in a sound INDEX."""
    starts: list[int] = []
    position = ordinal = 0
    while position < len(index):
        if ordinal % GROUP_SIZE == 0:
            starts.append(position)
        position += ENTRY_SIZE_MIN + int.from_bytes(index[position : position + NAME_LENGTH.size], "little")
        ordinal += 1
    return starts


def encode_directory(index: bytes, starts: Sequence[int], meta_crc32c: Sequence[int]) -> bytes:
    """Return INDEXDIR of an INDEX whose groups start at `starts`; `meta_crc32c` is empty when framed."""
    view = memoryview(index)
    return b"".join(
        _LAYOUT.pack(start, google_crc32c.value(bytes(view[start:stop])), meta)
        for start, stop, meta in zip(
            starts, [*starts, len(index)][1:], meta_crc32c or [0] * len(starts), strict=True
        )
    )


def group_range(ordinal: int, file_count: int) -> tuple[int, int]:
    """Return the bytes of INDEXDIR that describe the group of an ordinal: its entry and the next.

    Raises:
        BadIndexError: there is no such file.
    """
    if not 0 <= ordinal < file_count:
        raise BadIndexError(f"file {ordinal} is asked for, the container has {file_count}")
    group = ordinal // GROUP_SIZE
    stop = min(group + 2, group_count(file_count))
    return group * DIRECTORY_ENTRY_SIZE, stop * DIRECTORY_ENTRY_SIZE


def decode_group(data: bytes, index_length: int) -> Group:
    """Read a group from its entry in INDEXDIR and, where there is one, the next; INDEX will prove it.

    Raises:
        BadSectionError: it is not within INDEX.
    """
    start, index_crc32c, meta_crc32c = _LAYOUT.unpack_from(data)
    stop = index_length
    if len(data) > DIRECTORY_ENTRY_SIZE:
        stop = _LAYOUT.unpack_from(data, DIRECTORY_ENTRY_SIZE)[0]
    if not 0 <= start < stop <= index_length or stop - start > GROUP_LENGTH_MAX:
        raise BadSectionError(f"INDEXDIR says [{start}, {stop}) of INDEX, which has {index_length} bytes")
    return Group(start, stop, index_crc32c, meta_crc32c)


def decode_directory(data: bytes, index_length: int, file_count: int) -> list[Group]:
    """Read all of INDEXDIR.

    Raises:
        BadSectionError: it has not one entry for each group, or they are out of order.
    """
    count = group_count(file_count)
    if len(data) != count * DIRECTORY_ENTRY_SIZE:
        raise BadSectionError(f"INDEXDIR has {len(data)} bytes for {file_count} files")
    return [
        decode_group(data[start : start + 2 * DIRECTORY_ENTRY_SIZE], index_length)
        for start in range(0, len(data), DIRECTORY_ENTRY_SIZE)
    ]


def decode_entries(data: bytes) -> list[IndexEntry]:
    """Read entries of INDEX that follow each other.

    Raises:
        BadIndexError: they do not end with the data, or a name or flag is not one.
    """
    entries: list[IndexEntry] = []
    position = 0
    while position < len(data):
        if position + ENTRY_SIZE_MIN > len(data):
            raise BadIndexError("INDEX ends within an entry")
        (name_length,) = NAME_LENGTH.unpack_from(data, position)
        start = position + NAME_LENGTH.size
        position = start + name_length + FIXED.size
        if position > len(data) or not name_length:
            raise BadIndexError(f"a name of {name_length} bytes does not fit INDEX")
        try:
            name = data[start : start + name_length].decode()
        except UnicodeDecodeError as error:
            raise BadIndexError(f"name {data[start : start + name_length]!r} is not UTF-8") from error
        entry = IndexEntry(name, *FIXED.unpack_from(data, start + name_length))
        if entry.flags & ~FLAGS_KNOWN:
            raise BadIndexError(f"file {name!r} has unknown flags {entry.flags:#x}")
        entries.append(entry)
    return entries
