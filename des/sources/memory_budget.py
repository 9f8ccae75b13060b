"""A bound on the bytes that are in memory at once."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class MemoryBudget:
    """Lends bytes, first come first served. One event loop owns it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.lent = 0
        self.lent_max = 0
        """Most that was ever lent at once."""
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def borrow(self, size: int) -> AsyncIterator[None]:
        """Wait until `size` bytes are free, and hold them for the block; more than there are means all."""
        size = min(size, self.size)
        if self._waiting or self.lent + size > self.size:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((size, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._give_back(size)
                else:
                    self._waiting.remove((size, turn))
                    self._serve()
                raise
        else:
            self._take(size)
        try:
            yield
        finally:
            self._give_back(size)

    def _take(self, size: int) -> None:
        self.lent += size
        self.lent_max = max(self.lent_max, self.lent)

    def _give_back(self, size: int) -> None:
        self.lent -= size
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self.lent + self._waiting[0][0] <= self.size:
            size, turn = self._waiting.popleft()
            if not turn.cancelled():
                self._take(size)
                turn.set_result(None)
