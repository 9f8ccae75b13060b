"""The generator of names: 256 a millisecond, never one twice, whatever the clock does."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import Final, assert_never

from des.clock import Clock
from des.errors import InvalidInputError, UnavailableError
from des.naming.name import (
    COUNTER_BITS,
    DAY_MS,
    NODE_ID_MAX,
    SEQ_COUNT,
    WRAP_BITS_MIN,
    check_prefix,
    day_of,
)

NAMES_PER_CALL_MAX: Final = 100_000
"""Names one `next_many` gives at most; more would hold the event loop for too long."""
CLOCK_WAIT_MAX_S: Final = 1.0
"""How long a caller waits for a clock that stands behind names already given."""
_TICK_S: Final = 0.001
_PREFIXES_CACHED: Final = 1024

_HEX: Final = tuple(f"{value:02X}" for value in range(256))


class ClockBehindError(UnavailableError):
    """The clock stands too far behind names already given to give another."""

    reason = "CLOCK_BEHIND"


class GeneratorClosedError(UnavailableError):
    """The generator was closed; a name given now could lie above the floor its successor starts at."""

    reason = "SHUTTING_DOWN"


class _Wait(Enum):
    """Why no name can be given now."""

    TICK = auto()
    """The numbers of this millisecond are spent."""
    CLOCK = auto()
    """The next millisecond is too far ahead of the clock."""
    RESERVATION = auto()
    """The next millisecond is not reserved."""


class SnowflakeNameGenerator:
    """Gives names of one node, at most 256 a millisecond.

    Its time is the later of the wall clock and its own last name, so that names never repeat when the
    clock steps back. Before it gives names at or past the reserved mark it has `reserve` make a later
    mark durable; whoever starts next with that mark as `floor_ms` cannot repeat a name, even after a
    crash. Used from one event loop.
    """

    def __init__(
        self,
        *,
        node_id: int,
        clock: Clock,
        prefix: str = "DES",
        wrap_bits: int = COUNTER_BITS,
        floor_ms: int = 0,
        reserve: Callable[[int], Awaitable[None]] | None,
        reserve_ahead_ms: int = 3000,
        lead_max_ms: int = 3_600_000,
    ) -> None:
        """Start at `floor_ms`, the last mark that `reserve` or `close` of a predecessor made durable.

        Args:
            node_id: 0 to 255, of no other live node.
            clock: the only source of day and millisecond.
            prefix: of names for which no other is asked.
            wrap_bits: 27 to 32 bits of the time are kept in a name.
            floor_ms: no name lies before this, in UTC milliseconds since 1970.
            reserve: returns once the mark it is given will be found after a crash; None where names
                need not outlive the process.
            reserve_ahead_ms: how far past the present each mark lies.
            lead_max_ms: how far names may run ahead of a clock that stepped back.

        Raises:
            InvalidInputError: a number is outside its range.
            InvalidNameError: `prefix` breaks the rules.
        """
        check_prefix(prefix)
        if not 0 <= node_id <= NODE_ID_MAX:
            raise InvalidInputError(f"node id is {node_id!r}, expected 0 to {NODE_ID_MAX}")
        if not WRAP_BITS_MIN <= wrap_bits <= COUNTER_BITS:
            raise InvalidInputError(
                f"wrap bits are {wrap_bits!r}, expected {WRAP_BITS_MIN} to {COUNTER_BITS}: a day has "
                f"{DAY_MS} milliseconds, which fewer bits do not tell apart"
            )
        if floor_ms < 0:
            raise InvalidInputError(f"floor is {floor_ms!r} ms since 1970, expected 0 or more")
        if reserve_ahead_ms < 1 or lead_max_ms < reserve_ahead_ms:
            raise InvalidInputError(
                f"reserving {reserve_ahead_ms!r} ms ahead with a lead of at most {lead_max_ms!r} ms, "
                "expected 1 <= reserve_ahead_ms <= lead_max_ms"
            )
        self._node_id = node_id
        self._clock = clock
        self._prefix = prefix
        self._wrap_mask = (1 << wrap_bits) - 1
        self._reserve = reserve
        self._reserve_ahead_ms = reserve_ahead_ms
        self._lead_max_ms = lead_max_ms
        self._closed = False

        self._ms = floor_ms - 1
        self._seq = SEQ_COUNT
        self._mark_ms = sys.maxsize if reserve is None else floor_ms
        self._renew_ms = sys.maxsize if reserve is None else floor_ms
        self._reservation: asyncio.Task[None] | None = None
        self._retry_at_s = clock.monotonic()
        self._turn = asyncio.Lock()

        self._day = ""
        self._day_stop_ms = -1
        self._heads: dict[str, str] = {}
        self._body_ms = -1
        self._body = ""
        self._body_sum = 0

    async def next(self, prefix: str | None = None) -> str:
        """Return a new name.

        Raises:
            ClockBehindError: the clock stands too far behind, and a bounded wait did not help.
            GeneratorClosedError: after `close`.
            InvalidNameError: `prefix` breaks the rules.
            Exception: what `reserve` raised.
        """
        name = self.try_next(prefix)
        if name is None:
            name = (await self.next_many(1, prefix))[0]
        return name

    def try_next(self, prefix: str | None = None) -> str | None:
        """Return a new name, or None when `next` would have to wait.

        Raises:
            GeneratorClosedError: after `close`.
            InvalidNameError: `prefix` breaks the rules.
        """
        if prefix is None:
            prefix = self._prefix
        elif prefix not in self._heads:
            check_prefix(prefix)
        taken = self._take(1)
        if isinstance(taken, _Wait):
            return None
        return self._render(prefix, taken[0], taken[1])

    async def next_many(self, count: int, prefix: str | None = None) -> list[str]:
        """Return `count` new names in rising order; numbers already taken are lost if this raises.

        Raises:
            InvalidInputError: `count` is not 1 to 100,000.
            ClockBehindError: the clock stands too far behind, and a bounded wait did not help.
            GeneratorClosedError: after `close`.
            InvalidNameError: `prefix` breaks the rules.
            Exception: what `reserve` raised.
        """
        if not 1 <= count <= NAMES_PER_CALL_MAX:
            raise InvalidInputError(f"count is {count!r}, expected 1 to {NAMES_PER_CALL_MAX}")
        prefix = self._prefix if prefix is None else prefix
        check_prefix(prefix)
        names: list[str] = []
        waited_s = 0.0
        reservations = 0
        while len(names) < count:
            taken = self._take(count - len(names))
            match taken:
                case _Wait.TICK:
                    await self._next_tick()
                case _Wait.CLOCK:
                    waited_s += await self._wait_for_clock(waited_s)
                case _Wait.RESERVATION:
                    await self._reserved(reservations)
                    reservations += 1
                case (ms, first, taken_count):
                    names += [self._render(prefix, ms, seq) for seq in range(first, first + taken_count)]
                    reservations = 0
                case _:
                    assert_never(taken)
        return names

    def shutdown_mark(self) -> int:
        """Return the floor for a successor: just past the last name given, in UTC milliseconds."""
        return self._ms + 1

    async def close(self) -> int:
        """Give no more names and return `shutdown_mark`, once no reservation is under way."""
        self._closed = True
        if self._reservation is not None:
            await asyncio.wait([self._reservation])
        return self.shutdown_mark()

    def _take(self, wanted: int) -> tuple[int, int, int] | _Wait:
        """Take up to `wanted` numbers of one millisecond: (millisecond, first number, how many)."""
        if self._closed:
            raise GeneratorClosedError("no names are given any more: the generator is closed")
        now_ms = self._clock.now_ms()
        ms, seq = self._ms, self._seq
        if now_ms > ms:
            ms, seq = now_ms, 0
        elif seq == SEQ_COUNT:
            if ms == now_ms:
                return _Wait.TICK
            ms, seq = ms + 1, 0
        if ms - now_ms > self._lead_max_ms:
            return _Wait.CLOCK
        if ms >= self._renew_ms:
            if ms >= self._mark_ms:
                return _Wait.RESERVATION
            if self._clock.monotonic() >= self._retry_at_s:
                self._start_reservation(self._reserve_ahead_ms)
        count = min(wanted, SEQ_COUNT - seq)
        self._ms, self._seq = ms, seq + count
        return ms, seq, count

    def _render(self, prefix: str, ms: int, seq: int) -> str:
        """Return `encode_name` of these parts; what they have in common with the last name is kept."""
        if ms != self._body_ms:
            if not self._day_stop_ms - DAY_MS <= ms < self._day_stop_ms:
                self._day = day_of(ms)
                self._day_stop_ms = ms - ms % DAY_MS + DAY_MS
                self._heads.clear()
            high = (ms & self._wrap_mask) << 8 | self._node_id
            self._body_ms = ms
            self._body = f"{high:010X}"
            self._body_sum = sum(high.to_bytes(5, "big"))
        head = self._heads.get(prefix)
        if head is None:
            if len(self._heads) >= _PREFIXES_CACHED:
                self._heads.clear()
            head = self._heads[prefix] = f"{prefix}_{self._day}_("
        return f"{head}{self._body}{_HEX[seq]}_{_HEX[(self._body_sum + seq) & 0xFF]})"

    async def _next_tick(self) -> None:
        """Wait until the millisecond is over; waiters go on in the order they came, not all at once."""
        async with self._turn:
            while self._seq == SEQ_COUNT and self._clock.now_ms() == self._ms:
                await self._clock.sleep(_TICK_S)

    async def _wait_for_clock(self, waited_s: float) -> float:
        """Wait a little for the clock to catch up, and return how long."""
        behind_ms = self._ms + 1 - self._clock.now_ms()
        missing_s = (behind_ms - self._lead_max_ms) / 1000
        left_s = CLOCK_WAIT_MAX_S - waited_s
        if left_s <= 0:
            raise ClockBehindError(
                f"the clock is {behind_ms} ms behind names already given, at most {self._lead_max_ms} ms "
                "are allowed",
                retry_after_s=max(missing_s, CLOCK_WAIT_MAX_S),
                behind_ms=behind_ms,
            )
        wait_s = min(max(missing_s, _TICK_S), left_s)
        await self._clock.sleep(wait_s)
        return wait_s

    async def _reserved(self, attempt: int) -> None:
        """Wait for the reservation under way, or for a new one.

        One that took longer than it reserved is followed by one twice as far, so that it ends.
        """
        if self._reservation is None or self._reservation.done():
            far_ms = max(self._reserve_ahead_ms, self._lead_max_ms // 2)
            self._start_reservation(min(self._reserve_ahead_ms << min(attempt, 32), far_ms))
        assert self._reservation is not None
        await asyncio.shield(self._reservation)

    def _start_reservation(self, ahead_ms: int) -> None:
        """Begin to reserve `ahead_ms` past the present, unless a reservation is under way."""
        if self._reservation is not None and not self._reservation.done():
            return
        now_ms = self._clock.now_ms()
        next_ms = max(self._ms + 1, now_ms)
        # A successor that starts at the mark must not find itself past the lead it is allowed.
        mark_ms = max(min(next_ms + ahead_ms, now_ms + self._lead_max_ms), next_ms + 1)
        self._reservation = asyncio.create_task(self._make_durable(mark_ms))
        self._reservation.add_done_callback(self._end_reservation)

    async def _make_durable(self, mark_ms: int) -> None:
        assert self._reserve is not None
        await self._reserve(mark_ms)
        self._mark_ms = max(self._mark_ms, mark_ms)
        self._renew_ms = self._mark_ms - self._reserve_ahead_ms // 2

    def _end_reservation(self, task: asyncio.Task[None]) -> None:
        """Put off the next one after a failure; one that nobody waited for is met again at the mark."""
        if task.cancelled() or task.exception() is not None:
            self._retry_at_s = self._clock.monotonic() + self._reserve_ahead_ms / 8000
