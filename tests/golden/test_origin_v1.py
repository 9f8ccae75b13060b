"""Containers of the origin read exactly, and the v1 layout writes the same bytes."""

import hashlib
import io
import json
from pathlib import Path

import pytest

from des.core import DesReader, DesWriter, S3DesReader
from des.core.file_view import ExternalFileOutOfReachError
from des.format.layout import Layout
from des.storage.memory import MemoryObjectStore
from des.testing.object_store_suite import put

FOLDER = Path(__file__).parent / "origin-v1"
OBJECTS = FOLDER / "objects"
CONTAINERS = ["empty", "basic", "external", "many"]
OURS = {"size", "is_external", "external_key"}


@pytest.fixture(params=CONTAINERS)
def golden(request):
    described = json.loads((FOLDER / f"{request.param}.json").read_text(encoding="utf-8"))
    return FOLDER / f"{request.param}.des", described


def external(key):
    return (OBJECTS / key).read_bytes()


def described_sha256(file):
    return file.get("sha256") or file["external_sha256"]


def place(entry):
    fields = ("name", "data_offset", "data_length", "meta_offset", "meta_length", "flags")
    return {field: getattr(entry, field) for field in fields}


def document(metadata):
    """The metadata as it stands in the container."""
    found = {**metadata.user, "size": metadata.size}
    if metadata.external_key is not None:
        found |= {"is_external": True, "external_key": metadata.external_key}
    return found


def check_file(file, entry, data, metadata):
    assert place(entry) == {key: file[key] for key in place(entry)}
    assert list(document(metadata).items()) == list(file["meta"].items())
    assert hashlib.sha256(data).hexdigest() == described_sha256(file)


def test_the_local_reader_gives_what_the_origin_wrote(golden):
    path, described = golden
    assert hashlib.sha256(path.read_bytes()).hexdigest() == described["sha256"]
    with DesReader(path, external=external) as reader:
        assert len(reader) == len(described["files"])
        for file, stored in zip(described["files"], reader, strict=True):
            check_file(file, stored.entry, reader.get_file(stored.name), stored.metadata)
            assert stored == reader.stat(file["name"])
            assert stored.crc32c is None
        assert reader.list_files() == sorted(file["name"] for file in described["files"])
        assert reader.footer.layout is Layout.V1


async def test_the_object_store_reader_gives_what_the_origin_wrote(golden):
    path, described = golden
    store = MemoryObjectStore()
    await put(store, "c.des", path.read_bytes())
    for file in OBJECTS.rglob("*.bin"):
        await put(store, str(file.relative_to(OBJECTS)), file.read_bytes())
    reader = S3DesReader(store, "c.des")
    entries = list(await reader.get_index())
    results = await reader.read_entries(entries)
    batch = await reader.get_files_batch([entry.name for entry in entries])
    for file, entry, result in zip(described["files"], entries, results, strict=True):
        check_file(file, entry, *result)
        check_file(file, entry, *await reader.read_entry(entry))
        assert batch[entry.name] == result[0]


def test_the_v1_layout_writes_the_same_bytes(golden):
    path, described = golden
    target = io.BytesIO()
    with (
        DesReader(path, external=external) as reader,
        DesWriter(target, layout=Layout.V1, digest=True, ext=False) as writer,
    ):
        for stored in reader:
            user = {key: value for key, value in stored.metadata.user.items() if key not in OURS}
            if stored.metadata.external_key is None:
                writer.add_file(stored.name, reader.get_file(stored.name), metadata=user)
            else:
                writer.add_external(
                    stored.name,
                    size=stored.size,
                    external_key=stored.metadata.external_key,
                    metadata=user,
                )
    assert path.read_bytes() == target.getvalue()
    assert described["sha256"] == writer.sha256


def test_streams_write_the_same_bytes():
    path = FOLDER / "many.des"
    target = io.BytesIO()
    with DesReader(path) as reader, DesWriter(target, layout="v1", ext=False) as writer:
        for stored in reader:
            data = reader.get_file(stored.name)
            chunks = (data[start : start + 100] for start in range(0, len(data), 100))
            writer.add_file(stored.name, chunks, size=stored.size, metadata=stored.metadata.user)
    assert path.read_bytes() == target.getvalue()


def test_an_external_file_is_never_read_from_the_container():
    """D12: its data_offset is 0, where the header stands."""
    with DesReader(FOLDER / "external.des") as reader:
        with pytest.raises(ExternalFileOutOfReachError) as caught:
            reader.get_file("f1.bin")
        assert caught.value.details["external_key"] == "2026-01-15/0a/_bigFiles/f1.bin"
        assert len(reader.get_file("f2.bin")) == 100
