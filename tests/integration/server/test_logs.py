"""What is logged while a call is served names the call; seals name container and shards."""

import io
import json
import logging

import google_crc32c
import grpc
import pytest
import structlog
from des_proto.v1.naming_service_pb2 import AssignNameRequest
from des_proto.v1.naming_service_pb2_grpc import NamingServiceStub
from des_server.app import build_server

from des.config import Settings
from des.files import FileSpec
from des.monitoring.logging import configure_logging
from des.node import Node


@pytest.fixture
def logged():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging(level="info", style="json", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


async def test_a_line_of_a_call_has_its_id(double, settings, logged):
    async def assign_names(count, prefix, request_id):
        structlog.get_logger("des.test").warning("odd", shard=3)
        return []

    double.assign_names = assign_names
    server = build_server(double, settings)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(str(server.address)) as channel:
            stub = NamingServiceStub(channel)
            for request_id in ("first-1", "second-2"):
                await stub.AssignName(AssignNameRequest(), metadata=(("des-request-id", request_id),))
    finally:
        await server.stop()
    odd = [line for line in logged() if line["event"] == "odd"]
    assert [(line["request_id"], line["shard"], line["level"]) for line in odd] == [
        ("first-1", 3, "warning"),
        ("second-2", 3, "warning"),
    ]
    structlog.get_logger("des.test").warning("outside")
    assert "request_id" not in logged()[-1]


async def test_a_seal_names_container_and_shards(tmp_path, logged, monkeypatch):
    monkeypatch.setattr("des.packer.multi_shard_packer._log", structlog.get_logger("des.packer"))
    node = await Node.open(Settings(data_dir=tmp_path, shard_bits=0, log={"reserve_free_bytes": 0}))
    try:
        await node.put_bytes(FileSpec(), b"x", google_crc32c.value(b"x"))
        (row,) = await node.seal_shard(0)
    finally:
        await node.close()
    (stored,) = [line for line in logged() if line["event"] == "container stored"]
    assert (stored["container"], stored["shard"], stored["span"]) == (row.container_id, 0, 1)
