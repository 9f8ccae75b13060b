"""Group commit: what came in while one group was being synced makes up the next.

One task writes one group at a time and fails everybody when it must; what a group is made of and where
it goes is its owner's affair.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, Protocol

from des.errors import DesError
from des.ingest.errors import LogClosedError, LogFailedError, LogFullError
from des.ingest.record import Draft, Kind
from des.ingest.values import FileDraft

GROUP_RECORDS_MAX: Final = 4096
"""A group closes at this many records; bounds the time one write takes and what one crash can tear."""
GATHER_MAX_S: Final = 0.005
"""How long a group waits for company, at most, where the last one had some."""
GATHER_MIN_S: Final = 0.0002
"""Below this a wait costs more than it gathers."""


class Append:
    """A record on its way, and who waits for it."""

    __slots__ = ("done", "draft", "file")

    def __init__(self, draft: Draft, file: FileDraft | None, done: asyncio.Future[object]) -> None:
        self.draft = draft
        self.file = file
        """What the record was made from, for a FILE."""
        self.done = done

    @property
    def carries_bytes(self) -> bool:
        """Whether this is what fills a log, not what lets it be emptied."""
        return self.draft.kind in {Kind.FILE, Kind.BLOCK}

    def fail(self, error: DesError) -> None:
        """Fail it, unless nobody waits."""
        if not self.done.done():
            self.done.set_exception(_again(error))


class WriteGroup(Protocol):
    """Writes and syncs a group, then resolves its appends."""

    def __call__(self, group: list[Append], *, urgent: bool) -> Coroutine[Any, Any, None]:
        """Return when it is done; `urgent` may use the room kept free.

        Raises:
            LogFullError: there is no room; nothing was written.
        """
        ...


class Committer:
    """The queue and its one task. After a failure nothing is written any more."""

    def __init__(
        self,
        write_group: WriteGroup,
        refused: Callable[[Append], None],
        *,
        group_bytes: int,
        failure: DesError | None,
    ) -> None:
        """Start the task on the running loop; `refused` hears of each append that found no room."""
        self._write_group = write_group
        self._refused = refused
        self._group_bytes = group_bytes
        self.failure = failure
        """Why appends fail; None while they do not."""
        self._queue: deque[Append] = deque()
        self._work = asyncio.Event()
        self._closing = False
        self._last_records = 0
        self._last_s = 0.0
        """How long the last group took."""
        self._loop = asyncio.get_running_loop()
        self.task = self._loop.create_task(self._run(), name="ingest-log")

    def append(self, draft: Draft, file: FileDraft | None = None) -> asyncio.Future[object]:
        """Queue a record; what is returned is done when it is synced, or failed.

        Raises:
            LogFailedError, LogReadOnlyError: the log takes no writes.
            LogClosedError: it is being closed.
        """
        if self.failure is not None:
            raise _again(self.failure)
        if self._closing:
            raise LogClosedError("the ingest log is being closed")
        done: asyncio.Future[object] = self._loop.create_future()
        self._queue.append(Append(draft, file, done))
        self._work.set()
        return done

    async def close(self) -> None:
        """Write what waits and end the task. Twice is once."""
        self._closing = True
        self._work.set()
        await self.task

    def poison(self, error: BaseException, group: Iterable[Append] = ()) -> None:
        """Fail a group, all that wait and all that come."""
        failure = LogFailedError(f"the ingest log failed: {error!r}", cause=error)
        failure.__cause__ = error
        self.failure = failure
        for append in [*group, *self._queue]:
            append.fail(failure)
        self._queue.clear()

    async def _run(self) -> None:
        try:
            while True:
                await self._work.wait()
                # One pass of the loop: who was just acknowledged may have the next record ready.
                await asyncio.sleep(0)
                if gather_s := self._gather_s():
                    await asyncio.sleep(gather_s)
                group = self._next_group()
                if group:
                    begun = self._loop.time()
                    await self._commit(group)
                    self._last_s = self._loop.time() - begun
                    self._last_records = len(group)
                elif self._closing:
                    return
                else:
                    self._work.clear()
        except BaseException as error:  # cancelled, or worse: nobody must wait for a task that is gone
            if self.failure is None:
                self.poison(error)
            raise

    def _gather_s(self) -> float:
        """Return how long to wait for more records before the next group is written.

        A group costs the processor about as much as ten records do (two changes of thread, one sync).
        Where writers keep it busy, few records arrive during a sync, and groups would stay small. So a
        group that is smaller than the last one waits once as long as a sync takes. A lone writer never
        waits, nor do writers who are all back already.
        """
        if self._closing or self._last_records < 2 or len(self._queue) >= self._last_records:
            return 0.0
        return min(self._last_s, GATHER_MAX_S) if self._last_s >= GATHER_MIN_S else 0.0

    def _next_group(self) -> list[Append]:
        group: list[Append] = []
        size = 0
        while self._queue and len(group) < GROUP_RECORDS_MAX:
            size += self._queue[0].draft.size
            if group and size > self._group_bytes:
                break
            group.append(self._queue.popleft())
        return group

    async def _commit(self, group: list[Append], *, urgent: bool = False) -> None:
        try:
            await self._write_group(group, urgent=urgent)
        except LogFullError as error:
            rest: list[Append] = []
            for append in group:
                if append.carries_bytes or urgent:
                    self._refused(append)
                    append.fail(error)
                else:
                    rest.append(append)
            if rest:
                await self._commit(rest, urgent=True)
        except BaseException as error:  # whatever it was, what is on the device is unknown
            self.poison(error, group)
            if not isinstance(error, Exception):
                raise


def _again(error: DesError) -> DesError:
    """Return an equal error: one object raised to many would collect all their tracebacks."""
    twin = type(error)(str(error))
    twin.details = error.details
    return twin
