"""Nodes over one catalog: shares, hand-overs, take-overs, pauses, and a catalog that does not answer."""

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest

from des.cluster import ClusterLease, Duties, NameAheadError, NotShardOwnerError, coming_home
from des.db.catalog import CatalogUnavailableError, ShardRun
from des.db.membership import NodeReplacedError, Sharding
from des.testing.memory_catalog import MemoryCatalog
from des.testing.simulated_clock import SimulatedClock

TTL_S = 10.0
BITS = 4
COUNT = 1 << BITS


@dataclass
class Member:
    """A node that only remembers what its lease told it."""

    lease: ClusterLease
    open: Counter[int] = field(default_factory=Counter)
    gained: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    gave: list[int] = field(default_factory=list)
    sealed: list[int] = field(default_factory=list)
    foreign: set[int] = field(default_factory=set)
    emptying: int = 0
    emptying_most: int = 0
    giving: set[int] = field(default_factory=set)
    gain_fails: int = 0
    seal_fails: int = 0
    stuck: set[int] = field(default_factory=set)
    named_until_ms: int | None = 0

    def __post_init__(self):
        async def gained(shards):
            if self.gain_fails:
                self.gain_fails -= 1
                raise CatalogUnavailableError("not now")
            self.gained += shards

        async def empty(shards):
            self.emptying += 1
            self.emptying_most = max(self.emptying, self.emptying_most)
            self.giving = {
                shard for shard in range(COUNT) if not self.lease.may_seal(ShardRun(shard, 1, BITS))
            }
            await asyncio.sleep(0)
            self.emptying -= 1
            if self.seal_fails:
                self.seal_fails -= 1
                return {shard: CatalogUnavailableError("not now") for shard in shards if self.open[shard]}
            for shard in set(shards) - self.stuck:
                if self.open.pop(shard, 0):
                    self.sealed.append(shard)
            return {shard: CatalogUnavailableError("stuck") for shard in self.stuck.intersection(shards)}

        self.lease.duties = Duties(
            gained=gained,
            lost=self.lost.extend,
            gave=self.gave.extend,
            empty=empty,
            is_empty=lambda shard: not self.open[shard],
            awaits_files=self.foreign.__contains__,
            holds_local_files=lambda: bool(self.open),
            name_floor_ms=lambda: 0,
            named_until_ms=lambda: self.named_until_ms,
        )

    @property
    def owned(self):
        return {shard for shard in range(COUNT) if self.lease.owns(shard)}


class World:
    def __init__(self):
        self.clock = SimulatedClock()
        self.catalog = MemoryCatalog(self.clock)

    def lease(self, number, start=1):
        return ClusterLease(
            catalog=self.catalog,
            node=f"node-{number}",
            holder=f"holder-{number}-{start}",
            boot_epoch=start,
            version="1",
            capacity=1,
            sharding=Sharding(BITS, 0),
            ttl_s=TTL_S,
            clock=self.clock,
        )

    async def start(self, number, start=1):
        member = Member(self.lease(number, start))
        await member.lease.register(window_ms=1 << 32)
        await member.lease.join(f"10.0.0.{number}:1")
        await settle()
        return member

    async def steps(self, *members, times=1):
        for _ in range(times):
            for member in members:
                await member.lease.step()
                await settle()

    def locks(self):
        return {shard: (lock.holder, lock.epoch) for shard, lock in self.catalog._locks.items()}


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def world():
    return World()


async def test_the_first_node_gets_every_shard_and_a_second_half_of_them(world):
    first = await world.start(1)
    assert first.owned == set(range(COUNT))
    second = await world.start(2)
    assert second.owned == set()
    await world.steps(first, second)
    assert (len(first.owned), len(second.owned)) == (8, 8)
    assert first.owned | second.owned == set(range(COUNT))
    assert (await world.catalog.cluster_view()).estates == ()


async def test_a_node_owns_nothing_before_it_joined(world):
    lease = world.lease(1)
    await lease.register(window_ms=1 << 32)
    await lease.step()
    await settle()
    assert not lease.owns_any()
    assert world.locks() == {}


async def test_open_files_are_sealed_before_a_shard_moves(world):
    first = await world.start(1)
    first.open.update(range(COUNT))
    second = await world.start(2)
    await world.steps(first, second)
    assert sorted(first.sealed) == sorted(second.owned)
    assert set(first.open) == first.owned


async def test_a_shard_whose_files_cannot_be_sealed_stays(world):
    first = await world.start(1)
    first.open.update(range(COUNT))
    second = await world.start(2)
    first.seal_fails = 1
    with pytest.raises(CatalogUnavailableError):
        await first.lease.step()
    assert first.owned == set(range(COUNT))
    await world.steps(first, second)
    assert len(first.owned) == 8


async def test_a_drained_node_keeps_nothing_and_leaves_no_estate(world):
    first, second, third = [await world.start(number) for number in (1, 2, 3)]
    await world.steps(first, second, third, times=3)
    assert sorted(len(member.owned) for member in (first, second, third)) == [5, 5, 6]
    second.open.update(second.owned)
    await second.lease.drain()
    assert (second.owned, second.lease.locks) == (set(), {})
    await world.steps(first, third)
    assert first.owned | third.owned == set(range(COUNT))
    assert not first.owned & third.owned
    await second.lease.release()
    view = await world.catalog.cluster_view()
    assert view.estates == ()
    assert [node.state.value for node in view.nodes] == ["active", "gone", "active"]


async def test_the_last_node_that_leaves_lets_go_of_what_is_empty(world):
    first = await world.start(1)
    first.open[3] = 1
    first.seal_fails = 100
    await first.lease.drain()
    await first.lease.release()
    held = [shard for shard, (holder, _) in world.locks().items() if holder]
    assert held == [3]


async def test_a_silent_node_loses_its_shards_after_its_time(world):
    first, second = await world.start(1), await world.start(2)
    await world.steps(first, second)
    first.open.update(first.owned)
    await world.steps(first)
    lost = first.owned
    world.clock.advance(TTL_S * 0.95)
    assert first.owned == set()  # by its own clock it stops a little earlier than others may begin
    await world.steps(second)
    assert len(second.owned) == 8
    world.clock.advance(TTL_S * 0.1)
    await world.steps(second)
    assert second.owned == set(range(COUNT))
    estates = (await world.catalog.cluster_view()).estates
    assert {(e.shard, e.node, e.local_files, e.owed) for e in estates} == {
        (shard, "node-1", True, True) for shard in lost
    }


async def test_a_node_that_wakes_after_a_pause_finds_its_shards_gone(world):
    first, second = await world.start(1), await world.start(2)
    await world.steps(first, second)
    lost = first.owned
    claims = first.lease.claim_of(lost)
    for _ in range(6):  # three times its time to live, while the other one lives on
        world.clock.advance(TTL_S / 2)
        await world.steps(second)
    assert second.owned == set(range(COUNT))
    assert first.owned == set()
    assert await world.catalog.renew_shards(claims, ttl_s=1) == []
    await world.steps(first)
    assert set(first.lost) == lost
    with pytest.raises(NotShardOwnerError):
        first.lease.claim_of(lost)
    # It is a member again, and gets a share again.
    await world.steps(second, first)
    assert (len(first.owned), len(second.owned)) == (8, 8)


async def test_a_name_that_a_lost_node_may_have_is_neither_there_nor_absent(world):
    first, second = await world.start(1), await world.start(2)
    await world.steps(first, second)
    first.open.update(first.owned)
    await world.steps(first)
    (shard, *_) = sorted(first.owned)
    world.clock.advance(TTL_S * 0.7)
    await world.steps(second)
    world.clock.advance(TTL_S * 0.7)
    await world.steps(second)
    now = world.clock.now_ms()  # the moment of the take-over
    with pytest.raises(NotShardOwnerError, match=r"node-1, which is away"):
        second.lease.check_absence(shard, now)
    second.lease.check_absence(shard, now + 1)  # named afterwards: the lost node cannot have it
    second.lease.check_absence(max(second.owned - first.owned), now + 1)
    await world.catalog.forgive_estates("node-1", [shard])
    await world.steps(second)
    second.lease.check_absence(shard, now)


async def test_a_lost_node_that_does_not_bound_its_names_may_have_some_of_a_second_later(world):
    first, second = await world.start(1), await world.start(2)
    first.named_until_ms = None  # as a version that knows of no bound
    await world.steps(first, second)
    first.open.update(first.owned)
    await world.steps(first)
    (shard, *_) = sorted(first.owned)
    for _ in range(2):
        world.clock.advance(TTL_S * 0.7)
        await world.steps(second)
    now = world.clock.now_ms()
    with pytest.raises(NotShardOwnerError, match=r"node-1, which is away"):
        second.lease.check_absence(shard, now + 1000)
    second.lease.check_absence(shard, now + 1001)


async def test_no_file_is_taken_under_a_name_later_than_its_locks_expiry(world):
    first = await world.start(1)
    until_ms = world.clock.now_ms() + int(TTL_S * 1000)
    first.lease.check_named(3, until_ms)
    with pytest.raises(NameAheadError, match="1 ms later") as caught:
        first.lease.check_named(3, until_ms + 1)
    assert caught.value.retry_after_s == 0.001
    with pytest.raises(NameAheadError):
        async with first.lease.writing((3,), named_ms=until_ms + 1):
            pytest.fail("entered")
    world.clock.advance(TTL_S / 5)
    await world.steps(first)
    first.lease.check_named(3, until_ms + int(TTL_S * 200))


async def test_a_node_with_later_names_in_its_log_says_so(world):
    first, second = await world.start(1), await world.start(2)
    late_ms = world.clock.now_ms() + 3_600_000
    first.named_until_ms = late_ms
    await world.steps(first, second)
    first.open.update(first.owned)
    await world.steps(first)
    (shard, *_) = sorted(first.owned)
    for _ in range(2):
        world.clock.advance(TTL_S * 0.7)
        await world.steps(second)
    with pytest.raises(NotShardOwnerError, match=r"node-1, which is away"):
        second.lease.check_absence(shard, late_ms)
    second.lease.check_absence(shard, late_ms + 1)


async def test_when_a_lock_expires_its_silent_node_counts_as_dead_however_late_its_row_says(world):
    first, second = await world.start(1), await world.start(2)
    await world.steps(first, second)
    lost = first.owned
    running = asyncio.create_task(second.lease.run())
    # A version that wrote the node's row after the locks' left it alive for a moment longer.
    row = world.catalog._membership.nodes["node-1"]
    world.catalog._membership.nodes["node-1"] = replace(row, expires_ms=row.expires_ms + 50)
    try:
        await world.clock.run_for(TTL_S + 0.1)
        assert second.owned >= lost
    finally:
        running.cancel()


async def test_one_shard_that_cannot_be_emptied_holds_no_other_back(world):
    first = await world.start(1)
    first.open.update(range(COUNT))
    first.stuck = {15}
    second = await world.start(2)
    with pytest.raises(CatalogUnavailableError, match="stuck"):
        await first.lease.step()
    await world.steps(second)
    assert first.owned == {*range(8), 15}
    assert second.owned == set(range(8, 15))
    first.stuck = set()
    await world.steps(first, second)
    assert second.owned == set(range(8, 16))


async def test_a_restarted_node_takes_its_own_shards_back_at_once(world):
    before = await world.start(1)
    assert len(before.owned) == COUNT
    after = await world.start(1, start=2)
    assert after.owned == set(range(COUNT))
    assert (await world.catalog.cluster_view()).estates == ()
    with pytest.raises(NodeReplacedError):
        await before.lease.step()
    assert before.owned == set()
    assert before.lease.failure is not None


async def test_shards_that_are_not_ready_are_not_served_until_they_are(world):
    member = Member(world.lease(1))
    member.gain_fails = 1
    await member.lease.register(window_ms=1 << 32)
    await member.lease.join("here:1")
    await settle()
    assert member.owned == set()
    assert member.lease.is_gaining(3)
    assert member.lease.gain_error == "not now"
    with pytest.raises(NotShardOwnerError):
        member.lease.claim(ShardRun(0, 1, BITS))
    await world.steps(member)
    assert member.owned == set(range(COUNT))
    assert member.lease.gain_error == ""


async def test_without_the_catalog_a_node_serves_until_its_time_is_up_and_again_afterwards(world):
    member = await world.start(1)

    def away(*_):
        raise CatalogUnavailableError("away")

    world.catalog.fault = away
    with pytest.raises(CatalogUnavailableError):
        await member.lease.step()
    assert member.owned == set(range(COUNT))
    world.clock.advance(TTL_S)
    assert member.owned == set()
    world.catalog.fault = None
    await world.steps(member)
    assert member.owned == set(range(COUNT))
    assert {epoch for _, epoch in world.locks().values()} == {1}


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_hand_over_of_unknown_outcome_is_settled_by_looking(world, moment):
    first = await world.start(1)
    second = await world.start(2)

    def lose_reply(method, now):
        if (method, now) == ("transfer_shards", moment):
            raise CatalogUnavailableError("no reply")

    world.catalog.fault = lose_reply
    with pytest.raises(CatalogUnavailableError):
        await first.lease.step()
    # The shards whose owner is unknown are served by nobody, the others go on.
    assert len(first.owned) == 8
    world.catalog.fault = None
    await world.steps(second, first, second, times=2)
    assert (len(first.owned), len(second.owned)) == (8, 8)
    assert first.owned | second.owned == set(range(COUNT))


async def test_a_write_in_progress_keeps_its_shard(world):
    first = await world.start(1)
    second = await world.start(2)
    entered, leave = asyncio.Event(), asyncio.Event()

    async def write():
        async with first.lease.writing((15,), named_ms=0):
            entered.set()
            await leave.wait()

    writing = asyncio.create_task(write())
    await entered.wait()
    moving = asyncio.create_task(first.lease.step())
    await asyncio.sleep(0.05)
    assert first.lease.owns(15)
    assert not moving.done()
    leave.set()
    await writing
    await moving
    await world.steps(second)
    assert 15 in second.owned


async def test_looks_that_are_asked_for_together_are_one(world):
    member = await world.start(1)
    looks = Counter()
    world.catalog.fault = lambda method, _: looks.update([method])
    await asyncio.gather(*(member.lease.refresh() for _ in range(20)))
    assert looks["cluster_view"] == 1


async def test_who_owns_a_shard_is_known_while_its_lock_lives(world):
    first, second = await world.start(1), await world.start(2)
    await world.steps(first, second)
    await first.lease.refresh()
    shard = min(second.owned)
    assert first.lease.owner(shard).node == "node-2"
    assert first.lease.owner(shard).address == "10.0.0.2:1"
    world.clock.advance(TTL_S * 1.5)
    assert first.lease.owner(shard) is None


async def test_a_node_that_regained_a_shard_says_nothing_is_missing_before_its_own_files_are_home(world):
    first = await world.start(1)
    name_ms = world.clock.now_ms()
    first.lease.check_absence(3, name_ms)
    first.foreign.add(3)
    assert first.lease.owns(3)
    with pytest.raises(NotShardOwnerError, match="brings home"):
        first.lease.check_absence(3, name_ms)
    first.lease.check_absence(4, name_ms)
    with coming_home():
        first.lease.check_absence(3, name_ms)
    first.foreign.clear()
    first.lease.check_absence(3, name_ms)


async def test_hand_overs_that_are_asked_for_at_once_come_one_after_the_other(world):
    first = await world.start(1)
    first.open.update(range(COUNT))
    second = await world.start(2)
    await asyncio.gather(first.lease.step(), first.lease.step(), first.lease.drain(), first.lease.step())
    await world.steps(second, first, times=3)
    assert first.emptying_most == 1
    assert second.owned == set(range(COUNT))
    assert sorted(first.gave) == list(range(COUNT))
    assert first.lost == []


async def test_no_seal_begins_that_reaches_into_a_shard_on_its_way_to_another_node(world):
    first = await world.start(1)
    first.open.update(range(COUNT))
    second = await world.start(2)
    await world.steps(first, second)
    assert second.owned <= first.giving
    assert all(first.lease.may_seal(ShardRun(shard, 1, BITS)) for shard in first.owned)
    whole = ShardRun(0, COUNT, BITS)
    assert not first.lease.may_seal(whole)


async def test_heartbeats_go_on_while_a_hand_over_seals(world):
    first = await world.start(1)
    first.open.update(range(COUNT))
    second = await world.start(2)
    sealed = asyncio.Event()
    empty = first.lease.duties.empty

    async def slow(shards):
        await sealed.wait()
        return await empty(shards)

    first.lease.duties = replace(first.lease.duties, empty=slow)
    running = asyncio.create_task(first.lease.run())
    try:
        for _ in range(12):  # more than two times to live
            await world.clock.run_for(TTL_S / 5)
        assert first.owned == set(range(COUNT))
        assert first.lost == []
        await second.lease.step()  # it was silent meanwhile
        sealed.set()
        await world.clock.run_for(TTL_S / 2)
        assert len(first.owned) == COUNT // 2
    finally:
        running.cancel()


async def asked(world, bits, *, in_s):
    await world.catalog.sharding(BITS)
    return await world.catalog.ask_sharding(bits, from_ms=world.clock.now_ms() + int(in_s * 1000))


async def test_other_shards_are_asked_for_and_nothing_changes_before_it_is_time(world):
    first, second = await world.start(1), await world.start(2)
    await world.steps(first, second)
    before = world.locks()
    await asked(world, BITS + 1, in_s=3600)
    await world.steps(first, second, times=3)
    assert world.locks() == before
    assert not first.lease.resharded.is_set()


async def test_what_is_open_is_sealed_once_shortly_before_and_again_when_it_is_time(world):
    first = await world.start(1)
    await asked(world, BITS + 1, in_s=40)
    first.open.update([3])
    await world.steps(first)
    assert first.sealed == []
    world.clock.advance(5)
    await world.steps(first)
    world.clock.advance(5)
    await world.steps(first)
    assert first.sealed == [3]
    first.open.update([4])
    await world.steps(first)
    assert first.sealed == [3]


@pytest.mark.parametrize("bits", [BITS - 2, BITS + 2])
async def test_when_it_is_time_all_let_go_and_the_store_is_divided_anew(world, bits):
    first, second = await world.start(1), await world.start(2)
    await world.steps(first, second)
    first.open.update(range(COUNT))
    second.open.update([15])
    await asked(world, bits, in_s=0)
    await world.steps(first, second, times=3)
    assert set(first.sealed) >= set(range(8))
    assert second.sealed == [15]
    assert first.lease.resharded.is_set()
    assert second.lease.resharded.is_set()
    assert not first.owned | second.owned
    assert first.lost == second.lost == []
    view = await world.catalog.cluster_view()
    assert view.sharding == Sharding(bits, 1)
    assert view.estates == ()
    assert [lock.holder for lock in view.locks] == [""] * (1 << bits)
    # Nodes that were opened for the old shards take none of the new ones.
    await world.steps(first, second)
    assert {holder for holder, _ in world.locks().values()} == {""}
    highest = max(epoch for _, epoch in world.locks().values())
    third = ClusterLease(
        catalog=world.catalog,
        node="node-1",
        holder="holder-1-2",
        boot_epoch=2,
        version="1",
        capacity=1,
        sharding=view.sharding,
        ttl_s=TTL_S,
        clock=world.clock,
    )
    await third.register(window_ms=1 << 32)
    await third.join("10.0.0.1:1")
    await settle()
    assert len(third.locks) > 0
    assert all(lock.epoch == highest + 1 for lock in third.locks.values())


async def test_while_something_cannot_be_sealed_nothing_is_let_go(world):
    first = await world.start(1)
    first.open.update([3])
    first.seal_fails = 2
    await asked(world, BITS + 1, in_s=0)
    for _ in range(2):
        with pytest.raises(CatalogUnavailableError):
            await first.lease.step()
    assert first.owned == set(range(COUNT))
    await world.steps(first, times=2)
    assert first.lease.resharded.is_set()


async def test_shards_of_a_lost_node_are_taken_over_before_the_store_is_divided_anew(world):
    first, second = await world.start(1), await world.start(2)
    await world.steps(first, second)
    had = second.owned
    second.open.update(had)
    await asked(world, BITS - 1, in_s=0)
    await world.steps(first, times=2)
    assert not first.lease.resharded.is_set()
    assert not first.owned
    world.clock.advance(TTL_S + 1)
    await world.steps(first, times=3)
    assert set(first.gained) >= had
    assert first.lease.resharded.is_set()
    view = await world.catalog.cluster_view()
    assert view.sharding == Sharding(BITS - 1, 1)
    assert {estate.shard for estate in view.estates} == {shard >> 1 for shard in had}
    assert all(estate.owed for estate in view.estates)
    # Back from its pause, the lost node serves nothing, and settles nothing of shards it does not count in.
    with contextlib.suppress(NodeReplacedError):
        await second.lease.step()
    assert sorted(second.lost) == sorted(had)
    assert second.lease.resharded.is_set()
    assert second.lease.own_estates() == []
    assert not second.owned


async def test_a_change_that_was_taken_back_does_not_happen(world):
    first = await world.start(1)
    await asked(world, BITS + 1, in_s=60)
    await world.steps(first)
    await world.catalog.ask_sharding(None, from_ms=0)
    world.clock.advance(61)
    await world.steps(first, times=2)
    assert first.owned == set(range(COUNT))
