"""Walks a container in an object store front to back, in few and large reads."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeAlias

from des.core.container_index import ContainerIndex
from des.core.container_object import ContainerObject
from des.core.file_view import StoredFile
from des.core.joined_reads import Joining, fetch_joined
from des.core.paged_index import Read
from des.format.byte_range import ByteRange
from des.format.dictionaries import Dictionaries
from des.format.ext import read_section
from des.format.extent import PIECE_SIZE_MAX
from des.format.frame import check_data
from des.format.index import IndexEntry
from des.format.index_directory import GROUP_SIZE, decode_directory
from des.format.layout import Layout
from des.format.locate import check_group, read_group_metadata
from des.format.metadata import Metadata, decode_metadata
from des.format.plan import Reads, file_ranges, metadata_ranges, read_file, read_metadata, run_async
from des.format.section_table import SectionKind

CHUNK_GROUPS: Final = 64
"""Groups of INDEX read at once: 4,096 files, about 280 KB."""
BATCH_BYTES: Final = 1 << 23
"""Bytes of files held at once, beside as many being fetched."""

ReadAlone: TypeAlias = Callable[[IndexEntry], Coroutine[Any, Any, tuple[bytes, Metadata]]]


@dataclass(frozen=True, slots=True)
class _Described:
    """An entry of INDEX, and what was read with it."""

    entry: IndexEntry
    metadata: Metadata | None
    """Of a v1 container with EXT, proven; None where it is read with the file."""

    @property
    def is_alone(self) -> bool:
        """Whether the file cannot be read and proven together with its neighbours."""
        unproven = self.metadata is not None and self.metadata.system.crc32c is None
        return self.entry.is_external or self.entry.data_length > PIECE_SIZE_MAX or unproven

    def description_ranges(self, layout: Layout) -> list[ByteRange]:
        """Return what reading the metadata will ask for."""
        return [] if self.metadata is not None else metadata_ranges(self.entry, layout)

    def ranges(self, layout: Layout) -> list[ByteRange]:
        """Return what `read` will ask for; nothing of a file that is read alone."""
        entry = self.entry
        if self.is_alone:
            return []
        if self.metadata is None:
            return file_ranges(entry, layout)
        if not entry.data_length:
            return []
        return [ByteRange(entry.data_offset, entry.data_offset + entry.data_length)]

    def read(self, layout: Layout, dictionaries: Dictionaries) -> Reads[tuple[bytes, Metadata]]:
        """Plan the reads of the file."""
        if self.metadata is None:
            return (yield from read_file(self.entry, layout, dictionaries))
        self.entry.check_readable(layout)
        data = b""
        for wanted in self.ranges(layout):
            data = yield wanted
        check_data(data, self.metadata.system.crc32c or 0, self.entry.name)
        return data, self.metadata


async def describe_all(container: ContainerObject) -> AsyncIterator[StoredFile]:
    """Yield every file's entry and metadata in the order of INDEX."""
    async for batch in _batches(container, _Described.description_ranges):
        layout = container.layout
        read = await _fetch(container, [one for file in batch for one in file.description_ranges(layout)])
        for file in batch:
            metadata = file.metadata
            if metadata is None:
                metadata = await run_async(read_metadata(file.entry, layout), read)
            yield StoredFile(file.entry, metadata)


async def read_all(
    container: ContainerObject, read_alone: ReadAlone
) -> AsyncIterator[tuple[StoredFile, bytes]]:
    """Yield every file with its bytes in the order of INDEX, one batch being fetched while one is used.

    `read_alone` reads a file that is long, external, or proven by its page only.
    """
    before: tuple[list[_Described], asyncio.Task[Read]] | None = None
    try:
        async for batch in _batches(container, _Described.ranges):
            wanted = [one for file in batch for one in file.ranges(container.layout)]
            now = batch, asyncio.create_task(_fetch(container, wanted))
            done, before = before, now
            if done is not None:
                async for found in _hand_out(container, *done, read_alone):
                    yield found
        if before is not None:
            async for found in _hand_out(container, *before, read_alone):
                yield found
    finally:
        if before is not None:
            before[1].cancel()
            await asyncio.gather(before[1], return_exceptions=True)


async def _hand_out(
    container: ContainerObject,
    batch: list[_Described],
    fetching: "asyncio.Task[Read]",
    read_alone: ReadAlone,
) -> AsyncIterator[tuple[StoredFile, bytes]]:
    read = await fetching
    dictionaries = container.memory.dictionaries_of(container.data_start)
    for file in batch:
        if file.is_alone:
            data, metadata = await read_alone(file.entry)
        else:
            data, metadata = await run_async(file.read(container.layout, dictionaries), read)
        yield StoredFile(file.entry, metadata), data


async def _batches(
    container: ContainerObject, ranges_of: Callable[[_Described, Layout], list[ByteRange]]
) -> AsyncIterator[list[_Described]]:
    """Yield files in runs of which about `BATCH_BYTES` are to be read."""
    async for chunk in _chunks(container):
        batch: list[_Described] = []
        size = 0
        for file in chunk:
            batch.append(file)
            size += sum(one.size for one in ranges_of(file, container.layout))
            if size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch


async def _chunks(container: ContainerObject) -> AsyncIterator[list[_Described]]:
    """Yield all entries, some thousands at once, proven where there is EXT."""
    section = await container.section(SectionKind.INDEXDIR)
    if section is None:
        for entries in _cut(await container.index()):
            yield [_Described(entry, None) for entry in entries]
        return
    footer = container.known_footer()
    data = await run_async(read_section(section), container.read)
    groups = decode_directory(data, footer.index_length, footer.file_count)
    for first in range(0, len(groups), CHUNK_GROUPS):
        some = groups[first : first + CHUNK_GROUPS]
        span = ByteRange(footer.index_start + some[0].start, footer.index_start + some[-1].stop)
        index = await container.read(span)
        found: list[list[IndexEntry]] = []
        for number, group in enumerate(some, first):
            part = group.range(footer.index_start)
            data = index[part.start - span.start : part.stop - span.start]
            found.append(check_group(group, data, footer, number))
        if footer.layout is Layout.FRAMED:
            yield [_Described(entry, None) for entries in found for entry in entries]
            continue
        read = await _fetch(
            container,
            [one for entries in found for entry in entries for one in metadata_ranges(entry, footer.layout)],
        )
        chunk: list[_Described] = []
        for group, entries in zip(some, found, strict=True):
            documents = await run_async(read_group_metadata(group, entries), read)
            chunk += [
                _Described(entry, decode_metadata(document, entry))
                for entry, document in zip(entries, documents, strict=True)
            ]
        yield chunk


async def _fetch(container: ContainerObject, ranges: list[ByteRange]) -> Read:
    return await fetch_joined(ranges, container.read, Joining())


def _cut(index: ContainerIndex) -> Iterator[list[IndexEntry]]:
    entries = iter(index)
    while chunk := list(islice(entries, CHUNK_GROUPS * GROUP_SIZE)):
        yield chunk
