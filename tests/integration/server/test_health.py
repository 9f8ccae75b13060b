"""Health over gRPC and HTTP, metrics, and reflection in both versions."""

import asyncio

import grpc
import httpx
import pytest
from des_proto.v1.naming_service_pb2 import AssignNameRequest
from des_proto.v1.naming_service_pb2_grpc import NamingServiceStub
from des_server import app
from des_server.app import SERVICES
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from des.config import LimitSettings, Settings
from des.node import NodeHealth

SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING
NAMES = ["", "liveness", "readiness", *SERVICES]


@pytest.fixture
def settings(tmp_path):
    return Settings(
        data_dir=tmp_path,
        listen="127.0.0.1:0",
        http_listen="127.0.0.1:0",
        shard_bits=4,
        limits=LimitSettings(concurrent_calls=2),
    )


async def check(channel, name):
    return (await HealthStub(channel).Check(HealthCheckRequest(service=name))).status


@pytest.mark.parametrize("name", NAMES)
async def test_everything_serves_at_first(channel, name):
    assert await check(channel, name) == SERVING


async def test_a_name_nobody_has_is_not_found(channel):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await check(channel, "des.v1.Nothing")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("told", "down"),
    [
        (NodeHealth(writable=False, readable=True, cause="the log failed"), {"readiness"}),
        (NodeHealth(writable=True, readable=False, cause="store away"), {"readiness", "", *SERVICES}),
    ],
)
async def test_health_follows_the_node_and_comes_back(server, double, channel, told, down):
    double.told = told
    await server.health.update()
    assert {name for name in NAMES if await check(channel, name) == NOT_SERVING} == down
    double.told = NodeHealth(writable=True, readable=True, cause="")
    await server.health.update()
    assert {name for name in NAMES if await check(channel, name) == NOT_SERVING} == set()


async def test_a_watcher_hears_of_every_change_within_a_second(server, double, channel):
    watch = HealthStub(channel).Watch(HealthCheckRequest(service="readiness"))
    async with asyncio.timeout(5):
        assert (await watch.read()).status == SERVING
        double.told = NodeHealth(writable=False, readable=True, cause="the log failed")
        assert (await watch.read()).status == NOT_SERVING
        double.told = NodeHealth(writable=True, readable=True, cause="")
        assert (await watch.read()).status == SERVING
    watch.cancel()


async def test_watches_end_with_the_server_and_do_not_hold_it_up(server, channel, monkeypatch):
    monkeypatch.setattr(app, "STOP_GRACE_S", 3600.0)
    watch = HealthStub(channel).Watch(HealthCheckRequest(service="readiness"))
    assert (await watch.read()).status == SERVING
    async with asyncio.timeout(60):
        await server.stop()
        assert (await watch.read()).status == NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.read()
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_a_watcher_of_an_unknown_name_hears_that_it_is_unknown(channel):
    watch = HealthStub(channel).Watch(HealthCheckRequest(service="x"))
    assert (await watch.read()).status == HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


async def test_health_answers_when_every_place_for_calls_is_taken(server, double, channel):
    double.gate = asyncio.Event()
    stub = NamingServiceStub(channel)
    calls = [asyncio.ensure_future(stub.AssignName(AssignNameRequest())) for _ in range(2)]
    while double.waiting < 2:
        await asyncio.sleep(0.01)
    assert await check(channel, "readiness") == SERVING
    double.gate.set()
    await asyncio.gather(*calls)


@pytest.fixture
async def http(server):
    async with httpx.AsyncClient(base_url=f"http://{server.http_address}") as client:
        yield client


async def test_http_tells_health_with_its_cause(http, double):
    assert (await http.get("/health/live")).json() == {"status": "live"}
    for path in ("/health", "/health/ready"):
        answer = await http.get(path)
        assert answer.status_code == 200
        assert answer.json()["status"] == "ready"
    double.told = NodeHealth(writable=False, readable=True, cause="the log failed")
    for path in ("/health", "/health/ready"):
        answer = await http.get(path)
        assert answer.status_code == 503
        assert answer.json()["cause"] == "the log failed"
        assert answer.json()["readable"] is True
    assert (await http.get("/health/live")).status_code == 200


async def test_http_shows_the_metrics_of_calls_and_node(http, channel, server):
    await NamingServiceStub(channel).AssignName(AssignNameRequest())
    await server.health._read()
    text = (await http.get("/metrics")).text
    labels = 'grpc_code="OK",grpc_method="AssignName",grpc_service="des.v1.NamingService",grpc_type="unary"'
    assert f"grpc_server_handled_total{{{labels}}} 1.0" in text
    assert "des_open_files 16.0" in text
    assert "des_writable 1.0" in text
    assert "des_upload_bytes_in_flight 0.0" in text


async def test_http_offers_nothing_else(http):
    for path in ("/redoc", "/status/x", "/metrics/x", "/files", "/assign/x"):
        assert (await http.get(path)).status_code == 404
    assert (await http.post("/health")).status_code == 405


# ------------------------------------------------------------------------------------ reflection

VERSIONS = ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"]


def ask(channel, version):
    return channel.stream_stream(
        f"/{version}/ServerReflectionInfo",
        request_serializer=ServerReflectionRequest.SerializeToString,
        response_deserializer=ServerReflectionResponse.FromString,
    )


@pytest.mark.parametrize("version", VERSIONS)
async def test_reflection_lists_every_service(channel, version):
    (answer,) = [
        answer async for answer in ask(channel, version)(iter([ServerReflectionRequest(list_services="")]))
    ]
    listed = {service.name for service in answer.list_services_response.service}
    assert listed == {*SERVICES, "grpc.health.v1.Health", *VERSIONS}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("symbol", [*SERVICES, "des.v1.PutFileRequest", *VERSIONS])
async def test_reflection_describes_a_service_completely(channel, version, symbol):
    request = ServerReflectionRequest(file_containing_symbol=symbol)
    (answer,) = [answer async for answer in ask(channel, version)(iter([request]))]
    pool = descriptor_pool.DescriptorPool()
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(raw)
        for raw in answer.file_descriptor_response.file_descriptor_proto
    ]
    while files:
        known = {file.name for file in files}
        ready = [file for file in files if not known.intersection(file.dependency)]
        assert ready
        for file in ready:
            pool.Add(file)
            files.remove(file)
    assert pool.FindFileContainingSymbol(symbol)


@pytest.mark.parametrize("version", VERSIONS)
async def test_reflection_says_what_it_does_not_know(channel, version):
    request = ServerReflectionRequest(file_containing_symbol="des.v1.Nothing")
    (answer,) = [answer async for answer in ask(channel, version)(iter([request]))]
    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
