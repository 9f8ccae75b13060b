"""Reads a container in an object store by ranged reads, each byte verified on that read."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from des.core.coalesce import FetchedRanges, join_ranges
from des.core.container_index import ContainerIndex
from des.core.file_view import (
    ExternalFileMissingError,
    RangeOutsideFileError,
    StoredFile,
    clip_range,
    missing,
)
from des.errors import CorruptError
from des.files import BLOCK_SIZE
from des.format.byte_range import ByteRange
from des.format.dictionaries import Dictionaries
from des.format.errors import CorruptContainerError, UnsupportedContainerError
from des.format.extent import PIECE_SIZE_MAX, Extent, extent_of, learn_blocks, pieces, read_piece
from des.format.footer import Footer
from des.format.index import IndexEntry
from des.format.layout import Layout
from des.format.metadata import Metadata
from des.format.plan import (
    TAIL_SIZE,
    Reads,
    file_ranges,
    open_container,
    read_file,
    read_index,
    read_metadata,
    run_async,
)
from des.storage.object_store import NoSuchObjectError, ObjectChangedError, ObjectStore

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

Read: TypeAlias = Callable[[ByteRange], Coroutine[Any, Any, bytes]]
ReadResult: TypeAlias = tuple[bytes, Metadata] | CorruptError | UnsupportedContainerError


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a file's bytes lie, how to prove them, and how to read that object."""

    extent: Extent
    read: Read


@dataclass(slots=True)
class Cost:
    """What a reader asked of the store so far."""

    requests: int = 0
    bytes: int = 0


class S3DesReader:
    """One container in an object store. Safe for many tasks of one event loop.

    Every request carries the container's etag, so that no two reads mix two objects; every byte
    returned was verified on that read wherever the container records a checksum.
    """

    def __init__(
        self,
        store: ObjectStore,
        key: str,
        *,
        etag: str | None = None,
        size: int | None = None,
        footer: Footer | None = None,
        index: ContainerIndex | None = None,
        tail_size: int = TAIL_SIZE,
    ) -> None:
        """Name the container; whatever is known of it already saves a request.

        Args:
            store: where it lies, and its external files too.
            key: its key.
            etag: as the store gave it when the object was made.
            size: length in bytes.
            footer: as recorded in the catalog; checked against `size` where both are known.
            index: parsed earlier, from the object with this etag.
            tail_size: bytes read first where the footer is unknown.
        """
        if footer is not None and size is not None:
            footer.check(size)
        self.key: Final = key
        self.cost: Final = Cost()
        self._store = store
        self._etag = etag
        self._size = size
        self._footer = footer
        self._index = index
        self._tail_size = tail_size
        self._opening = asyncio.Lock()
        self._sources: OrderedDict[IndexEntry, _Source] = OrderedDict()
        self._blocks_kept = 0
        self._dictionaries: Dictionaries | None = None

    async def open(self) -> None:
        """Learn what is not known yet: at most HEAD, tail and INDEX. Later calls do nothing.

        Raises:
            CorruptContainerError: the object is no container, or a damaged one.
            NoSuchObjectError: there is no such object.
        """
        async with self._opening:
            if self._etag is None or (self._index is None and self._footer is None and self._size is None):
                self.cost.requests += 1
                info = await self._store.head(self.key)
                if self._etag not in {None, info.etag}:
                    raise ObjectChangedError(f"{self.key!r} has etag {info.etag!r}, expected {self._etag!r}")
                self._etag = info.etag
                self._size = info.size
                if self._footer is not None:
                    self._footer.check(info.size)
            if self._index is not None:
                return
            if self._footer is not None:
                footer = self._footer
                raw = await run_async(read_index(footer), self._read)
            else:
                assert self._size is not None
                plan = open_container(self._size, tail_size=self._tail_size)
                footer, raw = await run_async(plan, self._read)
            if len(raw) > PARSE_INLINE_MAX:
                self._index = await asyncio.to_thread(ContainerIndex.parse, raw, footer)
            else:
                self._index = ContainerIndex.parse(raw, footer)
            self._footer = footer

    @property
    def etag(self) -> str | None:
        """The object's etag, once known."""
        return self._etag

    @property
    def footer(self) -> Footer | None:
        """The footer, once known."""
        return self._footer

    async def get_index(self) -> ContainerIndex:
        """Return the index, opening the container when needed."""
        if self._index is None or self._etag is None:
            await self.open()
            assert self._index is not None
        return self._index

    async def find(self, name: str) -> IndexEntry | None:
        """Return the entry of `name`; None when the container does not have it."""
        return (await self.get_index()).find(name)

    async def stat(self, name: str) -> StoredFile:
        """Return everything known of a file but its bytes.

        Raises:
            FileNotInContainerError: no such name.
        """
        entry = await self._entry(name)
        return StoredFile(entry, await self.read_metadata(entry))

    async def get_meta(self, name: str) -> Metadata:
        """Return a file's metadata.

        Raises:
            FileNotInContainerError: no such name.
        """
        return await self.read_metadata(await self._entry(name))

    async def get_file(self, name: str) -> bytes:
        """Return a file, whole and verified.

        Raises:
            CorruptContainerError: the stored bytes are not what was written.
            FileNotInContainerError: no such name.
            UnsupportedContainerError: the file is encrypted or deleted.
        """
        return (await self.read_entry(await self._entry(name)))[0]

    async def get_range(self, name: str, offset: int = 0, limit: int | None = None) -> bytes:
        """Return up to `limit` bytes of a file from `offset`, verified; fewer only at its end.

        Costs one request for a framed file of up to 1 MiB or a compressed one, which is read whole; for a
        longer one those of its metadata, once, and one per 4 MiB.

        Raises:
            CorruptContainerError: the stored bytes are not what was written.
            FileNotInContainerError: no such name.
            RangeOutsideFileError: `offset` lies behind the end.
        """
        entry = await self._entry(name)
        if entry.is_compressed:
            data, _ = await self.read_entry(entry)
            start, stop = clip_range(name, len(data), offset, limit)
            return data[start:stop]
        start, stop = clip_range(name, entry.data_length, offset, limit)
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
            FileNotInContainerError: no such name; nothing was read.
        """
        wanted = list(dict.fromkeys(names))
        entries = [await self._entry(name) for name in wanted]
        results = await self.read_entries(
            entries, gap=gap, request_size=request_size, concurrency=concurrency
        )
        files: dict[str, bytes] = {}
        for name, result in zip(wanted, results, strict=True):
            if isinstance(result, Exception):
                raise result
            files[name] = result[0]
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
        layout = (await self.get_index()).layout
        joinable = [entry for entry in entries if _is_joinable(entry)]
        wanted = [piece for entry in joinable for piece in file_ranges(entry, layout)]
        joined = join_ranges(wanted, gap=gap, size_max=request_size)
        limit = asyncio.Semaphore(concurrency)
        fetched: dict[ByteRange, bytes | Exception] = {}
        lone: dict[IndexEntry, ReadResult] = {}

        async def fetch(group: ByteRange) -> None:
            async with limit:
                try:
                    fetched[group] = await self._read(group)
                except CorruptError as error:
                    fetched[group] = error

        async def fetch_alone(entry: IndexEntry) -> None:
            async with limit:
                try:
                    lone[entry] = await self.read_entry(entry)
                except (CorruptError, UnsupportedContainerError) as error:
                    lone[entry] = error

        try:
            async with asyncio.TaskGroup() as tasks:
                for group in joined:
                    tasks.create_task(fetch(group))
                for entry in entries:
                    if not _is_joinable(entry):
                        tasks.create_task(fetch_alone(entry))
        except BaseExceptionGroup as errors:
            # The first one stopped the others; callers tell kinds of error apart, not groups.
            raise errors.exceptions[0] from None
        source = FetchedRanges(joined, fetched)

        async def read(wanted: ByteRange) -> bytes:
            # Only a dictionary lies outside what was fetched; it is read once.
            data = source.read(wanted)
            return await self._read(wanted) if data is None else data

        results: list[ReadResult] = []
        for entry in entries:
            if not _is_joinable(entry):
                results.append(lone[entry])
                continue
            try:
                results.append(await run_async(self._file_plan(entry, layout), read))
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
        layout = (await self.get_index()).layout
        entry.check_readable(layout)
        if _is_joinable(entry):
            return await run_async(self._file_plan(entry, layout), self._read)
        metadata = await self.read_metadata(entry)
        source = await self._source(entry, metadata)
        data = b"".join([part async for part in self._stream(source, 0, entry.data_length)])
        return data, metadata

    async def read_metadata(self, entry: IndexEntry) -> Metadata:
        """Return a file's metadata; also of a file that cannot itself be read.

        Raises:
            CorruptContainerError: what is stored there is not its metadata.
        """
        layout = (await self.get_index()).layout
        return await run_async(read_metadata(entry, layout), self._read)

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
        entry.check_readable((await self.get_index()).layout)
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

    def _file_plan(self, entry: IndexEntry, layout: Layout) -> Reads[tuple[bytes, Metadata]]:
        if self._dictionaries is None:
            assert self._index is not None
            self._dictionaries = Dictionaries(self._index.data_start)
        return read_file(entry, layout, self._dictionaries)

    async def _entry(self, name: str) -> IndexEntry:
        entry = await self.find(name)
        if entry is None:
            raise missing(name, self.key)
        return entry

    async def _source(self, entry: IndexEntry, metadata: Metadata | None = None) -> _Source:
        """Return where a long or external file lies and how to prove a part of it; remembered."""
        source = self._sources.get(entry)
        if source is not None:
            self._sources.move_to_end(entry)
            return source
        if metadata is None:
            metadata = await self.read_metadata(entry)
        extent = extent_of(entry, metadata)
        read: Read = self._read
        if metadata.external_key is not None:
            read = await self._external_read(metadata.external_key, extent)
        if extent.needs_blocks:
            extent = await run_async(learn_blocks(extent), read)
        source = _Source(extent, read)
        self._remember(entry, source)
        return source

    def _remember(self, entry: IndexEntry, source: _Source) -> None:
        known = self._sources.pop(entry, None)
        if known is not None:
            self._blocks_kept -= len(known.extent.block_crc32c)
        self._sources[entry] = source
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
        self.cost.requests += 1
        self.cost.bytes += wanted.size
        return await self._store.get_range(self.key, wanted.start, wanted.stop, etag=self._etag)


def _is_joinable(entry: IndexEntry) -> bool:
    """Whether the file lies in the container and is short enough to be held whole."""
    return not entry.is_external and entry.data_length <= PIECE_SIZE_MAX


def _external_missing(key: str, name: str) -> ExternalFileMissingError:
    return ExternalFileMissingError(f"object {key!r} of external file {name!r} is not there", name=name)
