"""The metrics of all workers as one page: every sample with its worker's number."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

WORKER_LABEL: Final = "worker"


WORKERS: Final = ("des_workers", "Processes that shall serve behind one port (setting workers).")
WORKERS_SERVING: Final = (
    "des_workers_serving",
    "Of them, those that answered when the metrics were asked for.",
)


def merge_metrics(texts: Mapping[int, str], *, count: int) -> bytes:
    """Return the pages of those of `count` workers that answered, by number, as one page."""
    registry = CollectorRegistry(auto_describe=False)
    for (name, text), value in ((WORKERS, count), (WORKERS_SERVING, len(texts))):
        Gauge(name, text, registry=registry).set(value)
    registry.register(_Merged(texts))
    return generate_latest(registry)


class _Merged(Collector):
    def __init__(self, texts: Mapping[int, str]) -> None:
        self._texts = texts

    def collect(self) -> Iterator[Metric]:
        """Yield every family once, with the samples of all workers."""
        merged: dict[str, Metric] = {}
        for number, text in self._texts.items():
            for family in _families(text):
                whole = merged.get(family.name)
                if whole is None:
                    whole = merged[family.name] = Metric(family.name, family.documentation, family.type)
                for sample in family.samples:
                    labels = {**sample.labels, WORKER_LABEL: str(number)}
                    whole.samples.append(Sample(sample.name, labels, sample.value))
        yield from merged.values()


def _families(text: str) -> Iterable[Metric]:
    families: Iterable[Metric] = text_string_to_metric_families(text)
    return families
