"""What a node tells the catalog of its open containers: counts and bytes of each shard and day.

Nothing is decided by these rows: the log is the truth, and a restart counts it anew. They say, of a node
that does not answer, how much it had that is in no container.
"""

from collections.abc import Callable, Collection, Mapping
from typing import TypeAlias

import structlog

from des.clock import Clock
from des.db.catalog import Catalog, ShardClaim
from des.db.rows import OpenContainer
from des.errors import DesError
from des.ingest.open_index import BucketCounts, OpenIndex

_log = structlog.get_logger(__name__)

Tenures: TypeAlias = Mapping[int, int]
"""Shard to the epoch in which this node serves it."""


class OpenCheckpoint:
    """Keeps the open rows of a node's shards up to date, one transaction for all that changed."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        open_index: OpenIndex,
        clock: Clock,
        node: str,
        shard_bits: int,
        interval_s: float,
        tenures: Callable[[], Tenures],
        claim_of: Callable[[Collection[int]], ShardClaim],
    ) -> None:
        """Tell nothing yet.

        Args:
            catalog: is told.
            open_index: is counted.
            clock: paces it.
            node: UUID of the node, as the rows name it.
            shard_bits: of the store.
            interval_s: least time between two checkpoints; 0 for none at all.
            tenures: the shards that this node serves now.
            claim_of: returns what a write for some shards has to show.
        """
        self._catalog = catalog
        self._open_index = open_index
        self._clock = clock
        self._node = node
        self._bits = shard_bits
        self._interval_s = interval_s
        self._tenures = tenures
        self._claim_of = claim_of
        self._told: dict[int, tuple[int, tuple[BucketCounts, ...]]] = {}
        """Shard to the epoch and the counts that the catalog was told last."""
        self._next_at = clock.monotonic()

    async def keep(self) -> None:
        """Tell what changed, if the last time is long enough ago. A failure is logged, and told next time.

        Costs one transaction, and none where nothing changed.
        """
        now = self._clock.monotonic()
        if not self._interval_s or now < self._next_at:
            return
        self._next_at = now + self._interval_s
        counts: dict[int, tuple[BucketCounts, ...]] = {}
        for bucket in self._open_index.buckets():
            counts[bucket.shard] = (*counts.get(bucket.shard, ()), bucket)
        tenures = self._tenures()
        self._told = {shard: told for shard, told in self._told.items() if shard in tenures}
        # A shard that was just taken is told in any case: what its last holder said is out of date.
        due = {shard: (epoch, counts.get(shard, ())) for shard, epoch in tenures.items()}
        changed = {shard: told for shard, told in due.items() if self._told.get(shard) != told}
        if not changed:
            return
        rows = [self._row(bucket) for _, buckets in changed.values() for bucket in buckets]
        try:
            await self._catalog.checkpoint_open(rows, self._claim_of(sorted(changed)))
        except DesError as error:
            _log.info("open containers not told to the catalog", shards=len(changed), error=str(error))
        else:
            self._told |= changed

    def _row(self, bucket: BucketCounts) -> OpenContainer:
        return OpenContainer(
            day=f"{bucket.day:08}",
            shard=bucket.shard,
            bits=self._bits,
            files=bucket.files,
            data_bytes=bucket.data_bytes,
            oldest_ms=bucket.oldest_ms,
            node=self._node,
        )
