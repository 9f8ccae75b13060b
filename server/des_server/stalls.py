"""Senders that fall silent: one timer for all streams, since one for each read costs more than the read."""

import asyncio
from typing import Any, TypeVar

from des_server.errors import StalledError
from des_server.interceptors.calls import Incoming

_Request = TypeVar("_Request")


class StallWatch:
    """Ends reads that have waited for `stall_s`, at most a quarter of that late."""

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._reading: dict[asyncio.Task[Any], float] = {}
        """Since when each task waits, the longest first."""
        self._stalled: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def read(self, requests: Incoming[_Request]) -> _Request | None:
        """Return the stream's next message, None after the last.

        Raises:
            StalledError: nothing arrived in time.
        """
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None, "a call is served in a task"
        self._reading[task] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self._stall_s / 4, self._look, loop)
        try:
            return await requests.read()
        except asyncio.CancelledError:
            if task in self._stalled and task.uncancel() <= 0:
                raise StalledError(f"nothing arrived for {self._stall_s:g} s") from None
            raise
        finally:
            del self._reading[task]
            self._stalled.discard(task)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        latest = loop.time() - self._stall_s
        for task, since in self._reading.items():
            if since > latest:
                break
            if task not in self._stalled:
                self._stalled.add(task)
                task.cancel()
        self._timer = loop.call_later(self._stall_s / 4, self._look, loop) if self._reading else None
