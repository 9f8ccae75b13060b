"""A shard moves only while no write to it is under way."""

import asyncio

import pytest

from des.cluster import NotShardOwnerError
from des.cluster.name_time import NameAheadError, name_ahead
from des.cluster.write_gate import WriteGate, Writing

UNTIL_MS = 1_000


@pytest.fixture
def tenures():
    return {1: 7, 2: 7}


@pytest.fixture
def gate(tenures):
    def check_named(shard, name_ms):
        if name_ms > UNTIL_MS:
            raise name_ahead(name_ms, UNTIL_MS)

    return WriteGate(tenures.get, lambda shard: f"is not shard {shard}'s owner", check_named)


def writing(gate, shards, *, named_ms=UNTIL_MS):
    return Writing(gate, shards, named_ms=named_ms)


async def test_a_write_to_another_nodes_shard_is_refused(gate):
    with pytest.raises(NotShardOwnerError, match="shard 3 is not") as caught:
        async with writing(gate, (1, 3)):
            pytest.fail("entered")
    assert caught.value.shard == 3
    assert not gate.under_way


async def test_a_hand_over_waits_for_writes_and_holds_new_ones_back(gate, tenures):
    begun, end = asyncio.Event(), asyncio.Event()

    async def write():
        async with writing(gate, (1,)):
            begun.set()
            await end.wait()

    first = asyncio.create_task(write())
    await begun.wait()
    gate.close([1])
    idle = asyncio.create_task(gate.wait_idle([1, 2]))
    second = asyncio.create_task(write())
    await asyncio.sleep(0.01)
    assert (idle.done(), second.done(), gate.under_way[1]) == (False, False, 1)
    end.set()
    await first
    await idle
    assert not second.done()
    del tenures[1]
    gate.open([1])
    with pytest.raises(NotShardOwnerError):
        await second


async def test_a_gate_that_opens_again_lets_writes_go_on(gate):
    gate.close([1])
    gate.close([1])
    waiting = asyncio.create_task(gate.enter([1, 2], named_ms=0))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    gate.open([1, 2])
    assert await waiting == [(1, 7), (2, 7)]
    assert gate.under_way == {1: 1, 2: 1}
    gate.leave([1, 2])
    await gate.wait_idle([1, 2])


@pytest.mark.parametrize("after", [None, 8])
async def test_a_write_during_which_the_shard_was_lost_has_no_known_outcome(gate, tenures, after):
    with pytest.raises(NotShardOwnerError, match="outcome is unknown"):
        async with writing(gate, (1,)):
            if after is None:
                del tenures[1]
            else:
                tenures[1] = after


async def test_the_error_of_a_write_is_its_own(gate, tenures):
    with pytest.raises(ValueError, match="mine"):
        async with writing(gate, (1,)):
            del tenures[1]
            raise ValueError("mine")
    assert not gate.under_way


async def test_a_write_under_a_name_that_is_too_late_does_not_begin(gate):
    async with writing(gate, (1, 2), named_ms=UNTIL_MS):
        pass
    with pytest.raises(NameAheadError, match="5 ms later") as caught:
        async with writing(gate, (1, 2), named_ms=UNTIL_MS + 5):
            pytest.fail("entered")
    assert caught.value.reason == "CLOCK_BEHIND"
    assert not gate.under_way
