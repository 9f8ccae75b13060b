"""What a node counts of its cluster: shards, neighbours, calls sent on, files on their way home."""

from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from des.node import ClusterSide
from des_server.cluster.homecoming import Homecoming
from des_server.cluster.owners import Owners
from des_server.cluster.router import Router


class ClusterMetrics(Collector):
    """Reads the counts where they are kept, each time somebody looks."""

    def __init__(
        self, cluster: ClusterSide, router: Router, owners: Owners, homecoming: Homecoming, *, shard_bits: int
    ) -> None:
        self.cluster = cluster
        self.router = router
        self.owners = owners
        self.homecoming = homecoming
        self._shards = range(1 << shard_bits)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric. Costs a look at each shard in memory."""
        for name, text, read in GAUGES:
            yield GaugeMetricFamily(name, text, read(self))
        for name, text, read in COUNTERS:
            yield CounterMetricFamily(name, text, read(self))

    def own(self) -> list[int]:
        """Return the shards that this node serves."""
        return [shard for shard in self._shards if self.cluster.owns(shard)]

    def lost(self) -> list[int]:
        """Return, for each shard of ours that may lack files, how many those nodes told of that are away."""
        estates = filter(None, map(self.cluster.estates, self.own()))
        return [sum(estate.open_files for estate in of_shard) for of_shard in estates]


Reading: TypeAlias = tuple[str, str, Callable[[ClusterMetrics], float]]

GAUGES: Final[tuple[Reading, ...]] = (
    ("des_cluster_nodes", "Nodes that live and take shards.", lambda of: len(of.cluster.members())),
    ("des_cluster_shards", "Shards that this node serves.", lambda of: len(of.own())),
    (
        "des_cluster_lost_shards",
        "Shards of this node of which a node that is away may have files that lie nowhere else.",
        lambda of: len(of.lost()),
    ),
    (
        "des_cluster_lost_files",
        "How many files such nodes had open of these shards, as they last told.",
        lambda of: sum(of.lost()),
    ),
    (
        "des_cluster_foreign_files",
        "Files of this node's log that wait to be brought to their owners.",
        lambda of: len(of.cluster.foreign_files()),
    ),
    (
        "des_cluster_home_conflicts",
        "Files of them whose name stands for other content at the owner.",
        lambda of: of.homecoming.conflicts,
    ),
)
COUNTERS: Final[tuple[Reading, ...]] = (
    (
        "des_cluster_brought_home",
        "Files that were brought to their owners.",
        lambda of: of.homecoming.brought,
    ),
    (
        "des_cluster_forwarded",
        "Calls that were sent on to owners.",
        lambda of: of.router.forwarded + of.owners.forwarded,
    ),
    (
        "des_cluster_forward_failures",
        "Calls that could not be sent on.",
        lambda of: of.router.forward_failures + of.owners.forward_failures,
    ),
)
