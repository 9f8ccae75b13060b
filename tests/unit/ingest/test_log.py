"""The log's manners, over a simulated disk."""

import asyncio
import errno
import threading
from array import array
from concurrent.futures import ThreadPoolExecutor
from random import Random

import google_crc32c
import pytest

from des.config.settings import LogSettings
from des.ingest.errors import (
    LogClosedError,
    LogFailedError,
    LogFullError,
    LogReadOnlyError,
    LogReclaimError,
    LogRecordGoneError,
)
from des.ingest.record import DATA_MAX, LogVersionError
from des.ingest.values import Extent, FileDraft, Sealing
from des.testing.log_mutilations import SETTINGS, draft, open_log, records
from des.testing.log_schedules import DAY
from des.testing.simulated_disk import Fault, SimulatedDisk, SimulatedFile


@pytest.fixture
def disk():
    return SimulatedDisk(Random(2))


def settings(**changes):
    return LogSettings.model_validate({**SETTINGS.model_dump(), **changes})


async def until_full(log):
    for n in range(100):
        await log.append_file(draft(f"more-{n}", b"2" * 100))


def segments(disk):
    return [f"log/{name}" for name in disk.list("log")]


async def test_appends_that_wait_together_share_one_sync(disk):
    log, _ = await open_log(disk, 1, settings=settings(segment_bytes=1 << 16, group_bytes=1 << 16))
    await log.append_file(draft("first", b"x"))
    before = disk.history.count("sync")
    await asyncio.gather(*(log.append_file(draft(f"f{n}", b"x" * n)) for n in range(100)))
    assert disk.history.count("sync") == before + 1
    await log.close()


async def test_many_files_are_appended_in_one_call(disk):
    log, _ = await open_log(disk, 1)
    drafts = [draft(f"f{n}", b"x" * (n * 20)) for n in range(30)]
    files = await log.append_files(drafts)
    assert [each.name for each in files] == [each.name for each in drafts]
    assert await log.append_files([]) == []
    with pytest.raises(ValueError, match="checksum"):
        await log.append_files([draft("good", b"1"), FileDraft("bad", DAY, 1, 1, 5, b"", b"x")])
    disk.capacity = 0
    results = await log.append_files([draft(f"g{n}", b"x" * 200) for n in range(8)])
    assert isinstance(results[-1], LogFullError)
    disk.capacity = 1 << 20
    task = asyncio.ensure_future(log.append_files([draft("kept-1", b"1"), draft("kept-2", b"2")]))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await log.close()
    log, recovered = await open_log(disk, 2)
    names = [each.name for each in recovered.files]
    assert names[:30] == [each.name for each in drafts]
    assert names[-2:] == ["kept-1", "kept-2"]
    assert "good" not in names
    await log.close()


async def test_sequence_numbers_go_on_after_a_restart(disk):
    log, _ = await open_log(disk, 1)
    first = await log.append_file(draft("a", b"1"))
    assert (log.first_seq, log.next_seq) == (1, 2)
    await log.close()
    log, _ = await open_log(disk, 2)
    second = await log.append_file(draft("b", b"2"))
    assert second.seq == first.seq + 2  # the END record has one too
    assert log.first_seq == 1
    await log.close()


async def test_a_file_in_blocks_is_read_back_whole(disk):
    log, _ = await open_log(disk, 1)
    parts = [b"a" * 300, b"b" * 300]
    blocks = tuple([await log.append_block(part, google_crc32c.value(part)) for part in parts])
    whole = b"".join(parts)
    file = await log.append_file(
        FileDraft("big", DAY, 1, 600, google_crc32c.value(whole), b"f", None, blocks)
    )
    assert blocks == file.extents
    await log.close()
    log, recovered = await open_log(disk, 2)
    assert [file] == recovered.files
    assert whole == b"".join([await log.reader.read(extent) for extent in recovered.files[0].extents])
    await log.close()


@pytest.mark.parametrize("size", [0, 5 << 30])
async def test_empty_and_external_files_have_no_extents(disk, size):
    log, _ = await open_log(disk, 1)
    data = None if size else b""
    file = await log.append_file(FileDraft("a", DAY, 1, size, 7 if size else 0, b"facts", data))
    assert file.extents == ()
    await log.close()
    log, recovered = await open_log(disk, 2)
    assert [file] == recovered.files
    assert recovered.files[0].size == size
    await log.close()


async def test_control_records_are_recovered(disk):
    log, _ = await open_log(disk, 1)
    done = Sealing("done", DAY, 16, 4, 8, "framed", 3, array("Q", [1, 5, 900]))
    open_one = Sealing("open", DAY, 0, 1, 8, "v1", 3, array("Q", range(1, 5000)))
    await log.append_floor(1000)
    await log.append_sealing(done)
    await log.append_sealing(open_one)
    await log.append_stored("done", "etag")
    await log.append_floor(900)
    await log.close()
    log, recovered = await open_log(disk, 2)
    assert recovered.floor_ms == 1000
    assert [open_one] == recovered.pending
    assert {"done": done} == recovered.stored
    await log.close()


@pytest.mark.parametrize(
    "wrong",
    [
        FileDraft("", DAY, 1, 1, google_crc32c.value(b"x"), b"", b"x"),
        FileDraft("n" * 1025, DAY, 1, 1, google_crc32c.value(b"x"), b"", b"x"),
        FileDraft("a", DAY, 1, 2, google_crc32c.value(b"x"), b"", b"x"),
        FileDraft("a", DAY, 1, 1, 5, b"", b"x"),
        FileDraft("a", DAY, 1, DATA_MAX + 1, 5, b"", b"x" * (DATA_MAX + 1)),
        FileDraft("a", DAY, 1, 1, google_crc32c.value(b"x"), b"f" * ((1 << 20) + 1), b"x"),
        FileDraft("a", DAY, 1, 0, 0, b"", None),
        FileDraft("a", DAY, 1, 3, 0, b"", None, (Extent(1, 64, 4, 0),)),
        FileDraft("a", DAY, 1, 4, 0, b"", None, (Extent(1, 64, 4, 0),)),
    ],
)
async def test_a_draft_that_contradicts_itself_is_refused(disk, wrong):
    log, _ = await open_log(disk, 1)
    with pytest.raises(ValueError, match=r"."):
        await log.append_file(wrong)
    assert log.next_seq == 1
    await log.close()


async def test_a_cancelled_append_is_kept(disk):
    log, _ = await open_log(disk, 1)
    task = asyncio.ensure_future(log.append_file(draft("a", b"1")))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await log.append_file(draft("b", b"2"))
    await log.close()
    log, recovered = await open_log(disk, 2)
    assert [file.name for file in recovered.files] == ["a", "b"]
    await log.close()


async def test_a_failed_publication_poisons_the_log(disk, monkeypatch):
    log, _ = await open_log(disk, 1)

    def publish(_files):
        raise KeyError("index")

    monkeypatch.setattr(log, "_publish", publish)
    with pytest.raises(LogFailedError, match="index"):
        await log.append_file(draft("a", b"1"))
    assert isinstance(log.failure, LogFailedError)
    await log.close()


async def test_nobody_waits_for_a_log_whose_task_was_cancelled(disk):
    log, _ = await open_log(disk, 1)
    await log.append_file(draft("a", b"1"))
    log._committer.task.cancel()
    await asyncio.gather(log._committer.task, return_exceptions=True)
    with pytest.raises(LogFailedError):
        await log.append_file(draft("b", b"2"))


async def test_a_closed_log_takes_and_gives_nothing(disk):
    log, _ = await open_log(disk, 1)
    file = await log.append_file(draft("a", b"1"))
    waiting = asyncio.ensure_future(log.append_file(draft("b", b"2")))
    await asyncio.sleep(0)
    await log.close()
    await log.close()
    assert (await waiting).name == "b"
    with pytest.raises(LogClosedError):
        await log.append_file(draft("c", b"3"))
    with pytest.raises(LogRecordGoneError):
        await log.reader.read(file.extents[0])


# --- no room ------------------------------------------------------------------------------------


async def test_a_full_disk_refuses_without_failing_and_recovers_by_itself(disk):
    log, _ = await open_log(disk, 1)
    disk.capacity = 800
    kept = await log.append_file(draft("a", b"1" * 100))
    with pytest.raises(LogFullError) as full:
        await until_full(log)
    assert full.value.reason == "DISK_FULL"
    assert set(full.value.details) == {"free_bytes", "needed_bytes"}
    assert log.failure is None
    assert await log.reader.read(kept.extents[0]) == b"1" * 100
    disk.capacity = 1 << 20
    await log.append_file(draft("c", b"3"))
    await log.close()
    log, recovered = await open_log(disk, 2)
    assert recovered.damage == []
    assert recovered.files[-1].name == "c"
    await log.close()


@pytest.mark.parametrize("call", ["allocate", "pwrite", "sync", "create", "sync_directory"])
async def test_no_room_while_a_segment_is_made_is_not_a_failure(disk, call):
    log, _ = await open_log(disk, 1)
    disk.faults.append(Fault(disk.calls + 1, errno.ENOSPC, only=call))
    with pytest.raises(LogFullError):
        await log.append_file(draft("a", b"1"))
    file = await log.append_file(draft("b", b"2"))
    assert file.seq == 1
    await log.close()


async def test_the_budget_and_the_reserve_hold_for_files_and_not_for_sealing(disk):
    log, _ = await open_log(disk, 1, settings=settings(budget_bytes=1500))
    with pytest.raises(LogFullError):
        await until_full(log)
    assert log.bytes_used <= 1500
    many = array("Q", range(1, 100_000, 3))
    await log.append_sealing(Sealing("c", DAY, 0, 1, 8, "framed", 1, many))
    await log.append_stored("c", "etag")
    await log.close()
    log, recovered = await open_log(disk, 2, settings=settings(reserve_free_bytes=1 << 41))
    assert list(recovered.stored) == ["c"]
    with pytest.raises(LogFullError):
        await log.append_file(draft("b", b"1"))
    await log.append_floor(5)
    await log.close()


async def test_the_records_of_a_log_are_limited_as_its_bytes_are(disk):
    few = settings(segment_bytes=200_000, budget_bytes=1 << 21).model_copy(update={"records_max": 10})
    log, _ = await open_log(disk, 1, settings=few)
    files = [await log.append_file(draft(f"f{i}", b"1")) for i in range(10)]
    with pytest.raises(LogFullError, match="holds 10 records, 1 more would exceed the 10"):
        await log.append_file(draft("g", b"1"))
    await log.append_sealing(
        Sealing("c", DAY, 0, 1, 8, "framed", 1, array("Q", [file.seq for file in files]))
    )
    assert log.fill.fullness == 1.1
    await log.close()
    log, recovered = await open_log(disk, 2, settings=few)
    assert len(recovered.files) == 10
    with pytest.raises(LogFullError):
        await log.append_file(draft("g", b"1"))
    log.mark_stored(files)
    await log.append_stored("c", "etag")
    await log.reclaim()
    assert log.fill.records < 10
    assert (await log.append_file(draft("g", b"1"))).seq == log.next_seq - 1
    await log.close()


async def test_the_blocks_of_a_refused_file_can_be_used_again(disk):
    log, _ = await open_log(disk, 1)
    block = await log.append_block(b"x" * 400, google_crc32c.value(b"x" * 400))
    whole = FileDraft("a", DAY, 1, 400, block.crc32c, b"f" * 300, None, (block,))
    disk.capacity = 800
    with pytest.raises(LogFullError):
        await log.append_file(whole)
    disk.capacity = 1 << 20
    await log.append_file(whole)
    with pytest.raises(ValueError, match="taken"):
        await log.append_file(whole)
    await log.close()


async def test_no_room_for_the_copy_makes_the_log_read_only_until_there_is(disk):
    log, _ = await open_log(disk, 1)
    file = await log.append_file(draft("a", b"1" * 100))
    disk.restart()
    disk.capacity = 750
    log, recovered = await open_log(disk, 2)
    assert [file] == recovered.files
    assert "no room" in str(recovered.read_only_cause)
    assert await log.reader.read(file.extents[0]) == b"1" * 100
    with pytest.raises(LogReadOnlyError) as refused:
        await log.append_file(draft("b", b"2"))
    assert refused.value.reason == "LOG_FAILED"
    assert await log.reclaim() == 0
    await log.close()
    disk.capacity = 1 << 20
    log, recovered = await open_log(disk, 3)
    assert recovered.read_only_cause is None
    assert [file] == recovered.files
    await log.close()


# --- reclaiming ---------------------------------------------------------------------------------


async def filled(disk, **changes):
    log, _ = await open_log(disk, 1, settings=settings(**changes))
    files = [await log.append_file(draft(f"f{n}", bytes([n]) * 200)) for n in range(8)]
    return log, files


async def test_segments_go_oldest_first_and_the_newest_stays(disk):
    log, files = await filled(disk)
    before = segments(disk)
    assert len(before) > 2
    log.mark_stored(files[1:])
    assert await log.reclaim() == 0  # the first file still needs the oldest
    log.mark_stored(files[:1])
    log.mark_stored(files)
    used = log.bytes_used
    freed = await log.reclaim()
    assert freed > 0
    assert used - freed == log.bytes_used
    assert before[-1:] == segments(disk)
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
    log, files = await filled(disk, reclaim_delay_s=0.1)
    log.mark_stored(files)
    assert await log.reclaim() == 0
    await log._clock.sleep(0.2)
    assert await log.reclaim() > 0
    await log.close()


async def test_recovered_files_pin_their_segments_too(disk):
    log, _ = await filled(disk)
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
    log, files = await filled(disk)
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


# --- what others wrote ----------------------------------------------------------------------------


async def test_a_newer_segment_is_refused_untouched(disk):
    log, _ = await filled(disk)
    await log.close()
    path = segments(disk)[0]
    header = bytearray(disk.content(path)[:60])
    header[8] = 2
    newer = bytes(header) + google_crc32c.value(bytes(header)).to_bytes(4, "little") + disk.content(path)[64:]
    disk.overwrite(path, newer)
    with pytest.raises(LogVersionError, match="version 2"):
        await open_log(disk, 2)
    assert newer == disk.content(path)


async def test_a_record_of_an_unknown_kind_is_refused_untouched(disk):
    log, _ = await filled(disk)
    salt = log._segments.find(1).header.salt
    await log.close()
    path = segments(disk)[0]
    content = bytearray(disk.content(path))
    start, _ = records(bytes(content))[0]
    content[start + 4] = 99
    crc32c = google_crc32c.extend(salt, bytes(content[start : start + 60]))
    content[start + 60 : start + 64] = crc32c.to_bytes(4, "little")
    disk.overwrite(path, bytes(content))
    with pytest.raises(LogVersionError, match="kind 99"):
        await open_log(disk, 2)


async def test_a_log_of_another_node_or_of_a_later_start_is_read_only(disk):
    log, _ = await filled(disk)
    await log.close()
    log, recovered = await open_log(disk, 0)
    assert "start 1" in recovered.damage[0].cause
    assert isinstance(log.failure, LogReadOnlyError)
    await log.close()


async def test_a_segment_that_was_never_used_is_forgotten(disk):
    disk.make_directory("log")
    for name, content in {
        "log-00000001-00000001.dlog": bytes(700),
        "log-00000001-00000001.dlog.tmp": b"half a copy",
        "README": b"not ours",
    }.items():
        disk.overwrite(f"log/{name}", content)
    log, recovered = await open_log(disk, 2)
    assert recovered.read_only_cause is None
    assert disk.list("log") == ["README"]
    file = await log.append_file(draft("a", b"1"))
    assert (file.seq, file.segment) == (1, 1)
    await log.close()


async def test_content_that_is_itself_a_log_is_only_content(disk):
    """No scanning for magic, and checksums that start from a secret: payload is never believed."""
    log, _ = await filled(disk)
    await log.close()
    payload = b"".join(disk.content(path) for path in segments(disk))
    other = SimulatedDisk(Random(2))  # the same salts even
    log, _ = await open_log(other, 1, settings=settings(segment_bytes=1 << 16))
    await log.append_file(draft("a", payload))
    other.restart()
    path = segments(other)[0]
    stop = records(other.content(path)[: 64 + 64 + 2 + len(payload)])[0][1]
    other.overwrite(path, other.content(path)[: stop - 1])  # torn in its last byte
    log, recovered = await open_log(other, 2, settings=settings(segment_bytes=1 << 16))
    assert recovered.files == []
    await log.close()
