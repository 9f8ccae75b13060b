"""BatchWriteFiles over a real node: each item answered for itself, nothing shared but the price."""

import asyncio
import hashlib

import google_crc32c
import grpc
import pytest
from des_proto.v1 import types_pb2
from des_proto.v1.file_service_pb2 import (
    BatchWriteFilesRequest,
    FileSpec,
    GetFileRequest,
    StatFileRequest,
    WriteItem,
)
from des_proto.v1.file_service_pb2_grpc import FileServiceStub
from des_proto.v1.naming_service_pb2 import AssignNameRequest
from des_proto.v1.naming_service_pb2_grpc import NamingServiceStub
from des_proto.v1.shard_service_pb2 import SealShardRequest
from des_proto.v1.shard_service_pb2_grpc import ShardServiceStub
from des_server.servicers.index_set import STRAY_MAX, IndexSet
from google.rpc import error_details_pb2

from des.config import LimitSettings, LogSettings, Settings
from tests.integration.server.one_node import serving

MIB = 1 << 20


@pytest.fixture
def limits():
    return LimitSettings(batch_items=300, file_bytes=4 * MIB, bytes_in_flight=8 * MIB, admission_wait_s=60)


@pytest.fixture
async def server(tmp_path, limits):
    settings = Settings(
        data_dir=tmp_path,
        listen="127.0.0.1:0",
        http_listen="",
        shard_bits=1,
        log=LogSettings(segment_bytes=8 * MIB),
        limits=limits,
    )
    async with serving(settings) as (_, server):
        yield server


@pytest.fixture
def files(channel):
    return FileServiceStub(channel)


def item(index, data=b"", *, more=False, crc32c=None, checksums=None, chunk_crc32c=None, **spec):
    made = WriteItem(index=index, more=more, checksums=checksums)
    if spec.pop("has_spec", True):
        made.spec.CopyFrom(FileSpec(**spec))
    made.chunk.data = data
    if chunk_crc32c is not None:
        made.chunk.crc32c = chunk_crc32c
    if crc32c is not None:
        made.checksums.crc32c = crc32c
    return made


async def write(files, *messages):
    """Send messages of items; return the results by index, those of one index in a list."""
    found = {}
    requests = iter([BatchWriteFilesRequest(items=items) for items in messages])
    async for answer in files.BatchWriteFiles(requests):
        for result in answer.results:
            found.setdefault(result.index, []).append(result)
    return found


def reason(result):
    info = error_details_pb2.ErrorInfo()
    assert result.status.details[0].Unpack(info)
    return info.reason


async def content(files, name):
    return b"".join([part.chunk.data async for part in files.GetFile(GetFileRequest(name=name))])


async def names(channel, count):
    answer = await NamingServiceStub(channel).AssignName(AssignNameRequest(count=count))
    return [name.name for name in answer.names]


async def test_every_file_of_every_message_is_there_when_it_is_answered(files):
    sent = {index: f"file {index}".encode() * (index % 40) for index in range(600)}
    found = await write(
        files,
        [item(index, sent[index], content_type="text/plain") for index in range(300)],
        [item(index, sent[index], size_bytes=len(sent[index])) for index in range(300, 600)],
    )
    assert sorted(found) == list(range(600))
    assert len({results[0].file.name for results in found.values()}) == 600
    for index in range(0, 600, 37):
        (result,) = found[index]
        assert result.durability == types_pb2.DURABILITY_LOCAL
        assert not result.already_existed
        assert result.file.checksums.crc32c == google_crc32c.value(sent[index])
        assert result.file.state == types_pb2.FILE_STATE_OPEN
        assert await content(files, result.file.name) == sent[index]


async def test_good_items_are_kept_beside_bad_ones_and_each_says_what_is_wrong(files, channel):
    taken, other = await names(channel, 2)
    await write(files, [item(1, b"first", name=taken)])
    found = await write(
        files,
        [
            item(0, b"good"),
            item(1, b"second", name=taken),
            item(2, b"x", name="no name"),
            item(3, b"x", size_bytes=2),
            item(4, b"x", crc32c=1),
            item(5, b"x", chunk_crc32c=1),
            item(6, b"x", metadata={"UPPER": "x"}),
            item(7, b"x", durability=9),
            item(8, b"x", prefix="not a prefix"),
            item(9, b"x", has_spec=False),
            item(10, b"x", checksums=types_pb2.Checksums(sha256=b"short")),
            item(11, b"x", checksums=types_pb2.Checksums(sha256=bytes(32))),
            item(12, b"named", name=other),
            item(0, b"again"),
            item(13, b"x", size_bytes=5 * MIB),
        ],
    )
    assert {index: reason(results[-1]) for index, results in found.items() if index not in {0, 12}} == {
        1: "NAME_CONFLICT",
        2: "INVALID_NAME",
        3: "UPLOAD_SIZE_MISMATCH",
        4: "UPLOAD_CHECKSUM_MISMATCH",
        5: "UPLOAD_CHECKSUM_MISMATCH",
        6: "INVALID_FIELD",
        7: "INVALID_FIELD",
        8: "INVALID_NAME",
        9: "INVALID_FIELD",
        10: "INVALID_FIELD",
        11: "UPLOAD_CHECKSUM_MISMATCH",
        13: "FILE_TOO_LARGE",
    }
    assert found[1][0].status.code == grpc.StatusCode.ALREADY_EXISTS.value[0]
    good = [result for result in found[0] if not result.HasField("status")]
    refused = [result for result in found[0] if result.HasField("status")]
    assert (len(good), [reason(result) for result in refused]) == (1, ["INVALID_FIELD"])
    assert await content(files, good[0].file.name) == b"good"
    assert await content(files, taken) == b"first"
    assert await content(files, other) == b"named"


async def test_a_name_or_request_id_written_twice_is_one_file(files, channel):
    (name,) = await names(channel, 1)
    found = await write(
        files,
        [item(0, b"a", name=name), item(1, b"a", name=name), item(2, b"b", name=name)],
        [
            item(3, b"r", request_id="once"),
            item(4, b"r", request_id="once"),
            item(5, b"s", request_id="once"),
        ],
    )
    assert sorted(found[index][0].already_existed for index in (0, 1)) == [False, True]
    assert reason(found[2][0]) == "NAME_CONFLICT"
    assert {found[3][0].file.name} == {found[4][0].file.name}
    assert reason(found[5][0]) == "REQUEST_ID_CONFLICT"


async def test_a_repeated_batch_finds_its_files_open_or_sealed(files, channel):
    given = await names(channel, 40)
    batch = [item(index, given[index].encode(), name=given[index]) for index in range(40)]
    first = await write(files, batch)
    await ShardServiceStub(channel).SealShard(SealShardRequest(shard_id=0))
    again = await write(files, batch)
    assert not any(results[0].already_existed for results in first.values())
    assert all(results[0].already_existed for results in again.values())
    for index, results in again.items():
        assert results[0].file.name == given[index]


async def test_a_file_larger_than_a_message_comes_in_parts_between_others(files):
    data = bytes(range(256)) * (3 * MIB // 256)
    digest = hashlib.sha256(data).digest()
    found = await write(
        files,
        [item(7, data[:MIB], more=True, size_bytes=len(data)), item(1, b"small")],
        [item(7, data[MIB : 2 * MIB], more=True, has_spec=False)],
        [item(2, b"other")],
        [
            item(
                7,
                data[2 * MIB :],
                has_spec=False,
                checksums=types_pb2.Checksums(crc32c=google_crc32c.value(data), sha256=digest),
            )
        ],
    )
    assert sorted(found) == [1, 2, 7]
    assert await content(files, found[7][0].file.name) == data


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([{"more": True}, {"has_spec": False, "crc32c": 1}], "UPLOAD_CHECKSUM_MISMATCH"),
        ([{"more": True, "size_bytes": 9}, {"has_spec": False}], "UPLOAD_SIZE_MISMATCH"),
        ([{"more": True}, {}], "INVALID_FIELD"),
        ([{"more": True, "crc32c": 1}, {"has_spec": False}], "INVALID_FIELD"),
        ([{"more": True, "has_spec": False}, {"has_spec": False}], "INVALID_FIELD"),
        ([{"more": True, "name": "bad"}, {"has_spec": False}], "INVALID_NAME"),
        ([{"more": True}], "STREAM_INCOMPLETE"),
    ],
)
async def test_a_file_in_parts_that_breaks_a_rule_fails_alone(files, server, parts, expected):
    messages = [[item(3, b"part", **part), item(10 + at, b"fine")] for at, part in enumerate(parts)]
    found = await write(files, *messages)
    assert [reason(result) for result in found[3]] == [expected]
    assert all(not found[10 + at][0].HasField("status") for at in range(len(parts)))
    assert server.lending.lent == 0


async def test_too_many_items_in_a_message_end_the_stream(files, refusal):
    async with refusal() as refused:
        await write(files, [item(index) for index in range(301)])
    assert (refused().code, refused().reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MESSAGE_TOO_LARGE")


async def test_a_message_longer_than_the_transport_allows_ends_the_stream(files):
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await write(files, [item(0, bytes(2 * MIB)), item(1, bytes(MIB))])
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_bytes_in_memory_stay_within_the_credits(files, server):
    messages = [[item(10 * m + n, bytes(150_000)) for n in range(10)] for m in range(40)]
    found = await write(files, *messages)
    assert len(found) == 400
    assert 0 < server.lending.lent_max <= 8 * MIB
    assert server.lending.lent == 0


async def test_a_client_that_goes_away_leaves_nothing_borrowed(files, server, channel):
    (name,) = await names(channel, 1)
    stream = files.BatchWriteFiles()
    await stream.write(BatchWriteFilesRequest(items=[item(0, b"kept", name=name)]))
    answer = await stream.read()
    assert answer.results[0].file.name == name
    await stream.write(BatchWriteFilesRequest(items=[item(1, bytes(MIB), more=True)]))
    while not server.lending.lent:
        await asyncio.sleep(0.01)
    stream.cancel()
    while server.lending.lent or server.inflight.count:
        await asyncio.sleep(0.01)
    assert await content(files, name) == b"kept"


async def test_a_stream_past_its_deadline_ends_and_keeps_what_it_answered(files, server):
    stream = files.BatchWriteFiles(timeout=1.0)
    await stream.write(BatchWriteFilesRequest(items=[item(0, b"kept")]))
    answer = await stream.read()
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stream.read()
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert (await files.StatFile(StatFileRequest(name=answer.results[0].file.name))).file.size_bytes == 4


async def test_an_empty_stream_and_an_empty_message_are_no_error(files):
    assert await write(files) == {}
    assert await write(files, []) == {}


def test_indexes_that_count_up_cost_nothing_and_each_is_taken_once():
    used = IndexSet()
    assert all(used.add(index) for index in [5, 6, 9, 8, 7, 10, 2, 2**32 - 1])
    assert not any(used.add(index) for index in [5, 6, 7, 8, 9, 10, 2, 2**32 - 1])
    wild = IndexSet()
    for index in range(0, 2 * STRAY_MAX + 2, 2):
        wild.add(index)
    with pytest.raises(OverflowError):
        wild.add(2**31)
