"""Other shards while nodes run: what is stored stays, and is read by the bits it was made with."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest
from des_client import AsyncDesClient, FileMissing, NameConflict, RetryConfig, Unavailable
from des_server import lifecycle
from prometheus_client import CollectorRegistry

from des.clock import SystemClock
from des.config import Settings
from des.db.catalog import CatalogUnavailableError, ContainerState
from des.naming import SnowflakeNameGenerator
from des.node import Node
from des.storage.memory import MemoryObjectStore
from des.testing.memory_catalog import MemoryCatalog
from des.testing.simulated_clock import SimulatedClock
from tests.integration.server import cluster_in_process
from tests.integration.server.cluster_in_process import SETTLE_S, running_cluster

OLD_MS = 1_780_000_000_000
"""2026-05-28."""
OLD_DAY = "20260528"
PATIENT = RetryConfig(attempts=1000, backoff_max_s=0.5)


async def old_names(count):
    """Names of a day long ago."""
    clock = SimulatedClock(OLD_MS)
    names = SnowflakeNameGenerator(node_id=200, clock=clock, reserve=None)
    return list(await names.next_many(count))


@asynccontextmanager
async def kept(members):
    """Open the nodes anew when they ask for it."""
    keeping = [asyncio.create_task(member.keep()) for member in members]
    try:
        yield
        assert not any(task.done() for task in keeping), keeping
    finally:
        for task in keeping:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)


async def divide(cluster, monkeypatch, bits, members):
    """Have the nodes divide the store, and wait until they serve the new shards."""
    await cluster.catalog.ask_sharding(bits, from_ms=0)
    deadline = time.monotonic() + SETTLE_S
    while any(m.node.settings.shard_bits != bits for m in members):
        assert time.monotonic() < deadline, [m.node.settings.shard_bits for m in members]
        for member in members:
            member.node._lease.wake()
        await asyncio.sleep(0.05)
    monkeypatch.setattr(cluster_in_process, "SHARD_BITS", bits)
    away = [member.number for member in cluster.members if member not in members]
    await cluster.settled(without=away)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("before", "after"), [(4, 6), (4, 2)])
async def test_a_running_store_is_divided_into_more_and_fewer_shards(tmp_path, monkeypatch, before, after):
    monkeypatch.setattr(cluster_in_process, "SHARD_BITS", before)
    async with running_cluster(tmp_path, nodes=2) as cluster, kept(cluster.members):
        old = await old_names(12)
        files = {}
        async with cluster.client(retry=PATIENT) as client:
            for name in [*old[:10], *[""] * 20]:
                data = f"file {len(files)}".encode()
                files[(await client.put(data, **({"name": name} if name else {}))).file.name] = data
            gone, gone_old = (await client.put(b"to be deleted")).file.name, old[9]
            for name in (gone, gone_old):
                await client.delete(name)
            del files[gone_old]
            for shard in range(1 << (before - 1)):  # the others' files are open when the change comes
                await client.seal_shard(shard)

            done = asyncio.Event()

            async def write():
                while not done.is_set():
                    data = f"file {len(files)}".encode()
                    files[(await client.put(data, timeout_s=100)).file.name] = data

            async def read():
                while not done.is_set():
                    name, data = next(iter(files.items()))
                    assert await client.get(name, timeout_s=100) == data

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(write())
                tasks.create_task(read())
                await divide(cluster, monkeypatch, after, cluster.members)
                done.set()

        for at in (0, 1):
            async with cluster.client(at) as client:
                for name, data in files.items():
                    assert await client.get(name) == data
                    assert (await client.put(data, name=name)).already_existed
                for name in (old[0], next(reversed(files))):
                    with pytest.raises(NameConflict):
                        await client.put(b"other", name=name)
                for name in (gone, gone_old):
                    with pytest.raises(FileMissing, match="deleted"):
                        await client.get(name)
                    with pytest.raises(NameConflict):
                        await client.put(b"again", name=name)
                assert [info.name async for info in client.list()] == sorted(files)
        async with cluster.client() as client:
            shards = await client.shard_status()
            assert len(shards) == 1 << after
            assert (await client.server_info()).shard_bits == after
            # A day that is over takes late files, and loses some, as before.
            for name in old[10:12]:
                files[name] = b"late"
                await client.put(b"late", name=name)
            victim = old[1]
            await client.delete(victim)
            del files[victim]
            for shard in range(1 << after):
                await client.seal_shard(shard)
            shards = await client.shard_status()
            assert sum(shard.open_files for shard in shards) == 0
            assert [info.name async for info in client.list()] == sorted(files)
            with pytest.raises(FileMissing):
                await client.get(victim)
            for name, data in files.items():
                assert await client.get(name) == data
        rows = await cluster.catalog.containers(state=ContainerState.STORED, day=OLD_DAY)
        assert {row.run.bits for row in rows} == {before, after}


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("before", "after"), [(4, 5), (4, 3)])
async def test_a_node_that_was_away_brings_its_files_to_the_new_shards(tmp_path, monkeypatch, before, after):
    monkeypatch.setattr(cluster_in_process, "SHARD_BITS", before)
    async with running_cluster(tmp_path, nodes=2, ttl_s=4.0) as cluster:
        stays, lost = cluster.members
        async with cluster.client(1) as client:
            names = await cluster.names_at(lost, 8, client)
            for name in names:
                await client.put(name.encode(), name=name)
        await lost.vanish()
        async with kept([stays]):
            await divide(cluster, monkeypatch, after, [stays])
            async with cluster.client(0, retry=None) as client:
                for name in names:
                    with pytest.raises(Unavailable):
                        await client.get(name)
            await lost.start()
            async with kept([lost]):
                await cluster.settled()
                deadline = time.monotonic() + SETTLE_S
                while (await cluster.catalog.cluster_view()).estates:
                    assert time.monotonic() < deadline, (await cluster.catalog.cluster_view()).estates
                    lost.node._lease.wake()
                    await asyncio.sleep(0.05)
                async with cluster.client() as client:
                    for name in names:
                        assert await client.get(name) == name.encode()
                    for shard in range(1 << after):
                        await client.seal_shard(shard)
                    assert [info.name async for info in client.list()] == sorted(names)
        rows = await cluster.catalog.containers(state=ContainerState.STORED)
        assert sum(row.geometry.file_count for row in rows) == len(names)


@pytest.mark.timeout(120)
async def test_a_process_opens_its_node_anew_at_the_same_ports_until_it_succeeds(tmp_path):
    clock = SystemClock()
    catalog, store = MemoryCatalog(clock), MemoryObjectStore(clock)
    settings = Settings(
        data_dir=tmp_path / "node",
        object_store="file:///not-used",
        listen="127.0.0.1:0",
        http_listen="127.0.0.1:0",
        shard_bits=3,
        cluster={"enabled": True},
        stored={"any_store": True},
    )
    opened, failures, serving, stopping = [], ["away"] * 2, [], asyncio.Event()

    async def open_node(given):
        if opened and failures:
            raise CatalogUnavailableError(failures.pop())
        node = await Node.open(given, catalog=catalog, store=store)
        opened.append((given.listen, node))
        return node

    process = asyncio.create_task(
        lifecycle._serve(
            settings,
            open_node,
            stopping,
            allow_exposed=False,
            registry=CollectorRegistry(),
            shared=None,
            on_serving=serving.append,
        )
    )
    deadline = time.monotonic() + SETTLE_S
    while not serving:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    address = str(serving[0].address)
    async with AsyncDesClient(address, retry=PATIENT) as client:
        name = (await client.put(b"before")).file.name
        await catalog.ask_sharding(5, from_ms=0)
        while len(opened) < 2:
            assert time.monotonic() < deadline
            opened[0][1]._lease.wake()
            await asyncio.sleep(0.05)
        assert not failures
        assert [listen for listen, _ in opened] == ["127.0.0.1:0", address]
        assert opened[1][1].settings.shard_bits == 5
        assert await client.get(name, timeout_s=100) == b"before"
        await client.put(b"after", timeout_s=100)
    assert len(serving) == 1  # nobody is told twice that the process serves
    stopping.set()
    assert await process == 0
