"""The trailer of EXT: the 64 bytes before the footer (docs/format.md, section 13)."""

from dataclasses import dataclass
from enum import IntFlag
from struct import Struct
from typing import Final, Self

import google_crc32c

from des.format.errors import CorruptContainerError, UnsupportedContainerError
from des.format.footer import FOOTER_SIZE

MAGIC: Final = b"DESXTRL1"
VERSION: Final = 1
TRAILER_SIZE: Final = 64
UUID_SIZE: Final = 16
SECTION_COUNT_MAX: Final = 64
"""Sections a reader accepts: their table is read, and held, before anything in it is proven."""

# magic 8 bytes | version u16 | trailer_length u16 | features u32 | uuid 16 bytes | ext_start u64
# | table_start u64 | section_count u32 | table_crc32c u32 | footer_crc32c u32 | trailer_crc32c u32
_LAYOUT: Final = Struct("<8sHHI16sQQIIII")
_UNSEALED: Final = Struct("<8sHHI16sQQIII")
_SEAL: Final = Struct("<I")
assert _LAYOUT.size == TRAILER_SIZE
assert _UNSEALED.size + _SEAL.size == TRAILER_SIZE


class Feature(IntFlag):
    """What a container uses. A reader must know each of the lower 16 bits, and may ignore the others."""

    FRAMED = 1
    """DATA consists of frames."""
    COMPRESSED = 2
    """Some files are stored compressed."""
    ENCRYPTED = 4
    """Some files are stored encrypted."""
    UPGRADED = 1 << 16
    """EXT was added to a container that another writer had finished."""


FEATURES_NEEDED: Final = 0xFFFF
"""The bits that a reader must know."""
FEATURES_READABLE: Final = int(Feature.FRAMED | Feature.COMPRESSED)
"""Those this reader knows. Where COMPRESSED is set, a frame says how its file is stored."""


class BadTrailerError(CorruptContainerError):
    """EXT's trailer is damaged or contradicts the container around it."""


@dataclass(frozen=True, slots=True)
class ExtTrailer:
    """Where EXT and its section table lie, and the checksums of what is not a section."""

    features: int
    uuid: bytes
    """The container's id, 16 bytes."""
    ext_start: int
    """First byte of EXT: one past INDEX."""
    table_start: int
    """First byte of the section table, which ends where the trailer starts."""
    section_count: int
    table_crc32c: int
    footer_crc32c: int
    """CRC32C of the footer's 72 bytes."""

    def encode(self) -> bytes:
        """Return the 64 bytes."""
        unsealed = _UNSEALED.pack(
            MAGIC,
            VERSION,
            TRAILER_SIZE,
            self.features,
            self.uuid,
            self.ext_start,
            self.table_start,
            self.section_count,
            self.table_crc32c,
            self.footer_crc32c,
        )
        return unsealed + _SEAL.pack(google_crc32c.value(unsealed))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read 64 bytes and prove them. What they point to is checked by `check`.

        Raises:
            BadTrailerError: another length or magic, or a wrong checksum.
            UnsupportedContainerError: a version, or a needed feature, that this reader does not know.
        """
        if len(data) != TRAILER_SIZE or not is_trailer(data):
            raise BadTrailerError(f"trailer is {data[:8]!r} and {len(data)} bytes, expected {MAGIC!r}")
        *fields, crc32c = _LAYOUT.unpack(data)
        if google_crc32c.value(data[: _UNSEALED.size]) != crc32c:
            raise BadTrailerError("trailer of EXT does not have the checksum it carries")
        _, version, length, *values = fields
        if version != VERSION or length != TRAILER_SIZE:
            raise UnsupportedContainerError(
                f"EXT has version {version} and a trailer of {length} bytes, "
                f"this reader reads version {VERSION} and {TRAILER_SIZE} bytes"
            )
        trailer = cls(*values)
        unknown = trailer.features & FEATURES_NEEDED & ~FEATURES_READABLE
        if unknown:
            raise UnsupportedContainerError(f"container needs features {unknown:#x}, which are not known")
        return trailer

    def check(self, *, size: int, index_stop: int, footer: bytes) -> None:
        """Demand that EXT fills the room between INDEX and the footer of a container of `size` bytes.

        Raises:
            BadTrailerError: it does not, or the footer is not the one EXT was written for.
        """
        if google_crc32c.value(footer) != self.footer_crc32c:
            raise BadTrailerError("footer does not have the checksum that EXT records")
        self.check_table(size)
        if self.ext_start != index_stop or self.ext_start > self.table_start:
            raise BadTrailerError(
                f"EXT starts at {self.ext_start} with its table at {self.table_start}, "
                f"INDEX ends at {index_stop}"
            )

    def check_table(self, size: int) -> None:
        """Demand that the section table ends where the trailer starts.

        Raises:
            BadTrailerError: it does not, or it has too many entries.
        """
        from_table = size - FOOTER_SIZE - TRAILER_SIZE - self.table_start
        if self.section_count > SECTION_COUNT_MAX or from_table != self.section_count * SECTION_ENTRY_SIZE:
            raise BadTrailerError(
                f"section table of {self.section_count} entries starts {from_table} bytes before the trailer"
            )


SECTION_ENTRY_SIZE: Final = 40
"""Bytes of one entry of the section table."""


def is_trailer(data: bytes) -> bool:
    """Whether 64 bytes before a footer are EXT's trailer, rather than bytes without meaning."""
    return data.startswith(MAGIC)
