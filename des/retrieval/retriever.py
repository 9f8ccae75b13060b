"""Finds a file by name: the open index first, then the containers of its day and shard."""

from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Final

from des.cluster import NotShardOwnerError, Shards
from des.config import Settings
from des.db.catalog import ContainerRow
from des.errors import CorruptError, DesError, NotFoundError, UnavailableError
from des.files import BLOCK_SIZE, FileInfo, FileState, Placement
from des.format.extent import Extent, extent_of
from des.format.index import IndexEntry
from des.format.metadata import Metadata
from des.format.plan import read_file, read_metadata, run_async
from des.ingest.facts import FileFacts
from des.ingest.log_reader import LogReader
from des.ingest.open_index import OpenIndex
from des.ingest.values import OpenFile
from des.naming import ParsedName, consistent_hash, created_ms, created_ms_of, parse_name
from des.retrieval.batch_parts import Part, Wanted
from des.retrieval.batch_reads import BatchReader
from des.retrieval.opened_file import (
    CountedRead,
    ExtentFile,
    LogFile,
    ObjectMissingError,
    OpenedFile,
    ReadCost,
    SmallFile,
)
from des.retrieval.owner_next import SEEN_S, Leaving, is_left_to_owner
from des.retrieval.stored_containers import StoredContainers, StoredEntry
from des.retrieval.tombstones import Tombstones, file_deleted
from des.storage.object_store import NoSuchObjectError, ObjectStore

PLACES_REMEMBERED: Final = 16_384
"""Stored files whose place is kept, about 600 bytes each, least recently read first out."""
READ_TOGETHER_MAX: Final = BLOCK_SIZE
"""A file up to this long, and a compressed one, is read and verified in one request with its metadata."""


class FileNotFoundInStoreError(NotFoundError):
    """No file has this name: not open, and in no container of its day and shard."""


class NameUndecidedError(UnavailableError):
    """The name was not found, and part of the log that may have held it is damaged."""

    reason = "LOG_DAMAGED"


@dataclass(frozen=True, slots=True)
class _Found:
    """Where a stored file's entry is."""

    row: ContainerRow
    stored: StoredEntry
    parsed: ParsedName
    shard: int
    created_ms: int

    @property
    def entry(self) -> IndexEntry:
        """The file's entry."""
        return self.stored.entry


class Retriever:
    """Answers reads for the shards of this node."""

    def __init__(
        self,
        *,
        settings: Settings,
        log: LogReader,
        open_index: OpenIndex,
        containers: StoredContainers,
        store: ObjectStore,
        tombstones: Tombstones,
        damaged: bool,
        shards: Shards | None = None,
    ) -> None:
        """Read through these parts.

        Args:
            settings: of the node.
            log: has the bytes of open files.
            open_index: has the open files.
            containers: finds stored files.
            store: has the objects.
            tombstones: has the deleted names.
            damaged: part of the log could not be read.
            shards: this node's hold on shards; every shard where None.
        """
        self._shards = shards
        self._settings = settings
        self._log = log
        self._open_index = open_index
        self._containers = containers
        self._store = store
        self._tombstones = tombstones
        self.damaged = damaged
        """Whether a part of the log, or of a shipped segment, that may have held a name is damaged."""
        self._places: OrderedDict[str, _Found] = OrderedDict()
        self._leaving = Leaving(settings, containers, shards)
        self._batches = BatchReader(
            settings=settings,
            log=log,
            open_index=open_index,
            containers=containers,
            store=store,
            tombstones=tombstones,
            describe_open=self.describe_open,
            open_file=self.open,
            stat_file=self.stat,
            absent=self.absent,
            leave=self._leaving.leave_of_many,
            shards=shards,
        )

    async def open(self, name: str) -> OpenedFile:
        """Find a file; a small stored one is read at once, in the same request as its metadata.

        Raises:
            InvalidNameError: not a name that DES makes.
            NotFoundError: no such file, for certain.
            NotShardOwnerError: not found in a container, and another node has the shard's open files.
            UnavailableError: not found, but something that may hold it could not be asked.
            CorruptError: stored bytes break their checksum.
        """
        file = self._open_file(name)
        if file is not None:
            return self.open_log_file(file)
        found = self._places.get(name)
        if found is not None:
            await self._demand_kept(name, found.parsed.day, found.shard)
            self._places.move_to_end(name)
            return await self._open_found(found, ReadCost())
        parsed = parse_name(name)
        await self._leaving.leave(name, parsed)
        return await self._open_stored(name, parsed)

    def read_many(
        self, wanted: Sequence[Wanted], *, part_bytes: int, cost: ReadCost
    ) -> AsyncGenerator[list[Part], None]:
        """Yield many files in the order in which they are stored; see `BatchReader.read`."""
        return self._batches.read(wanted, part_bytes=part_bytes, cost=cost)

    async def stat_many(self, names: Sequence[str], *, cost: ReadCost) -> list[FileInfo | DesError]:
        """Return what is known of many files; see `BatchReader.stat`."""
        return await self._batches.stat(names, cost=cost)

    async def stat(self, name: str) -> FileInfo:
        """Return what is known of a file. Same errors as `open`; costs at most one small request."""
        if self._open_index.get(name) is None:
            parsed = parse_name(name)
            await self._leaving.leave(name, parsed)
            await self._demand_kept(name, parsed.day, consistent_hash(name, self._settings.shard_bits))
        info = await self.find(name, parse_name(name))
        if info is None:
            raise self.absent(name)
        return info

    async def find(self, name: str, parsed: ParsedName) -> FileInfo | None:
        """Return what is known of a file, None when there is none for certain.

        Raises:
            UnavailableError: absence is not certain.
        """
        file = self._open_file(name)
        if file is not None:
            return self.describe_open(file, FileFacts.decode(file.facts))
        cost = ReadCost()
        found = await self._find_stored(name, parsed, cost)
        if found is None:
            file = self._open_file(name)  # the shard may have become this node's since the first look
            if file is not None:
                return self.describe_open(file, FileFacts.decode(file.facts))
            if self.damaged:
                raise self.absent(name)
            return None
        return self._describe_stored(found, await self._read_metadata(found, cost))

    def is_absent(self, name: str, shard: int) -> bool:
        """Whether no file has this valid name, as far as that is certain without waiting."""
        if self.damaged or self._open_index.get(name) is not None:
            return False
        if self._shards is not None:
            try:
                self._shards.check_absence(shard, created_ms_of(name, self._settings.wrap_bits))
            except NotShardOwnerError:
                return False
        bits = self._settings.shard_bits
        if self._tombstones.known(name, name[-26:-18], shard, bits=bits) != 0:
            return False
        rows = self._containers.known_rows(name[-26:-18], shard, bits=self._settings.shard_bits)
        if rows is None:
            return False
        time_ms = created_ms_of(name, self._settings.wrap_bits)
        return not any(row.name_ms_first <= time_ms <= row.name_ms_last for row in rows)

    def _open_file(self, name: str) -> OpenFile | None:
        """Return the open file of that name; of shards that others may have, none."""
        file = self._open_index.get(name)
        if file is None or self._shards is None or self._shards.owns(file.shard):
            return file
        return None

    def describe_open(self, file: OpenFile, facts: FileFacts) -> FileInfo:
        """Return what is known of a file of the log."""
        return FileInfo(
            name=file.name,
            day=str(file.day),
            shard=file.shard,
            size=file.size,
            crc32c=file.crc32c,
            content_type=facts.content_type,
            metadata=facts.metadata,
            state=self._state(file),
            created_ms=created_ms_of(file.name, self._settings.wrap_bits),
        )

    def _state(self, file: OpenFile) -> FileState:
        if self._open_index.get(file.name) is file:
            return FileState.OPEN
        return FileState.DELETED if self._open_index.is_deleted(file.name) else FileState.STORED

    def open_log_file(self, file: OpenFile) -> OpenedFile:
        """Return a file of the log, ready to be read."""
        facts = FileFacts.decode(file.facts)
        info = self.describe_open(file, facts)
        external = facts.external
        if external is not None:
            extent = Extent(
                name=file.name,
                start=0,
                size=file.size,
                crc32c=file.crc32c,
                block_size=external.block_size,
                block_crc32c=external.block_crc32c,
            )
            cost = ReadCost()
            read = CountedRead(self._store, external.key, external.etag, cost)
            return ExtentFile(info, extent, read, cost)
        return LogFile(info, file, self._log, lambda: self._open_stored(file.name, parse_name(file.name)))

    async def _open_stored(self, name: str, parsed: ParsedName) -> OpenedFile:
        cost = ReadCost()
        await self._demand_kept(name, parsed.day, consistent_hash(name, self._settings.shard_bits))
        found = await self._find_stored(name, parsed, cost)
        if found is None:
            file = self._open_file(name)  # the shard may have become this node's since the first look
            if file is not None:
                return self.open_log_file(file)
            raise self.absent(name)
        return await self._open_found(found, cost)

    async def _open_found(self, found: _Found, cost: ReadCost) -> OpenedFile:
        read = self._container_read(found.row, cost)
        entry = found.entry
        if entry.is_compressed or (not entry.is_external and entry.data_length <= READ_TOGETHER_MAX):
            if found.stored.located is None:
                memory = self._containers.memory(found.row)
                plan = read_file(
                    entry, found.stored.layout, memory.dictionaries_of(found.row.geometry.data_start)
                )
                data, metadata = await run_async(plan, read)
            else:
                reader = self._containers.reader(found.row, cost)
                data, metadata = await reader.read_described(found.stored.located)
            return SmallFile(self._describe_stored(found, metadata), data, cost)
        metadata = await self._read_metadata(found, cost)
        info = self._describe_stored(found, metadata)
        if metadata.external_key is not None:
            etag = await self._external_etag(metadata.external_key)
            cost.requests += 1
            read = CountedRead(self._store, metadata.external_key, etag, cost)
        return ExtentFile(info, extent_of(found.entry, metadata), read, cost)

    async def _read_metadata(self, found: _Found, cost: ReadCost) -> Metadata:
        if found.stored.located is not None:
            reader = self._containers.reader(found.row, cost)
            return (await reader.describe(found.stored.located)).metadata
        plan = read_metadata(found.entry, found.stored.layout)
        return await run_async(plan, self._container_read(found.row, cost))

    async def _external_etag(self, key: str) -> str:
        try:
            return (await self._store.head(key)).etag
        except NoSuchObjectError as error:
            raise ObjectMissingError(f"big file's object is gone: {error}", name=key) from error

    async def _demand_kept(self, name: str, day: str, shard: int) -> None:
        """Refuse a name whose file was deleted.

        Raises:
            FileDeletedError: it was.
            CatalogUnavailableError: that is not known now.
        """
        bits = self._settings.shard_bits
        deleted_ms = self._tombstones.known(name, day, shard, bits=bits)
        if deleted_ms is None:
            deleted_ms = await self._tombstones.deleted_ms(name, day, shard, bits=bits)
        if deleted_ms:
            raise file_deleted(name, deleted_ms)

    async def _find_stored(self, name: str, parsed: ParsedName, cost: ReadCost) -> _Found | None:
        shard = consistent_hash(name, self._settings.shard_bits)
        time_ms = created_ms(parsed, self._settings.wrap_bits)
        if self._shards is None or self._shards.owns(shard):
            found = await self._look(name, parsed, shard, time_ms, cost)
        else:
            # What was stored stays where it is: only absence needs to be known for now.
            found = await self._look(name, parsed, shard, time_ms, cost, age_max_s=SEEN_S)
            if found is None and not is_left_to_owner():
                found = await self._look(name, parsed, shard, time_ms, cost, age_max_s=0.0)
        if found is None and self._shards is not None:
            self._shards.check_absence(shard, time_ms)
        return found

    async def _look(
        self,
        name: str,
        parsed: ParsedName,
        shard: int,
        time_ms: int,
        cost: ReadCost,
        *,
        age_max_s: float | None = None,
    ) -> _Found | None:
        """Look in the containers that were recorded no longer than `age_max_s` ago."""
        rows = await self._containers.rows(
            parsed.day, shard, bits=self._settings.shard_bits, age_max_s=age_max_s
        )
        for row in rows:
            if not row.name_ms_first <= time_ms <= row.name_ms_last:
                continue
            stored = await self._containers.find(row, name, cost)
            if stored is not None:
                found = _Found(row, stored, parsed, shard, time_ms)
                self._remember(name, found)
                return found
        return None

    def _remember(self, name: str, found: _Found) -> None:
        """Keep the place of a file: a name never moves, since containers are immutable."""
        self._places[name] = found
        if len(self._places) > PLACES_REMEMBERED:
            self._places.popitem(last=False)

    def _container_read(self, row: ContainerRow, cost: ReadCost) -> CountedRead:
        return CountedRead(self._store, row.key, row.etag, cost)

    def _describe_stored(self, found: _Found, metadata: Metadata) -> FileInfo:
        row, entry = found.row, found.entry
        if metadata.system.crc32c is None:
            raise CorruptError(
                f"container {row.container_id} has no checksum for {entry.name!r}",
                name=entry.name,
                container_id=row.container_id,
            )
        return FileInfo(
            name=entry.name,
            day=found.parsed.day,
            shard=found.shard,
            size=metadata.size,
            crc32c=metadata.system.crc32c,
            content_type=metadata.system.content_type,
            metadata=metadata.user,
            state=FileState.STORED,
            created_ms=found.created_ms,
            sealed_ms=row.stored_ms,
            placement=Placement(
                row.container_id, entry.data_offset, entry.data_length, metadata.external_key
            ),
        )

    def absent(self, name: str) -> NotFoundError | UnavailableError:
        """Return the error for a name that was not found, here or by the shard's owner."""
        if self._shards is not None:
            shard = consistent_hash(name, self._settings.shard_bits)
            try:
                self._shards.check_absence(shard, created_ms_of(name, self._settings.wrap_bits))
            except NotShardOwnerError as error:
                return error
        if self.damaged:
            return NameUndecidedError(
                f"file {name!r} is in no container and not in the readable part of the ingest log, "
                "of which a part is damaged",
                name=name,
            )
        return FileNotFoundInStoreError(f"no file is named {name!r}", name=name)
