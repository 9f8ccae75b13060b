"""Reads many ranges of one object with few requests."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from des.core.coalesce import FetchedRanges, join_ranges
from des.core.paged_index import Read
from des.errors import CorruptError
from des.format.byte_range import ByteRange

COALESCE_GAP: Final = 1 << 16
"""Bytes between two files of a batch that are read for nothing rather than by a second request.

Measured (`benchmarks/bench_coalesce.py`) at 15 ms and 85 MB/s a connection, 16 at once: of every tenth file
3.6 times as many a second as without, 70 % of the best, which takes 256 KiB and twice the bytes.
"""
COALESCED_SIZE_MAX: Final = 1 << 23
"""Bytes of one joined request."""
CONCURRENCY: Final = 16
"""Requests of one batch under way at once."""


class Joining(NamedTuple):
    """How the requests of a batch are made: what one costs, in bytes, and how many are under way."""

    gap: int = COALESCE_GAP
    """Bytes read for nothing rather than by a second request: the price of a request."""
    request_size: int = COALESCED_SIZE_MAX
    concurrency: int = CONCURRENCY


Job: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


async def fetch_joined(
    ranges: Iterable[ByteRange],
    read: Read,
    joining: Joining,
    *,
    beside: Sequence[Job] = (),
) -> Read:
    """Fetch `ranges`, neighbours together, and run the jobs `beside`; return how to read out of them.

    A joined range that is damaged raises where a part of it is read; any other failure stops all. What
    lies in none of `ranges` (a dictionary) is read when asked for.
    """
    joined = join_ranges(ranges, gap=joining.gap, size_max=joining.request_size)
    fetched: dict[ByteRange, bytes | Exception] = {}

    async def fetch(group: ByteRange) -> None:
        try:
            fetched[group] = await read(group)
        except CorruptError as error:
            fetched[group] = error

    await run_jobs([*(partial(fetch, group) for group in joined), *beside], joining.concurrency)
    source = FetchedRanges(joined, fetched)

    async def read_fetched(wanted: ByteRange) -> bytes:
        data = source.read(wanted) if joined else None
        return await read(wanted) if data is None else data

    return read_fetched


async def run_jobs(jobs: Sequence[Job], concurrency: int) -> None:
    """Run jobs, so many at once; the first that fails stops the others."""
    limit = asyncio.Semaphore(concurrency)

    async def bounded(job: Job) -> None:
        async with limit:
            await job()

    try:
        async with asyncio.TaskGroup() as tasks:
            for job in jobs:
                tasks.create_task(bounded(job))
    except BaseExceptionGroup as errors:
        # Callers tell kinds of error apart, not groups.
        raise errors.exceptions[0] from None
