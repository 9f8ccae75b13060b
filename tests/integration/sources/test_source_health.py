"""A source database that goes away and comes back: who is told, and what goes on meanwhile."""

import asyncio
from contextlib import asynccontextmanager

import grpc
import httpx
import pytest
from des_client import AsyncDesClient
from des_server.app import SERVICES, build_server
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from prometheus_client import CollectorRegistry

from des.cli.packer import open_packer
from des.config import HealthSettings, Settings
from des.monitoring.ingest_metrics import IngestMetrics
from des.node.running_node import check_running_node
from des.sources.config import SourcesConfig
from des.testing.source_databases import temporary_source
from des.testing.tcp_proxy import Link, TcpProxy

WAIT_S = 90


@pytest.fixture(scope="module", params=["postgresql", pytest.param("mariadb", marks=pytest.mark.slow)])
def table(request, tmp_path_factory):
    with temporary_source(request.param, tmp_path_factory.mktemp(request.param)) as made:
        yield made


@pytest.fixture
def link(table):
    """A network in front of the database that can be cut."""
    there = table.database
    folder = str(there["host"])
    port = there["port"] or 5432
    target = f"{folder}/.s.PGSQL.{port}" if folder.startswith("/") else (folder, port)
    with TcpProxy(target) as proxy:
        yield proxy


@asynccontextmanager
async def packing(table, link, tmp_path):
    near = {**table.database, "host": "127.0.0.1", "port": link.port}
    config = table.config(
        database=near, objects={"endpoint": "http://127.0.0.1:9", "access_key": "AK", "secret_key": "SK"}
    )
    sources = SourcesConfig(packer={"idle_s": 0.1, "backoff_max_s": 0.5}, sources={"docs": config})
    settings = Settings(
        data_dir=tmp_path / "node", listen="127.0.0.1:0", http_listen="127.0.0.1:0", shard_bits=2,
        health=HealthSettings(interval_s=0.1, timeout_s=5), log={"reserve_free_bytes": 0},
    )  # fmt: skip
    registry = CollectorRegistry()
    node = await open_packer(settings, sources, IngestMetrics(registry))
    server = build_server(node, settings, registry=registry)
    try:
        await server.start()
        try:
            yield server
        finally:
            await server.stop()
    finally:
        await node.close()


async def test_a_source_that_goes_away_and_comes_back(table, link, tmp_path):
    table.empty()
    async with (
        packing(table, link, tmp_path) as server,
        httpx.AsyncClient(base_url=f"http://{server.http_address}", timeout=30) as http,
        grpc.aio.insecure_channel(str(server.address)) as channel,
        AsyncDesClient(str(server.address), timeout_s=60) as des,
    ):
        health = HealthStub(channel)

        async def told(state):
            """Wait until the check is in a state; return it and the whole report."""
            async with asyncio.timeout(WAIT_S):
                while True:
                    answer = await http.get("/health/ready")
                    report = answer.json()
                    (check,) = [one for one in report["checks"] if one["check"] == "sources"]
                    if check["state"] == state:
                        assert answer.status_code == 200
                        return check, report
                    await asyncio.sleep(0.05)

        async def counted(*lines):
            async with asyncio.timeout(WAIT_S):
                while not {*lines} <= {*(await http.get("/metrics")).text.splitlines()}:
                    await asyncio.sleep(0.05)

        async def all_serve():
            for service in ("", *SERVICES):
                answer = await health.Check(HealthCheckRequest(service=service))
                assert answer.status == HealthCheckResponse.SERVING, service

        async def doctor():
            here = server.settings.model_copy(update={"http_listen": str(server.http_address)})
            found = {one.part: one for one in await check_running_node(here)}
            return found["running node, sources"]

        check, report = await told("ok")
        assert (check["found"], report["degraded"]) == ("every source answers", [])
        await counted('des_health_check_up{check="sources"} 1.0', 'des_ingest_source_up{source="docs"} 1.0')
        assert (await doctor()).verdict == "ok"

        link.set(Link.REFUSING)
        check, report = await told("degraded")
        assert check["found"].startswith("docs: ")
        assert check["advice"]
        assert report["degraded"] == ["sources"]
        await counted('des_health_check_up{check="sources"} 0.5', 'des_ingest_source_up{source="docs"} 0.0')
        finding = await doctor()
        assert finding.verdict == "warning"
        assert finding.advice == check["advice"]
        # Nobody who only writes and reads files is sent away for it.
        await all_serve()
        assert await des.get((await des.put(b"meanwhile")).file.name) == b"meanwhile"

        link.set(Link.UP)
        check, report = await told("ok")
        assert report["degraded"] == []
        await counted('des_health_check_up{check="sources"} 1.0', 'des_ingest_source_up{source="docs"} 1.0')
        assert (await doctor()).verdict == "ok"
        await all_serve()
