"""Writes that come faster than seals empty the log wait a little each, before it is full.

A sweep of seals frees nothing before its end: every segment holds files of all shards. So what room is
left is spread over the time that the rest of the sweep takes, and writers slow down to that instead of
running into a full log and standing still.
"""

import math
from typing import Final, NoReturn

from des.clock import Clock
from des.config import LogSettings
from des.errors import UnavailableError
from des.ingest.log import IngestLog
from des.ingest.open_index import OpenIndex
from des.packer.multi_shard_packer import MultiShardPacker
from des.packer.seal_plan import BUDGET_HIGH

LOOK_S: Final = 0.1
"""How often the pace is worked out anew, and a waiting write looks whether it still has to."""
TICK_S: Final = 1e-4
"""Shorter waits are owed to the next write."""
RECLAIM_S: Final = 2.0
"""Between the end of a sweep and the room it makes: the room left is never spent faster than in this time."""
NEARLY_NOTHING: Final = 1e-9


class LogBackpressureError(UnavailableError):
    """Seals do not keep up with what is written. Nothing was written; a moment later there is room."""

    reason = "SHARD_BACKPRESSURE"


class Backpressure:
    """Holds writes back while a sweep of seals empties a log that is three quarters full."""

    def __init__(
        self,
        *,
        log: IngestLog,
        open_index: OpenIndex,
        packer: MultiShardPacker,
        clock: Clock,
        settings: LogSettings,
        wait_max_s: float,
    ) -> None:
        """Connect the parts; a write that would have to wait longer than `wait_max_s` is refused."""
        self._segment_bytes = int(settings.segment_bytes)
        self._log = log
        self._open_index = open_index
        self._packer = packer
        self._clock = clock
        self._wait_max_s = wait_max_s
        self._per_s = 0.0
        """Share of the log that may be written in a second."""
        self._looked_at = -math.inf
        self._free_at = 0.0
        """When the next write may begin, monotonic."""

    @property
    def _full(self) -> float:
        """Share from which the log has no room for another segment."""
        return 1 - self._segment_bytes / self._log.fill.bytes_limit

    async def admit(self, records: int, data_bytes: int) -> None:
        """Return when so much may be written: at once, but for a log that seals cannot keep empty.

        While seals fail nobody waits: what room there is serves best as long as it lasts.

        Raises:
            LogBackpressureError: it would have to wait too long.
        """
        if self._log.fullness <= BUDGET_HIGH or not self._packer.is_emptying:
            self._free_at = 0.0
            return
        begun = self._clock.monotonic()
        share = self._log.fill.share(records=records, data_bytes=data_bytes)
        until = begun + self._book(begun, share)
        try:
            while (left_s := until - self._clock.monotonic()) > TICK_S and self._log.fullness > BUDGET_HIGH:
                await self._clock.sleep(min(left_s, LOOK_S))
        finally:
            self._log.counts.waited_s += self._clock.monotonic() - begun
        if self._log.fullness + share > self._full and self._packer.is_emptying:
            self._refuse()  # sooner than the log would, which takes a full disk for the cause

    def _book(self, now: float, share: float) -> float:
        """Take the next turn; return how far off its end is, in seconds."""
        if now >= self._looked_at + LOOK_S:
            self._per_s, self._looked_at = self._pace(), now
        begins = max(now, self._free_at)
        if begins - now > self._wait_max_s:
            self._refuse()
        # One very large write, or a pace of nearly nothing, must not close the door for longer than a wait.
        self._free_at = begins + min(share / max(self._per_s, NEARLY_NOTHING), self._wait_max_s)
        return self._free_at - now

    def _refuse(self) -> NoReturn:
        self._log.counts.refused += 1
        raise LogBackpressureError(
            f"the ingest log is {self._log.fullness:.0%} full and seals do not keep up: a write would wait "
            f"more than {self._wait_max_s:g} s",
            buffered_bytes=self._open_index.data_bytes,
        )

    def _pace(self) -> float:
        fill = self._log.fill
        to_seal = fill.share(records=len(self._open_index), data_bytes=self._open_index.data_bytes)
        sweep_s = max(to_seal / max(self._packer.pace.per_s, NEARLY_NOTHING), RECLAIM_S)
        return max(0.0, self._full - fill.fullness) / sweep_s
