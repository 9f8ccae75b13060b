"""WatchShardStatus over a real node: a snapshot, what changes, signs of life, and where to go on."""

import asyncio

import grpc
import pytest
from des_proto.v1 import types_pb2
from des_proto.v1.file_service_pb2 import FileSpec, PutFileRequest
from des_proto.v1.file_service_pb2_grpc import FileServiceStub
from des_proto.v1.shard_service_pb2 import (
    SealShardRequest,
    ShardStatusRequest,
    WatchShardStatusRequest,
)
from des_proto.v1.shard_service_pb2_grpc import ShardServiceStub
from des_server.app import build_server
from google.protobuf import duration_pb2

from des.config import LimitSettings, Settings
from des.node import Node


async def serve(tmp_path):
    settings = Settings(
        data_dir=tmp_path,
        listen="127.0.0.1:0",
        http_listen="",
        shard_bits=2,
        limits=LimitSettings(watch_heartbeat_s=1),
    )
    node = await Node.open(settings)
    server = build_server(node, settings)
    await server.start()
    return node, server


@pytest.fixture
async def server(tmp_path):
    node, server = await serve(tmp_path)
    yield server
    await server.stop()
    await node.close()


@pytest.fixture
def shards(channel):
    return ShardServiceStub(channel)


async def put(channel):
    message = PutFileRequest(spec=FileSpec(), chunk=types_pb2.DataChunk(data=b"x"), finish=True)
    return (await FileServiceStub(channel).PutFile(iter([message]))).file.shard_id


async def next_change(call):
    while True:
        message = await call.read()
        assert not message.snapshot
        if message.shards:
            return message


async def test_a_snapshot_comes_first_then_what_changes(shards, channel):
    call = shards.WatchShardStatus(WatchShardStatusRequest())
    first = await call.read()
    assert first.snapshot
    assert [shard.shard_id for shard in first.shards] == [0, 1, 2, 3]
    shard = await put(channel)
    change = await next_change(call)
    assert [(each.shard_id, each.open_files) for each in change.shards] == [(shard, 1)]
    assert change.revision > first.revision
    await shards.SealShard(SealShardRequest(shard_id=shard))
    sealed = await next_change(call)
    while not any(each.shard_id == shard and not each.open_files for each in sealed.shards):
        sealed = await next_change(call)
    assert sealed.revision > change.revision


async def test_only_shards_asked_for_are_told(shards, channel):
    taken = await put(channel)
    call = shards.WatchShardStatus(WatchShardStatusRequest(shard_ids=[taken]))
    assert [shard.shard_id for shard in (await call.read()).shards] == [taken]
    for _ in range(20):
        if await put(channel) == taken:
            break
    assert {shard.shard_id for shard in (await next_change(call)).shards} == {taken}


async def test_a_watcher_goes_on_from_a_revision_it_was_told(shards, channel):
    before = (await shards.ShardStatus(ShardStatusRequest())).revision
    shard = await put(channel)
    call = shards.WatchShardStatus(WatchShardStatusRequest(start_revision=before))
    change = await next_change(call)
    assert [each.shard_id for each in change.shards] == [shard]
    again = shards.WatchShardStatus(WatchShardStatusRequest(start_revision=change.revision))
    quiet = await again.read()
    assert not quiet.shards  # nothing since: a sign of life
    assert quiet.revision >= change.revision


async def test_changes_wait_for_the_interval_and_come_together(shards, channel):
    interval = duration_pb2.Duration(seconds=1)
    call = shards.WatchShardStatus(WatchShardStatusRequest(min_interval=interval))
    await call.read()
    put_in = {await put(channel) for _ in range(12)}
    change = await next_change(call)
    assert {shard.shard_id for shard in change.shards} == put_in


@pytest.mark.parametrize(
    ("request_", "code", "reason"),
    [
        (WatchShardStatusRequest(start_revision=1), grpc.StatusCode.OUT_OF_RANGE, "WATCH_REVISION_COMPACTED"),
        (
            WatchShardStatusRequest(start_revision=2**62),
            grpc.StatusCode.OUT_OF_RANGE,
            "WATCH_REVISION_COMPACTED",
        ),
        (WatchShardStatusRequest(start_revision=-1), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        (WatchShardStatusRequest(shard_ids=[4]), grpc.StatusCode.NOT_FOUND, "SHARD_NOT_FOUND"),
        (
            WatchShardStatusRequest(min_interval=duration_pb2.Duration(seconds=-1)),
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_FIELD",
        ),
        (
            WatchShardStatusRequest(min_interval=duration_pb2.Duration(seconds=9999)),
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_FIELD",
        ),
    ],
)
async def test_what_cannot_be_watched_is_refused(shards, refusal, request_, code, reason):
    async with refusal() as refused:
        await shards.WatchShardStatus(request_).read()
        pytest.fail("it was answered")
    assert (refused().code, refused().reason) == (code, reason)


async def test_revisions_of_an_earlier_start_are_told_apart(tmp_path, refusal):
    revisions = []
    for _ in range(2):
        node, server = await serve(tmp_path)
        try:
            async with grpc.aio.insecure_channel(str(server.address)) as channel:
                stub = ShardServiceStub(channel)
                if revisions:
                    async with refusal() as refused:
                        await stub.WatchShardStatus(
                            WatchShardStatusRequest(start_revision=revisions[0])
                        ).read()
                    assert refused().reason == "WATCH_REVISION_COMPACTED"
                    assert int(refused().facts["oldest_revision"]) > revisions[0]
                revisions.append((await stub.ShardStatus(ShardStatusRequest())).revision)
        finally:
            await server.stop()
            await node.close()
    assert revisions[0] < revisions[1]


async def test_a_server_that_leaves_ends_its_watchers(server, shards, refusal):
    call = shards.WatchShardStatus(WatchShardStatusRequest())
    await call.read()
    draining = asyncio.create_task(server.drain(notice_s=0, within_s=60))
    async with refusal() as refused:
        while await call.read() is not grpc.aio.EOF:
            pass
    assert refused().reason == "SHUTTING_DOWN"
    assert await draining


async def test_a_watcher_that_goes_away_is_let_go(server, shards):
    call = shards.WatchShardStatus(WatchShardStatusRequest())
    await call.read()
    call.cancel()
    while server.inflight.count:
        await asyncio.sleep(0.01)
