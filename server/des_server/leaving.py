"""What a call without an end of its own does when the server leaves.

Calls about one file are let finish. Batches, watches and waits may go on for as long as their clients like:
they end between two items, as SHUTTING_DOWN, and their clients begin them again elsewhere or with the next
process. What was taken by then is answered first; what was not is theirs to send again.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from des_server.errors import ShuttingDownError

RETRY_AFTER_S: Final = 1.0
SLOW_READER_S: Final = 1.0
"""How long an answer may wait for a client that does not read before its stream is cut."""

T = TypeVar("T")


class Leaving:
    """Whether the server takes no new work, and a way to wait for that beside something else."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()

    @property
    def has_begun(self) -> bool:
        """Whether new work is refused."""
        return self._begun.is_set()

    def begin(self) -> None:
        """Refuse new work from now on."""
        self._begun.set()

    def error(self) -> ShuttingDownError:
        """Return what ends a call that is to be made again."""
        return ShuttingDownError("the server is shutting down", retry_after_s=RETRY_AFTER_S)

    def check(self) -> None:
        """Return while the server stays.

        Raises:
            ShuttingDownError: it leaves.
        """
        if self._begun.is_set():
            raise self.error()

    async def wait(self) -> None:
        """Return when the server leaves."""
        await self._begun.wait()

    async def cuts(self, work: "asyncio.Future[Any]") -> bool:
        """Wait for `work` or for the server's leaving; return whether it leaves. `work` goes on."""
        if not self._begun.is_set() and not work.done():
            begun = asyncio.ensure_future(self._begun.wait())
            try:
                await asyncio.wait((work, begun), return_when=asyncio.FIRST_COMPLETED)
            finally:
                begun.cancel()
        return self._begun.is_set()

    async def unless(self, work: Coroutine[Any, Any, T], *, grace_s: float = 0.0) -> T:
        """Return what `work` does; it is cancelled when the server leaves, `grace_s` after that.

        Only for what may be done again.

        Raises:
            ShuttingDownError: the server left first.
        """
        task = asyncio.ensure_future(work)
        try:
            if await self.cuts(task):
                await asyncio.wait((task,), timeout=grace_s)
            if task.done():
                return task.result()
            raise self.error()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))
