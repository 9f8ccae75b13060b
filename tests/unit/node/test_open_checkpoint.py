"""What the catalog is told of open containers: counts that follow the log, and decide nothing."""

import asyncio

import google_crc32c

from des.config import load_settings
from des.db.catalog import CatalogUnavailableError
from des.files import FileSpec
from des.node import Node

LONG_S = 60


async def put(node, data=b"12345"):
    return (await node.put_bytes(FileSpec(), data, google_crc32c.value(data))).file


def counted(rows):
    return {row.shard: (row.files, row.data_bytes) for row in rows}


async def tell(world):
    world.clock.advance(world.settings.seal.checkpoint_s)
    await world.node._packer._checkpoint.keep()
    return await world.catalog.open_containers()


async def test_counts_follow_puts_and_seals(world):
    files = [await put(world.node) for _ in range(20)]
    rows = await tell(world)
    assert sum(row.files for row in rows) == 20
    assert sum(row.data_bytes for row in rows) == 100
    assert {row.node for row in rows} == {world.node.node_uuid}
    assert {row.day for row in rows} == {files[0].name[4:12]}
    assert {row.epoch for row in rows} == {1}
    sealed = rows[0].shard
    await world.node._packer.seal_shards([sealed])
    assert counted(await tell(world)) == counted(row for row in rows if row.shard != sealed)


async def test_what_did_not_change_costs_nothing_and_the_pace_is_kept(world):
    calls = []
    world.catalog.fault = lambda method, moment: calls.append(method) if moment == "before" else None
    await put(world.node)
    await tell(world)
    await tell(world)
    await put(world.node)
    await world.node._packer._checkpoint.keep()
    assert calls.count("checkpoint_open") == 1
    await tell(world)
    assert calls.count("checkpoint_open") == 2


async def test_a_checkpoint_that_fails_is_made_up_for(world):
    await put(world.node)

    def fail(method, _moment):
        if method == "checkpoint_open":
            raise CatalogUnavailableError("away")

    world.catalog.fault = fail
    assert await tell(world) == []
    world.catalog.fault = None
    assert sum(row.files for row in await tell(world)) == 1


async def test_the_next_start_says_what_it_found_itself(world):
    await put(world.node)
    (before,) = await tell(world)
    await world.restart()
    (after,) = await tell(world)
    assert (before.epoch, after.epoch, after.files) == (1, 2, 1)
    await world.node.seal_shard(after.shard)
    assert await tell(world) == []


async def test_a_running_node_tells_by_itself_unless_it_is_told_not_to(tmp_path):
    async def rows_of(checkpoint_s, enough):
        seal = {"checkpoint_s": checkpoint_s, "check_interval_s": 0.02}
        node = await Node.open(load_settings(data_dir=tmp_path / str(checkpoint_s), shard_bits=2, seal=seal))
        try:
            await put(node)
            async with asyncio.timeout(LONG_S):
                while not enough(found := await node._doors.catalog.open_containers()):
                    await asyncio.sleep(0.02)
            return counted(found)
        finally:
            await node.close()

    assert list((await rows_of(0.05, bool)).values()) == [(1, 5)]
    assert await rows_of(0, lambda found: True) == {}
