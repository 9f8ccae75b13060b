"""Neighbours read together, the next while one is used."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
Place = TypeVar("Place", bound=tuple[Any, ...])
"""Starts with its first byte and the one past its last."""


def joined(places: Sequence[Place], *, gap: int, size_max: int) -> Iterator[list[Place]]:
    """Yield runs of sorted places that one read brings: at most `gap` bytes apart, `size_max` together."""
    group: list[Place] = []
    first = last = 0
    for place in places:
        low, high = place[0], place[1]
        if group and (low - last > gap or high - first > size_max):
            yield group
            group = []
        if not group:
            first, last = low, high
        group.append(place)
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
