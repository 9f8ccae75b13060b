"""How often each principal may call."""

from collections import OrderedDict
from typing import Final

from des.clock import Clock
from des.errors import ExhaustedError

PRINCIPALS_MAX: Final = 10_000
"""Buckets kept; the one that was used least lately is forgotten, which lets its owner begin anew."""
BURST_S: Final = 2.0
"""A principal that was quiet may make this many seconds' calls at once."""


class QuotaExceededError(ExhaustedError):
    """The principal has used up what one may use."""

    reason = "QUOTA_EXCEEDED"


class Quotas:
    """One bucket of calls per principal, filled at a steady rate."""

    def __init__(self, calls_per_s: float, clock: Clock) -> None:
        """Allow `calls_per_s` calls a second on average; 0 for any number."""
        self._rate = calls_per_s
        self._burst = max(1.0, calls_per_s * BURST_S)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Principal -> calls left, and when that was true."""

    def count(self, principal: str) -> None:
        """Count a call.

        Raises:
            QuotaExceededError: it is one too many; it says when the next is not.
        """
        if not self._rate:
            return
        now = self._clock.monotonic()
        left, at = self._buckets.pop(principal, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._rate)
        allowed = left >= 1
        self._buckets[principal] = (left - 1 if allowed else left, now)
        if len(self._buckets) > PRINCIPALS_MAX:
            self._buckets.popitem(last=False)
        if not allowed:
            raise QuotaExceededError(
                f"more than {self._rate:g} calls a second",
                retry_after_s=(1 - left) / self._rate,
                quota="principal_calls_per_s",
                limit=f"{self._rate:g}",
            )
