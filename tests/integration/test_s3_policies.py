"""The policies in docker/privileges, enforced in front of a real S3 server while DES works.

A gate stands between DES and the server. It derives from every request the action that AWS asks for, as the
Service Authorization Reference has it, and refuses what the policy does not allow; it remembers what was
used, so a policy that allows more than is used fails too.
"""

import asyncio
import contextlib
import fnmatch
import http.client
import http.server
import json
import threading
import urllib.parse
from pathlib import Path
from uuid import uuid4

import boto3
import google_crc32c
import pytest

from des.config import load_settings
from des.core import SyncS3DesReader
from des.errors import DesError
from des.files import Durability, FileSpec
from des.node import Node
from des.node.diagnosis import Verdict, diagnose
from des.node.doors import doors_of
from des.node.stale_uploads import StaleUploads
from des.storage import open_store
from des.storage.bytes_body import BytesBody
from des.testing.s3_server import BUCKET, temporary_moto

PRIVILEGES = Path(__file__).parents[2] / "docker" / "privileges"
SOURCES = "documents"
HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class Policy:
    """A policy of the files for a bucket; it knows Allow, wildcards and conditions on s3:prefix."""

    def __init__(self, name, bucket=BUCKET):
        raw = json.loads((PRIVILEGES / f"{name}.json").read_text().replace("your-bucket", bucket))
        self.statements = raw["Statement"]
        self.used = set()
        """(sid, action) of what was asked for and allowed."""
        for statement in self.statements:
            assert statement["Effect"] == "Allow"
            assert not any("*" in action for action in statement["Action"]), "a policy names its actions"
            assert set(statement.get("Condition", {})) <= {"StringLike"}

    def allows(self, action, resource, prefix):
        for statement in self.statements:
            if action in statement["Action"] and any(
                fnmatch.fnmatchcase(resource, pattern) for pattern in statement["Resource"]
            ):
                wanted = statement.get("Condition", {}).get("StringLike", {}).get("s3:prefix")
                if wanted is None or any(fnmatch.fnmatchcase(prefix, pattern) for pattern in wanted):
                    self.used.add((statement["Sid"], action))
                    return True
        return False

    def all_actions(self):
        return {(one["Sid"], action) for one in self.statements for action in one["Action"]}


def wanted_of(method, path, query, headers):
    """Return the (action, bucket, key) pairs that AWS asks for before it serves a request."""
    bucket, _, key = urllib.parse.unquote(path).lstrip("/").partition("/")
    if not key:
        match method, query:
            case "GET", {"uploads": _}:
                return [("s3:ListBucketMultipartUploads", bucket, "")]
            case (("GET" | "HEAD"), _):
                return [("s3:ListBucket", bucket, "")]
            case "PUT", _:
                return [("s3:CreateBucket", bucket, "")]
    else:
        match method, query:
            case (("GET" | "HEAD"), _) if "uploadId" not in query:
                return [("s3:GetObject", bucket, key)]
            case (("PUT" | "POST"), _):
                source = urllib.parse.unquote(headers.get("x-amz-copy-source", "")).lstrip("/")
                copied = [("s3:GetObject", *source.split("/", 1))] if source else []
                return [("s3:PutObject", bucket, key), *copied]
            case "DELETE", {"uploadId": _}:
                return [("s3:AbortMultipartUpload", bucket, key)]
            case "DELETE", _:
                return [("s3:DeleteObject", bucket, key)]
    raise AssertionError(f"no action is known for {method} {path} {query}")


class Gate:
    """An HTTP server that lets through what a policy allows."""

    def __init__(self, endpoint):
        self.bucket = ""
        self.policy = None
        """None lets everything through."""
        self.refused = []
        gate = self
        upstream = urllib.parse.urlsplit(endpoint).netloc

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def serve(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = urllib.parse.urlsplit(self.path)
                query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
                wanted = wanted_of(self.command, parts.path, query, self.headers)
                for action, bucket, key in wanted:
                    resource = f"arn:aws:s3:::{bucket}" + (f"/{key}" if key else "")
                    policy = gate.policy
                    if policy is not None and not policy.allows(action, resource, query.get("prefix", "")):
                        gate.refused.append((action, resource))
                        return self.answer(403, {}, b"<Error><Code>AccessDenied</Code></Error>")
                connection = http.client.HTTPConnection(upstream, timeout=60)
                try:
                    connection.request(self.command, self.path, body, dict(self.headers))
                    reply = connection.getresponse()
                    length = reply.headers.get("Content-Length") if self.command == "HEAD" else None
                    return self.answer(reply.status, reply.headers, reply.read(), length)
                finally:
                    connection.close()

            def answer(self, status, headers, body, length=None):
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in HOP:
                        self.send_header(name, value)
                self.send_header("Content-Length", length or str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = serve  # noqa: N815  names of http.server

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextlib.contextmanager
    def under(self, name):
        """Enforce a policy, and give it."""
        self.policy, self.refused = Policy(name, self.bucket), []
        try:
            yield self.policy
        finally:
            self.policy = None

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def gate():
    with temporary_moto() as s3:
        gate = Gate(s3.endpoint_url)
        gate.s3 = s3.model_copy(update={"endpoint_url": gate.url})
        yield gate
        gate.stop()


def client_of(gate):
    s3 = gate.s3
    return boto3.client(
        "s3",
        endpoint_url=gate.url,
        region_name=s3.region,
        aws_access_key_id=s3.access_key_id.get_secret_value(),
        aws_secret_access_key=s3.secret_access_key.get_secret_value(),
    )


@pytest.fixture
def settings(gate, tmp_path):
    gate.bucket = f"bucket-{uuid4().hex}"
    client = client_of(gate)
    client.create_bucket(Bucket=gate.bucket)
    client.close()
    return load_settings(
        data_dir=tmp_path / "node",
        object_store=f"s3://{gate.bucket}/des",
        s3=gate.s3,
        shard_bits=0,
        big_file_bytes=1 << 20,
    )


async def put(node, data, **spec):
    return (await node.put_bytes(FileSpec(**spec), data, google_crc32c.value(data))).file.name


async def put_big(node, size, *, abort=False):
    upload = await node.begin_put(FileSpec())
    for start in range(0, size, 1 << 20):
        await upload.write(bytes(min(1 << 20, size - start)))
    if abort:
        return await upload.abort()
    return (await upload.finish(None)).file.name


async def work(settings):
    """Do what a node does; return a container's key and the name of a file in it."""
    node = await Node.open(settings)
    try:
        name = await put(node, b"hello")
        shipped = await put(node, b"shipped", durability=Durability.STORED)
        await node.wait_stored([shipped])
        big = await put_big(node, (11 << 20) + 3)
        await put_big(node, 12 << 20, abort=True)
        [row] = await node.seal_shard(0)
        assert await (await node.open_file(big)).read_whole() == bytes((11 << 20) + 3)
    finally:
        await node.close()
    node = await Node.open(settings)
    try:
        assert await (await node.open_file(name)).read_whole() == b"hello"
        assert await (await node.open_file(shipped)).read_whole() == b"shipped"
    finally:
        await node.close()
    doors = doors_of(settings)
    try:  # as a running node does once a day
        await StaleUploads(
            settings=settings, catalog=doors.catalog, store=doors.store, clock=doors.clock
        ).step()
    finally:
        await doors.store.close()
        await doors.catalog.close()
    return row.key, name


async def test_a_server_works_with_its_policy_and_uses_all_of_it_but_deletes_no_container(gate, settings):
    with gate.under("s3-server") as policy:
        key, _ = await work(settings)
        found = await diagnose(settings)
        assert not [one for one in found if one.verdict is Verdict.FAILED], found
        assert gate.refused == []
        unused = policy.all_actions() - policy.used
        assert unused == set(), "the policy allows what is not used"
        store = open_store(settings.object_store, settings)
        try:
            with pytest.raises(DesError):
                await store.delete(key)
            assert gate.refused == [("s3:DeleteObject", f"arn:aws:s3:::{gate.bucket}/des/{key}")]
            assert (await store.head(key)).size > 0
        finally:
            await store.close()


async def test_the_keepers_policy_collects_what_the_servers_may_not(gate, settings):
    key, _ = await work(settings)
    with gate.under("s3-upkeep") as policy:
        store = open_store(settings.object_store, settings)
        try:
            assert [info.key async for info in store.list("")]
            await store.abort_stale_uploads("", begun_before_ms=1 << 60)
            await store.delete(key)
            with pytest.raises(DesError):
                await store.create("20260115/00/new.des", BytesBody(b"x"), metadata={})
        finally:
            await store.close()
        assert {action for _, action in policy.used} >= {"s3:DeleteObject", "s3:ListBucket"}


async def test_a_reader_reads_and_lists_and_nothing_else(gate, settings):
    key, name = await work(settings)
    with gate.under("s3-reader") as policy:
        client = client_of(gate)

        def read():
            with SyncS3DesReader(client, f"des/{key}", bucket=gate.bucket) as reader:
                return reader.get_file(name)

        assert await asyncio.to_thread(read) == b"hello"
        store = open_store(settings.object_store, settings)
        try:
            assert [info.key async for info in store.list("")]
            for refused in (store.delete(key), store.create("x", BytesBody(b"x"), metadata={})):
                with pytest.raises(DesError):
                    await refused
        finally:
            await store.close()
        assert policy.used == policy.all_actions()


def test_a_packers_policy_is_a_servers_and_reads_the_sources():
    server, packer = Policy("s3-server"), Policy("s3-packer")
    assert packer.statements[:-1] == server.statements
    assert packer.allows("s3:GetObject", f"arn:aws:s3:::{SOURCES}/any", "")
    assert not packer.allows("s3:PutObject", f"arn:aws:s3:::{SOURCES}/any", "")
    assert not packer.allows("s3:DeleteObject", f"arn:aws:s3:::{BUCKET}/des/20260115/00/x.des", "")


def test_no_policy_reaches_beyond_its_prefix():
    for path in PRIVILEGES.glob("s3-*.json"):
        policy = Policy(path.stem)
        for action in {action for _, action in policy.all_actions()}:
            assert not policy.allows(action, f"arn:aws:s3:::{BUCKET}/other/x", "other/")
        assert not policy.allows("s3:ListBucket", f"arn:aws:s3:::{BUCKET}", "other/")
