"""One trace from the client through the server, the log and a seal to each request to the object store."""

import asyncio
import subprocess
import sys
from contextlib import aclosing, closing

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
from opentelemetry.trace import StatusCode

from des.monitoring.otel import OpenTelemetry


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


def provider_into(exporter):
    """Return the provider of an application that keeps its spans."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


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
    tracer = provider_into(InMemorySpanExporter()).get_tracer("caller")
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


async def test_each_iteration_of_a_listing_is_one_span_around_its_pages(tmp_path, exporter, backend):
    callers = InMemorySpanExporter()
    provider = provider_into(callers)
    async with (
        Served(tmp_path, Tracing(backend, 0.0)) as served,
        AsyncDesClient(str(served.server.address), tracing=provider, timeout_s=60) as des,
    ):
        names = sorted([one.unwrap().file.name async for one in des.put_many([b"a", b"b", b"c"])])
        callers.clear()
        listing = des.list(page_size=1)
        assert not callers.get_finished_spans()  # nothing is asked yet
        assert sorted([file.name async for file in listing]) == names
        assert sorted([name async for name in des.iter_names(page_size=1)]) == names
        first, second = callers.get_finished_spans()
        assert first.name == second.name == "des.list"
        async with asyncio.timeout(60):
            while len(await ended(exporter, "des.v1.FileService/ListFiles")) < 2 * len(names):
                await asyncio.sleep(0.01)
    pages = [one.parent.span_id for one in exporter.get_finished_spans() if one.name.endswith("/ListFiles")]
    assert set(pages) == {first.context.span_id, second.context.span_id}


async def test_an_abandoned_iteration_ends_its_span_and_is_no_error(tmp_path, exporter, backend):
    callers = InMemorySpanExporter()
    async with (
        Served(tmp_path, Tracing(backend, 0.0)) as served,
        AsyncDesClient(str(served.server.address), tracing=provider_into(callers), timeout_s=60) as des,
    ):
        for data in (b"a", b"b"):
            await des.put(data)
        callers.clear()
        async with aclosing(des.iter_names(page_size=1)) as names:
            await anext(names)
            assert not callers.get_finished_spans()
        async with aclosing(des.list(page_size=1).pages()) as pages:
            await anext(pages)
        async with aclosing(des.watch_shards()) as updates:
            assert (await anext(updates)).snapshot
            assert len(callers.get_finished_spans()) == 2
        async for _ in des.list(page_size=1):
            break  # nobody closes it: the loop does, in a while
        async with asyncio.timeout(60):
            while len(callers.get_finished_spans()) < 4:
                await asyncio.sleep(0.01)
        await ended(exporter, "des.v1.ShardService/WatchShardStatus")
    spans = callers.get_finished_spans()
    assert [one.name for one in spans] == ["des.list", "des.list", "des.watch_shards", "des.list"]
    assert {one.status.status_code for one in spans} == {StatusCode.UNSET}
    assert not [one for one in spans if "error.type" in one.attributes]


async def test_iterations_of_the_blocking_client_are_spans_that_end_too(tmp_path, exporter, backend):
    callers = InMemorySpanExporter()
    async with Served(tmp_path, Tracing(backend, 0.0)) as served:

        def work():
            target = str(served.server.address)
            with DesClient(target, tracing=provider_into(callers), timeout_s=60) as des:
                for data in (b"a", b"b"):
                    des.put(data)
                callers.clear()
                assert len(list(des.list(page_size=1))) == 2
                with closing(des.iter_names(page_size=1)) as names:
                    next(names)
                    assert len(callers.get_finished_spans()) == 1
                with closing(des.watch_shards()) as updates:
                    next(updates)
                    assert len(callers.get_finished_spans()) == 2

        await asyncio.to_thread(work)
    names = [one.name for one in callers.get_finished_spans()]
    assert names == ["des.list", "des.list", "des.watch_shards"]
