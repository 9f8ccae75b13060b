"""A node that stores files without a seal over simulated doors, and how it is lost."""

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import google_crc32c

from des.config import load_settings
from des.core import S3DesReader
from des.db.catalog import CatalogUnavailableError, ContainerState
from des.files import Durability, FileInfo, FileSpec
from des.node import Node
from des.storage.object_store import ObjectStoreUnavailableError
from des.testing.simulated_disk import SimulatedDisk
from tests.fault.simulated_world import SimulatedWorld, Trap

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
