"""Google Cloud Storage and Azure behind the same door: what the suite does not ask, and whole nodes."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import boto3
import google_crc32c
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from des.cli.exits import Exit
from des.cli.main import app
from des.config import AzureSettings, GcsSettings, Settings, load_settings
from des.files import FileSpec
from des.node import Node
from des.storage import open_store
from des.storage.bytes_body import BytesBody
from des.storage.object_store import (
    NoSuchBucketError,
    ObjectDamagedError,
    ObjectExistsError,
    ObjectStoreForbiddenError,
)
from des.storage.obstore_backend import ObstoreBackend
from des.storage.obstore_clients import BadStoreSettingsError
from des.storage.obstore_upload import STAGING
from des.testing.azure_server import ACCOUNT_KEY, CONTAINER, temporary_azurite
from des.testing.gcs_server import BUCKET, GoogleDialect, temporary_gcs
from des.testing.object_store_suite import ShortBody, keys, put

LONG = random.Random(3).randbytes((11 << 20) + 3)  # three parts


@dataclass(frozen=True)
class Cloud:
    """A server, and how it is reached."""

    url: str
    settings: Settings
    google: GoogleDialect | None

    def store(self, url: str = "") -> ObstoreBackend:
        store = open_store(url or self.url, self.settings)
        assert isinstance(store, ObstoreBackend)
        return store


@pytest.fixture(scope="module")
def gcs() -> Iterator[tuple[GcsSettings, GoogleDialect]]:
    with temporary_gcs() as served:
        yield served


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureSettings]:
    with temporary_azurite(tmp_path_factory.mktemp("azurite")) as settings:
        yield settings


@pytest.fixture(params=["gcs", "azure"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    if request.param == "gcs":
        gcs, google = request.getfixturevalue("gcs")
        return Cloud(f"gs://{BUCKET}/{uuid4().hex}", Settings(gcs=gcs), google)
    azure = request.getfixturevalue("azure")
    return Cloud(f"az://{CONTAINER}/{uuid4().hex}", Settings(azure=azure), None)


@pytest.fixture
async def store(cloud: Cloud) -> AsyncIterator[ObstoreBackend]:
    store = cloud.store()
    yield store
    await store.close()


async def staged(store: ObstoreBackend) -> list[str]:
    return [found["path"] async for page in store._pages(STAGING, "") for found in page]


async def test_a_long_object_arrives_whole_with_its_metadata_and_leaves_no_copy(
    store: ObstoreBackend,
) -> None:
    made = await store.create("long", BytesBody(LONG), metadata={"des-container-id": "7", "empty": ""})
    assert made == await store.head("long")
    assert (made.size, made.metadata) == (len(LONG), {"des-container-id": "7", "empty": ""})
    assert await store.get_range("long", 0, len(LONG), etag=made.etag) == LONG
    assert await staged(store) == []
    assert await keys(store) == ["long"]


async def test_a_long_object_never_overwrites(store: ObstoreBackend) -> None:
    made = await put(store, "key", b"first")
    with pytest.raises(ObjectExistsError):
        await store.create("key", BytesBody(LONG), metadata={})
    assert (await store.head("key")).etag == made.etag
    assert await staged(store) == []


async def test_a_long_object_that_breaks_off_leaves_nothing(cloud: Cloud, store: ObstoreBackend) -> None:
    with pytest.raises(ObjectDamagedError):
        await store.create("key", ShortBody(LONG), metadata={})
    upload = await store.begin_upload("key", metadata={})
    await upload.write(LONG)
    await upload.abort()
    await upload.abort()
    assert await keys(store) == []
    assert await staged(store) == []
    if cloud.google is not None:
        client = boto3.client(
            "s3",
            endpoint_url=cloud.settings.gcs.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
        )
        assert client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []) == []
        client.close()


async def test_what_a_killed_process_left_whole_is_dropped_when_it_is_old(
    cloud: Cloud, store: ObstoreBackend
) -> None:
    # A process that dies between the last part and the copy.
    killed = cloud.store()
    upload = await killed.begin_upload("day/key", metadata={})
    upload._drop_staged = _nothing  # type: ignore[attr-defined]  # as if it had died
    await upload.write(LONG)
    await upload.finish()
    assert len(await staged(store)) == 1
    # It would still want it.
    assert await killed.abort_stale_uploads("", begun_before_ms=1 << 42) == 0
    assert await store.abort_stale_uploads("", begun_before_ms=1) == 0
    assert await store.abort_stale_uploads("other/", begun_before_ms=1 << 42) == 0
    assert await store.abort_stale_uploads("day/", begun_before_ms=1 << 42) == 1
    assert await staged(store) == []
    assert await keys(store) == ["day/key"]
    await killed.close()


async def _nothing() -> None:
    return


@pytest.mark.parametrize("data", [b"short", LONG], ids=["short", "long"])
async def test_a_write_whose_answer_is_lost_is_known_as_ours(
    gcs: tuple[GcsSettings, GoogleDialect], data: bytes
) -> None:
    settings, google = gcs
    store = open_store(f"gs://{BUCKET}/{uuid4().hex}", Settings(gcs=settings))
    google.answers_to_lose = 1
    try:
        made = await store.create("key", BytesBody(data), metadata={"a": "b"})
    finally:
        assert google.answers_to_lose == 0
    assert (made.size, made.metadata) == (len(data), {"a": "b"})
    assert await store.get_range("key", 0, len(data), etag=made.etag) == data
    await store.close()


async def test_the_probe_says_what_is_honoured(cloud: Cloud, store: ObstoreBackend) -> None:
    found = await store.capabilities()
    assert (found.kind, found.survives_node) == ("azure" if cloud.google is None else "gcs", True)
    assert (found.conditional_create, found.conditional_read, found.ranges) == (True, True, True)
    assert (found.checksums, found.conditional_delete, found.server_side_copy) == (False, False, False)
    assert len(found.advice) == 3
    assert await keys(store) == []


async def test_a_store_that_ignores_conditions_is_found_out_and_looked_at_first() -> None:
    with temporary_gcs(honours_conditions=False) as (settings, _):
        store = open_store(f"gs://{BUCKET}/x", Settings(gcs=settings))
        assert not (await store.capabilities()).conditional_create
        await put(store, "key", b"first")
        with pytest.raises(ObjectExistsError):
            await put(store, "key", b"other")
        with pytest.raises(ObjectExistsError):
            await store.create("key", BytesBody(LONG), metadata={})
        assert await store.get_range("key", 0, 5) == b"first"
        await store.close()


async def test_a_bucket_that_is_not_there_is_no_absent_object(cloud: Cloud) -> None:
    scheme = cloud.url.partition("://")[0]
    store = cloud.store(f"{scheme}://no-such-bucket/x")
    for attempt in (
        store.head("key"),
        store.get_range("key", 0, 1),
        store.get_tail("key", 1),
        put(store, "key"),
        keys(store),
        store.delete("key", etag="other"),
        store.capabilities(),
    ):
        with pytest.raises(NoSuchBucketError):
            await attempt
    await store.close()


async def test_a_wrong_key_is_forbidden_and_not_repeated(azure: AzureSettings) -> None:
    wrong = azure.model_copy(update={"account_key": SecretStr("AAAA" + ACCOUNT_KEY[4:])})
    store = open_store(f"az://{CONTAINER}/x", Settings(azure=wrong))
    for attempt in (store.head("key"), store.get_range("key", 0, 1), put(store, "key"), keys(store)):
        with pytest.raises(ObjectStoreForbiddenError):
            await attempt
    await store.close()


def test_a_key_that_is_none_is_refused_and_not_repeated() -> None:
    settings = Settings(azure=AzureSettings(account="a", account_key=SecretStr("hunter2!")))
    with pytest.raises(BadStoreSettingsError) as caught:
        open_store("az://container/x", settings)
    assert "hunter2" not in str(caught.value)


async def test_a_node_seals_reads_back_and_is_looked_after(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(
        data_dir=tmp_path / "node",
        object_store=cloud.url,
        gcs=cloud.settings.gcs,
        azure=cloud.settings.azure,
        shard_bits=1,
        big_file_bytes=1 << 20,
    )
    files = {}
    node = await Node.open(settings)
    for data in (b"", b"x", LONG[:300_000]):
        files[(await node.put_bytes(FileSpec(), data, google_crc32c.value(data))).file.name] = data
    upload = await node.begin_put(FileSpec())
    await upload.write(LONG)
    files[(await upload.finish(None)).file.name] = LONG
    for shard in range(2):
        await node.seal_shard(shard)
    await node.close()
    node = await Node.open(settings)
    for name, data in files.items():
        assert await (await node.open_file(name)).read_whole() == data
    await node.close()

    monkeypatch.setenv("DES_OBJECT_STORE", cloud.url)
    monkeypatch.setenv("DES_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("DES_SHARD_BITS", "1")
    for group in ("gcs", "azure"):
        for name, value in getattr(settings, group).model_dump(mode="python").items():
            text = value.get_secret_value() if isinstance(value, SecretStr) else str(value or "")
            if text:
                monkeypatch.setenv(f"DES_{group.upper()}__{name.upper()}", text)

    async def des(*args: str) -> str:
        # A verb runs an event loop of its own.
        done = await asyncio.to_thread(CliRunner().invoke, app, list(args), catch_exceptions=False)
        assert done.exit_code == Exit.OK, done.output + done.stderr
        return done.stdout

    assert json.loads(await des("fsck", "--read-data", "--json"))["files"] == 4
    await des("gc", "--apply")
    await des("recover")
    assert "object store" in await des("doctor")
    store = cloud.store()
    [key] = [key for key in await keys(store) if key.endswith(".des")][:1]
    await store.close()
    for verb in ("ls", "inspect", "verify"):
        await des(verb, f"{cloud.url}/{key}")
    (settings.data_dir / "catalog.sqlite").unlink()
    assert json.loads(await des("rebuild-catalog", "--json"))["files"] == 4
    await des("fsck")
