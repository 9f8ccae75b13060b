"""What a file costs through EXT: the same number of requests at ten files and at a million."""

import hashlib
import io
import random

import pytest

from des.core import DesReader, DesWriter, S3DesReader
from des.core.container_object import ContainerObject
from des.core.file_view import FileNotInContainerError
from des.format.ext import ExtGeometry
from des.format.layout import Layout
from des.storage.memory import MemoryObjectStore
from des.testing.object_store_suite import put

KEY = "c.des"


class CountingStore(MemoryObjectStore):
    def __init__(self):
        super().__init__()
        self.sizes = []

    async def get_range(self, key, start, stop, *, etag=None):
        assert etag is not None
        data = await super().get_range(key, start, stop, etag=etag)
        self.sizes.append(len(data))
        return data

    async def get_tail(self, key, size, *, etag=None):
        info, data = await super().get_tail(key, size, etag=etag)
        self.sizes.append(len(data))
        return info, data

    async def head(self, key):
        raise AssertionError("HEAD is never needed")

    def taken(self):
        sizes, self.sizes = self.sizes, []
        return sizes


def name(i):
    return f"PIC_20261123_({i * 7919:012X}_00)"


def data(i):
    return b"%d" % i * (i % 7)


async def store_of(count, layout):
    target = io.BytesIO()
    with DesWriter(target, layout=layout) as writer:
        for i in range(count):
            writer.add_file(name(i), data(i))
    store = CountingStore()
    made = await put(store, KEY, target.getvalue())
    return store, writer, made


@pytest.fixture(autouse=True)
def no_whole_index(monkeypatch):
    """Readers here must never load INDEX."""
    monkeypatch.setattr(ContainerObject, "_load_index", lambda *_: pytest.fail("INDEX was loaded"))


async def check_that_the_filter_comes_when_it_pays(store, reader, count):
    """Nobody asked for it: pages read in vain cost as much by then."""
    sought = spent = 0
    while reader._container.memory.filter is None:
        assert not await reader.contains(f"nowhere{sought}")
        sizes = store.taken()
        spent += len(sizes) * 65536 + sum(sizes)
        sought += 1
        assert sought < 100
    assert spent <= 6 * 65536 + 3 * count
    await reader.contains("nowhere0")


async def check_costs(count, layout):
    store, writer, made = await store_of(count, layout)
    in_tail = count < 1600
    chosen = random.Random(1).sample([i for i in range(count) if i % 7], min(count, 9) - 2)
    for i in chosen:
        bare = S3DesReader(store, KEY)
        assert await bare.get_file(name(i)) == data(i)
        sizes = store.taken()
        assert len(sizes) == (2 if in_tail else 3)
        assert sizes[0] <= 65536
        assert sum(sizes[1:-1]) <= 8192
        assert await bare.get_file(name(i)) == data(i)
        assert len(store.taken()) == 1
    footer = bare.footer
    known = {
        "etag": made.etag,
        "size": made.size,
        "footer": footer,
        "ext": ExtGeometry.of(writer.ext, footer),
    }
    for i in chosen:
        reader = S3DesReader(store, KEY, **known)
        assert await reader.get_file(name(i)) == data(i)
        assert len(store.taken()) == 2
        assert await reader.get_file(name(i)) == data(i)
        assert len(store.taken()) == 1
        assert await reader.get_range(name(i), 0, 2) == data(i)[:2]
        assert len(store.taken()) == 1
    reader = S3DesReader(store, KEY, **known)
    assert await reader.get_file(name(0)) == b""
    assert len(store.taken()) == 1
    assert await reader.get_file(name(0)) == b""
    assert store.taken() == []
    with pytest.raises(FileNotInContainerError):
        await reader.get_file("absent")
    assert len(store.taken()) <= 1
    store.taken()
    assert (await reader.stat(name(chosen[0]))).size == len(data(chosen[0]))
    # Page and frame. v1: page, section table (with INDEXDIR up to about 200,000 files), INDEX, META.
    assert len(store.taken()) <= (2 if layout is Layout.FRAMED else 5)
    assert (await reader.stat(name(chosen[0]))).size == len(data(chosen[0]))
    assert len(store.taken()) == (1 if layout is Layout.FRAMED else 0)
    if not in_tail:
        await check_that_the_filter_comes_when_it_pays(store, S3DesReader(store, KEY, **known), count)
    await reader.load_filter()
    store.taken()
    passed = 0
    for i in range(2000):
        assert not await reader.contains(f"absent{i}")
        passed += bool(store.taken())
    assert passed < 30
    for given, most in [({}, 3), (known, 3)]:
        cold = S3DesReader(store, KEY, **given)
        assert await cold.list_files(limit=1000) == sorted(name(i) for i in range(count))[:1000]
        sizes = store.taken()
        assert len(sizes) <= (1 if in_tail else most)
        assert sum(sizes) < 65536 + 16384 + 8 * count // 512 * 4
    first = await bare.list_files(limit=1000)
    assert first == sorted(name(i) for i in range(count))[:1000]
    assert len(store.taken()) <= 2
    second = await bare.list_files(start_after=first[-1], limit=1000)
    assert second == sorted(name(i) for i in range(count))[1000:2000]
    assert len(store.taken()) <= 1
    prefix = name(count // 2)[:-6]
    assert await bare.list_files(prefix) == sorted(
        name(i) for i in range(count) if name(i).startswith(prefix)
    )


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("count", [10, 5000])
async def test_costs_do_not_grow(count, layout):
    await check_costs(count, layout)


@pytest.mark.slow
@pytest.mark.parametrize("layout", Layout)
async def test_costs_do_not_grow_to_a_million_files(layout):
    await check_costs(1_000_000, layout)


@pytest.mark.parametrize("layout", Layout)
def test_names_that_share_a_key_are_told_apart_through_index(layout, tmp_path, monkeypatch):
    """96 bits may be made to collide; then INDEX has the names."""
    same = bytes(range(32))

    def colliding(encoded):
        return same if encoded.startswith(b"same") else hashlib.sha256(encoded).digest()

    for module in ("des.core.waiting_files", "des.core.file_view"):
        monkeypatch.setattr(f"{module}.name_digest", colliding)
    monkeypatch.setattr("des.format.frame.frame_key", lambda name: colliding(name)[8:14])
    path = tmp_path / "c.des"
    with DesWriter(path, layout=layout) as writer:
        for i in range(200):
            writer.add_file(f"same{i}" if i % 50 == 7 else f"f{i}", b"%d" % i)
    with DesReader(path) as reader:
        for i in (7, 57, 107, 157):
            assert reader.get_file(f"same{i}") == b"%d" % i
            assert reader.get_meta(f"same{i}").size == len(b"%d" % i)
            assert reader.get_file(f"f{i + 1}") == b"%d" % (i + 1)
        assert "same8" not in reader


@pytest.mark.parametrize("layout", Layout)
def test_names_made_to_crowd_one_page_cost_the_pages_alone(layout, tmp_path, monkeypatch):
    """No number of pages parts them: the container has none, and is read through INDEX."""

    def crowded(encoded):
        digest = hashlib.sha256(encoded).digest()
        return digest[:8] + bytes(4) + digest[12:]

    for module in ("des.core.waiting_files", "des.core.file_view"):
        monkeypatch.setattr(f"{module}.name_digest", crowded)
    monkeypatch.setattr("des.format.frame.frame_key", lambda name: crowded(name)[8:14])
    path = tmp_path / "c.des"
    with DesWriter(path, layout=layout) as writer:
        for i in range(1000):
            writer.add_file(f"f{i}", b"%d" % i)
    with DesReader(path) as reader:
        assert ExtGeometry.of(reader.ext, reader.footer) is None
        assert reader.get_file("f999") == b"999"
        assert reader.list_files(limit=2) == ["f0", "f1"]


def test_the_same_files_give_the_same_bytes_and_the_id_is_carried():
    def write(**options):
        target = io.BytesIO()
        with DesWriter(target, **options) as writer:
            for i in range(300):
                writer.add_file(name(i), data(i))
        return target.getvalue(), writer.ext.uuid

    assert write() == write()
    assert write()[1] != write(layout="v1")[1]
    given = "019a0c55-7a00-7000-8000-000000000001"
    container, uuid = write(container_id=given)
    assert uuid.hex() == given.replace("-", "")
    assert container != write()[0]


@pytest.mark.parametrize("layout", Layout)
def test_ext_changes_nothing_before_it_and_not_the_footer(layout):
    containers = []
    for ext in (False, True):
        target = io.BytesIO()
        with DesWriter(target, layout=layout, ext=ext) as writer:
            for i in range(300):
                writer.add_file(name(i), data(i))
        containers.append(target.getvalue())
    plain, extended = containers
    assert extended.startswith(plain[:-72])
    assert extended.endswith(plain[-72:])
