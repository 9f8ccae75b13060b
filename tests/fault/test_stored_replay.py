"""What another start finds in shipped segments after log, disk or catalog were lost."""

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from des.db.rows import LogSegmentState, Tombstone
from des.errors import NotFoundError, UnavailableError
from des.ingest.shipped import FOLDER
from des.packer import shipped_log
from des.packer.shipped_log import read_ahead
from des.testing.memory_catalog import MemoryCatalog
from des.upkeep import rebuild_catalog
from tests.fault.simulated_world import Trap
from tests.fault.stored_world import World, drain, let_go, put, put_all, settled, unavailable


async def test_a_damaged_segment_makes_names_undecided_and_is_kept(tmp_path: Path) -> None:
    world = World(tmp_path)
    node = await world.node()
    first = await put(node, b"first")
    second = await put(node, b"second")
    await world.lose(node)
    row, _ = await world.catalog.log_segments()
    kept = world.store._objects[row.key]
    spoiled = bytearray(kept.data)
    spoiled[len(spoiled) // 2] ^= 1
    world.store._objects[row.key] = type(kept)(bytes(spoiled), kept.info)
    node = await world.node()
    assert await (await node.open_file(second.name)).read_whole() == b"second"
    with pytest.raises(UnavailableError):
        await node.open_file(first.name)
    await drain(node)
    await let_go(world, node)
    assert [row] == await world.catalog.log_segments()
    assert row.key in await world.objects("_log/")
    await node.close()


async def test_a_store_that_cannot_be_read_keeps_the_node_from_starting(tmp_path: Path) -> None:
    """Serving without what was acknowledged would say NOT_FOUND of it."""
    world = World(tmp_path)
    node = await world.node()
    info = await put(node, b"data")
    await world.lose(node)
    trap = Trap(4, "before", unavailable)  # identity and list are read, the segment is not
    with pytest.raises(UnavailableError):
        await world.node(trap)
    node = await world.node()
    assert await (await node.open_file(info.name)).read_whole() == b"data"
    await node.close()


async def test_released_segments_of_an_earlier_start_go_too(tmp_path: Path) -> None:
    world = World(tmp_path)
    node = await world.node()
    files, _ = await put_all(node)
    await drain(node)
    world.clock.advance(101)
    await node._packer.step()
    await node._parts.shipper.clean()
    await world.power_cut(node)
    assert {row.state for row in await world.catalog.log_segments()} == {LogSegmentState.RELEASED}
    await settled(world, await world.node(), files)
    assert await world.objects("_log/") == []


async def test_a_log_that_was_lost_under_its_node_is_replayed_from_what_it_shipped(tmp_path: Path) -> None:
    """The folder of the log is gone, the node's identity is not."""
    world = World(tmp_path)
    node = await world.node()
    files, _ = await put_all(node)
    await node.close()
    for name in world.disk.list("log"):
        world.disk.remove(f"log/{name}")
    world.disk.sync_directory("log")
    await settled(world, await world.node(), files)


async def test_a_lost_catalog_and_a_lost_disk_lose_nothing_that_was_stored(tmp_path: Path) -> None:
    world = World(tmp_path)
    node = await world.node()
    files, _ = await put_all(node)
    await drain(node)
    later = await put(node, b"after the seal")
    rows = await world.catalog.log_segments()
    await world.lose(node)
    world.catalog = MemoryCatalog(world.clock)
    report = await rebuild_catalog(world.catalog, world.store, holder="tool")
    assert report.refused == {}
    assert rows == report.segments == await world.catalog.log_segments()
    node = await world.node()
    assert await (await node.open_file(later.name)).read_whole() == b"after the seal"
    await node.seal_shard(later.shard)
    await settled(world, node, files)


async def test_a_deleted_file_does_not_come_back(tmp_path: Path) -> None:
    world = World(tmp_path)
    node = await world.node()
    info = await put(node, b"deleted")
    kept = await put(node, b"kept")
    await world.catalog.put_tombstones(
        [Tombstone(info.name, info.day, info.shard, 2, 1)], node._lease.claim_of([info.shard])
    )
    await world.lose(node)
    node = await world.node()
    with pytest.raises(NotFoundError):
        await node.open_file(info.name)
    assert await (await node.open_file(kept.name)).read_whole() == b"kept"
    await node.close()


async def test_segments_of_a_lost_node_are_read_side_by_side_and_only_so_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped_log, "AHEAD", 3)
    world = World(tmp_path)
    node = await world.node()
    files = {(await put(node, data)).name: data for data in (b"x" * size for size in range(1, 9))}
    await world.lose(node)
    assert len(await world.catalog.log_segments()) == len(files)
    reading = most = 0
    get_range = world.store.get_range

    async def slow(key: str, *args: Any, **options: Any) -> bytes:
        nonlocal reading, most
        if not key.startswith(f"{FOLDER}/"):  # of a container that was sealed
            return await get_range(key, *args, **options)
        reading += 1
        most = max(most, reading)
        for _ in range(20):
            await asyncio.sleep(0)
        reading -= 1
        return await get_range(key, *args, **options)

    monkeypatch.setattr(world.store, "get_range", slow)
    await settled(world, await world.node(), files)
    assert most == 3


async def test_long_segments_are_read_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped_log, "AHEAD_BYTES", 1)
    world = World(tmp_path)
    node = await world.node()
    for size in range(1, 5):
        await put(node, b"x" * size)
    await world.lose(node)
    rows = await world.catalog.log_segments()
    seen = []
    async with aclosing(read_ahead(world.store, rows)) as segments:
        async for row, read in segments:
            others = [task for task in asyncio.all_tasks() if task.get_coro().__name__ == "read_segment"]
            assert len(others) == 1
            seen.append((row, len(await read())))
    assert seen == [(row, 1) for row in rows]
