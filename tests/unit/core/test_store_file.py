"""An object read as a file: the same bytes, and few requests for whoever passes over it."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from des.core.loop_thread import LoopThread
from des.core.store_file import AHEAD_MAX, StoreFile
from des.format.byte_range import ByteRange
from des.format.errors import CorruptContainerError
from des.storage.memory import MemoryObjectStore
from des.storage.object_store import NoSuchObjectError, ObjectChangedError
from des.testing.object_store_suite import put

DATA = random.Random(1).randbytes((20 << 20) + 77)


@pytest.fixture
def loop():
    loop = LoopThread()
    yield loop
    loop.close()


@pytest.fixture
def store(loop):
    store = MemoryObjectStore()
    loop.wait(put(store, "k", DATA))
    return store


def test_reads_anywhere_give_the_bytes_there(store, loop):
    file = StoreFile(store, "k", name="s3://b/k", loop=loop)
    assert (file.name, file.size) == ("s3://b/k", len(DATA))
    rng = random.Random(2)
    places = [(rng.randrange(len(DATA)), rng.choice((1, 100, 70_000, 1 << 21))) for _ in range(200)]
    with ThreadPoolExecutor(4) as threads:

        def read(place):
            start, size = place
            stop = min(start + size, len(DATA))
            return file.read(ByteRange(start, stop)) == DATA[start:stop]

        assert all(threads.map(read, places))
    with pytest.raises(CorruptContainerError, match="ends at"):
        file.read(ByteRange(len(DATA) - 1, len(DATA) + 1))


def test_passing_over_it_costs_few_requests(store, loop):
    file = StoreFile(store, "k", name="k", loop=loop)
    assert b"".join(file.pieces(0, len(DATA))) == DATA
    assert file.requests <= 8
    small = StoreFile(store, "k", name="k", loop=loop)
    for start in range(0, len(DATA) - 1000, 1000):
        assert small.read(ByteRange(start, start + 1000)) == DATA[start : start + 1000]
    assert small.requests <= 18
    assert len(small._held[1]) <= AHEAD_MAX


def test_a_read_alone_fetches_what_it_asks_for(store, loop):
    file = StoreFile(store, "k", name="k", loop=loop)
    for start in (5 << 20, 1 << 20, 9 << 20):
        file.read(ByteRange(start, start + 10))
        assert len(file._held[1]) == 10
    requests = file.requests
    file.read(ByteRange(len(DATA) - 60_000, len(DATA)))
    assert file.requests == requests


def test_an_object_that_is_not_there_or_changes_is_noticed(store, loop):
    with pytest.raises(NoSuchObjectError):
        StoreFile(store, "absent", name="absent", loop=loop)
    file = StoreFile(store, "k", name="k", loop=loop)
    loop.wait(store.delete("k"))
    loop.wait(put(store, "k", DATA[::-1]))
    with pytest.raises(ObjectChangedError):
        file.read(ByteRange(0, 10))
