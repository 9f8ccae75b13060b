"""A file found and ready to be read, wherever its bytes lie."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from des.errors import CorruptError
from des.files import FileInfo
from des.format.byte_range import ByteRange
from des.format.extent import Extent, pieces, read_piece
from des.format.plan import run_async
from des.ingest.errors import LogRecordGoneError
from des.ingest.log_reader import LogReader
from des.ingest.values import OpenFile
from des.storage.object_store import NoSuchObjectError, ObjectStore


@dataclass(slots=True)
class ReadCost:
    """What a read has cost at the object store so far."""

    requests: int = 0
    bytes: int = 0


class OpenedFile(Protocol):
    """One file's bytes, every one checked against its checksum on this read."""

    info: FileInfo
    cost: ReadCost

    async def read_whole(self) -> bytes:
        """Return all bytes; for files of a few MiB at most.

        Raises:
            CorruptError: the stored bytes are not the file's.
            UnavailableError: they could not be read now.
        """
        ...

    def read(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield the bytes `[start, stop)` in order, in pieces of at most 4 MiB. Same errors."""
        ...


class ObjectMissingError(CorruptError):
    """The catalog names an object that the store says it does not have."""


class CountedRead:
    """Ranged reads of one object, pinned to its etag, with their cost."""

    def __init__(self, store: ObjectStore, key: str, etag: str | None, cost: ReadCost) -> None:
        self._store = store
        self._key = key
        self._etag = etag
        self._cost = cost

    async def __call__(self, wanted: ByteRange) -> bytes:
        """Return exactly the bytes of `wanted`."""
        self._cost.requests += 1
        self._cost.bytes += wanted.stop - wanted.start
        try:
            return await self._store.get_range(self._key, wanted.start, wanted.stop, etag=self._etag)
        except NoSuchObjectError as error:
            # A live row names it, so this is never the answer "no such file".
            raise ObjectMissingError(
                f"the store says that object {self._key!r} does not exist", name=self._key
            ) from error


class ExtentFile:
    """A file that is a run of bytes of one object: a big file, or a large one inside a container."""

    def __init__(self, info: FileInfo, extent: Extent, read: CountedRead, cost: ReadCost) -> None:
        self.info = info
        self.cost = cost
        self._extent = extent
        self._read = read

    async def read_whole(self) -> bytes:
        """Return all bytes."""
        return b"".join([piece async for piece in self.read(0, self.info.size)])

    async def read(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield verified pieces; a checksum block is read once for all pieces in it."""
        for piece in pieces(self._extent, start, stop):
            yield await run_async(read_piece(self._extent, piece), self._read)


class SmallFile:
    """A file whose bytes were read, and verified, together with its metadata."""

    def __init__(self, info: FileInfo, data: bytes, cost: ReadCost) -> None:
        self.info = info
        self.cost = cost
        self._data = data

    async def read_whole(self) -> bytes:
        """Return all bytes."""
        return self._data

    async def read(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield the range in one piece; nothing for an empty range."""
        if start < stop:
            yield self._data[start:stop]


class LogFile:
    """A file in the ingest log. When the log gives it up meanwhile, it goes on from the container."""

    def __init__(
        self, info: FileInfo, file: OpenFile, log: LogReader, elsewhere: Callable[[], Awaitable[OpenedFile]]
    ) -> None:
        self.info = info
        self.cost = ReadCost()
        self._file = file
        self._log = log
        self._elsewhere = elsewhere

    async def read_whole(self) -> bytes:
        """Return all bytes; from memory where the log's pages are cached."""
        extents = self._file.extents
        if len(extents) == 1:
            data = self._log.read_cached(extents[0])
            if data is not None:
                return data
        return b"".join([piece async for piece in self.read(0, self.info.size)])

    async def read(self, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield one piece per record of the log."""
        position = 0
        for extent in self._file.extents:
            low, high = max(start, position), min(stop, position + extent.length)
            if low < high:
                try:
                    data = await self._log.read(extent)
                except LogRecordGoneError:
                    moved = await self._elsewhere()
                    async for piece in moved.read(low, stop):
                        yield piece
                    self.cost.requests += moved.cost.requests
                    self.cost.bytes += moved.cost.bytes
                    return
                yield data if high - low == extent.length else data[low - position : high - position]
            position += extent.length
