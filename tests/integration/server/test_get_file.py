import asyncio

import google_crc32c
import grpc
import pytest
from des_proto.v1 import types_pb2
from des_proto.v1.file_service_pb2 import GetFileRequest, StatFileRequest
from des_proto.v1.file_service_pb2_grpc import FileServiceStub

from des.errors import UnavailableError
from des.files import FileSpec

MIB = 1 << 20


@pytest.fixture
def files(channel):
    return FileServiceStub(channel)


async def put(double, size, name="A"):
    data = bytes(n % 251 for n in range(min(size, MIB))) * (size // MIB or 1)
    data = data[:size] if size else b""
    await double.put_bytes(
        FileSpec(name=name, content_type="text/plain", metadata={"k": "v"}), data, google_crc32c.value(data)
    )
    return data


async def get(files, offset=0, limit=0, chunk_bytes=0, name="A"):
    window = types_pb2.ByteRange(offset=offset, limit=limit)
    call = files.GetFile(GetFileRequest(name=name, range=window, chunk_bytes=chunk_bytes))
    messages = [message async for message in call]
    trailers = dict(await call.trailing_metadata())
    return messages, trailers


@pytest.mark.parametrize("size", [0, 1, 4096, MIB])
async def test_a_small_file_is_one_message_with_everything(files, double, size):
    data = await put(double, size)
    (message,), trailers = await get(files)
    assert message.file.name == "A"
    assert message.file.size_bytes == size
    assert message.file.metadata == {"k": "v"}
    assert message.file.content_type == "text/plain"
    assert (message.content_range.start, message.content_range.end, message.content_range.total_size) == (
        0,
        size,
        size,
    )
    assert message.chunk.data == data
    assert message.chunk.crc32c == google_crc32c.value(data)
    assert message.chunk.HasField("crc32c")
    assert trailers["des-object-store-requests"] == "1"
    assert trailers["des-object-store-bytes"] == "77"
    assert trailers["des-request-id"]


@pytest.mark.parametrize(
    ("chunk_bytes", "expected"),
    [(0, MIB), (1, 4 << 10), (64 << 10, 64 << 10), (100_000, 100_000), (1 << 30, 2 * MIB)],
)
async def test_a_long_file_comes_in_chunks_each_with_its_checksum(files, double, chunk_bytes, expected):
    data = await put(double, 3 * MIB)
    messages, _ = await get(files, chunk_bytes=chunk_bytes)
    assert b"".join(message.chunk.data for message in messages) == data
    assert max(len(message.chunk.data) for message in messages) == min(expected, MIB)
    assert all(message.chunk.crc32c == google_crc32c.value(message.chunk.data) for message in messages)
    assert [message.HasField("file") for message in messages] == [True] + [False] * (len(messages) - 1)
    assert [message.HasField("content_range") for message in messages] == [True] + [False] * (
        len(messages) - 1
    )


@pytest.mark.parametrize(
    ("offset", "limit", "start", "stop"),
    [
        (0, 0, 0, 1000),
        (0, 1, 0, 1),
        (10, 0, 10, 1000),
        (10, 5, 10, 15),
        (10, 5000, 10, 1000),
        (-10, 0, 990, 1000),
        (-10, 3, 990, 993),
        (-5000, 0, 0, 1000),
        (-5000, 7, 0, 7),
        (1000, 0, 1000, 1000),
        (1000, 5, 1000, 1000),
        (999, 0, 999, 1000),
        (0, 2**63 - 1, 0, 1000),
        (-(2**63), 0, 0, 1000),
    ],
)
async def test_a_range_means_its_window(files, double, offset, limit, start, stop):
    data = await put(double, 1000)
    messages, _ = await get(files, offset=offset, limit=limit)
    window = messages[0].content_range
    assert (window.start, window.end, window.total_size) == (start, stop, 1000)
    assert b"".join(message.chunk.data for message in messages) == data[start:stop]


@pytest.mark.parametrize(
    ("fields", "code", "reason", "facts"),
    [
        (
            {"offset": 1001},
            grpc.StatusCode.OUT_OF_RANGE,
            "RANGE_NOT_SATISFIABLE",
            {"offset": "1001", "size": "1000"},
        ),
        ({"limit": -1}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", {"field": "range.limit"}),
        ({"chunk_bytes": -1}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", {"field": "chunk_bytes"}),
        ({"name": "B"}, grpc.StatusCode.NOT_FOUND, "FILE_NOT_FOUND", {"name": "B"}),
    ],
)
async def test_what_cannot_be_sent_is_refused(files, double, refusal, fields, code, reason, facts):
    await put(double, 1000)
    async with refusal() as refused:
        await get(files, **fields)
    assert refused().code is code
    assert refused().reason == reason
    assert refused().facts == facts


async def test_an_empty_file_has_an_empty_window_and_nothing_beyond(files, double, refusal):
    await put(double, 0)
    (message,), _ = await get(files, offset=-5)
    assert message.chunk.data == b""
    async with refusal() as refused:
        await get(files, offset=1)
    assert refused().reason == "RANGE_NOT_SATISFIABLE"


async def test_no_headers_are_sent_before_the_first_message(files, double, server, refusal):
    double.error = UnavailableError("store away")
    async with refusal() as refused:
        await get(files)
    # Trailers only: a client may retry such a call without asking (gRFC A6).
    assert refused().trailers["grpc-retry-pushback-ms"] == "1000"


async def test_a_reader_that_does_not_read_holds_the_server_back(files, double, server):
    data = await put(double, 64 * MIB)
    call = files.GetFile(GetFileRequest(name="A"))
    await call.read()
    await asyncio.sleep(0.3)
    sent = double.opened[-1].blocks_read
    assert sent < 32
    received = MIB
    while (message := await call.read()) is not grpc.aio.EOF:
        received += len(message.chunk.data)
    assert received == len(data)


async def test_a_reader_that_leaves_ends_the_read(files, double, server):
    await put(double, 64 * MIB)
    call = files.GetFile(GetFileRequest(name="A"))
    await call.read()
    call.cancel()
    async with asyncio.timeout(5):
        while server.inflight.count or not double.opened[-1].ended:
            await asyncio.sleep(0.01)


async def test_stat_tells_basic_or_everything(files, double):
    await put(double, 10)
    basic = (await files.StatFile(StatFileRequest(name="A"))).file
    full = (await files.StatFile(StatFileRequest(name="A", view=types_pb2.FILE_VIEW_FULL))).file
    assert basic.size_bytes == full.size_bytes == 10
    assert not basic.metadata
    assert full.metadata == {"k": "v"}


async def test_stat_refuses_a_view_it_does_not_know(files, refusal):
    async with refusal() as refused:
        await files.StatFile(StatFileRequest(name="A", view=9))
    assert refused().facts == {"field": "view"}
