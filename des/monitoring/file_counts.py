"""What each put and get is counted in: plain numbers, which the event loop alone changes.

Turned into Prometheus's values when they are asked for: its own counters take a lock each, four times a get.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector


class FileCounts(Collector):
    """The numbers, in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.put_files = {True: 0, False: 0}
        """Files acknowledged, by whether they existed before."""
        self.put_bytes = 0
        self.get_files = 0
        self.get_bytes = 0
        self.read_requests = 0
        self.read_bytes = 0
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Give the registry today's values."""
        put_files = CounterMetricFamily("des_put_files", "Files acknowledged.", labels=("already_existed",))
        for already_existed, count in self.put_files.items():
            put_files.add_metric((str(already_existed).lower(),), count)
        yield put_files
        for name, text, count in (
            ("des_put_bytes", "Bytes of files acknowledged as new.", self.put_bytes),
            ("des_get_files", "Files, or windows of files, sent.", self.get_files),
            ("des_get_bytes", "Bytes of files sent.", self.get_bytes),
            (
                "des_read_object_store_requests",
                "Requests that reads made to the object store.",
                self.read_requests,
            ),
            ("des_read_object_store_bytes", "Bytes that reads took from the object store.", self.read_bytes),
        ):
            yield CounterMetricFamily(name, text, value=count)
