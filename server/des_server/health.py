"""Health as gRPC and HTTP tell it: readiness follows the node, liveness follows nothing.

| name | SERVING while |
| --- | --- |
| `liveness` | the process answers |
| `readiness` | the node reads and writes, and is not leaving |
| "" and each service | the node reads, and is not leaving: a node that cannot write still answers reads |
| `des.v1.ShardService` | and its database answered last time: every call of it asks there |

What the node says of itself counts at once; what its checks find (`des.packer.health`) with the next look.
"""

import asyncio
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

import grpc
import structlog
from grpc_health.v1 import health
from grpc_health.v1.health_pb2 import HealthCheckResponse

from des.clock import Clock
from des.config.observing import HealthSettings
from des.errors import DesError
from des.monitoring.health_metrics import HealthMetrics
from des.monitoring.metrics import NodeMetrics, NodeReading
from des.node import Node, NodeHealth
from des.packer.health import CheckResult, CheckState, HealthChecker, Stops

LIVENESS: Final = "liveness"
READINESS: Final = "readiness"
CHECK_INTERVAL_S: Final = 0.5
"""How soon a change of the node shows."""
CHECKS_PER_READING: Final = 20
"""The gauges are read at every twentieth check: they ask the catalog."""


NEEDS: Final[Mapping[str, str]] = MappingProxyType({"des.v1.ShardService": "database"})
"""Services of which every call needs a part, by the name of its check."""


class _HealthServicer(health.aio.HealthServicer):  # type: ignore[misc] # the library has no types
    """The library's servicer, with watches that can end, and without `List`, which it only inherits."""

    List = None

    def __init__(self) -> None:
        super().__init__()
        self.closing = asyncio.Event()
        """Set when the server stops: a watch has no end of its own, and would be waited for."""

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802  the method's name on the wire
        watching = asyncio.ensure_future(super().Watch(request, context))
        closing = asyncio.ensure_future(self.closing.wait())
        try:
            await asyncio.wait([watching, closing], return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                await watching
        finally:
            watching.cancel()
            closing.cancel()
            await asyncio.gather(watching, closing, return_exceptions=True)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is shutting down")


_log = structlog.get_logger(__name__)


class HealthFollower:
    """Keeps what is told about the node in step with the node."""

    def __init__(
        self,
        node: Node,
        services: Iterable[str],
        *,
        clock: Clock,
        metrics: NodeMetrics,
        settings: HealthSettings,
        check_metrics: HealthMetrics,
    ) -> None:
        self._node = node
        self.checker = HealthChecker(
            node.health_checks(),
            clock=clock,
            interval_s=settings.interval_s,
            timeout_s=settings.timeout_s,
            metrics=check_metrics,
        )
        self._services = ("", *services)
        self._clock = clock
        self._metrics = metrics
        self._leaving = False
        self._told: tuple[NodeHealth, frozenset[str]] | None = None
        self.servicer = _HealthServicer()

    def ready(self) -> NodeHealth:
        """Return what the node can do now; nothing once it is leaving."""
        if self._leaving:
            return NodeHealth(writable=False, readable=False, cause="shutting down")
        now = self._node.health()
        for result in self.checker.results.values():
            if result.state is CheckState.FAILED and result.stops is not Stops.NOTHING:
                cause = "; ".join(filter(None, (now.cause, f"{result.name}: {result.found}")))
                readable = now.readable and result.stops is not Stops.ALL
                now = NodeHealth(writable=False, readable=readable, cause=cause)
        return now

    def results(self) -> list[CheckResult]:
        """Return what each check found last."""
        return list(self.checker.results.values())

    async def update(self) -> None:
        """Tell the watchers what has changed."""
        now = self.ready()
        failed = frozenset(one.name for one in self.results() if one.state is CheckState.FAILED)
        if (now, failed) == self._told:
            return
        if now.cause if self._told is None else now != self._told[0]:
            _log.info("health", writable=now.writable, readable=now.readable, cause=now.cause)
        self._told = (now, failed)
        for service in self._services:
            await self.servicer.set(service, _serving(now.readable and NEEDS.get(service) not in failed))
        await self.servicer.set(READINESS, _serving(now.readable and now.writable))
        await self.servicer.set(LIVENESS, HealthCheckResponse.SERVING)

    async def leave(self) -> None:
        """Say NOT_SERVING, but to `liveness`, from now on."""
        self._leaving = True
        await self.update()

    def end_watches(self) -> None:
        """End the watches of health, once all were told that the server leaves."""
        self.servicer.closing.set()

    async def run(self) -> None:
        """Follow the node until cancelled."""
        looking = asyncio.ensure_future(self.checker.run())
        try:
            await self._follow()
        finally:
            await cancelled(looking)

    async def _follow(self) -> None:
        checks = 0
        while True:
            await self.update()
            if checks % CHECKS_PER_READING == 0:
                await self._read()
            checks += 1
            due = self._clock.monotonic() + CHECK_INTERVAL_S
            await self._clock.sleep(CHECK_INTERVAL_S)
            self._metrics.loop_lag.set(max(0.0, self._clock.monotonic() - due))

    async def _read(self) -> None:
        try:
            shards = await self._node.shard_status(None)
        except DesError as error:
            _log.warning("no shard status for the metrics", error=str(error))
            return
        now = self.ready()
        self._metrics.show(
            NodeReading(
                writable=now.writable,
                readable=now.readable,
                open_files=sum(shard.open_files for shard in shards),
                open_bytes=sum(shard.open_bytes for shard in shards),
                stored_files=sum(shard.stored_files for shard in shards),
                stored_bytes=sum(shard.stored_bytes for shard in shards),
                containers=sum(shard.containers for shard in shards),
                oldest_open_age_s=max((shard.oldest_open_age_s or 0.0 for shard in shards), default=0.0),
            )
        )


def _serving(yes: bool) -> "HealthCheckResponse.ServingStatus.ValueType":  # noqa: FBT001  a predicate's value
    return HealthCheckResponse.SERVING if yes else HealthCheckResponse.NOT_SERVING


async def cancelled(task: "asyncio.Task[None]") -> None:
    """Cancel a task of this server and wait until it is gone."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
