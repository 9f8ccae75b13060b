"""The metrics of durability `stored`: what was shipped and what waits for it."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge


class ShippingMetrics:
    """Counters and gauges of one node's shipper. They belong to no registry until `register`."""

    def __init__(self) -> None:
        self._segments = Counter(
            "des_shipped_segments_total", "Log segments recorded in the object store.", registry=None
        )
        self._files = Counter(
            "des_shipped_files_total", "Files of log segments recorded in the object store.", registry=None
        )
        self._bytes = Counter(
            "des_shipped_bytes_total", "Bytes of log segments recorded in the object store.", registry=None
        )
        self._failures = Counter(
            "des_shipping_failures_total", "Attempts to ship a segment that failed.", registry=None
        )
        self._waiting = Gauge("des_stored_waiting_files", "Files that wait to be shipped.", registry=None)
        self._unsealed = Gauge(
            "des_shipped_segments_unsealed",
            "Shipped segments with files that are in no container yet.",
            registry=None,
        )

    def register(
        self, registry: CollectorRegistry, *, waiting: Callable[[], int], unsealed: Callable[[], int]
    ) -> None:
        """Show the metrics in `registry`; once. The gauges ask the given functions."""
        self._waiting.set_function(waiting)
        self._unsealed.set_function(unsealed)
        for metric in (
            self._segments,
            self._files,
            self._bytes,
            self._failures,
            self._waiting,
            self._unsealed,
        ):
            registry.register(metric)

    def shipped(self, *, files: int, size: int) -> None:
        """Count a recorded segment."""
        self._segments.inc()
        self._files.inc(files)
        self._bytes.inc(size)

    def failed(self) -> None:
        """Count an attempt that failed."""
        self._failures.inc()
