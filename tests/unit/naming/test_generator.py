"""The generator gives no name twice: across restarts, steps of the clock, failures and tasks."""

import asyncio

import numpy as np
import pytest

from des.errors import DesError, InvalidInputError
from des.naming import (
    ClockBehindError,
    GeneratorClosedError,
    InvalidNameError,
    SnowflakeNameGenerator,
    created_ms,
    parse_name,
)
from des.testing.simulated_clock import START_MS, SimulatedClock, settle

DAY_MS = 86_400_000


class Mark:
    """A durable mark; `hold` keeps reservations waiting, `error` makes them fail."""

    def __init__(self, ms=0):
        self.ms = ms
        self.calls = []
        self.running = 0
        self.error = None
        self.released = asyncio.Event()
        self.released.set()

    async def reserve(self, mark_ms):
        self.running += 1
        assert self.running == 1, "two reservations at once"
        self.calls.append(mark_ms)
        try:
            await self.released.wait()
            await asyncio.sleep(0)
            if self.error is not None:
                raise self.error
            self.ms = max(self.ms, mark_ms)
        finally:
            self.running -= 1


class DiskError(DesError):
    """A failure to make the mark durable."""


def make(clock, mark=None, **options):
    return SnowflakeNameGenerator(
        node_id=options.pop("node_id", 7),
        clock=clock,
        floor_ms=options.pop("floor_ms", 0 if mark is None else mark.ms),
        reserve=None if mark is None else mark.reserve,
        **options,
    )


def time_of(name):
    return created_ms(parse_name(name), 32)


def numbers(names):
    return np.array([int(name[14:26], 16) for name in names], dtype=np.uint64)


@pytest.mark.parametrize(
    "million_names",
    [1, pytest.param(10, marks=pytest.mark.slow)],
)
async def test_no_name_repeats_across_crashes_and_a_clock_set_back(million_names):
    clock = SimulatedClock(sleep_advances=True)
    mark = Mark()
    found = []
    total = million_names * 1_000_000
    rounds = 20
    for turn in range(rounds):
        generator = make(clock, mark)
        for _ in range(total // rounds // 50_000):
            found.append(numbers(await generator.next_many(50_000)))
            clock.set_wall(clock.now_ms() - (turn % 7) * 20)
        await settle()
        # A crash: the successor knows the durable mark only; the clock may stand behind it.
        clock.set_wall(clock.now_ms() - (turn % 3) * 500)
    given = np.concatenate(found)
    assert total == len(given) == len(np.unique(given))
    assert np.all(np.diff(given[given < given[0] + (1 << 47)].astype(np.int64)) > 0)


async def test_a_clean_close_leaves_the_exact_floor_and_no_gap():
    clock = SimulatedClock(sleep_advances=True)
    mark = Mark()
    first = make(clock, mark)
    last = await first.next()
    floor_ms = await first.close()
    assert time_of(last) + 1 == floor_ms
    with pytest.raises(GeneratorClosedError):
        await first.next()
    second = make(clock, floor_ms=floor_ms)
    assert floor_ms == time_of(await second.next())


async def test_nothing_given_leaves_the_floor_where_it_was():
    assert await make(SimulatedClock(), floor_ms=START_MS + 5).close() == START_MS + 5


async def test_close_waits_for_the_reservation_under_way():
    clock, mark = SimulatedClock(), Mark()
    mark.released.clear()
    generator = make(clock, mark)
    asked = asyncio.create_task(generator.next())
    await settle()
    closing = asyncio.create_task(generator.close())
    await settle()
    assert not closing.done()
    mark.released.set()
    assert await closing == generator.shutdown_mark()
    with pytest.raises(GeneratorClosedError):
        await asked


async def test_names_carry_the_time_of_one_reading():
    clock = SimulatedClock(START_MS + 1234)
    name = await make(clock).next()
    assert name.startswith("DES_20260228_(")
    assert time_of(name) == START_MS + 1234


@pytest.mark.parametrize(
    ("midnight_ms", "before", "after"),
    [
        (START_MS + DAY_MS, "20260228", "20260301"),
        (1_835_308_800_000 + DAY_MS, "20280228", "20280229"),
        (1_835_308_800_000 + 2 * DAY_MS, "20280229", "20280301"),
        (1_798_675_200_000 + DAY_MS, "20261231", "20270101"),
    ],
)
async def test_the_day_turns_with_the_millisecond(midnight_ms, before, after):
    clock = SimulatedClock(midnight_ms - 2, sleep_advances=True)
    names = await make(clock).next_many(256 * 4)
    assert [before] * 512 + [after] * 512 == [parse_name(name).day for name in names]
    assert sorted({time_of(name) for name in names}) == list(range(midnight_ms - 2, midnight_ms + 2))


async def test_a_second_lived_twice_repeats_no_name():
    clock = SimulatedClock(START_MS + DAY_MS - 1000, sleep_advances=True)
    generator = make(clock)
    names = []
    for _ in range(2):
        clock.set_wall(START_MS + DAY_MS - 1000)
        for _ in range(10):
            names += await generator.next_many(100)
            clock.advance(0.1)
    assert len(set(names)) == 2000
    assert sorted(map(time_of, names)) == list(map(time_of, names))


async def test_a_spent_millisecond_waits_for_the_clock():
    clock = SimulatedClock()
    generator = make(clock)
    first = await generator.next_many(256)
    assert {START_MS} == {time_of(name) for name in first}
    assert generator.try_next() is None
    waiting = [asyncio.create_task(generator.next()) for _ in range(3)]
    await settle()
    assert clock.sleepers == 1  # one waits for the clock, the others for their turn
    await clock.run_for(0.001)
    assert [time_of(await task) for task in waiting] == [START_MS + 1] * 3


async def test_a_leading_generator_goes_on_without_the_clock():
    clock = SimulatedClock()
    generator = make(clock, floor_ms=START_MS + 2000)
    names = await generator.next_many(600)
    assert sorted(set(map(time_of, names))) == [START_MS + 2000, START_MS + 2001, START_MS + 2002]
    clock.advance(10)
    assert time_of(await generator.next()) == START_MS + 10_000


async def test_a_clock_too_far_behind_is_an_error_after_a_bounded_wait():
    clock = SimulatedClock(sleep_advances=True)
    generator = make(clock, floor_ms=START_MS + 60_000, lead_max_ms=5000)
    assert generator.try_next() is None
    with pytest.raises(ClockBehindError, match="59000 ms behind") as caught:
        await generator.next()
    assert clock.slept_s == pytest.approx(1.0)
    assert caught.value.reason == "CLOCK_BEHIND"
    assert caught.value.details == {"behind_ms": "59000"}
    assert caught.value.retry_after_s == pytest.approx(54.0)


async def test_a_clock_that_catches_up_during_the_wait_is_no_error():
    clock = SimulatedClock(sleep_advances=True)
    generator = make(clock, floor_ms=START_MS + 5600, lead_max_ms=5000)
    assert time_of(await generator.next()) == START_MS + 5600
    assert clock.now_ms() == START_MS + 600


async def test_a_clock_stepped_back_leads_at_most_as_far_as_allowed():
    clock = SimulatedClock(sleep_advances=True)
    generator = make(clock, lead_max_ms=5000)
    last = await generator.next()
    clock.set_wall(START_MS - 4000)
    assert last < await generator.next()
    clock.set_wall(START_MS - 10 * DAY_MS)
    with pytest.raises(ClockBehindError):
        await generator.next_many(300)


async def test_no_name_is_given_before_its_reservation_is_durable():
    clock, mark = SimulatedClock(), Mark()
    mark.released.clear()
    generator = make(clock, mark)
    assert generator.try_next() is None
    tasks = [asyncio.create_task(generator.next()) for _ in range(50)]
    await settle()
    assert mark.calls == [START_MS + 3000]
    assert not any(task.done() for task in tasks)
    mark.released.set()
    assert len(set(await asyncio.gather(*tasks))) == 50


async def test_reservations_are_renewed_in_the_background_and_never_two_at_once():
    clock, mark = SimulatedClock(), Mark()
    generator = make(clock, mark)
    await generator.next()
    given_at_once = 0
    for _ in range(1000):
        clock.advance(0.05)
        given_at_once += generator.try_next() is not None
        await settle(3)
        assert mark.ms > clock.now_ms()
    assert given_at_once == 1000
    assert len(mark.calls) == pytest.approx(50_000 / 1500, rel=0.1)


async def test_a_failed_reservation_reaches_every_caller_and_gives_no_name():
    clock, mark = SimulatedClock(), Mark()
    mark.error = DiskError("no space")
    generator = make(clock, mark)
    results = await asyncio.gather(*(generator.next() for _ in range(20)), return_exceptions=True)
    assert all(isinstance(result, DiskError) for result in results)
    assert generator.shutdown_mark() == 0
    mark.error = None
    assert time_of(await generator.next()) == START_MS


async def test_a_failure_in_the_background_is_felt_at_the_mark_only():
    clock, mark = SimulatedClock(), Mark()
    generator = make(clock, mark)
    await generator.next()
    mark.error = DiskError("no space")
    for _ in range(29):
        clock.advance(0.1)
        assert generator.try_next() is not None
        await settle(3)
    assert len(mark.calls) < 8  # retried now and then, not for every name
    clock.advance(0.1)
    with pytest.raises(DiskError):
        await generator.next()
    mark.error = None
    assert await generator.next()


async def test_a_reservation_slower_than_its_reach_still_ends():
    clock = SimulatedClock()

    async def slow(mark_ms):
        await asyncio.sleep(0)
        clock.advance(10)

    generator = SnowflakeNameGenerator(node_id=0, clock=clock, reserve=slow)
    assert await generator.next()


async def test_a_caller_that_gives_up_does_not_disturb_the_others():
    clock, mark = SimulatedClock(), Mark()
    mark.released.clear()
    generator = make(clock, mark)
    tasks = [asyncio.create_task(generator.next()) for _ in range(10)]
    await settle()
    for task in tasks[::2]:
        task.cancel()
    await settle()
    mark.released.set()
    assert len(set(await asyncio.gather(*tasks[1::2]))) == 5


async def test_many_tasks_share_one_generator():
    clock = SimulatedClock(sleep_advances=True)
    generator = make(clock, Mark())

    async def worker(count):
        return [name for _ in range(20) for name in await generator.next_many(count)]

    names = [name for part in await asyncio.gather(*map(worker, range(1, 101))) for name in part]
    assert 20 * 5050 == len(names) == len(set(names))
    per_ms = np.unique(numbers(names) >> np.uint64(16), return_counts=True)[1]
    assert per_ms.max() == 256


async def test_a_prefix_can_be_asked_for():
    generator = make(SimulatedClock())
    assert (await generator.next("inv2026")).startswith("inv2026_20260228_(")
    assert (await generator.next()).startswith("DES_20260228_(")
    for bad in ("", "a b", "x" * 33):
        with pytest.raises(InvalidNameError):
            await generator.next(bad)
    for number in range(3000):
        assert parse_name(await make_next(generator, f"p{number}")).prefix == f"p{number}"


async def make_next(generator, prefix):
    name = generator.try_next(prefix)
    if name is None:
        generator._clock.advance(0.001)
        name = await generator.next(prefix)
    return name


async def test_names_of_one_millisecond_follow_each_other():
    names = await make(SimulatedClock(), node_id=255).next_many(256)
    assert list(range(256)) == [parse_name(name).seq for name in names]
    assert {255} == {parse_name(name).node_id for name in names}
    assert sorted(names) == names


@pytest.mark.parametrize(
    "options",
    [
        {"wrap_bits": 26},
        {"wrap_bits": 33},
        {"node_id": 256},
        {"node_id": -1},
        {"prefix": "a_b"},
        {"floor_ms": -1},
        {"reserve_ahead_ms": 0},
        {"lead_max_ms": 10},
    ],
)
def test_a_generator_is_not_made_with_options_outside_their_range(options):
    with pytest.raises(InvalidInputError, match="expected"):
        make(SimulatedClock(), **options)


@pytest.mark.parametrize("wrap_bits", [27, 28, 31])
async def test_fewer_wrap_bits_keep_the_exact_time(wrap_bits):
    name = await make(SimulatedClock(START_MS + 86_399_999), wrap_bits=wrap_bits).next()
    assert created_ms(parse_name(name), wrap_bits) == START_MS + 86_399_999


@pytest.mark.parametrize("count", [0, -1, 100_001])
async def test_the_number_of_names_of_one_call_is_bounded(count):
    with pytest.raises(InvalidInputError, match="count is"):
        await make(SimulatedClock()).next_many(count)
