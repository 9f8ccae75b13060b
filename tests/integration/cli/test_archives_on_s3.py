"""The verbs over archives on objects of a real S3 server: as on local files, and DATA stays where it is."""

import json
import os
import tarfile

import google_crc32c
import pytest
from typer.testing import CliRunner

from des.cli.main import app
from des.core import DesReader, DesWriter, S3DesReader
from des.format.hash_pages import SLOT_UNPROVEN
from des.format.layout import Layout
from des.format.system_metadata import SystemMetadata
from des.storage.memory import MemoryObjectStore
from des.storage.object_store import ObjectStoreRefusedError
from des.storage.s3 import S3StorageBackend
from des.storage.s3_upload import S3Upload
from des.testing.object_store_suite import put
from des.testing.s3_server import BUCKET, temporary_moto

LONG = os.urandom(11 << 20)
FILES = {
    f"docs/{i:03d}.json": json.dumps({"number": i, "body": ["as ever"] * 20}).encode() for i in range(200)
}


@pytest.fixture(scope="module")
def moto():
    with temporary_moto() as settings:
        yield settings


@pytest.fixture
def des(moto, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto.access_key_id.get_secret_value())
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto.secret_access_key.get_secret_value())
    monkeypatch.setenv("AWS_REGION", "us-east-1")

    def run(*args, endpoint=True, code=0):
        where = ["--endpoint-url", moto.endpoint_url] if endpoint else []
        done = CliRunner().invoke(app, [*map(str, args), *where], catch_exceptions=False)
        assert done.exit_code == code, done.output + done.stderr
        return done.stdout

    return run


@pytest.fixture
def url(tmp_path):
    return f"s3://{BUCKET}/{tmp_path.name}"


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    (root / "docs").mkdir(parents=True)
    for name, data in FILES.items():
        (root / name).write_bytes(data)
    (root / "long").write_bytes(LONG)
    return root


def test_every_verb_does_on_an_object_what_it_does_on_a_file(des, url, tree, tmp_path):
    des("pack", tree, "-o", f"{url}/a.des")
    des("pack", tree, "-o", "a.des", endpoint=False)
    assert des("ls", f"{url}/a.des", "--long") == des("ls", "a.des", "--long", endpoint=False)
    there, here = (
        json.loads(des("inspect", place, "--json", endpoint=place != "a.des"))
        for place in (f"{url}/a.des", "a.des")
    )
    assert {**there, "archive": ""} == {**here, "archive": ""}
    des("verify", "--deep", f"{url}/a.des")
    des("unpack", f"{url}/a.des", "-C", "out")
    assert {name: (tmp_path / "out" / name).read_bytes() for name in [*FILES, "long"]} == {
        **FILES,
        "long": LONG,
    }
    des("export", f"{url}/a.des", "--to", "tar", "-o", "a.tar")
    with tarfile.open("a.tar") as tar:
        assert tar.extractfile("long").read() == LONG
    des("repair", f"{url}/a.des", "-o", f"{url}/repaired.des")
    assert des("ls", f"{url}/repaired.des") == des("ls", f"{url}/a.des")
    des("pack", tree, "-o", f"{url}/a.des", code=5)
    des("ls", f"{url}/absent.des", code=4)
    des("ls", f"s3://{BUCKET}", code=2)


@pytest.fixture
def downloaded(monkeypatch):
    """Bytes of all ranged reads."""
    sizes = []
    original = S3StorageBackend.get_range

    async def counting(self, key, start, stop, *, etag=None):
        sizes.append(stop - start)
        return await original(self, key, start, stop, etag=etag)

    monkeypatch.setattr(S3StorageBackend, "get_range", counting)
    return sizes


def plain(path, layout):
    """An archive without EXT: of some files the checksum is recorded, of a long one that of its blocks."""
    blocks = tuple(
        google_crc32c.value(LONG[start : start + (1 << 20)]) for start in range(0, len(LONG), 1 << 20)
    )
    with DesWriter(path, layout=layout, ext=False) as writer:
        for i, (name, data) in enumerate(FILES.items()):
            writer.add_file(name, data, crc32c=google_crc32c.value(data) if i % 2 else None)
        writer.add_file("long", LONG, system=SystemMetadata(block_size=1 << 20, block_crc32c=blocks))
        writer.add_file("empty", b"")
        writer.add_external("outside", size=5, external_key="k")
    return path.read_bytes()


def put_object(des, moto, url, path):
    import boto3  # noqa: PLC0415

    client = boto3.client(
        "s3",
        endpoint_url=moto.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=moto.access_key_id.get_secret_value(),
        aws_secret_access_key=moto.secret_access_key.get_secret_value(),
    )
    key = url.split("/", 3)[3]
    client.put_object(Bucket=BUCKET, Key=f"{key}/old.des", Body=path.read_bytes())
    return lambda name: client.get_object(Bucket=BUCKET, Key=f"{key}/{name}")["Body"].read()


@pytest.mark.parametrize("layout", Layout)
def test_upgrade_lets_the_store_copy_data(layout, des, moto, url, tmp_path, downloaded):
    path = tmp_path / "old.des"
    old = plain(path, layout)
    get = put_object(des, moto, url, path)
    report = json.loads(des("upgrade", f"{url}/old.des", "-o", f"{url}/new.des", "--json"))
    assert report["files"] == len(FILES) + 3
    assert report["unproven"] == (100 if layout is Layout.V1 else 0)
    # Up to 5 MiB pass through at the end, which is too short a part.
    assert sum(downloaded) < len(LONG) - (5 << 20)
    new = get("new.des")
    assert new.startswith(old[:-72])
    assert new.endswith(old[-72:])
    (tmp_path / "new.des").write_bytes(new)
    with DesReader(tmp_path / "new.des") as reader:
        assert reader.ext is not None
        assert {name: reader.get_file(name) for name in FILES} == FILES
        assert reader.get_file("long") == LONG
        assert reader.get_range("long", 5 << 20, 100) == LONG[5 << 20 : (5 << 20) + 100]
        assert reader.get_file("empty") == b""
        assert reader.get_meta("outside").external_key == "k"
        assert reader.list_files(limit=3) == sorted(FILES)[:3]
    des("verify", "--deep", "new.des", endpoint=False)
    des("upgrade", f"{url}/new.des", "-o", f"{url}/again.des", code=2)
    des("upgrade", f"{url}/old.des", "-o", f"{url}/new.des", code=5)


async def test_files_without_proof_are_read_like_others(des, moto, url, tmp_path):
    path = tmp_path / "old.des"
    plain(path, Layout.V1)
    get = put_object(des, moto, url, path)
    des("upgrade", f"{url}/old.des", "-o", f"{url}/new.des")
    store = MemoryObjectStore()
    await put(store, "c.des", get("new.des"))
    await put(store, "k", b"12345")
    reader = S3DesReader(store, "c.des")
    expected = {**FILES, "long": LONG, "empty": b"", "outside": b"12345"}
    assert {name: await reader.get_file(name) for name in expected} == expected
    assert await reader.get_files_batch(expected) == expected
    assert {file.name: data async for file, data in reader.read_all()} == expected
    assert await reader.get_range("long", 7, 9) == LONG[7:16]
    await reader.check_pages()


def test_what_was_proven_is_still_and_what_was_not_is_marked(des, moto, url, tmp_path):
    path = tmp_path / "old.des"
    plain(path, Layout.V1)
    get = put_object(des, moto, url, path)
    des("upgrade", f"{url}/old.des", "-o", f"{url}/new.des")
    damaged = bytearray(get("new.des"))
    with DesReader(path) as reader:
        places = {name: reader.find(name).data_offset for name in ("docs/000.json", "docs/001.json", "long")}
    for place in places.values():
        damaged[place] ^= 1
    (tmp_path / "damaged.des").write_bytes(damaged)
    with DesReader(tmp_path / "damaged.des") as reader:
        assert reader._container.locate("docs/000.json").record.slot == SLOT_UNPROVEN
        assert reader.get_file("docs/000.json") != FILES["docs/000.json"]  # as before: nobody could know
        for name in ("docs/001.json", "long"):
            with pytest.raises(Exception, match="CRC32C"):
                reader.get_file(name)


@pytest.mark.parametrize("how", ["--read-all", "the store cannot copy"])
def test_upgrade_reads_everything_where_it_is_told_to_or_has_to(how, des, moto, url, tmp_path, monkeypatch):
    path = tmp_path / "old.des"
    old = plain(path, Layout.V1)
    get = put_object(des, moto, url, path)
    options = [how] if how.startswith("--") else []
    if not options:

        async def refuse(*_args, **_options):
            raise ObjectStoreRefusedError("UploadPartCopy is not implemented")

        monkeypatch.setattr(S3Upload, "copy_from", refuse)
    report = json.loads(des("upgrade", f"{url}/old.des", "-o", f"{url}/new.des", "--json", *options))
    assert report["unproven"] == 0
    new = get("new.des")
    assert new.startswith(old[:-72])
    (tmp_path / "new.des").write_bytes(new)
    with DesReader(tmp_path / "new.des") as reader:
        assert {name: reader.get_file(name) for name in FILES} == FILES
    des("verify", "--deep", "new.des", endpoint=False)
