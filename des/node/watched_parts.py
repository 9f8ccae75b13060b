"""What the metrics read of a node's parts when they are asked for."""

from des.core.index_cache import InMemoryIndexCache
from des.monitoring.log_fill import LogFill
from des.monitoring.log_metrics import Backlog, LogCounts
from des.monitoring.node_parts_metrics import CacheReading, PartsReading
from des.node.parts import Parts


class WatchedParts:
    """The parts of an open node, as `LogMetrics` and `NodePartsMetrics` look at them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    @property
    def counts(self) -> LogCounts:
        """See `WatchedLog.counts`."""
        return self._parts.log.counts

    @property
    def fill(self) -> LogFill:
        """See `WatchedLog.fill`."""
        return self._parts.log.fill

    @property
    def is_failed(self) -> bool:
        """See `WatchedLog.is_failed`."""
        return self._parts.log.failure is not None

    def backlog(self) -> Backlog:
        """See `WatchedLog.backlog`."""
        buckets = self._parts.open_index.buckets()
        now_ms = self._parts.doors.clock.now_ms()
        oldest_ms = min((bucket.oldest_ms for bucket in buckets), default=now_ms)
        return Backlog(
            files=sum(bucket.files for bucket in buckets),
            bytes=sum(bucket.data_bytes for bucket in buckets),
            oldest_s=max(0.0, (now_ms - oldest_ms) / 1000),
        )

    def read(self) -> PartsReading:
        """Return what the other parts say."""
        parts = self._parts
        locks = parts.lease.lock_reading()
        return PartsReading(
            caches=self._caches(),
            locks_held=locks.held,
            locks_lapsed=locks.lapsed,
            recovery=parts.recovery,
            gc_objects=parts.collector.deleted_objects,
            gc_bytes=parts.collector.deleted_bytes,
            gc_failures=parts.collector.failures,
        )

    def _caches(self) -> tuple[CacheReading, ...]:
        pages = self._parts.pages
        memory = pages if isinstance(pages, InMemoryIndexCache) else getattr(pages, "memory", None)
        caches = []
        if isinstance(memory, InMemoryIndexCache):
            caches.append(CacheReading("memory", memory.hits, memory.misses, memory.bytes))
        if pages is not memory:
            hits, misses = getattr(pages, "hits", 0), getattr(pages, "misses", 0)
            caches.append(CacheReading("redis", hits, misses, None))
        return tuple(caches)
