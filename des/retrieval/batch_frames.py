"""The stored files of a batch: runs of frames of framed containers, read together and proven one by one."""

from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator, Sequence
from contextlib import aclosing
from typing import Final, TypeAlias

import google_crc32c

from des.core.coalesce import joined
from des.db.catalog import ContainerRow
from des.errors import CorruptError, DesError
from des.files import FileInfo, FileState, Placement
from des.format.byte_range import ByteRange
from des.format.dictionaries import Dictionaries
from des.format.frame import FRAME_HEADER_SIZE, open_plain_frame
from des.format.layout import Layout
from des.format.metadata import Metadata, decode_metadata
from des.format.plan import WHOLE_FRAME_MAX, read_file, run_async
from des.retrieval.batch_parts import Part, Wanted, cut, failed
from des.retrieval.batch_places import Frame, entry_of
from des.retrieval.opened_file import CountedRead, ReadCost
from des.retrieval.spans import ahead
from des.retrieval.stored_containers import StoredContainers
from des.storage.object_store import ObjectStore

STORE_GAP: Final = 1 << 16
"""Bytes of a container read for nothing rather than by a second request."""
STORE_SPAN_MAX: Final = 2 << 20
"""Bytes of one request."""
SPANS_AHEAD: Final = 8
"""Requests under way or waiting to be cut up, for one call: with `STORE_SPAN_MAX`, its memory."""
PARTS_BYTES: Final = 1 << 20
"""Bytes of files handed on at once."""

Frames: TypeAlias = Iterable[tuple[ContainerRow, list[Frame]]]
_Span: TypeAlias = tuple[ContainerRow, list[Frame], bytes | DesError]


class BatchFrames:
    """Reads files of batches from framed containers."""

    def __init__(self, store: ObjectStore, containers: StoredContainers) -> None:
        self._store = store
        self._containers = containers

    async def read(
        self, frames: Frames, wanted: Sequence[Wanted], part_bytes: int, cost: ReadCost
    ) -> AsyncGenerator[list[Part], None]:
        """Yield the parts of files, container by container, each by offset; damaged ones as failed."""
        async with aclosing(self._spans(frames, cost)) as spans:
            async for row, group, span in spans:
                if isinstance(span, DesError):
                    yield [failed(frame.at, span) for frame in group]
                    continue
                read = CountedRead(self._store, row.key, row.etag, cost)
                async for parts in self._cut_up(wanted, group, span, row, part_bytes, read):
                    yield parts

    async def stat(
        self, frames: Frames, cost: ReadCost
    ) -> AsyncGenerator[tuple[int, FileInfo | DesError | None]]:
        """Yield what short frames say of their files, by place; None where it takes a closer look."""
        short: list[tuple[ContainerRow, list[Frame]]] = []
        for row, of_row in frames:
            short.append((row, [frame for frame in of_row if frame.stop - frame.start <= WHOLE_FRAME_MAX]))
            for frame in of_row:
                if frame.stop - frame.start > WHOLE_FRAME_MAX:
                    yield frame.at, None
        async with aclosing(self._spans(short, cost)) as spans:
            async for row, group, span in spans:
                for frame in group:
                    yield (
                        frame.at,
                        span if isinstance(span, DesError) else _stat_frame(frame, span, group[0].start, row),
                    )

    def _spans(self, frames: Frames, cost: ReadCost) -> AsyncGenerator[_Span, None]:
        """Yield runs of frames, container by container, each with the bytes from its start to its end."""

        async def fetch(row: ContainerRow, group: list[Frame]) -> _Span:
            span = ByteRange(group[0].start, max(frame.stop for frame in group))
            try:
                return row, group, await CountedRead(self._store, row.key, row.etag, cost)(span)
            except DesError as error:
                return row, group, error

        def jobs() -> Iterator[Coroutine[object, object, _Span]]:
            for row, of_row in sorted(frames, key=lambda one: one[0].container_id):
                of_row.sort()
                for group in joined(of_row, gap=STORE_GAP, size_max=STORE_SPAN_MAX):
                    yield fetch(row, group)

        return ahead(jobs(), SPANS_AHEAD)

    async def _cut_up(
        self,
        wanted: Sequence[Wanted],
        group: list[Frame],
        span: bytes,
        row: ContainerRow,
        part_bytes: int,
        read: CountedRead,
    ) -> AsyncGenerator[list[Part], None]:
        """Yield the files of a run of frames whose bytes are there."""
        dictionaries = self._containers.memory(row).dictionaries_of(row.geometry.data_start)
        parts: list[Part] = []
        base = group[0].start
        size = 0
        for frame in group:
            start, stop, at, flags, _, name, digest, _, _ = frame
            metadata: Metadata | None = None
            try:
                opened = open_plain_frame(
                    span, start - base, stop - base, name=name, digest=digest, flags=flags
                )
                data, codec, raw_length, crc32c, encoded = opened or _NOT_PLAIN
                # Most files are as written and say nothing of themselves but their size.
                if codec or google_crc32c.value(data) != crc32c or encoded != b'{"size":%d}' % raw_length:
                    data, crc32c, metadata = await _open_frame(frame, span, base, row, dictionaries, read)
                cut(
                    parts,
                    at,
                    wanted[at],
                    _describe(frame, row, wanted[at].name, len(data), crc32c, metadata),
                    data,
                    crc32c,
                    part_bytes,
                )
            except DesError as error:
                parts.append(failed(at, error))
                continue
            size += len(data)
            if size >= PARTS_BYTES:
                yield parts
                parts, size = [], 0
        if parts:
            yield parts


async def _open_frame(
    frame: Frame, span: bytes, base: int, row: ContainerRow, dictionaries: Dictionaries, read: CountedRead
) -> tuple[bytes, int, Metadata]:
    """Return a file's bytes, their checksum and its metadata.

    Raises:
        CorruptError: the frame is damaged.
    """
    opened = open_plain_frame(
        span, frame.start - base, frame.stop - base, name=frame.name, digest=frame.digest, flags=frame.flags
    )
    if opened is not None:
        data, codec, raw_length, crc32c, encoded = opened
        if codec:
            data = await run_async(dictionaries.decompress(data, codec=codec, raw_length=raw_length), read)
        if google_crc32c.value(data) == crc32c:
            return data, crc32c, decode_metadata(encoded, entry_of(frame), raw_length=raw_length)

    # The long way round says what is wrong with it.
    async def piece(part: ByteRange) -> bytes:
        if base <= part.start and part.stop <= base + len(span):
            return span[part.start - base : part.stop - base]
        return await read(part)

    entry = entry_of(frame)
    data, metadata = await run_async(read_file(entry, Layout(row.layout), dictionaries), piece)
    if metadata.system.crc32c is None:
        raise CorruptError(
            f"container {row.container_id} has no checksum for {entry.name!r}",
            name=entry.name,
            container_id=row.container_id,
        )
    return data, metadata.system.crc32c, metadata


def _stat_frame(frame: Frame, span: bytes, base: int, row: ContainerRow) -> FileInfo | None:
    """Return what a frame says of its file; None where it takes a closer look."""
    opened = open_plain_frame(
        span, frame.start - base, frame.stop - base, name=frame.name, digest=frame.digest, flags=frame.flags
    )
    if opened is None:
        return None
    _, _, size, crc32c, encoded = opened
    try:
        metadata = decode_metadata(encoded, entry_of(frame), raw_length=size)
    except CorruptError:
        return None
    return _describe(frame, row, frame.name.decode(), size, crc32c, metadata)


def _describe(
    frame: Frame, row: ContainerRow, name: str, size: int, crc32c: int, metadata: Metadata | None
) -> FileInfo:
    start, stop, _, _, meta_length, raw_name, _, shard, created_ms = frame
    data_start = start + FRAME_HEADER_SIZE
    placement: Placement = tuple.__new__(
        Placement, (row.container_id, data_start, stop - data_start - len(raw_name) - meta_length, None)
    )
    # As `FileInfo(…)`, without the call in between that a named tuple's constructor is.
    return tuple.__new__(
        FileInfo,
        (
            name,
            row.day,
            shard,
            size,
            crc32c,
            metadata.system.content_type if metadata is not None else "",
            metadata.user if metadata is not None else _NO_METADATA,
            FileState.STORED,
            created_ms,
            row.stored_ms,
            placement,
            None,
        ),
    )


_NOT_PLAIN: Final = (b"", 1, 0, 0, b"")
"""What sends a frame that is not plainly its file's the long way round: a codec."""
_NO_METADATA: Final[dict[str, str]] = {}
