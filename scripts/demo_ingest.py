"""Brings a real tree of small files from three source databases into a store, killing the workers at random.

Three databases (PostgreSQL, MariaDB where it is installed, SQLite) hold rows that point at objects of an S3
server; two markers name the rows and three packers pack them, all as processes that are killed with
kill -9 and started again. At the end every row must be packed, every file must come back through gRPC by
its name with its metadata and its SHA-256, and no name may stand in two containers.

    python scripts/demo_ingest.py [FOLDER]      # default: the Python installation's own library
"""

import argparse
import asyncio
import hashlib
import shutil
import signal
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from des_client import AsyncDesClient

from des.testing.ingest_pipeline import IngestPipeline
from des.testing.s3_server import versitygw

FILES_MIN = 20_000
FILE_SIZE_MAX = 1 << 20
DEMO = Path(".demo-ingest")


def tree(folders: list[Path], at_most: int) -> Iterator[tuple[str, bytes]]:
    """Yield the small files below folders, path and content."""
    count = 0
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() or not path.is_file() or path.stat().st_size > FILE_SIZE_MAX:
                continue
            yield str(path.relative_to(folder)), path.read_bytes()
            count += 1
            if count == at_most:
                return


async def read_back(pipeline: IngestPipeline, addresses: list[str]) -> tuple[int, int]:
    """Read every row's file by its name, a part from each node; return how many were read, and differ."""
    rows = {row.des_name: (key, row) for key, row in pipeline.rows().items()}
    # Files of one container after another, as they lie there.
    names = sorted(rows, key=lambda name: (rows[name][1].des_container, name))
    share = -(-len(names) // len(addresses))
    parts = [names[place * share : (place + 1) * share] for place in range(len(addresses))]
    counts = await asyncio.gather(
        *(_read_from(address, part, pipeline, rows) for address, part in zip(addresses, parts, strict=True))
    )
    return sum(read for read, _ in counts), sum(wrong for _, wrong in counts)


async def _read_from(
    address: str, names: list[str], pipeline: IngestPipeline, rows: dict[str, tuple[tuple[str, int], Any]]
) -> tuple[int, int]:
    read = wrong = 0
    async with AsyncDesClient(address) as client:
        # Every tenth by a call of its own, which a node that does not own the shard passes on.
        for name in names[::10]:
            key, _ = rows[name]
            wrong += hashlib.sha256(await client.get(name)).hexdigest() != pipeline.sums[key]
        async for one in client.get_many(names, ordered=False, with_info=True):
            key, row = rows[one.name]
            data = one.unwrap()
            expected = {"customer": row.customer, "source-id": str(row.id)}
            same = hashlib.sha256(data).hexdigest() == pipeline.sums[key] == row.des_checksum
            wrong += not (same and one.file is not None and dict(one.file.metadata) == expected)
            read += 1
    return read, wrong


def main() -> int:
    """Run the demonstration; 0 when everything holds."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    arguments.add_argument("folder", nargs="?", type=Path)
    arguments.add_argument("--files", type=int, default=FILES_MIN, help="files, at most")
    arguments.add_argument("--packers", type=int, default=3)
    arguments.add_argument("--kills", type=int, default=12)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--minutes", type=float, default=30)
    options = arguments.parse_args()
    paths = sysconfig.get_paths()
    folders = [options.folder] if options.folder else [Path(paths["purelib"]), Path(paths["stdlib"])]
    shutil.rmtree(DEMO, ignore_errors=True)
    DEMO.mkdir()
    kinds = [
        "postgresql",
        "mariadb" if shutil.which("mariadbd", path="/usr/sbin:/usr/bin") else "sqlite",
        "sqlite",
    ]
    s3 = "versitygw" if versitygw() else "moto"
    print(f"sources: {', '.join(kinds)}; S3 by {s3}; a PostgreSQL catalog", flush=True)
    with IngestPipeline(DEMO.resolve(), kinds=kinds, shard_bits=6) as pipeline:
        began = time.monotonic()
        total = pipeline.fill(tree(folders, options.files))
        put_s = time.monotonic() - began
        print(f"{total:,} files, {pipeline.bytes / 1e6:,.1f} MB, put as objects in {put_s:.0f} s", flush=True)
        config = pipeline.write_config()
        pipeline.add_markers(2, config)
        pipeline.add_packers(options.packers, config)
        pipeline.start()
        outcome = pipeline.run_until_packed(
            kills=options.kills,
            seed=options.seed,
            within_s=options.minutes * 60,
            pause_s=(1.0, 3.0),
            told=lambda line: print(line, flush=True),
        )
        addresses = [worker.address for worker in pipeline.workers.values() if worker.serves]
        began = time.monotonic()
        read, wrong = asyncio.run(read_back(pipeline, addresses)) if not outcome.unfinished else (0, 0)
        read_s = time.monotonic() - began
        names = pipeline.count_containers(outcome)
        codes = [worker.end(signal.SIGTERM) for worker in pipeline.workers.values()]
        statuses = {name: source.statuses() for name, source in pipeline.sources.items()}
        named = {row.des_name for row in pipeline.rows().values()}

    print(f"\n{'':10}{'rows':>10}{'seconds':>10}{'rows/s':>10}{'MB/s':>10}")
    for what, rows, seconds in (
        ("put", total, put_s),
        ("packed", outcome.packed, outcome.seconds),
        ("read back", read, read_s),
    ):
        rate, speed = rows / seconds, pipeline.bytes / seconds / 1e6
        print(f"{what:10}{rows:>10,}{seconds:>10.1f}{rate:>10.0f}{speed:>10.1f}")
    for name, found in statuses.items():
        print(f"{name:16}" + ", ".join(f"{count:,} {status}" for status, count in found.items()))
    print(f"failed {outcome.failed}, unfinished {outcome.unfinished}, workers killed {outcome.kills}")
    size = f"{outcome.container_bytes / 1e6:,.1f} MB"
    print(
        f"{len(names):,} names in {outcome.containers} containers of {size}, {len(outcome.doubled)} doubled"
    )
    print(f"objects of seals given up when a shard changed hands, left to des gc: {outcome.given_up}")
    print(f"names in rows or containers alone: {len(named ^ set(names))}")
    print(f"SHA-256 and metadata compared: {read:,} read back, {wrong} differ")
    print(f"exit codes of the workers: {sorted(set(codes))}")
    bad = (
        outcome.failed
        or outcome.unfinished
        or outcome.doubled
        or read != total
        or wrong
        or named != set(names)
        or any(codes)
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
