"""The service over a real node: what the node refuses, and what it keeps when a client goes away."""

import asyncio

import grpc
import pytest
from des_proto.v1 import types_pb2
from des_proto.v1.file_service_pb2 import FileSpec, GetFileRequest, PutFileRequest, StatFileRequest
from des_proto.v1.file_service_pb2_grpc import FileServiceStub
from des_proto.v1.naming_service_pb2 import AssignNameRequest
from des_proto.v1.naming_service_pb2_grpc import NamingServiceStub
from des_proto.v1.shard_service_pb2 import SealShardRequest
from des_proto.v1.shard_service_pb2_grpc import ShardServiceStub

from des.config import LogSettings, Settings
from tests.integration.server.one_node import serving


@pytest.fixture
async def channel(tmp_path):
    settings = Settings(
        data_dir=tmp_path,
        listen="127.0.0.1:0",
        http_listen="",
        shard_bits=1,
        log=LogSettings(segment_bytes=1 << 20),
    )
    async with (
        serving(settings) as (_, server),
        grpc.aio.insecure_channel(str(server.address)) as channel,
    ):
        yield channel


@pytest.fixture
def files(channel):
    return FileServiceStub(channel)


def whole(data, **spec):
    return iter([PutFileRequest(spec=FileSpec(**spec), chunk=types_pb2.DataChunk(data=data), finish=True)])


async def a_name(channel):
    return (await NamingServiceStub(channel).AssignName(AssignNameRequest())).names[0].name


@pytest.mark.parametrize(
    ("spec", "code", "reason"),
    [
        ({"name": "no name"}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_NAME"),
        ({"prefix": "not a prefix!"}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_NAME"),
        ({"metadata": {"UPPER": "x"}}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        ({"metadata": {"k": "x" * 9000}}, grpc.StatusCode.INVALID_ARGUMENT, "METADATA_TOO_LARGE"),
        ({"content_type": "x" * 300}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD"),
        ({"size_bytes": 17 << 30}, grpc.StatusCode.INVALID_ARGUMENT, "FILE_TOO_LARGE"),
        ({"durability": types_pb2.DURABILITY_STORED}, grpc.StatusCode.UNIMPLEMENTED, "FEATURE_DISABLED"),
    ],
)
@pytest.mark.parametrize("parts", [False, True])
async def test_a_bad_specification_is_refused(files, refusal, spec, code, reason, parts):
    messages = whole(b"x", **spec)
    if parts:
        messages = iter([PutFileRequest(spec=FileSpec(**spec)), PutFileRequest(finish=True)])
    async with refusal() as refused:
        await files.PutFile(messages)
    assert (refused().code, refused().reason) == (code, reason)


async def test_a_name_never_changes_its_content(channel, files, refusal):
    name = await a_name(channel)
    assert not (await files.PutFile(whole(b"one", name=name))).already_existed
    assert (await files.PutFile(whole(b"one", name=name))).already_existed
    async with refusal() as refused:
        await files.PutFile(whole(b"two", name=name))
    assert refused().code is grpc.StatusCode.ALREADY_EXISTS
    assert refused().facts["name"] == name


async def test_a_request_id_makes_one_file(files, refusal):
    first = await files.PutFile(whole(b"one", request_id="r"))
    again = await files.PutFile(whole(b"one", request_id="r"))
    assert again.already_existed
    assert again.file.name == first.file.name
    async with refusal() as refused:
        await files.PutFile(whole(b"two", request_id="r"))
    assert refused().reason == "REQUEST_ID_CONFLICT"


@pytest.mark.parametrize("name", ["", "nonsense", "X_20261123_(000000000000_01)", "a/../b", "\u00e9"])
@pytest.mark.parametrize("method", ["GetFile", "StatFile"])
async def test_what_is_no_name_is_refused_and_not_missing(files, refusal, name, method):
    async with refusal() as refused:
        if method == "StatFile":
            await files.StatFile(StatFileRequest(name=name))
        else:
            await files.GetFile(GetFileRequest(name=name)).read()
    assert refused().reason == "INVALID_NAME"


async def test_a_name_without_a_file_is_missing(channel, files, refusal):
    name = await a_name(channel)
    async with refusal() as refused:
        await files.StatFile(StatFileRequest(name=name))
    assert refused().code is grpc.StatusCode.NOT_FOUND
    assert refused().facts == {"name": name}


async def test_ranges_are_the_same_before_and_after_the_seal(channel, files):
    data = bytes(n % 253 for n in range(300_000)) * 10
    parts = [data[at : at + (1 << 20)] for at in range(0, len(data), 1 << 20)]
    messages, offset = [], 0
    for part in parts:
        messages.append(PutFileRequest(chunk=types_pb2.DataChunk(data=part), write_offset=offset))
        offset += len(part)
    messages[0].spec.size_bytes = len(data)
    messages[-1].finish = True
    file = (await files.PutFile(iter(messages))).file

    async def windows():
        for start, limit in [(0, 0), (5, 10), (-7, 0), ((1 << 20) - 3, 6), (len(data), 0)]:
            window = types_pb2.ByteRange(offset=start, limit=limit)
            call = files.GetFile(GetFileRequest(name=file.name, range=window))
            got = b"".join([message.chunk.data async for message in call])
            low = start if start >= 0 else len(data) + start
            assert got == data[low : low + limit if limit else None]

    await windows()
    await ShardServiceStub(channel).SealShard(SealShardRequest(shard_id=file.shard_id))
    assert (await files.StatFile(StatFileRequest(name=file.name))).file.state == types_pb2.FILE_STATE_STORED
    await windows()


async def test_a_put_that_its_client_gave_up_is_whole_or_absent(channel, files):
    name = await a_name(channel)
    calls = []
    for _ in range(20):
        calls.append(files.PutFile(whole(b"given up", name=name)))
        await asyncio.sleep(0.001)
        calls[-1].cancel()
    # The next one settles it: the name has this content, from now or from before.
    await files.PutFile(whole(b"given up", name=name))
    message = await files.GetFile(GetFileRequest(name=name)).read()
    assert message.chunk.data == b"given up"
