"""Every kind of bad input against the real server: its status, its reason, a store that goes on."""

from collections.abc import Iterator

import grpc
import pytest
from des_proto.v1 import (
    file_service_pb2,
    file_service_pb2_grpc,
    naming_service_pb2,
    naming_service_pb2_grpc,
    shard_service_pb2,
    shard_service_pb2_grpc,
    types_pb2,
)
from google.rpc import error_details_pb2, status_pb2

Code = grpc.StatusCode
MIB = 1 << 20


class Refusal:
    """What a failed call told: status, reason, message."""

    def __init__(self, error: grpc.RpcError) -> None:
        self.code = error.code()
        status = status_pb2.Status()
        for key, value in error.trailing_metadata():
            if key == "grpc-status-details-bin":
                status.ParseFromString(value)
        info = error_details_pb2.ErrorInfo()
        assert any(detail.Unpack(info) for detail in status.details), f"no ErrorInfo in {error}"
        assert info.domain == "des.storage"
        assert status.message == error.details()
        self.reason = info.reason
        self.message = status.message


@pytest.fixture(scope="module")
def channel(tmp_path_factory) -> Iterator[grpc.Channel]:
    from tests.conftest import ServerProcess  # noqa: PLC0415  the fixture of one test is not enough here

    folder = tmp_path_factory.mktemp("bad-input")
    server = ServerProcess(folder / "data", folder / "server.log", {"DES_LIMITS__FILE_BYTES": "4MiB"}).start()
    with grpc.insecure_channel(server.address) as made:
        yield made
    assert server.terminate() == 0


@pytest.fixture
def files(channel) -> file_service_pb2_grpc.FileServiceStub:
    return file_service_pb2_grpc.FileServiceStub(channel)


@pytest.fixture
def a_name(channel) -> str:
    stub = naming_service_pb2_grpc.NamingServiceStub(channel)
    return stub.AssignName(naming_service_pb2.AssignNameRequest()).names[0].name


def first(
    data: bytes = b"abc", *, finish: bool = True, offset: int = 0, **spec
) -> file_service_pb2.PutFileRequest:
    return file_service_pb2.PutFileRequest(
        spec=file_service_pb2.FileSpec(**spec),
        write_offset=offset,
        chunk=types_pb2.DataChunk(data=data),
        finish=finish,
    )


def more(data: bytes, *, offset: int, finish: bool = True) -> file_service_pb2.PutFileRequest:
    return file_service_pb2.PutFileRequest(
        write_offset=offset, chunk=types_pb2.DataChunk(data=data), finish=finish
    )


def refused(call) -> Refusal:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return Refusal(caught.value)


def with_chunk_crc(crc32c: int) -> file_service_pb2.PutFileRequest:
    request = first()
    request.chunk.crc32c = crc32c
    return request


def with_file_sums(**sums) -> file_service_pb2.PutFileRequest:
    request = first()
    request.checksums.CopyFrom(types_pb2.Checksums(**sums))
    return request


UPLOADS = {
    "no message at all": ([], Code.INVALID_ARGUMENT, "STREAM_INCOMPLETE"),
    "first message without a target": ([more(b"abc", offset=0)], Code.INVALID_ARGUMENT, "STREAM_INCOMPLETE"),
    "end before finish": ([first(finish=False)], Code.INVALID_ARGUMENT, "STREAM_INCOMPLETE"),
    "a second specification": ([first(finish=False), first(offset=3)], Code.INVALID_ARGUMENT, None),
    "a message after finish": ([first(), more(b"x", offset=3)], Code.INVALID_ARGUMENT, None),
    "an upload that nobody began": (
        [file_service_pb2.PutFileRequest(upload_id="u", finish=True)],
        Code.NOT_FOUND,
        "UPLOAD_NOT_FOUND",
    ),
    "a first offset that is not 0": ([first(offset=7)], Code.INVALID_ARGUMENT, "OFFSET_MISMATCH"),
    "a gap": ([first(finish=False), more(b"x", offset=4)], Code.INVALID_ARGUMENT, "OFFSET_MISMATCH"),
    "a negative offset": ([first(offset=-1)], Code.INVALID_ARGUMENT, "OFFSET_MISMATCH"),
    "fewer bytes than declared": ([first(size_bytes=4)], Code.INVALID_ARGUMENT, "UPLOAD_SIZE_MISMATCH"),
    "more bytes than declared": ([first(size_bytes=2)], Code.INVALID_ARGUMENT, "UPLOAD_SIZE_MISMATCH"),
    "a negative size": ([first(size_bytes=-1)], Code.INVALID_ARGUMENT, "INVALID_FIELD"),
    "a declared size above the limit": (
        [first(size_bytes=5 * MIB, finish=False)],
        Code.INVALID_ARGUMENT,
        "FILE_TOO_LARGE",
    ),
    "more bytes than the limit": (
        [first(bytes(MIB), finish=False)]
        + [more(bytes(MIB), offset=number * MIB, finish=False) for number in range(1, 6)],
        Code.INVALID_ARGUMENT,
        "FILE_TOO_LARGE",
    ),
    "a chunk above 2 MiB": ([first(bytes(2 * MIB + 1))], Code.INVALID_ARGUMENT, "MESSAGE_TOO_LARGE"),
    "a chunk that is not what was summed": (
        [with_chunk_crc(1)],
        Code.INVALID_ARGUMENT,
        "UPLOAD_CHECKSUM_MISMATCH",
    ),
    "a file with another CRC32C": (
        [with_file_sums(crc32c=1)],
        Code.INVALID_ARGUMENT,
        "UPLOAD_CHECKSUM_MISMATCH",
    ),
    "a file with another SHA-256": (
        [with_file_sums(sha256=bytes(32))],
        Code.INVALID_ARGUMENT,
        "UPLOAD_CHECKSUM_MISMATCH",
    ),
    "a SHA-256 of odd length": ([with_file_sums(sha256=b"x")], Code.INVALID_ARGUMENT, None),
    "a foreign name": ([first(name="report.pdf")], Code.INVALID_ARGUMENT, "INVALID_NAME"),
    "a name with a wrong checksum": (
        [first(name="DES_20261123_(000000000000_01)")],
        Code.INVALID_ARGUMENT,
        "INVALID_NAME",
    ),
    "a name with path parts": ([first(name="../DES/x")], Code.INVALID_ARGUMENT, "INVALID_NAME"),
    "a name with control characters": (
        [first(name="DES_20261123_(000000000000_00)\n")],
        Code.INVALID_ARGUMENT,
        "INVALID_NAME",
    ),
    "an impossible day": (
        [first(name="DES_20260230_(000000000000_00)")],
        Code.INVALID_ARGUMENT,
        "INVALID_NAME",
    ),
    "a prefix that no name has": ([first(prefix="a b")], Code.INVALID_ARGUMENT, None),
    "too many metadata keys": (
        [first(metadata={f"k{number}": "" for number in range(65)})],
        Code.INVALID_ARGUMENT,
        "METADATA_TOO_LARGE",
    ),
    "too many metadata bytes": (
        [first(metadata={"k": "x" * 9000})],
        Code.INVALID_ARGUMENT,
        "METADATA_TOO_LARGE",
    ),
    "a metadata key out of the rules": ([first(metadata={"K": "v"})], Code.INVALID_ARGUMENT, "INVALID_FIELD"),
    "a reserved metadata key": ([first(metadata={"size": "9"})], Code.INVALID_ARGUMENT, "INVALID_FIELD"),
    "a durability that is not served": (
        [first(durability=types_pb2.DURABILITY_STORED)],
        Code.UNIMPLEMENTED,
        "FEATURE_DISABLED",
    ),
    "a durability that does not exist": ([first(durability=99)], Code.INVALID_ARGUMENT, "INVALID_FIELD"),
}


@pytest.mark.parametrize("case", UPLOADS)
def test_a_bad_upload_is_refused_with_its_reason_and_leaves_nothing(channel, files, case) -> None:
    messages, code, reason = UPLOADS[case]
    before = open_files(channel)
    refusal = refused(lambda: files.PutFile(iter(messages), timeout=20))
    assert (code, reason or refusal.reason) == (refusal.code, refusal.reason), refusal.message
    assert open_files(channel) == before
    stored = files.PutFile(iter([first(b"after")]), timeout=20).file
    read = b"".join(
        part.chunk.data
        for part in files.GetFile(file_service_pb2.GetFileRequest(name=stored.name), timeout=20)
    )
    assert read == b"after"


def open_files(channel) -> int:
    stub = shard_service_pb2_grpc.ShardServiceStub(channel)
    return sum(shard.open_files for shard in stub.ShardStatus(shard_service_pb2.ShardStatusRequest()).shards)


def test_other_content_under_a_known_name_conflicts(files, a_name) -> None:
    assert not files.PutFile(iter([first(name=a_name)])).already_existed
    assert files.PutFile(iter([first(name=a_name)])).already_existed
    refusal = refused(lambda: files.PutFile(iter([first(b"abd", name=a_name)])))
    assert (refusal.code, refusal.reason) == (Code.ALREADY_EXISTS, "NAME_CONFLICT")


def test_a_request_id_cannot_be_used_for_other_content(files) -> None:
    files.PutFile(iter([first(request_id="one")]))
    refusal = refused(lambda: files.PutFile(iter([first(b"abd", request_id="one")])))
    assert (refusal.code, refusal.reason) == (Code.ALREADY_EXISTS, "REQUEST_ID_CONFLICT")


@pytest.mark.parametrize("call", ["GetFile", "StatFile"])
def test_an_unknown_file_is_not_found(files, a_name, call) -> None:
    refusal = refused(lambda: ask(files, call, a_name))
    assert (refusal.code, refusal.reason) == (Code.NOT_FOUND, "FILE_NOT_FOUND")
    assert a_name in refusal.message


@pytest.mark.parametrize("call", ["GetFile", "StatFile"])
@pytest.mark.parametrize("name", ["", "x", "../../etc/passwd", "DES_20261123_(000000000000_0f)", "a" * 3000])
def test_a_name_that_des_does_not_make_is_refused(files, call, name) -> None:
    refusal = refused(lambda: ask(files, call, name))
    assert (refusal.code, refusal.reason) == (Code.INVALID_ARGUMENT, "INVALID_NAME")


def ask(files, call: str, name: str):
    if call == "StatFile":
        return files.StatFile(file_service_pb2.StatFileRequest(name=name))
    return list(files.GetFile(file_service_pb2.GetFileRequest(name=name)))


@pytest.mark.parametrize(
    ("offset", "limit", "code", "reason"),
    [
        (4, 0, Code.OUT_OF_RANGE, "RANGE_NOT_SATISFIABLE"),
        (0, -1, Code.INVALID_ARGUMENT, "INVALID_FIELD"),
    ],
)
def test_a_range_outside_the_file_is_refused(files, offset, limit, code, reason) -> None:
    name = files.PutFile(iter([first()])).file.name
    wanted = file_service_pb2.GetFileRequest(name=name, range=types_pb2.ByteRange(offset=offset, limit=limit))
    refusal = refused(lambda: list(files.GetFile(wanted)))
    assert (refusal.code, refusal.reason) == (code, reason)


@pytest.mark.parametrize(
    ("offset", "limit", "expected"),
    [(0, 0, b"abc"), (1, 1, b"b"), (-2, 0, b"bc"), (-4, 0, b"abc"), (3, 0, b""), (1, 99, b"bc")],
)
def test_a_range_inside_the_file_is_given(files, offset, limit, expected) -> None:
    name = files.PutFile(iter([first()])).file.name
    wanted = file_service_pb2.GetFileRequest(name=name, range=types_pb2.ByteRange(offset=offset, limit=limit))
    assert b"".join(part.chunk.data for part in files.GetFile(wanted)) == expected


@pytest.mark.parametrize("count", [-1, 1001])
def test_an_impossible_number_of_names_is_refused(channel, count) -> None:
    stub = naming_service_pb2_grpc.NamingServiceStub(channel)
    refusal = refused(lambda: stub.AssignName(naming_service_pb2.AssignNameRequest(count=count)))
    assert (refusal.code, refusal.reason) == (Code.INVALID_ARGUMENT, "INVALID_FIELD")


def test_a_replayed_request_gets_the_very_same_names(channel) -> None:
    stub = naming_service_pb2_grpc.NamingServiceStub(channel)
    asked = naming_service_pb2.AssignNameRequest(count=3, request_id="replay")
    assert list(stub.AssignName(asked).names) == list(stub.AssignName(asked).names)
    asked.count = 4
    assert refused(lambda: stub.AssignName(asked)).code is Code.ALREADY_EXISTS


@pytest.mark.parametrize("shard", [256, (1 << 32) - 1])
def test_a_shard_that_does_not_exist_is_not_found(channel, shard) -> None:
    stub = shard_service_pb2_grpc.ShardServiceStub(channel)
    for call in (
        lambda: stub.ShardStatus(shard_service_pb2.ShardStatusRequest(shard_ids=[shard])),
        lambda: stub.SealShard(shard_service_pb2.SealShardRequest(shard_id=shard)),
    ):
        refusal = refused(call)
        assert (refusal.code, refusal.reason) == (Code.NOT_FOUND, "SHARD_NOT_FOUND")


def test_a_page_token_of_somebody_else_is_refused(channel) -> None:
    stub = shard_service_pb2_grpc.ShardServiceStub(channel)
    refusal = refused(lambda: stub.ShardStatus(shard_service_pb2.ShardStatusRequest(page_token="zzz")))
    assert (refusal.code, refusal.reason) == (Code.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")
