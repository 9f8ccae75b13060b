"""Every rule that seals, through the node and its clock; reclaiming after it."""

import asyncio

import google_crc32c
import pytest

from des.config import load_settings
from des.db.catalog import ContainerState
from des.files import FileSpec, FileState
from des.ingest.errors import LogFullError
from des.node.put_many import WholeFile
from des.packer.backpressure import LogBackpressureError
from des.testing.simulated_clock import settle

DAY_MS = 86_400_000


async def put(node, data: bytes = b"x", **spec):
    return (await node.put_bytes(FileSpec(**spec), data, google_crc32c.value(data))).file


async def restart_with(world, **settings):
    await world.node.close()
    world.settings = load_settings(data_dir=world.settings.data_dir, shard_bits=2, **settings)
    return await world.start()


async def restart_with_records(world, records_max: int, **settings):
    """Restart with fewer records in the log than the settings take."""
    await world.node.close()
    made = load_settings(data_dir=world.settings.data_dir, shard_bits=2, **settings)
    world.settings = made.model_copy(update={"log": made.log.model_copy(update={"records_max": records_max})})
    return await world.start()


async def stored(world) -> list:
    return await world.catalog.containers(state=ContainerState.STORED)


async def test_nothing_is_sealed_before_it_is_due(world) -> None:
    await put(world.node)
    await world.node._packer.step()
    assert await stored(world) == []


async def test_old_files_are_sealed_all_shards_in_one_container(world) -> None:
    node = await restart_with(world, seal={"age_s": 100})
    files = [await put(node) for _ in range(40)]
    assert {file.shard for file in files} == {0, 1, 2, 3}
    world.clock.advance(99)
    await node._packer.step()
    assert await stored(world) == []
    world.clock.advance(2)
    await node._packer.step()
    (row,) = await stored(world)
    assert (row.run.first, row.run.span, row.geometry.file_count) == (0, 4, 40)
    for file in files:
        assert (await node.stat(file.name)).state is FileState.STORED


async def test_a_shard_with_many_files_is_sealed_alone(world) -> None:
    node = await restart_with(world, seal={"entries": 10})
    while not any(bucket.files >= 10 for bucket in node._open_index.buckets()):
        await put(node)
    await node._packer.step()
    (row,) = await stored(world)
    assert (row.run.span, row.geometry.file_count) == (1, 10)


async def test_a_shard_with_many_bytes_is_sealed_alone_in_pieces_of_the_size(world) -> None:
    node = await restart_with(world, seal={"size_bytes": 100_000})
    for _ in range(60):
        await put(node, bytes(10_000))
    await node._packer.step()
    rows = await stored(world)
    assert rows
    assert all(row.run.span == 1 for row in rows)
    assert all(row.data_bytes <= 100_000 for row in rows)


async def test_a_day_that_ended_is_sealed_after_its_grace(world) -> None:
    node = await restart_with(world, seal={"day_grace_s": 60, "age_s": 10**6})
    file = await put(node)
    left_ms = DAY_MS - world.clock.now_ms() % DAY_MS
    world.clock.advance(left_ms / 1000 + 59)
    await node._packer.step()
    assert await stored(world) == []
    world.clock.advance(2)
    await node._packer.step()
    (row,) = await stored(world)
    assert row.day == file.day
    later = await put(node)
    assert later.day > file.day


async def test_a_log_out_of_its_budget_is_sealed_and_emptied(world) -> None:
    node = await restart_with(
        world,
        log={"segment_bytes": 1 << 20, "budget_bytes": 8 << 20, "reclaim_delay_s": 10**6},
        seal={"age_s": 10**6},
    )
    names = [(await put(node, bytes(200_000))).name for _ in range(32)]
    with pytest.raises(LogFullError):
        for _ in range(40):
            await put(node, bytes(200_000))
    used = node._log.bytes_used
    await node._packer.step()
    await node._packer.step()
    assert node._log.bytes_used < used
    await put(node, bytes(200_000))
    for name in names:
        assert await (await node.open_file(name)).read_whole() == bytes(200_000)


async def test_writes_wait_for_the_seals_of_a_log_that_is_nearly_full(world, monkeypatch) -> None:
    node = await restart_with(
        world, log={"segment_bytes": 1 << 20, "budget_bytes": 8 << 20}, seal={"age_s": 10**6}
    )
    data = bytes(200_000)
    while node._log.fullness <= 0.75:
        await put(node, data)
    building, store = asyncio.Event(), node._packer._containers.store

    async def slow_store(*arguments):
        await building.wait()
        return await store(*arguments)

    monkeypatch.setattr(node._packer._containers, "store", slow_store)
    stepping = asyncio.ensure_future(node._packer.step())
    while not node._packer.is_emptying:
        await asyncio.sleep(0)

    async def after_waiting(writing):
        task = asyncio.ensure_future(writing)
        waited = False
        for _ in range(1000):
            await asyncio.sleep(0)
            if task.done():
                break
            waited = True
            world.clock.advance(0.1)
        assert waited
        return await task

    with pytest.raises(LogBackpressureError):
        while True:
            await after_waiting(put(node, data))
    crc = google_crc32c.value(data)
    [outcome] = await after_waiting(node.put_many([WholeFile(FileSpec(), data, crc)]))
    assert isinstance(outcome, LogBackpressureError)
    assert node._log.fullness < 1
    building.set()
    await stepping
    await put(node, data)


async def test_segments_go_only_after_the_delay_and_files_stay_readable(world) -> None:
    node = await restart_with(world, log={"segment_bytes": 1 << 20, "reclaim_delay_s": 500})
    files = [await put(node, bytes(300_000)) for _ in range(12)]
    for shard in range(4):
        await node.seal_shard(shard)
    world.clock.advance(499)
    await node._packer.step()
    first = node._log.first_seq
    assert first <= node._packer._stored[0].files[0].seq
    world.clock.advance(2)
    await node._packer.step()
    assert node._log.first_seq > first
    for file in files:
        assert await (await node.open_file(file.name)).read_whole() == bytes(300_000)


async def test_a_container_that_the_catalog_lost_is_recorded_again_before_the_log_lets_go(world) -> None:
    node = await restart_with(world, log={"segment_bytes": 1 << 20, "reclaim_delay_s": 500})
    file = await put(node, b"data")
    await node.seal_shard(file.shard)
    world.catalog._containers.clear()
    world.clock.advance(501)
    await node._packer.step()
    await node._packer.step()
    assert len(await stored(world)) == 1
    assert await (await node.open_file(file.name)).read_whole() == b"data"


async def test_a_seal_leaves_to_the_next_one_what_arrives_while_it_is_made(world, monkeypatch) -> None:
    node = await restart_with(world, seal={"entries": 1})
    names = [one.name for one in await node.assign_names(80, "", "") if one.shard == 0]
    for name in names[:3]:
        await put(node, name=name)
    later = names[3:8]
    finish = node._packer._finish

    async def finish_while_files_arrive(pending):
        rows = await finish(pending)
        if later:
            await put(node, name=later.pop())
        return rows

    monkeypatch.setattr(node._packer, "_finish", finish_while_files_arrive)
    rows = await node.seal_shard(0)
    assert [row.geometry.file_count for row in rows] == [1, 1, 1]
    assert node.open_counts() == {0: 3}


@pytest.mark.parametrize("fields", [{}, {"request_id": "7c0de7a1-3b1c-4a3f-9a5e-5d3c6f0a9b11"}])
async def test_an_upload_that_a_full_log_refuses_at_its_end_does_not_keep_the_log_full(world, fields) -> None:
    node = await restart_with_records(
        world,
        50,
        big_file_bytes=16 << 20,
        log={"segment_bytes": 1 << 20, "budget_bytes": 64 << 20, "reclaim_delay_s": 0},
        seal={"age_s": 10**6},
    )
    upload = await node.begin_put(FileSpec(**fields))
    await upload.write(bytes(5 << 20))
    while node._log.fill.records < 49:  # room for the last block, none for the file's record
        await put(node, bytes(300_000))
    with pytest.raises(LogFullError):
        await upload.finish(None)
    await upload.abort()
    for _ in range(3):
        world.clock.advance(10)
        await node._packer.step()
    assert node.backlog() == (0, 0)
    assert node._log.fill.records < 25
    for _ in range(20):
        await put(node)


async def test_a_big_file_that_a_full_log_refuses_leaves_no_object(world) -> None:
    node = await restart_with_records(world, 50, seal={"age_s": 10**6}, big_file_bytes=1 << 20)
    upload = await node.begin_put(FileSpec())
    await upload.write(bytes(3 << 20))
    with pytest.raises(LogFullError):
        for _ in range(60):
            await put(node)
    with pytest.raises(LogFullError):
        await upload.finish(None)
    assert [info.key async for info in world.store.list("") if "_bigFiles" in info.key] == []


async def test_a_deleted_file_does_not_keep_a_full_log_full(world) -> None:
    node = await restart_with(
        world, log={"segment_bytes": 1 << 20, "budget_bytes": 8 << 20}, seal={"age_s": 10**6}
    )
    deleted = await put(node)
    assert not isinstance((await node.delete_many([deleted.name], allow_missing=False))[0], Exception)
    with pytest.raises(LogFullError):
        for _ in range(60):
            await put(node, bytes(200_000))
    used = node._log.bytes_used
    for _ in range(3):
        world.clock.advance(
            6
        )  # more than the deletes' own turn, far less than their copies may wait for others
        await settle()
        await node._packer.step()
    assert node.backlog() == (0, 0)
    assert node._log.bytes_used < used / 2
    await put(node, bytes(200_000))


async def test_deletes_under_a_full_log_are_copied_once_for_each_segment_that_they_hold(world) -> None:
    node = await restart_with(
        world, log={"segment_bytes": 1 << 20, "budget_bytes": 8 << 20}, seal={"age_s": 10**6}
    )
    files = [await put(node) for _ in range(20)]
    with pytest.raises(LogFullError):
        for _ in range(60):
            await put(node, bytes(200_000))
    for file in files:  # nothing is sealed, so nothing of the log can go
        await node.delete_many([file.name], allow_missing=False)
        await node._deletions.step()
        if node._deletions._copy_is_due():
            await node._deletions.copy()
    copies = [info.key async for info in world.store.list("") if "_deleted" in info.key]
    assert len(copies) <= 1


async def test_a_log_that_fills_a_disk_smaller_than_its_budget_is_sealed_and_emptied(world) -> None:
    node = await restart_with(
        world,
        log={"segment_bytes": 1 << 20, "budget_bytes": 4 << 30, "reserve_free_bytes": 8 << 20},
        seal={"age_s": 10**6},
    )
    world.disk.capacity -= world.disk.room() - (24 << 20)
    names = [(await put(node, bytes(200_000))).name for _ in range(20)]
    with pytest.raises(LogFullError):
        for _ in range(100):
            await put(node, bytes(200_000))
    used = node._log.bytes_used
    await node._packer.step()
    await node._packer.step()
    assert node.backlog() == (0, 0)
    assert node._log.bytes_used < used / 2
    await put(node, bytes(200_000))
    for name in names:
        assert await (await node.open_file(name)).read_whole() == bytes(200_000)


async def test_a_full_disk_does_not_make_a_container_of_every_file(world) -> None:
    node = await restart_with(world, seal={"age_s": 10**6})
    await put(node)
    world.disk.capacity -= world.disk.room()
    with pytest.raises(LogFullError):
        for _ in range(200):
            await put(node, bytes(1 << 20))
    await node._packer.step()
    assert await stored(world) == []


async def test_health_says_that_the_disk_limits_the_log(world) -> None:
    node = await restart_with(
        world,
        log={"segment_bytes": 1 << 20, "budget_bytes": 4 << 30, "reserve_free_bytes": 8 << 20},
        seal={"age_s": 10**6},
    )
    (check,) = [check for check in node.health_checks() if check.name == "log_backlog"]
    assert "of 4,096 MiB and" in (await check.look()).found
    world.disk.capacity -= world.disk.room() - (24 << 20)
    with pytest.raises(LogFullError):
        for _ in range(100):
            await put(node, bytes(200_000))
    found = (await check.look()).found
    assert found.startswith("nearly full: ")
    assert "MiB that the disk has room for and" in found
