"""Reading a container by ranges: what it costs, and that each read is of one object."""

import asyncio
import io
import os
from contextlib import aclosing

import google_crc32c
import pytest

from des.core import ContainerIndex, DesReader, DesWriter, S3DesReader, long_files
from des.core.file_view import FileNotInContainerError, RangeOutsideFileError, digest_of
from des.files import BLOCK_SIZE
from des.format.checksums import Checksums
from des.format.errors import CorruptContainerError
from des.format.ext import ExtGeometry
from des.format.extent import PIECE_SIZE_MAX
from des.format.layout import Layout
from des.format.system_metadata import SystemMetadata
from des.storage.memory import MemoryObjectStore
from des.storage.object_store import NoSuchObjectError, ObjectChangedError
from des.testing.object_store_suite import put

KEY = "2026-11-23/0a/c.des"
MIB = 1 << 20
LONG = os.urandom(9 * MIB + 17)


class CountingStore(MemoryObjectStore):
    """Notes every request."""

    def __init__(self):
        super().__init__()
        self.requests = []

    async def get_range(self, key, start, stop, *, etag=None):
        self.requests.append(("get", key, start, stop, etag))
        return await super().get_range(key, start, stop, etag=etag)

    async def head(self, key):
        self.requests.append(("head", key))
        return await super().head(key)

    async def get_tail(self, key, size, *, etag=None):
        info, tail = await super().get_tail(key, size, etag=etag)
        self.requests.append(("tail", key, info.size - len(tail), info.size, etag))
        return info, tail

    def taken(self):
        requests, self.requests = self.requests, []
        return requests


def name(i):
    return f"PIC_20261123_({i:012X}_00)"


async def store_with(fill, layout=Layout.FRAMED, *, ext=True):
    """A counting store with one container; its writer, its footer and what the store said of it."""
    target = io.BytesIO()
    writer = DesWriter(target, layout=layout, ext=ext)
    fill(writer)
    footer = writer.finish()
    store = CountingStore()
    made = await put(store, KEY, target.getvalue())
    return store, writer, footer, made


def fill_small(writer):
    for i in range(100):
        writer.add_file(name(i), bytes([i]) * (i * 10))


def fill_many(writer):
    for i in range(5000):
        writer.add_file(name(i), bytes([i % 256]) * 100)


def fill_long(writer):
    crc32c = google_crc32c.value(LONG)
    writer.add_file("short", b"short")
    writer.add_file("blocks", LONG)
    writer.add_file("whole", iter([LONG]), size=len(LONG), crc32c=crc32c)


@pytest.mark.parametrize("ext", [True, False])
async def test_a_small_container_opens_with_one_read(ext):
    """Its pages, or INDEX, lie in the tail."""
    store, *_ = await store_with(fill_small, ext=ext)
    reader = S3DesReader(store, KEY)
    assert await reader.get_file(name(7)) == bytes([7]) * 70
    assert [request[0] for request in store.taken()] == ["tail", "get"]
    assert await reader.get_file(name(8)) == bytes([8]) * 80
    assert len(store.taken()) == 1
    assert reader.cost.requests == 3


async def test_a_large_index_costs_one_read_more():
    store, *_ = await store_with(fill_many, ext=False)
    await S3DesReader(store, KEY).open()
    assert [request[0] for request in store.taken()] == ["tail", "get"]


@pytest.mark.parametrize("ext", [True, False])
async def test_what_is_known_is_not_asked(ext):
    store, writer, footer, made = await store_with(fill_many, ext=ext)
    known = {"etag": made.etag, "size": made.size}
    index_read = 0 if ext else 1
    for given, requests in [
        ({}, 1 + index_read),
        ({"etag": made.etag}, 1 + index_read),
        (known, 1 + index_read),
        ({**known, "footer": footer}, 1 + index_read),
        ({**known, "footer": footer, "index": writer.index}, 0),
        ({"etag": made.etag, "index": writer.index}, 0),
        ({"index": writer.index}, 1),
        ({**known, "footer": footer, "ext": ExtGeometry.of(writer.ext, footer)}, 0),
    ]:
        if not ext and "ext" in given:
            continue
        reader = S3DesReader(store, KEY, **given)
        await reader.open()
        await reader.open()
        assert len(store.taken()) == requests, given
        assert await reader.get_file(name(300)) == bytes([300 % 256]) * 100
        assert len(store.taken()) == (2 if ext and "index" not in given else 1)


async def test_many_tasks_open_once():
    store, *_ = await store_with(fill_many)
    reader = S3DesReader(store, KEY)
    await asyncio.gather(*(reader.get_file(name(i)) for i in range(50)))
    pages = {reader._container.pages.pages.page_of(digest_of(name(i))) for i in range(50)}
    requests = store.taken()
    assert [request[0] for request in requests].count("tail") == 1
    assert 51 < len(requests) <= 1 + len(pages) + 50


async def test_every_read_carries_the_etag():
    store, _, _, made = await store_with(fill_long)
    reader = S3DesReader(store, KEY)
    await reader.get_file("blocks")
    await reader.get_range("whole", 5, 10)
    await reader.get_files_batch(["short", "blocks"])
    assert {request[4] for request in store.taken() if request[0] == "get"} == {made.etag}


async def test_another_object_under_the_key_is_noticed():
    """D15."""
    store, *_ = await store_with(fill_small)
    reader = S3DesReader(store, KEY)
    await reader.open()
    old = store._objects[KEY].data
    await store.delete(KEY)
    with pytest.raises(NoSuchObjectError):
        await reader.get_file(name(7))
    await put(store, KEY, old)
    with pytest.raises(ObjectChangedError):
        await reader.get_file(name(7))
    with pytest.raises(ObjectChangedError):
        await S3DesReader(store, KEY, etag="other").open()


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("ext", [True, False])
async def test_a_file_of_no_bytes_costs_its_metadata_at_most(layout, ext):
    store, *_ = await store_with(fill_small, layout, ext=ext)
    reader = S3DesReader(store, KEY)
    await reader.open()
    store.taken()
    assert await reader.get_file(name(0)) == b""
    if ext:
        assert store.taken() == []
    else:
        [(_, _, start, stop, _)] = store.taken()
        assert 0 < stop - start < 200


async def test_a_range_of_a_long_file_reads_its_blocks_only():
    store, *_ = await store_with(fill_long)
    reader = S3DesReader(store, KEY)
    await reader.open()
    store.taken()
    start = 3 * BLOCK_SIZE - 5
    assert await reader.get_range("blocks", start, 10) == LONG[start : start + 10]
    header, tail, blocks = [stop - start for _, _, start, stop, _ in store.taken()]
    assert header == 32
    assert tail < 1000
    assert blocks == 2 * BLOCK_SIZE
    assert await reader.get_range("blocks", 7 * MIB) == LONG[7 * MIB :]
    assert sum(stop - start for _, _, start, stop, _ in store.taken()) == 2 * MIB + 17


async def test_a_range_of_a_long_file_without_blocks_is_proven_too():
    """One pass over the file learns its blocks; every later range is proven by them alone."""
    store, *_ = await store_with(fill_long)
    reader = S3DesReader(store, KEY)
    await reader.open()
    store.taken()
    assert await reader.get_range("whole", 5 * MIB, 10) == LONG[5 * MIB : 5 * MIB + 10]
    assert len(store.taken()) == 2 + 3 + 1
    assert await reader.get_range("whole", 17, 10) == LONG[17:27]
    assert len(store.taken()) == 1


@pytest.mark.parametrize("name", ["short", "blocks", "whole"])
async def test_a_stream_comes_in_bounded_pieces(name):
    store, *_ = await store_with(fill_long)
    reader = S3DesReader(store, KEY)
    entry = await reader.find(name)
    assert entry is not None
    content = b"short" if name == "short" else LONG
    for start, stop in [
        (0, len(content)),
        (1, len(content) - 1),
        (3, 4),
        (2, 2),
        (len(content), len(content)),
    ]:
        parts = [part async for part in reader.stream_entry(entry, start, stop)]
        assert b"".join(parts) == content[start:stop]
        assert all(0 < len(part) <= PIECE_SIZE_MAX for part in parts)
    assert b"".join([part async for part in reader.stream_entry(entry)]) == content


async def test_a_stream_left_early_stops_reading():
    store, *_ = await store_with(fill_long)
    reader = S3DesReader(store, KEY)
    entry = await reader.find("blocks")
    async with aclosing(reader.stream_entry(entry)) as stream:
        assert await anext(stream) == LONG[: 4 * MIB]
    store.taken()
    await asyncio.sleep(0)
    assert store.taken() == []


async def test_block_checksums_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr(long_files, "BLOCKS_KEPT", 15)
    store, *_ = await store_with(fill_long)
    reader = S3DesReader(store, KEY)
    for _ in range(2):
        for one in ("blocks", "whole"):
            assert await reader.get_range(one, MIB, 10) == LONG[MIB : MIB + 10]
    assert len(reader._long._sources) == 2
    monkeypatch.setattr(long_files, "BLOCKS_KEPT", 1)
    reader = S3DesReader(store, KEY)
    for one in ("blocks", "whole"):
        await reader.get_range(one, MIB, 10)
    assert list(reader._long._sources) == ["whole"]


@pytest.mark.parametrize("name", ["blocks", "whole"])
async def test_no_damaged_byte_of_a_long_file_is_handed_out(name):
    store, writer, *_ = await store_with(fill_long)
    entry = writer.index.find(name)
    assert entry is not None
    place = 5 * MIB + 3
    data = bytearray(store._objects[KEY].data)
    data[entry.data_offset + place] ^= 1
    await store.delete(KEY)
    await put(store, KEY, bytes(data))
    reader = S3DesReader(store, KEY)
    with pytest.raises(CorruptContainerError):
        await reader.get_file(name)
    handed_out = []

    async def stream():
        handed_out.extend([part async for part in reader.stream_entry(entry, 0, 4 * MIB)])
        await anext(reader.stream_entry(entry, 4 * MIB))

    with pytest.raises(CorruptContainerError):
        await stream()
    assert LONG.startswith(b"".join(handed_out))
    with pytest.raises(CorruptContainerError):
        await reader.get_range(name, place - 1, 3)
    if name == "blocks":
        assert await reader.get_range(name, 0, 10) == LONG[:10]


async def test_a_batch_joins_neighbours():
    store, *_ = await store_with(fill_many)
    reader = S3DesReader(store, KEY)
    await reader.open()
    store.taken()
    names = [name(i) for i in range(0, 1000, 2)]
    files = await reader.get_files_batch(reversed(names))
    assert list(files) == names[::-1]
    assert all(files[name(i)] == bytes([i % 256]) * 100 for i in range(0, 1000, 2))
    pages, _data = store.taken()
    assert pages[3] - pages[2] == reader._container.pages.pages.length
    await reader.get_files_batch(names, gap=0)
    assert len(store.taken()) == 500
    await reader.get_files_batch(names, request_size=20_000)
    requests = store.taken()
    assert 8 < len(requests) < 20
    assert all(stop - start <= 20_000 for _, _, start, stop, _ in requests)
    assert await reader.get_files_batch([]) == {}


async def test_a_batch_reads_long_files_alone():
    store, *_ = await store_with(fill_long)
    reader = S3DesReader(store, KEY)
    assert await reader.get_files_batch(["whole", "short", "blocks", "short"]) == {
        "whole": LONG,
        "short": b"short",
        "blocks": LONG,
    }


async def test_a_batch_with_an_absent_name_reads_nothing():
    store, *_ = await store_with(fill_small)
    reader = S3DesReader(store, KEY)
    await reader.open()
    store.taken()
    with pytest.raises(FileNotInContainerError):
        await reader.get_files_batch([name(1), "absent"])
    assert store.taken() == []


async def test_a_batch_stops_at_the_first_failing_request():
    store, *_ = await store_with(fill_small)
    reader = S3DesReader(store, KEY)
    await reader.open()
    await store.delete(KEY)
    with pytest.raises(NoSuchObjectError):
        await reader.get_files_batch([name(i) for i in range(100)], gap=0, concurrency=2)


async def test_an_external_file_is_read_from_its_own_object():
    checksums = Checksums(PIECE_SIZE_MAX)
    checksums.update(LONG)
    described = {
        "blocks": SystemMetadata(
            crc32c=checksums.crc32c, block_size=PIECE_SIZE_MAX, block_crc32c=checksums.block_crc32c
        ),
        "whole": SystemMetadata(crc32c=checksums.crc32c),
        "unproven": None,
    }

    def fill(writer):
        for kind, system in described.items():
            writer.add_external(kind, size=len(LONG), external_key=f"_bigFiles/{kind}", system=system)

    for layout in Layout:
        store, *_ = await store_with(fill, layout)
        reader = S3DesReader(store, KEY)
        await reader.open()
        for kind in described:
            await put(store, f"_bigFiles/{kind}", LONG)
            assert await reader.get_file(kind) == LONG
            assert await reader.get_range(kind, 6 * MIB, 100) == LONG[6 * MIB : 6 * MIB + 100]
            assert (await reader.stat(kind)).metadata.external_key == f"_bigFiles/{kind}"
        store.taken()
        assert await reader.get_range("blocks", 8 * MIB, 10) == LONG[8 * MIB : 8 * MIB + 10]
        assert [request[:2] for request in store.taken()] == [("get", "_bigFiles/blocks")]


async def test_an_external_file_without_checksum_is_tied_to_its_size_and_etag():
    store, *_ = await store_with(lambda writer: writer.add_external("a", size=5, external_key="k"), Layout.V1)
    made = await put(store, "k", b"12345")
    reader = S3DesReader(store, KEY)
    assert await reader.get_file("a") == b"12345"
    assert store.taken()[-1] == ("get", "k", 0, 5, made.etag)
    await store.delete("k")
    await put(store, "k", b"other")
    with pytest.raises(ObjectChangedError):
        await reader.get_file("a")
    await store.delete("k")
    await put(store, "k", b"longer")
    with pytest.raises(CorruptContainerError, match="has 6 bytes, expected 5"):
        await S3DesReader(store, KEY).get_file("a")


async def test_ranges_end_where_the_file_does(tmp_path):
    target = tmp_path / "c.des"
    with DesWriter(target) as writer:
        writer.add_file("a", b"0123456789")
    store = MemoryObjectStore()
    await put(store, KEY, target.read_bytes())
    remote = S3DesReader(store, KEY)
    with DesReader(target) as local:
        for offset, limit, wanted in [
            (0, None, 10),
            (3, 4, 4),
            (8, 100, 2),
            (10, 1, 0),
            (10, None, 0),
            (2, 0, 0),
        ]:
            expected = b"0123456789"[offset : offset + wanted]
            assert local.get_range("a", offset, limit) == expected
            assert await remote.get_range("a", offset, limit) == expected
        for offset, limit in [(11, None), (-1, 1), (0, -1)]:
            with pytest.raises(RangeOutsideFileError):
                local.get_range("a", offset, limit)
            with pytest.raises(RangeOutsideFileError):
                await remote.get_range("a", offset, limit)
        with pytest.raises(FileNotInContainerError):
            local.get_file("b")
        with pytest.raises(FileNotInContainerError):
            await remote.get_file("b")
        assert "a" in local
        assert "b" not in local
        assert "\ud800" not in local
    entry = await remote.find("a")
    assert entry is not None
    with pytest.raises(RangeOutsideFileError):
        await anext(remote.stream_entry(entry, 3, 11))


async def test_listing_is_paged(tmp_path):
    with DesWriter(tmp_path / "c.des") as writer:
        for i in (3, 1, 2, 0):
            writer.add_file(f"a{i}", b"")
        writer.add_file("b", b"")
    with DesReader(tmp_path / "c.des") as reader:
        assert reader.list_files("a", limit=2) == ["a0", "a1"]
        assert reader.list_files("a", start_after="a1", limit=2) == ["a2", "a3"]
        assert reader.list_files(start_after="a3") == ["b"]


def test_an_index_keeps_about_twelve_bytes_a_file_and_parses_fast():
    for stretch in (0, 1):
        writer = DesWriter(io.BytesIO())
        for i in range(20_000):
            writer.add_file(name(i) + "x" * (i % 2 * stretch), b"")
        footer = writer.finish()
        raw = writer.index._raw
        index = ContainerIndex.parse(raw, footer)
        assert index.memory_bytes - len(raw) == 12 * 20_000
        assert all(entry == index.find(entry.name) for entry in index)
        assert index.find(name(20_000)) is None


def test_names_with_one_hash_are_told_apart(monkeypatch):
    """Python's hash may collide; the names decide."""
    monkeypatch.setattr("des.core.container_index.hash", lambda _name: 7, raising=False)
    writer = DesWriter(io.BytesIO())
    for i in range(50):
        writer.add_file(str(i), b"")
    footer = writer.finish()
    index = ContainerIndex.parse(writer.index._raw, footer)
    assert all(index.find(str(i)).name == str(i) for i in range(50))
    assert index.find("absent") is None
