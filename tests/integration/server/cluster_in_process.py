"""Nodes of a cluster in one process: real servers on real ports, over one catalog and one store in memory."""

import asyncio
import time
from contextlib import asynccontextmanager

from des_client import AsyncDesClient
from des_server.app import build_server

from des.clock import SystemClock
from des.config import Settings
from des.naming import consistent_hash
from des.node import Node
from des.storage.memory import MemoryObjectStore
from des.testing.memory_catalog import MemoryCatalog
from des.testing.ports import free_port

SHARD_BITS = 4
SETTLE_S = 60.0


class Member:
    """One node; it can vanish, and come back with its disk."""

    def __init__(self, cluster, number):
        self.cluster = cluster
        self.number = number
        self.node = None
        self.server = None
        self.address = f"127.0.0.1:{free_port()}"
        self.clock = cluster.clocks.get(number, SystemClock())

    async def start(self):
        settings = Settings(
            data_dir=self.cluster.folder / f"node-{self.number}",
            object_store="file:///not-used",
            listen=self.address,
            http_listen="127.0.0.1:0",
            shard_bits=SHARD_BITS,
            cluster={"enabled": True, "ttl_s": self.cluster.ttl_s, "forward_wait_s": 1}
            | self.cluster.options.get("cluster", {}),
            **(
                {"seal": {"age_s": 3600, "useful_bytes": 1}, "stored": {"any_store": True}}
                | {key: value for key, value in self.cluster.options.items() if key != "cluster"}
            ),
        )
        self.node = await Node.open(
            settings, clock=self.clock, catalog=self.cluster.catalog, store=self.cluster.store
        )
        self.server = build_server(self.node, settings)
        await self.server.start()
        await self.node.join(self.address)

    async def keep(self):
        """Open the node anew, at the same port, when the store is divided anew, as a server process does."""
        while True:
            await self.node.cluster.wait_resharded()
            await self.server.drain(notice_s=0, within_s=5, quiet_s=0.5)
            await self.server.stop()
            await self.node.close()
            await self.start()

    async def vanish(self):
        """Go without a word: locks stay until they expire."""

        async def nothing():
            pass

        self.node._lease.release = nothing
        await self.server.stop()
        await self.node.close()

    async def stop(self):
        if self.server is not None:
            await self.server.stop()
            await self.node.close()

    def owns(self, name):
        return self.node.cluster.owns(consistent_hash(name, SHARD_BITS))


class Cluster:
    def __init__(self, folder, ttl_s, options, client_options, clocks):
        clock = SystemClock()
        self.folder = folder
        self.ttl_s = ttl_s
        self.options = options
        self.client_options = client_options
        self.catalog = MemoryCatalog(clock)
        self.store = MemoryObjectStore(clock)
        self.clocks = clocks
        self.members = []

    async def settled(self, *, without=()):
        """Wait until every shard is served, by all of the nodes that are there."""
        there = [member for member in self.members if member.number not in without]
        deadline = time.monotonic() + SETTLE_S
        while True:
            served = [
                sum(member.node.cluster.owns(shard) for member in there) for shard in range(1 << SHARD_BITS)
            ]
            sharing = all(any(m.node.cluster.owns(s) for s in range(1 << SHARD_BITS)) for m in there)
            if served == [1] * len(served) and sharing:
                return
            assert time.monotonic() < deadline, served
            for member in there:
                member.node._lease.wake()
            await asyncio.sleep(0.05)

    @staticmethod
    def share(member):
        """How many shards a member serves."""
        return sum(member.node.cluster.owns(shard) for shard in range(1 << SHARD_BITS))

    async def owned_by(self, shard, member):
        """Wait until every node knows that a member serves a shard."""
        deadline = time.monotonic() + SETTLE_S
        while not member.node.cluster.owns(shard):
            assert time.monotonic() < deadline, shard
            member.node._lease.wake()
            await asyncio.sleep(0.05)

    async def names_at(self, member, count, client, *, prefix=""):
        """New names in shards that a member owns."""
        found = []
        while len(found) < count:
            found += [
                one.name for one in await client.assign_names(50, prefix=prefix) if member.owns(one.name)
            ]
        return found[:count]

    def client(self, *numbers, **options):
        members = [self.members[number] for number in numbers] if numbers else self.members
        return AsyncDesClient([member.address for member in members], **(self.client_options | options))


@asynccontextmanager
async def running_cluster(folder, *, nodes=3, ttl_s=60.0, client=None, clocks=None, **options):
    """Run nodes, some by other clocks than the catalog; none of them is left."""
    cluster = Cluster(folder, ttl_s, options, client or {}, clocks or {})
    try:
        for number in range(nodes):
            member = Member(cluster, number)
            cluster.members.append(member)
            await member.start()
        await cluster.settled()
        yield cluster
    finally:
        for member in cluster.members:
            await member.stop()
