import asyncio
import hashlib

import google_crc32c
import grpc
import pytest
from des_proto.v1 import types_pb2
from des_proto.v1.file_service_pb2 import FileSpec, PutFileRequest
from des_proto.v1.file_service_pb2_grpc import FileServiceStub

from des.config import LimitSettings
from des.errors import DisabledError, UnavailableError
from des.files import Durability

KIB = 1 << 10
CHUNK = 64 * KIB


@pytest.fixture
def limits():
    return LimitSettings(
        chunk_bytes=CHUNK,
        file_bytes=1 << 20,
        bytes_in_flight=4 * CHUNK,
        stall_s=0.4,
        bytes_per_s_min=0,
        admission_wait_s=0.4,
    )


@pytest.fixture
def files(channel):
    return FileServiceStub(channel)


def first(data=b"", **fields):
    fields.setdefault("spec", FileSpec(name="A"))
    return PutFileRequest(chunk=types_pb2.DataChunk(data=data), **fields)


def more(data, offset, **fields):
    return PutFileRequest(chunk=types_pb2.DataChunk(data=data), write_offset=offset, **fields)


def crc(data):
    return google_crc32c.value(data)


async def test_a_file_of_one_message_is_stored_with_all_that_was_said_about_it(files, double):
    spec = FileSpec(
        name="A",
        size_bytes=5,
        content_type="text/plain",
        metadata={"k": "v"},
        durability=types_pb2.DURABILITY_LOCAL,
        request_id="r",
        prefix="P",
    )
    sums = types_pb2.Checksums(crc32c=crc(b"hello"), sha256=hashlib.sha256(b"hello").digest())
    message = first(b"hello", spec=spec, checksums=sums, finish=True)
    message.chunk.crc32c = crc(b"hello")
    answer = await files.PutFile(iter([message]))
    assert answer.file.name == "A"
    assert answer.file.size_bytes == 5
    assert answer.file.checksums.crc32c == crc(b"hello")
    assert answer.file.create_time.ToMilliseconds() == double.started_ms + 5
    assert answer.durability == types_pb2.DURABILITY_LOCAL
    assert not answer.already_existed
    (stored,) = double.specs
    assert stored.name == "A"
    assert stored.size == 5
    assert stored.metadata == {"k": "v"}
    assert stored.request_id == "r"
    assert stored.prefix == "P"
    assert stored.durability is Durability.LOCAL
    assert not double.begun


async def test_a_repeated_write_says_so(files):
    await files.PutFile(iter([first(b"x", finish=True)]))
    answer = await files.PutFile(iter([first(b"x", finish=True)]))
    assert answer.already_existed


async def test_an_empty_file_is_a_file(files, double):
    answer = await files.PutFile(iter([PutFileRequest(spec=FileSpec(name="A"), finish=True)]))
    assert answer.file.size_bytes == 0
    assert double.files["A"][1] == b""


@pytest.mark.parametrize("sizes", [[CHUNK, CHUNK, 7], [0, 5], [1, 1, 1, 0]])
async def test_a_file_of_many_messages_arrives_whole(files, double, sizes):
    parts = [bytes([65 + n]) * size for n, size in enumerate(sizes)]
    whole = b"".join(parts)
    messages, offset = [], 0
    for n, part in enumerate(parts):
        message = first(part) if n == 0 else more(part, offset)
        message.chunk.crc32c = crc(part)
        messages.append(message)
        offset += len(part)
    messages[0].spec.size_bytes = len(whole)
    messages[-1].finish = True
    messages[-1].checksums.crc32c = crc(whole)
    answer = await files.PutFile(iter(messages))
    assert answer.file.size_bytes == len(whole)
    assert double.files["A"][1] == whole


async def test_the_last_message_may_be_empty(files, double):
    await files.PutFile(iter([first(b"abc"), PutFileRequest(write_offset=3, finish=True)]))
    assert double.files["A"][1] == b"abc"


def bad(*messages, reason, **facts):
    return pytest.param(messages, reason, facts, id=f"{reason}-{'-'.join(map(str, facts.values()))}")


def summed(message, **sums):
    message.checksums.CopyFrom(types_pb2.Checksums(**sums))
    return message


def chunk_summed(message, value):
    message.chunk.crc32c = value
    return message


SPEC = FileSpec(name="A", size_bytes=4)


@pytest.mark.parametrize(
    ("messages", "reason", "facts"),
    [
        bad(reason="STREAM_INCOMPLETE", position="0"),
        bad(more(b"x", 0, finish=True), reason="STREAM_INCOMPLETE", position="0"),
        bad(first(b"abc"), reason="STREAM_INCOMPLETE", position="3"),
        bad(first(b"abc"), more(b"d", 3), reason="STREAM_INCOMPLETE", position="4"),
        bad(
            first(b"abc", write_offset=1, finish=True),
            reason="OFFSET_MISMATCH",
            expected_offset="0",
            actual_offset="1",
        ),
        bad(
            first(b"abc"),
            more(b"d", 2, finish=True),
            reason="OFFSET_MISMATCH",
            expected_offset="3",
            actual_offset="2",
        ),
        bad(first(b"abc"), more(b"d", -1), reason="OFFSET_MISMATCH", expected_offset="3", actual_offset="-1"),
        bad(
            chunk_summed(first(b"abc", finish=True), 1),
            reason="UPLOAD_CHECKSUM_MISMATCH",
            expected="00000001",
            actual="364b3fb7",
            scope="chunk",
        ),
        bad(
            first(b"abc"),
            chunk_summed(more(b"abc", 3, finish=True), 2),
            reason="UPLOAD_CHECKSUM_MISMATCH",
            expected="00000002",
            actual="364b3fb7",
            scope="chunk",
        ),
        bad(
            summed(first(b"abc", finish=True), crc32c=1),
            reason="UPLOAD_CHECKSUM_MISMATCH",
            expected="00000001",
            actual="364b3fb7",
            scope="file",
        ),
        bad(
            summed(first(b"abc", finish=True), sha256=bytes(32)),
            reason="UPLOAD_CHECKSUM_MISMATCH",
            expected="00" * 32,
            actual=hashlib.sha256(b"abc").hexdigest(),
            scope="file",
        ),
        bad(
            summed(first(b"abc", finish=True), sha256=b"short"),
            reason="INVALID_FIELD",
            field="checksums.sha256",
        ),
        bad(
            first(b"a"),
            summed(more(b"b", 1), crc32c=1),
            more(b"c", 2, finish=True),
            reason="INVALID_FIELD",
            field="checksums",
        ),
        bad(
            summed(first(b"a"), crc32c=1),
            summed(more(b"b", 1, finish=True), crc32c=2),
            reason="INVALID_FIELD",
            field="checksums.crc32c",
        ),
        bad(
            summed(first(b"a"), sha256=bytes(32)),
            summed(more(b"b", 1, finish=True), sha256=bytes(31) + b"x"),
            reason="INVALID_FIELD",
            field="checksums.sha256",
        ),
        bad(
            first(b"abc"),
            more(b"d", 3, spec=FileSpec(name="B"), finish=True),
            reason="INVALID_FIELD",
            field="spec",
        ),
        bad(
            first(b"abc"),
            more(b"d", 3, upload_id="u", finish=True),
            reason="INVALID_FIELD",
            field="upload_id",
        ),
        bad(first(b"abc", finish=True), more(b"d", 3), reason="INVALID_FIELD", field="finish"),
        bad(
            first(b"abc"),
            more(b"d", 3, finish=True),
            more(b"", 4, finish=True),
            reason="INVALID_FIELD",
            field="finish",
        ),
        bad(
            first(bytes(CHUNK + 1), finish=True),
            reason="MESSAGE_TOO_LARGE",
            size=str(CHUNK + 1),
            max_size=str(CHUNK),
        ),
        bad(
            first(b"abc"),
            more(bytes(CHUNK + 1), 3),
            reason="MESSAGE_TOO_LARGE",
            size=str(CHUNK + 1),
            max_size=str(CHUNK),
        ),
        bad(
            first(b"x", spec=FileSpec(size_bytes=(1 << 20) + 1)),
            reason="FILE_TOO_LARGE",
            size=str((1 << 20) + 1),
            max_size=str(1 << 20),
        ),
        bad(first(b"abc", spec=SPEC, finish=True), reason="UPLOAD_SIZE_MISMATCH", expected="4", actual="3"),
        bad(first(b"abcde", spec=SPEC), reason="UPLOAD_SIZE_MISMATCH", expected="4", actual="5"),
        bad(
            first(b"abc", spec=SPEC),
            more(b"de", 3),
            reason="UPLOAD_SIZE_MISMATCH",
            expected="4",
            actual="5",
        ),
        bad(
            first(b"a", spec=SPEC),
            more(b"bc", 1, finish=True),
            reason="UPLOAD_SIZE_MISMATCH",
            expected="4",
            actual="3",
        ),
        bad(
            first(b"a", spec=FileSpec(size_bytes=-1), finish=True),
            reason="INVALID_FIELD",
            field="spec.size_bytes",
        ),
        bad(
            first(b"a", spec=FileSpec(durability=77), finish=True),
            reason="INVALID_FIELD",
            field="spec.durability",
        ),
    ],
)
async def test_a_broken_stream_is_refused_and_leaves_nothing(
    files, double, server, refusal, messages, reason, facts
):
    async with refusal() as refused:
        await files.PutFile(iter(messages))
    assert refused().reason == reason
    assert refused().facts == facts
    assert ("BadRequest" in refused().kinds) == (reason == "INVALID_FIELD")
    assert not double.files
    assert all(upload.state == "aborted" for upload in double.begun)
    assert server.lending.lent == 0
    await until(lambda: server.inflight.count == 0)


async def test_more_than_a_file_may_have_is_refused_before_it_has_all_arrived(files, refusal):
    offsets = range(0, (1 << 20) + 1, CHUNK)
    messages = [first(bytes(CHUNK))] + [more(bytes(CHUNK), offset) for offset in offsets[1:]]
    async with refusal() as refused:
        await files.PutFile(iter(messages))
    assert refused().reason == "FILE_TOO_LARGE"


async def test_a_message_over_the_transport_limit_is_refused_by_the_transport(files):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await files.PutFile(iter([first(bytes(CHUNK + (64 << 10) + 1), finish=True)]))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_message_of_exactly_the_limit_passes(files, double):
    data = bytes(CHUNK)
    metadata = {f"k{n}": "v" * 1000 for n in range(8)}
    await files.PutFile(iter([first(data, spec=FileSpec(name="A", metadata=metadata), finish=True)]))
    assert double.files["A"][1] == data


@pytest.mark.parametrize("messages", [[], [first(b"abc")], [first(b"abc", finish=True)]])
async def test_a_silent_sender_loses_its_stream(files, double, server, messages, refusal):
    call = files.PutFile()
    for message in messages:
        await call.write(message)
    async with refusal() as refused:
        await call
    assert refused().code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert refused().reason == "DEADLINE_EXCEEDED"
    assert server.lending.lent == 0
    assert not double.files


async def test_a_slow_sender_that_is_not_silent_may_go_on(files, double):
    call = files.PutFile()
    await call.write(first(b""))
    for offset in range(5):
        await asyncio.sleep(0.15)
        await call.write(more(b"x", offset))
    await call.write(more(b"", 5, finish=True))
    await call.done_writing()
    await call
    assert double.files["A"][1] == b"xxxxx"


async def test_a_cancelled_upload_is_aborted_and_frees_its_bytes(files, double, server):
    call = files.PutFile()
    await call.write(first(bytes(CHUNK)))
    await until(lambda: double.begun and double.begun[0].received == CHUNK)
    assert server.lending.lent == CHUNK
    call.cancel()
    await until(lambda: server.inflight.count == 0)
    assert double.begun[0].state == "aborted"
    assert server.lending.lent == 0
    assert handled(server, "PutFile", "Canceled") == 1


@pytest.mark.parametrize("single", [True, False])
async def test_a_deadline_ends_the_work(files, double, server, single):
    double.gate = asyncio.Event()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await files.PutFile(iter([first(b"abc", finish=single)]), timeout=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: server.inflight.count == 0)
    assert double.waiting == 0
    assert server.lending.lent == 0
    assert handled(server, "PutFile", "DeadlineExceeded") == 1


async def test_uploads_wait_for_room_and_then_go_on(files, double, server):
    double.gate = asyncio.Event()
    calls = [files.PutFile(iter([first(bytes(CHUNK), spec=FileSpec(), finish=True)])) for _ in range(7)]
    await until(lambda: server.lending.waiting == 3 * CHUNK)
    assert server.lending.lent == 4 * CHUNK
    double.gate.set()
    await asyncio.gather(*calls)
    assert server.lending.lent_max == 4 * CHUNK
    assert server.lending.lent == 0


async def test_an_upload_that_finds_no_room_in_time_is_told_to_come_back(files, double, server, refusal):
    double.gate = asyncio.Event()
    calls = [files.PutFile(iter([first(bytes(CHUNK), spec=FileSpec(), finish=True)])) for _ in range(4)]
    await until(lambda: double.waiting == 4)
    async with refusal() as refused:
        await files.PutFile(iter([first(b"x", finish=True)]))
    assert refused().code is grpc.StatusCode.UNAVAILABLE
    assert refused().reason == "SERVER_BUSY"
    assert refused().facts == {"limit": "bytes_in_flight"}
    assert "RetryInfo" in refused().kinds
    assert refused().trailers["grpc-retry-pushback-ms"] == "1000"
    double.gate.set()
    await asyncio.gather(*calls)


async def test_two_hundred_uploads_at_once_stay_within_the_budget(files, double, server):
    async def upload():
        messages = [first(bytes(CHUNK), spec=FileSpec()), more(bytes(CHUNK), CHUNK, finish=True)]
        try:
            await files.PutFile(iter(messages))
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            return 0
        return 1

    stored = sum(await asyncio.gather(*[upload() for _ in range(200)]))
    assert stored == len(double.files) >= 8
    assert server.lending.lent_max <= server.lending.total
    assert server.lending.lent == server.lending.waiting == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DisabledError("STORED is off", feature="stored_ack"), grpc.StatusCode.UNIMPLEMENTED),
        (UnavailableError("no log", cause="EIO"), grpc.StatusCode.UNAVAILABLE),
        (RuntimeError("secret"), grpc.StatusCode.INTERNAL),
    ],
)
@pytest.mark.parametrize("single", [True, False])
async def test_what_the_node_refuses_reaches_the_client(files, double, server, refusal, error, code, single):
    double.error = error
    messages = [first(b"abc", finish=True)] if single else [first(b"abc"), more(b"d", 3, finish=True)]
    async with refusal() as refused:
        await files.PutFile(iter(messages))
    assert refused().code is code
    assert "secret" not in refused().message
    assert server.lending.lent == 0


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


def handled(server, method, code):
    return server.registry.get_sample_value(
        "grpc_server_handled_total",
        {
            "grpc_type": "client_stream",
            "grpc_service": "des.v1.FileService",
            "grpc_method": method,
            "grpc_code": code,
        },
    )
