"""Which files are shipped, how many objects that takes, and what that promises."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import google_crc32c
import pytest

from des.db.catalog import ContainerState, FencedError
from des.db.rows import LogSegmentState
from des.errors import DisabledError, NotFoundError
from des.files import Durability, FileInfo, FileSpec, FileState
from des.ingest.errors import LogReadError
from des.packer.log_shipper import NotStoredYetError
from des.storage.object_store import ObjectStoreUnavailableError
from tests.fault.simulated_world import Trap
from tests.fault.stored_world import (
    STORED,
    World,
    drain,
    put,
    read_back,
    settled,
    unavailable,
)


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


async def test_a_record_that_cannot_be_read_for_now_holds_no_other_back(tmp_path: Path) -> None:
    world = World(tmp_path, uploads=1, wait_s=20)
    node = await world.node()
    files = [await put(node, b"x" * n, durability=Durability.LOCAL) for n in range(1, 6)]
    shipper = node._parts.shipper
    log, read = shipper._log, shipper._log.read
    is_failing, healed = asyncio.Event(), asyncio.Event()

    async def unless_failing(extent: Any) -> bytes:
        if not healed.is_set() and extent.length == files[2].size:
            is_failing.set()
            raise LogReadError("segment 1 could not be read: Input/output error")
        return await read(extent)

    class Log:
        read = staticmethod(unless_failing)

        def __getattr__(self, name: str) -> Any:
            return getattr(log, name)

    shipper._log = Log()  # type: ignore[assignment]
    waiting = asyncio.create_task(node.wait_stored([file.name for file in files]))
    await is_failing.wait()
    others = await node.wait_stored([file.name for file in files if file is not files[2]])
    assert [outcome for outcome in others if isinstance(outcome, Exception)] == []
    healed.set()
    assert [outcome for outcome in await waiting if isinstance(outcome, Exception)] == []
    rows = await world.catalog.log_segments()
    assert sum(row.file_count for row in rows) == len(files)
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
    for task in node._background.tasks:
        task.cancel()


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
