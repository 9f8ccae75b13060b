"""A real server whose parts really go away: what it says over gRPC and HTTP, and that it comes back."""

import asyncio
from contextlib import contextmanager

import grpc
import httpx
from des_server.app import SERVICES, build_server
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from des.config import HealthSettings, LogSettings, Settings
from des.node import Node
from des.testing.postgresql import system_postgresql
from des.testing.s3_server import BUCKET, temporary_moto
from des.testing.tcp_proxy import Link, TcpProxy

NOT_SERVING = HealthCheckResponse.NOT_SERVING
WAIT_S = 90


@contextmanager
def made(tmp_path, **given):
    yield Settings(
        data_dir=tmp_path / "node",
        listen="127.0.0.1:0",
        http_listen="127.0.0.1:0",
        shard_bits=2,
        health=HealthSettings(interval_s=0.1, timeout_s=2),
        **given,
    )


class Served:
    def __init__(self, server, channel, http):
        self.server, self.channel, self.http = server, channel, http

    async def report(self):
        answer = await self.http.get("/health/ready")
        told = answer.json()
        return answer.status_code, told, {one["check"]: one for one in told["checks"]}

    async def until(self, check, *states):
        async with asyncio.timeout(WAIT_S):
            while True:
                status, told, checks = await self.report()
                if checks[check]["state"] in states:
                    return status, told, checks[check]
                await asyncio.sleep(0.05)

    async def not_serving(self):
        stub = HealthStub(self.channel)
        down = set()
        for name in ["", "liveness", "readiness", *SERVICES]:
            if (await stub.Check(HealthCheckRequest(service=name))).status == NOT_SERVING:
                down.add(name)
        return down

    async def until_down(self, names):
        async with asyncio.timeout(WAIT_S):
            while await self.not_serving() != names:
                await asyncio.sleep(0.05)


class Serving:
    def __init__(self, settings):
        self.settings = settings

    async def __aenter__(self):
        self.node = await Node.open(self.settings)
        self.server = build_server(self.node, self.settings)
        await self.server.start()
        self.channel = grpc.aio.insecure_channel(str(self.server.address))
        self.http = httpx.AsyncClient(base_url=f"http://{self.server.http_address}", timeout=30)
        return Served(self.server, self.channel, self.http)

    async def __aexit__(self, *_):
        await self.http.aclose()
        await self.channel.close()
        await self.server.stop()
        await self.node.close()


async def test_all_is_well_and_every_check_says_so(tmp_path):
    with made(tmp_path, log=LogSettings(budget_bytes=128 << 20, reserve_free_bytes=1)) as settings:
        async with Serving(settings) as served:
            for check in ("database", "object_store", "shard_locks", "log_backlog", "disk", "background"):
                status, told, found = await served.until(check, "ok")
                assert (status, found["advice"]) == (200, "")
                assert found["latency_ms"] >= 0
            assert told["degraded"] == []
            assert await served.not_serving() == set()
            metrics = (await served.http.get("/metrics")).text
            assert 'des_health_check_up{check="database"} 1.0' in metrics


async def test_a_database_that_stops_takes_only_the_service_that_needs_it(tmp_path):
    with (
        system_postgresql() as postgresql,
        made(tmp_path, catalog_url=postgresql.url.replace("postgresql:", "postgresql+asyncpg:")) as settings,
    ):
        async with Serving(settings) as served:
            await served.until("database", "ok")
            watch = HealthStub(served.channel).Watch(HealthCheckRequest(service="des.v1.ShardService"))
            assert (await watch.read()).status == HealthCheckResponse.SERVING
            postgresql.stop(mode="immediate")
            try:
                status, told, found = await served.until("database", "failed")
                assert status == 200
                assert "database" in told["degraded"]
                assert found["found"]
                assert "check that the database runs" in found["advice"]
                async with asyncio.timeout(WAIT_S):
                    assert (await watch.read()).status == NOT_SERVING
                assert await served.not_serving() == {"des.v1.ShardService"}
                assert (await served.http.get("/health/live")).status_code == 200
            finally:
                postgresql.start()
            await served.until("database", "ok")
            async with asyncio.timeout(WAIT_S):
                assert (await watch.read()).status == HealthCheckResponse.SERVING
            watch.cancel()


async def test_an_object_store_that_is_away_leaves_the_node_ready(tmp_path):
    with temporary_moto() as s3:
        host, _, port = s3.endpoint_url.removeprefix("http://").partition(":")
        with TcpProxy((host, int(port))) as proxy:
            near = s3.model_copy(
                update={"endpoint_url": f"http://{proxy.address}", "attempts": 1, "deadline_s": 2.0}
            )
            with made(tmp_path, object_store=f"s3://{BUCKET}/health", s3=near) as settings:
                async with Serving(settings) as served:
                    await served.until("object_store", "ok")
                    proxy.set(Link.REFUSING)
                    status, told, found = await served.until("object_store", "failed")
                    assert status == 200
                    assert "object_store" in told["degraded"]
                    assert "check that the object store runs" in found["advice"]
                    assert await served.not_serving() == set()
                    proxy.set(Link.UP)
                    await served.until("object_store", "ok")


async def test_a_full_disk_takes_the_node_out_of_service_for_writes_only(tmp_path):
    with made(tmp_path, log=LogSettings(reserve_free_bytes=1 << 50)) as settings:
        async with Serving(settings) as served:
            status, told, found = await served.until("disk", "failed")
            assert "MiB free" in found["found"]
            await served.until_down({"readiness"})
            status, told, _ = await served.report()
            assert (status, told["writable"], told["readable"]) == (503, False, True)
            assert told["cause"].startswith("disk: full")
            assert (await served.http.get("/health/live")).status_code == 200
