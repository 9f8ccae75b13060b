"""The nodes of a cluster in a SQL database: the part of `SqlCatalog` that `Membership` describes."""

from collections.abc import Mapping, Sequence

from des.db import estates, nodes, sharding
from des.db.catalog import ShardClaim, ShardLock
from des.db.connector import DesDbConnector
from des.db.membership import ClusterView, NameLease, NodeBeat, Sharding
from des.db.rules import check_holder, ttl_ms_of


class SqlMembership:
    """For `SqlCatalog` only."""

    _connector: DesDbConnector

    async def register_node(self, beat: NodeBeat, *, ttl_s: float, window_ms: int) -> NameLease:
        """See `Membership.register_node`."""
        check_holder(beat.holder)
        ttl_ms = ttl_ms_of(ttl_s)
        return await self._connector.write(
            lambda connection: nodes.register(connection, beat, ttl_ms=ttl_ms, window_ms=window_ms)
        )

    async def beat_node(self, beat: NodeBeat, claim: ShardClaim, *, ttl_s: float) -> ClusterView:
        """See `Membership.beat_node`."""
        ttl_ms = ttl_ms_of(ttl_s)
        return await self._connector.write(
            lambda connection: nodes.beat_and_renew(connection, beat, claim, ttl_ms=ttl_ms)
        )

    async def cluster_view(self) -> ClusterView:
        """See `Membership.cluster_view`."""
        return await self._connector.read(nodes.view)

    async def transfer_shards(
        self, claim: ShardClaim, *, holder: str, node: str, ttl_s: float
    ) -> list[ShardLock]:
        """See `Membership.transfer_shards`."""
        check_holder(holder)
        ttl_ms = ttl_ms_of(ttl_s)
        return await self._connector.write(
            lambda connection: nodes.transfer(connection, claim, holder=holder, node=node, ttl_ms=ttl_ms),
            repeatable=False,  # repeated, it would find the locks gone and say that it gave none
        )

    async def settle_estates(self, node: str, taken: Mapping[int, int], *, seq: int) -> None:
        """See `Membership.settle_estates`."""
        await self._connector.write(lambda connection: estates.settle(connection, node, taken, seq=seq))

    async def forgive_estates(self, node: str, shards: Sequence[int]) -> None:
        """See `Membership.forgive_estates`."""
        await self._connector.write(lambda connection: estates.forgive(connection, node, shards))

    async def drop_estates(self, node: str, taken: Mapping[int, int]) -> None:
        """See `Membership.drop_estates`."""
        await self._connector.write(lambda connection: estates.drop(connection, node, taken))

    async def sharding(self, bits: int) -> Sharding:
        """See `Membership.sharding`."""
        return await self._connector.write(lambda connection: sharding.decide(connection, bits))

    async def ask_sharding(self, bits: int | None, *, from_ms: int) -> Sharding:
        """See `Membership.ask_sharding`."""
        return await self._connector.write(lambda connection: sharding.ask(connection, bits, from_ms=from_ms))

    async def turn_sharding(self, *, force: bool = False) -> Sharding:
        """See `Membership.turn_sharding`."""
        return await self._connector.write(lambda connection: sharding.turn(connection, force=force))
