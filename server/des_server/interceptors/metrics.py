"""The metrics of every call, under the names go-grpc-prometheus gave them, so that its dashboards fit.

Counted in plain numbers, which the event loop alone changes, and turned into Prometheus's values
when they are asked for: its own counters take a lock each, nine times a call.
"""

from collections.abc import Iterator
from typing import Final

import grpc
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from des.monitoring.plain_histogram import PlainHistogram

CODE_NAMES: Final[dict[grpc.StatusCode, str]] = {
    code: "OK" if code is grpc.StatusCode.OK else "".join(part.title() for part in code.name.split("_"))
    for code in grpc.StatusCode
} | {grpc.StatusCode.CANCELLED: "Canceled"}
"""Codes as Go spells them: `InvalidArgument`, `Canceled`, `OK`."""

BUCKETS_S: Final = (
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
    2.5,
    5.0,
    10.0,
    60.0,
)
"""Upper ends; a last bucket takes all that is slower."""

_LABELS: Final = ("grpc_type", "grpc_service", "grpc_method")


class MethodSeries:
    """The numbers of one method."""

    __slots__ = ("handled", "labels", "received", "seconds", "sent", "started")

    def __init__(self, labels: tuple[str, str, str]) -> None:
        self.labels = labels
        self.started = 0
        self.received = 0
        self.sent = 0
        self.handled = dict.fromkeys(CODE_NAMES.values(), 0)
        self.seconds = PlainHistogram(BUCKETS_S)

    def end(self, code: grpc.StatusCode, *, received: int, sent: int, seconds: float) -> None:
        """Count a call that has ended."""
        self.received += received
        self.sent += sent
        self.handled[CODE_NAMES[code]] += 1
        self.seconds.observe(seconds)


class GrpcMetrics(Collector):
    """The series of every method, in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._methods: list[MethodSeries] = []
        registry.register(self)

    def of(self, service: str, method: str, *, kind: str) -> MethodSeries:
        """Return a method's series, all 0; `kind` is "unary", "client_stream", ..."""
        self._methods.append(MethodSeries((kind, service, method)))
        return self._methods[-1]

    def collect(self) -> Iterator[Metric]:
        """Give the registry today's values."""
        started = CounterMetricFamily("grpc_server_started", "Calls begun.", labels=_LABELS)
        handled = CounterMetricFamily(
            "grpc_server_handled", "Calls ended, by status code.", labels=(*_LABELS, "grpc_code")
        )
        received = CounterMetricFamily("grpc_server_msg_received", "Messages received.", labels=_LABELS)
        sent = CounterMetricFamily("grpc_server_msg_sent", "Messages sent.", labels=_LABELS)
        handling = HistogramMetricFamily(
            "grpc_server_handling_seconds", "Time from a call's begin to its end.", labels=_LABELS
        )
        for method in self._methods:
            started.add_metric(method.labels, method.started)
            received.add_metric(method.labels, method.received)
            sent.add_metric(method.labels, method.sent)
            for code, count in method.handled.items():
                handled.add_metric((*method.labels, code), count)
            handling.add_metric(method.labels, method.seconds.buckets(), method.seconds.sum)
        yield from (started, handled, received, sent, handling)
