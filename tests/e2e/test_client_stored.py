"""The client waits until files are stored, on a server whose objects outlive it."""

import asyncio
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from des_client import AsyncDesClient, DesClient, FileMissing, FileState

boto3 = pytest.importorskip("boto3")
moto = pytest.importorskip("moto.server", reason="pip install moto[server]")

PATIENCE_S = 60


@pytest.fixture
def server(make_server, monkeypatch, tmp_path) -> Iterator[tuple[object, Callable[[], set[str]]]]:
    """A server whose objects lie in a bucket, and what tells their keys."""
    for key, value in {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{key}", value)
    running = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    try:
        host, port = running.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        bucket = boto3.client("s3", endpoint_url=endpoint)
        name = f"files-{uuid4().hex}"  # moto keeps buckets for as long as the process of the tests lives
        bucket.create_bucket(Bucket=name)

        def objects() -> set[str]:
            pages = bucket.get_paginator("list_objects_v2").paginate(Bucket=name)
            return {each["Key"] for page in pages for each in page.get("Contents", ())}

        process = make_server(
            {"DES_OBJECT_STORE": f"s3://{name}", "DES_S3__ENDPOINT_URL": endpoint, "DES_SHARD_BITS": "2"}
        ).start()
        yield process, objects
        process.kill()
    finally:
        running.stop()


def seal_all(des: DesClient) -> None:
    for shard in des.shard_status():
        if shard.open_files:
            des.seal_shard(shard.shard_id, timeout_s=PATIENCE_S)


def test_files_waited_for_are_in_the_bucket_before_any_seal_and_after_it(server):
    process, objects = server
    with DesClient(process.address, timeout_s=PATIENCE_S) as des:
        names = [one.unwrap().file.name for one in des.put_many(b"%d" % number for number in range(300))]
        before = objects()
        outcomes = des.wait_stored(names)
        assert [(one.index, one.name, one.error) for one in outcomes] == [
            (at, name, None) for at, name in enumerate(names)
        ]
        assert objects() - before  # the log's records, where no seal came first
        seal_all(des)
        files = [one.unwrap() for one in des.wait_stored(names)]
        assert [file.name for file in files] == names
        assert {file.state for file in files} == {FileState.STORED}
        assert all(file.seal_time is not None for file in files)


def test_each_name_is_answered_for_itself(server):
    process, _ = server
    with DesClient(process.address, timeout_s=PATIENCE_S) as des:
        kept, gone = (one.unwrap().file.name for one in des.put_many([b"kept", b"gone"]))
        (never,) = des.assign_names(1)
        des.delete(gone)
        stored, deleted, missing = des.wait_stored([kept, gone, never.name])
        assert stored.unwrap().name == kept
        assert (type(deleted.error), deleted.error.reason) == (FileMissing, "FILE_DELETED")
        assert (type(missing.error), missing.error.reason) == (FileMissing, "FILE_NOT_FOUND")


async def test_the_asyncio_client_waits_without_holding_the_loop(server):
    process, _ = server
    async with AsyncDesClient(process.address, timeout_s=PATIENCE_S) as des:
        result = await des.put(b"one")
        waiting = asyncio.create_task(des.wait_stored(result.file.name))
        await des.seal_shard(result.file.shard_id)
        (outcome,) = await asyncio.wait_for(waiting, PATIENCE_S)
        assert outcome.unwrap().name == result.file.name
        assert await des.get(result.file.name) == b"one"
