"""The waiting face of the object store reader, over a boto3 client and a real HTTP server."""

import io
from concurrent.futures import ThreadPoolExecutor

import boto3
import pytest
from moto.server import ThreadedMotoServer

from des.core import DesWriter, S3DesReader, SyncS3DesReader
from des.core.file_view import FileNotInContainerError
from des.storage.object_store import (
    NoSuchObjectError,
    ObjectChangedError,
    ObjectDamagedError,
    ObjectStoreUnavailableError,
)

KEY = "2026-11-23/0a/c.des"
FILES = {f"f{i:05d}": bytes([i % 256]) * (i % 300) for i in range(3000)}


@pytest.fixture(scope="module")
def client():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    client.create_bucket(Bucket="bucket")
    yield client
    client.close()
    server.stop()


@pytest.fixture(scope="module")
def made(client):
    target = io.BytesIO()
    with DesWriter(target) as writer:
        for name, data in FILES.items():
            writer.add_file(name, data, metadata={"n": name})
        writer.add_external("big", size=6, external_key="_bigFiles/big")
    client.put_object(Bucket="bucket", Key=KEY, Body=target.getvalue())
    client.put_object(Bucket="bucket", Key="_bigFiles/big", Body=b"far by")
    return target.getvalue()


def test_a_boto3_client_is_enough(client, made):
    with SyncS3DesReader(client, KEY, bucket="bucket") as reader:
        assert reader.get_file("f00257") == FILES["f00257"]
        assert reader.requests == 3
        assert reader.get_file("f00257") == FILES["f00257"]
        assert reader.requests == 4
        assert reader.get_file("f00000") == b""
        assert reader.get_file("big") == b"far by"
        assert reader.get_range("f00299", 7, 5) == FILES["f00299"][7:12]
        assert reader.get_meta("f00001").user == {"n": "f00001"}
        assert reader.stat("f00001").size == 1
        assert "f00001" in reader
        assert "absent" not in reader
        with pytest.raises(FileNotInContainerError):
            reader.get_file("absent")
        assert reader.list_files("f0001", limit=3) == ["f00010", "f00011", "f00012"]
        assert reader.get_files_batch(["f00009", "f00002"]) == {k: FILES[k] for k in ("f00009", "f00002")}
        assert len(reader.get_index()) == len(FILES) + 1
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(reader.get_file, FILES))[:50] == list(FILES.values())[:50]
    reader.close()


async def test_the_awaiting_face_takes_it_too(client, made):
    reader = S3DesReader(client, KEY, bucket="bucket")
    assert await reader.get_file("f00042") == FILES["f00042"]


async def test_what_the_server_refuses_is_told_apart(client, made):
    store = S3DesReader(client, KEY, bucket="bucket")._container.store
    with pytest.raises(NoSuchObjectError):
        await store.get_range("absent", 0, 1)
    with pytest.raises(NoSuchObjectError):
        await store.get_tail("absent", 1)
    with pytest.raises(NoSuchObjectError):
        await store.head("absent")
    with pytest.raises(ObjectChangedError):
        await store.get_range(KEY, 0, 1, etag='"other"')
    with pytest.raises(ObjectDamagedError):
        await store.get_range(KEY, len(made) - 1, len(made) + 1)
    with pytest.raises(ObjectDamagedError):
        await store.get_range(KEY, len(made), len(made) + 1)
    info, tail = await store.get_tail(KEY, 100)
    assert (info.size, tail) == (len(made), made[-100:])
    assert (await store.get_tail(KEY, 1 << 30))[1] == made
    assert (await store.head(KEY)).etag == info.etag
    assert await store.get_range(KEY, 5, 5) == b""


async def test_a_server_that_is_away_is_unavailable():
    away = boto3.client(
        "s3",
        endpoint_url="http://127.0.0.1:1",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=boto3.session.Config(retries={"max_attempts": 1}, connect_timeout=1),
    )
    with pytest.raises(ObjectStoreUnavailableError):
        await S3DesReader(away, KEY, bucket="bucket").get_file("a")
    away.close()
