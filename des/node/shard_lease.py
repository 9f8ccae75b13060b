"""This node's hold on its shards: the lock epochs it shows at every catalog write (DESIGN §7)."""

import asyncio
from collections.abc import Iterable
from typing import Final

import structlog

from des.clock import Clock
from des.cluster import LockReading
from des.db.catalog import Catalog, ShardClaim, ShardLock, ShardRun
from des.errors import DesError

_log = structlog.get_logger(__name__)

LOCK_TTL_S: Final = 30.0
"""Courtesy to other nodes, not safety: the epoch is what every write re-checks."""


class ShardLease:
    """Holds every shard of an embedded store, whose directory lock already keeps others out."""

    def __init__(self, *, catalog: Catalog, holder: str, shard_bits: int, clock: Clock) -> None:
        self._catalog = catalog
        self._holder = holder
        self._bits = shard_bits
        self._clock = clock
        self.locks: dict[int, ShardLock] = {}
        """Shard to its lock as last seen."""
        self._renewed_at = clock.monotonic()

    async def acquire(self) -> None:
        """Take every shard, raising its epoch above that of any earlier process."""
        taken = await self._catalog.acquire_shards(
            range(1 << self._bits), holder=self._holder, ttl_s=LOCK_TTL_S, force=True
        )
        self.locks = {lock.shard: lock for lock in taken}
        self._renewed_at = self._clock.monotonic()

    def claim(self, run: ShardRun) -> ShardClaim:
        """Return what a write for these shards, of whatever bits, has to show."""
        return self.claim_of(run.shards(self._bits))

    def claim_of(self, shards: Iterable[int]) -> ShardClaim:
        """Return what a write for these shards has to show."""
        return ShardClaim(self._holder, [(shard, self.locks[shard].epoch) for shard in shards], self._bits)

    def holds(self, shard: int) -> bool:
        """Whether this node owns the shard, as far as it knows."""
        return shard in self.locks

    def owns_run(self, run: ShardRun) -> bool:  # noqa: ARG002  every one
        """Return True: this node holds every shard."""
        return True

    def may_seal(self, run: ShardRun) -> bool:  # noqa: ARG002  every one
        """Return True: no shard ever goes to another node."""
        return True

    def lock(self, shard: int) -> ShardLock | None:
        """Return the lock of a shard, as last seen."""
        return self.locks[shard]

    async def run(self) -> None:
        """Renew until cancelled; a renewal that fails is tried again, and writes stay guarded by epoch."""
        while True:
            await self._clock.sleep(LOCK_TTL_S / 3)
            begun = self._clock.monotonic()
            try:
                held = await self._catalog.renew_shards(self._whole(), ttl_s=LOCK_TTL_S)
            except DesError as error:
                _log.warning("shard locks not renewed", error=str(error))
                continue
            self.locks.update({lock.shard: lock for lock in held})
            self._renewed_at = begun

    def lock_reading(self) -> LockReading:
        """Return how many shards are held, and of how many the locks have expired."""
        late = self._clock.monotonic() - self._renewed_at > LOCK_TTL_S
        return LockReading(len(self.locks), len(self.locks) if late else 0)

    async def release(self) -> None:
        """Let go of every shard; a catalog that does not answer lets the locks expire."""
        try:
            async with asyncio.timeout(LOCK_TTL_S / 3):
                await self._catalog.release_shards(self._whole())
        except (DesError, TimeoutError) as error:
            _log.warning("shard locks not released, they expire", error=str(error))

    def _whole(self) -> ShardClaim:
        return self.claim(ShardRun(0, 1 << self._bits, self._bits))
