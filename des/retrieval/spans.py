"""Neighbours read together, the next while one is used."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def joined(
    items: Sequence[T], start: Callable[[T], int], stop: Callable[[T], int], *, gap: int, size_max: int
) -> Iterator[list[T]]:
    """Yield runs of sorted items that one read brings: at most `gap` bytes apart, `size_max` together."""
    group: list[T] = []
    first = last = 0
    for item in items:
        low, high = start(item), stop(item)
        if group and (low - last > gap or high - first > size_max):
            yield group
            group = []
        if not group:
            first, last = low, high
        group.append(item)
        last = max(last, high)
    if group:
        yield group


async def ahead(jobs: Iterable[Coroutine[object, object, T]], count: int) -> AsyncGenerator[T, None]:
    """Yield the results of jobs in order, so many of them begun before they are asked for."""
    waiting: deque[asyncio.Task[T]] = deque()
    coming = iter(jobs)
    try:
        while True:
            while len(waiting) < count and (job := next(coming, None)) is not None:
                waiting.append(asyncio.ensure_future(job))
            if not waiting:
                return
            yield await waiting.popleft()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
