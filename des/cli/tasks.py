"""Working on very many items at once, with few of them in memory."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from des.cli.exits import Failure

T = TypeVar("T")


async def over_all(items: Iterable[T], work: Callable[[T], Awaitable[None]], jobs: int) -> None:
    """Run `work` on every item, `jobs` at a time. A Failure it raises ends the whole.

    Raises:
        Failure: the first one that `work` raised; what was under way is cancelled.
    """
    source = iter(items)

    async def worker() -> None:
        for item in source:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(jobs):
                group.create_task(worker())
    except* Failure as failures:
        raise first_of(failures) from None


def first_of(failures: BaseExceptionGroup[Failure]) -> Failure:
    """Return the first leaf of a group."""
    one = failures.exceptions[0]
    return first_of(one) if isinstance(one, BaseExceptionGroup) else one
