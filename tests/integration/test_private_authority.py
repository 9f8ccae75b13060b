"""Stores and buckets of sources behind TLS, whose certificate an authority signed that nobody else knows."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from cryptography import x509

from des.config import GcsSettings, S3Settings, Settings
from des.errors import UnavailableError
from des.sources.config import ObjectsConfig
from des.sources.objects import ObjectsUnavailableError
from des.sources.s3_objects import S3SourceObjects
from des.storage import S3StorageBackend, open_store
from des.storage.authorities import BadAuthoritiesError
from des.storage.bytes_body import BytesBody
from des.testing.authority import HERE, Authority
from des.testing.gcs_server import BUCKET as GCS_BUCKET
from des.testing.gcs_server import temporary_gcs
from des.testing.s3_server import BUCKET, temporary_moto

SHORT = bytes(range(256))
LONG = bytes(6 << 20)


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Settings]:
    with temporary_moto() as settings:
        yield settings


@asynccontextmanager
async def behind_tls(url: str, cert: Path, key: Path) -> AsyncIterator[str]:
    """Serve what is at `url` over TLS, on this event loop."""
    place = urlsplit(url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    tasks: set[asyncio.Task[None]] = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        there, back = await asyncio.open_connection(place.hostname, place.port)
        try:
            await asyncio.gather(pipe(reader, back), pipe(there, writer))
        finally:
            back.transport.abort()
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


@pytest.fixture
def bundle(tmp_path: Path, ours: Authority) -> Path:
    """Two authorities, of which the second is the one."""
    path = tmp_path / "bundle.pem"
    path.write_bytes(Authority(tmp_path, "another").path.read_bytes() + ours.path.read_bytes())
    return path


def hasty(settings: S3Settings, **changes: object) -> S3Settings:
    return settings.model_copy(update={"attempts": 1, **changes})


async def test_both_clients_of_an_s3_store_believe_the_bundle(
    moto: S3Settings, ours: Authority, bundle: Path, tmp_path: Path
) -> None:
    async with behind_tls(moto.endpoint_url, *ours.issue(tmp_path, "server", *HERE)) as url:
        settings = moto.model_copy(update={"endpoint_url": url, "ca_bundle": bundle})
        store = S3StorageBackend(BUCKET, prefix=uuid4().hex, settings=settings)
        short = await store.create("short", BytesBody(SHORT), metadata={"a": "b"})
        await store.create("long", BytesBody(LONG), metadata={})
        assert await store.get_range("short", 1, 9, etag=short.etag) == SHORT[1:9]
        assert (await store.get_tail("long", 5))[1] == LONG[-5:]
        assert [info.key async for info in store.list("")] == ["long", "short"]
        assert (await store.head("short")).metadata == {"a": "b"}
        await store.close()


@pytest.mark.parametrize("why", ["no bundle", "another authority", "another host"])
async def test_neither_client_talks_to_whom_it_does_not_know(
    moto: S3Settings, ours: Authority, tmp_path: Path, why: str
) -> None:
    there = S3StorageBackend(BUCKET, prefix=uuid4().hex, settings=moto)
    await there.create("key", BytesBody(SHORT), metadata={})
    names = [x509.DNSName("elsewhere.example")] if why == "another host" else HERE
    trusted = {
        "no bundle": None,
        "another authority": Authority(tmp_path, "another").path,
        "another host": ours.path,
    }[why]
    async with behind_tls(moto.endpoint_url, *ours.issue(tmp_path, "server", *names)) as url:
        settings = hasty(moto, endpoint_url=url, ca_bundle=trusted)
        store = S3StorageBackend(BUCKET, prefix=there.prefix, settings=settings)
        with pytest.raises(UnavailableError):
            await store.create("new", BytesBody(SHORT), metadata={})
        with pytest.raises(UnavailableError):
            await store.get_range("key", 0, 1)
        await store.close()
    assert [info.key async for info in there.list("")] == ["key"]
    await there.close()


async def test_a_store_through_obstore_alone_believes_the_bundle(
    ours: Authority, bundle: Path, tmp_path: Path
) -> None:
    with temporary_gcs() as (gcs, _):
        async with behind_tls(gcs.endpoint_url, *ours.issue(tmp_path, "server", *HERE)) as url:

            def opened(ca_bundle: Path | None) -> GcsSettings:
                return gcs.model_copy(update={"endpoint_url": url, "ca_bundle": ca_bundle, "attempts": 1})

            place = f"gs://{GCS_BUCKET}/{uuid4().hex}"
            store = open_store(place, Settings(gcs=opened(bundle)))
            made = await store.create("key", BytesBody(SHORT), metadata={})
            assert await store.get_range("key", 0, 9, etag=made.etag) == SHORT[:9]
            await store.close()
            stranger = open_store(place, Settings(gcs=opened(None)))
            with pytest.raises(UnavailableError):
                await stranger.get_range("key", 0, 9)
            await stranger.close()


async def test_the_buckets_of_a_source_are_reached_with_the_bundle(
    moto: S3Settings, ours: Authority, bundle: Path, tmp_path: Path
) -> None:
    there = S3StorageBackend(BUCKET, prefix="sources", settings=moto)
    key = uuid4().hex
    await there.create(key, BytesBody(SHORT), metadata={})
    await there.create(f"{key}-long", BytesBody(LONG), metadata={})
    await there.close()
    async with behind_tls(moto.endpoint_url, *ours.issue(tmp_path, "server", *HERE)) as url:

        def objects(ca_bundle: Path | None) -> S3SourceObjects:
            config = ObjectsConfig(
                buckets=[BUCKET],
                endpoint=url,
                access_key=moto.access_key_id,
                secret_key=moto.secret_access_key,
                addressing="path",
                ca_bundle=ca_bundle,
                timeout_s=20,
            )
            return S3SourceObjects(config, connections=2)

        knowing, stranger = objects(bundle), objects(None)
        for name, content in ((key, SHORT), (f"{key}-long", LONG)):
            found = await knowing.open(BUCKET, f"sources/{name}", etag=None, size=None, size_max=1 << 30)
            data = found.first
            while more := await found.read():
                data += more
            await found.close()
            assert data == content
            with pytest.raises(ObjectsUnavailableError):
                await stranger.open(BUCKET, f"sources/{name}", etag=None, size=None, size_max=1 << 30)
        await knowing.close()
        await stranger.close()


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"\xff\x00"])
def test_a_bundle_without_a_certificate_is_refused(
    moto: S3Settings, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "bundle.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadAuthoritiesError, match="ca_bundle"):
        S3StorageBackend(BUCKET, settings=moto.model_copy(update={"ca_bundle": path}))
    with pytest.raises(BadAuthoritiesError, match="ca_bundle"):
        open_store("gs://bucket/x", Settings(gcs=GcsSettings(ca_bundle=path)))
    with pytest.raises(BadAuthoritiesError, match="ca_bundle"):
        S3SourceObjects(ObjectsConfig(buckets=["bucket"], ca_bundle=path), connections=1)
