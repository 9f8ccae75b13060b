"""The metrics of the workers that bring rows of source databases into the store; sources are labels."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class MarkerMetrics:
    """Counters of a process that marks rows."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._rows = Counter(
            "des_marker_rows_total",
            "Rows that got their name (marked) or can never be packed (failed).",
            ("source", "outcome"),
            registry=registry,
        )
        self._errors = Counter(
            "des_marker_errors_total", "Rounds that failed.", ("source",), registry=registry
        )
        self._up = Gauge(
            "des_marker_source_up",
            "1 when the last round of the source succeeded.",
            ("source",),
            registry=registry,
        )

    def round(self, source: str, *, marked: int, failed: int) -> None:
        """Count a round that succeeded."""
        self._rows.labels(source, "marked").inc(marked)
        self._rows.labels(source, "failed").inc(failed)
        self._up.labels(source).set(1)

    def error(self, source: str) -> None:
        """Count a round that failed."""
        self._errors.labels(source).inc()
        self._up.labels(source).set(0)


class IngestMetrics:
    """Counters of a process that packs rows."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._rows = Counter(
            "des_ingest_rows_total",
            "Rows by what became of them: claimed, appended, known (already in the store), packed, failed, "
            "postponed, gone, changed, lost.",
            ("source", "outcome"),
            registry=registry,
        )
        self._bytes = Counter(
            "des_ingest_fetched_bytes_total", "Bytes of objects fetched.", ("source",), registry=registry
        )
        self._seconds = Counter(
            "des_ingest_seconds_total",
            "Seconds that files spent in each step, added up over all files at once.",
            ("step",),
            registry=registry,
        )
        self._up = Gauge(
            "des_ingest_source_up",
            "1 when the source's database answered last time.",
            ("source",),
            registry=registry,
        )
        self.held = Gauge("des_ingest_rows_held", "Rows claimed and not yet packed.", registry=registry)

    def rows(self, source: str, outcome: str, count: int = 1) -> None:
        """Count rows."""
        if count:
            self._rows.labels(source, outcome).inc(count)

    def fetched(self, source: str, size: int) -> None:
        """Count the bytes of an object."""
        self._bytes.labels(source).inc(size)

    def spent(self, step: str, seconds: float) -> None:
        """Add time spent in "fetch" or "append"."""
        self._seconds.labels(step).inc(seconds)

    def up(self, source: str, *, answers: bool) -> None:
        """Say whether the source's database answers."""
        self._up.labels(source).set(answers)
