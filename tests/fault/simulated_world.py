"""What outlives a process, simulated; and traps at its doors, where a process dies or is not answered."""

import asyncio
import copy
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar

from des.config import Settings
from des.node import Node
from des.storage.memory import MemoryObjectStore
from des.testing.memory_catalog import MemoryCatalog
from des.testing.simulated_clock import SimulatedClock
from des.testing.simulated_disk import SimulatedDisk

MAKING = {"create", "finish"}
"""Calls that make an object."""


class Crash(BaseException):
    """The process is gone. Not an Exception: nothing may handle it."""


class Trap:
    """Counts calls through the doors; the N-th one fails before or after its effect.

    "late" fails a create whose effect comes behind whatever is created next: a timeout of the client.
    Where `begin_upload` is counted, so is all that is done to the upload but to drop it.
    """

    def __init__(
        self, number: int, when: str, failure: Callable[[str], BaseException], *, armed: bool = True
    ) -> None:
        self.number = number
        self.when = when
        self.failure = failure
        self.calls = 0
        self.armed = armed
        self.landing: Callable[[], Awaitable[Any]] | None = None

    @property
    def sprung(self) -> bool:
        return self.calls >= self.number

    def guard(self, target: Any, door: str, methods: set[str]) -> Any:
        trap = self

        class Guarded:
            def __getattr__(self, name: str) -> Any:
                method = getattr(target, name)
                if name not in methods:
                    return method

                async def call(*args: Any, **kwargs: Any) -> Any:
                    trap.calls += trap.armed
                    hit = trap.armed and trap.calls == trap.number
                    if hit and trap.when == "late" and name in MAKING:
                        # What was sent is sent, also when its upload is dropped meanwhile.
                        sent = getattr(copy.copy(target), name) if name == "finish" else method
                        trap.landing = lambda: sent(*args, **kwargs)
                        raise trap.failure(door)
                    if hit and trap.when == "before":
                        raise trap.failure(door)
                    if trap.landing is not None and name in MAKING:
                        landing, trap.landing = trap.landing, None
                        await landing()
                    result = await method(*args, **kwargs)
                    if hit:
                        raise trap.failure(door)
                    if name == "begin_upload":
                        return trap.guard(result, door, {"write", "finish"})
                    return result

                return call

        return Guarded()


class SimulatedWorld:
    """Disk, objects, catalog and time of a node's starts, one after the other."""

    trapped: ClassVar[Mapping[str, set[str]]] = {}
    """The calls that a trap counts: of the doors "catalog" and "store"."""

    def __init__(self, settings: Settings, *, seed: int = 11, disk_seed: int = 7) -> None:
        self.settings = settings
        self.clock = SimulatedClock()
        self.disk = SimulatedDisk(random.Random(disk_seed))
        self.store: Any = MemoryObjectStore(self.clock)
        self.catalog = MemoryCatalog(self.clock)
        self.rng = random.Random(seed)

    async def node(self, trap: Trap | None = None) -> Node:
        """Start a node, all its work in one thread."""
        catalog: Any = self.catalog
        store: Any = self.store
        if trap is not None:
            catalog = trap.guard(catalog, "catalog", self.trapped["catalog"])
            store = trap.guard(store, "store", self.trapped["store"])
        return await Node.open(
            self.settings,
            clock=self.clock,
            disk=self.disk,
            store=store,
            catalog=catalog,
            random_bytes=self.rng.randbytes,
            threads=False,
        )

    async def power_cut(self, node: Node) -> None:
        """Leave the node as a crash does, and the disk as a power cut does."""
        tasks = [*node._background.tasks, node._log._committer.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.disk.crash()
