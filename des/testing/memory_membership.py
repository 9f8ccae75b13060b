"""The nodes of a cluster in memory: the part of `MemoryCatalog` that `Membership` describes."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from des.clock import Clock
from des.db.catalog import ShardClaim, ShardLock
from des.db.membership import ClusterView, Estate, NameLease, NodeBeat, NodeRow, NoShardingError, Sharding
from des.db.resharding import check_bits, estates_at, may_turn, shards_at
from des.db.rows import LogSegmentId, LogSegmentRow, LogSegmentState, OpenContainer
from des.db.rules import check_beat, check_holder, choose_node_id, named_until_ms, ttl_ms_of

if TYPE_CHECKING:
    from des.testing.memory_catalog import Moment


class MembershipTables:
    """What nodes leave in the catalog."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeRow] = {}
        self.node_ids: dict[int, tuple[str, int, int]] = {}
        """Node id to node, floor and last use."""
        self.estates: dict[tuple[int, str], Estate] = {}
        self.sharding: Sharding | None = None


class _Shared(Protocol):
    _clock: Clock
    _locks: dict[int, ShardLock]
    _membership: MembershipTables
    _open: dict[tuple[str, int], OpenContainer]
    _segments: dict[LogSegmentId, LogSegmentRow]

    def _own(self, claim: ShardClaim) -> list[ShardLock]: ...

    def _meet(self, method: str, moment: "Moment") -> None: ...


class MemoryMembership:
    """For `MemoryCatalog` only."""

    async def register_node(self: _Shared, beat: NodeBeat, *, ttl_s: float, window_ms: int) -> NameLease:
        """See `Membership.register_node`."""
        self._meet("register_node", "before")
        check_holder(beat.holder)
        tables, now = self._membership, self._clock.now_ms()
        found = tables.nodes.get(beat.node)
        if found is not None:
            check_beat(found, beat, starting=True)
        known = [(node_id, *row) for node_id, row in tables.node_ids.items()]
        node_id = choose_node_id(known, node=beat.node, now_ms=now, window_ms=window_ms)
        floor_ms = max(beat.name_floor_ms, tables.node_ids.get(node_id, ("", 0, 0))[1])
        tables.node_ids[node_id] = (beat.node, floor_ms, now)
        tables.nodes[beat.node] = _row(beat, started_ms=now, now_ms=now, ttl_ms=ttl_ms_of(ttl_s))
        self._meet("register_node", "after")
        return NameLease(node_id, floor_ms)

    async def beat_node(self: _Shared, beat: NodeBeat, claim: ShardClaim, *, ttl_s: float) -> ClusterView:
        """See `Membership.beat_node`."""
        self._meet("beat_node", "before")
        tables, now, ttl_ms = self._membership, self._clock.now_ms(), ttl_ms_of(ttl_s)
        found = tables.nodes.get(beat.node)
        check_beat(found, beat, starting=False)
        assert found is not None
        self._locks.update(
            (lock.shard, replace(lock, heartbeat_ms=now, expires_ms=now + ttl_ms))
            for lock in self._own(claim)
        )
        tables.nodes[beat.node] = _row(beat, started_ms=found.started_ms, now_ms=now, ttl_ms=ttl_ms)
        for node_id, (node, floor_ms, _) in tables.node_ids.items():
            if node == beat.node:
                tables.node_ids[node_id] = (node, max(floor_ms, beat.name_floor_ms), now)
        self._meet("beat_node", "after")
        return _view(tables, self._locks, now)

    async def cluster_view(self: _Shared) -> ClusterView:
        """See `Membership.cluster_view`."""
        self._meet("cluster_view", "before")
        return _view(self._membership, self._locks, self._clock.now_ms())

    async def transfer_shards(
        self: _Shared, claim: ShardClaim, *, holder: str, node: str, ttl_s: float
    ) -> list[ShardLock]:
        """See `Membership.transfer_shards`."""
        self._meet("transfer_shards", "before")
        check_holder(holder)
        now, ttl_ms = self._clock.now_ms(), ttl_ms_of(ttl_s)
        given = [
            ShardLock(lock.shard, holder, lock.epoch + 1, now, now, now + ttl_ms, node)
            for lock in self._own(claim)
        ]
        self._locks.update((lock.shard, lock) for lock in given)
        self._meet("transfer_shards", "after")
        return given

    async def settle_estates(self: _Shared, node: str, taken: Mapping[int, int], *, seq: int) -> None:
        """See `Membership.settle_estates`."""
        self._meet("settle_estates", "before")
        for estate in _of(self._membership, node, list(taken)):
            if estate.epoch != taken[estate.shard]:
                continue
            self._membership.estates[estate.shard, node] = replace(
                estate, owed=False, local_files=False, settled_seq=max(seq, estate.settled_seq)
            )
        self._meet("settle_estates", "after")

    async def forgive_estates(self: _Shared, node: str, shards: Sequence[int]) -> None:
        """See `Membership.forgive_estates`."""
        self._meet("forgive_estates", "before")
        for estate in _of(self._membership, node, shards):
            self._membership.estates[estate.shard, node] = replace(estate, local_files=False)
        self._meet("forgive_estates", "after")

    async def drop_estates(self: _Shared, node: str, taken: Mapping[int, int]) -> None:
        """See `Membership.drop_estates`."""
        self._meet("drop_estates", "before")
        for estate in _of(self._membership, node, list(taken)):
            if not estate.owed and estate.epoch == taken[estate.shard]:
                del self._membership.estates[estate.shard, node]
        self._meet("drop_estates", "after")

    async def sharding(self: _Shared, bits: int) -> Sharding:
        """See `Membership.sharding`."""
        self._meet("sharding", "before")
        check_bits(bits)
        found = self._membership.sharding = self._membership.sharding or Sharding(bits, 0)
        self._meet("sharding", "after")
        return found

    async def ask_sharding(self: _Shared, bits: int | None, *, from_ms: int) -> Sharding:
        """See `Membership.ask_sharding`."""
        self._meet("ask_sharding", "before")
        if bits is not None:
            check_bits(bits)
        found = _known(self._membership.sharding)
        wanted = None if bits == found.bits else bits
        found = replace(found, next_bits=wanted, next_ms=0 if wanted is None else from_ms)
        self._membership.sharding = found
        self._meet("ask_sharding", "after")
        return found

    async def turn_sharding(self: _Shared, *, force: bool = False) -> Sharding:
        """See `Membership.turn_sharding`."""
        self._meet("turn_sharding", "before")
        tables, found = self._membership, _known(self._membership.sharding)
        if may_turn(found, self._locks.values(), now_ms=self._clock.now_ms(), force=force):
            before, after = found.bits, found.next_bits
            assert after is not None
            epoch = 1 + max((lock.epoch for lock in self._locks.values()), default=0)
            shards = {*self._locks, *range(1 << after)}
            self._locks.update((shard, ShardLock(shard, "", epoch, 0, 0, 0)) for shard in shards)
            moved = estates_at(list(tables.estates.values()), before=before, after=after, epoch=epoch)
            tables.estates = {(estate.shard, estate.node): estate for estate in moved}
            for segment, row in self._segments.items():
                if row.state is LogSegmentState.HELD:
                    at = shards_at(row.shards, before=before, after=after)
                    self._segments[segment] = replace(row, shards=at, bits=after)
            self._open.clear()
            tables.sharding = Sharding(after, found.generation + 1)
        self._meet("turn_sharding", "after")
        return _known(tables.sharding)


def inherit(
    tables: MembershipTables, lost: Iterable[ShardLock], opened: Iterable[OpenContainer], *, now_ms: int
) -> None:
    """Note what the holders of these locks may still hold, as the locks are taken from them."""
    open_files: Counter[tuple[int, str]] = Counter()
    for row in opened:
        open_files[row.shard, row.node] += row.files
    for lock in lost:
        node = tables.nodes.get(lock.node)
        before = tables.estates.get((lock.shard, lock.node))
        tables.estates[lock.shard, lock.node] = Estate(
            shard=lock.shard,
            node=lock.node,
            epoch=lock.epoch,
            local_files=True if node is None else node.local_files,
            taken_ms=now_ms,
            named_until_ms=named_until_ms(
                lock, said_ms=None if node is None else node.named_until_ms, now_ms=now_ms
            ),
            settled_seq=0 if before is None else before.settled_seq,
            owed=True,
            open_files=open_files[lock.shard, lock.node],
        )


def _known(sharding: Sharding | None) -> Sharding:
    if sharding is None:
        raise NoShardingError("no node has opened this store yet")
    return sharding


def _of(tables: MembershipTables, node: str, shards: Sequence[int]) -> list[Estate]:
    return [tables.estates[shard, node] for shard in shards if (shard, node) in tables.estates]


def _row(beat: NodeBeat, *, started_ms: int, now_ms: int, ttl_ms: int) -> NodeRow:
    return NodeRow(
        node=beat.node,
        holder=beat.holder,
        boot_epoch=beat.boot_epoch,
        address=beat.address,
        version=beat.version,
        capacity=beat.capacity,
        state=beat.state,
        local_files=beat.local_files,
        started_ms=started_ms,
        heartbeat_ms=now_ms,
        expires_ms=now_ms + ttl_ms,
        named_until_ms=beat.named_until_ms,
    )


def _view(tables: MembershipTables, locks: dict[int, ShardLock], now_ms: int) -> ClusterView:
    count = None if tables.sharding is None else 1 << tables.sharding.bits
    return ClusterView(
        now_ms=now_ms,
        nodes=tuple(tables.nodes[node] for node in sorted(tables.nodes)),
        locks=tuple(locks[shard] for shard in sorted(locks) if count is None or shard < count),
        estates=tuple(tables.estates[key] for key in sorted(tables.estates)),
        sharding=tables.sharding,
    )
