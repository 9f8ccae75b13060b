"""The log without room: what is refused, what is not, and that it recovers."""

import errno
from array import array

import google_crc32c
import pytest

from des.ingest.errors import (
    LogFullError,
    LogReadOnlyError,
)
from des.ingest.values import FileDraft, Sealing
from des.testing.log_mutilations import draft, log_settings, open_log
from des.testing.log_schedules import DAY
from des.testing.simulated_disk import Fault


async def until_full(log):
    for n in range(100):
        await log.append_file(draft(f"more-{n}", b"2" * 100))


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
    log, _ = await open_log(disk, 1, settings=log_settings(budget_bytes=1500))
    with pytest.raises(LogFullError):
        await until_full(log)
    assert log.bytes_used <= 1500
    many = array("Q", range(1, 100_000, 3))
    await log.append_sealing(Sealing("c", DAY, 0, 1, 8, "framed", 1, many))
    await log.append_stored("c", "etag")
    await log.close()
    log, recovered = await open_log(disk, 2, settings=log_settings(reserve_free_bytes=1 << 41))
    assert list(recovered.stored) == ["c"]
    with pytest.raises(LogFullError):
        await log.append_file(draft("b", b"1"))
    await log.append_floor(5)
    await log.close()


async def test_the_records_of_a_log_are_limited_as_its_bytes_are(disk):
    few = log_settings(segment_bytes=200_000, budget_bytes=1 << 21).model_copy(update={"records_max": 10})
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
    assert log.room_needed_bytes > 100
    assert not await log.has_room()
    disk.capacity = 1 << 20
    assert await log.has_room()
    assert [name for name in disk.list("log") if "room" in name] == []
    await log.close()
    log, recovered = await open_log(disk, 3)
    assert recovered.read_only_cause is None
    assert log.room_needed_bytes == 0
    assert [file] == recovered.files
    await log.close()
