"""The section table of EXT: what lies where (docs/format.md, section 13)."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final, Self

import google_crc32c

from des.format.byte_range import ByteRange
from des.format.errors import ChecksumMismatchError, CorruptContainerError
from des.format.ext_trailer import SECTION_ENTRY_SIZE

# kind u16 | codec u16 | flags u32 | start u64 | length u64 | count u64 | crc32c u32 | param u32
_LAYOUT: Final = Struct("<HHIQQQII")
assert _LAYOUT.size == SECTION_ENTRY_SIZE


class SectionKind(IntEnum):
    """The sections that are known; a reader skips others."""

    HASHPAGES = 1
    FILTER = 2
    ZDICT = 3
    INDEXDIR = 4
    NAMES = 5
    BLOCKCRC = 6
    STATS = 7


class BadSectionError(CorruptContainerError):
    """A section is damaged, or the table contradicts itself."""


@dataclass(frozen=True, slots=True)
class Section:
    """One entry of the section table."""

    kind: int
    """A `SectionKind`, or one this reader does not know."""
    codec: int
    """Means what the kind says; 0 where it says nothing."""
    flags: int
    """Means what the kind says; 0 where it says nothing."""
    start: int
    """First byte, from the start of the container."""
    length: int
    count: int
    """Things in the section, as its kind counts them."""
    crc32c: int
    """CRC32C of the section's bytes."""
    param: int
    """Means what the kind says; 0 where it says nothing."""

    @property
    def stop(self) -> int:
        """One past the last byte."""
        return self.start + self.length

    def encode(self) -> bytes:
        """Return the 40 bytes."""
        return _LAYOUT.pack(
            self.kind,
            self.codec,
            self.flags,
            self.start,
            self.length,
            self.count,
            self.crc32c,
            self.param,
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read 40 bytes; `decode_table` proves them."""
        return cls(*_LAYOUT.unpack(data))

    def range(self, start: int, stop: int) -> ByteRange:
        """Return the bytes `[start, stop)` of the section as a range of the container.

        Raises:
            BadSectionError: they are not in the section, or none.
        """
        if not 0 <= start < stop <= self.length:
            raise BadSectionError(f"section {self.kind} has {self.length} bytes, asked for [{start}, {stop})")
        return ByteRange(self.start + start, self.start + stop)

    def check_bytes(self, data: bytes) -> bytes:
        """Return `data`, the section whole, once proven.

        Raises:
            ChecksumMismatchError: it is not what was written.
        """
        found = google_crc32c.value(data)
        if len(data) != self.length or found != self.crc32c:
            raise ChecksumMismatchError(
                f"section {self.kind} has {len(data)} bytes with CRC32C {found:08x}, "
                f"expected {self.length} with {self.crc32c:08x}"
            )
        return data


def encode_table(sections: Iterable[Section]) -> bytes:
    """Return the table; `decode_table` reads it."""
    return b"".join(section.encode() for section in sections)


def decode_table(data: bytes, *, crc32c: int, ext_start: int, table_start: int) -> tuple[Section, ...]:
    """Read and prove a table whose sections lie in `[ext_start, table_start)`.

    Raises:
        ChecksumMismatchError: its bytes are not what was written.
        BadSectionError: sections overlap, stand in another order or outside EXT, or a known kind
            stands twice that may stand once.
    """
    found = google_crc32c.value(data)
    if found != crc32c:
        raise ChecksumMismatchError(f"section table has CRC32C {found:08x}, expected {crc32c:08x}")
    sections = tuple(Section(*fields) for fields in _LAYOUT.iter_unpack(data))
    stop = ext_start
    seen: set[int] = set()
    for section in sections:
        start, end = section.start, section.start + section.length
        if start < stop or end > table_start:
            raise BadSectionError(
                f"section {section.kind} is [{start}, {end}), expected within [{stop}, {table_start})"
            )
        stop = end
        if section.kind in seen:
            raise BadSectionError(f"section table has kind {section.kind} twice")
        if section.kind != SectionKind.ZDICT:
            seen.add(section.kind)
    return sections
