"""What only the asyncio client has: loops, cancellation, asynchronous sources."""

import asyncio
import contextlib
import io
import threading
import time

import pytest
from conftest import FAST
from des_client import (
    AsyncDesClient,
    DeadlineExceeded,
    DesClientError,
    InvalidArgument,
    RetryConfig,
    Unavailable,
    UploadInterrupted,
    WrongLoop,
)

MIB = 1 << 20
BIG = bytes(range(256)) * (10 * 1024) + b"tail"


@pytest.fixture
async def des(server):
    async with AsyncDesClient(server.target, retry=FAST) as client:
        yield client


async def pieces(data, size=100_000):
    for at in range(0, len(data), size):
        await asyncio.sleep(0)
        yield data[at : at + size]


@pytest.mark.parametrize("size", [0, 1, MIB, MIB + 1, len(BIG)])
async def test_an_asynchronous_source_of_every_length_arrives(des, double, size):
    result = await des.put(pieces(BIG[:size]), size=size)
    assert double.files[result.file.name].content == BIG[:size]


async def test_an_asynchronous_source_of_unknown_size_declares_none(des, double):
    await des.put(pieces(BIG))
    assert not double.requests[-3].spec.HasField("size_bytes")


async def test_an_asynchronous_source_starts_again_while_it_is_short(des, double):
    double.fail("PutFile", code="UNAVAILABLE", at_byte=MIB, times=2)
    result = await des.put(pieces(BIG))
    assert double.files[result.file.name].content == BIG


async def test_a_long_asynchronous_source_cannot_start_again(des, double):
    double.fail("PutFile", code="UNAVAILABLE", at_byte=10 * MIB)
    with pytest.raises(UploadInterrupted) as failed:
        await des.put(pieces(bytes(16 * MIB)))
    assert isinstance(failed.value.__cause__, Unavailable)
    assert not double.files


async def test_a_source_cut_off_inside_a_read_never_makes_a_shorter_file(des, double, server):
    # The timeout cancels the generator: whatever it had left is gone, and a new attempt would not know.
    async def stuck():
        yield bytes(2 * MIB)
        await asyncio.sleep(20)
        yield b"never"

    patient = RetryConfig(attempt_timeout_s=0.2, backoff_initial_s=0, backoff_max_s=0)
    async with AsyncDesClient(server.target, retry=patient) as client:
        with pytest.raises(UploadInterrupted, match="while it waited for its source"):
            await client.put(stuck())
    assert not double.files


async def test_an_asynchronous_source_with_a_wrong_size_is_refused(des, double):
    for data in (b"hello", BIG):
        with pytest.raises(InvalidArgument):
            await des.put(pieces(data), size=len(data) + 1)
    assert not double.files


async def test_an_asynchronous_source_that_fails_raises_its_own_error(des, double):
    async def broken():
        yield BIG
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await des.put(broken())
    assert not double.files


async def test_a_timeout_error_of_the_sources_own_is_not_ours(des):
    async def late():
        yield BIG
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine") as failed:
        await des.put(late())
    assert not isinstance(failed.value, DesClientError)


class SlowFile(io.RawIOBase):
    """Blocks in every read, as a file on a bad network does."""

    def __init__(self, size):
        self.left = size
        self.reading = threading.Lock()
        self.overlaps = 0

    def readable(self):
        return True

    def read(self, size=-1):
        if not self.reading.acquire(blocking=False):
            self.overlaps += 1
            raise AssertionError("two threads read one file")
        try:
            time.sleep(0.05)
            size = min(size, self.left)
            self.left -= size
            return bytes(size)
        finally:
            self.reading.release()


async def test_a_file_that_blocks_does_not_block_the_loop(des):
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    ticking = asyncio.create_task(tick())
    await des.put(SlowFile(4 * MIB))
    ticking.cancel()
    assert ticks > 15


async def test_a_cancelled_read_is_over_before_the_next_one_begins(server, double):
    file = SlowFile(4 * MIB)
    hasty = RetryConfig(attempts=100, attempt_timeout_s=0.03, backoff_initial_s=0, backoff_max_s=0)
    async with AsyncDesClient(server.target, retry=hasty) as client:
        with contextlib.suppress(DesClientError):
            await client.put(file, timeout_s=1)
    assert file.overlaps == 0


@pytest.mark.parametrize("what", ["put", "put big", "put source", "get", "get_to", "stat"])
async def test_cancelling_a_task_cancels_the_call(des, server, tmp_path, what):
    name = server.double.add(BIG)
    method = {"put": "PutFile", "get": "GetFile", "stat": "StatFile"}[what[:4].split("_")[0].strip()]
    server.double.fail(method, delay_s=20)
    work = {
        "put": lambda: des.put(b"x"),
        "put big": lambda: des.put(bytes(20 * MIB)),
        "put source": lambda: des.put(pieces(BIG)),
        "get": lambda: des.get(name),
        "get_to": lambda: des.get_to(name, tmp_path / "out"),
        "stat": lambda: des.stat(name),
    }[what]
    task = asyncio.create_task(work())
    await asyncio.to_thread(server.wait_until, lambda double: double.calls[method])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(server.wait_until, lambda double: double.cancelled == 1)
    assert list(tmp_path.iterdir()) == []


async def test_the_callers_own_timeout_works_as_usual(des, double):
    double.fail("StatFile", delay_s=20)
    double.fail("GetFile", delay_s=20)
    for call in (des.stat, des.get):
        with pytest.raises(TimeoutError) as failed:
            async with asyncio.timeout(0.1):
                await call("x")
        assert not isinstance(failed.value, DeadlineExceeded)


async def test_cancelling_a_wait_between_attempts_is_prompt(server, double):
    async with AsyncDesClient(server.target, timeout_s=1000) as client:
        double.fail("StatFile", code="UNAVAILABLE", retry_after_s=20)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.stat("x")


async def test_many_tasks_share_a_client(server, double):
    async with AsyncDesClient(server.target, channels=2) as des:

        async def there_and_back(number):
            data = bytes([number]) * (number * 20_000)
            assert await des.get((await des.put(data)).file.name) == data

        await asyncio.gather(*(there_and_back(number) for number in range(64)))
    assert len(double.files) == 64


# --- loops -----------------------------------------------------------------------------------------


def test_a_client_made_outside_a_loop_works_in_the_first_one(server):
    des = AsyncDesClient(server.target)

    async def work():
        async with des:
            return await des.exists("x")

    assert asyncio.run(work()) is False


def test_another_loop_gets_a_plain_error(server):
    des = AsyncDesClient(server.target)
    name = server.double.add(b"x")

    async def first():
        await des.stat(name)

    calls = {
        "stat": lambda: des.stat(name),
        "get": lambda: des.get(name),
        "put": lambda: des.put(b"x"),
        "put big": lambda: des.put(BIG),
        "open": lambda: des.open(name),
        "close": des.close,
    }

    async def second(call):
        await call()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(first())
    for call in calls.values():
        with pytest.raises(WrongLoop, match="one client per loop"):
            asyncio.run(second(call))
    assert dict(server.double.calls) == {"StatFile": 1}
    loop.run_until_complete(des.close())
    loop.close()


async def test_another_threads_loop_gets_it_too(des, double):
    await des.exists("x")
    with pytest.raises(WrongLoop):
        await asyncio.to_thread(asyncio.run, des.exists("x"))


async def test_closing_an_unused_client_is_fine(server):
    await AsyncDesClient(server.target).close()


async def test_a_cancelled_put_many_does_not_wait_for_a_source_that_blocks(des, server):
    released = threading.Event()

    def blocked():
        yield b"first"
        released.wait(30)

    async def put():
        return [one async for one in des.put_many(blocked())]

    task = asyncio.create_task(put())
    await asyncio.to_thread(time.sleep, 0.2)
    task.cancel()
    try:
        done, _ = await asyncio.wait([task], timeout=10)
        assert task in done
        assert task.cancelled()
    finally:
        released.set()


async def test_results_come_while_the_source_waits_for_them(des):
    # A source that is fed by what came out: it must not be waited for alone.
    results = asyncio.Queue()

    async def chained():
        for number in range(5):
            yield b"%d" % number
            await results.get()

    indexes = []
    async with asyncio.timeout(20):
        async for outcome in des.put_many(chained()):
            indexes.append(outcome.index)
            results.put_nowait(outcome)
    assert indexes == [0, 1, 2, 3, 4]


async def test_a_foreign_loop_is_told_plainly_by_the_calls_over_many(server):
    client = AsyncDesClient(server.target)
    assert [one.index async for one in client.put_many([b"x"])] == [0]

    def elsewhere():
        async def put():
            return [one async for one in client.put_many([b"y"])]

        return asyncio.run(put())

    with pytest.raises(WrongLoop):
        await asyncio.to_thread(elsewhere)
    await client.close()
