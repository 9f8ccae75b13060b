"""The metadata of one file: a compact JSON object in UTF-8 (docs/format.md, section 6)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from des.files import RESERVED_METADATA_KEYS
from des.format.errors import InvalidEntryError, UnsupportedContainerError
from des.format.index import IndexEntry
from des.format.system_metadata import SYSTEM_KEY, BadMetadataError, SystemMetadata

METADATA_LENGTH_MAX: Final = (1 << 16) - 1
"""Bytes of metadata a writer accepts: its length in a frame is a u16."""
METADATA_LENGTH_READ_MAX: Final = 1 << 24
"""Bytes of metadata a reader accepts from a v1 container, whose lengths are u64."""

RESERVED_KEYS: Final = RESERVED_METADATA_KEYS | {SYSTEM_KEY}

_NO_SYSTEM: Final = SystemMetadata()


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a container says about one file beside its place."""

    size: int
    """Length of the file in bytes."""
    user: Mapping[str, Any] = field(default_factory=dict)
    """The writer's own keys, in the writer's order."""
    external_key: str | None = None
    """Key of the object that holds the bytes; None for a file inside the container."""
    system: SystemMetadata = _NO_SYSTEM
    """What DES keeps. After a read its `crc32c` is known wherever the container records one."""

    def encode(self) -> bytes:
        """Return the JSON: the user's keys, `size`, `is_external`, `external_key`, `_des`.

        Raises:
            InvalidEntryError: a reserved key, a value JSON cannot say, or too many bytes.
        """
        if not self.user and self.external_key is None and self.system == _NO_SYSTEM:
            return encode_size(self.size)
        for key in self.user:
            if not isinstance(key, str):
                raise InvalidEntryError(f"metadata key {key!r} is not a string", field="metadata")
            if key in RESERVED_KEYS:
                raise InvalidEntryError(
                    f"metadata key {key!r} is reserved by the container format", field="metadata"
                )
        document = {**self.user, "size": self.size}
        if self.external_key is not None:
            document |= {"is_external": True, "external_key": self.external_key}
        if self.system != _NO_SYSTEM:
            document[SYSTEM_KEY] = self.system.encode()
        try:
            encoded = _ENCODER.encode(document).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidEntryError(
                f"metadata cannot be written as JSON: {error}", field="metadata"
            ) from error
        if len(encoded) > METADATA_LENGTH_MAX:
            raise InvalidEntryError(
                f"metadata is {len(encoded)} bytes, at most {METADATA_LENGTH_MAX} fit", field="metadata"
            )
        return encoded

    def with_crc32c(self, crc32c: int) -> "Metadata":
        """Return the same with the checksum that a frame carries."""
        system = self.system
        # Spelt out: on the path of every read, and half as long as `dataclasses.replace`.
        return Metadata(
            self.size,
            self.user,
            self.external_key,
            SystemMetadata(crc32c, system.content_type, system.block_size, system.block_crc32c),
        )


def encode_size(size: int) -> bytes:
    """Return the metadata of a file of which nothing but its length is said."""
    return b'{"size":%d}' % size


def decode_metadata(data: bytes, entry: IndexEntry, *, raw_length: int | None = None) -> Metadata:
    """Read the metadata of `entry`, whose frame says `raw_length` where it is compressed.

    `is_external` and `external_key` mean something only where the entry's flag says so: in a foreign
    container the user may have chosen these keys.

    Raises:
        BadMetadataError: not one JSON object, or it contradicts the entry.
    """
    document = _decode_object(data, entry.name)
    size = document.pop("size", None)
    expected = entry.data_length if raw_length is None else raw_length
    if type(size) is not int or size != expected:
        raise BadMetadataError(f"metadata of {entry.name!r} says size {size!r}, expected {expected}")
    external_key = None
    if entry.is_external:
        external_key = document.pop("external_key", None)
        if document.pop("is_external", None) is not True or not isinstance(external_key, str):
            raise BadMetadataError(f"metadata of external file {entry.name!r} has no external_key")
    system = _NO_SYSTEM
    if SYSTEM_KEY in document:
        system = SystemMetadata.decode(document.pop(SYSTEM_KEY))
        try:
            system.check_blocks(size)
        except ValueError as error:
            raise BadMetadataError(f"metadata of {entry.name!r}: {error}") from error
    return Metadata(size, document, external_key, system)


def decode_size(data: bytes, name: str) -> int:
    """Return the length of an external file, of which nothing but the metadata is known.

    Raises:
        BadMetadataError: not one JSON object, or it says no size.
    """
    size = _decode_object(data, name).get("size")
    if type(size) is not int or size < 0:
        raise BadMetadataError(f"metadata of {name!r} says size {size!r}, expected a number of bytes")
    return size


def _decode_object(data: bytes, name: str) -> dict[str, Any]:
    try:
        document = _DECODER.decode(data.decode())
    except (ValueError, RecursionError) as error:
        raise BadMetadataError(f"metadata of {name!r} is not JSON in UTF-8: {error}") from error
    if not isinstance(document, dict):
        raise BadMetadataError(f"metadata of {name!r} is {document!r}, expected an object")
    return document


def check_metadata_length(entry: IndexEntry) -> None:
    """Refuse metadata too long to be read into memory.

    Raises:
        UnsupportedContainerError: longer than `METADATA_LENGTH_READ_MAX`.
    """
    if entry.meta_length > METADATA_LENGTH_READ_MAX:
        raise UnsupportedContainerError(
            f"metadata of {entry.name!r} has {entry.meta_length} bytes, "
            f"at most {METADATA_LENGTH_READ_MAX} are supported"
        )


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)
