"""The simulated clock stands still, steps, and wakes sleepers in order."""

import asyncio

import pytest

from des.testing.simulated_clock import START_MS, SimulatedClock, settle


async def sleeper(clock, seconds, woken):
    await clock.sleep(seconds)
    woken.append((seconds, clock.monotonic()))


async def test_sleepers_wake_at_their_own_moment_in_order():
    clock, woken = SimulatedClock(), []
    tasks = [asyncio.create_task(sleeper(clock, seconds, woken)) for seconds in (0.3, 0.1, 0.2, 5)]
    await clock.run_for(1)
    assert woken == [(0.1, 0.1), (0.2, 0.2), (0.3, 0.3)]
    assert (clock.now_ms(), clock.monotonic(), clock.sleepers) == (START_MS + 1000, 1.0, 1)
    tasks[-1].cancel()
    await settle()
    assert clock.sleepers == 0


async def test_a_jump_wakes_everybody_at_once():
    clock, woken = SimulatedClock(), []
    tasks = [asyncio.create_task(sleeper(clock, seconds, woken)) for seconds in (0.2, 0.1)]
    await settle()
    clock.advance(60)
    await asyncio.gather(*tasks)
    assert woken == [(0.1, 60.0), (0.2, 60.0)]


async def test_the_wall_steps_either_way_and_wakes_nobody():
    clock, woken = SimulatedClock(), []
    task = asyncio.create_task(sleeper(clock, 1, woken))
    await settle()
    for ms in (START_MS + 86_400_000, 0):
        clock.set_wall(ms)
        await settle()
        assert (clock.now_ms(), clock.monotonic(), woken) == (ms, 0, [])
    task.cancel()


async def test_a_sleep_may_move_the_clock_itself():
    clock = SimulatedClock(sleep_advances=True)
    await clock.sleep(2.5)
    assert (clock.now_ms(), clock.monotonic(), clock.slept_s) == (START_MS + 2500, 2.5, 2.5)


async def test_monotonic_time_does_not_go_back():
    with pytest.raises(ValueError, match="does not go back"):
        SimulatedClock().advance(-1)
