"""The time that names carry in a cluster (ADR 0027).

Whoever takes the shards of a lost node has to know which names that node may have acknowledged. So no node
acknowledges a file under a name later than the expiry of its lock, as the catalog wrote it: a comparison
of two numbers, which no clock can spoil. To be far from that limit, nodes make names by the database's
clock, whatever their own says.
"""

from collections.abc import Callable
from typing import Final

from des.clock import Clock
from des.errors import UnavailableError

AHEAD: Final = 0.5
"""Part of the time to live by which a name may be ahead of the database's time when it is made.

A lock is renewed five times in its life: its expiry is further away, as long as the catalog answers.
"""


class NameAheadError(UnavailableError):
    """The time in a name lies too far ahead of the database's for a file to be taken under it now."""

    reason = "CLOCK_BEHIND"


def name_ahead(name_ms: int, until_ms: int) -> NameAheadError:
    """Return the error for a name that is later than names may be."""
    ahead_ms = name_ms - until_ms
    return NameAheadError(
        f"the name's time is {ahead_ms} ms later than this node may acknowledge now: the clock of whoever "
        "made it is ahead of the database's",
        retry_after_s=ahead_ms / 1000,
        behind_ms=ahead_ms,
    )


class NamingClock:
    """The clock of a node's names: its own, where that agrees with the database's."""

    def __init__(self, clock: Clock, database_ms: Callable[[], int], *, ttl_s: float) -> None:
        """Keep the time of `clock` near that of the database.

        Args:
            clock: of this node.
            database_ms: the database's time, known as earlier than it is if not exactly.
            ttl_s: of the node's locks.
        """
        self._clock = clock
        self._database_ms = database_ms
        self._ahead_ms = int(ttl_s * AHEAD * 1000)

    def now_ms(self) -> int:
        """Return the time: not before the database's, nor far ahead of it."""
        database_ms = self._database_ms()
        return min(max(self._clock.now_ms(), database_ms), database_ms + self._ahead_ms)

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        """See `Clock.sleep`."""
        await self._clock.sleep(seconds)
