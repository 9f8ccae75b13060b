"""The ingest log: files a second, by appenders at once and files a call, and the time of a start.

`python benchmarks/bench_log.py [folder] [--gib 1] [--rounds 5] [--seconds 1]`
"""

import argparse
import asyncio
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import google_crc32c

from des.clock import SystemClock
from des.config.settings import GIB, KIB, LogSettings
from des.ingest.log import IngestLog
from des.ingest.values import FileDraft, RecoveredLog
from des.storage.posix_disk import PosixDisk

FACTS = b'{"content_type":"application/octet-stream","metadata":{}}'


@asynccontextmanager
async def opened(root: Path, epoch: int) -> AsyncIterator[tuple[IngestLog, RecoveredLog, float]]:
    with ThreadPoolExecutor(2) as executor:
        started = time.perf_counter()
        log, recovered = await IngestLog.open(
            PosixDisk(root),
            clock=SystemClock(),
            node=UUID(int=1),
            boot_epoch=epoch,
            settings=LogSettings(budget_bytes=64 * GIB, reserve_free_bytes=0),
            executor=executor,
            publish=lambda _: None,
            salt=lambda: int.from_bytes(os.urandom(4)),
        )
        took_s = time.perf_counter() - started
        try:
            yield log, recovered, took_s
        finally:
            await log.close()


def draft(number: int, data: bytes, crc32c: int) -> FileDraft:
    name = f"DES_20261123_({number:012X}_00)"
    return FileDraft(name, 20261123, number & 255, len(data), crc32c, FACTS, data)


async def appends_per_s(
    root: Path, *, waiting: int, batch: int, size: int, seconds: float
) -> tuple[float, float]:
    """Return files a second with `waiting` appenders of `batch` files a call, and a call's median in ms."""
    data = os.urandom(size)
    crc32c = google_crc32c.value(data)
    times: list[float] = []

    async with opened(root, 1) as (log, _, _):
        numbers = iter(range(1 << 40))
        stop = time.perf_counter() + seconds

        async def appender() -> None:
            while (started := time.perf_counter()) < stop:
                if batch == 1:
                    await log.append_file(draft(next(numbers), data, crc32c))
                else:
                    await log.append_files([draft(next(numbers), data, crc32c) for _ in range(batch)])
                times.append(time.perf_counter() - started)

        started = time.perf_counter()
        await asyncio.gather(*(appender() for _ in range(waiting)))
        took_s = time.perf_counter() - started
    return len(times) * batch / took_s, statistics.median(times) * 1000


async def fill(root: Path, total: int, size: int) -> int:
    data = os.urandom(size)
    crc32c = google_crc32c.value(data)
    count = total // size
    async with opened(root, 1) as (log, _, _):
        for start in range(0, count, 1024):
            await asyncio.gather(
                *(log.append_file(draft(n, data, crc32c)) for n in range(start, min(start + 1024, count)))
            )
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=None)
    parser.add_argument("--gib", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1)
    args = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="bench-log-", dir=args.folder))
    try:
        print(f"{'file':>8} {'waiting':>8} {'batch':>6} {'files/s':>10} {'MB/s':>7} {'median ms':>10}")
        for size in (4 * KIB, 16 * KIB):
            for waiting, batch in ((1, 1), (64, 1), (256, 1), (4, 256)):
                rates: list[float] = []
                medians: list[float] = []
                for number in range(args.rounds):
                    root = base / f"{size}-{waiting}-{number}"
                    rate, median = asyncio.run(
                        appends_per_s(root, waiting=waiting, batch=batch, size=size, seconds=args.seconds)
                    )
                    rates.append(rate)
                    medians.append(median)
                    shutil.rmtree(root)
                rate = statistics.median(rates)
                print(
                    f"{size // KIB:>5} KiB {waiting:>8} {batch:>6} {rate:>10,.0f} {rate * size / 1e6:>7,.0f} "
                    f"{statistics.median(medians):>10.2f}"
                )
        if args.gib:
            root = base / "recovery"
            count = asyncio.run(fill(root, int(args.gib * GIB), 4 * KIB))

            async def recover(epoch: int) -> float:
                async with opened(root, epoch) as (_, recovered, took_s):
                    assert len(recovered.files) == count
                    return took_s

            times = [asyncio.run(recover(2 + n)) for n in range(3)]
            took_s = statistics.median(times)
            print(
                f"recovery of {args.gib:g} GiB, {count:,} records of 4 KiB: {took_s:.2f} s "
                f"({took_s / count * 1e6:.1f} us a record)"
            )
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
