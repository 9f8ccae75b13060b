"""What this node knows of shards: which it serves, what they hold open, how they are."""

from collections.abc import Sequence

from des.db.catalog import ShardTotals
from des.node.parts import Parts
from des.node.shard_status import ShardNotFoundError, ShardStatus


class OwnShards:
    """The shards of the store as this node sees them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._count = 1 << parts.settings.shard_bits

    def check(self, shard: int) -> None:
        """Refuse a number that no shard has.

        Raises:
            ShardNotFoundError: it is one.
        """
        if not 0 <= shard < self._count:
            raise ShardNotFoundError(
                f"shard {shard} does not exist, the store has {self._count} from 0 on",
                shard_id=shard,
                shard_count=self._count,
            )

    def tenures(self) -> dict[int, int]:
        """Return the shards that are served now, each with the epoch of its lock."""
        cluster = self._parts.cluster
        return {
            shard: lock.epoch
            for shard, lock in self._parts.lease.locks.items()
            if cluster is None or cluster.owns(shard)
        }

    def open_counts(self) -> dict[int, int]:
        """Return how many files each shard has open that no seal has taken yet."""
        counts: dict[int, int] = {}
        for bucket in self._parts.open_index.buckets():
            counts[bucket.shard] = counts.get(bucket.shard, 0) + bucket.files
        return counts

    async def status(self, shards: Sequence[int] | None) -> list[ShardStatus]:
        """Return the state of the given shards, or of all, by number.

        Raises:
            ShardNotFoundError: no such shard.
            CatalogUnavailableError: what is stored is not known now.
        """
        for shard in shards or ():
            self.check(shard)
        totals = ShardTotals.merged(
            await self._parts.doors.catalog.shard_totals(), bits=self._parts.settings.shard_bits
        )
        oldest: dict[int, int] = {}
        for bucket in self._parts.open_index.buckets():
            oldest[bucket.shard] = min(bucket.oldest_ms, oldest.get(bucket.shard, bucket.oldest_ms))
        wanted = sorted(set(shards)) if shards is not None else range(self._count)
        return [self._status(shard, totals.get(shard), oldest.get(shard)) for shard in wanted]

    def _status(self, shard: int, totals: ShardTotals | None, oldest_ms: int | None) -> ShardStatus:
        parts = self._parts
        files, data_bytes = parts.open_index.shard_counts(shard)
        state = "sealing" if parts.packer.is_sealing(shard) else "active"
        if parts.log.failure is not None:
            state = "read_only"
        lock = parts.lease.lock(shard)
        age = None if oldest_ms is None else max(0.0, (parts.doors.clock.now_ms() - oldest_ms) / 1000)
        status = ShardStatus(
            shard=shard,
            state=state,
            owner=str(parts.directory.node_uuid),
            epoch=0 if lock is None else lock.epoch,
            open_files=files,
            open_bytes=data_bytes,
            stored_files=totals.files if totals else 0,
            stored_bytes=totals.data_bytes if totals else 0,
            containers=totals.containers if totals else 0,
            oldest_open_age_s=age,
            last_seal_ms=parts.packer.last_seal_ms.get(shard, totals.last_stored_ms if totals else None),
            last_heartbeat_ms=0 if lock is None else lock.heartbeat_ms,
            last_error=str(parts.log.failure or "")
            or parts.packer.last_error(shard)
            or parts.shipper.last_error,
        )
        return status if parts.cluster is None else parts.cluster.describe(status)
