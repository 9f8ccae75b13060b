"""The metrics of an ingest log: counted per group, in plain numbers, and read when they are asked for."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from des.monitoring.log_fill import LogFill
from des.monitoring.plain_histogram import PlainHistogram

SYNC_ENDS_S: Final = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    5.0,
)
RECORD_ENDS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0)


class LogCounts:
    """What a log counts of itself."""

    def __init__(self) -> None:
        self.sync_s = PlainHistogram(SYNC_ENDS_S)
        """How long the write and sync of each group took."""
        self.records = PlainHistogram(RECORD_ENDS)
        """Records of each group."""
        self.bytes = 0
        """Bytes of groups written."""
        self.refused = 0
        """Records refused for want of room."""
        self.waited_s = 0.0
        """How long writes waited, all together, because seals did not keep up."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a log holds that no container has yet."""

    files: int
    bytes: int
    oldest_s: float
    """Age of the oldest file; 0 when there is none."""


class WatchedLog(Protocol):
    """What the metrics ask of a log's node."""

    @property
    def counts(self) -> LogCounts:
        """What it counted."""
        ...

    @property
    def fill(self) -> LogFill:
        """What it holds of what it may hold."""
        ...

    @property
    def is_failed(self) -> bool:
        """Whether it takes no writes for good."""
        ...

    def backlog(self) -> Backlog:
        """Return what waits for a seal."""
        ...


class LogMetrics(Collector):
    """A log's numbers in one registry."""

    def __init__(self, registry: CollectorRegistry, log: WatchedLog) -> None:
        self._log = log
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Give the registry today's values."""
        log, counts, backlog = self._log, self._log.counts, self._log.backlog()
        fill = log.fill
        for name, text, histogram in (
            ("des_log_sync_seconds", "Time to write a group of records and sync it.", counts.sync_s),
            ("des_log_group_records", "Records of a group.", counts.records),
        ):
            yield HistogramMetricFamily(name, text, buckets=histogram.buckets(), sum_value=histogram.sum)
        yield CounterMetricFamily("des_log_written_bytes", "Bytes of groups written.", value=counts.bytes)
        yield CounterMetricFamily(
            "des_log_refused_records", "Records refused for want of room.", value=counts.refused
        )
        yield CounterMetricFamily(
            "des_log_waited_seconds",
            "Time that writes waited, all together, because seals did not keep up.",
            value=counts.waited_s,
        )
        for name, text, value in (
            ("des_log_bytes", "Disk the log takes, reserved room included.", fill.bytes_used),
            ("des_log_budget_bytes", "Disk the log may take (log.budget_bytes).", fill.bytes_max),
            ("des_log_records", "Records of the log; each takes memory.", fill.records),
            ("des_log_max_records", "Records the log may hold (log.records_max).", fill.records_max),
            ("des_log_failed", "1 when the log takes no writes until a restart.", log.is_failed),
            ("des_log_backlog_files", "Files of the log that no seal has taken.", backlog.files),
            ("des_log_backlog_bytes", "Bytes of files of the log that no seal has taken.", backlog.bytes),
            (
                "des_log_oldest_unstored_seconds",
                "Age of the oldest file of the log that no seal has taken.",
                backlog.oldest_s,
            ),
        ):
            yield GaugeMetricFamily(name, text, value=value)
