"""The metrics of parts that keep their own numbers: caches, shard locks, the last recovery, garbage."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class CacheReading:
    """The numbers of one cache of index pages."""

    tier: str
    """"memory" or "redis"."""
    hits: int
    misses: int
    held_bytes: int | None
    """None where it is not this process's."""


@dataclass(frozen=True, slots=True)
class RecoveryReading:
    """What the start of this process found in the log."""

    seconds: float
    open_files: int
    repeated_seals: int
    replayed_files: int
    damaged_places: int


@dataclass(frozen=True, slots=True)
class PartsReading:
    """What the parts say now."""

    caches: tuple[CacheReading, ...]
    locks_held: int
    locks_lapsed: int
    recovery: RecoveryReading
    gc_objects: int
    gc_bytes: int
    gc_failures: int


class NodePartsMetrics(Collector):
    """Asks the parts when the registry is asked."""

    def __init__(
        self, registry: CollectorRegistry, read: Callable[[], PartsReading], *, version: str
    ) -> None:
        self._read = read
        self._version = version
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Give the registry today's values."""
        now = self._read()
        yield InfoMetricFamily("des_build", "The software.", value={"version": self._version})
        looks = CounterMetricFamily(
            "des_index_cache_requests", "Pages of indexes asked for.", labels=("tier", "result")
        )
        held = GaugeMetricFamily("des_index_cache_bytes", "Memory that pages take.", labels=("tier",))
        for cache in now.caches:
            looks.add_metric((cache.tier, "hit"), cache.hits)
            looks.add_metric((cache.tier, "miss"), cache.misses)
            if cache.held_bytes is not None:
                held.add_metric((cache.tier,), cache.held_bytes)
        yield from (looks, held)
        for name, text, value in (
            ("des_shard_locks_held", "Shards that this node holds.", now.locks_held),
            ("des_shard_locks_lapsed", "Shards whose lock was not renewed in time.", now.locks_lapsed),
            ("des_recovery_seconds", "How long the start took to recover.", now.recovery.seconds),
            ("des_recovery_open_files", "Files that the start found in the log.", now.recovery.open_files),
            (
                "des_recovery_repeated_seals",
                "Seals that the start had to finish.",
                now.recovery.repeated_seals,
            ),
            (
                "des_recovery_replayed_files",
                "Files that the start took from shipped logs.",
                now.recovery.replayed_files,
            ),
            (
                "des_recovery_damaged_places",
                "Damage that the start found in the log.",
                now.recovery.damaged_places,
            ),
        ):
            yield GaugeMetricFamily(name, text, value=value)
        for name, text, count in (
            ("des_gc_deleted_objects", "Objects that garbage collection removed.", now.gc_objects),
            ("des_gc_deleted_bytes", "Bytes that garbage collection removed.", now.gc_bytes),
            ("des_gc_failures", "Collections that were refused or failed.", now.gc_failures),
        ):
            yield CounterMetricFamily(name, text, value=count)
