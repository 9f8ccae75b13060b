"""Many files in one call: located together, read in storage order by few ranged reads (DESIGN §5, §6).

Open files come segment by segment, stored ones container by container, each by offset. What does not fit
that way (long, external, of the layout v1, or not settled by one page) is opened one by one. Nothing here
makes a task or waits for a single file, save for those.
"""

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import aclosing
from typing import Final, NamedTuple, TypeVar

import google_crc32c

from des.cluster import Shards
from des.config import Settings
from des.db.catalog import ContainerRow
from des.errors import CorruptError, DesError
from des.files import FileInfo, FileState, Placement, window_of
from des.format.byte_range import ByteRange
from des.format.dictionaries import Dictionaries
from des.format.frame import FRAME_HEADER_SIZE, open_plain_frame
from des.format.layout import Layout
from des.format.metadata import Metadata, decode_metadata
from des.format.plan import WHOLE_FRAME_MAX, read_file, run_async
from des.ingest.errors import LogCorruptError, LogRecordGoneError
from des.ingest.facts import FileFacts
from des.ingest.log import IngestLog
from des.ingest.open_index import OpenIndex
from des.ingest.values import OpenFile
from des.naming import created_ms_of
from des.retrieval.batch_places import BatchPlaces, Frame, Places, entry_of
from des.retrieval.opened_file import CountedRead, OpenedFile, ReadCost
from des.retrieval.spans import ahead, joined
from des.retrieval.stored_containers import StoredContainers
from des.retrieval.tombstones import Tombstones
from des.storage.object_store import ObjectStore

T = TypeVar("T")

LOG_GAP: Final = 1 << 14
"""Bytes of the log read for nothing rather than by a second call."""
LOG_SPAN_MAX: Final = 1 << 20
STORE_GAP: Final = 1 << 16
"""Bytes of a container read for nothing rather than by a second request."""
STORE_SPAN_MAX: Final = 2 << 20
"""Bytes of one request."""
SPANS_AHEAD: Final = 8
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
        shards: Shards | None = None,
    ) -> None:
        self._wrap_bits = settings.wrap_bits
        self._log = log
        self._containers = containers
        self._store = store
        self._describe_open = describe_open
        self._open_file = open_file
        self._stat_file = stat_file
        self._places = BatchPlaces(
            settings=settings,
            open_index=open_index,
            containers=containers,
            tombstones=tombstones,
            absent=absent,
            shards=shards,
        )

    async def read(
        self, wanted: Sequence[Wanted], *, part_bytes: int, cost: ReadCost
    ) -> AsyncGenerator[list[Part], None]:
        """Yield every wanted file, many parts at a time, in the order in which they are stored.

        All parts of a file come one after the other, none longer than `part_bytes`, each verified. What
        cannot be read is a part with its error; the others go on. Memory: `SPANS_AHEAD` requests.
        """
        plan = await self._places.locate([each.name for each in wanted], cost)
        if plan.failed:
            yield [_failed(at, error) for at, error in plan.failed.items()]
        if plan.empty:
            yield [self._empty(wanted, at, file) for at, file in plan.empty]
        for segment in sorted(plan.log):
            async for parts in self._from_log(wanted, segment, plan, part_bytes):
                yield parts
        # Closed here and now when the caller stops: requests under way are not left behind.
        async with aclosing(self._from_containers(wanted, plan, part_bytes, cost)) as groups:
            async for parts in groups:
                yield parts
        async with aclosing(self._one_by_one(wanted, plan.lone, part_bytes, cost)) as groups:
            async for parts in groups:
                yield parts

    async def stat(self, names: Sequence[str], *, cost: ReadCost) -> list[FileInfo | DesError]:
        """Return what is known of each file, in the order asked, or why nothing is.

        The metadata of stored files are read, neighbours in one request; open files cost nothing.
        """
        plan = await self._places.locate(names, cost)
        found: dict[int, FileInfo | DesError] = dict(plan.failed)
        for files in plan.log.values():
            found.update(
                (at, self._describe_open(file, FileFacts.decode(file.facts))) for _, at, file in files
            )
        for at, file in plan.empty:
            found[at] = self._describe_open(file, FileFacts.decode(file.facts))
        short = [
            (row, [frame for frame in frames if frame.stop - frame.start <= WHOLE_FRAME_MAX])
            for row, frames in plan.frames.values()
        ]
        plan.lone += [
            frame.at
            for _, frames in plan.frames.values()
            for frame in frames
            if frame.stop - frame.start > WHOLE_FRAME_MAX
        ]
        async with aclosing(self._spans(short, cost)) as spans:
            async for row, group, span in spans:
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

        found |= {at: info async for at, info in ahead((stat(at) for at in plan.lone), STATED_AHEAD)}
        return [found[at] for at in range(len(names))]

    def _stat_frame(
        self, frame: Frame, span: bytes, group: list[Frame], row: ContainerRow, plan: Places
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
            metadata = decode_metadata(encoded, entry_of(frame), raw_length=size)
        except CorruptError:
            return None
        return self._describe(frame, row, plan.shards[frame.at], size, crc32c, metadata)

    # --- the ingest log ---------------------------------------------------------------------

    def _empty(self, wanted: Sequence[Wanted], at: int, file: OpenFile) -> Part:
        try:
            window_of(wanted[at].offset, wanted[at].limit, 0)
        except DesError as error:
            return _failed(at, error)
        info = self._describe_open(file, FileFacts.decode(file.facts))
        return Part(at, info, 0, b"", 0, last=True)

    async def _from_log(
        self, wanted: Sequence[Wanted], segment: int, plan: Places, part_bytes: int
    ) -> AsyncGenerator[list[Part], None]:
        files = plan.log[segment]
        files.sort(key=lambda one: one[0])
        for group in joined(
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
                yield [_failed(at, error) for _, at, _ in group]
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
                    parts.append(_failed(at, error))
            yield parts

    # --- containers -------------------------------------------------------------------------

    async def _from_containers(
        self, wanted: Sequence[Wanted], plan: Places, part_bytes: int, cost: ReadCost
    ) -> AsyncGenerator[list[Part], None]:
        async with aclosing(self._spans(plan.frames.values(), cost)) as spans:
            async for row, group, span in spans:
                if isinstance(span, DesError):
                    yield [_failed(frame.at, span) for frame in group]
                    continue
                read = CountedRead(self._store, row.key, row.etag, cost)
                async for parts in self._cut_up(wanted, group, span, row, plan, part_bytes, read):
                    yield parts

    async def _cut_up(
        self,
        wanted: Sequence[Wanted],
        group: list[Frame],
        span: bytes,
        row: ContainerRow,
        plan: Places,
        part_bytes: int,
        read: CountedRead,
    ) -> AsyncGenerator[list[Part], None]:
        """Yield the files of a run of frames whose bytes are there."""
        dictionaries = self._containers.memory(row).dictionaries_of(row.geometry.data_start)
        parts: list[Part] = []
        base = group[0].start
        size = 0
        for frame in group:
            try:
                data, crc32c, metadata = await self._open_frame(frame, span, base, row, dictionaries, read)
                shard = plan.shards[frame.at]
                info = self._describe(frame, row, shard, len(data), crc32c, metadata)
                _cut(parts, frame.at, wanted[frame.at], info, data, crc32c, part_bytes)
            except DesError as error:
                parts.append(_failed(frame.at, error))
                continue
            size += len(data)
            if size >= LOG_SPAN_MAX:
                yield parts
                parts, size = [], 0
        if parts:
            yield parts

    def _spans(
        self, frames_by_row: Iterable[tuple[ContainerRow, list[Frame]]], cost: ReadCost
    ) -> AsyncGenerator[tuple[ContainerRow, list[Frame], bytes | DesError], None]:
        """Yield runs of frames, container by container, each with the bytes from its start to its end."""

        async def fetch(
            row: ContainerRow, group: list[Frame]
        ) -> tuple[ContainerRow, list[Frame], bytes | DesError]:
            span = ByteRange(group[0].start, max(frame.stop for frame in group))
            try:
                return row, group, await CountedRead(self._store, row.key, row.etag, cost)(span)
            except DesError as error:
                return row, group, error

        def jobs() -> Iterator[Coroutine[object, object, tuple[ContainerRow, list[Frame], bytes | DesError]]]:
            for row, frames in sorted(frames_by_row, key=lambda one: one[0].container_id):
                frames.sort(key=lambda frame: frame.start)
                for group in joined(
                    frames,
                    lambda one: one.start,
                    lambda one: one.stop,
                    gap=STORE_GAP,
                    size_max=STORE_SPAN_MAX,
                ):
                    yield fetch(row, group)

        return ahead(jobs(), SPANS_AHEAD)

    async def _open_frame(
        self,
        frame: Frame,
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
        return data, crc32c, decode_metadata(encoded, entry_of(frame), raw_length=raw_length)

    @staticmethod
    async def _explain(
        frame: Frame,
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

        entry = entry_of(frame)
        data, metadata = await run_async(read_file(entry, Layout(row.layout), dictionaries), cut)
        if metadata.system.crc32c is None:
            raise CorruptError(
                f"container {row.container_id} has no checksum for {entry.name!r}",
                name=entry.name,
                container_id=row.container_id,
            )
        return data, metadata.system.crc32c, metadata

    def _describe(
        self, frame: Frame, row: ContainerRow, shard: int, size: int, crc32c: int, metadata: Metadata | None
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

        async with aclosing(ahead((begin(at) for at in places), OPENED_AHEAD)) as files:
            async for at, opened in files:
                if isinstance(opened, DesError):
                    yield [_failed(at, opened)]
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


def _failed(at: int, error: DesError) -> Part:
    return Part(at, None, 0, b"", 0, last=True, error=error)


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


_NO_FACTS: Final = FileFacts()
_NO_METADATA: Final[dict[str, str]] = {}
