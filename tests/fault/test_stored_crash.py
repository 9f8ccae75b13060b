"""What was acknowledged as stored survives the loss of its node, whatever failed on the way (I1, I3, I9).

The real node runs over simulated doors. The N-th call through the doors to catalog and object store
fails, before or after its effect, for every N until the puts get through unhurt. Then the node is gone,
with its disk or without, and another start has to have every file that was acknowledged.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

import google_crc32c
import pytest

from des.config import load_settings
from des.core import S3DesReader
from des.db.catalog import CatalogUnavailableError, ContainerState, FencedError
from des.db.rows import LogSegmentState, Tombstone
from des.errors import DesError, DisabledError, NotFoundError, UnavailableError
from des.files import Durability, FileInfo, FileSpec, FileState
from des.ingest import shipped
from des.node import Node
from des.packer.log_shipper import LogShipper, NotStoredYetError
from des.packer.shipments import Shipments
from des.packer.shipped_log import Replay
from des.storage.object_store import ObjectStoreUnavailableError
from des.testing.memory_catalog import MemoryCatalog
from des.testing.simulated_disk import SimulatedDisk
from des.upkeep import rebuild_catalog
from tests.fault.simulated_world import Crash, SimulatedWorld, Trap

CALLS_MAX = 60
STORE_CALLS = {"create", "head", "get_range", "delete"}
CATALOG_CALLS = {"record_log_segment", "log_segments", "release_log_segments", "drop_log_segments"}
SHARDS = 4
STORED = Durability.STORED


class World(SimulatedWorld):
    trapped: ClassVar = {"catalog": CATALOG_CALLS, "store": STORE_CALLS}

    def __init__(self, data_dir: Path, **settings: Any) -> None:
        super().__init__(
            load_settings(
                data_dir=data_dir,
                shard_bits=2,
                big_file_bytes=3 << 20,
                seal={"retry_s": 0},
                log={"segment_bytes": 4 << 20, "reclaim_delay_s": 100},
                stored={"any_store": True, "retry_s": 0, "wait_s": 60, **settings},
            )
        )
        self.whole_nodes: set[str] = set()
        """Nodes that had their disks to the end: they leave no object behind."""

    async def node(self, trap: Trap | None = None) -> Node:
        node = await super().node(trap)
        self.whole_nodes.add(node.node_uuid)
        return node

    async def lose(self, node: Node) -> None:
        """Cut the power, and lose the disk with it."""
        await self.power_cut(node)
        self.disk = SimulatedDisk(random.Random(8))

    async def objects(self, part: str) -> list[str]:
        return [info.key async for info in self.store.list("") if part in info.key]


def unavailable(door: str) -> BaseException:
    return {
        "catalog": CatalogUnavailableError("no answer"),
        "store": ObjectStoreUnavailableError("no answer"),
    }[door]


def contents() -> list[bytes]:
    rng = random.Random(3)
    sizes = [0, 1, 5000, 900, 70_000, 64, (1 << 20) + 5, (3 << 20) + 1]
    return [b"again" * 1000 if size == 5000 else rng.randbytes(size) for size in sizes]


async def put(node: Node, data: bytes, *, durability: Durability | None = STORED) -> FileInfo:
    spec = FileSpec(
        content_type="x/y", metadata={"n": str(len(data))}, request_id=f"r{len(data)}", durability=durability
    )
    result = await node.put_bytes(spec, data, google_crc32c.value(data))
    assert durability is None or result.durability is durability
    return result.file


async def put_all(node: Node) -> tuple[dict[str, bytes], list[BaseException]]:
    """Put many at once; those acknowledged, and how the others ended."""
    outcomes = await asyncio.gather(*(put(node, data) for data in contents()), return_exceptions=True)
    acknowledged: dict[str, bytes] = {}
    failed: list[BaseException] = []
    for data, outcome in zip(contents(), outcomes, strict=True):
        if isinstance(outcome, BaseException):
            failed.append(outcome)
        else:
            acknowledged[outcome.name] = data
    return acknowledged, failed


async def read_back(node: Node, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        assert await (await node.open_file(name)).read_whole() == data
        info = await node.stat(name)
        assert (info.crc32c, info.content_type) == (google_crc32c.value(data), "x/y")
        assert info.metadata == {"n": str(len(data))}


async def names_in_live_containers(world: World) -> Counter[str]:
    names: Counter[str] = Counter()
    for row in await world.catalog.containers(state=ContainerState.STORED):
        reader = S3DesReader(world.store, row.key, etag=row.etag)
        await reader.open()
        names.update(entry.name for entry in await reader.get_index())
    return names


async def drain(node: Node) -> None:
    for shard in range(SHARDS):
        await node.seal_shard(shard)
    assert all(status.open_files == 0 for status in await node.shard_status(None))


async def let_go(world: World, node: Node) -> None:
    """Let the log give up what is in containers, and the shipper what it shipped of it."""
    await node._parts.shipped_log.step()
    for _ in range(2):
        world.clock.advance(world.settings.log.reclaim_delay_s + 1)
        await node._packer.step()
        await node._parts.shipper.clean()
    world.clock.advance(world.settings.log.reclaim_delay_s + 1)
    await node._parts.shipper.clean()


async def settled(world: World, node: Node, files: dict[str, bytes]) -> None:
    """All of `files` are there; sealed, each once; and nothing shipped is left over in the end."""
    await read_back(node, files)
    await drain(node)
    await read_back(node, files)
    names = await names_in_live_containers(world)
    assert set(files) <= set(names)
    assert set(names.values()) <= {1}
    await let_go(world, node)
    assert await world.catalog.log_segments() == []
    own = f"_log/{node.node_uuid}/"
    assert [key for key in await world.objects(own) if node.node_uuid in world.whole_nodes] == []
    await read_back(node, files)
    await node.close()


@pytest.mark.parametrize("disk_lost", [True, False])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_at_any_call_of_shipping_loses_nothing_acknowledged(
    tmp_path: Path, when: str, *, disk_lost: bool
) -> None:
    for number in range(1, CALLS_MAX):
        world = World(tmp_path, object_bytes=64 << 10)
        trap = Trap(number, when, lambda _: Crash())
        trap.armed = False
        node = await world.node(trap)
        trap.armed = True
        files, failed = await put_all(node)
        assert bool(failed) == trap.sprung or files
        await (world.lose(node) if disk_lost else world.power_cut(node))
        await settled(world, await world.node(), files)
        if not trap.sprung:
            assert len(files) == len(contents())
            assert number > 6
            return
    pytest.fail(f"still hurt at call {CALLS_MAX}")


@pytest.mark.parametrize("when", ["before", "after", "late"])
async def test_a_call_that_is_not_answered_only_delays(tmp_path: Path, when: str) -> None:
    for number in range(1, CALLS_MAX):
        world = World(tmp_path, object_bytes=64 << 10)
        trap = Trap(number, when, unavailable)
        trap.armed = False
        node = await world.node(trap)
        trap.armed = True
        files, failed = await put_all(node)
        assert failed == []
        trap.armed = False
        if number % 2:
            await world.lose(node)
            node = await world.node()
        await settled(world, node, files)
        if not trap.sprung:
            return
    pytest.fail(f"still hurt at call {CALLS_MAX}")


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_at_any_call_of_a_take_over_changes_nothing(tmp_path: Path, when: str) -> None:
    for number in range(1, CALLS_MAX):
        world = World(tmp_path, object_bytes=64 << 10)
        node = await world.node()
        files, failed = await put_all(node)
        assert failed == []
        await world.lose(node)
        trap = Trap(number, when, lambda _: Crash())
        try:
            node = await world.node(trap)
            await drain(node)
            await let_go(world, node)
        except (Crash, DesError):
            pass
        world.disk.crash()
        await settled(world, await world.node(), files)
        if not trap.sprung:
            assert number > 6
            return
    pytest.fail(f"still hurt at call {CALLS_MAX}")


async def test_a_store_that_is_down_means_the_truth_and_no_loss(tmp_path: Path) -> None:
    world = World(tmp_path, wait_s=0.05, retry_s=1)
    down = Trap(1, "before", unavailable)

    class Down:
        def __getattr__(self, name: str) -> Any:
            if name in {"create", "head"} and down.armed:
                raise ObjectStoreUnavailableError("connection refused")
            return getattr(store, name)

    store, world.store = world.store, Down()  # type: ignore[assignment]
    down.armed = False
    node = await world.node()
    down.armed = True
    with pytest.raises(NotStoredYetError, match="on this node's disk") as caught:
        await put(node, b"waiting")
    assert caught.value.details["durability"] == "local"
    result = await node.put_bytes(FileSpec(request_id="r7"), b"waiting", google_crc32c.value(b"waiting"))
    assert (result.already_existed, result.durability) == (True, Durability.LOCAL)
    (waited,) = await node.wait_stored([result.file.name])
    assert isinstance(waited, NotStoredYetError)
    assert (await put(node, b"not asked", durability=Durability.LOCAL)).state is FileState.OPEN
    down.armed = False
    again = None
    async with asyncio.timeout(60):
        while again is None:
            world.clock.advance(2)
            with contextlib.suppress(NotStoredYetError):
                again = await put(node, b"waiting")
    assert again.name == result.file.name
    await world.lose(node)
    world.store = store
    node = await world.node()
    assert await (await node.open_file(again.name)).read_whole() == b"waiting"
    await node.close()


async def test_only_what_asked_for_it_is_shipped(tmp_path: Path) -> None:
    world = World(tmp_path)
    node = await world.node()
    await put(node, b"local", durability=Durability.LOCAL)
    await put(node, b"by default", durability=None)
    assert await world.objects("_log/") == []
    stored = await put(node, b"stored")
    assert len(await world.objects("_log/")) == 1
    (row,) = await world.catalog.log_segments()
    assert (row.file_count, row.shards, row.days) == (1, (stored.shard,), (stored.day,))
    assert row.first_seq == row.last_seq
    await put(node, b"stored")
    assert len(await world.objects("_log/")) == 1
    await node.close()


async def test_a_local_write_is_stored_later_when_somebody_waits(tmp_path: Path) -> None:
    world = World(tmp_path)
    node = await world.node()
    names = [(await put(node, b"x" * n, durability=Durability.LOCAL)).name for n in range(5)]
    absent = "DES_20260228_(A18B83E80000_97)"
    waited = await node.wait_stored([*names, absent, names[0]])
    assert [info.name for info in waited if isinstance(info, FileInfo)] == [*names, names[0]]
    assert isinstance(waited[5], NotFoundError)
    assert len(await world.objects("_log/")) == 1
    await drain(node)
    (info,) = await node.wait_stored(names[:1])
    assert isinstance(info, FileInfo)
    assert info.state is FileState.STORED
    await world.lose(node)
    node = await world.node()
    await read_back(node, {name: b"x" * n for n, name in enumerate(names)})
    await node.close()


async def test_many_waiting_puts_share_an_object(tmp_path: Path) -> None:
    world = World(tmp_path, uploads=1)
    node = await world.node()
    await asyncio.gather(*(put(node, b"x" * n) for n in range(200)))
    assert len(await world.objects("_log/")) <= 5
    await node.close()


async def test_the_default_durability_is_a_setting(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.settings = world.settings.model_copy(update={"durability": "stored"})
    node = await world.node()
    result = await node.put_bytes(FileSpec(), b"x", google_crc32c.value(b"x"))
    assert result.durability is Durability.STORED
    assert (await put(node, b"y", durability=Durability.LOCAL)).state is FileState.OPEN
    assert len(await world.objects("_log/")) == 1
    await node.close()


async def test_a_store_on_the_nodes_own_disk_promises_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, any_store=False)
    node = await world.node()
    for call in (
        put(node, b"x"),
        node.begin_put(FileSpec(durability=STORED)),
        node.wait_stored(["DES_20260228_(000000000000_00)"]),
    ):
        with pytest.raises(DisabledError, match="own disk"):
            await call
    assert (await node.shard_status(None))[0].open_files == 0
    await node.close()


async def test_a_node_that_lost_a_shard_does_not_vouch_for_its_files(tmp_path: Path) -> None:
    world = World(tmp_path)
    node = await world.node()
    lost = (await put(node, b"before")).shard
    before = await world.catalog.log_segments()
    await world.catalog.acquire_shards([lost], holder="another", ttl_s=60, force=True)
    outcomes = await asyncio.gather(*(put(node, b"x" * n) for n in range(10, 70)), return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    stored = [outcome for outcome in outcomes if isinstance(outcome, FileInfo)]
    assert refused
    assert {type(error) for error in refused} == {FencedError}
    assert len(stored) > 20
    assert lost not in {info.shard for info in stored}
    rows = [row for row in await world.catalog.log_segments() if row not in before]
    assert rows
    assert all(lost not in row.shards for row in rows)
    for task in node._background._tasks:
        task.cancel()


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


async def test_segments_go_after_their_files_are_in_containers_and_not_sooner(tmp_path: Path) -> None:
    world = World(tmp_path)
    node = await world.node()
    files, _ = await put_all(node)
    await node._parts.shipper.clean()
    assert {row.state for row in await world.catalog.log_segments()} == {LogSegmentState.HELD}
    await drain(node)
    await node._packer.step()
    await node._parts.shipper.clean()
    assert {row.state for row in await world.catalog.log_segments()} == {LogSegmentState.HELD}
    world.clock.advance(101)
    await node._packer.step()
    await node._parts.shipper.clean()
    assert {row.state for row in await world.catalog.log_segments()} == {LogSegmentState.RELEASED}
    assert await world.objects("_log/")
    world.clock.advance(101)
    await node._parts.shipper.clean()
    assert await world.catalog.log_segments() == []
    assert await world.objects("_log/") == []
    await read_back(node, files)
    await node.close()


async def test_segments_that_wait_for_a_seal_are_bounded(tmp_path: Path) -> None:
    world = World(tmp_path, segments_max=8)
    node = await world.node()
    files: dict[str, bytes] = {}
    for number in range(40):
        data = b"x" * number
        files[(await put(node, data)).name] = data
        await node._packer.step()
        assert node._parts.shipper.shipments.unsealed_count() <= 7
    assert len(await world.catalog.log_segments(state=LogSegmentState.HELD)) == 40
    assert 4 <= len(await world.catalog.containers(state=ContainerState.STORED)) <= 20
    await settled(world, node, files)


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


# --- these tests can fail ------------------------------------------------------------------------


def acknowledge_before_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: an object without a row is taken for stored."""
    original = LogShipper._record

    async def record(self: Any, segment: Any, info: Any) -> None:
        for file in segment.files:
            self._resolve(file, None)
        await asyncio.sleep(0)
        await original(self, segment, info)

    monkeypatch.setattr(LogShipper, "_record", record)


def acknowledge_before_the_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: the local disk is taken for the object store."""

    async def wait(self: Any, files: Any) -> Any:
        for file in files:
            self._enqueue(file)
        return [None] * len(files)

    monkeypatch.setattr(LogShipper, "wait_stored", wait)


def release_what_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: a segment counts as needed by nobody."""

    def due(self: Any) -> Any:
        return [(shipment.row, list(shipment.row.shards)) for shipment in self._known.values()]

    monkeypatch.setattr(Shipments, "due", due)


def ship_the_first_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: of the files that wait together one is in the object."""

    def encode(files: Any, **place: Any) -> bytes:
        return shipped.encode_shipped(files[:1], **place)

    monkeypatch.setattr("des.packer.log_shipper.encode_shipped", encode)


def replay_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: the next owner starts without what was shipped."""

    async def take_over(self: Any, shards: Any) -> Any:
        return Replay()

    monkeypatch.setattr("des.packer.shipped_log.ShippedLog.take_over", take_over)


@pytest.mark.parametrize(
    "mutant",
    [
        acknowledge_before_the_row,
        acknowledge_before_the_object,
        release_what_is_open,
        ship_the_first_only,
        replay_nothing,
    ],
)
async def test_these_tests_catch_shipping_that_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutant: Callable[[pytest.MonkeyPatch], None]
) -> None:
    mutant(monkeypatch)
    scenarios: list[Callable[[], Awaitable[None]]] = [
        lambda: test_a_crash_at_any_call_of_shipping_loses_nothing_acknowledged(
            tmp_path, "before", disk_lost=True
        ),
        lambda: test_segments_go_after_their_files_are_in_containers_and_not_sooner(tmp_path),
    ]
    caught = 0
    for scenario in scenarios:
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await scenario()
        except (AssertionError, DesError, KeyError, ValueError, pytest.fail.Exception):
            caught += 1
    assert caught
