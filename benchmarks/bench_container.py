"""Writing containers, against tar and zip, and reading small files back out of them.

    python benchmarks/bench_container.py [--quick]

Prints one line per figure: what, rate, unit. Everything is written to one file in $TMPDIR and read
from the page cache: the figures are CPU per file, not the disk's.
"""

import argparse
import asyncio
import io
import os
import random
import shutil
import sys
import tarfile
import tempfile
import time
import zipfile
from functools import partial
from pathlib import Path

from des.core import ContainerIndex, DesReader, DesWriter, S3DesReader
from des.format.footer import FOOTER_SIZE, Footer
from des.format.layout import Layout
from des.storage.local import LocalObjectStore


class FileBody:
    """A file to upload."""

    def __init__(self, path):
        self._path = path
        self._file = path.open("rb")

    def size(self):
        return self._path.stat().st_size

    def pread(self, size, offset):
        return os.pread(self._file.fileno(), size, offset)

    def close(self):
        self._file.close()


def name(i):
    return f"PIC_20261123_({i:012X}_{i % 256:02X})"


def report(what, count, seconds, unit="files/s"):
    print(f"{what:<44}{count / seconds:>14,.0f} {unit:<12}{seconds / count * 1e6:>10.2f} us")


def timed(work, *args):
    start = time.perf_counter()
    work(*args)
    return time.perf_counter() - start


def write_des(path, data, count, *, layout=Layout.FRAMED, metadata=None, digest=False):
    with DesWriter(path, layout=layout, digest=digest) as writer:
        for i in range(count):
            writer.add_file(name(i), data, metadata=metadata)


def write_tar(path, data, count):
    with tarfile.open(path, "w") as archive:
        for i in range(count):
            info = tarfile.TarInfo(name(i))
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def write_zip(path, data, count):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for i in range(count):
            archive.writestr(name(i), data)


WRITERS = {
    "DesWriter framed": write_des,
    "DesWriter framed, metadata": partial(write_des, metadata={"k": "v"}),
    "DesWriter framed, SHA-256": partial(write_des, digest=True),
    "DesWriter v1": partial(write_des, layout=Layout.V1),
    "tarfile": write_tar,
    "zipfile, stored": write_zip,
}


ROUNDS = 3
"""Of each writer; the fastest counts."""


def bench_writing(folder, scale):
    for size, count in ((1024, 100_000 // scale), (65_536, 8_000 // scale)):
        data = os.urandom(size)
        seconds = {}
        for what, work in WRITERS.items():
            path = folder / "target"
            seconds[what] = min(timed_once(work, path, data, count) for _ in range(ROUNDS))
            report(f"write {size // 1024} KiB: {what}", count, seconds[what])
        source = folder / "source"
        source.write_bytes(data * count)
        copied = min(timed_once(copy, folder / "target", source, count) for _ in range(ROUNDS))
        in_kernel = min(timed_once(copy_in_kernel, folder / "target", source, count) for _ in range(ROUNDS))
        source.unlink()
        report(f"copy a file of {size // 1024} KiB each, read and write, fsync", count, copied)
        report(f"copy a file of {size // 1024} KiB each, copyfile, fsync", count, in_kernel)
        copied = min(copied, in_kernel)
        for what in ("DesWriter framed", "DesWriter framed, SHA-256", "DesWriter v1"):
            print(
                f"  {what}: {seconds['tarfile'] / seconds[what]:.1f} times tarfile, "
                f"{seconds['zipfile, stored'] / seconds[what]:.1f} times zipfile, "
                f"{copied / seconds[what]:.0%} of the copy"
            )


def timed_once(work, path, *arguments):
    try:
        return timed(work, path, *arguments)
    finally:
        path.unlink()


def copy(target, source, _count):
    """What a container costs besides: its bytes read, written and synced, as `DesWriter` does."""
    with source.open("rb") as reading, target.open("wb") as writing:
        shutil.copyfileobj(reading, writing, 1 << 20)
        os.fsync(writing.fileno())


def copy_in_kernel(target, source, _count):
    """The same as the system does it (`shutil.copyfile`: sendfile or a copy within the file system)."""
    shutil.copyfile(source, target)
    with target.open("rb+") as written:
        os.fsync(written.fileno())


def bench_index(folder, scale):
    count = 200_000 // scale
    for what, stretch in (("names of one length", 0), ("names of two lengths", 1)):
        path = folder / f"index{stretch}.des"
        names = [name(i) + "x" * (i % 2 * stretch) for i in range(count)]
        with DesWriter(path) as writer:
            for one in names:
                writer.add_file(one, b"")
        raw = path.read_bytes()
        footer = Footer.decode(raw[-FOOTER_SIZE:])
        raw = raw[footer.index_start : footer.index_stop]
        report(f"parse INDEX: {what}", count, timed(ContainerIndex.parse, raw, footer), "entries/s")
        index = ContainerIndex.parse(raw, footer)
        sample = random.sample(names, 10_000)
        report(f"find: {what}", len(sample), timed(read_each, index.find, sample), "finds/s")
        print(f"{'  memory beside INDEX':<44}{(index.memory_bytes - len(raw)) / count:>14.1f} bytes/file")


def read_each(read, names):
    for one in names:
        read(one)


def bench_reading(folder, scale):
    count = 20_000 // scale
    wanted = [name(i) for i in random.sample(range(count), count // 2)]
    for layout in Layout:
        path = folder / f"{layout}.des"
        write_des(path, os.urandom(4096), count, layout=layout)
        with DesReader(path) as reader:
            seconds = timed(read_each, reader.get_file, wanted)
            report(f"read 4 KiB at random: DesReader {layout}", len(wanted), seconds)
    asyncio.run(bench_store(folder, wanted))


async def bench_store(folder, wanted):
    store = LocalObjectStore(folder / "objects")
    for layout in Layout:
        body = FileBody(folder / f"{layout}.des")
        made = await store.create(f"{layout}.des", body, metadata={})
        body.close()
        reader = S3DesReader(store, made.key, etag=made.etag, size=made.size)
        await reader.get_file(wanted[0])
        start = time.perf_counter()
        for one in wanted:
            await reader.get_file(one)
        report(f"read 4 KiB at random: S3DesReader {layout}", len(wanted), time.perf_counter() - start)
        start = time.perf_counter()
        await reader.get_files_batch(wanted)
        report(f"read 4 KiB in a batch: S3DesReader {layout}", len(wanted), time.perf_counter() - start)
    places = [random.randrange(made.size - 4096) for _ in wanted]
    start = time.perf_counter()
    for place in places:
        await store.get_range(made.key, place, place + 4096, etag=made.etag)
    report("LocalObjectStore.get_range 4 KiB, warm", len(places), time.perf_counter() - start, "reads/s")
    await store.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    scale = 10 if parser.parse_args().quick else 1
    print(f"python {sys.version.split()[0]}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        bench_writing(folder, scale)
        bench_index(folder, scale)
        bench_reading(folder, scale)


if __name__ == "__main__":
    main()
