"""Memory of a node that serves many large containers, per file; and what a look-up costs there.

    python benchmarks/bench_node_memory.py [--containers 100] [--files 1000000] [--reads 20000]

One container is written; the others have its bytes and ids of their own, which are put into their pages as
these are read. So the node sees as many different containers as it is told, on the disk of one.
"""

import argparse
import asyncio
import gc
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from uuid import UUID

import google_crc32c

from des.core import DesReader, DesWriter
from des.db.catalog import ContainerRow, ContainerState, ShardRun
from des.format.ext import ExtGeometry
from des.format.ext_trailer import TRAILER_SIZE
from des.format.footer import FOOTER_SIZE
from des.format.hash_pages import PAGE_SIZE
from des.format.plan import read_file, run_async
from des.packer.container_geometry import geometry_of
from des.retrieval.opened_file import CountedRead, ReadCost
from des.retrieval.stored_containers import StoredContainers, footer_of
from des.storage.memory import MemoryObjectStore


def name(i):
    return f"PIC_20261123_({i:012X}_{i % 256:02X})"


def uuid_of(number):
    return UUID(int=0x019A0C55_7A00_7000_8000_000000000000 + number)


class Overlay(MemoryObjectStore):
    """Every key is the one file, with an id of its own in pages and trailer."""

    def __init__(self, path, pages):
        super().__init__()
        self._file = path.open("rb")
        self._pages = pages
        self._size = path.stat().st_size

    async def get_range(self, key, start, stop, *, etag=None):  # noqa: ARG002  there is one object
        self._file.seek(start)
        data = bytearray(self._file.read(stop - start))
        uuid_low = uuid_of(int(key)).bytes[8:]
        if self._pages.start <= start < self._pages.start + self._pages.length:
            for at in range(0, len(data), PAGE_SIZE):
                data[at + 12 : at + 20] = uuid_low
                seal = google_crc32c.value(bytes(data[at : at + PAGE_SIZE - 4]))
                data[at + PAGE_SIZE - 4 : at + PAGE_SIZE] = seal.to_bytes(4, "little")
        if stop == self._size - FOOTER_SIZE:
            data[-TRAILER_SIZE + 16 : -TRAILER_SIZE + 32] = uuid_of(int(key)).bytes
            data[-4:] = google_crc32c.value(bytes(data[-TRAILER_SIZE:-4])).to_bytes(4, "little")
        return bytes(data)


def row_of(number, footer, geometry, size):
    return ContainerRow(
        container_id=str(uuid_of(number)),
        day="20261123",
        run=ShardRun(0, 1, 0),
        key=str(number),
        state=ContainerState.STORED,
        epoch=1,
        layout="framed",
        sha256="0" * 64,
        geometry=geometry_of(footer, geometry, size=size),
        name_ms_first=0,
        name_ms_last=1,
        data_bytes=footer.file_count,
        node="",
        etag='"e"',
    )


def resident():
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


async def serve(rows, store, arguments):
    files = len(rows) * arguments.files
    before = resident()
    containers = StoredContainers(catalog=None, store=store, cache_bytes=arguments.cache_mib << 20)
    rng = random.Random(3)

    async def read(row, i):
        cost = ReadCost()
        stored = await containers.find(row, name(i), cost)
        memory = containers.memory(row)
        plan = read_file(stored.entry, stored.layout, memory.dictionaries_of(row.geometry.data_start))
        data, _ = await run_async(plan, CountedRead(store, row.key, row.etag, cost))
        assert data == b"x"
        return cost.requests

    def report(what, reads, seconds, requests):
        grown = resident() - before
        print(
            f"{what:<42}{grown / 2**20:>9.1f} MiB {grown / files:>8.3f} B/file "
            f"{requests / reads:>6.2f} requests {seconds / reads * 1e6:>8.1f} us a read"
        )

    began = time.perf_counter()
    requests = sum([await read(row, 17) for row in rows])
    report("one file of each container", len(rows), time.perf_counter() - began, requests)
    chosen = [(rng.choice(rows), rng.randrange(arguments.files)) for _ in range(arguments.reads)]
    began = time.perf_counter()
    requests = sum([await read(row, i) for row, i in chosen])
    report(f"{arguments.reads:,} files at random", len(chosen), time.perf_counter() - began, requests)
    began = time.perf_counter()
    cost = ReadCost()
    for row, i in chosen:
        assert await containers.find(row, f"absent{i}", cost) is None
    report(f"{arguments.reads:,} absent names", len(chosen), time.perf_counter() - began, cost.requests)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--containers", type=int, default=100)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--reads", type=int, default=20_000)
    parser.add_argument("--cache-mib", type=int, default=256, help="index_cache_bytes of the node")
    parser.add_argument("--make", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        with DesWriter(arguments.make, digest=False) as writer:
            for i in range(arguments.files):
                writer.add_file(name(i), b"x")
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.des"
        began = time.perf_counter()
        # In a process of its own: what a writer of so many files leaves behind would hide what is measured.
        command = [sys.executable, __file__, "--files", str(arguments.files), "--make", str(path)]
        subprocess.run(command, check=True)
        print(f"container of {arguments.files:,} files made in {time.perf_counter() - began:.1f} s")
        with DesReader(path) as reader:
            footer, geometry = reader.footer, ExtGeometry.of(reader.ext, reader.footer)
        size = path.stat().st_size
        rows = [row_of(number, footer, geometry, size) for number in range(arguments.containers)]
        assert footer_of(rows[0]) == footer
        print(f"{len(rows)} containers, {len(rows) * arguments.files:,} files; beyond the process itself:")
        asyncio.run(serve(rows, Overlay(path, geometry.pages), arguments))


if __name__ == "__main__":
    main()
