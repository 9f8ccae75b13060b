"""Durability `stored` over the wire: asked for, waited for, and refused where it cannot be kept."""

import asyncio

import grpc
import pytest
from des_proto.v1 import types_pb2
from des_proto.v1.file_service_pb2 import (
    BatchWriteFilesRequest,
    FileSpec,
    PutFileRequest,
    StartUploadRequest,
    WaitStoredRequest,
    WriteItem,
)
from des_proto.v1.file_service_pb2_grpc import FileServiceStub
from des_proto.v1.shard_service_pb2 import SealShardRequest
from des_proto.v1.shard_service_pb2_grpc import ShardServiceStub
from des_proto.v1.system_service_pb2 import GetServerInfoRequest
from des_proto.v1.system_service_pb2_grpc import SystemServiceStub
from prometheus_client import CollectorRegistry

from des.config import LimitSettings, LogSettings, Settings, StoredSettings
from tests.integration.server.one_node import serving

LOCAL, STORED = types_pb2.DURABILITY_LOCAL, types_pb2.DURABILITY_STORED


@pytest.fixture
def stored() -> StoredSettings:
    return StoredSettings(any_store=True)


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
async def channel(tmp_path, stored, registry):
    settings = Settings(
        data_dir=tmp_path,
        listen="127.0.0.1:0",
        http_listen="",
        shard_bits=1,
        durability="stored" if stored.any_store else "local",
        log=LogSettings(segment_bytes=1 << 20),
        limits=LimitSettings(batch_items=5),
        stored=stored,
    )
    async with (
        serving(settings, registry=registry) as (_, server),
        grpc.aio.insecure_channel(str(server.address)) as channel,
    ):
        yield channel


@pytest.fixture
def files(channel):
    return FileServiceStub(channel)


def whole(data, **spec):
    return iter([PutFileRequest(spec=FileSpec(**spec), chunk=types_pb2.DataChunk(data=data), finish=True)])


def parts(data, **spec):
    yield PutFileRequest(spec=FileSpec(**spec))
    for at in range(0, len(data), 1 << 20):
        yield PutFileRequest(write_offset=at, chunk=types_pb2.DataChunk(data=data[at : at + (1 << 20)]))
    yield PutFileRequest(write_offset=len(data), finish=True)


async def test_a_put_says_what_it_reached(channel, files):
    info = await SystemServiceStub(channel).GetServerInfo(GetServerInfoRequest())
    assert info.default_durability == STORED
    assert "stored_ack" in info.features
    assert (await files.PutFile(whole(b"by default"))).durability == STORED
    assert (await files.PutFile(whole(b"local", durability=LOCAL))).durability == LOCAL
    assert (await files.PutFile(parts(bytes(3 << 20), durability=STORED))).durability == STORED
    upload = await files.StartUpload(StartUploadRequest(spec=FileSpec(durability=STORED)))
    resumed = iter(
        [
            PutFileRequest(upload_id=upload.upload_id),
            PutFileRequest(chunk=types_pb2.DataChunk(data=b"in pieces")),
            PutFileRequest(write_offset=9, finish=True),
        ]
    )
    assert (await files.PutFile(resumed)).durability == STORED
    first = await files.PutFile(whole(b"twice", request_id="r", durability=LOCAL))
    again = await files.PutFile(whole(b"twice", request_id="r", durability=STORED))
    assert (first.durability, again.durability) == (LOCAL, STORED)
    assert (again.file.name, again.already_existed) == (first.file.name, True)
    after = await files.PutFile(whole(b"twice", request_id="r", durability=LOCAL))
    assert after.durability == STORED


async def write_batch(files, durabilities):
    items = [
        WriteItem(index=n, spec=FileSpec(durability=durability), chunk=types_pb2.DataChunk(data=b"%d" % n))
        for n, durability in enumerate(durabilities)
    ]
    results = {}
    async for answer in files.BatchWriteFiles(iter([BatchWriteFilesRequest(items=items)])):
        results.update((result.index, result) for result in answer.results)
    return [results[n] for n in range(len(items))]


async def test_the_files_of_a_batch_reach_what_each_asks_for(files):
    results = await write_batch(files, [LOCAL, STORED, types_pb2.DURABILITY_UNSPECIFIED, LOCAL])
    assert [result.durability for result in results] == [LOCAL, STORED, STORED, LOCAL]


@pytest.mark.parametrize("stored", [StoredSettings()])
async def test_a_batch_is_refused_only_where_it_asks_for_what_is_not_served(files, stored):
    results = await write_batch(files, [LOCAL, STORED, LOCAL])
    assert [result.status.code for result in results] == [0, grpc.StatusCode.UNIMPLEMENTED.value[0], 0]
    assert [result.durability for result in results] == [LOCAL, 0, LOCAL]


async def test_waiting_answers_for_each_file(channel, files, refusal):
    put = [await files.PutFile(whole(b"%d" % n, durability=LOCAL)) for n in range(3)]
    names = [answer.file.name for answer in put]
    absent = "DES_20260228_(A18B83E80000_97)"
    answer = await files.WaitStored(WaitStoredRequest(names=[*names, absent, "no name"]))
    assert [result.file.name for result in answer.results[:3]] == names
    assert [result.file.state for result in answer.results[:3]] == [types_pb2.FILE_STATE_OPEN] * 3
    assert [result.status.code for result in answer.results[3:]] == [
        grpc.StatusCode.NOT_FOUND.value[0],
        grpc.StatusCode.INVALID_ARGUMENT.value[0],
    ]
    for shard in range(2):
        await ShardServiceStub(channel).SealShard(SealShardRequest(shard_id=shard))
    answer = await files.WaitStored(WaitStoredRequest(names=names))
    assert [result.file.state for result in answer.results] == [types_pb2.FILE_STATE_STORED] * 3
    async with refusal() as refused:
        await files.WaitStored(WaitStoredRequest(names=names * 2))
    assert refused().reason == "INVALID_FIELD"


async def test_what_is_shipped_is_measured(channel, files, registry):
    await files.PutFile(whole(b"12345", durability=STORED))
    await files.PutFile(whole(b"local", durability=LOCAL))
    shown = {sample.name: sample.value for metric in registry.collect() for sample in metric.samples}
    assert (shown["des_shipped_segments_total"], shown["des_shipped_files_total"]) == (1, 1)
    assert shown["des_shipped_bytes_total"] > 5
    assert (shown["des_shipped_segments_unsealed"], shown["des_stored_waiting_files"]) == (1, 0)
    assert shown["des_shipping_failures_total"] == 0


async def test_many_at_once_are_each_answered(files):
    answers = await asyncio.gather(*(files.PutFile(whole(b"%d" % n, durability=STORED)) for n in range(50)))
    assert {answer.durability for answer in answers} == {STORED}
    assert len({answer.file.name for answer in answers}) == 50


@pytest.mark.parametrize("stored", [StoredSettings()])
async def test_a_local_folder_promises_nothing(channel, files, refusal, stored):
    info = await SystemServiceStub(channel).GetServerInfo(GetServerInfoRequest())
    assert info.default_durability == LOCAL
    assert "stored_ack" not in info.features
    for call in (
        files.PutFile(whole(b"x", durability=STORED)),
        files.PutFile(parts(b"x", durability=STORED)),
        files.StartUpload(StartUploadRequest(spec=FileSpec(durability=STORED))),
        files.WaitStored(WaitStoredRequest(names=["DES_20260228_(000000000000_00)"])),
    ):
        async with refusal() as refused:
            await call
        assert (refused().code, refused().reason) == (grpc.StatusCode.UNIMPLEMENTED, "FEATURE_DISABLED")
        assert refused().facts == {"feature": "stored_ack"}
