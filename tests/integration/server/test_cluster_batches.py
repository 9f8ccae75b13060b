"""Calls about many files, at a node that owns only some of their shards."""

import asyncio
from contextlib import AsyncExitStack

import grpc
import httpx
import pytest
from des_client import FileMissing, PutItem, Unavailable
from des_proto.v1.file_service_pb2 import (
    CancelUploadRequest,
    FileSpec,
    GetUploadStatusRequest,
    StartUploadRequest,
)
from des_proto.v1.file_service_pb2_grpc import FileServiceStub
from des_proto.v1.shard_service_pb2 import WatchShardStatusRequest
from des_proto.v1.shard_service_pb2_grpc import ShardServiceStub

from des.naming import consistent_hash
from tests.integration.server.cluster_in_process import SHARD_BITS, running_cluster
from tests.integration.server.test_uploads import MIB, parts


@pytest.fixture
async def cluster(tmp_path):
    async with running_cluster(tmp_path) as running:
        yield running


async def named(cluster, client, count=6):
    """Names of shards of every node, and what to put under them."""
    names = [name for member in cluster.members for name in await cluster.names_at(member, count, client)]
    return {name: f"content of {name}".encode() * (at + 1) for at, name in enumerate(names)}


@pytest.mark.timeout(120)
async def test_a_batch_is_written_read_described_and_deleted_through_any_node(cluster):
    async with cluster.client(0) as first, cluster.client(1) as second:
        files = await named(cluster, first)
        written = [
            one async for one in first.put_many(PutItem(data, name=name) for name, data in files.items())
        ]
        assert [one.unwrap().file.name for one in written] == list(files)
        assert all(sum(m.node.is_open(name) for m in cluster.members) == 1 for name in files)
        # Again, at another node: the very same files.
        again = [
            one async for one in second.put_many(PutItem(data, name=name) for name, data in files.items())
        ]
        assert all(one.unwrap().already_existed for one in again)
        for client in (first, second):
            assert [one.unwrap() async for one in client.get_many(files)] == list(files.values())
            stats = [one.unwrap() async for one in client.stat_many(files)]
            assert [(one.name, one.size_bytes) for one in stats] == [(n, len(d)) for n, d in files.items()]
        gone = list(files)[::2]
        deleted = [one async for one in second.delete_many(gone)]
        assert [one.unwrap().name for one in deleted] == gone
        for name in gone:
            with pytest.raises(FileMissing):
                await first.get(name)
        missing = [one.error is not None async for one in first.get_many(files)]
        assert missing == [name in gone for name in files]


@pytest.mark.timeout(120)
async def test_large_items_and_items_in_parts_reach_their_owner(cluster):
    async with cluster.client(0) as client:
        (name,) = await cluster.names_at(cluster.members[2], 1, client)
        data = bytes(range(256)) * 20_000  # 5 MB: more than a message, so the client puts it alone
        outcomes = [one async for one in client.put_many([PutItem(data, name=name)])]
        assert outcomes[0].unwrap().file.size_bytes == len(data)
        assert [one.unwrap() async for one in client.get_many([name])] == [data]


@pytest.mark.timeout(120)
async def test_a_page_has_the_open_files_of_every_node(cluster):
    async with cluster.client(1) as client:
        files = await named(cluster, client, count=5)
        async for one in client.put_many(PutItem(data, name=name) for name, data in files.items()):
            one.unwrap()
        for target in range(3):
            async with cluster.client(target) as lister:
                listed = [info async for info in lister.list()]
                assert [info.name for info in listed] == sorted(files)
                assert [info.size_bytes for info in listed] == [len(files[n]) for n in sorted(files)]
                small = [info.name async for info in lister.list(page_size=2)]
                assert small == sorted(files)
        # Half of them in containers, the rest open: each once.
        for shard in range(0, 16, 2):
            await client.seal_shard(shard)
        assert [info.name async for info in client.list(page_size=4)] == sorted(files)


@pytest.mark.timeout(120)
async def test_a_file_is_read_over_http_at_any_node(cluster):
    async with cluster.client(0) as client:
        files = await named(cluster, client, count=2)
        for name, data in files.items():
            await client.put(data, name=name)
        never_put = (await client.assign_names(1))[0].name
    for member in cluster.members:
        async with httpx.AsyncClient(base_url=f"http://{member.server.http_address}") as door:
            for name, data in files.items():
                assert (await door.get(f"/files/{name}")).content == data
                assert (await door.get(f"/files/{name}", headers={"range": "bytes=3-8"})).content == data[3:9]
                assert (await door.head(f"/files/{name}")).headers["content-length"] == str(len(data))
            assert (await door.get(f"/files/{never_put}")).status_code == 404


@pytest.mark.timeout(120)
async def test_an_upload_goes_on_at_any_node_and_finishes_whoever_owns_its_shard_by_then(cluster):
    # From who has the most shards to who has the fewest, so that sharing fairly moves none back.
    owner, target = max(cluster.members, key=cluster.share), min(cluster.members, key=cluster.share)
    async with cluster.client(0) as client:
        name, other = await cluster.names_at(owner, 2, client)
    data = bytes(range(256)) * 9000
    half = MIB
    async with AsyncExitStack() as stack:
        stubs = [
            FileServiceStub(await stack.enter_async_context(grpc.aio.insecure_channel(member.address)))
            for member in cluster.members
        ]
        begun = await stubs[0].StartUpload(StartUploadRequest(spec=FileSpec(name=name)))
        assert len(owner.node.uploads._uploads) == 1  # at the owner of the name
        kept = await stubs[2].PutFile(parts(begun.upload_id, data, 0, half))
        assert kept.persisted_size == half
        told = await stubs[0].GetUploadStatus(GetUploadStatusRequest(upload_id=begun.upload_id))
        assert told.persisted_size == half
        unfinished = await stubs[2].StartUpload(StartUploadRequest(spec=FileSpec(name=other)))
        await stubs[0].CancelUpload(CancelUploadRequest(upload_id=unfinished.upload_id))
        # The shard gets another owner; the bytes stay where they are, and the file goes where it belongs.
        lease = owner.node._lease
        moved = consistent_hash(name, SHARD_BITS)
        row = next(node for node in lease.members() if node.node == target.node.node_uuid)
        assert await lease.hand_over.to_node([moved], row) == {}
        await cluster.owned_by(moved, target)
        put = await stubs[2].PutFile(parts(begun.upload_id, data, half, len(data), finish=True))
        assert (put.file.name, put.file.size_bytes) == (name, len(data))
        assert target.node.is_open(name)
        for stub in stubs:
            for bad in (unfinished.upload_id, begun.upload_id[:-2] + "zz", f"{name}~{'0' * 32}"):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await stub.GetUploadStatus(GetUploadStatusRequest(upload_id=bad))
                assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    async with cluster.client(1) as client:
        assert await client.get(name) == data


@pytest.mark.timeout(120)
async def test_items_of_an_owner_that_is_away_are_unavailable_for_themselves(cluster):
    async with cluster.client(0) as client:
        files = await named(cluster, client, count=3)
        async for one in client.put_many(PutItem(data, name=name) for name, data in files.items()):
            one.unwrap()
        lost = {name for name in files if cluster.members[2].owns(name)}
        new = await cluster.names_at(cluster.members[2], 1, client)
        await cluster.members[2].server.stop()
    async with cluster.client(0, retry=None) as client:
        asked = [*lost, *new]
        for names, outcomes in (
            (files, [one async for one in client.get_many(files)]),
            (files, [one async for one in client.stat_many(files)]),
            (files, [one async for one in client.put_many(PutItem(d, name=n) for n, d in files.items())]),
            (asked, [one async for one in client.delete_many(asked)]),
        ):
            for name, outcome in zip(names, outcomes, strict=True):
                if name not in asked:
                    assert outcome.error is None
                    continue
                assert isinstance(outcome.error, Unavailable), outcome
                assert outcome.error.retry_after_s is not None
        with pytest.raises(Unavailable):
            [info async for info in client.list()]


@pytest.mark.timeout(120)
async def test_a_delete_that_worked_although_its_shard_was_lost_meanwhile_is_told_as_done(cluster):
    """The node that was asked cannot tell; the next owner finds the file deleted, by this very call."""
    async with cluster.client(0, retry=None) as client:
        (name,) = await cluster.names_at(cluster.members[0], 1, client)
        await client.put(b"gone", name=name)
        lease = cluster.members[0].node._lease
        shard = consistent_hash(name, SHARD_BITS)
        target = next(node for node in lease.members() if node.node == cluster.members[1].node.node_uuid)
        settle = cluster.members[0].node._deletions._settle

        async def settle_and_lose(names):
            found = await settle(names)
            lease._until[shard] = 0.0  # by its own clock this node is the owner no more
            return found

        cluster.members[0].node._deletions._settle = settle_and_lose

        async def hand_over():
            while lease._until[shard]:
                await asyncio.sleep(0.01)
            given = await cluster.catalog.transfer_shards(
                lease.claim_of([shard]), holder=target.holder, node=target.node, ttl_s=60
            )
            assert given

        handing = asyncio.create_task(hand_over())
        await client.delete(name)
        await handing
        with pytest.raises(FileMissing):
            await client.delete(name)


@pytest.mark.timeout(120)
async def test_a_watch_at_any_node_tells_of_every_shard_and_of_what_changes_elsewhere(cluster):
    async with cluster.client(0) as client, cluster.client(1) as elsewhere:
        (name,) = await cluster.names_at(cluster.members[2], 1, client)
        shard = consistent_hash(name, SHARD_BITS)
        told = {}
        async for update in client.watch_shards():
            told |= {one.shard_id: one for one in update.shards}
            if update.snapshot:
                assert len(update.shards) == 1 << SHARD_BITS
                assert {one.owner_node for one in update.shards} == {
                    m.node.node_uuid for m in cluster.members
                }
                await elsewhere.put(b"open", name=name)
            elif told[shard].open_files:
                break
        assert told[shard].owner_node == cluster.members[2].node.node_uuid
        assert (told[shard].open_files, told[shard].open_bytes) == (1, 4)
        assert told[shard].oldest_open_age is not None


@pytest.mark.timeout(120)
async def test_a_watch_that_moves_to_another_node_begins_with_a_snapshot(tmp_path, refusal):
    async with running_cluster(tmp_path, nodes=2, limits={"watch_heartbeat_s": 1}) as cluster:
        async with cluster.client(0) as client:
            async for update in client.watch_shards():
                revision = update.revision
                break
        # What changed before the other node first looked is no change there.
        async with cluster.client(1) as client:
            await client.put(b"open")
            async with grpc.aio.insecure_channel(cluster.members[1].address) as channel:
                watching = ShardServiceStub(channel).WatchShardStatus(
                    WatchShardStatusRequest(start_revision=revision)
                )
                async with refusal() as refused:
                    await watching.read()
                assert refused().reason == "WATCH_REVISION_COMPACTED"
            async for update in client.watch_shards(start_revision=revision):
                assert update.snapshot
                assert sum(one.open_files for one in update.shards) == 1
                break
