"""A marker in a cluster: a node id nobody else has, names that go on above the last, no shards."""

import asyncio

import pytest

from des.db.membership import NodeReplacedError, NodeState
from des.marker import MarkerLease
from des.testing.memory_catalog import MemoryCatalog
from des.testing.simulated_clock import SimulatedClock

WINDOW_MS = 1 << 32


def lease(catalog, clock, node, *, start=1):
    return MarkerLease(
        catalog,
        node=f"{node}0000000-0000-4000-8000-000000000000",
        holder=f"{node}{start}000000-0000-4000-8000-000000000000",
        boot_epoch=start,
        version="1",
        ttl_s=10,
        clock=clock,
    )


@pytest.fixture
def clock():
    return SimulatedClock()


@pytest.fixture
def catalog(clock):
    return MemoryCatalog(clock)


async def test_two_markers_have_two_node_ids_and_no_shard(catalog, clock):
    markers = [lease(catalog, clock, node) for node in (1, 2)]
    given = [await marker.register(window_ms=WINDOW_MS) for marker in markers]
    assert len({one.node_id for one in given}) == 2
    view = await catalog.cluster_view()
    assert [node.state for node in view.nodes] == [NodeState.JOINING] * 2
    assert view.locks == ()


async def test_a_later_start_has_the_same_id_and_goes_on_above_the_mark(catalog, clock):
    first = lease(catalog, clock, 1)
    given = await first.register(window_ms=WINDOW_MS)
    await first.reserve(5000)
    await first.reserve(4000)
    again = await lease(catalog, clock, 1, start=2).register(window_ms=WINDOW_MS)
    assert (again.node_id, again.floor_ms) == (given.node_id, 5000)
    with pytest.raises(NodeReplacedError):
        await first.reserve(6000)


async def test_a_marker_that_was_replaced_stops(catalog, clock):
    first = lease(catalog, clock, 1)
    await first.register(window_ms=WINDOW_MS)
    running = asyncio.create_task(first.run())
    await lease(catalog, clock, 1, start=2).register(window_ms=WINDOW_MS)
    for _ in range(100):
        if running.done():
            break
        await clock.run_for(1)
    with pytest.raises(NodeReplacedError):
        await running


async def test_leaving_says_where_names_go_on(catalog, clock):
    first = lease(catalog, clock, 1)
    await first.register(window_ms=WINDOW_MS)
    await first.leave(7000)
    (node,) = (await catalog.cluster_view()).nodes
    assert node.state is NodeState.GONE
    assert (await lease(catalog, clock, 1, start=2).register(window_ms=WINDOW_MS)).floor_ms == 7000
