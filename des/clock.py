"""Time as an argument: nothing below the entry points reads a clock of its own."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """The door to time. `des.testing.SimulatedClock` is its twin."""

    def now_ms(self) -> int:
        """Return UTC now, in milliseconds since 1970; may jump either way."""
        ...

    def monotonic(self) -> float:
        """Return seconds since some moment; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of this clock's monotonic time."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        """Return UTC now, in milliseconds since 1970."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Return seconds since boot, without what an NTP step adds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep on the event loop."""
        await asyncio.sleep(seconds)
