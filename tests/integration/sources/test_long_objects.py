"""Objects far longer than memory pass through a packer in parts."""

import asyncio
import contextlib
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from des.testing.source_databases import temporary_source
from tests.integration.sources.world import World

BLOCK = bytes(range(256)) * 4096
GROWTH_MAX = 160 << 20
"""Bytes of memory above those before: the parts under way, the server's, and what is not yet collected."""


class Stream(BaseHTTPRequestHandler):
    """Serves an object of `size` bytes without ever holding it."""

    size = 0
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(self.size))
        self.send_header("ETag", '"long"')
        self.end_headers()
        # Whoever asks for the end of it first, and gets the start, hangs up.
        with contextlib.suppress(OSError):
            for _ in range(self.size // len(BLOCK)):
                self.wfile.write(BLOCK)

    def log_message(self, *_):
        pass


@pytest.fixture
def endpoint():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def resident_bytes():
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * 4096


class HighWater:
    """The most memory that this process had while the block ran."""

    async def __aenter__(self):
        self.most = resident_bytes()
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_):
        self._task.cancel()

    async def _watch(self):
        while True:
            self.most = max(self.most, resident_bytes())
            await asyncio.sleep(0.01)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc to see memory in")
@pytest.mark.parametrize(
    "size",
    [512 << 20, pytest.param(10 << 30, marks=[pytest.mark.slow, pytest.mark.timeout(1700)])],
    ids=["512 MiB", "10 GiB"],
)
async def test_a_long_object_takes_a_few_parts_of_memory(endpoint, s3, tmp_path, size):
    with temporary_source("sqlite", tmp_path) as table:
        world = World(table, s3, tmp_path / "data")
        table.add(1, size_bytes=size)
        await world.start(objects={"endpoint": endpoint}, database={**table.database})
        await world.mark()
        Stream.size = size
        before = resident_bytes()
        async with HighWater() as seen:
            await world.ingest.step()
        await world.seal()
        assert table.statuses() == {"packed": 1}, world.row(1)
        assert seen.most - before < GROWTH_MAX

        expected = hashlib.sha256()
        for _ in range(size // len(BLOCK)):
            expected.update(BLOCK)
        row = world.row(1)
        assert row.des_checksum == expected.hexdigest()
        opened = await world.node.open_file(row.des_name)
        assert opened.info.size == size
        assert b"".join([part async for part in opened.read(size - 256, size)]) == BLOCK[:256]
        await world.stop()
