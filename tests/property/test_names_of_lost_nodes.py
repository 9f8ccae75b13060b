"""Whatever clocks do, who takes a lost node's shards takes no name under which that one acknowledged a file.

Three nodes over one catalog: real leases, gates and name generators; each node's clock has a skew of its own
and is set forwards and backwards, the database's too, and calls to the catalog take their time. One node is
lost, sometimes only paused, after acknowledging files under names of its own, of others, and far ahead.
"""

import random
from dataclasses import dataclass, field

import pytest

from des.cluster import ClusterLease, Duties, NamingClock, NotShardOwnerError
from des.cluster.standing import Standing
from des.db import rules
from des.db.catalog import CatalogUnavailableError
from des.db.membership import Sharding
from des.errors import UnavailableError
from des.naming import SnowflakeNameGenerator, created_ms_of
from des.testing.memory_catalog import MemoryCatalog
from des.testing.simulated_clock import START_MS, SimulatedClock, settle

TTL_S = 4.0
BITS = 3
SHARDS = range(1 << BITS)
SEEDS = range(60)
SKEWS_MS = [0, 0, 150, -150, 900, -900, 7_000, -7_000, 3_600_000]


class NodeClock:
    """A clock with its own idea of the time; seconds are as long as everybody's."""

    def __init__(self, shared, skew_ms):
        self.shared = shared
        self.skew_ms = skew_ms

    def now_ms(self):
        return START_MS + int(self.shared.monotonic() * 1000) + self.skew_ms

    def monotonic(self):
        return self.shared.monotonic()

    async def sleep(self, seconds):
        await self.shared.sleep(seconds)


@dataclass
class World:
    seed: int
    database_steps: bool = True
    acknowledged: list[tuple[int, int]] = field(default_factory=list)
    """Shard and time in the name of each file that the node has open which is to be lost."""
    foreign: list[tuple[int, int]] = field(default_factory=list)
    """The same of shards that others took from it meanwhile."""

    def __post_init__(self):
        self.dice = random.Random(self.seed)
        self.clock = SimulatedClock(sleep_advances=True)
        self.catalog = MemoryCatalog(self.clock)
        self.catalog.fault = self.take_time

    def take_time(self, method, moment):
        self.clock.advance(self.dice.choice([0, 0.001, 0.02, 0.3]))
        if method == "beat_node" and moment == "after" and self.dice.random() < 0.1:
            raise CatalogUnavailableError("the answer is lost")

    async def start(self, number, *, bounds_names=True):
        clock = NodeClock(self.clock, self.dice.choice(SKEWS_MS))
        lease = ClusterLease(
            catalog=self.catalog,
            node=f"node-{number}",
            holder=f"holder-{number}",
            boot_epoch=1,
            version="1",
            capacity=1,
            sharding=Sharding(BITS, 0),
            ttl_s=TTL_S,
            clock=clock,
        )

        def lost(shards):
            self.foreign += [file for file in self.acknowledged if number == 1 and file[0] in shards]

        async def empty(shards):
            if number == 1:  # what is handed over lies in containers, where everybody finds it
                self.acknowledged = [file for file in self.acknowledged if file[0] not in shards]
            return {}

        async def nothing(_):
            pass

        lease.duties = Duties(
            gained=nothing,
            lost=lost,
            gave=lambda _: None,
            empty=empty,
            is_empty=lambda _: True,
            awaits_files=lambda _: False,
            holds_local_files=lambda: True,
            name_floor_ms=lambda: 0,
            named_until_ms=(lambda: 0) if bounds_names else lambda: None,
        )
        await lease.register(window_ms=1 << 32)
        await self.step(lease, join=True)
        generator = SnowflakeNameGenerator(
            node_id=number, clock=NamingClock(clock, lease.now_ms, ttl_s=TTL_S), reserve=None
        )
        return lease, generator, clock

    async def step(self, lease, *, join=False):
        try:
            await (lease.join(f"{lease.node}:1") if join else lease.step())
        except UnavailableError:
            pass
        await settle()

    async def share(self, *leases):
        """Let the nodes agree, at the pace of heartbeats."""
        for _ in range(6):
            for lease in leases:
                await self.step(lease)
            self.clock.advance(TTL_S / 10)

    async def acknowledge(self, lease, name_ms):
        shard = self.dice.choice(SHARDS)
        try:
            async with lease.writing((shard,), named_ms=name_ms):
                self.clock.advance(self.dice.choice([0, 0.01, 0.5]))
        except UnavailableError:
            return
        self.acknowledged.append((shard, name_ms))

    def name_ms(self, generator):
        name = generator.try_next()
        return 0 if name is None else created_ms_of(name, 32)

    async def live(self, lost, others, moves):
        """Let one node write, among all that goes wrong with clocks."""
        lease, generator, clock = lost
        for _ in range(moves):
            match self.dice.randint(0, 6):
                case 0:
                    self.clock.advance(self.dice.choice([0.01, 0.3, 1.0]))
                case 1 | 2:
                    for each in [lease, *(other for other, _, _ in others)]:
                        await self.step(each)
                case 3:
                    clock.skew_ms += self.dice.choice([-10_000, -500, 500, 10_000, 3_600_000])
                case 4:
                    await self.acknowledge(lease, self.name_ms(generator))
                case 5:
                    await self.acknowledge(lease, self.name_ms(self.dice.choice(others)[1]))
                case 6:
                    ahead_ms = self.dice.randint(-500, int(2000 * TTL_S))
                    await self.acknowledge(lease, self.clock.now_ms() + ahead_ms)
            if self.database_steps and self.dice.random() < 0.05:
                self.clock.set_wall(self.clock.now_ms() + self.dice.choice([-20_000, -700, 700, 20_000]))

    async def lose(self, lost, others):
        """Let a node be silent until others have its shards; it may be paused, and go on to write."""
        for _ in range(200):
            if all(any(lease.owns(shard) for lease, _, _ in others) for shard in SHARDS):
                return
            for lease, _, _ in others:
                await self.step(lease)
            self.clock.advance(TTL_S / 10)
            await self.acknowledge(lost[0], self.clock.now_ms() + self.dice.randint(-1000, 1000))
        pytest.fail(f"seed {self.seed}: nobody took the shards")

    def given_twice(self, others):
        """Return the names of the lost node of which the new owners would say that nobody has them."""
        wrong = []
        for shard, name_ms in [*self.acknowledged, *self.foreign]:
            for lease, _, _ in others:
                if lease.owns(shard):
                    try:
                        lease.check_absence(shard, name_ms)
                    except NotShardOwnerError:
                        continue
                    wrong.append((shard, name_ms))
        return wrong


async def life(seed, *, bounds_names=True, database_steps=True):
    world = World(seed, database_steps)
    lost = await world.start(1, bounds_names=bounds_names)
    others = [await world.start(number) for number in (2, 3)]
    await world.share(lost[0], *(lease for lease, _, _ in others))
    await world.live(lost, others, 60)
    await world.lose(lost, others)
    return world, others


@pytest.mark.parametrize("seed", SEEDS)
async def test_no_name_of_a_lost_node_is_new_to_who_takes_its_shards(seed):
    world, others = await life(seed)
    assert world.given_twice(others) == []


async def test_the_lives_have_what_they_are_about(monkeypatch):
    counts = [len((await life(seed))[0].acknowledged) for seed in SEEDS[:10]]
    assert sum(counts) > 50
    # Without the bound, or without what nodes say after their database was set back, names are given twice.
    monkeypatch.setattr(Standing, "check_named", lambda *_: None)
    found = [bool(world.given_twice(others)) for world, others in [await life(seed) for seed in SEEDS[:10]]]
    assert any(found)
    monkeypatch.undo()
    bound = rules.named_until_ms
    monkeypatch.setattr(
        "des.testing.memory_membership.named_until_ms",
        lambda lock, **said: bound(lock, **said | {"said_ms": 0}),
    )
    found = [bool(world.given_twice(others)) for world, others in [await life(seed) for seed in SEEDS]]
    assert any(found)


@pytest.mark.parametrize("seed", SEEDS[:10])
async def test_names_made_after_a_take_over_are_taken_at_once(seed):
    world, others = await life(seed, database_steps=False)
    world.clock.advance(0.001)
    for shard in SHARDS:
        (owner,) = [lease for lease, _, _ in others if lease.owns(shard)]
        owner.check_absence(shard, world.clock.now_ms())
        owner.check_named(shard, world.clock.now_ms())


@pytest.mark.parametrize("ahead_ms", [0, 1000])
async def test_names_of_a_node_that_bounds_none_are_kept_for_a_second_more(ahead_ms, monkeypatch):
    monkeypatch.setattr(rules, "UNBOUNDED_AHEAD_MS", ahead_ms)
    world = World(1)
    old, _, _ = await world.start(1, bounds_names=False)
    others = [await world.start(number) for number in (2, 3)]
    await world.share(old, *(lease for lease, _, _ in others))
    monkeypatch.setattr(old, "check_named", lambda *_: None)
    old._gate.check_named = lambda *_: None
    world.catalog.fault = None
    for shard in SHARDS:
        # Under the last of its locks, by a clock that is as far ahead as a clock may be.
        if old.holds(shard):
            world.acknowledged.append((shard, old.locks[shard].expires_ms + 900))
    assert world.acknowledged
    await world.lose((old, None, None), others)
    assert bool(world.given_twice(others)) == (ahead_ms == 0)
