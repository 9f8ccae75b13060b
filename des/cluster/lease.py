"""This node's hold on its shards in a cluster: heartbeats and take-overs (DESIGN §7).

The epoch of a lock is the safety: every catalog write re-checks it. The time to live is courtesy, and
this node's own view of it, always a little shorter than the catalog's, keeps it from answering for a
shard that somebody else may have taken. What is known meanwhile is in `Standing`; `HandOver` gives shards
away.
"""

import asyncio
import math
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Final

import structlog

from des.clock import Clock
from des.cluster.hand_over import HandOver
from des.cluster.standing import Standing
from des.cluster.write_gate import WriteGate, Writing
from des.db.catalog import Catalog, ShardClaim
from des.db.membership import (
    ClusterView,
    NameLease,
    NodeBeat,
    NodeReplacedError,
    NodeState,
    Sharding,
)
from des.errors import DesError

_log = structlog.get_logger(__name__)

BEATS_PER_TTL: Final = 5
"""Heartbeats in the time after which a lock of a silent node is free."""
MARGIN: Final = 0.1
"""Part of the time to live by which this node stops earlier than others may begin."""
EXPIRED_MS: Final = 20
"""How long after a lock's expiry it is taken: clocks are read twice, and rounded."""
CHANGE_LOOK_S: Final = 0.2
"""Between two looks at the catalog while the store is being divided anew: nobody takes writes meanwhile."""
CLOCK_APART_MS: Final = 1_000
"""How far this node's clock may be from the database's before that is worth a line in the log."""


class ClusterLease(Standing):
    """Holds the shards that are this node's fair share."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        node: str,
        holder: str,
        boot_epoch: int,
        version: str,
        capacity: int,
        sharding: Sharding,
        ttl_s: float,
        clock: Clock,
    ) -> None:
        """Hold nothing yet.

        Args:
            catalog: has the locks.
            node: UUID of the data folder.
            holder: UUID of this start.
            boot_epoch: number of this start.
            version: of the software.
            capacity: this node's share relative to others.
            sharding: how the store is divided; when that changes, this node holds nothing any more.
            ttl_s: time after which the locks of a silent node are free.
            clock: times this node's own view of its locks.
        """
        super().__init__(node=node, holder=holder, sharding=sharding, clock=clock)
        self._catalog = catalog
        self._ttl_s = ttl_s
        self._beat = NodeBeat.joining(
            node=node,
            holder=holder,
            boot_epoch=boot_epoch,
            version=version,
            capacity=capacity,
            local_files=True,
        )
        self._gate = WriteGate(self.tenure, self.describe_owner, self.check_named)
        self._turn = asyncio.Lock()
        self.hand_over = HandOver(
            self, catalog=catalog, gate=self._gate, turn=self._turn, ttl_s=ttl_s, clock=clock
        )
        self._is_clock_apart = False
        self._refreshing: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._gaining: asyncio.Task[None] | None = None
        self._acks_local = False
        """Whether this start has acknowledged a file that lies here alone; for good."""
        self._acks_local_noted = False
        """Whether the catalog knows that."""
        self.gain_error = ""
        """What keeps shards that were gained from being served."""

    def writing(self, shards: Collection[int], *, named_ms: int) -> AbstractAsyncContextManager[None]:
        """See `Shards.writing`."""
        return Writing(self._gate, shards, named_ms=named_ms)

    async def note_local(self) -> None:
        """See `Shards.note_local`. Costs one heartbeat in the life of a process."""
        if self._acks_local_noted:
            return
        self._acks_local = True
        async with self._turn:
            if not self._acks_local_noted:
                await self._send_beat()

    # --- coming and going -------------------------------------------------------------------

    async def register(self, *, window_ms: int) -> NameLease:
        """Enter the cluster, take over what an earlier start of this node held, and lease a node id."""
        lease = await self._catalog.register_node(self._beat, ttl_s=self._ttl_s, window_ms=window_ms)
        await self._look()
        former = [lock.shard for lock in self.view.locks if lock.node == self.node]
        await self._acquire(former)
        await self._look()
        return lease

    async def join(self, address: str) -> None:
        """Serve the shards that came with `register`, and take part in sharing from now on.

        The address is where other nodes reach this one.
        """
        self._beat = replace(self._beat, address=address, state=NodeState.ACTIVE)
        await self.step()

    async def run(self) -> None:
        """Keep the shards until cancelled; what fails is tried again, and writes stay guarded by epoch.

        Hand-overs, which seal first, run beside the heartbeats and never hold one up.
        """
        handing_over: asyncio.Task[None] | None = None
        try:
            while True:
                await self._next_turn()
                try:
                    await self._keep()
                except NodeReplacedError:
                    return
                except DesError as error:
                    _log.warning("no heartbeat", error=str(error))
                    continue
                if handing_over is None or handing_over.done():
                    handing_over = asyncio.create_task(self._hand_over_planned())
        finally:
            if handing_over is not None:
                handing_over.cancel()

    async def _next_turn(self) -> None:
        self._woken.clear()
        timer = asyncio.ensure_future(
            self._clock.sleep(min(self._ttl_s / BEATS_PER_TTL, self._next_expiry_s(), self._next_change_s()))
        )
        waker = asyncio.ensure_future(self._woken.wait())
        try:
            await asyncio.wait([timer, waker], return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            waker.cancel()

    def _next_expiry_s(self) -> float:
        """Return when the first lock of a silent node can be taken, at the earliest; infinity for none.

        Nobody takes a share of it while its node counts as one that lives, which may be a moment longer.
        """
        now_ms = self.now_ms()
        expiries = [lock.expires_ms for lock in self.view.locks if lock.holder not in {"", self.holder}]
        expiries += [
            node.expires_ms
            for node in self.view.nodes
            if node.state is not NodeState.GONE and node.holder != self.holder
        ]
        left_ms = [expires_ms - now_ms for expires_ms in expiries if expires_ms > now_ms]
        return (min(left_ms) + EXPIRED_MS) / 1000 if left_ms else math.inf

    def _next_change_s(self) -> float:
        """Return when to look whether the store can be divided anew; infinity where nobody asked for it."""
        asked = self.asked()
        if asked is None:
            return math.inf
        return max(CHANGE_LOOK_S, (asked.next_ms - self.now_ms()) / 1000)

    async def _hand_over_planned(self) -> None:
        try:
            await self._hand_over_all()
        except DesError as error:
            _log.warning("shards are not handed over yet", error=str(error))

    def wake(self) -> None:
        """Take the next step at once: something says that a shard is lost."""
        self._woken.set()

    async def step(self) -> None:
        """Send a heartbeat, notice what changed, take what is this node's share, hand over what is not.

        Raises:
            NodeReplacedError: another process runs as this node; all shards are lost for good.
            DesError: the catalog did not answer.
        """
        await self._keep()
        await self._hand_over_all()

    async def _keep(self) -> None:
        async with self._turn:
            await self._send_beat()
            if self._beat.state is NodeState.ACTIVE and not self.resharded.is_set():
                plan = self.planned()
                mine = [shard for shard, holder in plan.items() if holder == self.holder]
                await self._acquire(self._free(mine))
            if self.is_changing() and not any(lock.holder for lock in self.view.locks):
                await self._catalog.turn_sharding()
                await self._look()
        self._gain()

    async def _hand_over_all(self) -> None:
        if self._beat.state in {NodeState.ACTIVE, NodeState.DRAINING}:
            await self.hand_over.run()

    async def refresh(self) -> None:
        """Look at the catalog again; all who ask at the same time share one look."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh())
        await asyncio.shield(self._refreshing)

    async def _refresh(self) -> None:
        async with self._turn:
            await self._look()
        self._gain()

    async def wait_ready(self, shard: int, within_s: float) -> bool:
        """Wait until a shard that is being taken over is served; return whether it is."""
        if self.is_gaining(shard) and self._gaining is not None:
            await asyncio.wait([self._gaining], timeout=within_s)
        return self.owns(shard)

    async def drain(self) -> None:
        """Hand every shard to another node; what nobody takes stays."""
        self._beat = replace(self._beat, state=NodeState.DRAINING)
        await self.step()

    async def release(self) -> None:
        """Leave: let go of shards of which nothing is open; a later start, or expiry, frees the others."""
        clean = [shard for shard in self.locks if self.duties.is_empty(shard)]
        self._serving.clear()
        try:
            async with asyncio.timeout(self._ttl_s):
                await self._catalog.release_shards(self.claim_of(clean))
                gone = self._said(state=NodeState.GONE)
                await self._catalog.beat_node(gone, ShardClaim(self.holder, []), ttl_s=self._ttl_s)
        except (DesError, TimeoutError) as error:
            _log.warning("did not leave the cluster in order, the locks expire", error=str(error))

    # --- steps ------------------------------------------------------------------------------

    def _said(self, **changes: object) -> NodeBeat:
        return replace(
            self._beat,
            local_files=self._acks_local or self.duties.holds_local_files(),
            name_floor_ms=self.duties.name_floor_ms(),
            named_until_ms=self._may_be_named_until(),
            **changes,  # type: ignore[arg-type]  # the callers are right here
        )

    async def _send_beat(self) -> None:
        begun = self._clock.monotonic()
        wall_ms = self._clock.now_ms()
        claim = self.claim_of(self.locks)
        said = self._said()
        try:
            view = await self._catalog.beat_node(said, claim, ttl_s=self._ttl_s)
        except NodeReplacedError as error:
            self.failure = error
            _log.error("another process runs as this node", error=str(error))
            self._lose(sorted(self.locks))
            raise
        self._acks_local_noted = self._acks_local and said.local_files
        self._watch_clock(wall_ms - view.now_ms)
        self._named_until_ms = said.named_until_ms or 0
        self._apply(view, begun, renewed=True)

    def _may_be_named_until(self) -> int | None:
        """Return the latest time that names of files acknowledged here may carry, as `NodeBeat` wants it.

        No earlier than any lock's expiry so far: one that is renewed expires earlier than before when the
        database's clock was set back, and what was acknowledged under it stays.
        """
        found_ms = self.duties.named_until_ms()
        if found_ms is None:
            return None
        expiries = (lock.expires_ms for lock in self.locks.values())
        return max(found_ms, self._named_until_ms, *expiries)

    def _watch_clock(self, ahead_ms: int) -> None:
        """Say once that this clock is not the database's, which names follow."""
        is_apart = abs(ahead_ms) > CLOCK_APART_MS
        if is_apart and not self._is_clock_apart:
            _log.warning("this clock is not the database's, which the names follow", ahead_ms=ahead_ms)
        self._is_clock_apart = is_apart

    async def _look(self) -> None:
        begun = self._clock.monotonic()
        self._apply(await self._catalog.cluster_view(), begun, renewed=False)

    def _apply(self, view: ClusterView, begun: float, *, renewed: bool) -> None:
        self.view = view
        self._seen_at = self._clock.monotonic()
        self._blocked = {}
        for estate in view.estates:
            if estate.owed and estate.local_files and estate.node != self.node:
                self._blocked.setdefault(estate.shard, []).append(estate)
        if self.failure is not None:
            return
        if view.sharding is not None and view.sharding.generation != self._sharding.generation:
            self._stop_for_change(view.sharding)
            return
        own = {lock.shard: lock for lock in view.locks if lock.holder == self.holder}
        until = begun + self._ttl_s * (1 - MARGIN)
        lost = [
            shard for shard, lock in self.locks.items() if shard not in own or own[shard].epoch != lock.epoch
        ]
        if lost:
            _log.warning("shards were taken by others", shards=len(lost), first=lost[0])
            self._lose(lost)
        for shard, lock in own.items():
            # A lock that was renewed runs from the heartbeat on; one that was handed over or just found,
            # from when it was given, which the catalog says.
            fresh = shard not in self.locks
            self.locks[shard] = lock
            if renewed and not fresh:
                self._until[shard] = until
            elif fresh:
                left_s = (lock.expires_ms - view.now_ms) / 1000 - self._ttl_s * MARGIN
                self._until[shard] = begun + left_s

    def _stop_for_change(self, sharding: Sharding) -> None:
        """Hold nothing any more: the numbers of shards mean other parts of the store now."""
        if not self.resharded.is_set():
            _log.info("the store is divided anew", bits=sharding.bits, before=self._sharding.bits)
            self.resharded.set()
        if self.locks:  # of a node that was away when it should have let go
            self._lose(sorted(self.locks))

    def _lose(self, shards: Sequence[int]) -> None:
        for shard in shards:
            self._drop(shard)
        self._gate.open(shards)
        self.duties.lost(shards)

    def _free(self, shards: Iterable[int]) -> list[int]:
        now_ms = self.now_ms()
        known = {lock.shard: lock for lock in self.view.locks}
        if self.is_changing():  # only what lost nodes left: who has let go has done so for the change
            shards = [shard for shard in shards if shard in known and known[shard].holder]
        return [
            shard
            for shard in shards
            if shard not in self.locks and (shard not in known or known[shard].expires_ms <= now_ms)
        ]

    async def _acquire(self, shards: Sequence[int]) -> None:
        if not shards or self.resharded.is_set():
            return
        begun = self._clock.monotonic()
        taken = await self._catalog.acquire_shards(
            shards, holder=self.holder, ttl_s=self._ttl_s, node=self.node
        )
        if not taken:
            return
        # Once more, for what the former holders may still have of them.
        await self._look()
        for lock in taken:
            if lock.shard in self.locks:
                self._until[lock.shard] = begun + self._ttl_s * (1 - MARGIN)
        _log.info("shards taken", shards=len(taken), first=taken[0].shard)

    def _gain(self) -> None:
        """Make what was gained servable, in the background."""
        if self._beat.state is NodeState.JOINING or (self._gaining is not None and not self._gaining.done()):
            return
        if any(shard not in self._serving for shard in self.locks):
            self._gaining = asyncio.create_task(self._serve_gained())

    async def _serve_gained(self) -> None:
        while fresh := {s: lock.epoch for s, lock in sorted(self.locks.items()) if s not in self._serving}:
            try:
                await self.duties.gained(list(fresh))
            except DesError as error:
                self.gain_error = str(error)
                _log.warning("gained shards are not ready", shards=len(fresh), error=str(error))
                return  # the next step tries again
            self.gain_error = ""
            self._serving.update(
                s for s, epoch in fresh.items() if s in self.locks and self.locks[s].epoch == epoch
            )
