"""The metrics of a node: every name stands here, and only here.

Passed as an object; the registry is the entry point's. No metric has a file name or a caller as a
label: their number has no bound.
"""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Gauge

from des.monitoring.file_counts import FileCounts


@dataclass(frozen=True, slots=True)
class NodeReading:
    """What is measured from time to time and not when it happens."""

    writable: bool
    readable: bool
    open_files: int
    open_bytes: int
    stored_files: int
    stored_bytes: int
    containers: int
    oldest_open_age_s: float
    """Age of the oldest file that is in no container yet; 0 when there is none."""


class NodeMetrics:
    """Counters and gauges of one node."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._files = FileCounts(registry)
        self.upload_bytes_in_flight = Gauge(
            "des_upload_bytes_in_flight", "Bytes of uploads held in memory.", registry=registry
        )
        self.calls_in_flight = Gauge("des_calls_in_flight", "Calls being served.", registry=registry)
        self.loop_lag = Gauge(
            "des_loop_lag_seconds", "How late the event loop woke at its last check.", registry=registry
        )
        self.insecure = Gauge(
            "des_insecure_plaintext", "1 while listening beyond loopback without TLS.", registry=registry
        )
        self._writable = Gauge("des_writable", "1 while the node takes files.", registry=registry)
        self._readable = Gauge("des_readable", "1 while the node gives files.", registry=registry)
        self._open_files = Gauge("des_open_files", "Files in no container yet.", registry=registry)
        self._open_bytes = Gauge("des_open_bytes", "Bytes of files in no container yet.", registry=registry)
        self._stored_files = Gauge("des_stored_files", "Files in stored containers.", registry=registry)
        self._stored_bytes = Gauge(
            "des_stored_bytes", "Bytes of files in stored containers.", registry=registry
        )
        self._containers = Gauge("des_containers", "Stored containers.", registry=registry)
        self._oldest_open_age = Gauge(
            "des_oldest_open_age_seconds", "Age of the oldest file in no container yet.", registry=registry
        )

    def put(self, *, size: int, already_existed: bool) -> None:
        """Count an acknowledged file."""
        counts = self._files
        counts.put_files[already_existed] += 1
        if not already_existed:
            counts.put_bytes += size

    def put_many(self, *, new: int, repeated: int, new_bytes: int) -> None:
        """Count the acknowledged files of a batch."""
        counts = self._files
        counts.put_files[False] += new
        counts.put_files[True] += repeated
        counts.put_bytes += new_bytes

    def got(self, *, size: int, requests: int, stored_bytes: int) -> None:
        """Count a file, or a window of one, that was sent, and what it took from the object store."""
        counts = self._files
        counts.get_files += 1
        counts.get_bytes += size
        if requests:
            counts.read_requests += requests
            counts.read_bytes += stored_bytes

    def got_many(self, *, files: int, size: int, requests: int, stored_bytes: int) -> None:
        """Count the files of a batch that were sent, and what they took from the object store."""
        counts = self._files
        counts.get_files += files
        counts.get_bytes += size
        counts.read_requests += requests
        counts.read_bytes += stored_bytes

    def totals(self) -> tuple[int, int, int, int]:
        """Return (files put, bytes put, files got, bytes got), all since the start of the process."""
        counts = self._files
        return sum(counts.put_files.values()), counts.put_bytes, counts.get_files, counts.get_bytes

    def show(self, reading: NodeReading) -> None:
        """Set the gauges."""
        self._writable.set(reading.writable)
        self._readable.set(reading.readable)
        self._open_files.set(reading.open_files)
        self._open_bytes.set(reading.open_bytes)
        self._stored_files.set(reading.stored_files)
        self._stored_bytes.set(reading.stored_bytes)
        self._containers.set(reading.containers)
        self._oldest_open_age.set(reading.oldest_open_age_s)
