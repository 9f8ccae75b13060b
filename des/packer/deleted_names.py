"""Copies of tombstones in the object store, so that the bucket alone knows which files were deleted.

`_deleted/<UUIDv7>.des-deleted` holds up to `NAMES_MAX` tombstones: eight bytes of magic, then lines of JSON
in a zstd frame with a checksum. Copies are never changed and never removed; one name may stand in several.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

import zstandard

from des.db.rows import Tombstone
from des.errors import AlreadyExistsError, CorruptError
from des.storage.bytes_body import BytesBody
from des.storage.object_store import ObjectInfo, ObjectStore

DELETED_FOLDER: Final = "_deleted"
NAMES_MAX: Final = 10_000
"""Tombstones of one copy."""
SIZE_MAX: Final = 64 << 20
"""Bytes of one copy, unpacked: a hundred times what it needs."""
MAGIC: Final = b"DESDEL1\n"
_FIELDS: Final = ("name", "day", "shard", "bits", "epoch", "external_key", "deleted_ms")


def deleted_key(copy_id: str, *, prefix: str) -> str:
    """Return the key of a copy; `prefix` is the setting `object_prefix`.

    >>> deleted_key("018bcfe5-6800-7000-8000-000000000000", prefix="")
    '_deleted/018bcfe5-6800-7000-8000-000000000000.des-deleted'
    """
    folder = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    return f"{folder}{DELETED_FOLDER}/{copy_id}.des-deleted"


def encode_deleted(tombstones: Sequence[Tombstone]) -> bytes:
    """Return the bytes of a copy."""
    lines = [
        json.dumps({name: value for name, value in asdict(one).items() if name in _FIELDS})
        for one in tombstones
    ]
    packed = zstandard.ZstdCompressor(write_checksum=True).compress("\n".join(lines).encode())
    return MAGIC + packed


def decode_deleted(data: bytes) -> list[Tombstone]:
    """Return the tombstones of a copy.

    Raises:
        CorruptError: it is none, or is damaged.
    """
    if not data.startswith(MAGIC):
        raise CorruptError(f"copy of tombstones starts with {data[: len(MAGIC)]!r}, expected {MAGIC!r}")
    packed = data[len(MAGIC) :]
    try:
        size = zstandard.frame_content_size(packed)
        if not 0 <= size <= SIZE_MAX:
            raise CorruptError(f"copy of tombstones says it has {size} bytes, expected up to {SIZE_MAX}")
        lines = zstandard.ZstdDecompressor().decompress(packed).decode().splitlines()
        return [_tombstone(json.loads(line)) for line in lines]
    except (zstandard.ZstdError, ValueError, TypeError) as error:
        raise CorruptError(f"copy of tombstones cannot be read: {error}") from error


def _tombstone(found: object) -> Tombstone:
    if not isinstance(found, dict) or sorted(found) != sorted(_FIELDS):
        raise ValueError(f"a line has {found!r}, expected the fields {_FIELDS}")
    numbers = (found["shard"], found["bits"], found["epoch"], found["deleted_ms"])
    texts = (found["name"], found["day"], found["external_key"])
    if not all(isinstance(one, int) for one in numbers) or not all(isinstance(one, str) for one in texts):
        raise ValueError(f"a line has {found!r}, expected other types")
    return Tombstone(**found)


async def write_deleted(
    store: ObjectStore, tombstones: Sequence[Tombstone], *, copy_id: str, prefix: str
) -> str:
    """Write a copy of up to `NAMES_MAX` tombstones under a new key, and return the key; one request.

    Raises:
        DesError: it may be there or not. Write it again under another key: what stands twice stands once.
    """
    key = deleted_key(copy_id, prefix=prefix)
    try:
        await store.create(key, BytesBody(encode_deleted(tombstones)), metadata={})
    except AlreadyExistsError as error:
        raise CorruptError(f"{key!r} is there, and was made just now", key=key) from error
    return key


async def read_deleted(store: ObjectStore, info: ObjectInfo) -> list[Tombstone]:
    """Return the tombstones of a copy; one request.

    Raises:
        CorruptError: it is none, or is damaged.
        DesError: it could not be read.
    """
    if info.size > SIZE_MAX:
        raise CorruptError(f"copy {info.key!r} has {info.size} bytes, expected up to {SIZE_MAX}")
    return decode_deleted(await store.get_range(info.key, 0, info.size, etag=info.etag))
