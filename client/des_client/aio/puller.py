"""Takes items from what the caller gave, a few ahead, while other things happen on the loop."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any, Final, Generic, TypeVar

from des_client.items import GetItem, PutItem
from des_client.write_many import LINGER_S

T = TypeVar("T")

AHEAD: Final = 2
"""Rounds of pulling that may lie ready."""
ITEMS: Final = 256
"""Items pulled in one round: a round may cost a change of threads."""
BYTES: Final = 1 << 20


class Puller(Generic[T]):
    """Items, prepared, in rounds. Plain iterators run in a worker thread, since they may block."""

    def __init__(
        self,
        items: Iterable[Any] | AsyncIterable[Any],
        prepare: Callable[[Any], T],
        size: Callable[[T], int],
        wake: Callable[[], None],
    ) -> None:
        """Begin to pull.

        Args:
            items: where from.
            prepare: makes of an item what is wanted; may block.
            size: how many bytes of memory that takes.
            wake: called when there is something new to `take`, or `over` has become true.
        """
        self._prepare = prepare
        self._size = size
        self._wake = wake
        self._rounds: deque[list[T]] = deque()
        self._room = asyncio.Event()
        self._finished = False
        self._failure: BaseException | None = None
        work = self._pull_async(aiter(items)) if isinstance(items, AsyncIterable) else self._pull(items)
        self._task = asyncio.create_task(work)

    @property
    def over(self) -> bool:
        """Whether every item was taken."""
        return self._finished and not self._rounds

    @property
    def ready(self) -> bool:
        """Whether `take` would give something now."""
        return bool(self._rounds) or self._failure is not None

    def take(self) -> list[T] | None:
        """Return what has been pulled; None when there is nothing at the moment.

        Raises what the caller's iterator raised.
        """
        if self._rounds:
            self._room.set()
            return self._rounds.popleft()
        if self._failure is not None:
            raise self._failure
        return None

    async def close(self) -> None:
        """Pull no more; a plain iterator that blocks is left to the thread that waits for it."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _pull(self, items: Iterable[Any]) -> None:
        try:
            # What is in memory already cannot block; a generator can.
            threaded = not isinstance(items, list | tuple | set | frozenset | dict)
            iterator = iter(items)

            def some() -> list[T]:
                taken: list[T] = []
                total = 0
                ends_at = time.monotonic() + LINGER_S
                for item in iterator:
                    taken.append(self._prepare(item))
                    total += self._size(taken[-1])
                    if len(taken) >= ITEMS or total >= BYTES or time.monotonic() > ends_at:
                        break
                return taken

            while True:
                if not threaded:
                    taken = some()
                else:
                    # A cancelled wait does not stop the thread, and must not wait for a source that may never
                    # give anything again: what the thread still takes or raises is dropped.
                    running = asyncio.get_running_loop().run_in_executor(None, some)
                    running.add_done_callback(lambda done: done.cancelled() or done.exception())
                    taken = await asyncio.shield(running)
                if not taken:
                    break
                await self._give(taken)
        except Exception as failed:  # noqa: BLE001  raised again by `take`
            self._failure = failed
        finally:
            self._finished = self._failure is None
            self._wake()

    async def _pull_async(self, items: AsyncIterator[Any]) -> None:
        try:
            async for item in items:
                data = item.data if isinstance(item, PutItem) else item
                if isinstance(data, bytes | str | GetItem):
                    prepared = self._prepare(item)
                else:
                    prepared = await asyncio.to_thread(self._prepare, item)
                last = self._rounds[-1] if self._rounds else None
                if last is not None and len(last) < ITEMS and sum(map(self._size, last)) < BYTES:
                    last.append(prepared)
                else:
                    await self._give([prepared])
        except Exception as failed:  # noqa: BLE001  raised again by `take`
            self._failure = failed
        finally:
            self._finished = self._failure is None
            self._wake()

    async def _give(self, taken: list[T]) -> None:
        while len(self._rounds) >= AHEAD:
            self._room.clear()
            await self._room.wait()
        self._rounds.append(taken)
        self._wake()
