"""What a node counts of its cluster: shards, neighbours, calls sent on, files on their way home."""

from collections.abc import Iterator

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
        self._cluster = cluster
        self._router = router
        self._owners = owners
        self._homecoming = homecoming
        self._shards = range(1 << shard_bits)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric. Costs a look at each shard in memory."""
        own = [shard for shard in self._shards if self._cluster.owns(shard)]
        lost = {shard: estates for shard in own if (estates := self._cluster.estates(shard))}
        for name, text, value in (
            ("des_cluster_nodes", "Nodes that live and take shards.", len(self._cluster.members())),
            ("des_cluster_shards", "Shards that this node serves.", len(own)),
            (
                "des_cluster_lost_shards",
                "Shards of this node of which a node that is away may have files that lie nowhere else.",
                len(lost),
            ),
            (
                "des_cluster_lost_files",
                "How many files such nodes had open of these shards, as they last told.",
                sum(estate.open_files for estates in lost.values() for estate in estates),
            ),
            (
                "des_cluster_foreign_files",
                "Files of this node's log that wait to be brought to their owners.",
                len(self._cluster.foreign_files()),
            ),
            (
                "des_cluster_home_conflicts",
                "Files of them whose name stands for other content at the owner.",
                self._homecoming.conflicts,
            ),
        ):
            yield GaugeMetricFamily(name, text, value)
        for name, text, value in (
            (
                "des_cluster_brought_home",
                "Files that were brought to their owners.",
                self._homecoming.brought,
            ),
            (
                "des_cluster_forwarded",
                "Calls that were sent on to owners.",
                self._router.forwarded + self._owners.forwarded,
            ),
            (
                "des_cluster_forward_failures",
                "Calls that could not be sent on.",
                self._router.forward_failures + self._owners.forward_failures,
            ),
        ):
            yield CounterMetricFamily(name, text, value)
