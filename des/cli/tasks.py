"""Working on very many items at once, with few of them in memory."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def over_all(items: Iterable[T], work: Callable[[T], Awaitable[None]], jobs: int) -> None:
    """Run `work` on every item, `jobs` at a time.

    The first exception that `work` lets out ends the whole and is raised; what was under way is cancelled.
    """
    source = iter(items)

    async def worker() -> None:
        for item in source:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(jobs):
                group.create_task(worker())
    except BaseExceptionGroup as failures:
        raise first_of(failures) from None


def first_of(failures: BaseExceptionGroup) -> BaseException:
    """Return the first leaf of a group: what ended it, before the others were cancelled for that."""
    one = failures.exceptions[0]
    return first_of(one) if isinstance(one, BaseExceptionGroup) else one
