"""BatchReadFiles and BatchStatFiles over a real node: what a client sees of many files in one call."""

import asyncio
import os

import google_crc32c
import grpc
import pytest
from des_proto.v1 import types_pb2
from des_proto.v1.file_service_pb2 import (
    BatchReadFilesRequest,
    BatchStatFilesRequest,
    BatchWriteFilesRequest,
    FileSpec,
    PutFileRequest,
    ReadItem,
    StatFileRequest,
    WriteItem,
)
from des_proto.v1.file_service_pb2_grpc import FileServiceStub
from des_proto.v1.shard_service_pb2 import SealShardRequest
from des_proto.v1.shard_service_pb2_grpc import ShardServiceStub
from des_server.servicers.batch_read import MESSAGE_BYTES

from des.config import LimitSettings, Settings
from tests.integration.server.one_node import serving

KIB = 1 << 10
MIB = 1 << 20


@pytest.fixture
def limits():
    return LimitSettings(batch_items=1000)


@pytest.fixture
async def server(tmp_path, limits):
    settings = Settings(
        data_dir=tmp_path,
        listen="127.0.0.1:0",
        http_listen="",
        shard_bits=1,
        limits=limits,
        big_file_bytes=MIB,
    )
    async with serving(settings) as (_, server):
        yield server


@pytest.fixture
def files(channel):
    return FileServiceStub(channel)


async def write(files, contents, **spec):
    items = [
        WriteItem(index=at, spec=FileSpec(**spec), chunk=types_pb2.DataChunk(data=data))
        for at, data in enumerate(contents)
    ]
    messages = [BatchWriteFilesRequest(items=items[at : at + 100]) for at in range(0, len(items), 100)]
    names = {}
    async for answer in files.BatchWriteFiles(iter(messages)):
        names |= {result.index: result.file.name for result in answer.results}
    return [names[at] for at in range(len(contents))]


async def seal(channel):
    for shard in range(2):
        await ShardServiceStub(channel).SealShard(SealShardRequest(shard_id=shard))


async def read(files, items, **options):
    """Return parts by index and the trailers, holding every message to its bound."""
    call = files.BatchReadFiles(BatchReadFilesRequest(items=items, **options))
    parts = {}
    async for message in call:
        assert message.ByteSize() <= MESSAGE_BYTES + 64 * KIB
        for part in message.parts:
            if not part.HasField("status"):
                assert google_crc32c.value(part.chunk.data) == part.chunk.crc32c
            parts.setdefault(part.index, []).append(part)
    return parts, dict(await call.trailing_metadata())


async def test_open_and_sealed_files_of_all_lengths_come_back(files, channel):
    contents = [os.urandom(at * 37 % 5000) for at in range(400)] + [os.urandom(MIB), os.urandom(MIB - 9)]
    names = await write(files, contents, metadata={"k": "v"}, content_type="a/b")
    await seal(channel)
    names += await write(files, contents)
    big = os.urandom(3 * MIB)
    chunks = [
        PutFileRequest(
            spec=FileSpec() if not at else None,
            write_offset=at * MIB,
            chunk=types_pb2.DataChunk(data=big[at * MIB : (at + 1) * MIB]),
            finish=at == 2,
        )
        for at in range(3)
    ]
    names.append((await files.PutFile(iter(chunks))).file.name)
    contents = [*contents, *contents, big]
    parts, trailers = await read(files, [ReadItem(name=name) for name in names])
    assert sorted(parts) == list(range(len(names)))
    for at, found in parts.items():
        assert b"".join(part.chunk.data for part in found) == contents[at]
        assert [part.last for part in found] == [False] * (len(found) - 1) + [True]
        assert [part.HasField("file") for part in found] == [True] + [False] * (len(found) - 1)
        assert found[0].file.name == names[at]
    assert dict(parts[5][0].file.metadata) == {"k": "v"}
    assert parts[5][0].file.state == types_pb2.FILE_STATE_STORED
    assert parts[405][0].file.state == types_pb2.FILE_STATE_OPEN
    assert len(parts[804]) >= 3
    assert int(trailers["des-object-store-requests"]) >= 2
    assert int(trailers["des-object-store-bytes"]) >= 3 * MIB


async def test_good_and_bad_items_are_answered_one_by_one(files):
    (name,) = await write(files, [b"0123456789"])
    items = [
        ReadItem(name=name, range=types_pb2.ByteRange(offset=-4, limit=2)),
        ReadItem(name="bad"),
        ReadItem(name=name, range=types_pb2.ByteRange(offset=11)),
        ReadItem(name=name, range=types_pb2.ByteRange(limit=-1)),
        ReadItem(name=name),
        ReadItem(name=name),
    ]
    parts, trailers = await read(files, items, omit_file_info=True)
    assert {at: found[0].chunk.data for at, found in parts.items() if not found[0].HasField("status")} == {
        0: b"67",
        4: b"0123456789",
        5: b"0123456789",
    }
    assert parts[0][0].offset == 6
    assert {at: found[0].status.code for at, found in parts.items() if found[0].HasField("status")} == {
        1: grpc.StatusCode.INVALID_ARGUMENT.value[0],
        2: grpc.StatusCode.OUT_OF_RANGE.value[0],
        3: grpc.StatusCode.INVALID_ARGUMENT.value[0],
    }
    assert not any(part.HasField("file") for found in parts.values() for part in found)
    assert trailers["des-object-store-requests"] == "0"


async def test_an_empty_batch_is_an_empty_answer(files):
    parts, trailers = await read(files, [])
    assert parts == {}
    assert trailers["des-object-store-requests"] == "0"
    assert not (await files.BatchStatFiles(BatchStatFilesRequest())).results


async def test_too_many_items_are_refused_whole(files, refusal):
    async with refusal() as refused:
        await read(files, [ReadItem(name="x")] * 1001)
    assert (refused().code, refused().reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MESSAGE_TOO_LARGE")
    async with refusal() as refused:
        await files.BatchStatFiles(BatchStatFilesRequest(names=["x"] * 1001))
    assert refused().reason == "MESSAGE_TOO_LARGE"


async def test_stats_come_in_the_order_asked(files, channel):
    names = await write(files, [b"a", b"bb", b"ccc"], metadata={"k": "v"})
    await seal(channel)
    names += await write(files, [b"dddd"])
    request = BatchStatFilesRequest(
        names=[names[2], "bad", names[3], names[0]], view=types_pb2.FILE_VIEW_FULL
    )
    results = (await files.BatchStatFiles(request)).results
    assert [result.file.size_bytes for result in results] == [3, 0, 4, 1]
    assert [result.WhichOneof("result") for result in results] == ["file", "status", "file", "file"]
    assert dict(results[0].file.metadata) == {"k": "v"}
    assert results[0].file.placement.container_id
    basic = (await files.BatchStatFiles(BatchStatFilesRequest(names=names[:1]))).results[0].file
    assert not basic.metadata
    assert not basic.HasField("placement")
    call = files.StatFile(StatFileRequest(name=names[0]))
    assert (await call).file.size_bytes == 1
    assert dict(await call.trailing_metadata())["des-object-store-requests"] == "1"


async def test_a_reader_that_goes_away_half_way_ends_the_call(files, server, channel):
    names = await write(files, [os.urandom(100 * KIB) for _ in range(10)])
    call = files.BatchReadFiles(BatchReadFilesRequest(items=[ReadItem(name=name) for name in names] * 50))
    await call.read()
    call.cancel()
    while server.inflight.count:
        await asyncio.sleep(0.01)
    parts, _ = await read(files, [ReadItem(name=names[0])])
    assert len(parts) == 1
