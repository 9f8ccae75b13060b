"""The next read while one is used."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Iterable
from typing import TypeVar

T = TypeVar("T")


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
