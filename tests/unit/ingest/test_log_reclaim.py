"""Segments go when nothing needs them, oldest first, and not sooner."""

import asyncio
import errno
import threading
from concurrent.futures import ThreadPoolExecutor

import google_crc32c
import pytest

from des.ingest.errors import (
    LogReclaimError,
    LogRecordGoneError,
)
from des.testing.log_mutilations import (
    draft,
    filled_log,
    open_log,
    segment_paths,
)
from des.testing.simulated_disk import Fault, SimulatedFile


async def test_segments_go_oldest_first_and_the_newest_stays(disk):
    log, files = await filled_log(disk)
    before = segment_paths(disk)
    assert len(before) > 2
    log.mark_stored(files[1:])
    assert await log.reclaim() == 0  # the first file still needs the oldest
    log.mark_stored(files[:1])
    log.mark_stored(files)
    used = log.bytes_used
    freed = await log.reclaim()
    assert freed > 0
    assert used - freed == log.bytes_used
    assert before[-1:] == segment_paths(disk)
    with pytest.raises(LogRecordGoneError):
        await log.reader.read(files[0].extents[0])
    with pytest.raises(LogRecordGoneError):
        log.reader.read_cached(files[0].extents[0])
    log.mark_stored(files)
    next_seq = log.next_seq
    await log.close()
    log, recovered = await open_log(disk, 2)
    assert recovered.damage == []
    assert log.next_seq == next_seq + 1
    await log.close()


async def test_a_segment_waits_for_its_delay(disk):
    log, files = await filled_log(disk, reclaim_delay_s=0.1)
    log.mark_stored(files)
    assert await log.reclaim() == 0
    await log._clock.sleep(0.2)
    assert await log.reclaim() > 0
    await log.close()


async def test_recovered_files_pin_their_segments_too(disk):
    log, _ = await filled_log(disk)
    await log.close()
    log, recovered = await open_log(disk, 2)
    await log.append_file(draft("new", b"1"))
    assert await log.reclaim() == 0
    log.mark_stored(recovered.files)
    assert await log.reclaim() > 0
    await log.close()


async def test_blocks_keep_their_segment_until_released(disk):
    log, _ = await open_log(disk, 1)
    block = await log.append_block(b"x" * 500, google_crc32c.value(b"x" * 500))
    for n in range(5):
        log.mark_stored([await log.append_file(draft(f"f{n}", b"1" * 300))])
    assert await log.reclaim() == 0
    log.release_blocks([block])
    log.release_blocks([block])
    assert await log.reclaim() > 0
    await log.close()


async def test_a_cancelled_block_lets_go(disk):
    log, _ = await open_log(disk, 1)
    task = asyncio.ensure_future(log.append_block(b"x" * 500, google_crc32c.value(b"x" * 500)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    for n in range(5):
        log.mark_stored([await log.append_file(draft(f"f{n}", b"1" * 300))])
    assert await log.reclaim() > 0
    await log.close()


async def test_the_clock_floor_moves_on_before_its_segment_goes(disk):
    log, _ = await open_log(disk, 1)
    await log.append_floor(77)
    for n in range(8):
        log.mark_stored([await log.append_file(draft(f"f{n}", b"1" * 200))])
    assert await log.reclaim() > 0
    await log.close()
    log, recovered = await open_log(disk, 2)
    assert recovered.floor_ms == 77
    await log.close()


async def test_a_segment_that_cannot_be_removed_stays(disk):
    log, files = await filled_log(disk)
    log.mark_stored(files)
    disk.faults.append(Fault(disk.calls + 1, errno.EIO, only="remove"))
    with pytest.raises(LogReclaimError):
        await log.reclaim()
    assert len(await log.reader.read(files[0].extents[0])) == 200
    assert await log.reclaim() > 0
    await log.close()


async def test_a_reader_in_flight_keeps_its_file_open(disk, monkeypatch):
    entered, leave = threading.Event(), threading.Event()
    pread = SimulatedFile.pread

    def slow(self, size, offset):
        entered.set()
        assert leave.wait(10)
        return pread(self, size, offset)

    with ThreadPoolExecutor(3) as executor:
        log, _ = await open_log(disk, 1, executor=executor)
        files = [await log.append_file(draft(f"f{n}", bytes([n]) * 200)) for n in range(8)]
        log.mark_stored(files)
        with monkeypatch.context() as patch:
            patch.setattr(SimulatedFile, "pread", slow)
            disk.cold_reads = 1
            reading = asyncio.ensure_future(log.reader.read(files[0].extents[0]))
            impatient = asyncio.ensure_future(log.reader.read(files[0].extents[0]))
            await asyncio.to_thread(entered.wait, 10)
            impatient.cancel()
            file = log._segments.find(files[0].segment).file
            assert await log.reclaim() > 0
            assert not file._closed
            leave.set()
            assert await reading == bytes([0]) * 200
            await asyncio.sleep(0.05)
        assert file._closed
        await log.close()
