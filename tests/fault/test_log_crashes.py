"""Seeded crashes: nothing acknowledged is lost, nothing shown vanishes, no crash looks like damage."""

import pytest

from des.testing.log_schedules import live


async def test_no_life_of_the_log_breaks_a_promise():
    assert await live(range(8000)) == 8000


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
async def test_no_life_of_the_log_breaks_a_promise_at_length(part):
    start = 1_000_000 + part * 20_000
    assert await live(range(start, start + 20_000)) == 20_000
