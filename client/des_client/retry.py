"""When a failed attempt is made again, and how long a call may take. No clock, no sleep in here."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from des_client.errors import DesClientError, InvalidArgument

TRANSFER_RATE_MIN: Final = 256 << 10
"""Bytes per second below which a transfer runs out of time: a 2 Mbit/s line still passes."""


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """How often and how fast a call is tried again.

    By default as often as the call's time allows (`timeout_s`; of a stream: without a word of the server), so
    that a server may be restarted under its clients.

    Waits grow from `backoff_initial_s` by `backoff_multiplier` up to `backoff_max_s`, and each is drawn
    evenly between zero and that ("full jitter"), so that many clients do not come back together.
    A wait that the server asked for (RetryInfo) is never undercut.
    """

    attempts: int | None = None
    """Attempts in all, the first one included; None: as many as there is time for. A download that gained
    bytes starts counting anew."""
    backoff_initial_s: float = 0.1
    backoff_max_s: float = 5.0
    backoff_multiplier: float = 2.0
    unreached_s: float = 10.0
    """How long attempts go on while no server has answered this client even once: then it is more likely that
    there is none than that it is away for a moment."""
    attempt_timeout_s: float | None = None
    """Time one attempt gets (a stream: between two messages); None: all that is left of the call's."""

    def __post_init__(self) -> None:
        if self.attempts is not None and self.attempts < 1:
            raise InvalidArgument(f"attempts is {self.attempts}, expected at least 1")
        if not 0 <= self.backoff_initial_s <= self.backoff_max_s < math.inf:
            raise InvalidArgument(
                f"backoff runs from {self.backoff_initial_s} to {self.backoff_max_s} s, "
                "expected 0 <= initial <= max"
            )
        if not self.backoff_multiplier >= 1:
            raise InvalidArgument(f"backoff_multiplier is {self.backoff_multiplier}, expected at least 1")
        if not self.unreached_s >= 0:
            raise InvalidArgument(f"unreached_s is {self.unreached_s}, expected at least 0")
        if self.attempt_timeout_s is not None and not self.attempt_timeout_s > 0:
            raise InvalidArgument(f"attempt_timeout_s is {self.attempt_timeout_s}, expected more than 0")


NO_RETRY: Final = RetryConfig(attempts=1)
"""What `retry=None` means."""


class Attempts:
    """Decides, after each failure of one call, whether to go on and how long to wait."""

    __slots__ = ("_config", "_failed", "_failed_in_all", "_random", "_waited_s")

    def __init__(self, config: RetryConfig, random: Callable[[], float]) -> None:
        self._config = config
        self._random = random
        self._failed = 0
        self._failed_in_all = 0
        self._waited_s = 0.0

    def progressed(self) -> None:
        """Forget past failures: the call has gained something that a new attempt keeps."""
        self._failed = 0

    @property
    def made(self) -> int:
        """How many attempts have failed in all."""
        return self._failed_in_all

    def wait_s(self, error: DesClientError, remaining_s: float, *, reached: bool = True) -> float | None:
        """Return the wait before the next attempt, or None when `error` is final.

        A wait that would outlast `remaining_s` is not begun. `reached`: some server has answered before.
        """
        self._failed += 1
        self._failed_in_all += 1
        config = self._config
        if not error.retryable:
            return None
        if config.attempts is not None and self._failed >= config.attempts:
            if config.attempts > 1:
                error.add_note(f"given up after {self._failed_in_all} attempts")
            return None
        ceiling = _power(config.backoff_initial_s, config.backoff_multiplier, self._failed - 1)
        wait = self._random() * min(ceiling, config.backoff_max_s) + (error.retry_after_s or 0.0)
        if wait >= remaining_s:
            if remaining_s > 0:
                error.add_note(f"given up: next attempt in {wait:.3f} s, but only {remaining_s:.3f} s left")
            return None
        if not reached and self._waited_s + wait >= config.unreached_s:
            error.add_note(f"given up after {self._failed_in_all} attempts: no server has answered yet")
            return None
        self._waited_s += wait
        return wait


def _power(first: float, factor: float, exponent: int) -> float:
    try:
        return first * factor**exponent
    except OverflowError:
        return math.inf


class Pace:
    """The time a transfer has: `timeout_s` between two messages, and over all.

    Over all it is `timeout_s` plus one second for every `TRANSFER_RATE_MIN` bytes moved, so the limit
    grows with the size and neither needs to be known ahead. Any monotonic clock will do.
    """

    __slots__ = ("_idle_s", "_moved", "_started", "_timeout_s")

    def __init__(self, now: float, timeout_s: float, attempt_timeout_s: float | None) -> None:
        self._started = now
        self._timeout_s = timeout_s
        self._idle_s = timeout_s if attempt_timeout_s is None else min(timeout_s, attempt_timeout_s)
        self._moved = 0

    def begin(self, now: float) -> float:
        """Start an attempt; return its first deadline."""
        return min(now + self._idle_s, self._ends_at)

    def moved(self, size: int, now: float) -> float:
        """Count a message of `size` bytes, in whichever attempt; return the deadline of the next."""
        self._moved += size
        return min(now + self._idle_s, self._ends_at)

    def left_s(self, now: float, *, silent: bool) -> float:
        """Return the time left for further attempts: none after a full `timeout_s` of silence."""
        return 0.0 if silent and self._idle_s >= self._timeout_s else self._ends_at - now

    @property
    def _ends_at(self) -> float:
        return self._started + self._timeout_s + self._moved / TRANSFER_RATE_MIN
