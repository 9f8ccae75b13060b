"""What `/status.json` tells, put together at most every few seconds however many people look."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any, Final

from des import __version__
from des.clock import Clock
from des.errors import DesError
from des.monitoring.metrics import NodeMetrics
from des.node import Node, ShardStatus
from des_server.dashboard.grid import grid_of
from des_server.dashboard.history import STEP_S, Counters, History
from des_server.dashboard.troubles import RecentTroubles
from des_server.health import HealthFollower

FRESH_S: Final = 3.0
"""How old what is told may be: it asks the catalog."""
DAYS_MAX: Final = 30


class StatusReporter:
    """Keeps the history of a node and tells how it is."""

    def __init__(
        self,
        node: Node,
        health: HealthFollower,
        metrics: NodeMetrics,
        clock: Clock,
        shards: Callable[[], Awaitable[Sequence[ShardStatus]]],
    ) -> None:
        """Tell of `node`, and of what `shards` gives: all shards of the store, with what their owners say."""
        self._node = node
        self._shards = shards
        self._health = health
        self._metrics = metrics
        self._clock = clock
        self.history = History(self._count)
        self.troubles = RecentTroubles()
        self._told: dict[str, Any] = {}
        self._told_at = float("-inf")
        self._stale = ""
        self._asking = asyncio.Lock()

    async def run(self) -> None:
        """Take samples, and keep what goes wrong, until cancelled."""
        root = logging.getLogger()
        root.addHandler(self.troubles)
        try:
            while True:
                self.history.sample(self._clock.now_ms())
                await self._clock.sleep(STEP_S)
        finally:
            root.removeHandler(self.troubles)

    async def tell(self) -> dict[str, Any]:
        """Return everything the page shows; what the catalog does not tell now is what it told last."""
        async with self._asking:
            if self._clock.monotonic() - self._told_at > FRESH_S:
                try:
                    self._told = await self._ask()
                    self._stale = ""
                except DesError as error:
                    self._stale = str(error)
                self._told_at = self._clock.monotonic()
        now_ms = self._clock.now_ms()
        ready = self._health.ready()
        return {
            "now_ms": now_ms,
            "version": __version__,
            "node": self._node.node_uuid,
            "store": self._node.store_id,
            "started_ms": self._node.started_ms,
            "health": {
                **asdict(ready),
                "checks": [one.as_json(now_ms) for one in self._health.results()],
            },
            "stale": self._stale,
            "grid": [],
            "totals": {},
            "days": [],
            "nodes": [],
            **self._told,
            "history": self.history.as_json(),
            "troubles": self.troubles.as_json(),
        }

    async def _ask(self) -> dict[str, Any]:
        shards = await self._shards()
        days = await self._node.day_totals(DAYS_MAX)
        return {
            "grid": grid_of(shards),
            "totals": {
                "shards": len(shards),
                "open_files": sum(shard.open_files for shard in shards),
                "open_bytes": sum(shard.open_bytes for shard in shards),
                "stored_files": sum(shard.stored_files for shard in shards),
                "stored_bytes": sum(shard.stored_bytes for shard in shards),
                "containers": sum(shard.containers for shard in shards),
            },
            "days": [asdict(day) for day in days],
            "nodes": self._nodes({shard.shard: shard.owner for shard in shards}),
        }

    def _nodes(self, owners: dict[int, str]) -> list[dict[str, Any]]:
        held = {owner: sum(one == owner for one in owners.values()) for owner in set(owners.values())}
        own = self._node.node_uuid
        if self._node.cluster is None:
            found = [(own, "", __version__, "active")]
        else:
            found = [
                (row.node, row.address, row.version, row.state.value) for row in self._node.cluster.members()
            ]
        return [
            {
                "node": node,
                "address": address,
                "version": version,
                "state": state,
                "shards": held.get(node, 0),
                "this": node == own,
            }
            for node, address, version, state in found
        ]

    def _count(self) -> Counters:
        put_files, put_bytes, get_files, get_bytes = self._metrics.totals()
        files, size = self._node.backlog()
        return Counters(put_files, put_bytes, get_files, get_bytes, files, size)
