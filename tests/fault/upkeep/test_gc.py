"""What is nobody's goes, in its time, and no failed read deletes."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import google_crc32c
import pytest

from des.config import StoredSettings
from des.db.catalog import CatalogUnavailableError
from des.db.rows import LogSegmentState
from des.files import Durability, FileSpec
from des.storage.memory import MemoryObjectStore
from des.storage.object_store import ObjectInfo, ObjectStoreUnavailableError
from des.testing.memory_catalog import MemoryCatalog
from des.upkeep import Depth, GcRefusedError, fsck
from tests.fault.upkeep.upkeep_world import DAY_S, Failing, World, copied


async def unrecorded_segment(world: World, monkeypatch: pytest.MonkeyPatch, *, seal: bool) -> str:
    """Ship a file whose segment the catalog never learns of; with `seal`, put the file into a container."""
    world.settings = world.settings.model_copy(update={"stored": StoredSettings(any_store=True)})
    node = await world.node()

    async def away(*_: Any) -> Any:
        raise CatalogUnavailableError("away")

    with monkeypatch.context() as patched:
        patched.setattr(world.catalog, "record_log_segment", away)
        data = b"shipped"
        put = asyncio.ensure_future(
            node.put_bytes(FileSpec(durability=Durability.STORED), data, google_crc32c.value(data))
        )
        keys: list[str] = []
        for _ in range(1000):
            keys = [info.key async for info in world.store.list("_log/")]
            if keys:
                break
            world.clock.advance(0.1)
            await asyncio.sleep(0)
        [key] = keys
        if seal:
            for shard in range(2):
                await node.seal_shard(shard)
        put.cancel()
        await asyncio.gather(put, return_exceptions=True)
        await node.close()
    assert await world.catalog.log_segments() == []
    return key


async def test_nothing_is_garbage_in_a_sound_store(world: World) -> None:
    report = await (await world.collector()).collect(apply=True)
    assert (report.doomed, report.deleted, report.stayed) == ([], [], {})


async def test_a_retired_container_goes_after_its_grace_time(world: World) -> None:
    [row, *_] = await world.rows()
    claim = await world.holding()
    await world.catalog.retire_containers([row.container_id], claim(row.run))
    collector = await world.collector(claim=claim)
    assert (await collector.collect(apply=True)).deleted == []
    world.clock.advance(DAY_S + 1)
    dry = await collector.collect(apply=False)
    assert [one.key for one in dry.doomed] == [row.key]
    assert (await world.store.head(row.key)).size == row.geometry.size
    assert [one.key for one in (await collector.collect(apply=True)).deleted] == [row.key]
    gone = await world.catalog.container(row.container_id)
    assert gone is not None
    assert gone.removed_ms is not None
    assert (await fsck(world.catalog, world.store)).findings == []


async def test_an_object_whose_shards_a_node_holds_stays(world: World) -> None:
    [row, *_] = await world.rows()
    claim = await world.holding()
    await world.catalog.retire_containers([row.container_id], claim(row.run))
    world.clock.advance(DAY_S + 1)
    report = await (await world.collector(claim=lambda _: None)).collect(apply=True)
    assert report.stayed == {row.key: "another node holds its shards"}
    assert (await world.store.head(row.key)).size == row.geometry.size


async def test_an_unknown_container_goes_when_all_its_files_are_recorded_elsewhere(world: World) -> None:
    key, _ = await copied(world, epoch=0)
    collector = await world.collector()
    assert (await collector.collect(apply=True)).deleted == []
    world.clock.advance(DAY_S + 1)
    assert [one.key for one in (await collector.collect(apply=True)).deleted] == [key]
    assert (await fsck(world.catalog, world.store, depth=Depth.DATA)).findings == []


async def test_an_unknown_container_of_the_present_epoch_stays(world: World) -> None:
    key, row = await copied(world, epoch=99)
    collector = await world.collector()
    await collector.collect(apply=True)
    world.clock.advance(DAY_S + 1)
    report = await collector.collect(apply=True)
    assert report.deleted == []
    assert f"epoch 99 of shard {row.run.first}" in report.stayed[key]


async def test_an_unknown_container_with_a_file_that_is_nowhere_else_stays(world: World) -> None:
    """A catalog restored from an older copy does not know its newest containers."""
    older = MemoryCatalog(world.clock)
    await older.store_id(await world.catalog.store_id())
    for _ in range(5):  # the epochs of the restored copy have moved on
        await older.acquire_shards(range(2), holder="node", ttl_s=60, force=True)
    world.catalog = older
    world.clock.advance(DAY_S)
    collector = await world.collector()
    for _ in range(3):
        report = await collector.collect(apply=True)
        world.clock.advance(DAY_S + 1)
        assert report.deleted == []
    assert report.stayed
    assert all("is in no recorded container" in why for why in report.stayed.values())


async def test_a_segment_that_a_lost_node_never_recorded_goes_when_nobody_needs_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two sightings, a row that says so, and the grace time of every released segment."""
    key = await unrecorded_segment(world, monkeypatch, seal=True)
    collector = await world.collector()
    assert (await collector.collect(apply=True)).released == []
    world.clock.advance(DAY_S + 1)
    assert (await collector.collect(apply=False)).released == [key]
    assert await world.catalog.log_segments() == []
    report = await collector.collect(apply=True)
    assert (report.released, report.deleted) == ([key], [])
    assert [row.state for row in await world.catalog.log_segments()] == [LogSegmentState.RELEASED]
    assert (await collector.collect(apply=True)).deleted == []
    world.clock.advance(DAY_S + 1)
    assert [one.key for one in (await collector.collect(apply=True)).deleted] == [key]
    assert await world.catalog.log_segments() == []


async def test_a_segment_with_a_file_that_is_nowhere_else_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await unrecorded_segment(world, monkeypatch, seal=False)
    collector = await world.collector()
    for _ in range(3):
        report = await collector.collect(apply=True)
        world.clock.advance(2 * DAY_S)
    assert "is in no recorded container" in report.stayed[key]
    assert await world.catalog.log_segments() == []
    assert (await world.store.head(key)).size


async def test_a_segment_whose_shards_a_node_holds_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await unrecorded_segment(world, monkeypatch, seal=True)
    collector = await world.collector(claim=lambda _: None)
    for _ in range(2):
        report = await collector.collect(apply=True)
        world.clock.advance(2 * DAY_S)
    assert report.stayed == {key: "another node holds its shards"}
    assert await world.catalog.log_segments() == []


async def test_a_listing_of_another_bucket_deletes_nothing(world: World) -> None:
    [row, *_] = await world.rows()
    claim = await world.holding()
    await world.catalog.retire_containers([row.container_id], claim(row.run))
    world.clock.advance(DAY_S + 1)
    node = await world.node()
    await world.fill(node)
    await node.close()
    world.store = MemoryObjectStore(world.clock)
    with pytest.raises(GcRefusedError, match="lacks"):
        await (await world.collector()).collect(apply=True)


async def test_more_than_the_limit_deletes_nothing(world: World) -> None:
    rows = await world.rows()
    claim = await world.holding()
    for row in rows:
        await world.catalog.retire_containers([row.container_id], claim(row.run))
    world.clock.advance(DAY_S + 1)
    with pytest.raises(GcRefusedError, match="may in one run"):
        await (await world.collector(claim=claim, bytes_max=1)).collect(apply=True)
    left = {info.key async for info in world.store.list("")}
    assert {row.key for row in rows} <= left


@pytest.mark.parametrize("call", ["list", "head", "get_range", "get_tail", "delete"])
async def test_no_failed_read_ever_deletes(world: World, call: str) -> None:
    """Fail every such call from the N-th on: what goes is never more than what was proven."""
    key, _row = await copied(world, epoch=0)
    claim = await world.holding()
    collector = await world.collector(claim=claim)
    await collector.collect(apply=False)
    world.clock.advance(DAY_S + 1)
    before = {info.key async for info in world.store.list("")}
    for after in itertools.count():
        failing = await world.collector(claim=claim)
        failing._store = Failing(world.store, of={call}, after=after)
        try:
            report = await failing.collect(apply=True)
        except ObjectStoreUnavailableError:
            assert {info.key async for info in world.store.list("")} == before
            continue
        left = {info.key async for info in world.store.list("")}
        assert before - left in ({key}, set())
        if report.deleted:
            return
        assert call != "list"


async def test_what_is_made_while_the_listing_runs_is_not_missing(world: World) -> None:
    """Else a store that is written to would never be collected."""
    world.settings = world.settings.model_copy(update={"stored": StoredSettings(any_store=True)})
    node = await world.node()
    real, tool = world.store, await world.collector(claim=lambda _: None)

    class Late:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        async def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
            async for info in real.list(prefix, start_after=start_after):
                yield info
            await world.fill(node)
            spec = FileSpec(durability=Durability.STORED)
            await node.put_bytes(spec, b"shipped", google_crc32c.value(b"shipped"))

    tool._store = Late()  # type: ignore[assignment]
    report = await tool.collect(apply=True)
    assert report.deleted == []
    checked = await fsck(world.catalog, Late())  # type: ignore[arg-type]
    assert checked.findings == []
    await node.close()
