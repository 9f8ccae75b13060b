"""Reads a container in an object store by ranged reads, each byte verified on that read."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

from des.core.coalesce import FetchedRanges, join_ranges
from des.core.container_index import ContainerIndex
from des.core.file_view import (
    ExternalFileMissingError,
    RangeOutsideFileError,
    StoredFile,
    clip_range,
    digest_of,
    missing,
    sorted_names,
)
from des.core.index_cache import IndexCache, InMemoryIndexCache
from des.core.paged_index import PagedIndex, Read, check_all_pages
from des.errors import CorruptError
from des.files import BLOCK_SIZE
from des.format.byte_range import ByteRange
from des.format.dictionaries import Dictionaries
from des.format.errors import CorruptContainerError, UnsupportedContainerError
from des.format.ext import Ext, ExtGeometry, open_end, read_ext, read_section
from des.format.ext_trailer import TRAILER_SIZE
from des.format.extent import (
    PIECE_SIZE_MAX,
    Extent,
    bound_extent,
    extent_of,
    learn_blocks,
    pieces,
    read_piece,
)
from des.format.footer import FOOTER_SIZE, BadFooterError, Footer
from des.format.fuse_filter import FuseFilter
from des.format.hash_pages import Record
from des.format.index import IndexEntry
from des.format.index_directory import Group, decode_directory
from des.format.layout import Layout
from des.format.locate import (
    check_record,
    check_same_place,
    read_bare,
    read_described,
    read_entry,
    read_indexed,
)
from des.format.metadata import Metadata
from des.format.name_key import hash_of
from des.format.names import NamesDirectory, list_names, read_directory
from des.format.plan import (
    TAIL_SIZE,
    Reads,
    file_ranges,
    read_data,
    read_file,
    read_index,
    read_metadata,
    run_async,
)
from des.format.section_table import BadSectionError, Section, SectionKind
from des.storage.boto3_reads import Boto3Reads
from des.storage.object_store import NoSuchObjectError, RangedObjects

OWN_CACHE_BYTES: Final = 16 << 20
"""Bytes of pages that a reader without a shared cache keeps: those of about 450,000 files."""
COALESCE_GAP: Final = 1 << 16
"""Bytes between two files of a batch that are read for nothing rather than by a second request."""
COALESCED_SIZE_MAX: Final = 1 << 23
"""Bytes of one joined request."""
CONCURRENCY: Final = 16
"""Requests of one batch under way at once."""
PARSE_INLINE_MAX: Final = 1 << 18
"""Bytes of INDEX parsed on the event loop (about 2 ms); a longer one goes to a thread."""
WHOLE_FILE_MAX: Final = BLOCK_SIZE
"""Bytes of a file that is read whole for any range of it: longer ones have block checksums."""
SOURCES_KEPT: Final = 256
"""Long and external files of which is remembered where they lie and how to prove them."""
BLOCKS_KEPT: Final = 1 << 16
"""Block checksums in them all together (40 bytes each), beyond those of the last file."""

ReadResult: TypeAlias = tuple[bytes, Metadata] | CorruptError | UnsupportedContainerError


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a file's bytes lie, how to prove them, and how to read that object."""

    extent: Extent
    read: Read


@dataclass(frozen=True, slots=True)
class _Located:
    """Where a file lies, and what EXT knows of it."""

    entry: IndexEntry
    """In v1, where a record led here, without the place of its metadata."""
    record: Record | None = None
    """None where INDEX led here."""
    digest: bytes = b""
    layout: Layout = Layout.FRAMED

    @property
    def is_bare(self) -> bool:
        """Whether the record proves the file, and its metadata is still to be found."""
        return self.record is not None and self.layout is Layout.V1


@dataclass(slots=True)
class Cost:
    """What a reader asked of the store so far."""

    requests: int = 0
    bytes: int = 0


class S3DesReader:
    """One container in an object store. Safe for many tasks of one event loop.

    Every request carries the container's etag, so that no two reads mix two objects; every byte
    returned was verified on that read wherever the container records a checksum.

    Where the container has EXT, a file costs one request with its page in the cache, two where `ext`
    and `etag` are known, three where nothing is; otherwise INDEX is loaded first.
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
            tail_size: bytes read first where the container's end is unknown.
        """
        if footer is not None and size is not None:
            footer.check(size)
        if ext is not None and (footer is None or size is None):
            raise ValueError("ext comes without footer and size")
        self.key: Final = key
        self.cost: Final = Cost()
        self._store: RangedObjects = store if bucket is None else Boto3Reads(store, bucket)
        self._etag = etag
        self._size = size
        self._footer = footer
        self._geometry = ext
        self._index = index
        self._cache: IndexCache = InMemoryIndexCache(OWN_CACHE_BYTES) if cache is None else cache
        self._tail_size = tail_size
        self._tail = (0, b"")
        self._ext: Ext | None = None
        self._paged: PagedIndex | None = None
        self._filter: FuseFilter | None = None
        self._names: NamesDirectory | None = None
        self._dictionaries: Dictionaries | None = None
        self._is_open = False
        self._opening = asyncio.Lock()
        self._sources: OrderedDict[str, _Source] = OrderedDict()
        self._blocks_kept = 0

    async def open(self) -> None:
        """Learn what is not known yet: at most the container's end, and INDEX where there is no EXT.

        Later calls do nothing.

        Raises:
            CorruptContainerError: the object is no container, or a damaged one.
            NoSuchObjectError: there is no such object.
        """
        if self._is_open:
            return
        async with self._opening:
            if self._is_open:
                return
            if self._index is None and self._geometry is None:
                await self._read_end()
            elif self._etag is None:
                await self._read_head()
            assert self._etag is not None
            if self._index is None and self._geometry is not None:
                self._paged = PagedIndex(self._geometry.pages, self._etag, self._cache)
            elif self._index is None:
                await self._load_index()
            self._is_open = True

    @property
    def etag(self) -> str | None:
        """The object's etag, once known."""
        return self._etag

    @property
    def footer(self) -> Footer | None:
        """The footer, once known."""
        return self._footer

    async def get_index(self) -> ContainerIndex:
        """Return INDEX, whole and proven; a container with EXT is read without ever calling this."""
        await self._get_ext()
        async with self._opening:
            if self._index is None:
                await self._load_index()
        assert self._index is not None
        return self._index

    async def check_pages(self) -> None:
        """Demand that HASHPAGES, whole, lead to each file of INDEX and to no other. For who sealed it.

        Raises:
            CorruptContainerError: they do not, or something is damaged.
        """
        index = await self.get_index()
        ext = await self._get_ext()
        section = None if ext is None else ext.section(SectionKind.HASHPAGES)
        if section is None or self._geometry is None:
            return
        data = await run_async(read_section(section), self._read)
        await asyncio.to_thread(check_all_pages, self._geometry.pages, data, index, self._known_footer())

    async def load_filter(self) -> None:
        """Keep FILTER, 1.13 bytes a file, after which most absent names cost no request.

        Raises:
            CorruptContainerError: it is damaged.
        """
        ext = await self._get_ext()
        section = None if ext is None else ext.section(SectionKind.FILTER)
        if section is not None and self._filter is None:
            self._filter = FuseFilter.decode(await run_async(read_section(section), self._read))

    async def list_files(
        self, prefix: str = "", start_after: str = "", limit: int | None = None
    ) -> list[str]:
        """Return names that start with `prefix` and sort after `start_after`, sorted, at most `limit`.

        Two requests for the first page, then one.

        Raises:
            CorruptContainerError: NAMES, or INDEX where there is no NAMES, is damaged.
        """
        ext = await self._get_ext()
        section = None if ext is None else ext.section(SectionKind.NAMES)
        if section is None:
            return sorted_names(await self.get_index(), prefix, start_after, limit)
        if self._names is None:
            self._names = await run_async(read_directory(section), self._read)
        plan = list_names(self._names, prefix=prefix, start_after=start_after, limit=limit)
        return await run_async(plan, self._read)

    async def find(self, name: str) -> IndexEntry | None:
        """Return the entry of `name`; None when the container does not have it.

        Costs the page, and in a v1 container with EXT two small reads more.
        """
        found = await self._locate(name)
        if found is None or not found.is_bare:
            return None if found is None else found.entry
        assert found.record is not None
        plan = read_indexed(await self._directory(), self._known_footer(), found.record.ordinal, name)
        return await run_async(plan, self._read)

    async def contains(self, name: str) -> bool:
        """Whether the container has a file of this name."""
        return await self._locate(name) is not None

    async def stat(self, name: str) -> StoredFile:
        """Return everything known of a file but its bytes.

        Raises:
            FileNotInContainerError: no such name.
        """
        return await self._describe(await self._demand(name))

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
        return await self._read_located(await self._demand(name))

    async def get_range(self, name: str, offset: int = 0, limit: int | None = None) -> bytes:
        """Return up to `limit` bytes of a file from `offset`, verified; fewer only at its end.

        Costs one request for a framed file of up to 1 MiB or a compressed one, which is read whole; for a
        longer one those of its metadata, once, and one per 4 MiB.

        Raises:
            CorruptContainerError: the stored bytes are not what was written.
            FileNotInContainerError: no such name.
            RangeOutsideFileError: `offset` lies behind the end.
        """
        found = await self._demand(name)
        if found.entry.is_compressed:
            data = await self._read_located(found)
            start, stop = clip_range(name, len(data), offset, limit)
            return data[start:stop]
        start, stop = clip_range(name, found.entry.data_length, offset, limit)
        if start == stop:
            return b""
        if not found.entry.is_external and found.entry.data_length <= WHOLE_FILE_MAX:
            return (await self._read_located(found))[start:stop]
        found.entry.check_readable(self._layout)
        entry = found.entry
        if found.is_bare and name not in self._sources:
            entry = (await self._describe(found)).entry
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
        wanted = await self._locate_many(names, gap=gap, request_size=request_size)
        files: dict[str, bytes] = dict.fromkeys(wanted, b"")
        joinable = [found for found in wanted.values() if found.is_bare or _is_joinable(found.entry)]
        joinable = [found for found in joinable if _is_joinable(found.entry) and found.entry.data_length]
        alone = [found for name, found in wanted.items() if not _is_joinable(found.entry)]
        for found in wanted.values():
            found.entry.check_readable(self._layout)
        joined = join_ranges(
            [one for found in joinable for one in self._ranges(found)], gap=gap, size_max=request_size
        )
        fetched: dict[ByteRange, bytes | Exception] = {}

        async def fetch(group: ByteRange) -> None:
            fetched[group] = await self._read(group)

        async def fetch_alone(found: _Located) -> None:
            files[found.entry.name] = await self._read_located(found)

        await run_jobs(
            [partial(fetch, group) for group in joined] + [partial(fetch_alone, found) for found in alone],
            concurrency,
        )
        read = self._read_fetched(FetchedRanges(joined, fetched))
        for found in joinable:
            files[found.entry.name] = await run_async(self._plan(found), read)
        return files

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
        layout = self._layout
        # A v1 file with EXT is proven by its record, and its metadata by its neighbours': not in one range.
        together = [entry for entry in entries if _is_joinable(entry) and not self._proves_v1]
        wanted = [piece for entry in together for piece in file_ranges(entry, layout)]
        joined = join_ranges(wanted, gap=gap, size_max=request_size)
        fetched: dict[ByteRange, bytes | Exception] = {}
        lone: dict[IndexEntry, ReadResult] = {}

        async def fetch(group: ByteRange) -> None:
            try:
                fetched[group] = await self._read(group)
            except CorruptError as error:
                fetched[group] = error

        async def fetch_alone(entry: IndexEntry) -> None:
            try:
                lone[entry] = await self.read_entry(entry)
            except (CorruptError, UnsupportedContainerError) as error:
                lone[entry] = error

        apart = set(entries) - set(together)
        await run_jobs(
            [partial(fetch, group) for group in joined] + [partial(fetch_alone, entry) for entry in apart],
            concurrency,
        )
        read = self._read_fetched(FetchedRanges(joined, fetched))
        results: list[ReadResult] = []
        for entry in entries:
            if entry in apart:
                results.append(lone[entry])
                continue
            try:
                results.append(await run_async(read_file(entry, layout, self._known_dictionaries()), read))
            except (CorruptError, UnsupportedContainerError) as error:
                results.append(error)
        return results

    async def read_entry(self, entry: IndexEntry) -> tuple[bytes, Metadata]:
        """Return a file, whole and verified, and its metadata; one request for a framed file up to 4 MiB.

        Raises:
            CorruptContainerError: the stored bytes are not what was written.
            ExternalFileMissingError: the object of an external file is gone.
            UnsupportedContainerError: the file is encrypted or deleted.
        """
        await self.open()
        entry.check_readable(self._layout)
        if _is_joinable(entry) and not self._proves_v1:
            plan = read_file(entry, self._layout, self._known_dictionaries())
            return await run_async(plan, self._read)
        metadata = await self.read_metadata(entry)
        if _is_joinable(entry):
            return await self._read_located(await self._demand(entry.name)), metadata
        source = await self._source(entry, metadata)
        data = b"".join([part async for part in self._stream(source, 0, entry.data_length)])
        return data, metadata

    async def read_metadata(self, entry: IndexEntry) -> Metadata:
        """Return a file's metadata; also of a file that cannot itself be read.

        Raises:
            CorruptContainerError: what is stored there is not its metadata.
        """
        await self.open()
        if self._proves_v1:
            found = await self._demand(entry.name)
            if found.record is not None:
                return (await self._describe(found)).metadata
        return await run_async(read_metadata(entry, self._layout), self._read)

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
        entry.check_readable(self._layout)
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
            async for part in self._stream(await self._source(entry), start, stop):
                yield part
        else:
            data, _ = await self.read_entry(entry)
            yield data[start:stop]

    @property
    def _layout(self) -> Layout:
        if self._index is not None:
            return self._index.layout
        return self._known_footer().layout

    @property
    def _proves_v1(self) -> bool:
        """Whether EXT proves the files of a v1 container, which prove nothing themselves."""
        return self._paged is not None and self._layout is Layout.V1

    def _known_footer(self) -> Footer:
        assert self._footer is not None
        return self._footer

    async def _demand(self, name: str) -> _Located:
        found = await self._locate(name)
        if found is None:
            raise missing(name, self.key)
        return found

    async def _locate(self, name: str) -> _Located | None:
        """Return where a file lies, by its page or by INDEX."""
        await self.open()
        if self._paged is None:
            entry = (await self.get_index()).find(name)
            return None if entry is None else _Located(entry)
        digest = digest_of(name)
        if digest is None or (self._filter is not None and hash_of(digest) not in self._filter):
            return None
        return await self._settle(name, digest, await self._paged.find(digest, self._read))

    async def _locate_many(self, names: Iterable[str], *, gap: int, request_size: int) -> dict[str, _Located]:
        """Return where files lie, in the order asked, each once.

        Raises:
            FileNotInContainerError: one is not there.
        """
        await self.open()
        wanted = list(dict.fromkeys(names))
        if self._paged is None:
            return {name: await self._demand(name) for name in wanted}
        digests = {name: digest_of(name) for name in wanted}
        records = await self._paged.find_many(
            [digest for digest in digests.values() if digest is not None],
            self._read,
            gap=gap,
            request_size=request_size,
        )
        located: dict[str, _Located] = {}
        for name, digest in digests.items():
            found = None if digest is None else await self._settle(name, digest, records[digest])
            if found is None:
                raise missing(name, self.key)
            located[name] = found
        return located

    async def _settle(self, name: str, digest: bytes, records: list[Record]) -> _Located | None:
        """Return the file that a page's records mean; ask INDEX where they say so."""
        footer = self._known_footer()
        for record in records:
            if not record.check_index:
                return _Located(check_record(record, name, footer), record, digest, footer.layout)
            plan = read_entry(await self._directory(), footer, record.ordinal)
            entry = await run_async(plan, self._read)
            if entry.name == name:
                return _Located(entry)
        return None

    def _ranges(self, found: _Located) -> list[ByteRange]:
        if found.is_bare:
            return [ByteRange(found.entry.data_offset, found.entry.data_offset + found.entry.data_length)]
        return file_ranges(found.entry, self._layout)

    def _plan(self, found: _Located) -> Reads[bytes]:
        """Plan the reads of a file, by `_ranges`."""
        if found.record is not None and found.is_bare:
            return read_bare(found.record, found.entry.name, found.digest)
        return read_data(found.entry, self._layout, self._known_dictionaries())

    def _known_dictionaries(self) -> Dictionaries:
        if self._dictionaries is None:
            start = self._known_footer().data_start if self._index is None else self._index.data_start
            self._dictionaries = Dictionaries(start)
        return self._dictionaries

    def _read_fetched(self, source: FetchedRanges) -> Read:
        """Return how to read out of what a batch fetched; only a dictionary lies outside that."""

        async def read(wanted: ByteRange) -> bytes:
            data = source.read(wanted)
            return await self._read(wanted) if data is None else data

        return read

    async def _read_located(self, found: _Located) -> bytes:
        entry = found.entry
        entry.check_readable(self._layout)
        if found.record is not None and not entry.data_length and not entry.is_external:
            return b""
        if _is_joinable(entry):
            return await run_async(self._plan(found), self._read)
        described = await self._describe(found)
        source = await self._source(described.entry, described.metadata)
        return b"".join([part async for part in self._stream(source, 0, entry.data_length)])

    async def _describe(self, found: _Located) -> StoredFile:
        if found.record is None or not found.is_bare:
            plan = read_metadata(found.entry, self._layout)
            return StoredFile(found.entry, await run_async(plan, self._read))
        described = read_described(
            await self._directory(), self._known_footer(), found.record.ordinal, found.entry.name
        )
        entry, metadata = await run_async(described, self._read)
        check_same_place(found.record, entry)
        return StoredFile(entry, metadata)

    async def _directory(self) -> Section:
        """Return INDEXDIR, which a record refers to."""
        ext = await self._get_ext()
        section = None if ext is None else ext.section(SectionKind.INDEXDIR)
        if section is None:
            raise BadSectionError(f"{self.key!r} has HASHPAGES that refer to INDEXDIR, and has none")
        return section

    async def _get_ext(self) -> Ext | None:
        """Return EXT's table; one request where only its place was known."""
        await self.open()
        async with self._opening:
            if self._ext is None and self._geometry is not None:
                assert self._size is not None
                plan = read_ext(self._size, self._geometry.table_start, self._known_footer())
                self._ext = await run_async(plan, self._read)
                if ExtGeometry.of(self._ext, self._known_footer()) != self._geometry:
                    raise BadSectionError(f"EXT of {self.key!r} is not as recorded")
        return self._ext

    async def _read_head(self) -> None:
        self.cost.requests += 1
        info = await self._store.head(self.key)
        if self._size not in {None, info.size}:
            raise CorruptContainerError(f"{self.key!r} has {info.size} bytes, expected {self._size}")
        self._etag, self._size = info.etag, info.size
        if self._footer is not None:
            self._footer.check(info.size)

    async def _read_end(self) -> None:
        """Read the container's end, in one request unless EXT is unusually wide."""
        wanted = max(self._tail_size, FOOTER_SIZE + TRAILER_SIZE)
        if self._etag is None or self._size is None:
            self.cost.requests += 1
            info, tail = await self._store.get_tail(self.key, wanted, etag=self._etag)
            self.cost.bytes += len(tail)
            if self._size not in {None, info.size}:
                raise CorruptContainerError(f"{self.key!r} has {info.size} bytes, expected {self._size}")
            self._etag, self._size = info.etag, info.size
        else:
            start = max(0, self._size - wanted)
            tail = await self._read(ByteRange(start, self._size)) if self._size else b""
        opened = await run_async(open_end(self._size, tail=tail), self._read)
        if self._footer not in {None, opened.footer}:
            raise BadFooterError(f"footer of {self.key!r} is not as recorded")
        self._footer, self._ext = opened.footer, opened.ext
        self._geometry = ExtGeometry.of(opened.ext, opened.footer)
        needed = opened.footer.index_start if self._geometry is None else self._geometry.pages.start
        if needed >= opened.tail_start:
            # Never a file's bytes: each of those is read when it is asked for.
            start = max(opened.tail_start, opened.footer.index_start)
            self._tail = (start, opened.tail[start - opened.tail_start :])

    async def _load_index(self) -> None:
        footer = self._known_footer()
        raw = await run_async(read_index(footer), self._read)
        section = None if self._ext is None else self._ext.section(SectionKind.INDEXDIR)
        groups: list[Group] = []
        if section is not None:
            directory = await run_async(read_section(section), self._read)
            groups = decode_directory(directory, footer.index_length, footer.file_count)

        def parse() -> ContainerIndex:
            index = ContainerIndex.parse(raw, footer)
            index.check(groups)
            return index

        self._index = parse() if len(raw) <= PARSE_INLINE_MAX else await asyncio.to_thread(parse)
        if self._geometry is None:
            self._tail = (0, b"")

    async def _source(self, entry: IndexEntry, metadata: Metadata | None = None) -> _Source:
        """Return where a long or external file lies and how to prove a part of it; remembered."""
        source = self._sources.get(entry.name)
        if source is not None:
            self._sources.move_to_end(entry.name)
            return source
        if metadata is None:
            metadata = await self.read_metadata(entry)
        extent = extent_of(entry, metadata)
        if self._proves_v1 and not entry.is_external:
            found = await self._demand(entry.name)
            if found.record is not None:
                extent = bound_extent(extent, found.digest, found.record.proof)
        read: Read = self._read
        if metadata.external_key is not None:
            read = await self._external_read(metadata.external_key, extent)
        if extent.needs_blocks:
            extent = await run_async(learn_blocks(extent), read)
        source = _Source(extent, read)
        self._remember(entry, source)
        return source

    def _remember(self, entry: IndexEntry, source: _Source) -> None:
        known = self._sources.pop(entry.name, None)
        if known is not None:
            self._blocks_kept -= len(known.extent.block_crc32c)
        self._sources[entry.name] = source
        self._blocks_kept += len(source.extent.block_crc32c)
        while len(self._sources) > SOURCES_KEPT or (
            self._blocks_kept > BLOCKS_KEPT and len(self._sources) > 1
        ):
            _, forgotten = self._sources.popitem(last=False)
            self._blocks_kept -= len(forgotten.extent.block_crc32c)

    async def _stream(self, source: _Source, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield verified pieces in order, one being read while the one before is used."""
        ahead: deque[asyncio.Task[bytes]] = deque()
        try:
            for piece in pieces(source.extent, start, stop):
                plan = read_piece(source.extent, piece)
                ahead.append(asyncio.create_task(run_async(plan, source.read)))
                if len(ahead) > 1:
                    yield await ahead.popleft()
            while ahead:
                yield await ahead.popleft()
        finally:
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)

    async def _external_read(self, key: str, extent: Extent) -> Read:
        """Return how to read an external file. Only its checksums, or else its etag, tie it to the entry."""
        etag = None
        if extent.crc32c is None and extent.block_size is None:
            self.cost.requests += 1
            try:
                info = await self._store.head(key)
            except NoSuchObjectError as error:
                raise _external_missing(key, extent.name) from error
            if info.size != extent.size:
                raise CorruptContainerError(
                    f"external file {extent.name!r} at {key!r} has {info.size} bytes, expected {extent.size}"
                )
            etag = info.etag

        async def read(wanted: ByteRange) -> bytes:
            self.cost.requests += 1
            self.cost.bytes += wanted.size
            try:
                return await self._store.get_range(key, wanted.start, wanted.stop, etag=etag)
            except NoSuchObjectError as error:
                raise _external_missing(key, extent.name) from error

        return read

    async def _read(self, wanted: ByteRange) -> bytes:
        start, tail = self._tail
        if wanted.start >= start and wanted.stop <= start + len(tail):
            return tail[wanted.start - start : wanted.stop - start]
        self.cost.requests += 1
        self.cost.bytes += wanted.size
        return await self._store.get_range(self.key, wanted.start, wanted.stop, etag=self._etag)


async def run_jobs(jobs: Sequence[Callable[[], Coroutine[Any, Any, None]]], concurrency: int) -> None:
    """Run jobs, so many at once; the first that fails stops the others."""
    limit = asyncio.Semaphore(concurrency)

    async def bounded(job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async with limit:
            await job()

    try:
        async with asyncio.TaskGroup() as tasks:
            for job in jobs:
                tasks.create_task(bounded(job))
    except BaseExceptionGroup as errors:
        # Callers tell kinds of error apart, not groups.
        raise errors.exceptions[0] from None


def _is_joinable(entry: IndexEntry) -> bool:
    """Whether the file lies in the container and is short enough to be held whole."""
    return not entry.is_external and entry.data_length <= PIECE_SIZE_MAX


def _external_missing(key: str, name: str) -> ExternalFileMissingError:
    return ExternalFileMissingError(f"object {key!r} of external file {name!r} is not there", name=name)
