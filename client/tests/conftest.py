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

FAST = RetryConfig(backoff_initial_s=0.001, backoff_max_s=0.01)
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

        return call if inspect.iscoroutinefunction(method) else method


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
