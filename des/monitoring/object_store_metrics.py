"""The metrics of an object store: counted from the first call, shown where a registry asks for them."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class ObjectStoreMetrics:
    """Counters of one object store. They belong to no registry until `register`."""

    def __init__(self) -> None:
        self._calls = Counter(
            "des_object_store_calls_total",
            "Calls to the object store, retries within one not counted.",
            ("operation", "outcome"),
            registry=None,
        )
        self._seconds = Histogram(
            "des_object_store_seconds",
            "How long calls to the object store took.",
            ("operation",),
            buckets=BUCKETS_S,
            registry=None,
        )
        self._bytes = Counter(
            "des_object_store_bytes_total",
            "Bytes of objects sent to and received from the object store.",
            ("direction",),
            registry=None,
        )

    def register(self, registry: CollectorRegistry) -> None:
        """Show the metrics in `registry`; once."""
        for metric in (self._calls, self._seconds, self._bytes):
            registry.register(metric)

    def called(self, operation: str, outcome: str, seconds: float) -> None:
        """Count one call."""
        self._calls.labels(operation, outcome).inc()
        self._seconds.labels(operation).observe(seconds)

    def moved(self, direction: str, size: int) -> None:
        """Count bytes, "sent" or "received"."""
        self._bytes.labels(direction).inc(size)
