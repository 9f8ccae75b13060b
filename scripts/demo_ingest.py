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

from des_client import AsyncDesClient

from des.testing.ingest_pipeline import IngestPipeline

FILES_MIN = 20_000
FILE_SIZE_MAX = 1 << 20
DEMO = Path(".demo-ingest")
READERS = 32


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
    """Read every row's file by its name, from the nodes in turn; return how many were read, and differ."""
    rows = pipeline.rows()
    clients = [AsyncDesClient(address) for address in addresses]
    limit = asyncio.Semaphore(READERS)
    wrong = 0

    async def check(place: int, key: tuple[str, int], row: object) -> None:
        nonlocal wrong
        async with limit:
            client = clients[place % len(clients)]
            data = await client.get(row.des_name)  # type: ignore[attr-defined]
            info = await client.stat(row.des_name)  # type: ignore[attr-defined]
        expected = {"customer": row.customer, "source-id": str(row.id)}  # type: ignore[attr-defined]
        same = hashlib.sha256(data).hexdigest() == pipeline.sums[key] == row.des_checksum  # type: ignore[attr-defined]
        wrong += not (same and dict(info.metadata) == expected)

    await asyncio.gather(*(check(place, key, row) for place, (key, row) in enumerate(rows.items())))
    for client in clients:
        await client.close()
    return len(rows), wrong


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
    print(f"sources: {', '.join(kinds)}; an S3 server; a PostgreSQL catalog", flush=True)
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
            pause_s=(3.0, 8.0),
            told=lambda line: print(line, flush=True),
        )
        addresses = [worker.address for worker in pipeline.workers.values() if worker.serves]
        began = time.monotonic()
        read, wrong = asyncio.run(read_back(pipeline, addresses)) if not outcome.unfinished else (0, 0)
        read_s = time.monotonic() - began
        names = pipeline.count_containers(outcome)
        codes = [worker.end(signal.SIGTERM) for worker in pipeline.workers.values()]
        named = {row.des_name for row in pipeline.rows().values()}

    print(f"\n{'':10}{'rows':>10}{'seconds':>10}{'rows/s':>10}{'MB/s':>10}")
    for what, rows, seconds in (("packed", outcome.packed, outcome.seconds), ("read back", read, read_s)):
        rate, speed = rows / seconds, pipeline.bytes / seconds / 1e6
        print(f"{what:10}{rows:>10,}{seconds:>10.1f}{rate:>10.0f}{speed:>10.1f}")
    print(f"failed {outcome.failed}, unfinished {outcome.unfinished}, workers killed {outcome.kills}")
    size = f"{outcome.container_bytes / 1e6:,.1f} MB"
    print(
        f"{len(names):,} names in {outcome.containers} containers of {size}, {len(outcome.doubled)} doubled"
    )
    print(f"names in rows or containers alone: {len(named ^ set(names))}")
    print(f"SHA-256 and metadata compared: {read:,} read back, {wrong} differ")
    print(f"exit codes of the workers: {sorted(set(codes))}")
    bad = (
        outcome.failed or outcome.unfinished or outcome.doubled or wrong or named != set(names) or any(codes)
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
