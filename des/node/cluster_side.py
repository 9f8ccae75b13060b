"""A node's side of the cluster, as the server around it sees it."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import structlog

from des.cluster import ClusterLease, not_shard_owner
from des.db.membership import Estate, NodeRow
from des.errors import DesError
from des.ingest.values import OpenFile
from des.node.cluster_duties import ClusterDuties
from des.node.shard_status import ShardStatus
from des.retrieval import OpenedFile

_log = structlog.get_logger(__name__)

LEAVE_RETRY_S: Final = 0.2


class ClusterSide:
    """Who owns what, joining and leaving, and the files that belong elsewhere."""

    def __init__(
        self, lease: ClusterLease, duties: ClusterDuties, *, read: Callable[[OpenFile], OpenedFile]
    ) -> None:
        self._lease = lease
        self._duties = duties
        self._read = read
        self.node = lease.node
        """UUID of this node."""

    # --- who owns what ----------------------------------------------------------------------

    def owns(self, shard: int) -> bool:
        """Whether this node serves a shard now."""
        return self._lease.owns(shard)

    def is_gaining(self, shard: int) -> bool:
        """Whether a shard is this node's and not served yet."""
        return self._lease.is_gaining(shard)

    async def wait_ready(self, shard: int, within_s: float) -> bool:
        """Wait until a shard that is being taken over is served; return whether it is."""
        return await self._lease.wait_ready(shard, within_s)

    def owner(self, shard: int) -> NodeRow | None:
        """Return who holds a shard, as far as this node knows; None for nobody that lives."""
        return self._lease.owner(shard)

    def marked(self, mark: str) -> NodeRow | None:
        """Return the node whose UUID begins so, whether it lives or not; None where no node ever did."""
        return self._lease.marked(mark)

    def estates(self, shard: int) -> list[Estate]:
        """Return what lost nodes alone may hold of a shard."""
        return self._lease.estates(shard)

    def members(self) -> list[NodeRow]:
        """Return the nodes that live and take shards."""
        return self._lease.members()

    async def refresh(self) -> None:
        """Look at the catalog again.

        Raises:
            CatalogUnavailableError: it did not answer.
        """
        await self._lease.refresh()

    def check_owner(self, shard: int) -> None:
        """Refuse what only the owner of a shard can do.

        Raises:
            NotShardOwnerError: another node owns it.
        """
        if not self._lease.owns(shard):
            raise not_shard_owner(shard, self._lease.describe_owner(shard))

    @property
    def failure(self) -> DesError | None:
        """Why this node can hold no shard any more; None while it can."""
        return self._lease.failure

    # --- coming and going -------------------------------------------------------------------

    @property
    def is_resharded(self) -> bool:
        """Whether the store is divided into other shards than this node was opened for."""
        return self._lease.resharded.is_set()

    async def wait_resharded(self) -> None:
        """Return when the store is divided into other shards than this node was opened for."""
        await self._lease.resharded.wait()

    async def join(self, address: str) -> None:
        """Serve shards from now on; other nodes reach this one at `address`."""
        await self._lease.join(address)

    async def leave(self, *, within_s: float) -> None:
        """Hand the shards over, as many as others take in time."""
        try:
            async with asyncio.timeout(within_s):
                while True:
                    try:
                        await self._lease.drain()
                    except DesError as error:
                        _log.warning("shards are not handed over yet", error=str(error))
                    if not self._lease.locks or not self._lease.members():
                        return
                    await asyncio.sleep(LEAVE_RETRY_S)
        except TimeoutError:
            _log.warning("leaving with shards that nobody took", shards=len(self._lease.locks))

    async def close(self) -> None:
        """Stop what runs in the background."""
        await self._duties.close()

    # --- files that belong elsewhere --------------------------------------------------------

    def foreign_files(self) -> list[OpenFile]:
        """Return the files of this node's log that belong to other nodes' shards, in log order."""
        return self._duties.foreign.waiting()

    def open_foreign(self, file: OpenFile) -> OpenedFile:
        """Return such a file, ready to be read."""
        return self._read(file)

    def brought_home(self, file: OpenFile) -> None:
        """Let such a file go: the shard's owner has it, or knows that it was deleted."""
        self._duties.brought_home(file)

    async def settle_estates(self) -> None:
        """Tell the catalog of shards of which this node has nothing left that belongs elsewhere.

        Raises:
            CatalogUnavailableError: it did not answer.
        """
        await self._duties.settle_estates()

    # --- status -----------------------------------------------------------------------------

    def describe(self, status: ShardStatus) -> ShardStatus:
        """Complete what this node says of a shard with what the cluster knows of it."""
        shard = status.shard
        lock, owner = self._lease.lock(shard), self._lease.owner(shard)
        state = status.state
        if self._lease.is_gaining(shard):
            state = "recovering"
        elif owner is None:
            state = "unowned"
        elif owner.node != self.node:
            state = "active"
        errors = [status.last_error] if owner is not None and owner.node == self.node else []
        if state == "recovering":
            errors.append(self._lease.gain_error)
        errors += [_lost(estate) for estate in self._lease.estates(shard)]
        return replace(
            status,
            state=state,
            owner="" if owner is None else owner.node,
            owner_address="" if owner is None else owner.address,
            epoch=0 if lock is None else lock.epoch,
            last_heartbeat_ms=0 if lock is None else lock.heartbeat_ms,
            last_error="; ".join(error for error in errors if error),
        )


def _lost(estate: Estate) -> str:
    """Say what a node that is away may have."""
    told = f" ({estate.open_files} when it last told)" if estate.open_files else ""
    return (
        f"node {estate.node}, silent since its shard was taken over, may hold files that lie nowhere else"
        f"{told}"
    )
