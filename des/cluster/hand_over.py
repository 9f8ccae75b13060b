"""Gives shards away: to nodes that join, of a node that leaves, and to nobody for a store divided anew.

What a shard holds open is sealed while it is still served; then writes to it wait for the moment in which
the rest is sealed and the lock goes over. A shard that cannot be emptied stays, and holds no other back.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

import structlog

from des.clock import Clock
from des.cluster.standing import Standing
from des.cluster.write_gate import WriteGate
from des.db.catalog import Catalog, ShardClaim, ShardLock
from des.db.membership import NodeRow, Sharding
from des.errors import DesError

_log = structlog.get_logger(__name__)

HAND_OVER_SHARDS: Final = 16
"""Shards that are without service at the same time while they are handed over."""
HAND_OVER_WAIT_S: Final = 5.0
"""How long a hand-over waits for writes under way; the shards stay for now if they take longer."""
CHANGE_AHEAD_S: Final = 30.0
"""How long before the store is divided anew all is sealed once, so that little is left when it is due."""


class HandOver:
    """Hands over what is not a node's share any more; one hand-over at a time."""

    def __init__(
        self,
        standing: Standing,
        *,
        catalog: Catalog,
        gate: WriteGate,
        turn: asyncio.Lock,
        ttl_s: float,
        clock: Clock,
    ) -> None:
        """Give nothing yet.

        Args:
            standing: what the node knows and holds.
            catalog: has the locks.
            gate: holds writes to a shard back that is on its way.
            turn: whoever has it may change what is held.
            ttl_s: time for which a lock is given.
            clock: for the log.
        """
        self._standing = standing
        self._catalog = catalog
        self._gate = gate
        self._turn = turn
        self._ttl_s = ttl_s
        self._clock = clock
        self._sealed_ahead: Sharding | None = None
        self._under_way = asyncio.Lock()

    async def run(self) -> None:
        """Hand over what is another's by plan; all, to nobody, when the store is due to be divided anew.

        Raises:
            DesError: why the first shard that stayed against the plan did; the others have gone.
        """
        async with self._under_way:  # a drain asks for it beside the heartbeats
            if self._standing.is_changing():
                await self._let_go_all()
            else:
                await self._give(self._standing.planned())
                await self._seal_ahead()

    async def _give(self, plan: dict[int, str]) -> None:
        nodes = {node.holder: node for node in self._standing.members()}
        targets: dict[str, list[int]] = {}
        for shard in self._standing.served():
            holder = plan.get(shard)
            if holder in nodes and holder != self._standing.holder:
                targets.setdefault(holder, []).append(shard)
        stuck: dict[int, DesError] = {}
        for holder, shards in targets.items():
            stuck |= await self.to_node(shards, nodes[holder])
        _raise_first(stuck)

    async def to_node(self, shards: Sequence[int], target: NodeRow) -> dict[int, DesError]:
        """Hand shards over to a node; return why, for those that could not be emptied and stay."""

        async def transfer(claim: ShardClaim) -> list[ShardLock]:
            return await self._catalog.transfer_shards(
                claim, holder=target.holder, node=target.node, ttl_s=self._ttl_s
            )

        return await self._in_portions(shards, transfer, to=target.node)

    async def _let_go_all(self) -> None:
        """Let go of all shards, once all that they hold is sealed: the store is to be divided anew.

        Nobody serves what was let go, and nothing is divided before all is: so a shard that cannot be emptied
        keeps all here.
        """
        served = self._standing.served()
        _raise_first(await self._empty(served))
        _raise_first(await self._in_portions(served, self._release, to="nobody"))

    async def _seal_ahead(self) -> None:
        """Seal all that is open, once, shortly before the store is to be divided anew."""
        asked = self._standing.asked()
        if asked is None or asked == self._sealed_ahead:
            return
        if asked.next_ms - self._standing.now_ms() <= CHANGE_AHEAD_S * 1000:
            _raise_first(await self._empty(self._standing.served()))
            self._sealed_ahead = asked

    async def _in_portions(
        self, shards: Sequence[int], give: Callable[[ShardClaim], Awaitable[list[ShardLock]]], *, to: str
    ) -> dict[int, DesError]:
        """Give shards away, a few at a time; return why, for those that could not be emptied."""
        stuck = await self._empty(shards)
        shards = [shard for shard in shards if shard not in stuck]
        for start in range(0, len(shards), HAND_OVER_SHARDS):
            served = set(self._standing.served())
            portion = [shard for shard in shards[start : start + HAND_OVER_SHARDS] if shard in served]
            # Once more, while they are still served: little is left to seal when they are closed.
            stuck |= await self._empty(portion)
            stuck |= await self._part_with([shard for shard in portion if shard not in stuck], give, to=to)
        return stuck

    async def _part_with(
        self, shards: Sequence[int], give: Callable[[ShardClaim], Awaitable[list[ShardLock]]], *, to: str
    ) -> dict[int, DesError]:
        """Give up shards while no write to them is under way; those of which something is open stay."""
        if not shards:
            return {}
        standing = self._standing
        begun = self._clock.monotonic()
        self._gate.close(shards)
        # From here on no seal begins that reaches into them: it could not be committed after the hand-over.
        standing.giving.update(shards)
        try:
            try:
                async with asyncio.timeout(HAND_OVER_WAIT_S):
                    await self._gate.wait_idle(shards)
            except TimeoutError:
                _log.info("shards stay: writes to them take long", shards=len(shards))
                return {}
            stuck = await self._empty(shards)
            served = set(standing.served())
            empty = [shard for shard in shards if shard in served and standing.duties.is_empty(shard)]
            async with self._turn:
                try:
                    given = await give(standing.claim_of(empty))
                except BaseException:
                    # Whether they were given is unknown; nothing is answered before a heartbeat tells.
                    standing.doubt(empty)
                    raise
                standing.doubt(set(empty) - {lock.shard for lock in given})
                standing.gave(given)
        finally:
            standing.giving.difference_update(shards)
            self._gate.open(shards)
        if given:
            standing.duties.gave([lock.shard for lock in given])
        _log.info(
            "shards handed over",
            shards=len(given),
            to=to,
            closed_s=round(self._clock.monotonic() - begun, 3),
        )
        return stuck

    async def _empty(self, shards: Sequence[int]) -> dict[int, DesError]:
        stuck = dict(await self._standing.duties.empty(shards)) if shards else {}
        if stuck:
            shard, error = min(stuck.items())
            _log.warning(
                "shards stay: they cannot be emptied", shards=len(stuck), first=shard, error=str(error)
            )
        return stuck

    async def _release(self, claim: ShardClaim) -> list[ShardLock]:
        await self._catalog.release_shards(claim)
        locks = self._standing.locks
        return [replace(locks[shard], holder="", node="", expires_ms=0) for shard, _ in claim.epochs]


def _raise_first(stuck: dict[int, DesError]) -> None:
    if stuck:
        raise stuck[min(stuck)]
