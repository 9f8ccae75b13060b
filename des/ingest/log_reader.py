"""Reading from the ingest log what it acknowledged, while it is written and while segments leave it."""

import asyncio
from concurrent.futures import Executor
from typing import Final

import google_crc32c

from des.ingest.errors import LogCorruptError, LogReadError
from des.ingest.live import LiveSegment, LiveSegments
from des.ingest.values import Extent

SPAN_ON_LOOP_MAX: Final = 1 << 20
"""Bytes of the log that the event loop copies itself: a quarter of a millisecond."""


class LogReader:
    """Reads records by their places. All methods are called on the event loop of the log.

    A segment that is reclaimed during a read stays open until the read is done.
    """

    def __init__(self, segments: LiveSegments, executor: Executor | None) -> None:
        """`executor` reads what memory does not hold; None reads it in place."""
        self._segments = segments
        self._executor = executor
        self._loop = asyncio.get_running_loop()

    @property
    def reads_aside(self) -> bool:
        """Whether long reads run in threads, beside other work."""
        return self._executor is not None

    def read_cached(self, extent: Extent) -> bytes | None:
        """Return the bytes if memory holds them, else None; for the event loop, never waits.

        Raises:
            LogCorruptError: they do not match their checksum.
            LogRecordGoneError: the segment was reclaimed.
        """
        segment = self._segments.find(extent.segment)
        try:
            data = segment.file.pread_cached(extent.length, extent.offset)
        except OSError:
            return None
        return None if data is None else _verified(data, extent)

    async def read(self, extent: Extent) -> bytes:
        """Return the bytes, from memory if that holds them, else read in a thread.

        Raises:
            LogCorruptError: they do not match their checksum.
            LogRecordGoneError: the segment was reclaimed.
            LogReadError: the device did not give them.
        """
        cached = self.read_cached(extent)
        if cached is not None:
            return cached
        segment = self._segments.find(extent.segment)
        try:
            data = await self._aside(segment, extent.length, extent.offset)
        except OSError as error:
            raise _unread(extent.segment, extent.offset, error) from error
        return _verified(data, extent)

    async def read_span(self, segment_no: int, start: int, stop: int) -> bytes:
        """Return bytes of a segment as they are, records and all: whoever cuts a file out checks it.

        Fewer only where the segment ends. What is longer than `SPAN_ON_LOOP_MAX` is read in a thread even
        when memory holds it: copying it would hold up every other call.

        Raises:
            LogRecordGoneError: the segment was reclaimed.
            LogReadError: the device did not give them.
        """
        segment = self._segments.find(segment_no)
        data: bytes | None
        try:
            is_long = stop - start > SPAN_ON_LOOP_MAX
            data = None if is_long else segment.file.pread_cached(stop - start, start)
            if data is None:
                data = await self._aside(segment, stop - start, start)
        except OSError as error:
            raise _unread(segment_no, start, error) from error
        return data

    async def _aside(self, segment: LiveSegment, size: int, offset: int) -> bytes:
        """Read in a thread; the reader is counted out when that is done, not when its caller gives up."""
        segment.readers += 1
        if self._executor is None:
            try:
                return segment.file.pread(size, offset)
            finally:
                segment.reader_left()
        reading = self._loop.run_in_executor(self._executor, segment.file.pread, size, offset)
        reading.add_done_callback(lambda _: segment.reader_left())
        return await asyncio.shield(reading)


def _unread(segment_no: int, offset: int, error: OSError) -> LogReadError:
    return LogReadError(f"segment {segment_no} could not be read at {offset}: {error}")


def _verified(data: bytes, extent: Extent) -> bytes:
    if len(data) != extent.length or google_crc32c.value(data) != extent.crc32c:
        raise LogCorruptError(
            f"{len(data)} bytes at {extent.offset} of segment {extent.segment} do not match their checksum "
            f"{extent.crc32c:#010x} over {extent.length} bytes"
        )
    return data
