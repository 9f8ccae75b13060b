"""Every method against bad input: which status, which reason. The walk over the services leaves none out.

The columns: `missing` (nothing where something is needed), `malformed`, `unknown` (ids that nobody has),
`oversized`, `duplicate` and `mixed` (batches), `cancelled` half way, `deadline` passed. `unauthenticated` is
every case once more where authentication is on: `test_security` goes through this matrix.
"""

import asyncio
from dataclasses import dataclass, field

import google_crc32c
import grpc
import pytest
from des_proto.v1 import types_pb2
from des_proto.v1.file_service_pb2 import (
    BatchDeleteFilesRequest,
    BatchReadFilesRequest,
    BatchStatFilesRequest,
    BatchWriteFilesRequest,
    CancelUploadRequest,
    DeleteFileRequest,
    FileSpec,
    GetFileRequest,
    GetUploadStatusRequest,
    ListFilesRequest,
    PutFileRequest,
    ReadItem,
    StartUploadRequest,
    StatFileRequest,
    WaitStoredRequest,
    WriteItem,
)
from des_proto.v1.naming_service_pb2 import AssignNameRequest
from des_proto.v1.shard_service_pb2 import SealShardRequest, ShardStatusRequest, WatchShardStatusRequest
from des_proto.v1.system_service_pb2 import GetServerInfoRequest
from des_server.app import SERVICES, build_server
from google.protobuf import duration_pb2, message_factory
from google.rpc import error_details_pb2, status_pb2

from des.config import LimitSettings, Settings
from des.files import FileSpec as StoredSpec
from des.node import Node

METHODS = {method.name: method for service in SERVICES.values() for method in service.methods}
COLUMNS = ("missing", "malformed", "unknown", "oversized", "duplicate", "mixed")
KIB = 1 << 10

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
OK = grpc.StatusCode.OK


@dataclass(frozen=True)
class Case:
    """Requests, and what the call ends with; or, for a batch, what its items end with, in order."""

    requests: list
    code: grpc.StatusCode = OK
    reason: str = ""
    items: list[str] = field(default_factory=list)
    """Reasons, empty for items that are well."""


def one(request, code=INVALID, reason="INVALID_FIELD", items=()):
    return Case([request], code, reason, list(items))


def good(*items):
    return {"code": OK, "reason": "", "items": list(items)}


def chunk(data=b"x", **more):
    return types_pb2.DataChunk(data=data, **more)


def put(**fields):
    return PutFileRequest(**{"finish": True, **fields})


def write(*items):
    return BatchWriteFilesRequest(items=items)


def item(index=0, **fields):
    return WriteItem(**{"index": index, "spec": FileSpec(), "chunk": chunk(), **fields})


LONG = "x" * 9000
MANY = 12
"""More than `batch_items` of this test."""

MATRIX: dict[str, dict[str, list[Case]]] = {
    "AssignName": {
        "malformed": [
            one(AssignNameRequest(count=-1)),
            one(AssignNameRequest(prefix="a b"), reason="INVALID_NAME"),
        ],
        "oversized": [
            one(AssignNameRequest(count=1001)),
            one(AssignNameRequest(prefix="x" * 33), reason="INVALID_NAME"),
        ],
    },
    "PutFile": {
        "missing": [
            Case([], INVALID, "STREAM_INCOMPLETE"),
            Case([PutFileRequest(finish=True)], INVALID, "STREAM_INCOMPLETE"),
            Case([PutFileRequest(spec=FileSpec())], INVALID, "STREAM_INCOMPLETE"),
        ],
        "malformed": [
            one(put(spec=FileSpec(name="bad")), reason="INVALID_NAME"),
            one(put(spec=FileSpec(size_bytes=-1))),
            one(put(spec=FileSpec(durability=7))),
            one(put(spec=FileSpec(content_type="a\x00b"))),
            one(put(spec=FileSpec(metadata={"UP": "x"}))),
            one(put(spec=FileSpec(), write_offset=1), reason="OFFSET_MISMATCH"),
            one(put(spec=FileSpec(), chunk=chunk(crc32c=1)), reason="UPLOAD_CHECKSUM_MISMATCH"),
            one(put(spec=FileSpec(), checksums=types_pb2.Checksums(sha256=b"x"))),
        ],
        "unknown": [one(put(upload_id="nobody"), NOT_FOUND, "UPLOAD_NOT_FOUND")],
        "oversized": [
            one(put(spec=FileSpec(size_bytes=1 << 40)), reason="FILE_TOO_LARGE"),
            one(put(spec=FileSpec(metadata={"k": LONG})), reason="METADATA_TOO_LARGE"),
            one(put(spec=FileSpec(), chunk=chunk(bytes(65 * KIB))), reason="MESSAGE_TOO_LARGE"),
            one(
                put(spec=FileSpec(), chunk=chunk(bytes(300 * KIB))),
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "",
            ),
        ],
    },
    "GetFile": {
        "missing": [one(GetFileRequest(), reason="INVALID_NAME")],
        "malformed": [
            one(GetFileRequest(name="bad"), reason="INVALID_NAME"),
            one(GetFileRequest(name="HELD", chunk_bytes=-1)),
            one(GetFileRequest(name="HELD", range=types_pb2.ByteRange(limit=-1))),
        ],
        "unknown": [one(GetFileRequest(name="UNKNOWN"), NOT_FOUND, "FILE_NOT_FOUND")],
        "oversized": [
            one(
                GetFileRequest(name="HELD", range=types_pb2.ByteRange(offset=99)),
                grpc.StatusCode.OUT_OF_RANGE,
                "RANGE_NOT_SATISFIABLE",
            ),
            one(GetFileRequest(name=LONG), reason="INVALID_NAME"),
        ],
    },
    "BatchWriteFiles": {
        "missing": [
            Case([]),
            Case([write()]),
            one(write(WriteItem(index=1)), **good("INVALID_FIELD")),
            one(write(item(more=True)), **good("STREAM_INCOMPLETE")),
        ],
        "malformed": [
            one(write(item(spec=FileSpec(name="bad"))), **good("INVALID_NAME")),
            one(write(item(chunk=chunk(crc32c=1))), **good("UPLOAD_CHECKSUM_MISMATCH")),
            one(write(item(spec=FileSpec(size_bytes=2))), **good("UPLOAD_SIZE_MISMATCH")),
            one(write(item(spec=FileSpec(durability=7))), **good("INVALID_FIELD")),
        ],
        "unknown": [],
        "oversized": [
            one(write(*[item(at) for at in range(MANY)]), reason="MESSAGE_TOO_LARGE"),
            one(write(item(chunk=chunk(bytes(65 * KIB)))), **good("MESSAGE_TOO_LARGE")),
            one(write(item(spec=FileSpec(size_bytes=1 << 40))), **good("FILE_TOO_LARGE")),
            one(write(item(chunk=chunk(bytes(300 * KIB)))), grpc.StatusCode.RESOURCE_EXHAUSTED, ""),
        ],
        "duplicate": [
            one(write(item(3), item(3)), **good("", "INVALID_FIELD")),
            Case([write(item(3)), write(item(4)), write(item(3))], items=["", "", "INVALID_FIELD"]),
        ],
        "mixed": [
            one(
                write(item(0), item(1, spec=FileSpec(name="bad")), item(2)),
                **good("", "", "INVALID_NAME"),
            ),
        ],
    },
    "BatchReadFiles": {
        "missing": [
            Case([BatchReadFilesRequest()]),
            one(BatchReadFilesRequest(items=[ReadItem()]), **good("INVALID_NAME")),
        ],
        "malformed": [
            one(BatchReadFilesRequest(items=[ReadItem(name="bad")]), **good("INVALID_NAME")),
            one(
                BatchReadFilesRequest(items=[ReadItem(name="HELD", range=types_pb2.ByteRange(limit=-1))]),
                **good("INVALID_FIELD"),
            ),
        ],
        "unknown": [one(BatchReadFilesRequest(items=[ReadItem(name="UNKNOWN")]), **good("FILE_NOT_FOUND"))],
        "oversized": [
            one(BatchReadFilesRequest(items=[ReadItem(name="HELD")] * MANY), reason="MESSAGE_TOO_LARGE"),
            one(
                BatchReadFilesRequest(items=[ReadItem(name="HELD", range=types_pb2.ByteRange(offset=99))]),
                **good("RANGE_NOT_SATISFIABLE"),
            ),
        ],
        "duplicate": [one(BatchReadFilesRequest(items=[ReadItem(name="HELD")] * 2), **good("", ""))],
        "mixed": [
            one(
                BatchReadFilesRequest(
                    items=[ReadItem(name="HELD"), ReadItem(name="bad"), ReadItem(name="UNKNOWN")]
                ),
                **good("", "FILE_NOT_FOUND", "INVALID_NAME"),
            )
        ],
    },
    "StatFile": {
        "missing": [one(StatFileRequest(), reason="INVALID_NAME")],
        "malformed": [
            one(StatFileRequest(name="bad"), reason="INVALID_NAME"),
            one(StatFileRequest(name="HELD", view=9)),
        ],
        "unknown": [one(StatFileRequest(name="UNKNOWN"), NOT_FOUND, "FILE_NOT_FOUND")],
        "oversized": [one(StatFileRequest(name=LONG), reason="INVALID_NAME")],
    },
    "BatchStatFiles": {
        "missing": [Case([BatchStatFilesRequest()])],
        "malformed": [
            one(BatchStatFilesRequest(names=["bad"]), **good("INVALID_NAME")),
            one(BatchStatFilesRequest(names=["HELD"], view=9)),
        ],
        "unknown": [one(BatchStatFilesRequest(names=["UNKNOWN"]), **good("FILE_NOT_FOUND"))],
        "oversized": [one(BatchStatFilesRequest(names=["HELD"] * MANY), reason="MESSAGE_TOO_LARGE")],
        "duplicate": [one(BatchStatFilesRequest(names=["HELD", "HELD"]), **good("", ""))],
        "mixed": [one(BatchStatFilesRequest(names=["HELD", "bad"]), **good("", "INVALID_NAME"))],
    },
    "ListFiles": {
        "malformed": [
            one(ListFilesRequest(page_size=-1)),
            one(ListFilesRequest(page_token="bad"), reason="PAGE_TOKEN_INVALID"),
            one(ListFilesRequest(day="20261123")),
            one(ListFilesRequest(day="2026-02-30")),
            one(ListFilesRequest(view=9)),
        ],
        "unknown": [one(ListFilesRequest(shard_ids=[2]), NOT_FOUND, "SHARD_NOT_FOUND")],
        "oversized": [
            one(ListFilesRequest(prefix=LONG)),
            one(ListFilesRequest(page_token=LONG), reason="PAGE_TOKEN_INVALID"),
            Case([ListFilesRequest(page_size=1 << 30)]),
        ],
    },
    "DeleteFile": {
        "missing": [one(DeleteFileRequest(), reason="INVALID_NAME")],
        "malformed": [one(DeleteFileRequest(name="bad", allow_missing=True), reason="INVALID_NAME")],
        "unknown": [
            one(DeleteFileRequest(name="UNKNOWN"), NOT_FOUND, "FILE_NOT_FOUND"),
            Case([DeleteFileRequest(name="UNKNOWN", allow_missing=True)]),
        ],
        "oversized": [one(DeleteFileRequest(name=LONG), reason="INVALID_NAME")],
    },
    "BatchDeleteFiles": {
        "missing": [Case([BatchDeleteFilesRequest()])],
        "malformed": [one(BatchDeleteFilesRequest(names=["bad"]), **good("INVALID_NAME"))],
        "unknown": [one(BatchDeleteFilesRequest(names=["UNKNOWN"]), **good("FILE_NOT_FOUND"))],
        "oversized": [one(BatchDeleteFilesRequest(names=["bad"] * MANY), reason="MESSAGE_TOO_LARGE")],
        "duplicate": [one(BatchDeleteFilesRequest(names=["DELETED", "DELETED"]), **good("", ""))],
        "mixed": [one(BatchDeleteFilesRequest(names=["DOOMED", "bad"]), **good("", "INVALID_NAME"))],
    },
    "WaitStored": {
        # A store on the node's own disk serves no such promise, whatever the request says.
        "missing": [one(WaitStoredRequest(), grpc.StatusCode.UNIMPLEMENTED, "FEATURE_DISABLED")],
        "malformed": [
            one(WaitStoredRequest(names=["bad"]), grpc.StatusCode.UNIMPLEMENTED, "FEATURE_DISABLED")
        ],
        "unknown": [
            one(WaitStoredRequest(names=["UNKNOWN"]), grpc.StatusCode.UNIMPLEMENTED, "FEATURE_DISABLED")
        ],
        "oversized": [one(WaitStoredRequest(names=["HELD"] * MANY))],
    },
    "StartUpload": {
        "missing": [one(StartUploadRequest())],
        "malformed": [
            one(StartUploadRequest(spec=FileSpec(name="bad")), reason="INVALID_NAME"),
            one(StartUploadRequest(spec=FileSpec(size_bytes=-1))),
            one(StartUploadRequest(spec=FileSpec(prefix="a b")), reason="INVALID_NAME"),
        ],
        "oversized": [
            one(StartUploadRequest(spec=FileSpec(size_bytes=1 << 40)), reason="FILE_TOO_LARGE"),
            one(StartUploadRequest(spec=FileSpec(metadata={"k": LONG})), reason="METADATA_TOO_LARGE"),
        ],
    },
    "GetUploadStatus": {
        "missing": [one(GetUploadStatusRequest(), NOT_FOUND, "UPLOAD_NOT_FOUND")],
        "malformed": [one(GetUploadStatusRequest(upload_id="~"), NOT_FOUND, "UPLOAD_NOT_FOUND")],
        "unknown": [one(GetUploadStatusRequest(upload_id="x~y"), NOT_FOUND, "UPLOAD_NOT_FOUND")],
        "oversized": [one(GetUploadStatusRequest(upload_id=LONG), NOT_FOUND, "UPLOAD_NOT_FOUND")],
    },
    "CancelUpload": {
        "missing": [one(CancelUploadRequest(), NOT_FOUND, "UPLOAD_NOT_FOUND")],
        "malformed": [one(CancelUploadRequest(upload_id="~"), NOT_FOUND, "UPLOAD_NOT_FOUND")],
        "unknown": [one(CancelUploadRequest(upload_id="x~y"), NOT_FOUND, "UPLOAD_NOT_FOUND")],
        "oversized": [one(CancelUploadRequest(upload_id=LONG), NOT_FOUND, "UPLOAD_NOT_FOUND")],
    },
    "ShardStatus": {
        "malformed": [
            one(ShardStatusRequest(page_size=-1)),
            one(ShardStatusRequest(page_token="bad"), reason="PAGE_TOKEN_INVALID"),
        ],
        "unknown": [one(ShardStatusRequest(shard_ids=[2]), NOT_FOUND, "SHARD_NOT_FOUND")],
        "oversized": [one(ShardStatusRequest(page_token=LONG), reason="PAGE_TOKEN_INVALID")],
    },
    "WatchShardStatus": {
        "malformed": [
            one(WatchShardStatusRequest(start_revision=-1)),
            one(WatchShardStatusRequest(min_interval=duration_pb2.Duration(seconds=-1))),
        ],
        "unknown": [
            one(WatchShardStatusRequest(shard_ids=[2]), NOT_FOUND, "SHARD_NOT_FOUND"),
            one(
                WatchShardStatusRequest(start_revision=5),
                grpc.StatusCode.OUT_OF_RANGE,
                "WATCH_REVISION_COMPACTED",
            ),
        ],
        "oversized": [one(WatchShardStatusRequest(min_interval=duration_pb2.Duration(seconds=9999)))],
    },
    "SealShard": {
        "unknown": [one(SealShardRequest(shard_id=2), NOT_FOUND, "SHARD_NOT_FOUND")],
        "oversized": [one(SealShardRequest(shard_id=2**32 - 1), NOT_FOUND, "SHARD_NOT_FOUND")],
    },
    "GetServerInfo": {"malformed": [Case([GetServerInfoRequest()])]},
}


@pytest.fixture
def limits():
    return LimitSettings(batch_items=10, chunk_bytes=64 * KIB, preferred_chunk_bytes=64 * KIB)


@pytest.fixture
async def node(tmp_path, limits):
    settings = Settings(
        data_dir=tmp_path,
        listen="127.0.0.1:0",
        http_listen="",
        shard_bits=1,
        limits=limits,
        big_file_bytes=1 << 20,
    )
    node = await Node.open(settings)
    yield node
    await node.close()


@pytest.fixture
async def server(node, settings):
    server = build_server(node, node.settings)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def names(node):
    """Stand-ins in the matrix, and the names they stand for."""
    stored = {
        stand_in: (await node.put_bytes(StoredSpec(), b"x", google_crc32c.value(b"x"))).file.name
        for stand_in in ("HELD", "DELETED", "DOOMED")
    }
    [unknown] = await node.assign_names(1, "", "")
    return {**stored, "UNKNOWN": unknown.name}


def named(request, names):
    """Return a request with the stand-ins replaced."""
    made = type(request)()
    made.CopyFrom(request)
    for attribute in ("name",):
        if hasattr(made, attribute) and getattr(made, attribute) in names:
            setattr(made, attribute, names[getattr(made, attribute)])
    if hasattr(made, "names"):
        made.names[:] = [names.get(name, name) for name in made.names]
    for each in getattr(made, "items", []):
        if hasattr(each, "name"):
            each.name = names.get(each.name, each.name)
    return made


def open_call(channel, method, requests, **options):
    make = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }[method.client_streaming, method.server_streaming]
    stub = make(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
    )
    if isinstance(channel, grpc.Channel) and not method.server_streaming:
        stub = stub.future
    return stub(iter(requests) if method.client_streaming else requests[0], **options)


async def responses_of(call, method):
    if not method.server_streaming:
        return [await call]
    return [response async for response in call]


def reason_of(status):
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "des.storage"
    return info.reason


def item_reasons(responses):
    """Return what the items of a batch ended with, sorted, empty for those that went well."""
    found = []
    for response in responses:
        for each in (*getattr(response, "results", ()), *getattr(response, "parts", ())):
            found.append(reason_of(each.status) if each.HasField("status") else "")
    return sorted(found)


async def ending_of(call, method) -> tuple[grpc.StatusCode, str, list[str]]:
    """Return code, reason and the reasons of the items that a call ends with."""
    try:
        return OK, "", item_reasons(await responses_of(call, method))
    except grpc.aio.AioRpcError as error:
        return *refusal_of(error), []


def blocking_refusal_of(call, method) -> tuple[grpc.StatusCode, str]:
    """Return code and reason that a call over a blocking channel ends with.

    grpc.aio says "Internal error from Core" in place of the server's status when that comes while a message
    is being sent.
    """
    with pytest.raises(grpc.RpcError) as raised:
        list(call) if method.server_streaming else call.result()
    return refusal_of(raised.value)


def refusal_of(error) -> tuple[grpc.StatusCode, str]:
    rich = dict(error.trailing_metadata()).get("grpc-status-details-bin")
    # What the transport refuses, it refuses in words of its own.
    return error.code(), reason_of(status_pb2.Status.FromString(rich)) if rich is not None else ""


@pytest.mark.parametrize("name", MATRIX)
async def test_bad_input_is_told_by_status_and_reason(channel, server, names, name):
    method = METHODS[name]
    for column, cases in MATRIX[name].items():
        for at, case in enumerate(cases):
            call = open_call(channel, method, [named(request, names) for request in case.requests])
            found = await ending_of(call, method)
            assert found == (case.code, case.reason, sorted(case.items)), f"{column} {at}"
            assert server.lending.lent == 0, f"{column} {at}"


def test_no_method_is_left_out():
    assert set(MATRIX) == set(METHODS)
    for name, columns in MATRIX.items():
        assert set(columns) <= set(COLUMNS)
        if name.startswith("Batch"):
            assert {"missing", "malformed", "oversized", "duplicate", "mixed"} <= set(columns), name


REQUESTS = {name: message_factory.GetMessageClass(method.input_type) for name, method in METHODS.items()}


class Broken:
    def SerializeToString(self):
        return b"\xff\xff\xff\xff"


async def test_bytes_that_are_no_message_are_refused_by_every_method(channel):
    for name, method in METHODS.items():
        found = await ending_of(open_call(channel, method, [Broken()]), method)
        assert found == (INVALID, "INVALID_FIELD", []), name


async def test_a_deadline_that_has_passed_ends_every_call(channel, server):
    for name, method in METHODS.items():
        call = open_call(channel, method, [REQUESTS[name]()], timeout=-1)
        assert (await ending_of(call, method))[0] is grpc.StatusCode.DEADLINE_EXCEEDED, name
    while server.inflight.count or server.lending.lent:
        await asyncio.sleep(0.01)


async def test_a_call_cancelled_half_way_leaves_nothing_behind(channel, server):
    firsts = {
        "PutFile": PutFileRequest(spec=FileSpec(), chunk=chunk()),
        "BatchWriteFiles": write(item(more=True)),
    }
    for name, method in METHODS.items():
        if method.client_streaming:
            call = channel.stream_stream(
                f"/{method.containing_service.full_name}/{method.name}",
                request_serializer=lambda request: request.SerializeToString(),
            )()
            await call.write(firsts[name])
            while not server.inflight.count:
                await asyncio.sleep(0.01)
        else:
            call = open_call(channel, method, [REQUESTS[name]()])
        call.cancel()
        while server.inflight.count or server.lending.lent:
            await asyncio.sleep(0.01)
