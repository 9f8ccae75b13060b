"""A lost catalog is made anew from the objects."""

import itertools

import pytest

from des.storage.identity import WrongStoreError
from des.storage.object_store import ObjectStoreUnavailableError
from des.testing.memory_catalog import MemoryCatalog
from des.upkeep import GcRefusedError, rebuild_catalog
from des.upkeep.rebuild_catalog import ShardsHeldError
from tests.fault.upkeep.upkeep_world import Failing, World, copied, timeless


async def test_a_lost_catalog_is_rebuilt_row_for_row(world: World) -> None:
    before = await world.rows()
    world.catalog = MemoryCatalog(world.clock)
    report = await rebuild_catalog(world.catalog, world.store, holder="tool")
    assert (len(report.recorded), report.refused, report.superseded) == (len(before), {}, [])
    assert timeless(before) == timeless(await world.rows())
    node = await world.node()
    for name, data in world.files.items():
        assert await (await node.open_file(name)).read_whole() == data
    await node.close()


async def test_a_rebuilt_catalog_is_of_the_store_that_the_objects_say(world: World) -> None:
    before = await world.catalog.store_id()
    world.catalog = MemoryCatalog(world.clock)
    await rebuild_catalog(world.catalog, world.store, holder="tool")
    assert before == await world.catalog.store_id()


async def test_a_catalog_of_another_store_is_neither_rebuilt_nor_collected_with(world: World) -> None:
    world.catalog = MemoryCatalog(world.clock)
    await world.catalog.store_id("0193a000-0000-7000-8000-0000000000ee")
    with pytest.raises(WrongStoreError):
        await rebuild_catalog(world.catalog, world.store, holder="tool")
    with pytest.raises(GcRefusedError, match="another store"):
        await (await world.collector()).collect(apply=True)


async def test_rebuilding_twice_changes_nothing(world: World) -> None:
    before = await world.rows()
    report = await rebuild_catalog(world.catalog, world.store, holder="tool")
    assert (report.recorded, report.known) == ([], len(before))
    assert before == await world.rows()


async def test_epochs_start_above_those_of_the_lost_catalog(world: World) -> None:
    for _ in range(3):
        await (await world.node()).close()
    node = await world.node()
    await world.fill(node)
    await node.close()
    highest = max(row.epoch for row in await world.rows())
    world.catalog = MemoryCatalog(world.clock)
    await rebuild_catalog(world.catalog, world.store, holder="tool")
    assert min(lock.epoch for lock in await world.catalog.shard_locks()) > highest


async def test_a_copy_and_a_damaged_container_are_not_recorded(world: World) -> None:
    key, row = await copied(world, epoch=0)
    [_, other] = await world.rows()
    await world.replace_object(other.key, lambda data: data[:-1] + b"!")
    world.catalog = MemoryCatalog(world.clock)
    report = await rebuild_catalog(world.catalog, world.store, holder="tool")
    # The copy says another container's id.
    assert set(report.refused) == {key, other.key}
    assert [one.key for one in report.recorded] == [row.key]
    assert (await world.store.head(other.key)).size == other.geometry.size


async def test_a_running_node_keeps_a_rebuild_out(world: World) -> None:
    node = await world.node()
    with pytest.raises(ShardsHeldError):
        await rebuild_catalog(world.catalog, world.store, holder="tool")
    await world.fill(node)
    await node.close()


async def test_a_store_that_does_not_answer_stops_a_rebuild_and_it_may_run_again(world: World) -> None:
    before = await world.rows()
    for after in itertools.count():
        world.catalog = MemoryCatalog(world.clock)
        failing = Failing(world.store, of={"head", "get_range", "get_tail", "list"}, after=after)
        try:
            await rebuild_catalog(world.catalog, failing, holder="tool")
            break
        except ObjectStoreUnavailableError:
            await rebuild_catalog(world.catalog, world.store, holder="tool")
            assert timeless(before) == timeless(await world.rows())
    assert after > 5
