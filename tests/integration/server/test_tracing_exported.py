"""Traces that really leave: client and server process send them over OTLP, a receiver puts them together."""

import threading
from collections import defaultdict
from contextlib import contextmanager
from gzip import decompress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="pip install 'des-store[otel]'")

from des_client import AsyncDesClient, DesClient
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from des.testing.s3_server import BUCKET, temporary_moto


class Receiver:
    """What an OTLP receiver was sent: every span with its service, by trace."""

    def __init__(self):
        self.spans = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = decompress(body)
                receiver.take(self.path, ExportTraceServiceRequest.FromString(body))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1/traces"

    def take(self, path, request):
        assert path == "/v1/traces"
        for resource in request.resource_spans:
            service = next(
                one.value.string_value for one in resource.resource.attributes if one.key == "service.name"
            )
            self.spans += [(service, span) for scope in resource.scope_spans for span in scope.spans]

    def paths(self, trace_id):
        """Return the names from the root to each span of a trace, each with its service."""
        by_id = {span.span_id: (service, span) for service, span in self.spans if span.trace_id == trace_id}

        def path(service, span):
            above = path(*by_id[span.parent_span_id]) if span.parent_span_id else ()
            return (*above, f"{service}:{span.name}")

        return [path(*one) for one in by_id.values()]


@pytest.fixture
def receiver():
    made = Receiver()
    thread = threading.Thread(target=made.http.serve_forever, daemon=True)
    thread.start()
    yield made
    made.http.shutdown()
    made.http.server_close()
    thread.join()


@contextmanager
def caller(receiver):
    """Return the provider of an application that sends its spans where the server sends its own."""
    provider = TracerProvider(resource=Resource({"service.name": "caller"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=receiver.url)))
    yield provider
    provider.shutdown()


@pytest.fixture
def traced(make_server, receiver, tmp_path):
    """A server process whose object store is S3, and which traces only what its callers trace."""
    with temporary_moto() as s3:
        yield make_server(
            {
                "DES_SHARD_BITS": "0",
                "DES_OBJECT_STORE": f"s3://{BUCKET}/{tmp_path.name}",  # moto forgets nothing
                "DES_S3__ENDPOINT_URL": s3.endpoint_url,
                "DES_S3__ACCESS_KEY_ID": s3.access_key_id.get_secret_value(),
                "DES_S3__SECRET_ACCESS_KEY": s3.secret_access_key.get_secret_value(),
                "DES_TRACING__ENDPOINT": receiver.url,
                "DES_TRACING__RATIO": "0",
            }
        ).start()


FILES = "des:des.v1.FileService"


async def test_one_trace_from_the_client_to_each_request_to_the_object_store(traced, receiver):
    with caller(receiver) as provider:
        tracer = provider.get_tracer("job")
        async with AsyncDesClient(traced.address, tracing=provider, timeout_s=60) as des:
            with tracer.start_as_current_span("job") as job:
                name = (await des.put(b"hello" * 100)).file.name
                await des.seal_shard(0)
                assert await des.get(name) == b"hello" * 100
                async for one in des.put_many([b"a", b"b"]):
                    one.unwrap()
                with pytest.raises(TypeError):
                    await des.put(5)
    assert traced.terminate() == 0  # sends what it still has

    paths = receiver.paths(job.get_span_context().trace_id.to_bytes(16, "big"))
    put = ("caller:job", "caller:des.put", f"{FILES}/PutFile")
    assert (*put, "des:log.append") in paths
    seal = ("caller:job", "caller:des.seal_shard", "des:des.v1.ShardService/SealShard", "des:seal")
    get = ("caller:job", "caller:des.get", f"{FILES}/GetFile")
    many = ("caller:job", "caller:des.put_many", f"{FILES}/BatchWriteFiles")
    asked = defaultdict(set)
    for path in paths:
        if path[-1].startswith("des:object_store."):
            asked[path[1]].add(path[-1].removeprefix("des:object_store."))
    assert many in paths
    assert any(path[:4] == seal and path[-1] == "des:object_store.create" for path in paths)
    assert any(path[:3] == get and path[-1] == "des:object_store.get_range" for path in paths)
    assert asked.keys() <= {"caller:des.seal_shard", "caller:des.get"}
    failed = [span for _, span in receiver.spans if span.name == "des.put" and span.status.code == 2]
    assert [one.value.string_value for one in failed[0].attributes if one.key == "error.type"] == [
        "TypeError"
    ]
    assert name.encode() not in b"".join(span.SerializeToString() for _, span in receiver.spans)


def test_the_blocking_client_is_in_the_trace_too(traced, receiver):
    with caller(receiver) as provider, DesClient(traced.address, tracing=provider, timeout_s=60) as des:
        files = [one.unwrap().file.name for one in des.put_many([b"a", b"b"])]
        assert [one.unwrap() for one in des.get_many(files)] == [b"a", b"b"]
        assert des.get(files[0]) == b"a"
    assert traced.terminate() == 0
    roots = {span.name: span.trace_id for service, span in receiver.spans if service == "caller"}
    for operation, method in (
        ("put_many", "BatchWriteFiles"),
        ("get_many", "BatchReadFiles"),
        ("get", "GetFile"),
    ):
        assert (f"caller:des.{operation}", f"{FILES}/{method}") in receiver.paths(roots[f"des.{operation}"])


def test_a_receiver_that_is_away_holds_up_nothing(make_server):
    server = make_server({"DES_TRACING__ENDPOINT": "http://127.0.0.1:9/v1/traces", "DES_TRACING__RATIO": "1"})
    server.start()
    with DesClient(server.address, timeout_s=60) as des:
        assert des.get(des.put(b"x").file.name) == b"x"
    assert server.terminate() == 0
