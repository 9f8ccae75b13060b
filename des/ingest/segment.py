"""The segment: one file of the log, its header and its name (docs/log.md, section 2).

```
magic 8 bytes | version u16 | reserved u16 | features u32 | node_uuid 16 bytes | boot_epoch u64
| segment_no u64 | first_seq u64 | salt u32 | header_crc u32                 all little-endian
```
"""

import re
from dataclasses import dataclass
from struct import Struct
from typing import Final, Self
from uuid import UUID

import google_crc32c

from des.errors import CorruptError
from des.ingest.record import LogVersionError

MAGIC: Final = b"DESLOG01"
VERSION: Final = 1
FEATURES: Final = 0
"""Feature bits this version knows; any other is refused."""
HEADER_SIZE: Final = 64

_LAYOUT: Final = Struct("<8sHHI16sQQQII")
assert _LAYOUT.size == HEADER_SIZE

_NAME: Final = re.compile(r"log-([0-9a-f]{8})-([0-9a-f]{8})\.dlog")
TEMPORARY_SUFFIX: Final = ".tmp"
"""Of a file that is not yet part of the log; a start removes what it finds."""


class SegmentHeaderError(CorruptError):
    """A segment header that was never written whole, or has been damaged."""

    reason = "LOG_DAMAGED"


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """The first 64 bytes of a segment."""

    node: UUID
    boot_epoch: int
    """Of the start that made the segment."""
    number: int
    """Counts segments of the node without a gap."""
    first_seq: int
    """Sequence number of its first record."""
    salt: int
    """Random; every checksum of names, texts and headers in this segment starts from it."""

    def encode(self) -> bytes:
        """Return the 64 bytes."""
        summed = _LAYOUT.pack(
            MAGIC,
            VERSION,
            0,
            FEATURES,
            self.node.bytes,
            self.boot_epoch,
            self.number,
            self.first_seq,
            self.salt,
            0,
        )[:-4]
        crc: int = google_crc32c.value(summed)
        return summed + crc.to_bytes(4, "little")

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Return the header in the first 64 bytes of a segment.

        Raises:
            SegmentHeaderError: the bytes are no whole header.
            LogVersionError: a newer version wrote them.
        """
        if len(raw) < HEADER_SIZE:
            raise SegmentHeaderError(f"segment is {len(raw)} bytes, shorter than its header")
        magic, version, reserved, features, node, boot, number, first_seq, salt, crc = _LAYOUT.unpack_from(
            raw
        )
        if magic != MAGIC:
            raise SegmentHeaderError(f"segment magic is {magic!r}, expected {MAGIC!r}")
        if google_crc32c.value(raw[: HEADER_SIZE - 4]) != crc:
            raise SegmentHeaderError("segment header does not match its checksum")
        if version != VERSION or features & ~FEATURES or reserved:
            raise LogVersionError(
                f"segment has version {version}, features {features:#x}, reserved {reserved}; "
                f"this version reads version {VERSION}, features {FEATURES:#x}, reserved 0",
                found=version,
                supported=VERSION,
            )
        return cls(UUID(bytes=node), boot, number, first_seq, salt)

    @property
    def crc(self) -> int:
        """Checksum of the header: what the first record names as its predecessor."""
        return int.from_bytes(self.encode()[-4:], "little")


def file_name(boot_epoch: int, number: int) -> str:
    """Return the file name of a segment.

    >>> file_name(3, 26)
    'log-00000003-0000001a.dlog'
    """
    return f"log-{boot_epoch:08x}-{number:08x}.dlog"


def parse_file_name(name: str) -> tuple[int, int] | None:
    """Return boot epoch and segment number of a segment's file name; None for any other name."""
    match = _NAME.fullmatch(name)
    return (int(match[1], 16), int(match[2], 16)) if match else None
