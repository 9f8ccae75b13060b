"""The metrics of what a node looks at to know how it is: one series per check, their number fixed."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

STATE_VALUES: Final = {"ok": 1.0, "degraded": 0.5, "failed": 0.0}
"""What a state is shown as; one that was not looked at yet has no series."""


class HealthMetrics:
    """Gauges of one process's checks."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._up = Gauge(
            "des_health_check_up",
            "What the last look at a part found: 1 all well, 0.5 less than it should be, 0 failed.",
            ("check",),
            registry=registry,
        )
        self._seconds = Gauge(
            "des_health_check_seconds", "How long the last look took.", ("check",), registry=registry
        )
        self._failures = Counter(
            "des_health_check_failures_total", "Looks that found a failure.", ("check",), registry=registry
        )

    def looked(self, check: str, state: str, seconds: float) -> None:
        """Show what a look found."""
        self._up.labels(check).set(STATE_VALUES[state])
        self._seconds.labels(check).set(seconds)
        if state == "failed":
            self._failures.labels(check).inc()
