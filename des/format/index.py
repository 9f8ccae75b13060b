"""INDEX: one entry per file, in insertion order (docs/format.md, section 7)."""

from struct import Struct
from typing import Final, NamedTuple

from des.format.errors import CorruptContainerError, InvalidEntryError, UnsupportedContainerError
from des.format.layout import Layout

FLAG_EXTERNAL: Final = 1
"""The bytes are an object of their own, under the metadata's `external_key`."""
FLAG_COMPRESSED: Final = 2
"""The stored bytes are not the file's: its frame says how they become it."""
FLAG_ENCRYPTED: Final = 4
FLAG_DELETED: Final = 8
FLAGS_KNOWN: Final = FLAG_EXTERNAL | FLAG_COMPRESSED | FLAG_ENCRYPTED | FLAG_DELETED
FLAGS_READABLE: Final = {
    Layout.FRAMED: frozenset({0, FLAG_EXTERNAL, FLAG_COMPRESSED}),
    Layout.V1: frozenset({0, FLAG_EXTERNAL}),
}
"""Flags this reader turns into the file's bytes; others are refused when the file is read."""

NAME_LENGTH_MAX: Final = (1 << 16) - 1
"""Bytes of a name in UTF-8: its length is a u16."""

NAME_LENGTH: Final = Struct("<H")
# data_offset u64 | data_length u64 | meta_offset u64 | meta_length u64 | flags u32
FIXED: Final = Struct("<QQQQI")
ENTRY_SIZE_MIN: Final = NAME_LENGTH.size + FIXED.size
assert FIXED.size == 36
assert ENTRY_SIZE_MIN == 38


class BadIndexError(CorruptContainerError):
    """INDEX contradicts itself or points where it must not."""


class IndexEntry(NamedTuple):
    """Where one file and its metadata lie, counted from the start of the container."""

    name: str
    data_offset: int
    """First byte of the file; 0 for an external one."""
    data_length: int
    """Bytes of the file as it is stored: its length, also of an external one, unless it is compressed."""
    meta_offset: int
    meta_length: int
    flags: int

    @property
    def is_external(self) -> bool:
        """Whether the bytes lie in an object of their own."""
        return bool(self.flags & FLAG_EXTERNAL)

    @property
    def is_compressed(self) -> bool:
        """Whether the stored bytes are not the file's."""
        return bool(self.flags & FLAG_COMPRESSED)

    def check_readable(self, layout: Layout) -> None:
        """Refuse a file whose bytes this reader cannot make from the stored ones.

        Raises:
            UnsupportedContainerError: encrypted, deleted, or compressed without a frame that says how.
        """
        if self.flags not in FLAGS_READABLE[layout]:
            raise UnsupportedContainerError(
                f"file {self.name!r} has flags {self.flags:#x}, "
                f"this reader reads {sorted(FLAGS_READABLE[layout])} in layout {layout.value}",
                name=self.name,
            )


def encode_name(name: str) -> bytes:
    """Return a name as it stands in a container.

    Raises:
        InvalidEntryError: empty, longer than 65,535 bytes, or not valid Unicode.
    """
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise InvalidEntryError(f"name {name!r} is not valid Unicode", field="name") from None
    if not 0 < len(encoded) <= NAME_LENGTH_MAX:
        raise InvalidEntryError(
            f"name {name[:80]!r} has {len(encoded)} bytes, expected 1 to {NAME_LENGTH_MAX}", field="name"
        )
    return encoded
