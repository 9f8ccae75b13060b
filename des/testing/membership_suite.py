"""What every catalog must do for the nodes of a cluster; part of `CatalogSuite`."""

# ruff: noqa: D102  the name of a test is its sentence

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import pytest

from des.db.catalog import Catalog, FencedError, ShardClaim, ShardLock
from des.db.membership import (
    NODE_IDS,
    Estate,
    NodeBeat,
    NodeIdsExhaustedError,
    NodeReplacedError,
    NodeState,
    Sharding,
)
from des.db.rows import LogSegmentId, LogSegmentRow, LogSegmentState, OpenContainer
from des.db.rules import UNBOUNDED_AHEAD_MS
from des.errors import InvalidInputError
from des.testing.catalog_rows import LONG_S, SHORT_S, PassTime, claim_of


def segment_of(*, shards: tuple[int, ...], bits: int) -> LogSegmentRow:
    """Return a shipped segment that some shards need."""
    return LogSegmentRow(
        id=LogSegmentId(beat_of(1).node, 1, 1),
        key="_log/one",
        etag='"1"',
        sha256="0" * 64,
        size=100,
        first_seq=1,
        last_seq=2,
        file_count=2,
        days=("20260101",),
        shards=shards,
        bits=bits,
    )


DAY_MS: Final = 86_400_000
NOTHING: Final = ShardClaim("0193a000-0000-7000-8000-00000000000a", [])


def beat_of(number: int = 1, *, start: int = 1, **changes: Any) -> NodeBeat:
    """Return the heartbeat of a node, in one of its starts."""
    made = NodeBeat(
        node=f"0193a000-0000-7000-8000-00000000{number:04x}",
        holder=f"0193a000-0000-7000-8000-{start:08x}{number:04x}",
        boot_epoch=start,
        address=f"10.0.0.{number % 250}:7420",
        version="1.2.3",
        capacity=1,
        state=NodeState.ACTIVE,
        local_files=False,
        name_floor_ms=0,
    )
    return replace(made, **changes)


async def register(catalog: Catalog, beat: NodeBeat) -> int:
    """Register a node and return its node id for names."""
    return (await catalog.register_node(beat, ttl_s=LONG_S, window_ms=DAY_MS)).node_id


async def take(
    catalog: Catalog, shards: Sequence[int], beat: NodeBeat, *, ttl_s: float = LONG_S
) -> list[ShardLock]:
    """Acquire as a node of a cluster does."""
    return await catalog.acquire_shards(shards, holder=beat.holder, ttl_s=ttl_s, node=beat.node)


class MembershipSuite:
    """Settles what a doubtful case of `Membership` means."""

    async def test_nodes_get_different_ids_and_keep_them(self, catalog: Catalog) -> None:
        assert [await register(catalog, beat_of(number)) for number in (1, 2, 3)] == [0, 1, 2]
        assert await register(catalog, beat_of(2, start=2)) == 1
        assert await register(catalog, beat_of(4)) == 3

    async def test_nodes_that_start_together_get_different_ids(self, catalog: Catalog) -> None:
        ids = await asyncio.gather(*(register(catalog, beat_of(number)) for number in range(1, 9)))
        assert list(range(8)) == sorted(ids)

    async def test_an_id_is_given_on_only_after_the_window_and_above_its_floor(
        self, catalog: Catalog, pass_time: PassTime
    ) -> None:
        for number in range(NODE_IDS):
            await register(catalog, beat_of(number, name_floor_ms=1000 + number))
        with pytest.raises(NodeIdsExhaustedError, match=r"all 256 node ids are leased.*1\.0 days"):
            await register(catalog, beat_of(999))
        await pass_time(0.01)
        lease = await catalog.register_node(beat_of(999), ttl_s=LONG_S, window_ms=1)
        assert (lease.node_id, lease.floor_ms) == (0, 1000)
        # The node that had it comes back: it needs another one.
        with pytest.raises(NodeIdsExhaustedError):
            await register(catalog, beat_of(0, start=2))

    async def test_a_floor_never_goes_back(self, catalog: Catalog) -> None:
        await register(catalog, beat_of(name_floor_ms=500))
        await catalog.beat_node(beat_of(name_floor_ms=700), NOTHING, ttl_s=LONG_S)
        await catalog.beat_node(beat_of(name_floor_ms=600), NOTHING, ttl_s=LONG_S)
        lease = await catalog.register_node(beat_of(start=2, name_floor_ms=0), ttl_s=LONG_S, window_ms=DAY_MS)
        assert (lease.node_id, lease.floor_ms) == (0, 700)

    async def test_a_heartbeat_shows_the_node_and_extends_its_locks(self, catalog: Catalog) -> None:
        await register(catalog, beat_of(state=NodeState.JOINING))
        locks = await take(catalog, [1, 2], beat_of(), ttl_s=SHORT_S)
        view = await catalog.beat_node(beat_of(address="there:1", capacity=3), claim_of(locks), ttl_s=LONG_S)
        (row,) = view.nodes
        assert (row.address, row.capacity, row.state, row.boot_epoch) == ("there:1", 3, NodeState.ACTIVE, 1)
        assert row.started_ms <= row.heartbeat_ms <= view.now_ms
        assert view.lives(row)
        assert [lock.expires_ms - lock.heartbeat_ms for lock in view.locks] == [LONG_S * 1000] * 2
        assert [(lock.holder, lock.node) for lock in view.locks] == [(beat_of().holder, beat_of().node)] * 2
        assert view.locks == (await catalog.cluster_view()).locks

    async def test_a_node_that_is_silent_or_gone_does_not_live(self, catalog: Catalog) -> None:
        await catalog.register_node(beat_of(1), ttl_s=SHORT_S, window_ms=DAY_MS)
        await register(catalog, beat_of(2, state=NodeState.GONE))
        await register(catalog, beat_of(3))
        view = await catalog.cluster_view()
        now = max(view.now_ms, view.nodes[0].expires_ms)
        assert [replace(view, now_ms=now).lives(node) for node in view.nodes] == [False, False, True]

    async def test_the_later_start_of_a_node_stands(self, catalog: Catalog) -> None:
        await register(catalog, beat_of(start=1))
        await register(catalog, beat_of(start=3))
        with pytest.raises(NodeReplacedError, match=r"start 3 .*this is start 1"):
            await catalog.beat_node(beat_of(start=1), NOTHING, ttl_s=LONG_S)
        with pytest.raises(NodeReplacedError, match="copied or set back"):
            await register(catalog, beat_of(start=2))
        assert await register(catalog, beat_of(start=3)) == 0
        with pytest.raises(NodeReplacedError, match="not registered"):
            await catalog.beat_node(beat_of(7), NOTHING, ttl_s=LONG_S)

    async def test_a_later_start_takes_its_own_locks_at_once_and_leaves_nothing_behind(
        self, catalog: Catalog
    ) -> None:
        await register(catalog, beat_of(1))
        before = await take(catalog, [1, 2], beat_of(1))
        assert await take(catalog, [1, 2], beat_of(1)) == []
        assert await take(catalog, [1, 2], beat_of(2)) == []
        after = await take(catalog, [1, 2], beat_of(1, start=2))
        assert [(lock.shard, lock.epoch) for lock in after] == [(1, 2), (2, 2)]
        assert (await catalog.cluster_view()).estates == ()
        assert await catalog.renew_shards(claim_of(before), ttl_s=LONG_S) == []

    async def test_what_is_taken_from_a_silent_node_is_an_estate(
        self, catalog: Catalog, pass_time: PassTime
    ) -> None:
        lost = beat_of(1, local_files=True)
        await register(catalog, lost)
        locks = await take(catalog, [1, 2], lost, ttl_s=SHORT_S)
        told = [
            OpenContainer(day, shard=2, bits=8, files=3, data_bytes=9, oldest_ms=1, node=lost.node)
            for day in ("20260101", "20260102")
        ]
        await catalog.checkpoint_open(told, claim_of(locks))
        await self.expire(catalog, 1, pass_time)
        await take(catalog, [1, 2, 3], beat_of(2))
        view = await catalog.cluster_view()
        assert [e.open_files for e in view.estates] == [0, 6]
        assert [(e.shard, e.node, e.epoch, e.local_files, e.settled_seq, e.owed) for e in view.estates] == [
            (1, lost.node, 1, True, 0, True),
            (2, lost.node, 1, True, 0, True),
        ]
        assert all(0 < e.taken_ms <= view.now_ms for e in view.estates)

    async def test_a_node_and_its_locks_expire_at_one_moment(self, catalog: Catalog) -> None:
        node = beat_of(1)
        await register(catalog, node)
        locks = await take(catalog, range(300), node)
        view = await catalog.beat_node(node, claim_of(locks), ttl_s=LONG_S)
        assert {lock.expires_ms for lock in view.locks} == {view.nodes[0].expires_ms}

    async def test_an_estate_says_how_late_the_names_of_files_may_be(
        self, catalog: Catalog, pass_time: PassTime
    ) -> None:
        told = [beat_of(1, named_until_ms=0), beat_of(2, named_until_ms=9 * 10**12), beat_of(3)]
        # Of a start that says nothing, whatever the one before said.
        told += [beat_of(4, named_until_ms=0), beat_of(4, start=2)]
        for beat in told:
            await register(catalog, beat)
        shards = {10: told[0], 11: told[1], 12: told[2], 13: told[4]}
        for shard, beat in shards.items():
            await take(catalog, [shard], beat, ttl_s=SHORT_S)
        for shard in shards:
            await self.expire(catalog, shard, pass_time)
        await take(catalog, list(shards), beat_of(9))
        found = {estate.shard: estate for estate in (await catalog.cluster_view()).estates}
        later_ms = {shard: found[shard].named_until_ms - found[shard].taken_ms for shard in shards}
        assert later_ms == {
            10: 0,
            11: 9 * 10**12 - found[11].taken_ms,
            12: UNBOUNDED_AHEAD_MS,
            13: UNBOUNDED_AHEAD_MS,
        }

    async def test_an_estate_is_settled_forgiven_and_dropped(
        self, catalog: Catalog, pass_time: PassTime
    ) -> None:
        lost = beat_of(1, local_files=True)
        await register(catalog, lost)
        await take(catalog, [1, 2, 3], lost, ttl_s=SHORT_S)
        await self.expire(catalog, 1, pass_time)
        await take(catalog, [1, 2, 3], beat_of(2))
        await catalog.settle_estates(lost.node, {1: 1, 9: 1}, seq=70)
        await catalog.settle_estates(lost.node, {1: 1}, seq=60)
        await catalog.forgive_estates(lost.node, [2])
        await catalog.drop_estates(lost.node, {1: 2, 3: 1})
        assert await self.estates(catalog) == [(1, 70, False, False), (2, 0, True, False), (3, 0, True, True)]
        await catalog.drop_estates(lost.node, {1: 1, 2: 1})
        assert await self.estates(catalog) == [(2, 0, True, False), (3, 0, True, True)]

    async def test_an_estate_that_is_owed_again_keeps_what_was_settled(
        self, catalog: Catalog, pass_time: PassTime
    ) -> None:
        lost = beat_of(1)
        await register(catalog, lost)
        await take(catalog, [1], lost, ttl_s=SHORT_S)
        await self.expire(catalog, 1, pass_time)
        other = await take(catalog, [1], beat_of(2))
        await catalog.settle_estates(lost.node, {1: 1}, seq=70)
        await catalog.release_shards(claim_of(other))
        await take(catalog, [1], lost, ttl_s=SHORT_S)
        await self.expire(catalog, 1, pass_time)
        await take(catalog, [1], beat_of(2))
        assert await self.estates(catalog) == [(1, 70, True, False)]
        # Whoever saw only the first loss knows nothing of what the second one left.
        await catalog.settle_estates(lost.node, {1: 1}, seq=90)
        assert await self.estates(catalog) == [(1, 70, True, False)]
        await catalog.settle_estates(lost.node, {1: 3}, seq=90)
        assert await self.estates(catalog) == [(1, 90, False, False)]

    async def test_a_lock_that_was_let_go_leaves_no_estate(self, catalog: Catalog) -> None:
        await register(catalog, beat_of(1))
        locks = await take(catalog, [1], beat_of(1))
        await catalog.release_shards(claim_of(locks))
        assert [(lock.holder, lock.node) for lock in await catalog.shard_locks()] == [("", "")]
        await take(catalog, [1], beat_of(2))
        assert (await catalog.cluster_view()).estates == ()

    async def test_locks_are_handed_over_with_the_next_epoch(self, catalog: Catalog) -> None:
        anna, bert = beat_of(1), beat_of(2)
        locks = await take(catalog, [1, 2, 3], anna)
        given = await catalog.transfer_shards(
            claim_of(locks[:2]), holder=bert.holder, node=bert.node, ttl_s=LONG_S
        )
        assert [(x.shard, x.holder, x.node, x.epoch) for x in given] == [
            (1, bert.holder, bert.node, 2),
            (2, bert.holder, bert.node, 2),
        ]
        assert [*given, locks[2]] == await catalog.shard_locks()
        # Twice is once: the claim does not hold any more.
        again = await catalog.transfer_shards(
            claim_of(locks[:2]), holder=anna.holder, node=anna.node, ttl_s=1
        )
        assert again == []
        assert (await catalog.cluster_view()).estates == ()

    async def test_a_store_is_divided_as_the_first_node_says(self, catalog: Catalog) -> None:
        await catalog.store_id()
        assert (await catalog.cluster_view()).sharding is None
        assert await catalog.sharding(3) == await catalog.sharding(5) == Sharding(3, 0)
        assert (await catalog.cluster_view()).sharding == Sharding(3, 0)
        with pytest.raises(InvalidInputError):
            await catalog.ask_sharding(17, from_ms=0)

    async def test_what_is_asked_for_can_be_taken_back(self, catalog: Catalog) -> None:
        await catalog.store_id()
        await catalog.sharding(3)
        assert await catalog.ask_sharding(4, from_ms=77) == Sharding(3, 0, 4, 77)
        assert (await catalog.cluster_view()).sharding == Sharding(3, 0, 4, 77)
        assert await catalog.ask_sharding(3, from_ms=78) == Sharding(3, 0)
        await catalog.ask_sharding(5, from_ms=79)
        assert await catalog.ask_sharding(None, from_ms=0) == Sharding(3, 0)
        assert await catalog.turn_sharding() == Sharding(3, 0)

    async def test_a_store_is_divided_anew_when_that_is_due_and_every_shard_was_let_go(
        self, catalog: Catalog, pass_time: PassTime
    ) -> None:
        await catalog.store_id()
        await catalog.sharding(2)
        anna, bert = beat_of(1), beat_of(2)
        await register(catalog, anna)
        first = await take(catalog, [0, 1, 2, 3], anna)
        await catalog.release_shards(claim_of(first))
        held = await take(catalog, [1], anna)
        later_ms = await catalog.now_ms() + 3_600_000
        await catalog.ask_sharding(3, from_ms=later_ms)
        assert (await catalog.turn_sharding()).bits == 2
        await catalog.ask_sharding(3, from_ms=0)
        assert (await catalog.turn_sharding()).bits == 2
        await catalog.release_shards(claim_of(held))
        assert await catalog.turn_sharding() == await catalog.turn_sharding() == Sharding(3, 1)
        locks = (await catalog.cluster_view()).locks
        assert [(lock.shard, lock.holder, lock.epoch) for lock in locks] == [(n, "", 3) for n in range(8)]
        with pytest.raises(FencedError):
            await catalog.checkpoint_open([], claim_of(first))
        await take(catalog, [5], bert, ttl_s=SHORT_S)
        await self.expire(catalog, 5, pass_time)
        await catalog.ask_sharding(1, from_ms=0)
        # Expired is not let go: what its holder left is taken over by the shards that it knew.
        assert (await catalog.turn_sharding()).bits == 3
        assert await catalog.turn_sharding(force=True) == Sharding(1, 2)
        locks = (await catalog.cluster_view()).locks
        assert [(lock.shard, lock.holder, lock.epoch) for lock in locks] == [(0, "", 5), (1, "", 5)]
        assert {5} == {lock.epoch for lock in await catalog.shard_locks()}

    async def test_what_lost_nodes_may_have_is_kept_when_a_store_is_divided_anew(
        self, catalog: Catalog, pass_time: PassTime
    ) -> None:
        await catalog.store_id()
        await catalog.sharding(2)
        lost = beat_of(1, local_files=True)
        await register(catalog, lost)
        await take(catalog, [0, 1, 2], lost, ttl_s=SHORT_S)
        await self.expire(catalog, 0, pass_time)
        taken = await take(catalog, [0, 1, 2], beat_of(2))
        await catalog.settle_estates(lost.node, {1: 1, 2: 1}, seq=70)
        await catalog.release_shards(claim_of(taken))
        await catalog.ask_sharding(1, from_ms=0)
        await catalog.turn_sharding()
        assert await self.estates(catalog) == [(0, 0, True, True), (1, 70, False, False)]
        # Who still counts in the old shards changes nothing.
        await catalog.settle_estates(lost.node, {0: 1}, seq=90)
        await catalog.drop_estates(lost.node, {1: 1})
        await catalog.ask_sharding(2, from_ms=0)
        await catalog.turn_sharding()
        assert await self.estates(catalog) == [
            (0, 0, True, True),
            (1, 0, True, True),
            (2, 70, False, False),
            (3, 70, False, False),
        ]

    async def test_held_segments_are_needed_by_the_new_shards(self, catalog: Catalog) -> None:
        await catalog.store_id()
        await catalog.sharding(2)
        locks = await take(catalog, [1, 2], beat_of(1))
        await catalog.record_log_segment(segment_of(shards=(1, 2), bits=2), claim_of(locks))
        await catalog.release_shards(claim_of(locks))
        for bits, shards in ((3, (2, 3, 4, 5)), (1, (0, 1))):
            await catalog.ask_sharding(bits, from_ms=0)
            await catalog.turn_sharding()
            (row,) = await catalog.log_segments()
            assert (row.shards, row.bits, row.state) == (shards, bits, LogSegmentState.HELD)

    @staticmethod
    async def expire(catalog: Catalog, shard: int, pass_time: PassTime) -> None:
        """Wait until a lock has expired."""
        while True:
            view = await catalog.cluster_view()
            if next(lock for lock in view.locks if lock.shard == shard).expires_ms <= view.now_ms:
                return
            await pass_time(SHORT_S)

    @staticmethod
    async def estates(catalog: Catalog) -> list[tuple[int, int, bool, bool]]:
        """Return (shard, settled, owed, local files) of every estate."""
        found: tuple[Estate, ...] = (await catalog.cluster_view()).estates
        return [(e.shard, e.settled_seq, e.owed, e.local_files) for e in found]
