"""Looking after a real store: what is damaged is found, what is nobody's goes, and no failed read deletes.

The real node makes the containers; stores and catalogs then lose, change or withhold things.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import google_crc32c
import pytest

from des.config import StoredSettings, load_settings
from des.db.catalog import CatalogUnavailableError, ContainerState, ShardClaim
from des.db.rows import LogSegmentState
from des.files import Durability, FileSpec
from des.node import Node
from des.packer.object_metadata import EPOCH
from des.storage.identity import WrongStoreError
from des.storage.memory import MemoryObjectStore
from des.storage.object_store import ObjectInfo, ObjectStoreUnavailableError
from des.testing.memory_catalog import MemoryCatalog
from des.upkeep import Depth, GarbageCollector, GcLimits, GcRefusedError, fsck, rebuild_catalog
from des.upkeep.fsck import Kind
from des.upkeep.rebuild_catalog import ShardsHeldError
from des.upkeep.unfinished import Debt, recover
from tests.fault.simulated_world import SimulatedWorld

DAY_S = 24 * 3600


class World(SimulatedWorld):
    def __init__(self, tmp_path: Path) -> None:
        super().__init__(
            load_settings(data_dir=tmp_path, shard_bits=1, big_file_bytes=1 << 20, seal={"useful_bytes": 0})
        )
        self.files: dict[str, bytes] = {}

    async def fill(self, node: Node, count: int = 20) -> None:
        for number in range(count):
            data = self.rng.randbytes(number * 100)
            result = await node.put_bytes(FileSpec(), data, google_crc32c.value(data))
            self.files[result.file.name] = data
        for shard in range(2):
            await node.seal_shard(shard)

    async def put_big(self, node: Node) -> str:
        upload = await node.begin_put(FileSpec())
        await upload.write(bytes(1 << 20))
        await upload.write(b"and one more")
        name = (await upload.finish(None)).file.name
        for shard in range(2):
            await node.seal_shard(shard)
        return name

    async def rows(self, state: ContainerState = ContainerState.STORED) -> list[Any]:
        return await self.catalog.containers(state=state)

    async def holding(self) -> Any:
        """Take the shards as a tool does, once no node holds them."""
        locks = await self.catalog.acquire_shards(range(2), holder="tool", ttl_s=60)
        epochs = {lock.shard: lock.epoch for lock in locks}

        def claim(run: Any) -> ShardClaim | None:
            covered = range(run.first, run.first + run.span)
            if not set(covered) <= epochs.keys():
                return None
            return ShardClaim("tool", [(shard, epochs[shard]) for shard in covered])

        return claim

    async def collector(self, *, claim: Any = None, **limits: Any) -> GarbageCollector:
        return GarbageCollector(
            catalog=self.catalog,
            store=self.store,
            clock=self.clock,
            claim=claim or await self.holding(),
            shard_bits=1,
            limits=GcLimits(**limits),
        )

    async def replace_object(self, key: str, change: Any) -> None:
        info = await self.store.head(key)
        data = await self.store.get_range(key, 0, info.size)
        await self.store.delete(key)
        self.store._objects[key] = replace_data(self.store, key, change(data), info)


def replace_data(store: MemoryObjectStore, key: str, data: bytes, info: ObjectInfo) -> Any:
    """Put other bytes under the same etag: what a medium does that rots."""
    store.put(key, data, info.metadata)
    kept = store._objects[key]
    return replace(kept, info=replace(kept.info, etag=info.etag))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    node = await world.node()
    await world.fill(node)
    await node.close()
    return world


class Failing:
    """An object store of which some calls do not get an answer, after so many that do."""

    def __init__(self, store: Any, *, of: set[str], after: int = 0) -> None:
        self._store = store
        self._of = of
        self._left = after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in self._of:
            return method
        if name == "list":
            return self._list

        async def call(*args: Any, **kwargs: Any) -> Any:
            self._meet()
            return await method(*args, **kwargs)

        return call

    async def _list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        async for info in self._store.list(prefix):
            self._meet()
            yield info

    def _meet(self) -> None:
        if self._left == 0:
            raise ObjectStoreUnavailableError("503 Slow Down")
        self._left -= 1


# --- fsck -----------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", list(Depth))
async def test_a_sound_store_has_no_findings(world: World, depth: Depth) -> None:
    report = await fsck(world.catalog, world.store, depth=depth)
    assert report.findings == []
    assert report.files == len(world.files)


async def test_a_missing_object_is_missing_and_a_store_that_does_not_answer_is_undecided(
    world: World,
) -> None:
    [row, *_] = await world.rows()
    down = await fsck(world.catalog, Failing(world.store, of={"head", "get_range", "get_tail"}))
    assert {one.kind for one in down.findings} == {Kind.UNDECIDED}
    await world.store.delete(row.key)
    gone = await fsck(world.catalog, world.store)
    assert [(one.kind, one.key) for one in gone.findings] == [(Kind.MISSING, row.key)]


async def test_a_flipped_byte_of_a_file_is_found_by_reading_all(world: World) -> None:
    [row, *_] = await world.rows()
    place = row.geometry.data_start + row.geometry.data_length - 1
    await world.replace_object(
        row.key, lambda data: data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    )
    assert (await fsck(world.catalog, world.store)).findings == []
    report = await fsck(world.catalog, world.store, depth=Depth.DATA)
    assert [(one.kind, one.key) for one in report.findings] == [(Kind.CORRUPT, row.key)]


@pytest.mark.parametrize("changes", [{"name_first": "DES_"}, {"name_last": "DES_"}])
async def test_a_row_whose_first_or_last_name_is_another_is_found(
    world: World, changes: dict[str, str]
) -> None:
    """Listings go by them: files outside would not be listed."""
    [row, *_] = await world.rows()
    world.catalog._containers[row.container_id] = replace(row, **changes)  # type: ignore[arg-type]
    report = await fsck(world.catalog, world.store)
    assert [(one.kind, one.key) for one in report.findings] == [(Kind.CORRUPT, row.key)]
    assert "'DES_'" in report.findings[0].detail
    world.catalog._containers[row.container_id] = replace(row, name_first="", name_last="")
    assert (await fsck(world.catalog, world.store)).findings == []


async def test_parts_of_a_subset_make_the_whole(world: World) -> None:
    node = await world.node()
    for _ in range(4):
        await world.fill(node, 5)
    await node.close()
    whole = await fsck(world.catalog, world.store)
    parts = [await fsck(world.catalog, world.store, depth=Depth.DATA, subset=(n, 3)) for n in (1, 2, 3)]
    assert whole.containers == sum(part.containers for part in parts)


async def test_a_container_recorded_twice_doubles_its_files(world: World) -> None:
    [row, *_] = await world.rows()
    data = await world.store.get_range(row.key, 0, row.geometry.size)
    copy = replace(
        row,
        container_id="0193a000-0000-7000-8000-0000000000ff",
        key=row.key.replace(row.container_id, "0193a000-0000-7000-8000-0000000000ff"),
    )
    info = world.store.put(copy.key, data, {})
    claim = await world.holding()
    await world.catalog.announce_container(
        replace(copy, state=ContainerState.UPLOADING, etag=""), claim(row.run)
    )
    await world.catalog.commit_container(copy.container_id, etag=info.etag, claim=claim(row.run))
    report = await fsck(world.catalog, world.store)
    assert {one.kind for one in report.findings} == {Kind.DOUBLED}
    assert len(report.findings) == row.geometry.file_count


async def test_a_big_file_without_its_object_dangles_and_one_without_an_entry_is_a_note(world: World) -> None:
    node = await world.node()
    name = await world.put_big(node)
    await node.close()
    assert (await fsck(world.catalog, world.store)).findings == []
    [key] = [info.key async for info in world.store.list("") if "_bigFiles" in info.key]
    other = f"20260228/0/_bigFiles/{name}.ffffffff"
    world.store.put(other, b"left over", {})
    await world.store.delete(key)
    report = await fsck(world.catalog, world.store)
    assert [(one.kind, one.key) for one in report.findings] == [
        (Kind.DANGLING, key),
        (Kind.UNNAMED, other),
    ]
    assert [one.kind for one in report.problems] == [Kind.DANGLING]


# --- gc -------------------------------------------------------------------------------------


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


async def copied(world: World, *, epoch: int) -> tuple[str, Any]:
    """Lay a recorded container beside itself, as a writer of an earlier epoch may have."""
    [row, *_] = await world.rows()
    info = await world.store.head(row.key)
    data = await world.store.get_range(row.key, 0, info.size)
    # The id's time is before the simulated now.
    key = row.key.replace(row.container_id, "0193a000-0000-7000-8000-0000000000ff")
    world.store.put(key, data, {**info.metadata, EPOCH: str(epoch)})
    return key, row


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


# --- rebuild --------------------------------------------------------------------------------


def timeless(rows: list[Any]) -> list[Any]:
    return [replace(row, created_ms=0, stored_ms=None) for row in rows]


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


# --- recover --------------------------------------------------------------------------------


async def left_unfinished(world: World) -> Any:
    """A node that is gone after its upload and before its commit; its disk is gone too."""
    [row, *_] = await world.rows()
    unfinished = replace(row, state=ContainerState.UPLOADING, etag="", stored_ms=None)
    world.catalog._containers[row.container_id] = unfinished
    return row


async def test_a_whole_container_of_a_lost_node_is_adopted(world: World) -> None:
    row = await left_unfinished(world)
    claim = await world.holding()
    looked = await recover(world.catalog, world.store, claim=claim, apply=False)
    assert [one.debt for one in looked.unfinished] == [Debt.ADOPT]
    assert looked.adopted == []
    done = await recover(world.catalog, world.store, claim=claim, apply=True)
    assert [one.container_id for one in done.adopted] == [row.container_id]
    assert timeless([row]) == timeless([await world.catalog.container(row.container_id)])
    assert (await fsck(world.catalog, world.store)).findings == []


@pytest.mark.parametrize(
    ("change", "debt"),
    [
        (lambda world, row: world.store.delete(row.key), Debt.REPEAT),
        (lambda world, row: world.replace_object(row.key, lambda data: data[:-1]), Debt.DAMAGED),
        (lambda world, row: world.replace_object(row.key, lambda data: b"?" + data[1:]), Debt.DAMAGED),
    ],
)
async def test_what_is_not_whole_is_left_alone(world: World, change: Any, debt: Debt) -> None:
    row = await left_unfinished(world)
    await change(world, row)
    before = {info.key async for info in world.store.list("")}
    done = await recover(world.catalog, world.store, claim=await world.holding(), apply=True)
    assert ([one.debt for one in done.unfinished], done.adopted) == ([debt], [])
    assert {info.key async for info in world.store.list("")} == before


async def test_an_object_that_cannot_be_read_is_undecided(world: World) -> None:
    await left_unfinished(world)
    failing = Failing(world.store, of={"head", "get_range", "get_tail"})
    done = await recover(world.catalog, failing, claim=await world.holding(), apply=True)
    assert ([one.debt for one in done.unfinished], done.adopted) == ([Debt.UNDECIDED], [])


async def test_a_container_whose_shards_a_node_holds_is_left_to_it(world: World) -> None:
    row = await left_unfinished(world)
    done = await recover(world.catalog, world.store, claim=lambda _: None, apply=True)
    assert done.adopted == []
    assert "another node" in done.stayed[row.key]
