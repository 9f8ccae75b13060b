"""Bytes of many files of the ingest log, neighbours read in one call."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from des.core.coalesce import joined
from des.ingest.log_reader import LogReader
from des.ingest.values import OpenFile

GAP: Final = 1 << 14
"""Bytes of the log read for nothing rather than by another call: headers, files of other shards."""
SPAN_MAX: Final = 4 << 20
"""Bytes of one call."""


class LoadedFiles:
    """Spans of the log's segments, out of which the bytes of files are cut."""

    def __init__(self, spans: dict[int, list[tuple[int, bytes]]]) -> None:
        """Take, for each segment, where each span starts and its bytes, in order."""
        self._starts = {segment: [start for start, _ in some] for segment, some in spans.items()}
        self._spans = {segment: [data for _, data in some] for segment, some in spans.items()}

    def cut(self, file: OpenFile) -> bytes | list[bytes]:
        """Return a file's bytes as the log has them; whoever takes them compares the file's checksums.

        A list where they lie in blocks.
        """
        if file.offset:
            return self._cut(file.segment, file.offset, file.size)
        if len(file.blocks) == 1:
            [block] = file.blocks
            return self._cut(block.segment, block.offset, block.length)
        return [self._cut(block.segment, block.offset, block.length) for block in file.blocks]

    def _cut(self, segment: int, offset: int, length: int) -> bytes:
        if not length:
            return b""
        starts = self._starts[segment]
        number = bisect_right(starts, offset) - 1
        begin = offset - starts[number]
        return self._spans[segment][number][begin : begin + length]


async def load_files(log: LogReader, files: Sequence[OpenFile]) -> LoadedFiles:
    """Read the bytes of `files`; what they hold beside each other is in memory at once.

    Raises:
        LogRecordGoneError: a segment was reclaimed.
        LogReadError: the device did not give them.
    """
    wanted: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for file in files:
        if file.offset:
            if file.size:
                wanted[file.segment].append((file.offset, file.offset + file.size))
            continue
        for block in file.blocks:
            if block.length:
                wanted[block.segment].append((block.offset, block.offset + block.length))
    spans: dict[int, list[tuple[int, bytes]]] = {}
    for segment, places in wanted.items():
        places.sort()
        runs = [
            (run[0][0], max(stop for _, stop in run)) for run in joined(places, gap=GAP, size_max=SPAN_MAX)
        ]
        spans[segment] = [(start, await log.read_span(segment, start, stop)) for start, stop in runs]
    return LoadedFiles(spans)
