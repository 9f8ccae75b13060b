"""A node over simulated doors, one per test."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from des.config import Settings, load_settings
from des.node import Node
from des.storage.memory import MemoryObjectStore
from des.testing.memory_catalog import MemoryCatalog
from des.testing.simulated_clock import SimulatedClock
from des.testing.simulated_disk import SimulatedDisk


class SimulatedWorld:
    """The doors of a node, and the node over them; `restart` opens them again."""

    def __init__(self, data_dir: Path) -> None:
        self.clock = SimulatedClock()
        self.rng = random.Random(5)
        self.disk = SimulatedDisk(random.Random(6))
        self.store = MemoryObjectStore()
        self.catalog = MemoryCatalog(self.clock)
        self.settings: Settings = load_settings(
            data_dir=data_dir, shard_bits=2, big_file_bytes=1 << 20, log={"segment_bytes": 4 << 20}
        )
        self.node: Node

    async def start(self) -> Node:
        self.node = await Node.open(
            self.settings,
            clock=self.clock,
            disk=self.disk,
            store=self.store,
            catalog=self.catalog,
            random_bytes=self.rng.randbytes,
            threads=False,
        )
        return self.node

    async def restart(self) -> Node:
        await self.node.close()
        return await self.start()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[SimulatedWorld]:
    made = SimulatedWorld(tmp_path)
    await made.start()
    yield made
    await made.node.close()
