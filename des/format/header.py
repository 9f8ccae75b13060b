"""The header: the first 16 bytes of every container (docs/format.md, section 3)."""

from struct import Struct
from typing import Final

from des.format.errors import CorruptContainerError

MAGIC: Final = b"DESHEAD1"
VERSION: Final = 1
HEADER_SIZE: Final = 16
RESERVED: Final = bytes(7)

# magic 8 bytes | version u8 | reserved 7 bytes
_LAYOUT: Final = Struct("<8sB7s")
assert _LAYOUT.size == HEADER_SIZE

HEADER: Final = _LAYOUT.pack(MAGIC, VERSION, RESERVED)
"""All containers start with these bytes."""


class BadHeaderError(CorruptContainerError):
    """The first 16 bytes are not those of a DES v1 container."""


def check_header(data: bytes) -> None:
    """Refuse anything but the one header there is.

    Raises:
        BadHeaderError: another magic, version or reserved byte, or fewer than 16 bytes.
    """
    if data != HEADER:
        raise BadHeaderError(f"header is {data[:HEADER_SIZE]!r}, expected {HEADER!r}")
