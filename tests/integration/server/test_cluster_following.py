"""Clients that ask the owners of shards themselves (ADR 0028): the calls that nodes send on are counted."""

import asyncio
import contextlib
import time
from contextlib import AsyncExitStack

import grpc
import httpx
import pytest
from des_client import FileMissing
from des_proto.v1.file_service_pb2 import (
    DeleteFileRequest,
    GetFileRequest,
    StatFileRequest,
)
from des_proto.v1.file_service_pb2_grpc import FileServiceStub

from des.naming import consistent_hash
from tests.integration.server.cluster_in_process import SETTLE_S, SHARD_BITS, running_cluster

ROUNDS_MAX = 12
HINTS = {"des-node", "des-owner"}


@pytest.fixture
async def cluster(tmp_path):
    async with running_cluster(tmp_path) as running:
        yield running


def sent_on(cluster):
    """How many calls nodes have sent on to others."""
    metric = "des_cluster_forwarded_total"
    return sum(int(member.server.registry.get_sample_value(metric)) for member in cluster.members)


def mark(member):
    return member.node.node_uuid[:8]


async def a_name_of_each_shard(client):
    names = {}
    while len(names) < 1 << SHARD_BITS:
        names |= {consistent_hash(one.name, SHARD_BITS): one.name for one in await client.assign_names(50)}
    return list(names.values())


async def until_none_is_sent_on(cluster, work):
    """Work in rounds until one needs no other node; learning takes few."""
    for _ in range(ROUNDS_MAX):
        before = sent_on(cluster)
        await work()
        if sent_on(cluster) == before:
            return
    raise AssertionError(f"calls are still sent on after {ROUNDS_MAX} rounds")


@pytest.mark.timeout(120)
async def test_calls_about_single_files_are_no_longer_sent_on_once_the_owners_are_known(cluster):
    async with cluster.client() as client, cluster.client(follow=False) as in_turn:
        names = await a_name_of_each_shard(client)

        async def work(client=client):
            for name in names:
                await client.put(b"content", name=name)
                assert await client.get(name) == b"content"
                assert (await client.stat(name)).size_bytes == 7

        await until_none_is_sent_on(cluster, work)
        before = sent_on(cluster)
        await work(in_turn)
        assert sent_on(cluster) > before
        # What was learned from these serves the others: deletes, waits, names that are not there.
        before = sent_on(cluster)
        await client.delete(names[0])
        with pytest.raises(FileMissing):
            await client.get(names[0])
        assert not await client.exists(names[0])
        assert sent_on(cluster) == before


@pytest.mark.timeout(120)
async def test_a_shard_that_is_handed_over_fails_no_call_and_is_followed(cluster):
    # From who has the most shards to who has the fewest, so that sharing fairly moves none back.
    owner, target = max(cluster.members, key=cluster.share), min(cluster.members, key=cluster.share)
    async with cluster.client() as client:
        names = await cluster.names_at(owner, 8, client)

        async def work():
            for name in names:
                await client.put(b"content", name=name)
                assert await client.get(name) == b"content"

        await until_none_is_sent_on(cluster, work)
        moved = consistent_hash(names[0], SHARD_BITS)
        row = next(node for node in owner.node._lease.members() if node.node == target.node.node_uuid)
        stop = asyncio.Event()

        async def keep_working():
            while not stop.is_set():
                await work()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(keep_working())  # not one call fails
            assert await owner.node._lease.hand_over.to_node([moved], row) == {}
            await cluster.owned_by(moved, target)
            stop.set()
        await until_none_is_sent_on(cluster, work)
        assert target.node.cluster.owns(moved)


@pytest.mark.timeout(120)
async def test_reads_of_a_stored_file_are_spread_over_all_nodes(cluster):
    async with cluster.client() as client:
        (name,) = await cluster.names_at(cluster.members[0], 1, client)
        await client.put(b"content", name=name)
        for _ in range(6):
            await client.get(name)
        await client.seal_shard(consistent_hash(name, SHARD_BITS))
        # For a moment nodes do not know that it is stored now, and ask the shard's owner.
        counts = []
        deadline = time.monotonic() + SETTLE_S
        while counts != [10, 10, 10]:
            assert time.monotonic() < deadline, counts
            before = [member.server.metrics.totals()[2] for member in cluster.members]
            for _ in range(30):
                await client.get(name)
            after = [member.server.metrics.totals()[2] for member in cluster.members]
            counts = [b - a for a, b in zip(before, after, strict=True)]


async def told(call):
    """What an answer, or an error, says of nodes."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        if hasattr(call, "read"):
            while await call.read() is not grpc.aio.EOF:
                pass
        else:
            await call
    return {key: value for key, value in await call.trailing_metadata() if key in HINTS}


@pytest.mark.timeout(120)
async def test_an_answer_tells_who_owns_the_shard_only_where_it_was_sent_on_or_that_was_asked(cluster):
    owner, other, _ = cluster.members
    async with cluster.client() as client, AsyncExitStack() as stack:
        name, missing = await cluster.names_at(owner, 2, client)
        await client.put(b"content", name=name)
        shard = consistent_hash(name, SHARD_BITS)
        at_owner, at_other = [
            FileServiceStub(await stack.enter_async_context(grpc.aio.insecure_channel(member.address)))
            for member in (owner, other)
        ]

        def calls(stub, **options):
            return [
                stub.GetFile(GetFileRequest(name=name), **options),
                stub.StatFile(StatFileRequest(name=name), **options),
                stub.GetFile(GetFileRequest(name=missing), **options),
                stub.StatFile(StatFileRequest(name=missing), **options),
                stub.DeleteFile(DeleteFileRequest(name=missing), **options),
            ]

        owned = {"des-node": mark(other), "des-owner": f"{mark(owner)};{shard};{SHARD_BITS}"}
        missed = owned | {"des-owner": f"{mark(owner)};{consistent_hash(missing, SHARD_BITS)};{SHARD_BITS}"}
        itself = {"des-node": mark(owner)}
        asking = {"metadata": (("des-follow", "1"),)}
        for options in ({}, asking):
            assert [await told(call) for call in calls(at_other, **options)] == [owned] * 2 + [missed] * 3
        assert [await told(call) for call in calls(at_owner)] == [{}] * 5
        assert [await told(call) for call in calls(at_owner, **asking)] == [itself] * 5
        # Another node's question is not answered: what it relays would be taken for its own.
        by_node = {"metadata": (("des-follow", "1"), ("des-forwarded-by", other.node.node_uuid))}
        assert [await told(call) for call in calls(at_owner, **by_node)] == [{}] * 5


@pytest.mark.timeout(120)
async def test_an_open_file_of_another_node_costs_the_catalog_nothing_each_time(cluster):
    asked = 0
    containers_of = cluster.catalog.containers_of

    async def counted(*args, **options):
        nonlocal asked
        asked += 1
        return await containers_of(*args, **options)

    async with cluster.client(1) as client:
        (name,) = await cluster.names_at(cluster.members[0], 1, client)
        await client.put(b"content", name=name)
        cluster.catalog.containers_of = counted
        for _ in range(20):
            before = asked
            assert await client.get(name) == b"content"
            assert (await client.stat(name)).state == "open"
            assert [one.unwrap() async for one in client.get_many([name])] == [b"content"]
            if asked == before:
                break
        assert asked == before


@pytest.mark.timeout(120)
async def test_a_stored_file_of_an_owner_that_vanished_is_read_where_it_was_open_a_moment_ago(
    cluster,
):
    owner = cluster.members[0]
    async with cluster.client(1, retry=None) as client:
        names = await cluster.names_at(owner, 6, client)
        for name in names:
            await client.put(b"content", name=name)
            # From now on this node knows of no container of the shard.
            assert await client.get(name) == b"content"
        for shard in {consistent_hash(name, SHARD_BITS) for name in names}:
            await client.seal_shard(shard)
        await owner.vanish()
        alone, described, over_http, *together = names
        assert await client.get(alone) == b"content"
        assert (await client.stat(described)).state == "stored"
        assert [one.unwrap() async for one in client.get_many(together)] == [b"content"] * 3
        assert [one.unwrap().state async for one in client.stat_many(together)] == ["stored"] * 3
        async with httpx.AsyncClient(base_url=f"http://{cluster.members[1].server.http_address}") as door:
            assert (await door.get(f"/files/{over_http}")).content == b"content"
    cluster.members.remove(owner)
