"""A clock that stands still until told otherwise."""

import asyncio
import heapq
from typing import Final

START_MS: Final = 1_772_236_800_000
"""2026-02-28 00:00 UTC."""


class SimulatedClock:
    """The twin of `SystemClock`: wall time and monotonic time move only when a test moves them."""

    def __init__(self, now_ms: int = START_MS, *, sleep_advances: bool = False) -> None:
        """Start at `now_ms`; with `sleep_advances`, a sleep moves the clock itself instead of waiting."""
        self._wall_us = now_ms * 1000
        self._monotonic_us = 0
        self._sleep_advances = sleep_advances
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._sleep_count = 0
        self.slept_s = 0.0
        """Sum of all sleeps asked for."""

    def now_ms(self) -> int:
        """Return the wall time in UTC milliseconds since 1970."""
        return self._wall_us // 1000

    def monotonic(self) -> float:
        """Return the seconds by which the clock was advanced."""
        return self._monotonic_us / 1_000_000

    async def sleep(self, seconds: float) -> None:
        """Return once the clock was advanced by `seconds`."""
        self.slept_s += seconds
        if self._sleep_advances or seconds <= 0:
            self.advance(max(seconds, 0))
            await asyncio.sleep(0)
            return
        self._sleep_count += 1
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        due_us = self._monotonic_us + max(1, round(seconds * 1_000_000))
        heapq.heappush(self._sleepers, (due_us, self._sleep_count, woken))
        await woken

    @property
    def sleepers(self) -> int:
        """How many tasks sleep."""
        return sum(not woken.done() for _, _, woken in self._sleepers)

    def set_wall(self, now_ms: int) -> None:
        """Step the wall clock, either way, as NTP or an operator does; nobody wakes."""
        self._wall_us = now_ms * 1000

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass at once, and wake the sleepers whose time came, the earliest first."""
        microseconds = round(seconds * 1_000_000)
        if microseconds < 0:
            raise ValueError(f"advance by {seconds!r} s, time does not go back; use set_wall")
        self._wall_us += microseconds
        self._monotonic_us += microseconds
        while self._sleepers and self._sleepers[0][0] <= self._monotonic_us:
            woken = heapq.heappop(self._sleepers)[2]
            if not woken.done():
                woken.set_result(None)

    async def run_for(self, seconds: float) -> None:
        """Let `seconds` pass step by step: each sleeper wakes at its own moment and runs until it waits."""
        end_us = self._monotonic_us + round(seconds * 1_000_000)
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end_us:
            self.advance((self._sleepers[0][0] - self._monotonic_us) / 1_000_000)
            await settle()
        self.advance((end_us - self._monotonic_us) / 1_000_000)
        await settle()


async def settle(rounds: int = 20) -> None:
    """Let every task that can run do so, `rounds` steps of each."""
    for _ in range(rounds):
        await asyncio.sleep(0)
