"""Fetching what rows point at: bounded, checked, and one bad row fails alone."""

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from des.clock import SystemClock
from des.naming import consistent_hash
from des.sources import ClaimedRow, SourceDatabaseConnector
from des.sources.config import PackerConfig
from des.sources.memory_budget import MemoryBudget
from des.sources.objects import CHUNK, ObjectsUnavailableError
from des.sources.provider import MultiSourceFileProvider, RowFailedError, Source
from des.sources.s3_objects import S3SourceObjects
from des.testing.source_databases import temporary_source

KEYS = {"access_key": "AK", "secret_key": "SK", "addressing": "path"}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    with temporary_source("sqlite", tmp_path_factory.mktemp("sqlite")) as made:
        yield made


@pytest.fixture
async def provider(table, owners):
    made = []

    def make(endpoint, *, owner=owners[0], sources=None, **packer):
        objects = {"endpoint": endpoint, "timeout_s": 20} | KEYS
        if sources is None:
            sources = {"docs": table.config(objects=objects)}
        one = MultiSourceFileProvider(
            {
                name: Source(
                    SourceDatabaseConnector(name, config), S3SourceObjects(config.objects, connections=8)
                )
                for name, config in sources.items()
            },
            config=PackerConfig(**packer),
            owner=owner,
            shard_bits=2,
            clock=SystemClock(),
        )
        made.append(one)
        return one

    yield make
    for one in made:
        await one.close()


def row(key="k", **changes):
    values = {
        "source": "docs",
        "id": 1,
        "name": "DES_20260228_(000000050100_06)",
        "shard": 0,
        "bucket": "docs",
        "key": key,
        "etag": None,
        "size": None,
        "content_type": "",
        "metadata": {},
        "attempts": 0,
        "reclaimed": False,
    }
    return ClaimedRow(**values | changes)


async def whole(provider, one):
    async with provider.fetch(one) as found:
        parts = [found.first]
        while part := await found.read():
            assert len(part) <= CHUNK
            parts.append(part)
        return b"".join(parts)


async def reason_of(provider, one):
    with pytest.raises(RowFailedError) as caught:
        await whole(provider, one)
    return caught.value.why.value


@pytest.mark.parametrize("size", [0, 1, 10_000, CHUNK, CHUNK + 1, 3 * CHUNK + 17])
async def test_objects_of_any_size_come_whole(provider, s3, size):
    client, endpoint = s3
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    client.put_object(Bucket="docs", Key="sized", Body=data)
    assert await whole(provider(endpoint), row("sized", size=size)) == data
    assert await whole(provider(endpoint), row("sized")) == data


@pytest.mark.parametrize(
    "key", ["a b/ü.txt", "%41", "a//b", "trailing/", "../up", "tab\there", "+plus?x=1#y", "\U0001f600", "'"]
)
async def test_odd_keys_are_asked_for_as_they_are_spelt(provider, s3, key):
    client, endpoint = s3
    client.put_object(Bucket="docs", Key=key, Body=key.encode())
    assert await whole(provider(endpoint), row(key)) == key.encode()


async def test_every_fault_of_a_row_has_its_reason(provider, s3):
    client, endpoint = s3
    etag = client.put_object(Bucket="docs", Key="there", Body=b"12345")["ETag"]
    one = provider(endpoint)
    assert await whole(one, row("there", etag=etag, size=5)) == b"12345"
    assert await whole(one, row("there", etag=etag.strip('"'))) == b"12345"
    assert await reason_of(one, row("absent")) == "MISSING"
    assert await reason_of(one, row("there", etag="0" * 32)) == "CHANGED"
    assert await reason_of(one, row("there", size=4)) == "CHANGED"
    assert await reason_of(one, row("there", size=6)) == "CHANGED"
    assert await reason_of(one, row(None)) == "BAD_KEY"
    assert await reason_of(one, row("x" * 1025)) == "BAD_KEY"
    assert await reason_of(one, row("x", bucket="secret")) == "BAD_BUCKET"
    assert await reason_of(one, row("x", bucket=None)) == "BAD_BUCKET"
    assert one.memory.lent == 0


class OddServer(BaseHTTPRequestHandler):
    """An S3 that says what the path asks for, and counts the bytes it sends."""

    sent = 0
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        what = self.path.split("/")[2].split("?")[0]
        if what == "forbidden":
            self._error(403, "AccessDenied")
        elif what == "badkeys":
            self._error(403, "InvalidAccessKeyId")
        elif what == "busy":
            self._error(503, "SlowDown")
        elif what == "short":
            self._head(1000)
            self.wfile.write(b"x" * 10)
            self.close_connection = True
        elif what == "huge":
            self._head(10 << 30)
            try:
                while True:
                    self.wfile.write(bytes(1 << 20))
                    OddServer.sent += 1 << 20
            except OSError:
                self.close_connection = True

    def _head(self, size):
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.send_header("ETag", '"abc"')
        self.end_headers()

    def _error(self, status, code):
        body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/xml")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def odd():
    server = ThreadingHTTPServer(("127.0.0.1", 0), OddServer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


async def test_a_refused_object_is_the_rows_fault_and_refused_credentials_are_not(provider, odd):
    one = provider(odd)
    assert await reason_of(one, row("forbidden")) == "FORBIDDEN"
    for key in ("badkeys", "busy", "short"):
        with pytest.raises(ObjectsUnavailableError):
            await whole(one, row(key))
    with pytest.raises(ObjectsUnavailableError):
        await whole(provider("http://127.0.0.1:1"), row("x"))


async def test_an_object_of_ten_gigabytes_is_refused_before_its_bytes_come(provider, odd, table):
    objects = {"endpoint": odd, "size_bytes_max": "5GiB"} | KEYS
    one = provider(odd, sources={"docs": table.config(objects=objects)})
    assert await reason_of(one, row("huge")) == "TOO_LARGE"
    assert OddServer.sent < 64 << 20


async def test_a_long_object_that_is_given_up_midway_is_cut_off(provider, odd):
    one = provider(odd)
    async with one.fetch(row("huge")) as found:
        for _ in range(5):
            assert len(await found.read()) == CHUNK
    assert one.memory.lent == 0
    assert one.memory.lent_max <= 2 * CHUNK


async def test_count_and_bytes_in_memory_are_bounded(provider, s3):
    client, endpoint = s3
    for number in range(24):
        client.put_object(Bucket="docs", Key=f"many/{number}", Body=bytes(CHUNK))
    one = provider(endpoint, fetches=4, fetch_bytes="16MiB")
    objects = one._sources["docs"].objects
    plain_open = objects.open
    opening = opening_max = inside = inside_max = 0

    async def counted_open(*arguments, **options):
        nonlocal opening, opening_max
        opening += 1
        opening_max = max(opening_max, opening)
        try:
            return await plain_open(*arguments, **options)
        finally:
            opening -= 1

    async def take(number):
        nonlocal inside, inside_max
        async with one.fetch(row(f"many/{number}", size=CHUNK)):
            inside += 1
            inside_max = max(inside_max, inside)
            while opening and inside < 16:  # nobody leaves while others may still come
                await asyncio.sleep(0.005)
            inside -= 1

    objects.open = counted_open
    await asyncio.gather(*(take(number) for number in range(24)))
    assert opening_max == 4
    assert 4 < inside_max <= 16, "what was fetched waits for its turn in the log beside the next fetches"
    assert one.memory.lent_max <= 16 * CHUNK
    assert one.memory.lent == 0


async def test_a_long_object_is_being_fetched_for_as_long_as_it_is_read(provider, odd):
    one = provider(odd, fetches=1)
    async with one.fetch(row("huge", size=10 << 30)) as found:
        assert len(await found.read()) == CHUNK
        waiting = asyncio.create_task(reason_of(one, row("forbidden")))
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
    assert await waiting == "FORBIDDEN"


async def test_the_budget_is_lent_in_order_and_never_overdrawn():
    budget = MemoryBudget(10)
    order = []

    async def take(number, size):
        async with budget.borrow(size):
            order.append(number)
            assert budget.lent <= 10
            await asyncio.sleep(0)

    await asyncio.gather(*(take(number, size) for number, size in enumerate((4, 6, 9, 1, 50, 2))))
    assert order == [0, 1, 2, 3, 4, 5]
    assert budget.lent == 0


async def test_a_waiter_that_is_cancelled_gives_its_place_up():
    budget = MemoryBudget(10)

    async def hold(size):
        async with budget.borrow(size):
            pass

    async with budget.borrow(10):
        waiting = [asyncio.create_task(hold(5)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
    await asyncio.gather(*waiting, return_exceptions=True)
    assert budget.lent == 0


async def test_rows_of_every_source_and_shard_are_claimed_in_turn(provider, table, s3, owners):
    table.empty()
    table.add(40)
    table.execute(
        "UPDATE documents SET des_status = 'marked', des_shard = id % 4, "
        "des_name = 'DES_20260228_(000000050100_06)'"
    )
    # The name's own shard is 3 (top bits of its hash); rows elsewhere are put where they belong.
    shard = table_shard()
    one = provider(s3[1])
    first = await one.claim([0, 1, 2, 3], limit=8)
    rest = []
    for _ in range(20):
        rest += await one.claim([0, 1, 2, 3], limit=8)
    assert {row.shard for row in first + rest} == {shard}
    assert len({row.id for row in first + rest}) == 40


def table_shard():
    return consistent_hash("DES_20260228_(000000050100_06)", 2)


async def test_a_source_that_is_away_is_left_alone_and_the_other_goes_on(provider, table, s3):
    table.empty()
    table.add(4)
    objects = {"endpoint": s3[1]} | KEYS
    plain = table.config(objects=objects).model_dump(by_alias=True)
    plain["database"] = {"dialect": "sqlite", "path": "/nowhere/at/all.sqlite"}
    dead = type(table.config()).model_validate(plain)
    one = provider("", sources={"docs": table.config(objects=objects), "down": dead})
    shard = table_shard()
    table.execute(
        f"UPDATE documents SET des_status = 'marked', des_shard = {shard}, "
        "des_name = 'DES_20260228_(000000050100_06)'"
    )
    assert len(await one.claim([shard], limit=100)) == 4
    assert list(one.errors()) == ["down"]
