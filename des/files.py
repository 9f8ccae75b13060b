"""What a file is to every part of DES: its specification, what is known of it, its states."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from des.errors import InvalidInputError, OutOfRangeError

BLOCK_SIZE: Final = 1 << 20
"""Bytes per checksum block: a file longer than this carries one CRC32C per block, so that any
range of it can be verified without reading the rest."""

METADATA_KEY: Final = re.compile(r"[a-z0-9_.-]{1,63}")
RESERVED_METADATA_KEYS: Final = frozenset({"size", "is_external", "external_key"})
"""Keys of META that the container format owns (docs/format.md); "_des" is outside METADATA_KEY's
use too, since every key that starts with "_" is refused."""


class InvalidMetadataError(InvalidInputError):
    """A metadata key or value that breaks a documented rule."""


class MetadataTooLargeError(InvalidInputError):
    """More metadata than the limits allow."""

    reason = "METADATA_TOO_LARGE"


class Durability(StrEnum):
    """What a successful write promises."""

    LOCAL = "local"
    """Synced on the owner's disk."""
    STORED = "stored"
    """Held by the object store and recorded in the catalog."""


class FileState(StrEnum):
    """Where a file is in its life."""

    OPEN = "open"
    """In the ingest log only."""
    STORED = "stored"
    """In a sealed container, recorded in the catalog."""
    DELETED = "deleted"
    """Tombstoned."""


class Placement(NamedTuple):
    """Where a stored file's bytes lie; for operators."""

    container_id: str
    """UUIDv7 of the container."""
    data_offset: int
    """Bytes from the start of the container."""
    data_length: int
    """Stored length in bytes."""
    external_key: str | None = None
    """Object key of a file outside its container."""


class FileInfo(NamedTuple):
    """What is known about one file; a tuple, since one is made for every file written or read."""

    name: str
    day: str
    """UTC day in the name, YYYYMMDD."""
    shard: int
    size: int
    """Length in bytes, uncompressed."""
    crc32c: int
    """CRC32C (Castagnoli) of the file's bytes."""
    content_type: str
    """As given by the writer; empty when not given."""
    metadata: Mapping[str, str]
    state: FileState
    created_ms: int
    """The time the name carries, UTC milliseconds since 1970."""
    sealed_ms: int | None = None
    """When the container was recorded; None while open."""
    placement: Placement | None = None
    deleted_ms: int | None = None
    """When the file was deleted; None while it is there."""


@dataclass(frozen=True, slots=True)
class FileSpec:
    """What a writer says about a file before its bytes."""

    name: str = ""
    """A valid DES name, or empty: the store assigns one."""
    prefix: str = ""
    """First part of an assigned name; empty for the store's default."""
    size: int | None = None
    """Declared length in bytes; None when unknown."""
    content_type: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""
    """Makes a write with an assigned name repeatable; empty for none."""
    durability: Durability | None = None
    """Least promise wanted; None for the store's default."""


def window_of(offset: int, limit: int, size: int) -> tuple[int, int]:
    """Return the half-open window `[start, stop)` of a file of `size` bytes that a range means.

    A negative offset counts from the end and is cut at the file's start, like HTTP's suffix range; a limit
    of 0 means to the end.

    Raises:
        InvalidInputError: the limit is negative.
        OutOfRangeError: the offset lies beyond the end.
    """
    if limit < 0:
        raise InvalidInputError(
            f"range.limit is {limit}, expected 0 (to the end) or more", field="range.limit"
        )
    start = offset if offset >= 0 else max(0, size + offset)
    if start > size:
        raise OutOfRangeError(
            f"offset {offset} lies beyond the file's {size} bytes", offset=offset, size=size
        )
    return start, min(size, start + limit) if limit else size


def check_metadata(metadata: Mapping[str, str], *, entries_max: int, bytes_max: int) -> None:
    """Refuse metadata outside the rules.

    Raises:
        InvalidMetadataError: a key is reserved or not `[a-z0-9.-][a-z0-9_.-]{0,62}`.
        MetadataTooLargeError: too many entries, or too many bytes of UTF-8 in keys and values.
    """
    if len(metadata) > entries_max:
        raise MetadataTooLargeError(
            f"metadata has {len(metadata)} entries, at most {entries_max} are allowed",
            field="metadata",
            size=len(metadata),
            max_size=entries_max,
        )
    total = 0
    for key, value in metadata.items():
        if not METADATA_KEY.fullmatch(key) or key.startswith("_"):
            raise InvalidMetadataError(
                f"metadata key {key!r} is not 1 to 63 of a-z, 0-9, '_', '.', '-', not starting with '_'",
                field="metadata",
            )
        if key in RESERVED_METADATA_KEYS:
            raise InvalidMetadataError(
                f"metadata key {key!r} is reserved by the container format", field="metadata"
            )
        try:
            total += len(key) + len(value.encode())
        except UnicodeEncodeError:
            raise InvalidMetadataError(
                f"metadata value of {key!r} is not valid Unicode", field="metadata"
            ) from None
    if total > bytes_max:
        raise MetadataTooLargeError(
            f"metadata is {total} bytes, at most {bytes_max} are allowed",
            field="metadata",
            size=total,
            max_size=bytes_max,
        )
