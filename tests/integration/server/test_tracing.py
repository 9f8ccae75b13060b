"""One trace from the client through the server, the log and a seal to each request to the object store."""

import asyncio
import subprocess
import sys

import pytest
from des_client import AsyncDesClient, DesClient, FileMissing
from des_server.app import build_server

from des.config import Settings
from des.monitoring.tracing import Tracing, add_trace_id, root_span, span, use_tracing
from des.node import Node

pytest.importorskip("opentelemetry.sdk", reason="pip install 'des-store[otel]'")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from des.monitoring.otel import OpenTelemetry


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


@pytest.fixture
def backend(exporter):
    made = OpenTelemetry("des-test", SimpleSpanProcessor(exporter))
    yield made
    made.close()


class Served:
    def __init__(self, tmp_path, tracing):
        self.settings = Settings(
            data_dir=tmp_path,
            listen="127.0.0.1:0",
            http_listen="",
            shard_bits=0,
            log={"reserve_free_bytes": 0},
        )
        self.tracing = tracing

    async def __aenter__(self):
        use_tracing(self.tracing)
        self.node = await Node.open(self.settings)
        self.server = build_server(self.node, self.settings)
        await self.server.start()
        return self

    async def __aexit__(self, *_):
        await self.server.stop()
        await self.node.close()
        use_tracing(None)


async def ended(exporter, name):
    """A call's span ends a moment after its answer."""
    async with asyncio.timeout(60):
        while True:
            found = [one for one in exporter.get_finished_spans() if one.name == name]
            if found:
                return found
            await asyncio.sleep(0.01)


async def test_one_trace_of_put_seal_and_get(tmp_path, exporter, backend):
    caller_spans = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(caller_spans))
    tracer = provider.get_tracer("caller")
    async with Served(tmp_path, Tracing(backend, 0.0)) as served:
        async with AsyncDesClient(str(served.server.address), tracing=True, timeout_s=60) as des:
            with tracer.start_as_current_span("job") as job:
                put = await des.put(b"hello" * 100)
                await des.seal_shard(0)
                assert await des.get(put.file.name) == b"hello" * 100
            await des.put(b"untraced")  # outside: its caller has no trace
        trace_id = job.get_span_context().trace_id
        await ended(exporter, "des.v1.FileService/GetFile")
        spans = exporter.get_finished_spans()
        assert {one.context.trace_id for one in spans} == {trace_id}
        by_id = {one.context.span_id: one for one in spans}

        def path(one):
            above = [one.name]
            while one.parent.span_id in by_id:
                one = by_id[one.parent.span_id]
                above.append(one.name)
            assert one.parent.span_id == job.get_span_context().span_id
            return tuple(reversed(above))

        paths = {path(one) for one in spans}
        service = "des.v1.FileService"
        assert (f"{service}/PutFile", "log.append") in paths
        assert ("des.v1.ShardService/SealShard", "seal", "object_store.create") in paths
        assert any(one[0] == f"{service}/GetFile" and one[-1] == "object_store.get_range" for one in paths)
        put_span = next(one for one in spans if one.name == f"{service}/PutFile")
        assert put_span.attributes["rpc.grpc.status_code"] == 0
        assert put_span.attributes["des.request_id"]
        assert put_span.resource.attributes["service.name"] == "des-test"
        seal = next(one for one in spans if one.name == "seal")
        assert (seal.attributes["reason"], seal.attributes["files"]) == ("request", 1)
        assert put.file.name not in "".join(one.to_json() for one in spans)


async def test_a_failed_call_says_why_and_names_no_file(tmp_path, exporter, backend):
    async with Served(tmp_path, Tracing(backend, 1.0)) as served:
        async with AsyncDesClient(str(served.server.address), timeout_s=60) as des:
            name = (await des.assign_names(1))[0].name
            with pytest.raises(FileMissing):
                await des.get(name)
        (get,) = await ended(exporter, "des.v1.FileService/GetFile")
        assert not get.status.is_ok
        assert get.attributes["error.type"]
        assert name not in get.to_json()


async def test_the_ratio_decides_where_nobody_asked(tmp_path, exporter, backend):
    draws = iter([0.5, 0.05] + [0.9] * 100)
    tracing = Tracing(backend, 0.1, draw=lambda: next(draws))
    for _ in range(3):
        with tracing.of_call("call", ()) as one, span("inner") as inner:
            assert (one is None) == (inner is None)
    assert [one.name for one in exporter.get_finished_spans()] == ["inner", "call"]
    kept = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-03"}
    with tracing.of_call("asked", kept.items()):
        assert add_trace_id(None, "", {})["trace_id"] == "a" * 32
    with tracing.of_call("declined", {"traceparent": f"00-{'a' * 32}-{'b' * 16}-00"}.items()) as one:
        assert one is None
    assert add_trace_id(None, "", {}) == {}


async def test_off_is_nothing(tmp_path):
    with root_span("x") as one, span("y") as two:
        assert (one, two) == (None, None)
    code = (
        "import sys, des.cli.serve, des_server.app, des_client, des.node; "
        "print([one for one in sys.modules if one.startswith(('opentelemetry.sdk', 'des.monitoring.otel'))])"
    )
    ran = await asyncio.to_thread(
        lambda: subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True
        )
    )
    assert ran.stdout.strip() == "[]"


async def test_the_blocking_client_carries_the_trace_too(tmp_path, exporter, backend):
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("caller")
    async with Served(tmp_path, Tracing(backend, 0.0)) as served:

        def work():
            with DesClient(str(served.server.address), tracing=True, timeout_s=60) as des:
                with tracer.start_as_current_span("job") as job:
                    des.put(b"x")
                return job.get_span_context().trace_id

        trace_id = await asyncio.to_thread(work)
        (put,) = await ended(exporter, "des.v1.FileService/PutFile")
        assert put.context.trace_id == trace_id
