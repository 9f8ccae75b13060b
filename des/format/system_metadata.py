"""What DES itself keeps of a file: the value of "_des" in its metadata (docs/format.md, section 6)."""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from struct import pack, unpack
from typing import Any, Final, Self

from des.format.errors import CorruptContainerError

SYSTEM_KEY: Final = "_des"

BLOCK_SIZE_MIN: Final = 1 << 16
BLOCK_SIZE_MAX: Final = 1 << 22
"""Bounds of a checksum block, in bytes: a reader holds one block to verify any part of it."""

_CRC32C: Final = re.compile(r"[0-9a-f]{8}")
_U32_MAX: Final = (1 << 32) - 1


class BadMetadataError(CorruptContainerError):
    """Metadata is not what docs/format.md, section 6 says."""


@dataclass(frozen=True, slots=True)
class SystemMetadata:
    """What DES keeps of a file beside the user's metadata."""

    crc32c: int | None = None
    """CRC32C of the whole file; None where nobody recorded it."""
    content_type: str = ""
    """As given by the writer; empty when not given."""
    block_size: int | None = None
    """Bytes per checksum block (the last may be shorter); None without block checksums."""
    block_crc32c: tuple[int, ...] = ()
    """CRC32C of each block, in order."""

    def __post_init__(self) -> None:
        for crc32c in (self.crc32c or 0, *self.block_crc32c):
            if not 0 <= crc32c <= _U32_MAX:
                raise ValueError(f"CRC32C is {crc32c}, expected 0 to {_U32_MAX}")
        if (self.block_size is None) != (not self.block_crc32c):
            raise ValueError("block size and block checksums stand together or not at all")
        if self.block_size is not None and (
            not BLOCK_SIZE_MIN <= self.block_size <= BLOCK_SIZE_MAX or self.block_size.bit_count() != 1
        ):
            raise ValueError(
                f"block size is {self.block_size}, expected a power of two "
                f"from {BLOCK_SIZE_MIN} to {BLOCK_SIZE_MAX}"
            )

    def check_blocks(self, size: int) -> None:
        """Demand one block checksum for each block of a file of `size` bytes.

        Raises:
            ValueError: more or fewer.
        """
        if self.block_size is not None and len(self.block_crc32c) != -(-size // self.block_size):
            raise ValueError(
                f"{len(self.block_crc32c)} block checksums do not fit {size} bytes "
                f"in blocks of {self.block_size}"
            )

    def encode(self) -> dict[str, Any]:
        """Return the JSON value of "_des"; empty when there is nothing to say."""
        value: dict[str, Any] = {}
        if self.crc32c is not None:
            value["crc32c"] = f"{self.crc32c:08x}"
        if self.content_type:
            value["content_type"] = self.content_type
        if self.block_size is not None:
            packed = pack(f"<{len(self.block_crc32c)}I", *self.block_crc32c)
            value["block_size"] = self.block_size
            value["block_crc32c"] = base64.b64encode(packed).decode("ascii")
        return value

    @classmethod
    def decode(cls, value: object) -> Self:
        """Read the JSON value of "_des".

        Raises:
            BadMetadataError: an unknown key, a wrong type, or a value out of bounds.
        """
        if not isinstance(value, Mapping):
            raise BadMetadataError(f"{SYSTEM_KEY!r} is {value!r}, expected an object")
        known = {"crc32c", "content_type", "block_size", "block_crc32c"}
        if not value.keys() <= known:
            raise BadMetadataError(f"{SYSTEM_KEY!r} has unknown keys {sorted(value.keys() - known)!r}")
        content_type = value.get("content_type", "")
        if not isinstance(content_type, str):
            raise BadMetadataError(f"content type is {content_type!r}, expected a string")
        block_size = value.get("block_size")
        if block_size is not None and type(block_size) is not int:
            raise BadMetadataError(f"block size is {block_size!r}, expected a number of bytes")
        try:
            return cls(
                crc32c=_decode_crc32c(value["crc32c"]) if "crc32c" in value else None,
                content_type=content_type,
                block_size=block_size,
                block_crc32c=_decode_blocks(value["block_crc32c"]) if "block_crc32c" in value else (),
            )
        except ValueError as error:
            raise BadMetadataError(f"{SYSTEM_KEY!r}: {error}") from error


def _decode_crc32c(text: object) -> int:
    if not isinstance(text, str) or not _CRC32C.fullmatch(text):
        raise BadMetadataError(f"CRC32C is {text!r}, expected 8 hexadecimal digits")
    return int(text, 16)


def _decode_blocks(text: object) -> tuple[int, ...]:
    if not isinstance(text, str):
        raise BadMetadataError(f"block checksums are {text!r}, expected base64")
    try:
        packed = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadMetadataError(f"block checksums are not base64: {error}") from error
    if len(packed) % 4:
        raise BadMetadataError(f"block checksums have {len(packed)} bytes, expected a multiple of 4")
    return unpack(f"<{len(packed) // 4}I", packed)
