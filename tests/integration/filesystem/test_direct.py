"""Stored files through fsspec, with no server: from a folder of objects, and from S3."""

import os
from pathlib import Path

import fsspec
import pytest
from des_client import DesClient

from des.filesystem.direct import DesFolderFileSystem, DesS3FileSystem

fsspec.register_implementation("des+s3", DesS3FileSystem, clobber=True)
fsspec.register_implementation("des+file", DesFolderFileSystem, clobber=True)

CONTENTS = [b"", b"a,b\n1,2\n", os.urandom(5000), bytes(range(256)) * 9000]


@pytest.fixture
def stored(server):
    """Names of `CONTENTS`, sealed, and the folder of the store's objects."""
    with DesClient(server.address) as des:
        names = [one.unwrap().file.name for one in des.put_many(CONTENTS)]
        for shard in des.shard_status():
            if shard.open_files:
                des.seal_shard(shard.shard_id)
        (still_open,) = (one.unwrap().file.name for one in des.put_many([b"open"]))
    (objects,) = {path.parents[2] for path in Path(server.data_dir).rglob("*.des")}
    return objects, names, still_open


def check(fs, root, names, still_open):
    paths = [f"{root}/{name}" for name in names]
    assert [fs.cat_file(path) for path in paths] == CONTENTS
    assert fs.cat(paths) == dict(zip(paths, CONTENTS, strict=True))
    assert [fs.size(path) for path in paths] == [len(one) for one in CONTENTS]
    for start, end in ((0, 10), (5, None), (-7, None), (2, -2), (9_000_000, None), (4, 4)):
        assert fs.cat_file(paths[3], start=start, end=end) == CONTENTS[3][start:end]
    with fs.open(paths[3]) as file:
        file.seek(1_000_000)
        assert file.read(100) == CONTENTS[3][1_000_000:1_000_100]
    with fs.open(paths[1], "r") as file:
        assert file.readline() == "a,b\n"
    (day,) = fs.ls(root, detail=False)
    assert sorted(one.rpartition("/")[2] for one in fs.ls(day, detail=False)) == sorted(names)
    assert {one["size"] for one in fs.ls(day)} == {len(one) for one in CONTENTS}
    assert fs.cat_file(f"{day}/{names[1]}") == CONTENTS[1]
    assert sorted(one.rpartition("/")[2] for one in fs.find(root)) == sorted(names)
    assert fs.isdir(day)
    assert not fs.exists(f"{root}/{still_open}")
    with pytest.raises(FileNotFoundError):
        fs.cat([paths[0], f"{root}/{still_open}"])
    with pytest.raises(NotImplementedError):
        fs.pipe_file(f"{root}/{still_open}", b"x")


def test_a_folder_of_objects_is_read_without_its_server(stored, server, tmp_path):
    objects, names, still_open = stored
    server.kill()
    fs = fsspec.filesystem("des+file")
    check(fs, str(objects), names, still_open)
    fs.get(f"{objects}/{names[2]}", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == CONTENTS[2]
    with fsspec.open(f"des+file://{objects}/{names[1]}") as file:
        assert file.read() == CONTENTS[1]


def test_a_container_made_after_the_listing_is_found(stored, server):
    objects, names, still_open = stored
    fs = DesFolderFileSystem(skip_instance_cache=True)
    assert fs.cat_file(f"{objects}/{names[1]}") == CONTENTS[1]
    assert not fs.exists(f"{objects}/{still_open}")
    with DesClient(server.address) as des:
        for shard in des.shard_status():
            if shard.open_files:
                des.seal_shard(shard.shard_id)
    assert fs.cat_file(f"{objects}/{still_open}") == b"open"


def test_a_bucket_is_read_without_a_server(stored, monkeypatch):
    boto3 = pytest.importorskip("boto3")
    moto = pytest.importorskip("moto.server")
    objects, names, still_open = stored
    for key, value in {"ACCESS_KEY_ID": "x", "SECRET_ACCESS_KEY": "x", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{key}", value)
    running = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    try:
        host, port = running.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        bucket = boto3.client("s3", endpoint_url=endpoint)
        bucket.create_bucket(Bucket="stored-files")
        for path in objects.rglob("*.des"):
            bucket.upload_file(str(path), "stored-files", f"some/where/{path.relative_to(objects)}")
        fs = fsspec.filesystem("des+s3", s3={"endpoint_url": endpoint}, skip_instance_cache=True)
        check(fs, "stored-files/some/where", names, still_open)
    finally:
        running.stop()
