"""The metrics of every call, under the names go-grpc-prometheus gave them, so that its dashboards fit.

Each method's series are made once and kept, since looking a label up costs more than counting.
"""

from dataclasses import dataclass
from typing import Final

import grpc
from prometheus_client import CollectorRegistry, Counter, Histogram

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


@dataclass(frozen=True, slots=True)
class MethodSeries:
    """The series of one method."""

    started: Counter
    received: Counter
    sent: Counter
    handling: Histogram
    handled: dict[grpc.StatusCode, Counter]


class GrpcMetrics:
    """The series of every method, in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("grpc_type", "grpc_service", "grpc_method")
        self._started = Counter("grpc_server_started_total", "Calls begun.", labels, registry=registry)
        self._handled = Counter(
            "grpc_server_handled_total",
            "Calls ended, by status code.",
            (*labels, "grpc_code"),
            registry=registry,
        )
        self._received = Counter(
            "grpc_server_msg_received_total", "Messages received.", labels, registry=registry
        )
        self._sent = Counter("grpc_server_msg_sent_total", "Messages sent.", labels, registry=registry)
        self._handling = Histogram(
            "grpc_server_handling_seconds",
            "Time from a call's begin to its end.",
            labels,
            registry=registry,
            buckets=BUCKETS_S,
        )

    def of(self, service: str, method: str, *, kind: str) -> MethodSeries:
        """Return a method's series, made with value 0; `kind` is "unary", "client_stream", ..."""
        labels = (kind, service, method)
        return MethodSeries(
            started=self._started.labels(*labels),
            received=self._received.labels(*labels),
            sent=self._sent.labels(*labels),
            handling=self._handling.labels(*labels),
            handled={code: self._handled.labels(*labels, name) for code, name in CODE_NAMES.items()},
        )
