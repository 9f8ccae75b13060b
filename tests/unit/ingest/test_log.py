"""The log's manners, over a simulated disk: what an append promises."""

import asyncio
from array import array

import google_crc32c
import pytest

from des.ingest.errors import (
    LogClosedError,
    LogFailedError,
    LogFullError,
    LogRecordGoneError,
)
from des.ingest.record import DATA_MAX
from des.ingest.values import Extent, FileDraft, Sealing
from des.testing.log_mutilations import draft, log_settings, open_log
from des.testing.log_schedules import DAY


async def test_appends_that_wait_together_share_one_sync(disk):
    log, _ = await open_log(disk, 1, settings=log_settings(segment_bytes=1 << 16, group_bytes=1 << 16))
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


async def test_a_log_beside_its_objects_takes_no_more_of_the_disk_than_can_be_sealed(disk):
    segment = 100_000
    disk.capacity = 20 * segment
    few = log_settings(segment_bytes=segment, budget_bytes=1 << 30, reserve_free_bytes=4 * segment)
    log, _ = await open_log(disk, 1, settings=few, disk_share=0.5)
    with pytest.raises(LogFullError, match="too little to seal what it holds"):
        for number in range(100):
            await log.append_file(draft(f"f{number}", bytes(segment // 2)))
    assert 6 * segment <= log.bytes_used <= 8 * segment
    assert log.fullness > 0.75
    await log.close()
