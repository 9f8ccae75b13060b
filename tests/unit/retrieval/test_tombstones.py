"""How old what is known of deletes may be, where another node deletes."""

import asyncio

import pytest

from des.naming import consistent_hash
from des.retrieval.tombstones import JOINED_NAMES, Tombstones
from des.testing.catalog_rows import ANNA, BERT, claim, tombstone_row
from des.testing.memory_catalog import MemoryCatalog
from des.testing.simulated_clock import SimulatedClock

NAME = "DES_20260115_(000000000000_00)"
DAY = "20260115"
SHARD = consistent_hash(NAME, 8)


class SlowCatalog:
    """Answers when it is let, with what was true when it was asked."""

    def __init__(self):
        self.rows = []
        self.asked = 0
        self.answer = asyncio.Event()

    async def tombstones_of(self, day, shard, *, bits):
        self.asked += 1
        rows = list(self.rows)
        await self.answer.wait()
        return rows


class Row:
    name = NAME
    deleted_ms = 7


async def test_a_load_that_began_before_a_delete_was_acknowledged_is_not_told_to_who_asks_after_it():
    catalog, clock = SlowCatalog(), SimulatedClock()
    tombstones = Tombstones(catalog, owns=lambda _: False, cache_s=0.5, clock=clock)
    early = asyncio.create_task(tombstones.deleted_ms(NAME, DAY, SHARD, bits=8))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert catalog.asked == 1
    # Another node deletes the file, waits for what others may still use, and answers.
    catalog.rows = [Row()]
    clock.advance(0.6)
    late = asyncio.create_task(tombstones.deleted_ms(NAME, DAY, SHARD, bits=8))
    await asyncio.sleep(0)
    catalog.answer.set()
    assert await early == 0
    assert await late == 7


class EndingCatalog:
    """Has somebody ask anew in the moment between the end of its answer and those who waited for it."""

    def __init__(self):
        self.clock = SimulatedClock()
        self.tombstones_kept = Tombstones(self, owns=lambda _: False, cache_s=0.5, clock=self.clock)
        self.late = []

    def answered(self, ask):
        if not self.late:
            self.clock.advance(0.6)
            self.late.append(asyncio.create_task(ask()))
        return []

    async def tombstones_of(self, day, shard, *, bits):
        return self.answered(lambda: self.tombstones_kept.of_shard(day, shard, bits=bits))

    async def tombstones_of_day(self, day, **_):
        return self.answered(lambda: self.tombstones_kept.of_day(day))


@pytest.mark.timeout(20)
async def test_who_asks_when_an_old_load_has_just_ended_loads_anew_and_does_not_spin():
    catalog = EndingCatalog()
    await catalog.tombstones_kept.of_shard(DAY, 3, bits=8)
    assert await catalog.late[0] == {}


@pytest.mark.timeout(20)
async def test_who_lists_when_an_old_load_has_just_ended_loads_anew_and_does_not_spin():
    catalog = EndingCatalog()
    await catalog.tombstones_kept.of_day(DAY)
    assert await catalog.late[0] == {}


class BusyCatalog:
    """Deletes go on while it answers: whoever asks learns of some and not of others."""

    ASKED_MAX = 10

    def __init__(self):
        self.tombstones_kept = Tombstones(self)
        self.asked = 0

    def deleted_meanwhile(self):
        self.asked += 1
        if self.asked > self.ASKED_MAX:
            raise AssertionError("asked again and again")
        name = f"DES_20260115_({self.asked:012X}_00)"
        self.tombstones_kept.add(name, 9)
        self.tombstones_kept.settle([(name, DAY, 3, 8, 9), ("elsewhere", "20260116", 4, 8, 9)])

    async def tombstones_of(self, day, shard, *, bits):
        self.deleted_meanwhile()
        await asyncio.sleep(0)
        return [Row()]

    async def tombstones_of_day(self, day, *, after, limit):
        self.deleted_meanwhile()
        await asyncio.sleep(0)
        return [] if after else [Row()]


async def test_tombstones_of_a_shard_are_loaded_while_files_are_deleted_all_the_time():
    catalog = BusyCatalog()
    tombstones = catalog.tombstones_kept
    assert await tombstones.deleted_ms(NAME, DAY, 3, bits=8) == 7
    assert await tombstones.deleted_ms("DES_20260115_(000000000001_00)", DAY, 3, bits=8) == 9
    assert await tombstones.deleted_ms("elsewhere", DAY, 3, bits=8) == 0
    assert catalog.asked == 1


async def test_tombstones_of_a_day_are_loaded_while_files_are_deleted_all_the_time():
    catalog = BusyCatalog()
    deleted = await catalog.tombstones_kept.of_day(DAY)
    assert dict(deleted) == {
        NAME: 7,
        "DES_20260115_(000000000001_00)": 9,
        "DES_20260115_(000000000002_00)": 9,
    }


async def test_a_load_that_began_before_shards_changed_hands_is_made_again():
    catalog = SlowCatalog()
    tombstones = Tombstones(catalog)
    asking = asyncio.create_task(tombstones.deleted_ms(NAME, DAY, 3, bits=8))
    while not catalog.asked:
        await asyncio.sleep(0)
    tombstones.forget()
    catalog.rows = [Row()]
    catalog.answer.set()
    assert await asking == 7
    assert catalog.asked == 2


class CountedCatalog(MemoryCatalog):
    """Counts what it is asked for."""

    def __init__(self, clock):
        super().__init__(clock)
        self.asked = []

    async def tombstones_of(self, day, shard, *, bits):
        self.asked.append(bits)
        return await super().tombstones_of(day, shard, bits=bits)


async def read_all_shards(tombstones, day):
    return [set(await tombstones.of_shard(day, shard, bits=4)) for shard in range(16)]


async def with_deleted(count):
    clock = SimulatedClock()
    catalog = CountedCatalog(clock)
    rows = [tombstone_row(number) for number in range(count)]
    await catalog.put_tombstones(rows, await claim(catalog, range(256), holder=BERT))
    return catalog, Tombstones(catalog, owns=lambda shard: shard == 5, cache_s=0.5, clock=clock), clock, rows


def by_shard(rows):
    return [{row.name for row in rows if consistent_hash(row.name, 4) == shard} for shard in range(16)]


async def test_what_little_was_deleted_in_other_nodes_shards_is_asked_for_once_for_all():
    catalog, tombstones, clock, rows = await with_deleted(40)
    for _ in range(4):
        await read_all_shards(tombstones, rows[0].day)
        clock.advance(0.6)
    catalog.asked.clear()
    assert await read_all_shards(tombstones, rows[0].day) == by_shard(rows)
    assert catalog.asked == [0]  # own shards are not asked for again, all the others together


async def test_where_much_was_deleted_few_shards_are_asked_for_together():
    catalog, tombstones, clock, rows = await with_deleted(JOINED_NAMES * 3)
    for _ in range(6):
        catalog.asked.clear()
        assert await read_all_shards(tombstones, rows[0].day) == by_shard(rows)
        clock.advance(0.6)
    assert min(catalog.asked) >= 1


async def test_a_delete_that_is_known_to_nobody_yet_is_found_in_the_next_load_of_many_shards():
    catalog, tombstones, clock, rows = await with_deleted(1)
    for _ in range(4):
        await read_all_shards(tombstones, rows[0].day)
        clock.advance(0.6)
    await read_all_shards(tombstones, rows[0].day)
    late = next(
        row
        for row in map(tombstone_row, range(1, 99))
        if consistent_hash(row.name, 4) not in {5, rows[0].shard >> 4}
    )
    shard = consistent_hash(late.name, 4)
    await catalog.put_tombstones([late], await claim(catalog, range(256), holder=ANNA))
    clock.advance(0.6)
    assert await tombstones.deleted_ms(late.name, late.day, shard, bits=4) > 0


async def test_what_is_settled_while_many_shards_are_asked_for_is_in_the_answer():
    clock = SimulatedClock()
    catalog = SlowCatalog()
    catalog.answer.set()
    tombstones = Tombstones(catalog, owns=lambda _: False, cache_s=0.5, clock=clock)
    row = tombstone_row(1)
    shard = consistent_hash(row.name, 4)
    for _ in range(5):
        await tombstones.of_shard(row.day, shard, bits=4)
        clock.advance(0.6)
    catalog.answer.clear()
    asking = asyncio.create_task(tombstones.of_shard(row.day, shard ^ 15, bits=4))
    asked = catalog.asked
    while catalog.asked == asked:
        await asyncio.sleep(0)
    tombstones.settle([(row.name, row.day, shard, 4, 9)])
    catalog.answer.set()
    await asking
    assert tombstones.known(row.name, row.day, shard, bits=4) == 9
