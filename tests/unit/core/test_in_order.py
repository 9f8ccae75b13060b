"""Walking a container front to back: every file once, in order, in few requests."""

import io
import os
from contextlib import aclosing

import pytest

from des.core import DesReader, DesWriter, S3DesReader, SyncS3DesReader
from des.core.file_view import FileNotInContainerError
from des.files import BLOCK_SIZE
from des.format.compressor import Compressor, Samples
from des.format.errors import CorruptContainerError
from des.format.layout import Layout
from des.format.system_metadata import SystemMetadata
from des.storage.memory import MemoryObjectStore
from des.testing.object_store_suite import put

KEY = "c.des"
LONG = os.urandom(5 << 20)
COUNT = 5000


def data(i):
    return (b"%d " % i) * (i % 90)


def fill(writer, count=COUNT):
    for i in range(count):
        writer.add_file(f"f{i:05d}", data(i), metadata={"n": i})
        if i == 70:
            writer.add_file("long", LONG)
            writer.add_external("outside", size=len(LONG), external_key="big", system=SystemMetadata())


async def stored(path, **options):
    with DesWriter(path, **options) as writer:
        fill(writer)
    store = MemoryObjectStore()
    await put(store, KEY, path.read_bytes())
    await put(store, "big", LONG)
    return store


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("ext", [True, False])
async def test_every_file_comes_once_in_the_order_of_writing(layout, ext, tmp_path):
    path = tmp_path / "c.des"
    store = await stored(path, layout=layout, ext=ext)
    with DesReader(path, external=lambda _key: LONG) as local:
        expected = list(local)
        assert [file.name for file in expected[:3]] == ["f00000", "f00001", "f00002"]
        assert len(expected) == COUNT + 2
        contents = list(local.read_all())
    assert [file for file, _ in contents] == expected
    reader = S3DesReader(store, KEY)
    assert [file async for file in reader] == expected
    opening = S3DesReader(store, KEY)
    await opening.open()
    assert reader.cost.requests - opening.cost.requests <= (5 if layout is Layout.FRAMED or not ext else 7)
    found = [file async for file in S3DesReader(store, KEY).read_all()]
    assert [file for file, _ in found] == expected
    assert [one for _, one in found] == [one for _, one in contents]
    assert {file.name: one for file, one in found} == {
        **{f"f{i:05d}": data(i) for i in range(COUNT)},
        "long": LONG,
        "outside": LONG,
    }


async def test_a_walk_costs_few_requests_and_little_more_than_the_bytes(tmp_path):
    path = tmp_path / "c.des"
    with DesWriter(path) as writer:
        for i in range(COUNT):
            writer.add_file(f"f{i:05d}", data(i))
    store = MemoryObjectStore()
    await put(store, KEY, path.read_bytes())
    reader = S3DesReader(store, KEY)
    async for _ in reader.read_all():
        pass
    assert reader.cost.requests <= 8
    assert reader.cost.bytes <= path.stat().st_size


async def test_compressed_files_are_walked_too(tmp_path):
    path = tmp_path / "c.des"
    documents = [b'{"kind": "thing", "number": %d, "list": [1, 2, 3]}' % i * 3 for i in range(2000)]
    samples = Samples.choose(("", len(one)) for one in documents)
    compressor = Compressor.train(samples, {place: documents[place] for place in samples.places})
    with DesWriter(path, compressor=compressor) as writer:
        for i, one in enumerate(documents):
            writer.add_file(f"f{i}", one)
    store = MemoryObjectStore()
    await put(store, KEY, path.read_bytes())
    assert [one async for _, one in S3DesReader(store, KEY).read_all()] == documents


@pytest.mark.parametrize("layout", Layout)
async def test_files_before_a_damaged_one_come_and_then_the_error(layout):
    target = io.BytesIO()
    with DesWriter(target, layout=layout) as writer:
        for i in range(300):
            writer.add_file(f"f{i}", b"%d" % i * 50)
    container = bytearray(target.getvalue())
    entry = writer.index.find("f200")
    container[entry.data_offset + 3] ^= 1
    store = MemoryObjectStore()
    await put(store, KEY, bytes(container))
    came = []

    async def walk():
        came.extend([file.name async for file, _ in S3DesReader(store, KEY).read_all()])

    with pytest.raises(CorruptContainerError):
        await walk()
    with pytest.raises(CorruptContainerError):
        async for file, _ in S3DesReader(store, KEY).read_all():
            came.append(file.name)
    assert came == [f"f{i}" for i in range(200)]


async def test_a_walk_left_early_stops_reading(tmp_path):
    store = await stored(tmp_path / "c.des")
    reader = S3DesReader(store, KEY)
    async with aclosing(reader.read_all()) as files:
        async for _, one in files:
            assert one == data(0)
            break
    asked = reader.cost.requests
    assert await reader.get_file("f00001") == data(1)
    assert reader.cost.requests <= asked + 2


async def test_an_empty_container_has_nothing(tmp_path):
    for ext in (True, False):
        with DesWriter(tmp_path / f"{ext}.des", ext=ext):
            pass
        store = MemoryObjectStore()
        await put(store, KEY, (tmp_path / f"{ext}.des").read_bytes())
        assert [file async for file in S3DesReader(store, KEY)] == []
        assert [file async for file in S3DesReader(store, KEY).read_all()] == []


async def test_the_waiting_face_walks_too(tmp_path):
    path = tmp_path / "c.des"
    store = await stored(path)
    with DesReader(path) as local:
        expected = list(local)
    with SyncS3DesReader(store, KEY) as reader:
        assert list(reader) == expected
        assert [file for file, _ in reader.read_all()] == expected
        for file, one in reader.read_all():
            assert (file.name, one) == ("f00000", data(0))
            break
        assert reader.find("f00003").data_length == len(data(3))
        assert reader.find("absent") is None


@pytest.mark.parametrize("layout", Layout)
def test_a_local_batch_comes_in_the_order_asked(layout, tmp_path):
    with DesWriter(tmp_path / "c.des", layout=layout) as writer:
        for i in range(100):
            writer.add_file(f"f{i}", data(i))
        writer.add_file("long", bytes(BLOCK_SIZE + 1))
    with DesReader(tmp_path / "c.des") as reader:
        wanted = ["f9", "long", "f0", "f50", "f9"]
        files = reader.get_files_batch(wanted)
        assert list(files) == ["f9", "long", "f0", "f50"]
        assert files == {name: reader.get_file(name) for name in wanted}
        with pytest.raises(FileNotInContainerError):
            reader.get_files_batch(["f9", "absent"])
        assert len(reader.get_index()) == 101
