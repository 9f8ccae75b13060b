"""The open files of a batch: read from the ingest log, neighbours in one call."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import google_crc32c

from des.core.coalesce import joined
from des.errors import DesError
from des.files import FileInfo, window_of
from des.ingest.errors import LogCorruptError, LogRecordGoneError
from des.ingest.facts import FileFacts
from des.ingest.log_reader import LogReader
from des.ingest.values import OpenFile
from des.retrieval.batch_parts import Part, Wanted, cut, failed
from des.retrieval.batch_places import LogPlace

LOG_GAP: Final = 1 << 14
"""Bytes of the log read for nothing rather than by a second call."""
LOG_SPAN_MAX: Final = 1 << 20
"""Bytes of one call."""


class BatchLog:
    """Reads files of batches from the log."""

    def __init__(self, log: LogReader, describe_open: Callable[[OpenFile, FileFacts], FileInfo]) -> None:
        self._log = log
        self._describe_open = describe_open

    def describe(self, file: OpenFile) -> FileInfo:
        """Return what is known of a file of the log; costs nothing."""
        return self._describe_open(file, FileFacts.decode(file.facts) if file.facts else _NO_FACTS)

    def empty(self, at: int, wanted: Wanted, file: OpenFile) -> Part:
        """Return the one part of a file without bytes."""
        try:
            window_of(wanted.offset, wanted.limit, 0)
        except DesError as error:
            return failed(at, error)
        return Part(at, self.describe(file), 0, b"", 0, last=True)

    def groups(self, files: list[LogPlace]) -> Iterator[list[LogPlace]]:
        """Yield the files of one segment in runs that one call reads."""
        files.sort()
        return joined(files, gap=LOG_GAP, size_max=LOG_SPAN_MAX)

    async def read(
        self, segment: int, group: list[LogPlace], wanted: Sequence[Wanted], part_bytes: int
    ) -> list[Part] | None:
        """Return the parts of a run of files; None where the log has given them up: they are stored."""
        start = group[0][0]
        stop = max(place[1] for place in group)
        try:
            span = await self._log.read_span(segment, start, stop)
        except LogRecordGoneError:
            return None
        except DesError as error:
            return [failed(at, error) for _, _, at, _ in group]
        parts: list[Part] = []
        for offset, end, at, file in group:
            data = span[offset - start : end - start]
            try:
                if google_crc32c.value(data) != file.crc32c or len(data) != file.size:
                    raise LogCorruptError(
                        f"{len(data)} bytes at {offset} of segment {segment} do not match their checksum "
                        f"{file.crc32c:#010x} over {file.size} bytes",
                        name=file.name,
                    )
                cut(parts, at, wanted[at], self.describe(file), data, file.crc32c, part_bytes)
            except DesError as error:
                parts.append(failed(at, error))
        return parts


_NO_FACTS: Final = FileFacts()
