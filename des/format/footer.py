"""The footer: the last 72 bytes of every container (docs/format.md, section 8)."""

from dataclasses import dataclass
from itertools import pairwise
from struct import Struct
from typing import Final, Self

from des.format.errors import CorruptContainerError, UnsupportedContainerError
from des.format.header import HEADER_SIZE
from des.format.layout import Layout

MAGIC: Final = b"DESFOOT1"
VERSION: Final = 1
FOOTER_SIZE: Final = 72
RESERVED: Final = bytes(7)

INDEX_ENTRY_SIZE_MIN: Final = 38
"""Bytes of an INDEX entry without its name."""
INDEX_LENGTH_MAX: Final = (1 << 32) - 1
"""Bytes of INDEX a reader accepts: places in it fit u32, which halves what a lookup keeps."""

# magic 8 bytes | version u8 | reserved 7 bytes | data_start u64 | data_length u64
# | meta_start u64 | meta_length u64 | index_start u64 | index_length u64 | file_count u64
_LAYOUT: Final = Struct("<8sB7sQQQQQQQ")
assert _LAYOUT.size == FOOTER_SIZE


class BadFooterError(CorruptContainerError):
    """The last 72 bytes are no footer, or point where they must not."""


_PLACES: Final = (
    "HEADER ends",
    "DATA starts",
    "DATA ends",
    "META starts",
    "META ends",
    "INDEX starts",
    "INDEX ends",
    "FOOTER starts",
)


@dataclass(frozen=True, slots=True)
class Footer:
    """Where the sections lie: places from the start of the container, lengths in bytes."""

    data_start: int
    data_length: int
    meta_start: int
    meta_length: int
    index_start: int
    index_length: int
    file_count: int

    @property
    def data_stop(self) -> int:
        """One past the last byte of DATA."""
        return self.data_start + self.data_length

    @property
    def meta_stop(self) -> int:
        """One past the last byte of META."""
        return self.meta_start + self.meta_length

    @property
    def index_stop(self) -> int:
        """One past the last byte of INDEX."""
        return self.index_start + self.index_length

    @property
    def layout(self) -> Layout:
        """FRAMED where META is empty though there are files; a v1 file always has metadata."""
        return Layout.FRAMED if self.file_count and not self.meta_length else Layout.V1

    def encode(self) -> bytes:
        """Return the 72 bytes."""
        return _LAYOUT.pack(
            MAGIC,
            VERSION,
            RESERVED,
            self.data_start,
            self.data_length,
            self.meta_start,
            self.meta_length,
            self.index_start,
            self.index_length,
            self.file_count,
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read 72 bytes. What they point to is checked by `check`.

        Raises:
            BadFooterError: another length, magic, version or reserved byte.
        """
        if len(data) != FOOTER_SIZE:
            raise BadFooterError(f"footer has {len(data)} bytes, expected {FOOTER_SIZE}")
        magic, version, reserved, *places = _LAYOUT.unpack(data)
        if magic != MAGIC:
            raise BadFooterError(f"footer magic is {magic!r}, expected {MAGIC!r}")
        if version != VERSION:
            raise BadFooterError(f"footer version is {version}, expected {VERSION}")
        if reserved != RESERVED:
            raise BadFooterError(f"reserved footer bytes are {reserved!r}, expected zeros")
        return cls(*places)

    def check(self, size: int) -> None:
        """Refuse sections that overlap, leave a container of `size` bytes, or cannot hold the files.

        Gaps between sections are legal; readers do not look into them.

        Raises:
            BadFooterError: a section is out of place, or INDEX is too short for `file_count`.
            UnsupportedContainerError: INDEX is longer than this reader holds.
        """
        footer_start = size - FOOTER_SIZE
        places = (
            HEADER_SIZE,
            self.data_start,
            self.data_stop,
            self.meta_start,
            self.meta_stop,
            self.index_start,
            self.index_stop,
            footer_start,
        )
        if list(places) != sorted(places):
            self._refuse_order(places)
        if self.file_count * INDEX_ENTRY_SIZE_MIN > self.index_length:
            raise BadFooterError(f"INDEX has {self.index_length} bytes, too few for {self.file_count} files")
        if self.index_length > INDEX_LENGTH_MAX:
            raise UnsupportedContainerError(
                f"INDEX has {self.index_length} bytes, at most {INDEX_LENGTH_MAX} are supported"
            )

    @staticmethod
    def _refuse_order(places: tuple[int, ...]) -> None:
        for (before, low), (after, high) in pairwise(zip(_PLACES, places, strict=True)):
            if low > high:
                raise BadFooterError(f"{before} at {low}, but {after} at {high}")
