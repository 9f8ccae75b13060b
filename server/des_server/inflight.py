"""The calls being served, counted here because `grpc.aio.Server.stop` alone lets some be cut off.

A handler that ends with `abort` is not waited for by the grace of `stop` (grpc/grpc#37239).
"""

import asyncio
from typing import Final

from des_server.errors import ServerBusyError
from des_server.leaving import Leaving

QUIET_S: Final = 0.1


class InFlight:
    """Counts calls, refuses new ones when there are too many or the server leaves."""

    def __init__(self, calls_max: int) -> None:
        self.count = 0
        """Calls being served."""
        self.leaving = Leaving()
        """Begun by `close`."""
        self._arrived = 0
        self._calls_max = calls_max
        self._empty = asyncio.Event()
        self._empty.set()

    def enter(self) -> None:
        """Count a call in; each one that entered must `leave`.

        Raises:
            ShuttingDownError: the server takes no more calls.
            ServerBusyError: too many calls are being served.
        """
        self._arrived += 1
        self.leaving.check()
        if self.count >= self._calls_max:
            raise ServerBusyError(
                f"{self.count} calls are being served, at most {self._calls_max} are allowed",
                retry_after_s=1.0,
                limit="concurrent_calls",
            )
        self.count += 1
        self._empty.clear()

    def leave(self) -> None:
        """Count a call out."""
        self.count -= 1
        if not self.count:
            self._empty.set()

    def close(self) -> None:
        """Refuse calls from now on, and end those without an end of their own."""
        self.leaving.begin()

    async def wait_empty(self) -> None:
        """Return when no call is being served."""
        await self._empty.wait()

    async def wait_quiet(self) -> None:
        """Return when no call has come for a while.

        A call that waits to be taken when the server stops ends as CANCELLED, which no client
        repeats; one that is refused ends as UNAVAILABLE and comes back elsewhere.
        """
        seen = -1
        while seen != self._arrived:
            seen = self._arrived
            await asyncio.sleep(QUIET_S)
