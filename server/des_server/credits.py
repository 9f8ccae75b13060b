"""Byte credits: how much of the clients' data may be in memory at once, over all calls."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from des_server.errors import ServerBusyError
from des_server.security.quota import QuotaExceededError


@dataclass(eq=False, slots=True)
class _Waiter:
    size: int
    admitted: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class ByteCredits:
    """A budget of bytes that calls borrow from, first come, first served.

    A call borrows for a message that it has already received, so bytes in memory are those lent plus
    those waiting; each of the two is at most `total`. Whoever finds the waiting room full too is sent
    away at once.
    """

    def __init__(self, total: int, *, wait_s: float) -> None:
        self.total = total
        self.lent = 0
        """Bytes borrowed now."""
        self.lent_max = 0
        """The most that was ever lent."""
        self.waiting = 0
        """Bytes of those who wait."""
        self._wait_s = wait_s
        self._queue: deque[_Waiter] = deque()

    async def borrow(self, size: int) -> int:
        """Borrow `size` bytes and return how many to give back (a message over the budget takes it all).

        Raises:
            ServerBusyError: no room within the admission wait, or too many wait already.
        """
        size = min(size, self.total)
        if not self._queue and self.lent + size <= self.total:
            self._lend(size)
            return size
        if self.waiting + size > self.total:
            raise self._busy("too many bytes wait for room already")
        waiter = _Waiter(size)
        self._queue.append(waiter)
        self.waiting += size
        try:
            async with asyncio.timeout(self._wait_s):
                await waiter.admitted
        except BaseException as error:
            if waiter in self._queue:
                self._queue.remove(waiter)
                self.waiting -= size
                self._admit()
            elif not waiter.admitted.cancelled():
                self._take_back(size)
            if isinstance(error, TimeoutError):
                raise self._busy(f"no room within {self._wait_s:g} s") from None
            raise
        return size

    def give_back(self, size: int) -> None:
        """Return what `borrow` said, once."""
        self._take_back(size)

    def _take_back(self, size: int) -> None:
        self.lent -= size
        self._admit()

    def _admit(self) -> None:
        while self._queue and self.lent + self._queue[0].size <= self.total:
            waiter = self._queue.popleft()
            self.waiting -= waiter.size
            if not waiter.admitted.cancelled():
                self._lend(waiter.size)
                waiter.admitted.set_result(None)

    def _lend(self, size: int) -> None:
        self.lent += size
        self.lent_max = max(self.lent_max, self.lent)

    def _busy(self, why: str) -> ServerBusyError:
        return ServerBusyError(
            f"{self.lent} of {self.total} upload bytes are in flight: {why}",
            retry_after_s=1.0,
            limit="bytes_in_flight",
        )


class SharedCredits(ByteCredits):
    """A budget of which no one borrower gets more than a share, so that one cannot keep all others out.

    Whoever wants more than its share waits as long as for room, whatever others leave free.
    """

    def __init__(self, total: int, *, each: int, wait_s: float, who: Callable[[], str]) -> None:
        """Lend `total` bytes in all and `each` to one borrower; `who` names the one that asks."""
        super().__init__(total, wait_s=wait_s)
        self._each = min(each, total)
        self._who = who
        self._shares: dict[str, ByteCredits] = {}
        """Of those who have borrowed something, or wait to."""

    async def borrow(self, size: int) -> int:
        """Borrow as `ByteCredits.borrow` does, from the borrower's share and from all.

        Raises:
            QuotaExceededError: no room in the share within the admission wait.
            ServerBusyError: none in all.
        """
        who = self._who()
        share = self._shares.setdefault(who, ByteCredits(self._each, wait_s=self._wait_s))
        try:
            try:
                size = await share.borrow(size)
            except ServerBusyError as error:
                raise QuotaExceededError(
                    f"{share.lent} of {self._each} upload bytes of one principal are in flight",
                    retry_after_s=error.retry_after_s,
                    quota="principal_bytes_in_flight",
                    limit=str(self._each),
                ) from None
            try:
                return await super().borrow(size)
            except BaseException:
                share.give_back(size)
                raise
        finally:
            self._forget(who, share)

    def give_back(self, size: int) -> None:
        """Return what `borrow` said, once, in the name of the borrower."""
        who = self._who()
        share = self._shares.get(who)
        if share is not None:
            share.give_back(size)
            self._forget(who, share)
        super().give_back(size)

    def _forget(self, who: str, share: ByteCredits) -> None:
        if not share.lent and not share.waiting:
            self._shares.pop(who, None)


class Loan:
    """What one stream has borrowed: enough for its largest message so far, until it ends.

    A stream that was admitted is not stopped again half way, unless its messages grow.
    """

    __slots__ = ("_credits", "size")

    def __init__(self, credits: ByteCredits) -> None:  # noqa: A002  no other word fits
        self._credits = credits
        self.size = 0

    async def grow_to(self, size: int) -> None:
        """Borrow what is missing for a message of `size` bytes."""
        if size > self.size:
            self.size += await self._credits.borrow(size - self.size)

    def give_back(self) -> None:
        """Return everything."""
        self._credits.give_back(self.size)
        self.size = 0
