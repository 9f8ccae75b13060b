"""A marker's node id for names, leased from the catalog of a cluster."""

from dataclasses import replace
from typing import Final, NoReturn

import structlog

from des.clock import Clock
from des.db.catalog import Catalog, ShardClaim
from des.db.membership import NameLease, NodeBeat, NodeReplacedError, NodeState
from des.errors import DesError

_log = structlog.get_logger(__name__)

BEATS_PER_TTL: Final = 3


class MarkerLease:
    """Keeps a node id that no other node, packer or marker has; the marker takes no shards.

    The mark below which no name is given again lies in the catalog, so whoever gets the id next goes on
    above it.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        node: str,
        holder: str,
        boot_epoch: int,
        version: str,
        ttl_s: float,
        clock: Clock,
    ) -> None:
        """Hold nothing yet.

        Args:
            catalog: of the store.
            node: UUID of the marker's folder.
            holder: UUID of this start.
            boot_epoch: number of this start.
            version: of the software.
            ttl_s: time after which a silent marker counts as gone.
            clock: for the pauses between heartbeats.
        """
        self._catalog = catalog
        self._ttl_s = ttl_s
        self._clock = clock
        # Joining for ever: a member that is listed, and to which no shard is given.
        self._beat = NodeBeat.joining(
            node=node,
            holder=holder,
            boot_epoch=boot_epoch,
            version=version,
            capacity=1,
            local_files=False,
        )

    async def register(self, *, window_ms: int) -> NameLease:
        """Enter the catalog and return the node id and where its names go on.

        Raises:
            NodeReplacedError: a later start of this marker is registered.
            NodeIdsExhaustedError: no id is free.
            CatalogUnavailableError: the catalog did not answer.
        """
        lease = await self._catalog.register_node(self._beat, ttl_s=self._ttl_s, window_ms=window_ms)
        self._beat = replace(self._beat, name_floor_ms=lease.floor_ms)
        return lease

    async def reserve(self, mark_ms: int) -> None:
        """Make a later mark durable. Same errors as `register`."""
        beat = replace(self._beat, name_floor_ms=max(mark_ms, self._beat.name_floor_ms))
        await self._catalog.beat_node(beat, ShardClaim(beat.holder, []), ttl_s=self._ttl_s)
        self._beat = beat

    async def run(self) -> NoReturn:
        """Say that this marker lives, until cancelled.

        Raises:
            NodeReplacedError: another process runs as this marker; this one must give no more names.
        """
        while True:
            await self._clock.sleep(self._ttl_s / BEATS_PER_TTL)
            try:
                await self.reserve(self._beat.name_floor_ms)
            except NodeReplacedError:
                raise
            except DesError as error:
                _log.warning("no heartbeat", error=str(error))

    async def leave(self, mark_ms: int) -> None:
        """Say that this marker is gone, and where names may go on."""
        self._beat = replace(self._beat, state=NodeState.GONE)
        await self.reserve(mark_ms)
