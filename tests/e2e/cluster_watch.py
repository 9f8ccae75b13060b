"""A client that follows the states of all shards through everything that happens to a cluster."""

import asyncio
import time

from des_client import AsyncDesClient, DesClientError, RetryConfig
from des_client.types import ShardInfo

from tests.e2e.cluster_kit import SETTLE_S, Cluster
from tests.e2e.cluster_traffic import Traffic


class ShardFollower:
    """Knows of the shards what `watch_shards` told, at whichever node the watch was."""

    def __init__(self, cluster: Cluster, traffic: Traffic) -> None:
        self._cluster = cluster
        self._traffic = traffic
        self._known: dict[int, ShardInfo] = {}
        self._told = asyncio.Event()

    async def run(self) -> None:
        """Follow until cancelled."""
        retry = RetryConfig(attempts=12, backoff_max_s=1.0)
        async with AsyncDesClient(self._cluster.targets, retry=retry) as client:
            while True:
                self._traffic.kinds["watch"] += 1
                try:
                    async for update in client.watch_shards():
                        if update.snapshot:
                            self._known.clear()
                        self._known.update((one.shard_id, one) for one in update.shards)
                        self._told.set()
                except DesClientError as error:
                    self._traffic.failed("watch", error)

    async def differences(self) -> list[str]:
        """Wait until what was told is what the owners say; return how it differs if that does not come.

        Meant for a cluster in which nothing changes any more.
        """
        deadline = time.monotonic() + SETTLE_S
        async with AsyncDesClient(self._cluster.targets) as client:
            while True:
                self._told.clear()
                asked = {one.shard_id: _essence(one) for one in await client.shard_status()}
                told = {shard: _essence(one) for shard, one in self._known.items()}
                if asked == told:
                    return []
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    break
                try:
                    await asyncio.wait_for(self._told.wait(), min(left_s, 2.0))
                except TimeoutError:
                    continue
        return [
            f"shard {shard}: told {told.get(shard)}, its owner says {asked.get(shard)}"
            for shard in sorted(asked.keys() | told.keys())
            if asked.get(shard) != told.get(shard)
        ]


def _essence(shard: ShardInfo) -> tuple[str, int, int, int, int]:
    return shard.owner_node, shard.epoch, shard.open_files, shard.stored_files, shard.containers
