"""What the read path remembers of sealed containers: catalog rows by day and shard, and indexes."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeVar
from uuid import UUID

from des.clock import Clock, SystemClock
from des.core import ContainerIndex, InMemoryIndexCache, S3DesReader
from des.core.container_memory import ContainerMemory
from des.core.index_cache import IndexCache
from des.core.located import Located
from des.core.paged_index import PagedIndex
from des.core.single_flight import SingleFlight
from des.db.catalog import Catalog, ContainerRow
from des.format.byte_range import ByteRange
from des.format.ext import ExtGeometry
from des.format.footer import Footer
from des.format.hash_pages import PagesGeometry
from des.format.index import IndexEntry
from des.format.layout import Layout
from des.format.locate import check_record
from des.format.name_key import name_digest
from des.format.plan import read_index, run_async
from des.retrieval.opened_file import CountedRead, ReadCost
from des.storage.object_store import ObjectInfo, ObjectStore

T = TypeVar("T")

ROWS_CACHED: Final = 50_000
"""(day, shard) pairs whose rows are remembered, the empty ones too."""
PAGE_GAP: Final = 1 << 15
"""Bytes between two pages of a batch that are read for nothing rather than by a second request."""
PAGE_READ_MAX: Final = 1 << 21
"""Bytes of pages read in one request."""
MEMORY_SHARE: Final = 4
"""What is kept of containers beside their pages may take one in so many of the bytes that indexes may."""


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """Where a file lies in a sealed container."""

    entry: IndexEntry
    layout: Layout
    located: Located | None = None
    """Of a v1 container with EXT: proves what the file itself does not. None where frame or metadata do."""


class StoredContainers:
    """Rows and indexes of stored containers, each loaded once for all who wait for it.

    Rows of the node's own shards stay valid because only this node records containers for them, and it
    says so with `add`; rows of other nodes' shards are used for as long as the reader allows.
    Indexes are kept by container id and etag up to `cache_bytes`, least recently used first out. What is
    kept of containers beside (FILTER, INDEXDIR, the directory of NAMES, dictionaries) takes up to a fourth.
    """

    def __init__(
        self,
        *,
        catalog: Catalog,
        store: ObjectStore,
        cache_bytes: int,
        cache: IndexCache | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Connect to catalog and store.

        Args:
            catalog: has the rows.
            store: has the containers.
            cache_bytes: memory for the indexes of containers without EXT and, where `cache` is None, for
                as much again of pages of the others.
            cache: of pages.
            clock: tells how old rows are.
        """
        self._clock = clock or SystemClock()
        self._cache: IndexCache = InMemoryIndexCache(cache_bytes) if cache is None else cache
        self._catalog = catalog
        self._store = store
        self._cache_bytes = cache_bytes
        self._rows: OrderedDict[tuple[str, int, int], list[ContainerRow]] = OrderedDict()
        self._indexes: OrderedDict[tuple[str, str], ContainerIndex] = OrderedDict()
        self._index_bytes = 0
        self._memories: OrderedDict[tuple[str, str], ContainerMemory] = OrderedDict()
        self._memory_bytes: dict[tuple[str, str], int] = {}
        self._memory_sum = 0
        self._loaded_at: dict[tuple[str, int, int], float] = {}
        self._flights: SingleFlight[Any] = SingleFlight()
        self._additions = 0

    def add(self, row: ContainerRow) -> None:
        """Make a container visible that was just recorded."""
        self._additions += 1
        for (day, shard, bits), rows in self._rows.items():
            if day == row.day and bits == row.run.bits and shard in row.run and row not in rows:
                rows.append(row)

    def forget_rows(self) -> None:
        """Read all rows anew: shards have changed hands."""
        self._additions += 1
        self._rows.clear()
        self._loaded_at.clear()

    async def rows(
        self, day: str, shard: int, *, bits: int, age_max_s: float | None = None
    ) -> list[ContainerRow]:
        """Return the stored containers of `day` that cover `shard` of `2**bits`.

        Args:
            day: UTC day, YYYYMMDD.
            shard: of the store.
            bits: shard bits that `shard` counts in.
            age_max_s: for how long rows read before are good enough; None for ever.

        Raises:
            CatalogUnavailableError: the catalog did not answer; nothing is known about absence.
        """
        key = (day, shard, bits)
        rows = self._rows.get(key)
        if rows is None or (
            age_max_s is not None and self._clock.monotonic() - self._loaded_at[key] > age_max_s
        ):
            return await self._once(("rows", key), lambda: self._load_rows(key))
        self._rows.move_to_end(key)
        return rows

    def known_rows(self, day: str, shard: int, *, bits: int) -> list[ContainerRow] | None:
        """Return what `rows` would, None where it would have to ask the catalog."""
        return self._rows.get((day, shard, bits))

    async def _load_rows(self, key: tuple[str, int, int]) -> list[ContainerRow]:
        day, shard, bits = key
        while True:
            before = self._additions
            asked_at = self._clock.monotonic()
            rows = await self._catalog.containers_of(day, shard, bits=bits)
            if self._additions == before:
                break  # else the answer may be older than a container added meanwhile
        self._rows[key] = rows
        self._loaded_at[key] = asked_at
        if len(self._rows) > ROWS_CACHED:
            del self._loaded_at[self._rows.popitem(last=False)[0]]
        return rows

    async def find(self, row: ContainerRow, name: str, cost: ReadCost) -> StoredEntry | None:
        """Return where a file of a container lies; None when it has no such file.

        Costs at most one request: a page of 8 KiB or, where there is no EXT, INDEX the first time. Once
        pages were read in vain as often as FILTER costs, that is read (two requests), and from then on
        most names that are not there cost none.

        Raises:
            CorruptError: the page, or INDEX, breaks the format.
            UnavailableError: it could not be read now.
        """
        layout = Layout(row.layout)
        pages = pages_of(row)
        if pages is None:
            entry = (await self.index(row, cost)).find(name)
            return None if entry is None else StoredEntry(entry, layout)
        digest = name_digest(name.encode())
        memory = self.memory(row)
        if memory.filter_pays(row.geometry.file_count):
            await self._once(("filter", row.container_id, row.etag), self.reader(row, cost).load_filter)
        if memory.denies(digest):
            return None
        asked = cost.requests
        read = CountedRead(self._store, row.key, row.etag, cost)
        records = await PagedIndex(pages, row.etag, self._cache).find(digest, read)
        if not records:
            if cost.requests > asked:
                memory.note_vain()
            return None
        if len(records) == 1 and not records[0].check_index:
            entry = check_record(records[0], name, footer_of(row))
            located = Located(entry, records[0], digest, layout) if layout is Layout.V1 else None
            return StoredEntry(entry, layout, located)
        # Names that only INDEX tells apart; its pages are in the cache now.
        found = await self.reader(row, cost).locate(name)
        return None if found is None else StoredEntry(found.entry, layout, found if found.is_bare else None)

    def reader(self, row: ContainerRow, cost: ReadCost) -> S3DesReader:
        """Return a reader of a container whose requests count in `cost`; made for one call.

        It shares the cache of pages and what is remembered of the container with all others, so a page of
        names costs at most three requests the first time (`S3DesReader.list_files`), then one.
        """
        pages = pages_of(row)
        return S3DesReader(
            _RowObjects(self._store, cost),
            row.key,
            etag=row.etag,
            size=row.geometry.size,
            footer=footer_of(row),
            ext=None if pages is None else ExtGeometry(row.geometry.ext_table_start, pages),
            cache=self._cache,
            memory=self.memory(row),
        )

    async def pages(self, row: ContainerRow, numbers: Iterable[int], cost: ReadCost) -> dict[int, bytes]:
        """Return pages of a container that has EXT, those that are not cached by few reads.

        Raises:
            CorruptError: a page breaks the format.
            UnavailableError: one could not be read now.
        """
        geometry = pages_of(row)
        assert geometry is not None
        read = CountedRead(self._store, row.key, row.etag, cost)
        return await PagedIndex(geometry, row.etag, self._cache).hold(
            numbers, read, gap=PAGE_GAP, request_size=PAGE_READ_MAX
        )

    async def index(self, row: ContainerRow, cost: ReadCost) -> ContainerIndex:
        """Return a container's index; costs one request the first time.

        Raises:
            CorruptError: INDEX breaks the format.
            UnavailableError: it could not be read now.
        """
        key = (row.container_id, row.etag)
        index = self._indexes.get(key)
        if index is None:
            return await self._once(("index", key), lambda: self._load_index(row, cost))
        self._indexes.move_to_end(key)
        return index

    async def _load_index(self, row: ContainerRow, cost: ReadCost) -> ContainerIndex:
        footer = footer_of(row)
        raw = await run_async(read_index(footer), CountedRead(self._store, row.key, row.etag, cost))
        index = await asyncio.to_thread(ContainerIndex.parse, raw, footer)
        self._indexes[row.container_id, row.etag] = index
        self._index_bytes += index.memory_bytes
        while self._index_bytes > self._cache_bytes and len(self._indexes) > 1:
            self._index_bytes -= self._indexes.popitem(last=False)[1].memory_bytes
        return index

    def memory(self, row: ContainerRow) -> ContainerMemory:
        """Return what is remembered of a container."""
        key = (row.container_id, row.etag)
        memory = self._memories.get(key)
        if memory is None:
            memory = self._memories[key] = ContainerMemory()
            self._memory_bytes[key] = 0
        else:
            self._memories.move_to_end(key)
        # It grows while it is used, so it is weighed at each use, and what it grew by since the last.
        found = memory.memory_bytes
        self._memory_sum += found - self._memory_bytes[key]
        self._memory_bytes[key] = found
        while self._memory_sum > self._cache_bytes // MEMORY_SHARE and len(self._memories) > 1:
            forgotten, _ = self._memories.popitem(last=False)
            self._memory_sum -= self._memory_bytes.pop(forgotten)
        return memory

    async def _once(self, key: object, load: Callable[[], Coroutine[Any, Any, T]]) -> T:
        found: T = await self._flights.run(key, load)
        return found


class _RowObjects:
    """The object store as a reader sees it, counting, and never saying that a recorded object is absent."""

    def __init__(self, store: ObjectStore, cost: ReadCost) -> None:
        self._store = store
        self._cost = cost

    async def get_range(self, key: str, start: int, stop: int, *, etag: str | None = None) -> bytes:
        """Return exactly the bytes `[start, stop)`."""
        return await CountedRead(self._store, key, etag, self._cost)(ByteRange(start, stop))

    async def get_tail(self, key: str, size: int, *, etag: str | None = None) -> tuple[ObjectInfo, bytes]:
        """Return the last `size` bytes and what the store says."""
        self._cost.requests += 1
        return await self._store.get_tail(key, size, etag=etag)

    async def head(self, key: str) -> ObjectInfo:
        """Return what the store says."""
        self._cost.requests += 1
        return await self._store.head(key)


def pages_of(row: ContainerRow) -> PagesGeometry | None:
    """Return where a container's pages lie; None where its names are found through INDEX."""
    geometry = row.geometry
    if not geometry.page_count:
        return None
    uuid = _uuid_bytes(row.container_id)
    return PagesGeometry(uuid, geometry.pages_start, geometry.pages_length, geometry.page_count)


def footer_of(row: ContainerRow) -> Footer:
    """Return the footer that the row's geometry stands for."""
    geometry = row.geometry
    return Footer(
        data_start=geometry.data_start,
        data_length=geometry.data_length,
        meta_start=geometry.meta_start,
        meta_length=geometry.meta_length,
        index_start=geometry.index_start,
        index_length=geometry.index_length,
        file_count=geometry.file_count,
    )


@lru_cache(maxsize=1 << 12)
def _uuid_bytes(container_id: str) -> bytes:
    """Return the 16 bytes of an id: the same object each time, which every key of a kept page refers to."""
    return UUID(container_id).bytes
