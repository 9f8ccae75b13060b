"""Whatever the clock, the disk and the process do, no name is given twice and none below the mark."""

import asyncio
import random

import pytest

from des.errors import UnavailableError
from des.naming import SnowflakeNameGenerator, created_ms, parse_name
from des.testing.simulated_clock import SimulatedClock, settle


class Disk:
    """Keeps a mark; marks may fail, and may be durable although their caller never heard of it."""

    def __init__(self, dice):
        self.dice = dice
        self.mark_ms = 0

    async def reserve(self, mark_ms):
        for _ in range(self.dice.randint(0, 5)):
            await asyncio.sleep(0)
        if self.dice.random() < 0.1:
            self.mark_ms = max(self.mark_ms, self.dice.choice([0, mark_ms]))
            raise UnavailableError("no answer from the disk")
        self.mark_ms = max(self.mark_ms, mark_ms)


async def ask(generator, count, given):
    try:
        given += await generator.next_many(count)
    except UnavailableError:
        return


@pytest.mark.parametrize("seed", range(5))
async def test_no_name_repeats_in_a_bad_life(seed):
    dice = random.Random(seed)
    clock = SimulatedClock(sleep_advances=True)
    disk = Disk(dice)
    given = []
    for _ in range(12):
        floor_ms = disk.mark_ms
        generator = SnowflakeNameGenerator(
            node_id=3,
            clock=clock,
            floor_ms=floor_ms,
            reserve=disk.reserve,
            reserve_ahead_ms=dice.choice([1, 20, 500]),
            lead_max_ms=20_000,
        )
        mine = []
        for _ in range(dice.randint(1, 12)):
            tasks = [
                asyncio.create_task(ask(generator, dice.choice([1, 3, 100, 400]), mine)) for _ in range(5)
            ]
            await settle(dice.randint(0, 30))
            match dice.randint(0, 5):
                case 0:
                    clock.set_wall(clock.now_ms() - dice.choice([1, 40, 5000]))
                case 1:
                    clock.advance(dice.choice([0.001, 0.5, 10, 86_400]))
                case 2:
                    dice.choice(tasks).cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert all(created_ms(parse_name(name), 32) < disk.mark_ms for name in mine)
        assert all(created_ms(parse_name(name), 32) >= floor_ms for name in mine)
        given += mine
        if dice.random() < 0.3:
            disk.mark_ms = await generator.close()
        else:
            await settle(100)  # a crash: what was under way may or may not have become durable
    assert len(given) > 2000
    assert len(given) == len(set(given))
