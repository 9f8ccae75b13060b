"""Random reads of 4 KiB out of a million files in one local file: a container, a zip, SQLite blobs.

    python benchmarks/bench_random_reads.py [--files 1000000] [--reads 2000]

All three hold the same files and are read from the page cache in one run, each in a process of its own:
opening and then many reads, and opening for each read, which is what a short-lived process does.
"""

import argparse
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from des.core import DesReader, DesWriter

SIZE = 4096


def name(i):
    return f"PIC_20261123_({i:012X}_{i % 256:02X})"


def payload(i):
    return BASE[i % 4096 : i % 4096 + SIZE - 8] + i.to_bytes(8, "little")


BASE = random.Random(1).randbytes(8192)


def make_des(path, count):
    with DesWriter(path, digest=False) as writer:
        for i in range(count):
            writer.add_file(name(i), payload(i))


def make_zip(path, count):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for i in range(count):
            archive.writestr(name(i), payload(i))


def make_sqlite(path, count):
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE files (name TEXT PRIMARY KEY, data BLOB) WITHOUT ROWID")
        database.executemany("INSERT INTO files VALUES (?, ?)", ((name(i), payload(i)) for i in range(count)))
    database.close()


def open_des(path):
    reader = DesReader(path)
    return reader.get_file, reader.close


def open_zip(path):
    archive = zipfile.ZipFile(path)
    return archive.read, archive.close


def open_sqlite(path):
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)

    def read(wanted):
        return database.execute("SELECT data FROM files WHERE name = ?", (wanted,)).fetchone()[0]

    return read, database.close


PEERS = {
    "DesReader": (make_des, open_des),
    "zipfile": (make_zip, open_zip),
    "SQLite": (make_sqlite, open_sqlite),
}


def measure(peer, path, count, reads):
    """Return seconds: open and first read, each read after it, and opening for each of some reads."""
    _, opener = PEERS[peer]
    with Path(path).open("rb") as file:
        while file.read(1 << 20):  # into the page cache, whatever else the machine does
            pass
    wanted = random.Random(2).sample(range(count), reads + 1)
    began = time.perf_counter()
    read, close = opener(path)
    assert read(name(wanted[0])) == payload(wanted[0])
    opened = time.perf_counter() - began
    times = []
    for i in wanted[1:]:
        began = time.perf_counter()
        data = read(name(i))
        times.append(time.perf_counter() - began)
        assert data == payload(i)
    close()
    alone = []
    for i in wanted[: max(3, reads // 10)]:
        began = time.perf_counter()
        read, close = opener(path)
        read(name(i))
        close()
        alone.append(time.perf_counter() - began)
        if sum(alone) > 20:
            break
    times.sort()
    alone.sort()
    return {
        "open_and_first_s": opened,
        "reads_s": sum(times),
        "p50_us": times[len(times) // 2] * 1e6,
        "p99_us": times[len(times) * 99 // 100] * 1e6,
        "open_and_read_p50_us": alone[len(alone) // 2] * 1e6,
        "open_and_read_p99_us": alone[len(alone) * 99 // 100] * 1e6,
    }


def total(found):
    return found["open_and_first_s"] + found["reads_s"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--reads", type=int, default=2000)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        peer, path = arguments.child
        print(json.dumps(measure(peer, path, arguments.files, arguments.reads)))
        return
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for peer, (make, _) in PEERS.items():
            path = Path(folder) / peer
            began = time.perf_counter()
            make(path, arguments.files)
            print(f"{peer:<10} made in {time.perf_counter() - began:6.1f} s, {path.stat().st_size:,} bytes")
            command = [sys.executable, __file__, "--files", str(arguments.files), "--reads"]
            command += [str(arguments.reads), "--child", peer, str(path)]
            found[peer] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            path.unlink()
    print(f"\n{arguments.files:,} files of {SIZE} bytes, {arguments.reads} read at random, page cache")
    columns = ("open+first ms", "read p50 us", "p99 us", "open+read p50 us", "p99 us")
    print(f"{'':<10}" + "".join(f"{one:>18}" for one in columns))
    for peer, one in found.items():
        row = (
            one["open_and_first_s"] * 1e3,
            one["p50_us"],
            one["p99_us"],
            one["open_and_read_p50_us"],
            one["open_and_read_p99_us"],
        )
        print(f"{peer:<10}" + "".join(f"{value:>18,.1f}" for value in row))
    des = found["DesReader"]
    for peer in ("zipfile", "SQLite"):
        other = found[peer]
        with_open = total(other) / total(des)
        alone = other["open_and_read_p50_us"] / des["open_and_read_p50_us"]
        print(
            f"against {peer}: {with_open:,.1f} times for open and {arguments.reads} reads, "
            f"{alone:,.1f} times for open and one read, "
            f"{other['p50_us'] / des['p50_us']:,.1f} times for a read alone"
        )


if __name__ == "__main__":
    main()
