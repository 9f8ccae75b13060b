"""The end of shipped segments: released when no file needs them, and removed when nobody can miss them."""

from collections.abc import Callable, Iterable
from typing import Final

import structlog

from des.clock import Clock
from des.cluster import NotShardOwnerError
from des.config import Settings
from des.db.catalog import Catalog, FencedError, ShardClaim
from des.db.rows import LogSegmentId, LogSegmentRow, LogSegmentState
from des.errors import DesError
from des.packer.shipments import Shipments
from des.storage.object_store import ObjectStore

_log = structlog.get_logger(__name__)

LOOK_S: Final = 60.0
"""How often, at most, released segments of other nodes are looked for."""


class ShippedRelease:
    """Cleans up behind a `LogShipper`."""

    def __init__(
        self,
        *,
        settings: Settings,
        shipments: Shipments,
        store: ObjectStore,
        catalog: Catalog,
        clock: Clock,
        claim: Callable[[Iterable[int]], ShardClaim],
    ) -> None:
        self._settings = settings
        self._shipments = shipments
        self._store = store
        self._catalog = catalog
        self._clock = clock
        self._claim = claim
        self._released: dict[LogSegmentId, tuple[float, LogSegmentRow]] = {}
        """Released segments, and when their objects may go (monotonic seconds)."""
        self._look_at = 0.0
        """When to look for released segments of others (monotonic seconds)."""

    async def run(self) -> None:
        """Repeat `step` until cancelled."""
        while True:
            await self._clock.sleep(self._settings.seal.check_interval_s)
            try:
                await self.step()
            except DesError as error:
                _log.warning("shipped segments not cleaned up, will be repeated", error=str(error))

    async def step(self) -> None:
        """Release the segments whose files are all in containers; remove objects released long enough ago.

        The object goes `log.reclaim_delay_s` after the row was released: a database that lost the
        release (failover to a replica that was behind) still finds it.

        Raises:
            DesError: the rest is done next time.
        """
        now = self._clock.monotonic()
        if now >= self._look_at:  # also those of nodes that ended before they removed them
            self._adopt(await self._catalog.log_segments(state=LogSegmentState.RELEASED))
            self._look_at = now + max(self._settings.log.reclaim_delay_s, LOOK_S)
        due = self._shipments.due()
        while due:
            shards = {shard for _, held in due for shard in held}
            try:
                rows = await self._catalog.release_log_segments(
                    [row.id for row, _ in due], sorted(shards), self._claim(sorted(shards))
                )
            except (FencedError, NotShardOwnerError) as error:
                lost = int(error.details.get("shard_id", -1))
                due = [(row, [shard for shard in held if shard != lost]) for row, held in due]
                due = [(row, held) for row, held in due if held]
                if lost not in shards:
                    raise
                continue
            self._shipments.forget(row.id for row, _ in due)
            self._adopt(row for row in rows if row.state is LogSegmentState.RELEASED)
            break
        for row in [row for remove_at, row in self._released.values() if remove_at <= now]:
            await self._store.delete(row.key, etag=row.etag)
            await self._catalog.drop_log_segments([row.id])
            del self._released[row.id]

    def _adopt(self, rows: Iterable[LogSegmentRow]) -> None:
        due = self._clock.monotonic() + self._settings.log.reclaim_delay_s
        for row in rows:
            self._released.setdefault(row.id, (due, row))
