"""Where the bytes of an asyncio upload come from."""

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any, Protocol, TypeAlias, TypeVar

from des_client.errors import UploadInterrupted
from des_client.source import Data, Kept, Rechunker, Source, as_bytes, open_source

T = TypeVar("T")

AsyncData: TypeAlias = Data | AsyncIterable[bytes]
"""What the asyncio `put` takes: whatever the blocking one takes, or bytes that come asynchronously."""


class AsyncSource(Protocol):
    """A file's content, cut into pieces of a wanted length, without blocking the loop."""

    size: int | None
    """Length; None while unknown."""
    rereadable: bool
    """Whether any part can be read again."""

    async def whole(self, size_max: int) -> bytes | None:
        """Return all of the content if it is no longer than `size_max`, else None."""
        ...

    def chunks(self, size: int, start: int = 0) -> AsyncIterator[bytes]:
        """Read from byte `start` on: pieces of `size` bytes, the last one shorter.

        Raises:
            UploadInterrupted: the source was read before and cannot be read again.
        """
        ...

    def close(self) -> None:
        """Give back what was opened for this upload."""
        ...


class MemoryPieces:
    """A source in memory: nothing to wait for."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.size = source.size
        self.rereadable = source.rereadable

    async def whole(self, size_max: int) -> bytes | None:
        """Return a small content."""
        return self._source.whole(size_max)

    async def chunks(self, size: int, start: int = 0) -> AsyncIterator[bytes]:
        """Copy piece by piece."""
        for chunk in self._source.chunks(size, start):
            yield chunk

    def close(self) -> None:
        """Release a borrowed buffer."""
        self._source.close()


class ThreadPieces:
    """A source that may block, read in a worker thread, by one thread at a time.

    A cancelled wait does not stop the thread; the source is touched again only after it came back.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._busy: asyncio.Future[Any] | None = None
        self.size = source.size
        self.rereadable = source.rereadable

    async def whole(self, size_max: int) -> bytes | None:
        """Read a small content."""
        return await self._run(lambda: self._source.whole(size_max))

    async def chunks(self, size: int, start: int = 0) -> AsyncIterator[bytes]:
        """Read from byte `start` on."""
        pieces = await self._run(lambda: self._source.chunks(size, start))
        while (piece := await self._run(lambda: next(pieces, None))) is not None:
            yield piece

    def close(self) -> None:
        """Close the source, once no thread reads it any more."""
        if self._busy is None or self._busy.done():
            self._source.close()
        else:
            self._busy.add_done_callback(lambda _: self._source.close())

    async def _run(self, read: Callable[[], T]) -> T:
        if self._busy is not None and not self._busy.done():
            await asyncio.wait([self._busy])
        reading = asyncio.get_running_loop().run_in_executor(None, read)
        # Marks an error as seen that nobody waits for after a cancellation.
        reading.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._busy = reading
        return await asyncio.shield(reading)


class AsyncPieces:
    """Pieces that come once, from an asynchronous iterable."""

    def __init__(self, pieces: AsyncIterator[bytes], size: int | None) -> None:
        self._pieces = pieces
        self._kept = Kept()
        self._pulling = False
        self.size = size
        self.rereadable = False

    async def whole(self, size_max: int) -> bytes | None:
        """Read ahead until the end or past `size_max`; what was read is kept for `chunks`."""
        kept = self._kept
        while kept.size <= size_max:
            if await self._pull() is None:
                return b"".join(kept.pieces)
        return None

    def chunks(self, size: int, start: int = 0) -> AsyncIterator[bytes]:
        """Give the kept pieces first, then those that were never read."""
        assert start == 0
        if self._pulling:
            # A generator that was cancelled inside a read has ended: what follows would be missing.
            raise UploadInterrupted(
                f"upload was interrupted while it waited for its source, after {self._kept.size} bytes"
            )
        self._kept.start()
        return self._all(size)

    async def _all(self, size: int) -> AsyncIterator[bytes]:
        rechunker = Rechunker(size)
        for content in self._kept.take():
            for chunk in rechunker.feed(content):
                yield chunk
        while (piece := await self._pull()) is not None:
            for chunk in rechunker.feed(piece):
                yield chunk
        if rest := rechunker.rest():
            yield rest

    async def _pull(self) -> bytes | None:
        self._pulling = True
        piece = await anext(self._pieces, None)
        self._pulling = False
        if piece is None:
            return None
        content = as_bytes(piece)
        self._kept.add(content)
        return content

    def close(self) -> None:
        """Nothing was opened."""


async def open_async_source(data: AsyncData, size: int | None) -> AsyncSource:
    """Wrap whatever the asyncio `put` was given; raises what `open_source` does."""
    if isinstance(data, AsyncIterable):
        return AsyncPieces(aiter(data), size)
    if isinstance(data, os.PathLike):
        return ThreadPieces(await asyncio.to_thread(open_source, data, size))
    return from_source(open_source(data, size))


def from_source(source: Source) -> AsyncSource:
    """Wrap a source of blocking code."""
    return ThreadPieces(source) if source.blocking else MemoryPieces(source)
