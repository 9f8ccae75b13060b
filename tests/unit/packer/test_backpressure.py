"""Writes slow down before the log is full, and only while that helps."""

import asyncio
from random import Random
from types import SimpleNamespace

import pytest

from des.config.settings import LogSettings
from des.ingest.open_index import OpenIndex
from des.packer.backpressure import Backpressure, LogBackpressureError
from des.packer.seal_pace import SealPace
from des.testing.log_mutilations import draft, open_log
from des.testing.simulated_clock import SimulatedClock
from des.testing.simulated_disk import SimulatedDisk

SETTINGS = LogSettings(segment_bytes=1 << 20, budget_bytes=1 << 30).model_copy(update={"records_max": 1000})


@pytest.fixture
async def world():
    disk = SimulatedDisk(Random(1))
    disk.capacity = 1 << 40
    log, _ = await open_log(disk, 1, settings=SETTINGS)
    open_index = OpenIndex()
    packer = SimpleNamespace(is_emptying=True, pace=SealPace())
    clock = SimulatedClock(0, sleep_advances=True)
    backpressure = Backpressure(
        log=log, open_index=open_index, packer=packer, clock=clock, settings=SETTINGS, wait_max_s=10
    )

    async def fill(records):
        files = await log.append_files([draft(f"f{n}", b"1") for n in range(records)])
        open_index.publish(files)
        return files

    yield SimpleNamespace(
        log=log, open_index=open_index, packer=packer, clock=clock, admit=backpressure.admit, fill=fill
    )
    await log.close()


async def test_nothing_waits_below_three_quarters(world):
    await world.fill(750)
    await world.admit(1000, 0)
    assert world.clock.slept_s == 0


@pytest.mark.parametrize("records", [1, 10])
async def test_what_is_left_is_spread_over_the_rest_of_the_sweep(world, records):
    await world.fill(800)
    world.packer.pace.add(0.1, 1)  # 100 records a second: the 800 take eight seconds, in which 199 more fit
    for _ in range(100 // records):
        await world.admit(records, 0)
    assert world.clock.slept_s == pytest.approx(4, rel=0.1)


async def test_before_the_first_seal_is_measured_a_slow_one_is_assumed(world):
    await world.fill(800)
    await world.admit(1, 0)
    assert world.clock.slept_s == pytest.approx(0.8 / 0.003 / 199, rel=0.1)


async def test_nobody_waits_while_no_seals_are_under_way_or_they_fail(world):
    await world.fill(990)
    world.packer.is_emptying = False
    await world.admit(1, 0)
    assert world.clock.slept_s == 0


async def test_who_would_wait_too_long_is_refused_and_can_come_again(world):
    await world.fill(900)
    world.packer.pace.add(0.001, 1)
    outcomes = await asyncio.gather(*(world.admit(1, 0) for _ in range(20)), return_exceptions=True)
    refused = [one for one in outcomes if one is not None]
    assert 0 < len(refused) < 20
    assert {type(one) for one in refused} == {LogBackpressureError}
    assert refused[0].reason == "SHARD_BACKPRESSURE"
    assert refused[0].retryable
    assert world.log.counts.refused == len(refused)


async def test_a_write_that_does_not_fit_is_refused_before_the_log_calls_itself_full(world):
    await world.fill(990)
    world.packer.pace.add(10, 1)
    with pytest.raises(LogBackpressureError, match="99% full"):
        await world.admit(50, 0)


async def test_who_waits_goes_on_when_the_log_was_emptied(world):
    files = await world.fill(900)
    world.packer.pace.add(0.001, 1)

    async def empty():
        world.log.mark_stored(files)
        await world.log.reclaim()

    emptied = asyncio.ensure_future(empty())
    await world.admit(1, 0)
    await emptied
    assert world.clock.slept_s <= 10
    assert world.log.counts.waited_s == world.clock.monotonic()
