"""Unfinished uploads on the node's disk: one description and one file of blocks each (docs/adr/0009).

    uploads/<id>.json    what the file is to be; written whole, renamed into place, synced
    uploads/<id>.part    its bytes so far: blocks of length u32, CRC32C u32, data; synced block by block

All of this blocks.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Any, Final

import google_crc32c

from des.errors import CorruptError
from des.files import Durability, FileSpec
from des.ingest.writer import write_all
from des.storage.disk import Disk, DiskFile

FOLDER: Final = "uploads"
BLOCK_SIZE_MAX: Final = 4 << 20
_BLOCK: Final = Struct("<II")  # length, CRC32C


class UploadDamagedError(CorruptError):
    """Bytes of an unfinished upload are not those that were acknowledged."""

    reason = "LOG_CORRUPT"


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """What is known of one upload beside its bytes."""

    key: str
    """Names its files: 32 hexadecimal digits."""
    spec: FileSpec
    """With the name it will have."""
    expires_ms: int
    """UTC milliseconds since 1970."""
    finished: bool = False
    """The file is stored under its name."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How far the blocks of an upload go."""

    size: int
    """Bytes of the file."""
    stop: int
    """One past the last block, in the part file."""


class UploadFolder:
    """The uploads of one node."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def load(self) -> list[UploadRecord]:
        """Return the uploads that are there; what a crash left beside them is removed."""
        self._disk.make_directory(FOLDER)
        records: list[UploadRecord] = []
        found = self._disk.list(FOLDER)
        for name in found:
            key, _, kind = name.partition(".")
            if kind == "json":
                records.append(self._read(key))
            elif kind != "part" or f"{key}.json" not in found:
                self._disk.remove(f"{FOLDER}/{name}")
        return records

    def save(self, record: UploadRecord) -> None:
        """Write a record, durable when it returns; a new one gets its empty part file first."""
        part = f"{FOLDER}/{record.key}.part"
        if not record.finished and f"{record.key}.part" not in self._disk.list(FOLDER):
            self._disk.create(part).close()
        temporary = f"{FOLDER}/{record.key}.tmp"
        self._disk.remove(temporary)
        file = self._disk.create(temporary)
        try:
            write_all(file, [_encode(record)], 0)
            file.sync()
        finally:
            file.close()
        self._disk.rename(temporary, f"{FOLDER}/{record.key}.json")
        self._disk.sync_directory(FOLDER)

    def drop_bytes(self, key: str) -> None:
        """Remove an upload's bytes: its file is stored."""
        self._disk.remove(f"{FOLDER}/{key}.part")

    def remove(self, key: str) -> None:
        """Remove an upload."""
        for kind in ("json", "part"):
            self._disk.remove(f"{FOLDER}/{key}.{kind}")
        self._disk.sync_directory(FOLDER)

    def open(self, key: str) -> DiskFile:
        """Open an upload's bytes."""
        return self._disk.open(f"{FOLDER}/{key}.part")

    def free_bytes(self) -> int:
        """Return the room left on the disk."""
        return self._disk.free_bytes()

    def _read(self, key: str) -> UploadRecord:
        file = self._disk.open(f"{FOLDER}/{key}.json")
        try:
            return _decode(key, file.pread(file.size(), 0))
        finally:
            file.close()


def measure(file: DiskFile) -> Extent:
    """Return how far the blocks are whole; what follows was torn by a crash and is cut off."""
    size = stop = 0
    for length, place, _ in _blocks(file):
        size += length
        stop = place + length
    if file.size() != stop:
        file.truncate(stop)
        file.sync()
    return Extent(size, stop)


def append(file: DiskFile, extent: Extent, data: bytes) -> Extent:
    """Append a block and return when it is on the device.

    Raises:
        OSError: it is not; the file is as it was, as far as the device lets us.
    """
    try:
        stop = write_all(file, [_BLOCK.pack(len(data), google_crc32c.value(data)), data], extent.stop)
        file.sync()
    except OSError:
        with contextlib.suppress(OSError):
            file.truncate(extent.stop)
            file.sync()
        raise
    return Extent(extent.size + len(data), stop)


def read_block(file: DiskFile, place: int) -> tuple[bytes, int]:
    """Return the block that starts at `place`, and where the next one does.

    Raises:
        UploadDamagedError: it is not what was acknowledged.
    """
    head = file.pread(_BLOCK.size, place)
    if len(head) == _BLOCK.size:
        length, crc32c = _BLOCK.unpack(head)
        if length <= BLOCK_SIZE_MAX:
            data = file.pread(length, place + _BLOCK.size)
            if len(data) == length and google_crc32c.value(data) == crc32c:
                return data, place + _BLOCK.size + length
    raise UploadDamagedError(f"block at {place} of an unfinished upload does not match its checksum")


def _blocks(file: DiskFile) -> Iterator[tuple[int, int, bytes]]:
    """Yield length, place and data of the blocks, up to the first that is not whole."""
    place = 0
    while True:
        try:
            data, after = read_block(file, place)
        except UploadDamagedError:
            return
        yield len(data), after - len(data), data
        place = after


def _encode(record: UploadRecord) -> bytes:
    spec = record.spec
    value: dict[str, Any] = {
        "name": spec.name,
        "size": spec.size,
        "content_type": spec.content_type,
        "metadata": dict(spec.metadata),
        "request_id": spec.request_id,
        "durability": None if spec.durability is None else spec.durability.value,
        "expires_ms": record.expires_ms,
        "finished": record.finished,
    }
    return json.dumps(value, ensure_ascii=False).encode()


def _decode(key: str, data: bytes) -> UploadRecord:
    try:
        value = json.loads(data)
        return UploadRecord(
            key,
            FileSpec(
                name=value["name"],
                size=value["size"],
                content_type=value["content_type"],
                metadata=value["metadata"],
                request_id=value["request_id"],
                durability=None if value["durability"] is None else Durability(value["durability"]),
            ),
            value["expires_ms"],
            value["finished"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UploadDamagedError(
            f"description of upload {key} is {data[:80]!r}, expected its JSON form"
        ) from error
