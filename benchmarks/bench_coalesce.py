"""What gap between two files of a batch is worth reading for nothing: the default of `get_files_batch`.

    python benchmarks/bench_coalesce.py [--files 100000] [--share 0.02]

A batch of files chosen at random is read with one gap after the other: from the local store, and from one
that takes as long as S3 does within a region: --latency-ms before the first byte and --mbytes a second for
one connection (AWS's own performance guidelines say 100 to 200 ms worst, 10 to 20 ms as a rule, and 85 to 90
MB/s for one connection).
"""

import argparse
import asyncio
import os
import random
import tempfile
import time
from pathlib import Path

from des.core import DesReader, DesWriter, S3DesReader, plain_read
from des.storage.local import LocalObjectStore

GAPS = (0, 1 << 12, 1 << 14, 1 << 16, 1 << 17, 1 << 18, 1 << 20, 1 << 22)
SIZE = 4096


def name(i):
    return f"PIC_20261123_({i:012X}_{i % 256:02X})"


class Body:
    def __init__(self, path):
        self._data = path.read_bytes()

    def size(self):
        return len(self._data)

    def pread(self, size, offset):
        return self._data[offset : offset + size]


class Delayed:
    """The store, answering as slowly as a distant one."""

    def __init__(self, store, latency_s, bytes_per_s):
        self._store = store
        self._latency_s = latency_s
        self._bytes_per_s = bytes_per_s

    async def get_range(self, key, start, stop, *, etag=None):
        data = await self._store.get_range(key, start, stop, etag=etag)
        await asyncio.sleep(self._latency_s + (stop - start) / self._bytes_per_s)
        return data

    async def get_tail(self, key, size, *, etag=None):
        return await self._store.get_tail(key, size, etag=etag)

    async def head(self, key):
        return await self._store.head(key)


async def sweep(label, store, made, wanted):
    print(f"\n{label}: {len(wanted):,} files of {SIZE} bytes in one batch")
    print(f"{'gap':>10}{'requests':>10}{'MiB':>9}{'seconds':>9}{'files/s':>10}")
    for gap in GAPS:
        reader = S3DesReader(store, made.key, etag=made.etag, size=made.size)
        await reader.get_files_batch(wanted[:1])
        before = (reader.cost.requests, reader.cost.bytes)
        began = time.perf_counter()
        files = await reader.get_files_batch(wanted, gap=gap)
        seconds = time.perf_counter() - began
        assert len(files) == len(wanted)
        requests, size = reader.cost.requests - before[0], reader.cost.bytes - before[1]
        print(f"{gap:>10,}{requests:>10,}{size / 2**20:>9.1f}{seconds:>9.2f}{len(wanted) / seconds:>10,.0f}")


def sweep_local(path, wanted):
    """The same out of a local file by `DesReader`, whose gap is fixed."""
    print(f"\nlocal file, DesReader: {len(wanted):,} files of {SIZE} bytes in one batch")
    print(f"{'gap':>10}{'reads':>10}{'seconds':>9}{'files/s':>10}")
    with DesReader(path) as reader:
        pread, reads = os.pread, []
        os.pread = lambda *place: (reads.append(place), pread(*place))[1]
        began = time.perf_counter()
        for one in wanted:
            reader.get_file(one)
        seconds = time.perf_counter() - began
        print(f"{'each alone':>10}{len(reads):>10,}{seconds:>9.3f}{len(wanted) / seconds:>10,.0f}")
        default = plain_read.LOCAL_GAP
        for gap in GAPS:
            plain_read.LOCAL_GAP = gap
            times = []
            for _ in range(5):
                reads.clear()
                began = time.perf_counter()
                assert len(reader.get_files_batch(wanted)) == len(wanted)
                times.append(time.perf_counter() - began)
            seconds = min(times)
            print(f"{gap:>10,}{len(reads):>10,}{seconds:>9.3f}{len(wanted) / seconds:>10,.0f}")
        plain_read.LOCAL_GAP, os.pread = default, pread


async def run(arguments):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.des"
        data = random.Random(1).randbytes(SIZE)
        with DesWriter(path, digest=False) as writer:
            for i in range(arguments.files):
                writer.add_file(name(i), data)
        chosen = random.Random(2).sample(range(arguments.files), int(arguments.files * arguments.share))
        wanted = [name(i) for i in chosen]
        sweep_local(path, wanted)
        store = LocalObjectStore(Path(folder) / "objects")
        made = await store.create("c.des", Body(path), metadata={})
        await sweep("local store", store, made, wanted)
        slow = Delayed(store, arguments.latency_ms / 1e3, arguments.mbytes * 1e6)
        await sweep(f"{arguments.latency_ms} ms, {arguments.mbytes} MB/s a connection", slow, made, wanted)
        await store.close()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--share", type=float, default=0.02)
    parser.add_argument("--latency-ms", type=float, default=15)
    parser.add_argument("--mbytes", type=float, default=85)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
