"""Many files in one call: located together, read in storage order by few ranged reads (DESIGN §5, §6).

Open files come segment by segment, stored ones container by container, each by offset. What does not fit
that way (long, external, of the layout v1, or not settled by one page) is opened one by one. Nothing here
makes a task or waits for a single file, save for those.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias, TypeVar

import google_crc32c

from des.config import Settings
from des.db.catalog import ContainerRow
from des.errors import CorruptError, DesError
from des.files import BLOCK_SIZE, FileInfo, FileState, Placement, window_of
from des.format.byte_range import ByteRange
from des.format.dictionaries import Dictionaries
from des.format.frame import FRAME_HEADER_SIZE, open_plain_frame
from des.format.hash_pages import PagesGeometry, Unsettled, find_plain
from des.format.index import FLAG_COMPRESSED, FLAG_EXTERNAL, IndexEntry
from des.format.layout import Layout
from des.format.metadata import Metadata, decode_metadata
from des.format.name_key import hash_of, name_digest
from des.format.plan import WHOLE_FRAME_MAX, read_file, run_async
from des.ingest.errors import LogCorruptError, LogRecordGoneError
from des.ingest.facts import FileFacts
from des.ingest.log import IngestLog
from des.ingest.open_index import OpenIndex
from des.ingest.values import OpenFile
from des.naming import created_ms_of, parse_name
from des.retrieval.opened_file import CountedRead, OpenedFile, ReadCost
from des.retrieval.stored_containers import StoredContainers, pages_of
from des.retrieval.tombstones import Tombstones, file_deleted
from des.storage.object_store import ObjectStore

T = TypeVar("T")
_Record: TypeAlias = tuple[int, int, int, int]
"""Offset, length, flags and proof, as a page has them."""

LOG_GAP: Final = 1 << 14
"""Bytes of the log read for nothing rather than by a second call."""
LOG_SPAN_MAX: Final = 1 << 20
STORE_GAP: Final = 1 << 16
"""Bytes of a container read for nothing rather than by a second request."""
STORE_SPAN_MAX: Final = 4 << 20
"""Bytes of one request."""
SPANS_AHEAD: Final = 4
"""Requests under way or waiting to be cut up, for one call: with `STORE_SPAN_MAX`, its memory."""
OPENED_AHEAD: Final = 4
"""Files opened one by one at once."""
STATED_AHEAD: Final = 16
"""Files whose metadata are read one by one at once."""


class Wanted(NamedTuple):
    """One file, or window of a file, that is asked for."""

    name: str
    offset: int = 0
    limit: int = 0
    """As `window_of` reads them."""


class Part(NamedTuple):
    """Some bytes of one wanted file, or why there are none."""

    at: int
    """Place in what was asked for."""
    info: FileInfo | None
    """In a file's first part."""
    offset: int
    """Of `data` in the file."""
    data: bytes
    crc32c: int
    """Of `data`."""
    last: bool
    error: DesError | None = None
    """Set in a part that is the last of its file."""


class _Frame(NamedTuple):
    """Where the frame of a wanted file lies."""

    start: int
    stop: int
    at: int
    flags: int
    meta_length: int
    name: bytes
    digest: bytes


class _Search(NamedTuple):
    """A name that may be in one of some containers."""

    at: int
    name: bytes
    digest: bytes
    shard: int
    rows: list[ContainerRow]
    """Not asked yet, in the order to ask them."""


@dataclass(slots=True)
class _Plan:
    """Where everything wanted lies."""

    failed: list[Part] = field(default_factory=list)
    empty: list[tuple[int, OpenFile]] = field(default_factory=list)
    log: dict[int, list[tuple[int, int, OpenFile]]] = field(default_factory=dict)
    """By segment: offset, place, file."""
    frames: dict[str, tuple[ContainerRow, list[_Frame]]] = field(default_factory=dict)
    """By container id."""
    shards: dict[int, int] = field(default_factory=dict)
    """Shards of the stored files, by place."""
    lone: list[int] = field(default_factory=list)
    """Places of what is opened one by one."""

    def fail(self, at: int, error: DesError) -> None:
        """Give a wanted file up."""
        self.failed.append(Part(at, None, 0, b"", 0, last=True, error=error))


class BatchReader:
    """Answers batches for the shards of one node."""

    def __init__(
        self,
        *,
        settings: Settings,
        log: IngestLog,
        open_index: OpenIndex,
        containers: StoredContainers,
        store: ObjectStore,
        tombstones: Tombstones,
        describe_open: Callable[[OpenFile, FileFacts], FileInfo],
        open_file: Callable[[str], Coroutine[object, object, OpenedFile]],
        stat_file: Callable[[str], Coroutine[object, object, FileInfo]],
        absent: Callable[[str], DesError],
    ) -> None:
        self._bits = settings.shard_bits
        self._wrap_bits = settings.wrap_bits
        self._log = log
        self._open_index = open_index
        self._containers = containers
        self._store = store
        self._tombstones = tombstones
        self._describe_open = describe_open
        self._open_file = open_file
        self._stat_file = stat_file
        self._absent = absent

    async def read(
        self, wanted: Sequence[Wanted], *, part_bytes: int, cost: ReadCost
    ) -> AsyncGenerator[list[Part], None]:
        """Yield every wanted file, many parts at a time, in the order in which they are stored.

        All parts of a file come one after the other, none longer than `part_bytes`, each verified. What
        cannot be read is a part with its error; the others go on. Memory: `SPANS_AHEAD` requests.
        """
        plan = await self._plan(wanted, cost)
        if plan.failed:
            yield plan.failed
        if plan.empty:
            yield [self._empty(wanted, at, file) for at, file in plan.empty]
        for segment in sorted(plan.log):
            async for parts in self._from_log(wanted, segment, plan, part_bytes):
                yield parts
        for container_id in sorted(plan.frames):
            row, frames = plan.frames[container_id]
            async for parts in self._from_container(wanted, row, frames, plan, part_bytes, cost):
                yield parts
        async for parts in self._one_by_one(wanted, plan.lone, part_bytes, cost):
            yield parts

    async def stat(self, names: Sequence[str], *, cost: ReadCost) -> list[FileInfo | DesError]:
        """Return what is known of each file, in the order asked, or why nothing is.

        The metadata of stored files are read, neighbours in one request; open files cost nothing.
        """
        plan = await self._plan([Wanted(name) for name in names], cost)
        found: dict[int, FileInfo | DesError] = {}
        for part in plan.failed:
            assert part.error is not None
            found[part.at] = part.error
        for files in plan.log.values():
            found.update(
                (at, self._describe_open(file, FileFacts.decode(file.facts))) for _, at, file in files
            )
        for at, file in plan.empty:
            found[at] = self._describe_open(file, FileFacts.decode(file.facts))
        for row, frames in plan.frames.values():
            short = [frame for frame in frames if frame.stop - frame.start <= WHOLE_FRAME_MAX]
            plan.lone += [frame.at for frame in frames if frame.stop - frame.start > WHOLE_FRAME_MAX]
            async for group, span in self._spans(row, short, cost):
                for frame in group:
                    info = (
                        span
                        if isinstance(span, DesError)
                        else self._stat_frame(frame, span, group, row, plan)
                    )
                    if info is None:
                        plan.lone.append(frame.at)
                    else:
                        found[frame.at] = info

        async def stat(at: int) -> tuple[int, FileInfo | DesError]:
            try:
                return at, await self._stat_file(names[at])
            except DesError as error:
                return at, error

        found |= {at: info async for at, info in _ahead((stat(at) for at in plan.lone), STATED_AHEAD)}
        return [found[at] for at in range(len(names))]

    def _stat_frame(
        self, frame: _Frame, span: bytes, group: list[_Frame], row: ContainerRow, plan: _Plan
    ) -> FileInfo | None:
        """Return what a frame says of its file; None where it takes a closer look."""
        base = group[0].start
        opened = open_plain_frame(
            span,
            frame.start - base,
            frame.stop - base,
            name=frame.name,
            digest=frame.digest,
            flags=frame.flags,
        )
        if opened is None:
            return None
        _, _, size, crc32c, encoded = opened
        try:
            metadata = decode_metadata(encoded, _entry(frame), raw_length=size)
        except CorruptError:
            return None
        return self._describe(frame, row, plan.shards[frame.at], size, crc32c, metadata)

    # --- where everything lies --------------------------------------------------------------

    async def _plan(self, wanted: Sequence[Wanted], cost: ReadCost) -> _Plan:
        plan = _Plan()
        searched: list[_Search] = []
        get_open = self._open_index.get
        for at, (name, _, _) in enumerate(wanted):
            file = get_open(name)
            if file is None:
                try:
                    searched.append(await self._search(at, name))
                except DesError as error:
                    plan.fail(at, error)
            elif file.offset:
                plan.log.setdefault(file.segment, []).append((file.offset, at, file))
            elif file.size:
                plan.lone.append(at)
            else:
                plan.empty.append((at, file))
        while searched:
            searched = await self._ask(searched, plan, cost)
        return plan

    async def _search(self, at: int, name: str) -> _Search:
        """Name the containers that may have a file.

        Raises:
            InvalidNameError: DES makes no such name.
            NotFoundError, UnavailableError: no container may have it.
        """
        raw = name.encode()
        digest = name_digest(raw)
        shard = int.from_bytes(digest[:8], "big") >> (64 - self._bits)
        day = name[-26:-18]
        rows = self._containers.known_rows(day, shard, bits=self._bits)
        deleted_ms = self._tombstones.known(name, day, shard, bits=self._bits)
        if rows is None or deleted_ms is None:
            day = parse_name(name).day
            rows = await self._containers.rows(day, shard, bits=self._bits)
            deleted_ms = await self._tombstones.deleted_ms(name, day, shard, bits=self._bits)
        if deleted_ms:
            raise file_deleted(name, deleted_ms)
        try:
            time_ms = created_ms_of(name, self._wrap_bits)
        except ValueError:
            time_ms = -1
        asked = [row for row in rows if row.name_ms_first <= time_ms <= row.name_ms_last]
        if not asked:
            parse_name(name)
            raise self._absent(name)
        return _Search(at, raw, digest, shard, asked)

    async def _ask(self, searched: Iterable[_Search], plan: _Plan, cost: ReadCost) -> list[_Search]:
        """Look each name up in the first of its containers; return those to go on with."""
        by_row: dict[str, tuple[ContainerRow, list[_Search]]] = {}
        for search in searched:
            row = search.rows[0]
            by_row.setdefault(row.container_id, (row, []))[1].append(search)
        going_on: list[_Search] = []
        for row, searches in by_row.values():
            pages = pages_of(row)
            if pages is None or Layout(row.layout) is not Layout.FRAMED:
                plan.lone += [search.at for search in searches]
                continue
            try:
                found = await self._look_up(row, pages, searches, cost)
            except DesError as error:
                for search in searches:
                    plan.fail(search.at, error)
                continue
            for search, record in zip(searches, found, strict=True):
                if record is Unsettled.ABSENT:
                    if len(search.rows) > 1:
                        going_on.append(search._replace(rows=search.rows[1:]))
                    else:
                        plan.fail(search.at, self._not_found(search.name.decode()))
                elif isinstance(record, Unsettled) or not _add_frame(plan, row, search, record):
                    plan.lone.append(search.at)
        return going_on

    async def _look_up(
        self, row: ContainerRow, pages: PagesGeometry, searches: Sequence[_Search], cost: ReadCost
    ) -> list[_Record | Unsettled]:
        """Return each name's record in a container.

        Raises:
            CorruptError, UnavailableError: a page could not be read.
        """
        numbers = [hash_of(search.digest) * pages.page_count >> 64 for search in searches]
        held = await self._containers.pages(row, set(numbers), cost)
        found: list[_Record | Unsettled] = [
            find_plain(held[number], search.digest) for search, number in zip(searches, numbers, strict=True)
        ]
        spilt = {at: numbers[at] + 1 for at, record in enumerate(found) if record is Unsettled.NEXT_PAGE}
        if not spilt:
            return found
        last = pages.written_count - 1
        following = await self._containers.pages(row, {n for n in spilt.values() if n <= last}, cost)
        for at, number in spilt.items():
            page = following.get(number)
            record = Unsettled.ABSENT if page is None else find_plain(page, searches[at].digest)
            found[at] = Unsettled.ABSENT if record is Unsettled.NEXT_PAGE else record
        return found

    def _not_found(self, name: str) -> DesError:
        try:
            parse_name(name)
        except DesError as error:
            return error
        return self._absent(name)

    # --- the ingest log ---------------------------------------------------------------------

    def _empty(self, wanted: Sequence[Wanted], at: int, file: OpenFile) -> Part:
        try:
            window_of(wanted[at].offset, wanted[at].limit, 0)
        except DesError as error:
            return Part(at, None, 0, b"", 0, last=True, error=error)
        info = self._describe_open(file, FileFacts.decode(file.facts))
        return Part(at, info, 0, b"", 0, last=True)

    async def _from_log(
        self, wanted: Sequence[Wanted], segment: int, plan: _Plan, part_bytes: int
    ) -> AsyncGenerator[list[Part], None]:
        files = plan.log[segment]
        files.sort(key=lambda one: one[0])
        for group in _joined(
            files, lambda one: one[0], lambda one: one[0] + one[2].size, gap=LOG_GAP, size_max=LOG_SPAN_MAX
        ):
            start = group[0][0]
            stop = max(offset + file.size for offset, _, file in group)
            parts: list[Part] = []
            try:
                span = await self._log.read_span(segment, start, stop)
            except LogRecordGoneError:
                plan.lone += [at for _, at, _ in group]  # stored meanwhile
                continue
            except DesError as error:
                yield [Part(at, None, 0, b"", 0, last=True, error=error) for _, at, _ in group]
                continue
            for offset, at, file in group:
                data = span[offset - start : offset - start + file.size]
                try:
                    if google_crc32c.value(data) != file.crc32c or len(data) != file.size:
                        raise LogCorruptError(
                            f"{len(data)} bytes at {offset} of segment {segment} do not match their checksum "
                            f"{file.crc32c:#010x} over {file.size} bytes",
                            name=file.name,
                        )
                    facts = FileFacts.decode(file.facts) if file.facts else _NO_FACTS
                    _cut(
                        parts, at, wanted[at], self._describe_open(file, facts), data, file.crc32c, part_bytes
                    )
                except DesError as error:
                    parts.append(Part(at, None, 0, b"", 0, last=True, error=error))
            yield parts

    # --- containers -------------------------------------------------------------------------

    async def _from_container(
        self,
        wanted: Sequence[Wanted],
        row: ContainerRow,
        frames: list[_Frame],
        plan: _Plan,
        part_bytes: int,
        cost: ReadCost,
    ) -> AsyncGenerator[list[Part], None]:
        read = CountedRead(self._store, row.key, row.etag, cost)
        dictionaries = self._containers.memory(row).dictionaries_of(row.geometry.data_start)
        async for group, span in self._spans(row, frames, cost):
            if isinstance(span, DesError):
                yield [Part(frame.at, None, 0, b"", 0, last=True, error=span) for frame in group]
                continue
            parts: list[Part] = []
            base = group[0].start
            size = 0
            for frame in group:
                try:
                    data, crc32c, metadata = await self._open_frame(
                        frame, span, base, row, dictionaries, read
                    )
                    shard = plan.shards[frame.at]
                    info = self._describe(frame, row, shard, len(data), crc32c, metadata)
                    _cut(parts, frame.at, wanted[frame.at], info, data, crc32c, part_bytes)
                except DesError as error:
                    parts.append(Part(frame.at, None, 0, b"", 0, last=True, error=error))
                    continue
                size += len(data)
                if size >= LOG_SPAN_MAX:
                    yield parts
                    parts, size = [], 0
            if parts:
                yield parts

    def _spans(
        self, row: ContainerRow, frames: list[_Frame], cost: ReadCost
    ) -> AsyncGenerator[tuple[list[_Frame], bytes | DesError], None]:
        """Yield runs of frames with the bytes from the first one's start to the last one's end."""
        frames.sort(key=lambda frame: frame.start)
        read = CountedRead(self._store, row.key, row.etag, cost)

        async def fetch(group: list[_Frame]) -> tuple[list[_Frame], bytes | DesError]:
            span = ByteRange(group[0].start, max(frame.stop for frame in group))
            try:
                return group, await read(span)
            except DesError as error:
                return group, error

        groups = _joined(
            frames, lambda one: one.start, lambda one: one.stop, gap=STORE_GAP, size_max=STORE_SPAN_MAX
        )
        return _ahead((fetch(group) for group in groups), SPANS_AHEAD)

    async def _open_frame(
        self,
        frame: _Frame,
        span: bytes,
        base: int,
        row: ContainerRow,
        dictionaries: Dictionaries,
        read: CountedRead,
    ) -> tuple[bytes, int, Metadata | None]:
        """Return a file's bytes, their checksum and its metadata, None where that says only its size."""
        start, stop = frame.start - base, frame.stop - base
        opened = open_plain_frame(span, start, stop, name=frame.name, digest=frame.digest, flags=frame.flags)
        if opened is None:
            return await self._explain(frame, span, base, row, dictionaries, read)
        data, codec, raw_length, crc32c, encoded = opened
        if codec:
            data = await run_async(dictionaries.decompress(data, codec=codec, raw_length=raw_length), read)
        if google_crc32c.value(data) != crc32c:
            return await self._explain(frame, span, base, row, dictionaries, read)
        if encoded == b'{"size":%d}' % raw_length:
            return data, crc32c, None
        return data, crc32c, decode_metadata(encoded, _entry(frame), raw_length=raw_length)

    @staticmethod
    async def _explain(
        frame: _Frame,
        span: bytes,
        base: int,
        row: ContainerRow,
        dictionaries: Dictionaries,
        read: CountedRead,
    ) -> tuple[bytes, int, Metadata | None]:
        """Read a frame the long way round, which says what is wrong with it.

        Raises:
            CorruptError: it is damaged.
        """

        async def cut(part: ByteRange) -> bytes:
            if base <= part.start and part.stop <= base + len(span):
                return span[part.start - base : part.stop - base]
            return await read(part)

        entry = _entry(frame)
        data, metadata = await run_async(read_file(entry, Layout(row.layout), dictionaries), cut)
        if metadata.system.crc32c is None:
            raise CorruptError(
                f"container {row.container_id} has no checksum for {entry.name!r}",
                name=entry.name,
                container_id=row.container_id,
            )
        return data, metadata.system.crc32c, metadata

    def _describe(
        self, frame: _Frame, row: ContainerRow, shard: int, size: int, crc32c: int, metadata: Metadata | None
    ) -> FileInfo:
        name = frame.name.decode()
        data_start = frame.start + FRAME_HEADER_SIZE
        length = frame.stop - data_start - len(frame.name) - frame.meta_length
        return FileInfo(
            name,
            row.day,
            shard,
            size,
            crc32c,
            metadata.system.content_type if metadata is not None else "",
            metadata.user if metadata is not None else _NO_METADATA,
            FileState.STORED,
            created_ms_of(name, self._wrap_bits),
            row.stored_ms,
            Placement(row.container_id, data_start, length),
        )

    # --- the rest ---------------------------------------------------------------------------

    async def _one_by_one(
        self, wanted: Sequence[Wanted], places: Sequence[int], part_bytes: int, cost: ReadCost
    ) -> AsyncGenerator[list[Part], None]:
        async def begin(at: int) -> tuple[int, OpenedFile | DesError]:
            try:
                return at, await self._open_file(wanted[at].name)
            except DesError as error:
                return at, error

        async for at, opened in _ahead((begin(at) for at in places), OPENED_AHEAD):
            if isinstance(opened, DesError):
                yield [Part(at, None, 0, b"", 0, last=True, error=opened)]
                continue
            async for part in _stream(at, wanted[at], opened, part_bytes):
                yield [part]
            cost.requests += opened.cost.requests
            cost.bytes += opened.cost.bytes


async def _stream(at: int, wanted: Wanted, opened: OpenedFile, part_bytes: int) -> AsyncGenerator[Part, None]:
    """Yield the parts of a file that was opened alone."""
    info: FileInfo | None = opened.info
    position = 0
    try:
        position, stop = window_of(wanted.offset, wanted.limit, opened.info.size)
        if position == stop:
            yield Part(at, info, position, b"", 0, last=True)
            return
        async for piece in opened.read(position, stop):
            for start in range(0, len(piece), part_bytes):
                data = piece[start : start + part_bytes]
                after = position + len(data)
                yield Part(at, info, position, data, google_crc32c.value(data), last=after == stop)
                info, position = None, after
    except DesError as error:
        yield Part(at, None, position, b"", 0, last=True, error=error)


def _cut(
    parts: list[Part], at: int, wanted: Wanted, info: FileInfo, data: bytes, crc32c: int, part_bytes: int
) -> None:
    """Add the parts of a file that is in memory, whole and verified.

    Raises:
        InvalidInputError, OutOfRangeError: the window is none of this file's.
    """
    start, stop = 0, len(data)
    if wanted.offset or wanted.limit:
        start, stop = window_of(wanted.offset, wanted.limit, stop)
    if stop - start <= part_bytes:
        if stop - start != len(data):
            data = data[start:stop]
            crc32c = google_crc32c.value(data)
        parts.append(Part(at, info, start, data, crc32c, last=True))
        return
    first: FileInfo | None = info
    for position in range(start, stop, part_bytes):
        piece = data[position : min(stop, position + part_bytes)]
        last = position + len(piece) == stop
        parts.append(Part(at, first, position, piece, google_crc32c.value(piece), last=last))
        first = None


def _add_frame(plan: _Plan, row: ContainerRow, search: _Search, record: _Record) -> bool:
    """Note where a file's frame lies; False where it is not read that way, or lies where none can."""
    start, length, flags, meta_length = record
    stop = start + FRAME_HEADER_SIZE + length + len(search.name) + meta_length
    data_start = row.geometry.data_start
    if (
        flags & ~FLAG_COMPRESSED
        or (not flags and length > BLOCK_SIZE)
        or not data_start <= start < stop <= data_start + row.geometry.data_length
    ):
        return False
    plan.shards[search.at] = search.shard
    frames = plan.frames.get(row.container_id)
    if frames is None:
        frames = plan.frames[row.container_id] = (row, [])
    frames[1].append(_Frame(start, stop, search.at, flags, meta_length, search.name, search.digest))
    return True


def _entry(frame: _Frame) -> IndexEntry:
    data_start = frame.start + FRAME_HEADER_SIZE
    meta_start = frame.stop - frame.meta_length
    return IndexEntry(
        name=frame.name.decode(),
        data_offset=0 if frame.flags & FLAG_EXTERNAL else data_start,
        data_length=meta_start - len(frame.name) - data_start,
        meta_offset=meta_start,
        meta_length=frame.meta_length,
        flags=frame.flags,
    )


def _joined(
    items: Sequence[T], start: Callable[[T], int], stop: Callable[[T], int], *, gap: int, size_max: int
) -> Iterator[list[T]]:
    """Yield runs of sorted items that one read brings: at most `gap` bytes apart, `size_max` together."""
    group: list[T] = []
    first = last = 0
    for item in items:
        low, high = start(item), stop(item)
        if group and (low - last > gap or high - first > size_max):
            yield group
            group = []
        if not group:
            first, last = low, high
        group.append(item)
        last = max(last, high)
    if group:
        yield group


async def _ahead(jobs: Iterable[Coroutine[object, object, T]], count: int) -> AsyncGenerator[T, None]:
    """Yield the results of jobs in order, so many of them begun before they are asked for."""
    waiting: deque[asyncio.Task[T]] = deque()
    coming = iter(jobs)
    try:
        while True:
            while len(waiting) < count and (job := next(coming, None)) is not None:
                waiting.append(asyncio.ensure_future(job))
            if not waiting:
                return
            yield await waiting.popleft()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


_NO_FACTS: Final = FileFacts()
_NO_METADATA: Final[dict[str, str]] = {}
