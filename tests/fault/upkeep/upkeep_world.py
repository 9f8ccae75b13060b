"""A store that a real node has filled, and stores and catalogs that lose, change or withhold things."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import google_crc32c

from des.config import load_settings
from des.db.catalog import ContainerState, ShardClaim
from des.files import FileSpec
from des.node import Node
from des.packer.object_metadata import EPOCH
from des.storage.memory import MemoryObjectStore
from des.storage.object_store import ObjectInfo, ObjectStoreUnavailableError
from des.upkeep import GarbageCollector, GcLimits
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


async def copied(world: World, *, epoch: int) -> tuple[str, Any]:
    """Lay a recorded container beside itself, as a writer of an earlier epoch may have."""
    [row, *_] = await world.rows()
    info = await world.store.head(row.key)
    data = await world.store.get_range(row.key, 0, info.size)
    # The id's time is before the simulated now.
    key = row.key.replace(row.container_id, "0193a000-0000-7000-8000-0000000000ff")
    world.store.put(key, data, {**info.metadata, EPOCH: str(epoch)})
    return key, row


def timeless(rows: list[Any]) -> list[Any]:
    return [replace(row, created_ms=0, stored_ms=None) for row in rows]
