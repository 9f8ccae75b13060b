"""Both readers give the bytes of compressed files, whole, in ranges and in batches, for few requests."""

import io
import json
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from des.core import DesReader, DesWriter, S3DesReader
from des.core.announced import SourceMismatchError
from des.core.file_view import RangeOutsideFileError
from des.core.local_file import LocalFile
from des.format.compressor import Compressor, Samples
from des.format.ext import open_end
from des.format.ext_trailer import Feature
from des.format.footer import FOOTER_SIZE, Footer
from des.format.header import HEADER_SIZE
from des.format.reads import run
from des.format.system_metadata import SystemMetadata
from des.format.walk import walk_frames
from des.storage.memory import MemoryObjectStore
from des.testing.object_store_suite import put

JSON = SystemMetadata(content_type="application/json")


def document(number):
    chance = random.Random(number)
    return json.dumps(
        {
            "id": number,
            "customer": f"customer-{chance.randrange(10**6)}",
            "tags": ["alpha", "beta"],
            "note": "as before",
        }
    ).encode()


FILES = {f"doc-{number}": document(number) for number in range(1200)}
ODD = {
    "empty": b"",
    "noise": random.Random(1).randbytes(3000),
    "long": b"a line of a long log\n" * 100_000,
    "longer": random.Random(2).randbytes(64) * 80_000,
}


def sample(**options):
    places = list(FILES.values())
    samples = Samples.choose(("application/json", len(data)) for data in places)
    compressor = Compressor.train(samples, {place: places[place] for place in samples.places})
    target = io.BytesIO()
    with DesWriter(target, compressor=compressor, **options) as writer:
        for name, data in FILES.items():
            writer.add_file(name, data, metadata={"of": name}, system=JSON)
        for name, data in ODD.items():
            writer.add_file(name, data)
    return target.getvalue()


@pytest.fixture(scope="module")
def container():
    return sample()


@pytest.fixture
def path(container, tmp_path):
    path = tmp_path / "c.des"
    path.write_bytes(container)
    return path


@pytest.fixture
async def remote(container):
    store = MemoryObjectStore()
    await put(store, "c.des", container)
    reader = S3DesReader(store, "c.des")
    await reader.open()
    return reader


def test_a_file_has_its_own_size_and_checksum_and_a_smaller_place(path):
    with DesReader(path) as reader:
        file = reader.stat("doc-7")
        assert (file.size, file.metadata.user) == (len(FILES["doc-7"]), {"of": "doc-7"})
        assert file.entry.is_compressed
        assert file.entry.data_length < file.size / 2
        assert {name for name in ODD if reader.stat(name).entry.is_compressed} == {"long"}


def test_the_local_reader_gives_every_file(path):
    with DesReader(path) as reader:
        for name, data in {**FILES, **ODD}.items():
            assert reader.get_file(name) == data
            assert b"".join(reader.read_pieces(reader.stat(name).entry)) == data
            assert reader.stat(name).size == len(data)


@pytest.mark.parametrize(("offset", "limit"), [(0, None), (0, 0), (5, 10), (30, None), (0, 10**9)])
@pytest.mark.parametrize("name", ["doc-3", "long", "noise"])
def test_ranges_count_bytes_of_the_file_not_of_its_place(path, name, offset, limit):
    data = {**FILES, **ODD}[name]
    expected = data[offset:] if limit is None else data[offset : offset + limit]
    with DesReader(path) as reader:
        assert reader.get_range(name, offset, limit) == expected
        assert reader.get_range(name, len(data)) == b""
        with pytest.raises(RangeOutsideFileError):
            reader.get_range(name, len(data) + 1)


def test_threads_share_one_reader(path):
    with DesReader(path) as reader, ThreadPoolExecutor(8) as pool:
        names = list(FILES) * 5
        assert list(pool.map(reader.get_file, names)) == [FILES[name] for name in names]


async def test_one_request_a_file_and_one_for_its_dictionary(remote):
    before = remote.cost.requests
    assert await remote.get_file("doc-1") == FILES["doc-1"]
    assert remote.cost.requests - before == 2
    assert await remote.get_file("doc-2") == FILES["doc-2"]
    assert remote.cost.requests - before == 3


async def test_a_batch_reads_the_dictionary_once(remote):
    before = remote.cost.requests
    wanted = list(FILES)[100:300]
    assert await remote.get_files_batch(wanted) == {name: FILES[name] for name in wanted}
    assert remote.cost.requests - before == 2


async def test_ranges_and_streams_of_an_object(remote):
    for name, data in {"doc-9": FILES["doc-9"], **ODD}.items():
        assert await remote.get_range(name, len(data) // 2) == data[len(data) // 2 :]
        entry = await remote.find(name)
        assert b"".join([piece async for piece in remote.stream_entry(entry)]) == data
        with pytest.raises(RangeOutsideFileError):
            await remote.get_range(name, len(data) + 1)
    assert (await remote.stat("doc-9")).size == len(FILES["doc-9"])


def test_the_same_files_give_the_same_bytes(container):
    assert sample() == container


def test_ext_says_that_files_are_compressed(container, path):
    with LocalFile(path) as file:
        assert Feature.COMPRESSED in Feature(file.drive(open_end(file.size)).ext.trailer.features)
    target = io.BytesIO()
    with DesWriter(target, compressor=Compressor()) as writer:
        writer.add_file("noise", ODD["noise"])
    data = target.getvalue()
    opened = run(open_end(len(data)), lambda wanted: data[wanted.start : wanted.stop])
    assert Feature.COMPRESSED not in Feature(opened.ext.trailer.features)


def test_dictionaries_lie_between_header_and_data(container):
    footer = Footer.decode(container[-FOOTER_SIZE:])
    assert footer.data_start > HEADER_SIZE
    assert container[HEADER_SIZE : HEADER_SIZE + 4] == b"DXZ1"


def test_a_container_that_lost_its_tail_keeps_its_dictionaries(container):
    footer = Footer.decode(container[-FOOTER_SIZE:])
    whole = container[: footer.data_stop]
    walk = run(walk_frames(len(whole)), lambda wanted: whole[wanted.start : wanted.stop])
    assert [entry.name for entry in walk.entries] == [*FILES, *ODD]
    assert (walk.start, walk.stop) == (footer.data_start, footer.data_stop)


def test_layout_v1_has_no_room_for_compression():
    with pytest.raises(ValueError, match="no frame"):
        DesWriter(io.BytesIO(), layout="v1", compressor=Compressor())


@pytest.mark.parametrize("chunks", [[b"ab", b"cd"], [b"abcdef"]])
def test_a_stream_that_is_not_as_announced_is_refused(chunks):
    writer = DesWriter(io.BytesIO(), compressor=Compressor())
    with pytest.raises(SourceMismatchError):
        writer.add_file("a", iter(chunks), size=5)


def test_a_stream_is_compressed_like_bytes():
    made = []
    for data in (ODD["long"], [ODD["long"][:1000], ODD["long"][1000:]]):
        target = io.BytesIO()
        with DesWriter(target, compressor=Compressor()) as writer:
            writer.add_file("long", data, size=len(ODD["long"]))
        made.append(target.getvalue())
    assert made[0] == made[1]
    assert len(made[0]) < len(ODD["long"]) / 10
