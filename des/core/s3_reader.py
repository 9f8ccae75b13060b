"""Reads a container in an object store by ranged reads, each byte verified on that read."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from typing import Any, Final

from des.core.container_index import ContainerIndex
from des.core.container_memory import ContainerMemory
from des.core.container_object import ContainerObject, Cost
from des.core.file_view import (
    RangeOutsideFileError,
    StoredFile,
    clip_range,
)
from des.core.finder import Finder
from des.core.in_order import describe_all, read_all
from des.core.index_cache import IndexCache
from des.core.joined_reads import COALESCE_GAP, COALESCED_SIZE_MAX, CONCURRENCY, Joining
from des.core.located import Located
from des.core.located_reads import (
    ReadResult,
    dictionaries_of,
    is_joinable,
    plan_of,
    read_listed,
    read_many,
)
from des.core.long_files import LongFiles, Source
from des.core.paged_index import check_all_pages
from des.files import BLOCK_SIZE
from des.format.ext import ExtGeometry, read_section
from des.format.extent import bound_extent, extent_of
from des.format.footer import Footer
from des.format.index import IndexEntry
from des.format.layout import Layout
from des.format.metadata import Metadata
from des.format.plan import TAIL_SIZE, read_file, run_async
from des.format.section_table import SectionKind
from des.storage.object_store import RangedObjects

WHOLE_FILE_MAX: Final = BLOCK_SIZE
"""Bytes of a file that is read whole for any range of it: longer ones have block checksums."""


class S3DesReader:
    """One container in an object store. Safe for many tasks of one event loop.

    Every request carries the container's etag, so that no two reads mix two objects; every byte
    returned was verified on that read wherever the container records a checksum.

    Where the container has EXT, a file costs one request with its page in the cache, two where `ext`
    and `etag` are known, three where nothing is; otherwise INDEX is loaded first. A file's metadata comes
    with it when framed. In a v1 container it costs two requests more, for a group of 64 neighbours in INDEX
    and for theirs in META, none where the cache has these; and the first time one for the section table,
    with which INDEXDIR comes where it is short, and one more where it is not.
    """

    def __init__(
        self,
        store: RangedObjects | Any,
        key: str,
        *,
        bucket: str | None = None,
        etag: str | None = None,
        size: int | None = None,
        footer: Footer | None = None,
        ext: ExtGeometry | None = None,
        index: ContainerIndex | None = None,
        cache: IndexCache | None = None,
        memory: ContainerMemory | None = None,
        tail_size: int = TAIL_SIZE,
    ) -> None:
        """Name the container; whatever is known of it already saves a request.

        Args:
            store: where it lies, and its external files too: an object store or, with `bucket`, a boto3
                client.
            key: its key.
            bucket: of the boto3 client; None where `store` is an object store.
            etag: as the store gave it when the object was made.
            size: length in bytes.
            footer: as recorded in the catalog; checked against `size` where both are known.
            ext: as recorded in the catalog; needs `footer` and `size`.
            index: parsed earlier, from the object with this etag.
            cache: of pages, shared with other readers; None for one of its own.
            memory: shared with other readers of the object with this etag; None for one of its own.
            tail_size: bytes read first where the container's end is unknown.
        """
        self._container: Final = ContainerObject(
            store,
            key,
            bucket=bucket,
            etag=etag,
            size=size,
            footer=footer,
            ext=ext,
            index=index,
            cache=cache,
            memory=memory,
            tail_size=tail_size,
        )
        self.key: Final = key
        self.cost: Final[Cost] = self._container.cost
        self._finder: Final = Finder(self._container)
        self._long: Final = LongFiles(self._container)

    async def open(self) -> None:
        """Learn what is not known yet: at most the container's end, and INDEX where there is no EXT.

        Later calls do nothing.

        Raises:
            CorruptContainerError: the object is no container, or a damaged one.
            NoSuchObjectError: there is no such object.
        """
        await self._container.open()

    @property
    def etag(self) -> str | None:
        """The object's etag, once known."""
        return self._container.etag

    @property
    def footer(self) -> Footer | None:
        """The footer, once known."""
        return self._container.footer

    async def get_index(self) -> ContainerIndex:
        """Return INDEX, whole and proven; a container with EXT is read without ever calling this."""
        return await self._container.index()

    async def __aiter__(self) -> AsyncIterator[StoredFile]:
        """Yield every file's entry and metadata, in the order they were written.

        Costs, besides opening, one request for about 4,000 files of INDEX and, in v1, one for their META.
        Framed metadata stands beside the files: there short ones are read along, 8 MiB at a time, and of
        long ones header and metadata.
        """
        async for file in describe_all(self._container):
            yield file

    async def read_all(self) -> AsyncIterator[tuple[StoredFile, bytes]]:
        """Yield every file with its bytes, verified, in the order they were written.

        Reads DATA once, about 8 MiB in a request, the next while one is used: the cheapest way to read most
        of a container. Longer files and external ones are read alone, each held whole.

        Raises:
            CorruptContainerError: what comes next is not what was written.
            UnsupportedContainerError: what comes next is encrypted or deleted.
        """
        async for file in read_all(self._container, self.read_entry):
            yield file

    async def check_pages(self) -> None:
        """Demand that HASHPAGES, whole, lead to each file of INDEX and to no other. For who sealed it.

        Raises:
            CorruptContainerError: they do not, or something is damaged.
        """
        index = await self.get_index()
        section = await self._container.section(SectionKind.HASHPAGES)
        geometry = self._container.geometry
        if section is None or geometry is None:
            return
        data = await run_async(read_section(section), self._container.read)
        await asyncio.to_thread(check_all_pages, geometry.pages, data, index, self._container.known_footer())

    async def load_filter(self) -> None:
        """Keep FILTER, 1.13 bytes a file, after which most absent names cost no request.

        Nobody has to call this: a reader does it once pages were read in vain as often as FILTER costs.

        Raises:
            CorruptContainerError: it is damaged.
        """
        await self._finder.load_filter()

    async def list_files(
        self, prefix: str = "", start_after: str = "", limit: int | None = None
    ) -> list[str]:
        """Return names that start with `prefix` and sort after `start_after`, sorted, at most `limit`.

        Reads only blocks of NAMES (512 names, about 2.5 KB) that may hold them, neighbours in one request
        of up to 64 blocks. A page of 1,000 costs one request; the first page three: the container's end (or
        the section table where `ext` is known), the directory of NAMES, the blocks. Up to about 1,500 files
        all are in the first request. A `memory` that was used before saves the first two.

        Raises:
            CorruptContainerError: NAMES, or INDEX where there is no NAMES, is damaged.
        """
        return await self._finder.list_names(prefix, start_after, limit)

    async def find(self, name: str) -> IndexEntry | None:
        """Return the entry of `name`; None when the container does not have it.

        Costs the page, and in a v1 container with EXT a group of INDEX.
        """
        found = await self._finder.locate(name)
        return None if found is None else await self._finder.entry(found)

    async def contains(self, name: str) -> bool:
        """Whether the container has a file of this name. Costs as `locate`."""
        return await self.locate(name) is not None

    async def stat(self, name: str) -> StoredFile:
        """Return everything known of a file but its bytes.

        Raises:
            FileNotInContainerError: no such name.
        """
        return await self.describe(await self._finder.demand(name))

    async def get_meta(self, name: str) -> Metadata:
        """Return a file's metadata.

        Raises:
            FileNotInContainerError: no such name.
        """
        return (await self.stat(name)).metadata

    async def get_file(self, name: str) -> bytes:
        """Return a file, whole and verified. One of no bytes costs no request beyond its page.

        Raises:
            CorruptContainerError: the stored bytes are not what was written.
            FileNotInContainerError: no such name.
            UnsupportedContainerError: the file is encrypted or deleted.
        """
        return await self.read_located(await self._finder.demand(name))

    async def get_range(self, name: str, offset: int = 0, limit: int | None = None) -> bytes:
        """Return up to `limit` bytes of a file from `offset`, verified; fewer only at its end.

        Costs one request for a framed file of up to 1 MiB or a compressed one, which is read whole; for a
        longer one those of its metadata, once, and one per 4 MiB.

        Raises:
            CorruptContainerError: the stored bytes are not what was written.
            FileNotInContainerError: no such name.
            RangeOutsideFileError: `offset` lies behind the end.
        """
        found = await self._finder.demand(name)
        if found.entry.is_compressed:
            data = await self.read_located(found)
            start, stop = clip_range(name, len(data), offset, limit)
            return data[start:stop]
        start, stop = clip_range(name, found.entry.data_length, offset, limit)
        if start == stop:
            return b""
        if not found.entry.is_external and found.entry.data_length <= WHOLE_FILE_MAX:
            return (await self.read_located(found))[start:stop]
        found.entry.check_readable(self._container.layout)
        entry = found.entry
        if found.is_bare and name not in self._long:
            entry = (await self.describe(found)).entry
        return b"".join([piece async for piece in self.stream_entry(entry, start, stop)])

    async def get_files_batch(
        self,
        names: Iterable[str],
        *,
        gap: int = COALESCE_GAP,
        request_size: int = COALESCED_SIZE_MAX,
        concurrency: int = CONCURRENCY,
    ) -> dict[str, bytes]:
        """Return many files by name, with as few requests as `gap` and `request_size` allow.

        Raises:
            CorruptError: one of the files is damaged.
            FileNotInContainerError: no such name; no file was read.
        """
        wanted = await self._finder.locate_many(names, gap=gap, request_size=request_size)
        joining = Joining(gap, request_size, concurrency)
        return await read_many(self._container, wanted, self.read_located, joining)

    async def read_entries(
        self,
        entries: Sequence[IndexEntry],
        *,
        gap: int = COALESCE_GAP,
        request_size: int = COALESCED_SIZE_MAX,
        concurrency: int = CONCURRENCY,
    ) -> list[ReadResult]:
        """Read many files, neighbours joined, and return them in the order asked.

        A file that cannot be read is an error in its place, not of the batch. All files are held in
        memory: the caller bounds their sum.
        """
        await self.open()
        # A v1 file with EXT is proven by its record, and its metadata by its neighbours': not in one range.
        apart = [entry for entry in entries if self._proves_v1 or not is_joinable(entry)]
        joining = Joining(gap, request_size, concurrency)
        return await read_listed(self._container, entries, apart, self.read_entry, joining)

    async def read_entry(self, entry: IndexEntry) -> tuple[bytes, Metadata]:
        """Return a file, whole and verified, and its metadata; one request for a framed file up to 4 MiB.

        Raises:
            CorruptContainerError: the stored bytes are not what was written.
            ExternalFileMissingError: the object of an external file is gone.
            UnsupportedContainerError: the file is encrypted or deleted.
        """
        await self.open()
        entry.check_readable(self._container.layout)
        if self._proves_v1:
            return await self.read_described(await self._finder.demand(entry.name))
        return await self.read_described(Located(entry))

    async def read_described(self, found: Located) -> tuple[bytes, Metadata]:
        """Return a file that `locate` found, and its metadata, side by side where they lie apart."""
        await self.open()
        entry = found.entry
        entry.check_readable(self._container.layout)
        if not is_joinable(entry):
            described = await self.describe(found)
            source = await self._source(described.entry, described.metadata)
            return await self._read_source(source), described.metadata
        if not found.is_bare:
            plan = read_file(entry, self._container.layout, dictionaries_of(self._container))
            return await run_async(plan, self._container.read)
        return await _together(self.read_located(found), self.describe(found))

    async def read_metadata(self, entry: IndexEntry) -> Metadata:
        """Return a file's metadata; also of a file that cannot itself be read.

        Raises:
            CorruptContainerError: what is stored there is not its metadata.
        """
        await self.open()
        found = await self._finder.demand(entry.name) if self._proves_v1 else Located(entry)
        return (await self.describe(found)).metadata

    async def stream_entry(
        self, entry: IndexEntry, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[bytes]:
        """Yield the bytes `[start, stop)` of a file, at most 4 MiB at a time, each verified beforehand.

        A compressed file is read whole; `stop` None is its end.

        Raises:
            CorruptContainerError: the stored bytes are not what was written.
            ExternalFileMissingError: the object of an external file is gone.
            RangeOutsideFileError: the range is not in the file.
            UnsupportedContainerError: the file is encrypted or deleted.
        """
        await self.open()
        entry.check_readable(self._container.layout)
        whole = (await self.read_entry(entry))[0] if entry.is_compressed else None
        size = entry.data_length if whole is None else len(whole)
        stop = size if stop is None else stop
        if not 0 <= start <= stop <= size:
            raise RangeOutsideFileError(
                f"range [{start}, {stop}) is not in {entry.name!r}, which has {size} bytes", size=size
            )
        if start == stop:
            return
        if whole is not None:
            yield whole[start:stop]
            return
        if entry.is_external or entry.data_length > WHOLE_FILE_MAX:
            async for part in self._long.stream(await self._source(entry), start, stop):
                yield part
        else:
            data, _ = await self.read_entry(entry)
            yield data[start:stop]

    async def locate(self, name: str) -> Located | None:
        """Return where a file lies, by its page or by INDEX; None when the container does not have it.

        Costs its page, where that is not in the cache; see `load_filter` for absent names.
        """
        return await self._finder.locate(name)

    async def read_located(self, found: Located) -> bytes:
        """Return the bytes of a file that `locate` found. As `get_file`."""
        await self.open()
        entry = found.entry
        entry.check_readable(self._container.layout)
        if found.record is not None and not entry.data_length and not entry.is_external:
            return b""
        if is_joinable(entry):
            return await run_async(plan_of(self._container, found), self._container.read)
        described = await self.describe(found)
        return await self._read_source(await self._source(described.entry, described.metadata))

    async def describe(self, found: Located) -> StoredFile:
        """Return all that is known of a file that `locate` found. As `stat`."""
        return await self._finder.describe(found)

    @property
    def _proves_v1(self) -> bool:
        """Whether EXT proves the files of a v1 container, which prove nothing themselves."""
        return self._container.pages is not None and self._container.layout is Layout.V1

    async def _source(self, entry: IndexEntry, metadata: Metadata | None = None) -> Source:
        """Return where a long or external file lies and how to prove a part of it; remembered."""
        source = self._long.known(entry.name)
        if source is not None:
            return source
        if metadata is None:
            metadata = await self.read_metadata(entry)
        extent = extent_of(entry, metadata)
        if self._proves_v1 and not entry.is_external:
            found = await self._finder.demand(entry.name)
            if found.record is not None and found.record.is_proven:
                extent = bound_extent(extent, found.digest, found.record.proof)
        return await self._long.learn(extent, metadata.external_key)

    async def _read_source(self, source: Source) -> bytes:
        return b"".join([part async for part in self._long.stream(source, 0, source.extent.size)])


async def _together(
    data: Coroutine[Any, Any, bytes], described: Coroutine[Any, Any, StoredFile]
) -> tuple[bytes, Metadata]:
    """Await both at once; the first that fails stops the other."""
    try:
        async with asyncio.TaskGroup() as tasks:
            reading, describing = tasks.create_task(data), tasks.create_task(described)
    except BaseExceptionGroup as errors:
        # Callers tell kinds of error apart, not groups.
        raise errors.exceptions[0] from None
    return reading.result(), describing.result().metadata
