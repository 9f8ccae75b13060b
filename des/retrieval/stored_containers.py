"""What the read path remembers of sealed containers: catalog rows by day and shard, and indexes."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from uuid import UUID

from des.core import ContainerIndex, InMemoryIndexCache, S3DesReader
from des.core.index_cache import IndexCache
from des.core.paged_index import PagedIndex
from des.db.catalog import Catalog, ContainerRow
from des.format.byte_range import ByteRange
from des.format.dictionaries import Dictionaries
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
DICTIONARY_SHARE: Final = 4
"""Dictionaries may take one in so many of the bytes that indexes may."""


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """Where a file lies in a sealed container."""

    entry: IndexEntry
    layout: Layout
    reader: S3DesReader | None = None
    """Proves what the file itself does not; None where frame or metadata suffice."""


class StoredContainers:
    """Rows and indexes of stored containers, each loaded once for all who wait for it.

    Rows stay valid because only this node records containers for its shards, and it says so with `add`.
    Indexes are kept by container id and etag up to `cache_bytes`, least recently used first out, and
    dictionaries up to a fourth of that.
    """

    def __init__(
        self, *, catalog: Catalog, store: ObjectStore, cache_bytes: int, cache: IndexCache | None = None
    ) -> None:
        """Connect to catalog and store.

        Args:
            catalog: has the rows.
            store: has the containers.
            cache_bytes: memory for the indexes of containers without EXT and, where `cache` is None, for
                as much again of pages of the others.
            cache: of pages.
        """
        self._cache: IndexCache = InMemoryIndexCache(cache_bytes) if cache is None else cache
        self._catalog = catalog
        self._store = store
        self._cache_bytes = cache_bytes
        self._rows: OrderedDict[tuple[str, int, int], list[ContainerRow]] = OrderedDict()
        self._indexes: OrderedDict[tuple[str, str], ContainerIndex] = OrderedDict()
        self._index_bytes = 0
        self._dictionaries: OrderedDict[tuple[str, str], Dictionaries] = OrderedDict()
        self._loading: dict[object, asyncio.Task[Any]] = {}
        self._additions = 0

    def add(self, row: ContainerRow) -> None:
        """Make a container visible that was just recorded."""
        self._additions += 1
        for (day, shard, bits), rows in self._rows.items():
            if day == row.day and bits == row.run.bits and shard in row.run and row not in rows:
                rows.append(row)

    async def rows(self, day: str, shard: int, *, bits: int) -> list[ContainerRow]:
        """Return the stored containers of `day` that cover `shard` of `2**bits`.

        Raises:
            CatalogUnavailableError: the catalog did not answer; nothing is known about absence.
        """
        key = (day, shard, bits)
        rows = self._rows.get(key)
        if rows is None:
            return await self._once(("rows", key), lambda: self._load_rows(key))
        self._rows.move_to_end(key)
        return rows

    async def _load_rows(self, key: tuple[str, int, int]) -> list[ContainerRow]:
        day, shard, bits = key
        while True:
            before = self._additions
            rows = await self._catalog.containers_of(day, shard, bits=bits)
            if self._additions == before:
                break  # else the answer may be older than a container added meanwhile
        self._rows[key] = rows
        if len(self._rows) > ROWS_CACHED:
            self._rows.popitem(last=False)
        return rows

    async def find(self, row: ContainerRow, name: str, cost: ReadCost) -> StoredEntry | None:
        """Return where a file of a container lies; None when it has no such file.

        Costs at most one request: a page of 8 KiB or, where there is no EXT, INDEX the first time.

        Raises:
            CorruptError: the page, or INDEX, breaks the format.
            UnavailableError: it could not be read now.
        """
        layout = Layout(row.layout)
        pages = _pages_of(row)
        if pages is None:
            entry = (await self.index(row, cost)).find(name)
            return None if entry is None else StoredEntry(entry, layout)
        read = CountedRead(self._store, row.key, row.etag, cost)
        records = await PagedIndex(pages, row.etag, self._cache).find(name_digest(name.encode()), read)
        if layout is Layout.FRAMED and len(records) == 1 and not records[0].check_index:
            return StoredEntry(check_record(records[0], name, footer_of(row)), layout)
        if not records:
            return None
        # A v1 container, whose files EXT proves, or names that only INDEX tells apart.
        reader = S3DesReader(
            _RowObjects(self._store, cost),
            row.key,
            etag=row.etag,
            size=row.geometry.size,
            footer=footer_of(row),
            ext=ExtGeometry(row.geometry.ext_table_start, pages),
            cache=self._cache,
        )
        entry = await reader.find(name)
        return None if entry is None else StoredEntry(entry, layout, reader)

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

    def dictionaries(self, row: ContainerRow) -> Dictionaries:
        """Return a container's dictionaries, those read before among them."""
        key = (row.container_id, row.etag)
        known = self._dictionaries.get(key)
        if known is not None:
            self._dictionaries.move_to_end(key)
            return known
        kept = sum(one.memory_bytes for one in self._dictionaries.values())
        while kept > self._cache_bytes // DICTIONARY_SHARE and self._dictionaries:
            kept -= self._dictionaries.popitem(last=False)[1].memory_bytes
        made = self._dictionaries[key] = Dictionaries(row.geometry.data_start)
        return made

    async def _once(self, key: object, load: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run one load for all who ask meanwhile; one that gives up does not stop it for the others."""
        loading: asyncio.Task[T] | None = self._loading.get(key)
        if loading is None:
            loading = self._loading[key] = asyncio.create_task(load())
            loading.add_done_callback(lambda done: self._loaded(key, done))
        return await asyncio.shield(loading)

    def _loaded(self, key: object, done: asyncio.Task[Any]) -> None:
        del self._loading[key]
        if not done.cancelled():
            done.exception()  # read here, so that an error nobody waited for is no warning


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


def _pages_of(row: ContainerRow) -> PagesGeometry | None:
    geometry = row.geometry
    if not geometry.page_count:
        return None
    uuid = UUID(row.container_id).bytes
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
