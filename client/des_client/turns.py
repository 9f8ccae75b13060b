"""Whose turn it is among the connections of a client. No I/O in here."""

import itertools
from collections.abc import Callable, Sequence
from typing import Final

REST_FIRST_S: Final = 0.5
REST_MAX_S: Final = 5.0
"""How long a connection that failed is left out, doubled with each failure; then one call tries it."""


class Turns:
    """Round robin over connections, by their positions, that leaves out those that failed just now.

    When all of them did, each is as good as any: nothing is refused for it. Threads may share it.
    """

    def __init__(self, count: int, clock: Callable[[], float]) -> None:
        """Take turns among `count` connections; `clock` counts seconds from anywhere."""
        self._all = range(count)
        self._clock = clock
        self._turn = itertools.count()
        self._turn_among = itertools.count()
        self._failures = [0] * count
        self._rests_until = [0.0] * count
        self._is_any_resting = False

    def next(self, among: Sequence[int] = ()) -> int:
        """Return the connection for the next call: one of `among` where one of those is well, else any."""
        if not self._is_any_resting:
            if among:
                return among[next(self._turn_among) % len(among)]
            return next(self._turn) % len(self._all)
        now = self._clock()
        until = self._rests_until
        well = [at for at in among if until[at] <= now]
        turn = next(self._turn_among if well else self._turn)
        well = well or [at for at in self._all if until[at] <= now] or list(self._all)
        at = well[turn % len(well)]
        if self._failures[at]:
            # The others wait for what becomes of this one.
            until[at] = now + _rest_s(self._failures[at])
        return at

    def worked(self, at: int) -> None:
        """Hear that a server answered over a connection."""
        if self._failures[at]:
            self._failures[at], self._rests_until[at] = 0, 0.0
            self._is_any_resting = any(self._failures)

    def failed(self, at: int) -> None:
        """Hear that a server was not there, or is leaving."""
        now = self._clock()
        if self._failures[at] and self._rests_until[at] > now:
            return  # calls that were under way together fail together: that is one failure
        self._failures[at] += 1
        self._rests_until[at] = now + _rest_s(self._failures[at])
        self._is_any_resting = True


def _rest_s(failures: int) -> float:
    return min(REST_FIRST_S * 2.0 ** min(failures - 1, 10), REST_MAX_S)
