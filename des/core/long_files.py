"""Reads long and external files of one container in proven pieces."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from des.core.container_object import ContainerObject
from des.core.file_view import ExternalFileMissingError
from des.core.paged_index import Read
from des.format.byte_range import ByteRange
from des.format.errors import CorruptContainerError
from des.format.extent import Extent, learn_blocks, pieces, read_piece
from des.format.plan import run_async
from des.storage.object_store import NoSuchObjectError

SOURCES_KEPT: Final = 256
"""Long and external files of which is remembered where they lie and how to prove them."""
BLOCKS_KEPT: Final = 1 << 16
"""Block checksums in them all together (40 bytes each), beyond those of the last file."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a file's bytes lie, how to prove them, and how to read that object."""

    extent: Extent
    read: Read


class LongFiles:
    """What is known of a container's long and external files; the last used are remembered."""

    def __init__(self, container: ContainerObject) -> None:
        self._container = container
        self._sources: OrderedDict[str, Source] = OrderedDict()
        self._blocks_kept = 0

    def __contains__(self, name: object) -> bool:
        return name in self._sources

    def known(self, name: str) -> Source | None:
        """Return what is remembered of a file."""
        source = self._sources.get(name)
        if source is not None:
            self._sources.move_to_end(name)
        return source

    async def learn(self, extent: Extent, external_key: str | None) -> Source:
        """Make ready to read a file, and remember how; costs one pass over it where it has no blocks."""
        read: Read = self._container.read
        if external_key is not None:
            read = await self._external_read(external_key, extent)
        if extent.needs_blocks:
            extent = await run_async(learn_blocks(extent), read)
        source = Source(extent, read)
        self._remember(source)
        return source

    async def stream(self, source: Source, start: int, stop: int) -> AsyncIterator[bytes]:
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

    def _remember(self, source: Source) -> None:
        name = source.extent.name
        known = self._sources.pop(name, None)
        if known is not None:
            self._blocks_kept -= len(known.extent.block_crc32c)
        self._sources[name] = source
        self._blocks_kept += len(source.extent.block_crc32c)
        while len(self._sources) > SOURCES_KEPT or (
            self._blocks_kept > BLOCKS_KEPT and len(self._sources) > 1
        ):
            _, forgotten = self._sources.popitem(last=False)
            self._blocks_kept -= len(forgotten.extent.block_crc32c)

    async def _external_read(self, key: str, extent: Extent) -> Read:
        """Return how to read an external file. Only its checksums, or else its etag, tie it to the entry."""
        store, cost = self._container.store, self._container.cost
        etag = None
        if extent.crc32c is None and extent.block_size is None:
            cost.requests += 1
            try:
                info = await store.head(key)
            except NoSuchObjectError as error:
                raise _external_missing(key, extent.name) from error
            if info.size != extent.size:
                raise CorruptContainerError(
                    f"external file {extent.name!r} at {key!r} has {info.size} bytes, expected {extent.size}"
                )
            etag = info.etag

        async def read(wanted: ByteRange) -> bytes:
            cost.requests += 1
            cost.bytes += wanted.size
            try:
                return await store.get_range(key, wanted.start, wanted.stop, etag=etag)
            except NoSuchObjectError as error:
                raise _external_missing(key, extent.name) from error

        return read


def _external_missing(key: str, name: str) -> ExternalFileMissingError:
    return ExternalFileMissingError(f"object {key!r} of external file {name!r} is not there", name=name)
