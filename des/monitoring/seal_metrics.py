"""The metrics of seals: how many, why, how long, of how much. They belong to no registry until `register`."""

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

BUCKETS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class SealMetrics:
    """Counters of one packer."""

    def __init__(self) -> None:
        self._seals = Counter(
            "des_seals_total",
            "Attempts to make a container, by why it was due and what came of it: stored, failed (to be "
            "repeated), abandoned (its files are sealed anew).",
            ("reason", "outcome"),
            registry=None,
        )
        self._seconds = Histogram(
            "des_seal_seconds",
            "Time to build, upload, verify and record a container.",
            buckets=BUCKETS_S,
            registry=None,
        )
        self._files = Counter("des_sealed_files_total", "Files of containers stored.", registry=None)
        self._bytes = Counter("des_sealed_bytes_total", "Bytes of containers stored.", registry=None)
        self._pending = Gauge(
            "des_seals_pending", "Seals that are logged and not yet recorded.", registry=None
        )
        self._last_ms = Gauge(
            "des_last_seal_timestamp_seconds",
            "When a container was stored last, Unix time; 0 for not since the start.",
            registry=None,
        )

    def register(self, registry: CollectorRegistry, *, pending: Callable[[], int]) -> None:
        """Show the metrics in `registry`; once. `pending` gives the seals that wait."""
        self._pending.set_function(pending)
        for metric in (self._seals, self._seconds, self._files, self._bytes, self._pending, self._last_ms):
            registry.register(metric)

    def stored(self, reason: str, *, seconds: float, files: int, size: int, now_ms: int) -> None:
        """Count a container that was recorded."""
        self._seals.labels(reason, "stored").inc()
        self._seconds.observe(seconds)
        self._files.inc(files)
        self._bytes.inc(size)
        self._last_ms.set(now_ms / 1000)

    def missed(self, reason: str, outcome: str) -> None:
        """Count an attempt that made none: "failed" or "abandoned"."""
        self._seals.labels(reason, outcome).inc()
