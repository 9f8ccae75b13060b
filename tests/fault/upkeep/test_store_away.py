"""A store that does not answer, or turns out to be another's, loses nothing and is not written to."""

import google_crc32c
import pytest

from des.files import FileSpec
from des.storage.identity import WrongStoreError
from des.storage.memory import MemoryObjectStore
from des.storage.object_store import ObjectStoreUnavailableError
from tests.fault.upkeep.upkeep_world import DAY_S, Failing, World, copied


async def test_a_node_starts_on_its_log_while_the_store_is_away(world: World) -> None:
    node = await world.node()
    data = b"written before"
    before = (await node.put_bytes(FileSpec(), data, google_crc32c.value(data))).file.name
    await node.close()
    real = world.store
    world.store = Failing(real, of={"list", "head", "get_range", "get_tail", "create", "capabilities"})
    node = await world.node()
    data = b"written meanwhile"
    after = (await node.put_bytes(FileSpec(), data, google_crc32c.value(data))).file.name
    assert await (await node.open_file(before)).read_whole() == b"written before"
    with pytest.raises(ObjectStoreUnavailableError):
        for shard in range(2):
            await node.seal_shard(shard)
    world.store._of = set()
    for shard in range(2):
        await node.seal_shard(shard)
    assert await (await node.open_file(after)).read_whole() == data
    await node.close()


async def test_a_store_that_turns_out_to_be_another_s_is_never_written_to(world: World) -> None:
    real = world.store
    other = MemoryObjectStore(world.clock)
    other.put("des-store-id", b"0193a000-0000-7000-8000-0000000000ee\n", {})
    world.store = Failing(other, of={"head", "capabilities"})
    node = await world.node()
    data = b"for the right store only"
    await node.put_bytes(FileSpec(), data, google_crc32c.value(data))
    world.store._of = set()
    with pytest.raises(WrongStoreError):
        for shard in range(2):
            await node.seal_shard(shard)
    assert [info.key async for info in other.list("")] == ["des-store-id"]
    await node.close()
    world.store = real
    node = await world.node()
    for shard in range(2):
        await node.seal_shard(shard)
    await node.close()


async def test_a_store_that_is_down_for_ten_minutes_loses_nothing(world: World) -> None:
    await copied(world, epoch=0)
    before = {info.key async for info in world.store.list("")}
    real, world.store = (
        world.store,
        Failing(world.store, of={"list", "head", "get_range", "get_tail", "delete"}),
    )
    world.clock.advance(2 * DAY_S)
    for _ in range(10):
        node = await world.node()
        await node.close()
        with pytest.raises(ObjectStoreUnavailableError):
            await (await world.collector()).collect(apply=True)
        world.clock.advance(60)
    world.store = real
    assert {info.key async for info in world.store.list("")} == before
