"""Bytes of many files of a log, neighbours read in one call."""

from random import Random

import google_crc32c
import pytest

from des.ingest.log_reader import SPAN_ON_LOOP_MAX, LogReader
from des.ingest.values import FileDraft
from des.packer.log_reads import GAP, load_files
from des.testing.log_mutilations import draft, log_settings, open_log
from des.testing.log_schedules import DAY
from des.testing.simulated_disk import SimulatedDisk


def whole(data: bytes | list[bytes]) -> bytes:
    return data if isinstance(data, bytes) else b"".join(data)


def counted(reader: LogReader) -> list[tuple[int, int, int]]:
    """Return a list that takes what is asked of `reader.read_span` from now on."""
    spans: list[tuple[int, int, int]] = []
    read = reader.read_span

    async def read_span(segment: int, start: int, stop: int) -> bytes:
        spans.append((segment, start, stop))
        return await read(segment, start, stop)

    reader.read_span = read_span
    return spans


async def test_neighbours_are_read_together_and_cut_apart():
    disk = SimulatedDisk(Random(4))
    log, _ = await open_log(disk, 1, settings=log_settings(segment_bytes=1 << 16, group_bytes=1 << 16))
    contents = {f"file-{n}": bytes([n]) * (n * 37 % 900) for n in range(200)}  # some of no bytes
    files = [await log.append_file(draft(name, data)) for name, data in contents.items()]
    parts = [b"a" * 300, b"b" * 300]
    blocks = tuple([await log.append_block(part, google_crc32c.value(part)) for part in parts])
    alone = await log.append_block(parts[0], google_crc32c.value(parts[0]))
    joined = b"".join(parts)
    long = await log.append_file(
        FileDraft("long", DAY, 1, 600, google_crc32c.value(joined), b"", None, blocks)
    )
    one = await log.append_file(
        FileDraft("one", DAY, 1, 300, google_crc32c.value(parts[0]), b"", None, (alone,))
    )
    segments = {file.segment for file in files}
    assert len(segments) > 1
    spans = counted(log.reader)
    loaded = await load_files(log.reader, [*files, long, one])
    assert len(spans) == len(segments | {block.segment for block in blocks})
    assert {file.name: whole(loaded.cut(file)) for file in files} == contents
    assert loaded.cut(long) == parts
    assert loaded.cut(one) == parts[0]
    await log.close()


@pytest.mark.parametrize(("between", "calls"), [(GAP - 200, 1), (GAP + 1, 2)])
async def test_what_lies_far_apart_is_not_read_through(between, calls):
    disk = SimulatedDisk(Random(5))
    log, _ = await open_log(disk, 1, settings=log_settings(segment_bytes=1 << 17, group_bytes=1 << 17))
    first = await log.append_file(draft("first", b"1"))
    await log.append_file(draft("another shard's", bytes(between)))
    last = await log.append_file(draft("last", b"2"))
    assert first.segment == last.segment
    spans = counted(log.reader)
    loaded = await load_files(log.reader, [last, first])
    assert len(spans) == calls
    assert [loaded.cut(first), loaded.cut(last)] == [b"1", b"2"]
    await log.close()


async def test_a_long_span_is_read_beside_the_event_loop():
    disk = SimulatedDisk(Random(6))
    log, _ = await open_log(disk, 1, settings=log_settings(segment_bytes=4 << 20, group_bytes=1 << 20))
    data = bytes(SPAN_ON_LOOP_MAX // 2)
    files = [await log.append_file(draft(f"f{n}", data)) for n in range(3)]
    before = disk.history.count("pread")
    loaded = await load_files(log.reader, files)
    assert disk.history.count("pread") == before + 1
    assert [loaded.cut(file) for file in files] == [data] * 3
    await log.close()
