"""Fixtures: a double of the server, and both clients behind one blocking face."""

import asyncio
import inspect
import sys
import threading
from pathlib import Path

import pytest

# The double stands beside the tests, which are no package: they also run from the root of the repository.
sys.path.insert(0, str(Path(__file__).parent))

from des_client import AsyncDesClient, DesClient, RetryConfig
from des_double import RunningDouble

FAST = RetryConfig(attempts=6, backoff_initial_s=0.001, backoff_max_s=0.01)
"""Retries that do not make tests wait."""


class LoopThread:
    """An event loop in a thread, for asyncio clients in blocking tests."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


class Blocking:
    """An `AsyncDesClient` whose methods block, so that one test serves both clients."""

    def __init__(self, client, thread):
        self.client = client
        self._thread = thread

    def __getattr__(self, name):
        method = getattr(self.client, name)

        def call(*args, **kwargs):
            async def work():
                return await method(*args, **kwargs)

            return self._thread.run(work())

        if inspect.iscoroutinefunction(method):
            return call
        if not callable(method):
            return method

        def start(*args, **kwargs):
            made = method(*args, **kwargs)
            return BlockingIterator(made, self._thread) if hasattr(made, "__aiter__") else made

        return start


class BlockingIterator:
    """What an asynchronous iterator gives, without await; other methods give such iterators, too."""

    def __init__(self, made, thread):
        self._made = made
        self._thread = thread
        self._iterator = None

    def __iter__(self):
        return self

    def __next__(self):
        async def work():
            if self._iterator is None:
                self._iterator = aiter(self._made)
            return await anext(self._iterator, StopIteration)

        value = self._thread.run(work())
        if value is StopIteration:
            raise StopIteration
        return value

    def close(self):
        async def work():
            if self._iterator is not None:
                await self._iterator.aclose()

        self._thread.run(work())

    def __getattr__(self, name):
        method = getattr(self._made, name)
        return lambda *args, **kwargs: BlockingIterator(method(*args, **kwargs), self._thread)


@pytest.fixture
def server():
    running = RunningDouble()
    yield running
    running.close()


@pytest.fixture
def double(server):
    return server.double


@pytest.fixture(params=["sync", "aio"])
def make_client(request, server):
    """A factory of clients of the kind under test; the fixture closes them."""
    made = []
    thread = LoopThread() if request.param == "aio" else None

    def make(target=None, **options):
        options.setdefault("retry", FAST)
        target = server.target if target is None else target
        if thread is None:
            client = DesClient(target, **options)
        else:
            client = Blocking(AsyncDesClient(target, **options), thread)
        made.append(client)
        return client

    make.kind = request.param
    yield make
    for client in made:
        client.close()
    if thread is not None:
        thread.close()


@pytest.fixture
def des(make_client):
    return make_client()
