"""Seeded crashes: nothing acknowledged is lost, nothing shown vanishes, no crash looks like damage."""

import pytest

from des.testing.log_schedules import live


async def test_no_life_of_the_log_breaks_a_promise():
    assert await live(range(6000)) == 6000


FOUND = [1_023_906, 1_028_346, 1_034_103, 1_053_707]
"""A failed sync, a kill, no room for the copy, a power cut: syncing the old file in place was not enough."""


@pytest.mark.parametrize("seed", FOUND)
async def test_seeds_that_once_found_something_find_nothing(seed):
    await live([seed])


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
async def test_no_life_of_the_log_breaks_a_promise_at_length(part):
    start = 1_000_000 + part * 20_000
    assert await live(range(start, start + 20_000)) == 20_000
