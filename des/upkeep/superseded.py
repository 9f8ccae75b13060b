"""Proof that an object which no row names is not needed: every file of it is in containers that rows name."""

from collections import OrderedDict
from typing import Final

from des.core import S3DesReader
from des.db.catalog import Catalog, ContainerRow, ShardLock
from des.db.rows import LogSegmentRow
from des.errors import DesError
from des.naming import consistent_hash, parse_name
from des.packer.object_metadata import EPOCH, SHARDS, decode_metadata
from des.packer.shipped_log import read_segment
from des.storage.object_store import ObjectInfo, ObjectStore

READERS_OPEN: Final = 64
"""Containers kept open for look-ups, least recently used first out."""


class SupersededProof:
    """Looks files up one by one; opens containers once."""

    def __init__(self, *, catalog: Catalog, store: ObjectStore, bits: int, locks: list[ShardLock]) -> None:
        self._catalog = catalog
        self._store = store
        self._bits = bits
        self._epochs = {lock.shard: lock.epoch for lock in locks}
        self._readers: OrderedDict[str, S3DesReader] = OrderedDict()

    async def objection(self, suspect: ObjectInfo) -> str:
        """Return why the suspect stays; empty when it is proven that it may go."""
        try:
            info = await self._store.head(suspect.key)
            if info.etag != suspect.etag:
                return "it changed since it was listed"
            if objection := self._may_still_be_recorded(info):
                return objection
            reader = S3DesReader(self._store, suspect.key, etag=info.etag, size=info.size)
            await reader.open()
            for entry in await reader.get_index():
                file = await reader.stat(entry.name)
                if not await self._is_elsewhere(file.name, size=file.size, crc32c=file.crc32c):
                    return f"file {entry.name!r} of it is in no recorded container"
        except DesError as error:
            return f"it could not be proven: {error}"
        return ""

    async def objection_to_segment(self, suspect: ObjectInfo, row: LogSegmentRow) -> str:
        """Return why a shipped log segment may still be needed; empty when it is proven that it is not.

        Args:
            suspect: its object.
            row: what the object says of itself.
        """
        try:
            if row.etag != suspect.etag:
                return "it changed since it was listed"
            if row.bits != self._bits:
                return f"it counts {row.bits} shard bits, the store {self._bits}"
            for file in await read_segment(self._store, row):
                if not await self._is_elsewhere(file.name, size=file.size, crc32c=file.crc32c):
                    return f"file {file.name!r} of it is in no recorded container"
        except DesError as error:
            return f"it could not be proven: {error}"
        return ""

    def _may_still_be_recorded(self, info: ObjectInfo) -> str:
        """Say whether its maker may still hold the shards, and so commit it."""
        if not {EPOCH, SHARDS} <= info.metadata.keys():
            return "its metadata does not say which epoch made it"
        facts = decode_metadata(info.metadata)
        for shard in range(facts.run.first, facts.run.first + facts.run.span):
            if self._epochs.get(shard, 0) <= facts.epoch:
                return f"epoch {facts.epoch} of shard {shard}, which made it, is still the shard's"
        return ""

    async def _is_elsewhere(self, name: str, *, size: int, crc32c: int | None) -> bool:
        if await self._catalog.tombstone(name) is not None:
            return True
        day = parse_name(name).day
        shard = consistent_hash(name, self._bits)
        for row in await self._catalog.containers_of(day, shard, bits=self._bits):
            reader = await self._reader(row)
            if not await reader.contains(name):
                continue
            found = await reader.stat(name)
            if (found.size, found.crc32c) == (size, crc32c):
                return True
        return False

    async def _reader(self, row: ContainerRow) -> S3DesReader:
        reader = self._readers.get(row.container_id)
        if reader is None:
            reader = S3DesReader(self._store, row.key, etag=row.etag, size=row.geometry.size)
            await reader.open()
            self._readers[row.container_id] = reader
            if len(self._readers) > READERS_OPEN:
                self._readers.popitem(last=False)
        self._readers.move_to_end(row.container_id)
        return reader
