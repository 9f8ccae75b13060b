"""What lost nodes left unfinished is finished where it is whole."""

from dataclasses import replace
from typing import Any

import pytest

from des.db.catalog import ContainerState
from des.upkeep import fsck
from des.upkeep.unfinished import Debt, recover
from tests.fault.upkeep.upkeep_world import Failing, World, timeless


async def left_unfinished(world: World) -> Any:
    """A node that is gone after its upload and before its commit; its disk is gone too."""
    [row, *_] = await world.rows()
    unfinished = replace(row, state=ContainerState.UPLOADING, etag="", stored_ms=None)
    world.catalog._containers[row.container_id] = unfinished
    return row


async def test_a_whole_container_of_a_lost_node_is_adopted(world: World) -> None:
    row = await left_unfinished(world)
    claim = await world.holding()
    looked = await recover(world.catalog, world.store, claim=claim, apply=False)
    assert [one.debt for one in looked.unfinished] == [Debt.ADOPT]
    assert looked.adopted == []
    done = await recover(world.catalog, world.store, claim=claim, apply=True)
    assert [one.container_id for one in done.adopted] == [row.container_id]
    assert timeless([row]) == timeless([await world.catalog.container(row.container_id)])
    assert (await fsck(world.catalog, world.store)).findings == []


@pytest.mark.parametrize(
    ("change", "debt"),
    [
        (lambda world, row: world.store.delete(row.key), Debt.REPEAT),
        (lambda world, row: world.replace_object(row.key, lambda data: data[:-1]), Debt.DAMAGED),
        (lambda world, row: world.replace_object(row.key, lambda data: b"?" + data[1:]), Debt.DAMAGED),
    ],
)
async def test_what_is_not_whole_is_left_alone(world: World, change: Any, debt: Debt) -> None:
    row = await left_unfinished(world)
    await change(world, row)
    before = {info.key async for info in world.store.list("")}
    done = await recover(world.catalog, world.store, claim=await world.holding(), apply=True)
    assert ([one.debt for one in done.unfinished], done.adopted) == ([debt], [])
    assert {info.key async for info in world.store.list("")} == before


async def test_an_object_that_cannot_be_read_is_undecided(world: World) -> None:
    await left_unfinished(world)
    failing = Failing(world.store, of={"head", "get_range", "get_tail"})
    done = await recover(world.catalog, failing, claim=await world.holding(), apply=True)
    assert ([one.debt for one in done.unfinished], done.adopted) == ([Debt.UNDECIDED], [])


async def test_a_container_whose_shards_a_node_holds_is_left_to_it(world: World) -> None:
    row = await left_unfinished(world)
    done = await recover(world.catalog, world.store, claim=lambda _: None, apply=True)
    assert done.adopted == []
    assert "another node" in done.stayed[row.key]
