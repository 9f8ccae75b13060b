"""Naming, shards, system, and that every method is served."""

import grpc
import pytest
from des_proto.v1 import types_pb2
from des_proto.v1.naming_service_pb2 import AssignNameRequest
from des_proto.v1.naming_service_pb2_grpc import NamingServiceStub
from des_proto.v1.shard_service_pb2 import SHARD_STATE_ACTIVE, SealShardRequest, ShardStatusRequest
from des_proto.v1.shard_service_pb2_grpc import ShardServiceStub
from des_proto.v1.system_service_pb2 import GetServerInfoRequest
from des_proto.v1.system_service_pb2_grpc import SystemServiceStub
from des_server.app import SERVICES
from google.protobuf import message_factory

from des.config import LimitSettings
from des.errors import DesError

QUIET = {
    "des.v1.FileService.PutFile",
    "des.v1.FileService.BatchWriteFiles",
    "des.v1.FileService.StartUpload",
    "des.v1.SystemService.GetServerInfo",
}
"""Methods that an empty request does not bring as far as the node."""
METHODS = [method for service in SERVICES.values() for method in service.methods]


@pytest.fixture
def limits():
    return LimitSettings(page_size=5)


async def call_anything(channel, method):
    """Call a method with one empty request, whatever its arity; return nothing or raise."""
    make = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, False): channel.stream_unary,
        (True, True): channel.stream_stream,
    }[method.client_streaming, method.server_streaming]
    request = message_factory.GetMessageClass(method.input_type)
    response = message_factory.GetMessageClass(method.output_type)
    stub = make(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString,
    )
    call = stub(iter([request()]) if method.client_streaming else request())
    if method.server_streaming:
        async for _ in call:
            pass
    else:
        await call


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
async def test_every_method_of_the_protos_is_served(channel, method):
    try:
        await call_anything(channel, method)
    except grpc.aio.AioRpcError as error:
        assert error.code() is not grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
async def test_a_defect_tells_its_request_id_and_nothing_else(channel, double, refusal, method):
    if method.full_name in QUIET:
        return
    double.error = ZeroDivisionError("secret")
    if method.name == "ShardStatus":
        double.shard_status = None
    async with refusal() as refused:
        await call_anything(channel, method)
    assert refused().code is grpc.StatusCode.INTERNAL
    assert refused().reason == "INTERNAL"
    assert refused().facts == {"request_id": refused().trailers["des-request-id"]}
    assert "secret" not in refused().message
    assert refused().trailers["des-request-id"] in refused().message


async def test_every_reason_of_an_error_is_one_of_the_protos(channel, double, refusal):
    double.error = DesError("odd")
    async with refusal() as refused:
        await NamingServiceStub(channel).AssignName(AssignNameRequest())
    assert refused().code is grpc.StatusCode.INTERNAL


async def test_names_are_assigned_with_their_day_and_shard(channel):
    answer = await NamingServiceStub(channel).AssignName(AssignNameRequest(count=2, prefix="X"))
    assert [(name.name, name.shard_id, name.day) for name in answer.names] == [
        ("X_0", 0, "2026-11-23"),
        ("X_1", 1, "2026-11-23"),
    ]


@pytest.mark.parametrize(
    ("sent", "echoed"), [("my-id", True), ("x" * 128, True), ("x" * 129, False), (None, False)]
)
async def test_the_request_id_is_echoed_or_made(channel, sent, echoed):
    metadata = [] if sent is None else [("des-request-id", sent)]
    call = NamingServiceStub(channel).AssignName(AssignNameRequest(), metadata=metadata)
    await call
    got = dict(await call.trailing_metadata())["des-request-id"]
    assert (got == sent) == echoed
    assert 0 < len(got) <= 128


async def test_shards_come_in_pages(channel):
    stub = ShardServiceStub(channel)
    seen, token, pages = [], "", 0
    while pages == 0 or token:
        answer = await stub.ShardStatus(ShardStatusRequest(page_token=token, page_size=100))
        seen += [shard.shard_id for shard in answer.shards]
        token = answer.next_page_token
        pages += 1
        assert len(answer.shards) <= 5
    assert seen == list(range(16))
    assert pages == 4
    assert answer.revision == 7
    assert answer.shard_bits == 4


async def test_chosen_shards_come_in_order_once(channel):
    answer = await ShardServiceStub(channel).ShardStatus(ShardStatusRequest(shard_ids=[9, 2, 9], page_size=2))
    assert [shard.shard_id for shard in answer.shards] == [2, 9]
    assert answer.next_page_token == ""
    shard = answer.shards[0]
    assert shard.state == SHARD_STATE_ACTIVE
    assert shard.owner_node == "node-1"
    assert shard.oldest_open_age.ToMilliseconds() == 1500
    assert (shard.open_files, shard.open_bytes, shard.stored_files, shard.stored_bytes, shard.containers) == (
        1,
        10,
        2,
        20,
        1,
    )
    assert shard.last_heartbeat_time.ToMilliseconds() == shard.last_seal_time.ToMilliseconds() + 1


@pytest.mark.parametrize(
    ("fields", "reason", "facts"),
    [
        ({"shard_ids": [16]}, "SHARD_NOT_FOUND", {"shard_id": "16", "shard_count": "16"}),
        ({"page_size": -1}, "INVALID_FIELD", {"field": "page_size"}),
        ({"page_token": "s1."}, "PAGE_TOKEN_INVALID", {"page_token": "s1."}),
        ({"page_token": "s1.99"}, "PAGE_TOKEN_INVALID", {"page_token": "s1.99"}),
        ({"page_token": "3"}, "PAGE_TOKEN_INVALID", {"page_token": "3"}),
        ({"page_token": "s1.-1"}, "PAGE_TOKEN_INVALID", {"page_token": "s1.-1"}),
        ({"page_token": "s1.\u0663"}, "PAGE_TOKEN_INVALID", {"page_token": "s1.\u0663"}),
    ],
)
async def test_a_bad_question_about_shards_is_refused(channel, refusal, fields, reason, facts):
    async with refusal() as refused:
        await ShardServiceStub(channel).ShardStatus(ShardStatusRequest(**fields))
    assert refused().reason == reason
    assert refused().facts == facts


async def test_sealing_tells_what_it_made(channel, refusal):
    stub = ShardServiceStub(channel)
    answer = await stub.SealShard(SealShardRequest(shard_id=3))
    (made,) = answer.containers
    assert answer.shard.shard_id == 3
    assert (made.container_id, made.day, made.shard_id, made.shard_span) == ("0190-7", "2026-11-23", 3, 1)
    assert (made.key, made.file_count, made.size_bytes) == ("2026-11-23/03/0190-7.des", 2, 1000)
    async with refusal() as refused:
        await stub.SealShard(SealShardRequest(shard_id=16))
    assert refused().reason == "SHARD_NOT_FOUND"


async def test_a_client_learns_the_limits_it_must_keep(channel, settings):
    answer = await SystemServiceStub(channel).GetServerInfo(GetServerInfoRequest())
    assert list(answer.api_versions) == ["des.v1"]
    assert answer.default_durability == types_pb2.DURABILITY_LOCAL
    assert answer.limits.max_chunk_bytes == 2 << 20
    assert answer.limits.max_message_bytes == (2 << 20) + (64 << 10)
    assert answer.limits.preferred_chunk_bytes == 1 << 20
    assert answer.limits.max_file_size_bytes == 16 << 30
    assert answer.limits.max_page_size == 5
    assert answer.object_store.kind == "local"
    assert not answer.object_store.survives_node
    assert answer.store_id == "store-1"
    assert answer.shard_bits == 4
    assert answer.start_time.seconds


async def test_metadata_over_the_limit_does_not_reach_a_handler(channel, double):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await NamingServiceStub(channel).AssignName(
            AssignNameRequest(), metadata=[(f"k{n}", "v" * 1000) for n in range(20)]
        )
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
