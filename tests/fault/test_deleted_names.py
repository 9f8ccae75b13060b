"""Deleted files stay deleted when the catalog is lost: the object store has copies of the tombstones (I6)."""

import asyncio
from pathlib import Path
from typing import Any

import google_crc32c
import pytest

from des.config import load_settings
from des.db.rows import Tombstone
from des.errors import CorruptError
from des.files import FileInfo, FileSpec, FileState
from des.node import Node
from des.node.deletions import COPY_AFTER_S
from des.packer.deleted_names import DELETED_FOLDER, decode_deleted, encode_deleted, read_deleted
from des.retrieval.tombstones import FileDeletedError
from des.storage.memory import MemoryObjectStore
from des.storage.object_store import ObjectInfo, ObjectStoreUnavailableError
from des.testing.memory_catalog import MemoryCatalog
from des.upkeep import Depth, GarbageCollector, fsck, rebuild_catalog
from tests.fault.simulated_world import SimulatedWorld

TOMBSTONES = [
    Tombstone(
        name=f"DES_20261124_({number:012X}_00)",
        day="20261124",
        shard=number % 2,
        bits=1,
        epoch=3,
        external_key=f"20261124/0/_bigFiles/{number}" if number % 3 == 0 else "",
        deleted_ms=1_795_000_000_000 + number,
    )
    for number in range(300)
]


class StoreWithoutCopies(MemoryObjectStore):
    """Does not answer to copies of tombstones while `away`."""

    away = False

    async def create(self, key: str, body: Any, *, metadata: Any) -> ObjectInfo:
        if self.away and DELETED_FOLDER in key:
            raise ObjectStoreUnavailableError("away", key=key)
        return await super().create(key, body, metadata=metadata)


class World(SimulatedWorld):
    def __init__(self, folder: Path) -> None:
        super().__init__(
            load_settings(data_dir=folder, shard_bits=1, big_file_bytes=1 << 20, seal={"useful_bytes": 0})
        )
        self.store = StoreWithoutCopies(self.clock)

    async def copies(self) -> list[ObjectInfo]:
        return [info async for info in self.store.list(f"{DELETED_FOLDER}/")]

    async def copied_names(self) -> set[str]:
        return {one.name for info in await self.copies() for one in await read_deleted(self.store, info)}

    async def lose_the_catalog(self) -> Any:
        self.catalog = MemoryCatalog(self.clock)
        return await rebuild_catalog(self.catalog, self.store, holder="tool")

    async def collect(self) -> Any:
        collector = GarbageCollector(
            catalog=self.catalog,
            store=self.store,
            clock=self.clock,
            claim=lambda _: None,
            shard_bits=1,
            random_bytes=self.rng.randbytes,
        )
        return await collector.collect(apply=True)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def put(node: Node, data: bytes) -> str:
    return (await node.put_bytes(FileSpec(), data, google_crc32c.value(data))).file.name


async def delete(node: Node, *names: str) -> None:
    for found in await node.delete_many(names, allow_missing=False):
        assert isinstance(found, FileInfo)
        assert found.state is FileState.DELETED


async def seal(node: Node) -> None:
    for shard in range(2):
        await node.seal_shard(shard)


async def check_deleted(world: World, deleted: list[str], kept: list[str]) -> None:
    node = await world.node()
    for name in deleted:
        with pytest.raises(FileDeletedError):
            await node.open_file(name)
    for name in kept:
        assert await (await node.open_file(name)).read_whole() == b"kept"
    await node.close()


async def test_what_was_deleted_stays_deleted_when_the_catalog_is_rebuilt(world: World) -> None:
    """Files of containers, open files, and a big file whose object the tombstone owns."""
    node = await world.node()
    sealed, kept = [await put(node, b"sealed %d" % n) for n in range(4)], await put(node, b"kept")
    upload = await node.begin_put(FileSpec())
    await upload.write(bytes((1 << 20) + 1))
    big = (await upload.finish(None)).file.name
    await seal(node)
    opened = await put(node, b"open")
    await delete(node, *sealed, big)
    await delete(node, opened)
    await node.close()
    before = await world.catalog.tombstones()
    assert len(before) == 6
    report = await world.lose_the_catalog()
    assert (report.tombstones, report.refused) == (6, {})
    after = await world.catalog.tombstones()
    assert [timeless(one) for one in before] == [timeless(one) for one in after]
    assert {one.external_key for one in after if one.name == big} != {""}
    await check_deleted(world, [*sealed, big, opened], [kept])
    findings = await fsck(world.catalog, world.store, depth=Depth.STRUCTURE)
    assert [finding for finding in findings.findings if finding.kind.value == "foreign"] == []


def timeless(one: Tombstone) -> tuple[Any, ...]:
    return (one.name, one.day, one.shard, one.bits, one.epoch, one.external_key)


async def test_until_the_copy_is_written_the_log_remembers(world: World) -> None:
    """The catalog is lost, the bucket knows nothing, and the node's own log still does."""
    node = await world.node()
    name, kept = await put(node, b"sealed"), await put(node, b"kept")
    await seal(node)
    world.store.away = True
    await delete(node, name)
    await node.close()
    assert await world.copies() == []
    report = await world.lose_the_catalog()
    assert report.tombstones == 0
    await check_deleted(world, [name], [kept])
    world.store.away = False
    await check_deleted(world, [name], [kept])
    assert await world.copied_names() == {name}


async def test_a_copy_is_written_after_a_while_and_holds_many(world: World) -> None:
    node = await world.node()
    names = [await put(node, b"%d" % number) for number in range(20)]
    for name in names:
        await delete(node, name)
    assert await world.copies() == []
    for _ in range(1000):
        if await world.copies():
            break
        world.clock.advance(COPY_AFTER_S / 100)
        await asyncio.sleep(0)
    assert await world.copied_names() == set(names)
    assert len(await world.copies()) == 1
    await node.close()
    assert len(await world.copies()) == 1


async def test_collection_copies_what_lost_nodes_did_not(world: World) -> None:
    node = await world.node()
    names = [await put(node, b"%d" % number) for number in range(5)]
    world.store.away = True
    await delete(node, *names)
    await node.close()
    world.store.away = False
    assert (await world.collect()).copied == 5
    assert (await world.collect()).copied == 0
    assert await world.copied_names() == set(names)
    assert (await world.lose_the_catalog()).tombstones == 5


async def test_a_damaged_copy_is_said_and_made_again(world: World) -> None:
    node = await world.node()
    name = await put(node, b"x")
    await delete(node, name)
    await node.close()
    [info] = await world.copies()
    data = await world.store.get_range(info.key, 0, info.size)
    await world.store.delete(info.key)
    world.store.put(info.key, data[:-1], {})
    report = await rebuild_catalog(world.catalog, world.store, holder="tool")
    assert list(report.refused) == [info.key]
    assert (await world.collect()).copied == 1
    assert (await world.lose_the_catalog()).tombstones == 1


def test_a_copy_reads_back() -> None:
    assert decode_deleted(encode_deleted(TOMBSTONES)) == TOMBSTONES
    assert decode_deleted(encode_deleted([])) == []


def test_damage_to_a_copy_is_found() -> None:
    data = encode_deleted(TOMBSTONES)
    damaged = [data[:size] for size in (0, 7, 8, 20, len(data) - 1)]
    for place in range(0, len(data), 7):
        damaged.append(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    for one in damaged:
        try:
            assert decode_deleted(one) == TOMBSTONES  # a bit of zstd's header that says nothing
        except CorruptError:
            continue
