"""How old what is known of deletes may be, where another node deletes."""

import asyncio

from des.retrieval.tombstones import Tombstones
from des.testing.simulated_clock import SimulatedClock

NAME = "DES_20260115_(000000000000_00)"
DAY = "20260115"


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
    early = asyncio.create_task(tombstones.deleted_ms(NAME, DAY, 3, bits=8))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert catalog.asked == 1
    # Another node deletes the file, waits for what others may still use, and answers.
    catalog.rows = [Row()]
    clock.advance(0.6)
    late = asyncio.create_task(tombstones.deleted_ms(NAME, DAY, 3, bits=8))
    await asyncio.sleep(0)
    catalog.answer.set()
    assert await early == 0
    assert await late == 7
