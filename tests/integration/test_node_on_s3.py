"""A whole node with its objects in a real S3 server: put, seal, read back, start again, fail well."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import google_crc32c
import pytest

from des.config import S3Settings, Settings, load_settings
from des.db.catalog import CatalogUnavailableError
from des.files import FileSpec
from des.node import Node
from des.storage import open_store
from des.storage.object_store import NoSuchBucketError
from des.storage.s3_client import S3Client
from des.testing.s3_server import BUCKET, temporary_moto


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Settings]:
    with temporary_moto() as settings:
        yield settings


@pytest.fixture
def settings(tmp_path: Path, moto: S3Settings) -> Settings:
    return load_settings(
        data_dir=tmp_path / "node",
        object_store=f"s3://{BUCKET}/{uuid4().hex}",
        s3=moto,
        shard_bits=1,
        big_file_bytes=1 << 20,
    )


async def put(node: Node, data: bytes) -> str:
    return (await node.put_bytes(FileSpec(), data, google_crc32c.value(data))).file.name


async def put_big(node: Node, data: bytes) -> str:
    upload = await node.begin_put(FileSpec())
    for start in range(0, len(data), 1 << 20):
        await upload.write(data[start : start + (1 << 20)])
    return (await upload.finish(None)).file.name


async def test_sealed_and_big_files_lie_in_s3_and_outlive_the_node(settings: Settings) -> None:
    rng = random.Random(5)
    files: dict[str, bytes] = {}
    node = await Node.open(settings)
    for size in (0, 1, 5000, 300_000):
        data = rng.randbytes(size)
        files[await put(node, data)] = data
    big = rng.randbytes((11 << 20) + 3)  # three parts
    files[await put_big(node, big)] = big
    for shard in range(2):
        await node.seal_shard(shard)
    assert (await node.capabilities()).survives_node
    await node.close()

    store = open_store(settings.object_store, settings)
    keys = [info.key async for info in store.list("")]
    await store.close()
    assert any(key.endswith(".des") for key in keys)
    assert sum("_bigFiles/" in key for key in keys) == 1

    node = await Node.open(settings)
    for name, data in files.items():
        assert await (await node.open_file(name)).read_whole() == data
    await node.close()


async def test_a_long_container_is_uploaded_in_parts_while_it_is_built(settings: Settings) -> None:
    """Five files of 4 MiB in parts of 5 MiB; no object is seen before its row, no part is left behind."""
    rng = random.Random(6)
    node = await Node.open(settings.model_copy(update={"shard_bits": 0, "big_file_bytes": 8 << 20}))
    files: dict[str, bytes] = {}
    for _ in range(5):
        data = rng.randbytes(4 << 20)
        files[await put(node, data)] = data
    packer: Any = node._packer
    catalog: Any = packer._containers._catalog
    announce = catalog.announce_container
    client: Any = S3Client(BUCKET, settings.s3).client
    prefix = settings.object_store.partition(f"{BUCKET}/")[2]

    async def unavailable(*_: Any) -> Any:
        listed = client.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix)
        (upload,) = listed["Uploads"]
        place = {"Bucket": BUCKET, "Key": upload["Key"], "UploadId": upload["UploadId"]}
        while len(client.list_parts(**place).get("Parts", ())) < 3:
            await asyncio.sleep(0.05)  # they are on their way
        assert client.list_objects_v2(Bucket=BUCKET, Prefix=upload["Key"])["KeyCount"] == 0
        raise CatalogUnavailableError("no answer")

    catalog.announce_container = unavailable
    with pytest.raises(CatalogUnavailableError):
        await node.seal_shard(0)
    assert "Uploads" not in client.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix)
    catalog.announce_container = announce
    (row,) = await node.seal_shard(0)
    found = client.head_object(Bucket=BUCKET, Key=f"{prefix}/{row.key}")
    assert found["ContentLength"] == row.geometry.size
    assert found["Metadata"]["des-container-id"] == row.container_id
    assert "des-sha256" not in found["Metadata"]
    for name, data in files.items():
        assert await (await node.open_file(name)).read_whole() == data
    client.close()
    await node.close()


async def test_a_bucket_that_is_not_there_is_no_empty_store(settings: Settings) -> None:
    node = await Node.open(settings)
    name = await put(node, b"here")
    await node.seal_shard(0)
    await node.seal_shard(1)
    await node.close()
    other = settings.model_copy(update={"object_store": "s3://no-such-bucket/x"})
    with pytest.raises(NoSuchBucketError):
        await Node.open(other)
    node = await Node.open(settings)
    assert await (await node.open_file(name)).read_whole() == b"here"
    await node.close()
