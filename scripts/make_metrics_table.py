"""Make docs/metrics.md from the metrics themselves; with `--check`, say whether it is what they are."""

import asyncio
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from des_server.app import build_server
from des_server.cluster.cluster_metrics import COUNTERS, GAUGES
from des_server.cluster.worker_metrics import WORKERS, WORKERS_SERVING
from prometheus_client import CollectorRegistry

from des.config import Settings
from des.monitoring.ingest_metrics import IngestMetrics, MarkerMetrics
from des.node import Node

TABLE: Final = Path(__file__).parent.parent / "docs" / "metrics.md"
HEAD: Final = """# Metrics

Every series of `/metrics`. Made from the code by `scripts/make_metrics_table.py`; a test holds the two
together. No label holds a file's name, a caller or anything else without a bound. Dashboards and alert rules
over them: `docker/grafana`, `docker/prometheus`, [runbook](runbook.md). Where several workers stand behind
one port, each series but `des_workers` and `des_workers_serving` has the label `worker` too.

| series | kind | labels | |
| --- | --- | --- | --- |
"""


@dataclass(frozen=True, order=True)
class Series:
    """A family of series."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str

    def names(self) -> list[str]:
        """Return the names under which its samples are found."""
        if self.kind == "histogram":
            return [f"{self.name}{end}" for end in ("_bucket", "_count", "_sum")]
        return [self.name]

    def row(self) -> str:
        """Return its line of the table."""
        labels = ", ".join(f"`{label}`" for label in self.labels)
        return f"| `{self.name}` | {self.kind} | {labels} | {self.text} |\n"


def series_of(registry: CollectorRegistry) -> Iterator[Series]:
    """Yield every family that a registry shows, those without a sample yet too."""
    for collector in list(registry._collector_to_names):  # noqa: SLF001  a family without samples tells no labels
        for family in collector.collect():
            labels = getattr(collector, "_labelnames", None) or getattr(family, "_labelnames", ())
            ending = {"counter": "_total", "info": "_info"}.get(family.type, "")
            kind = "gauge" if family.type == "info" else family.type
            if family.type == "info":
                labels = sorted({label for sample in family.samples for label in sample.labels})
            yield Series(f"{family.name}{ending}", kind, tuple(labels), family.documentation)


def series_of_many() -> Iterator[Series]:
    """Yield what only nodes of a cluster show, and only several workers behind one port."""
    for name, text, _ in GAUGES:
        yield Series(name, "gauge", (), text)
    for name, text, _ in COUNTERS:
        yield Series(f"{name}_total", "counter", (), text)
    for name, text in (WORKERS, WORKERS_SERVING):
        yield Series(name, "gauge", (), text)


async def all_series() -> list[Series]:
    """Return the series of a real server, of a packer and of a marker, by name."""
    registry = CollectorRegistry()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            data_dir=Path(folder), listen="127.0.0.1:0", http_listen="127.0.0.1:0", shard_bits=1,
            log={"reserve_free_bytes": 0, "segment_bytes": 1 << 20},
        )  # fmt: skip
        node = await Node.open(settings)
        try:
            server = build_server(node, settings, registry=registry)
            await server.start()
            IngestMetrics(registry)
            MarkerMetrics(registry)
            found = sorted([*series_of(registry), *series_of_many()])
            await server.stop()
        finally:
            await node.close()
    return found


def table(found: list[Series]) -> str:
    """Return the page."""
    return HEAD + "".join(one.row() for one in found)


def main(arguments: list[str]) -> int:
    """Write the page, or compare it."""
    wanted = table(asyncio.run(all_series()))
    if arguments == ["--check"]:
        if TABLE.read_text() != wanted:
            print(f"{TABLE.name} is not what the metrics are: run scripts/make_metrics_table.py")
            return 1
        return 0
    TABLE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
