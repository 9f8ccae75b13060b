"""A delete cut off at any call to the disk or the catalog: what was answered holds, nothing else is harmed.

The real node runs over simulated doors. The power goes at the N-th disk call of a delete, or the process
dies before or after the tombstone is inserted; then the node starts again, twice.
"""

from pathlib import Path
from typing import Any

import google_crc32c
import pytest

from des.config import load_settings
from des.db import CatalogUnavailableError
from des.errors import DesError
from des.files import FileInfo, FileSpec, FileState
from des.node import Node
from des.retrieval import ReadCost
from des.retrieval.listing import ListQuestion
from des.retrieval.tombstones import FileDeletedError
from tests.fault.simulated_world import Crash, SimulatedWorld

CALLS_MAX = 30


class World(SimulatedWorld):
    def __init__(self, folder: Path, seed: int) -> None:
        settings = load_settings(data_dir=folder, shard_bits=0, log={"segment_bytes": 1 << 20})
        super().__init__(settings, seed=seed, disk_seed=seed + 1)


async def put(node: Node, data: bytes) -> FileInfo:
    return (await node.put_bytes(FileSpec(), data, google_crc32c.value(data))).file


async def state_of(node: Node, name: str, data: bytes) -> FileState:
    """Return what a reader finds, the same in every way there is to ask."""
    page = await node.list_files(
        ListQuestion(show_deleted=True), after=None, limit=100, names_only=True, cost=ReadCost()
    )
    listed = {info.name: info.state for info in page.files}
    try:
        assert await (await node.open_file(name)).read_whole() == data
    except FileDeletedError:
        assert listed[name] is FileState.DELETED
        return FileState.DELETED
    assert listed[name] is not FileState.DELETED
    return FileState.OPEN


async def hold(world: World, gone: FileInfo, keep: FileInfo, *, answered: bool) -> None:
    """Start twice, seal in between, and hold what was answered."""
    states = []
    for _ in range(2):
        node = await world.node()
        assert await state_of(node, keep.name, b"keep") is FileState.OPEN
        states.append(await state_of(node, gone.name, b"gone"))
        await node.seal_shard(0)
        states.append(await state_of(node, gone.name, b"gone"))
        await node.close()
    assert len(set(states)) == 1
    if answered:
        assert states[0] is FileState.DELETED


@pytest.mark.parametrize("sealed", [False, True])
async def test_the_power_goes_at_any_disk_call_of_a_delete(tmp_path, sealed) -> None:
    outcomes = set()
    for number in range(1, CALLS_MAX):
        for seed in range(2):
            world = World(tmp_path, 100 * number + seed)
            node = await world.node()
            gone, keep = await put(node, b"gone"), await put(node, b"keep")
            if sealed:
                await node.seal_shard(0)
            world.disk.cut_at = world.disk.calls + number
            answered = False
            try:
                [outcome] = await node.delete_many([gone.name], allow_missing=False)
                answered = isinstance(outcome, FileInfo)
            except BaseException as error:
                if isinstance(error, AssertionError):
                    raise
            cut = world.disk.off
            await world.power_cut(node)
            await hold(world, gone, keep, answered=answered)
            outcomes.add(answered)
        if not cut:
            break
    assert outcomes == {False, True}


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_the_process_dies_around_the_tombstone(tmp_path, monkeypatch, sealed, when) -> None:
    world = World(tmp_path, 7)
    node = await world.node()
    gone, keep = await put(node, b"gone"), await put(node, b"keep")
    if sealed:
        await node.seal_shard(0)
    kept = world.catalog.put_tombstones

    async def dying(*args: Any) -> Any:
        if when == "after":
            await kept(*args)
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(world.catalog, "put_tombstones", dying)
        with pytest.raises(BaseException) as error:  # noqa: PT011
            await node.delete_many([gone.name], allow_missing=False)
        assert not isinstance(error.value, DesError)
    await world.power_cut(node)
    # The record is on the device: the delete is done, though nobody was told.
    await hold(world, gone, keep, answered=True)
    assert [row.name for row in await world.catalog.tombstones()] == [gone.name]


async def test_a_start_brings_any_number_of_deletes_to_the_catalog_in_transactions_it_can_end(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("des.node.deletions.SETTLED_AT_ONCE", 10, raising=False)
    world = World(tmp_path, 8)
    node = await world.node()
    names = [(await put(node, b"%d" % number)).name for number in range(25)]
    kept = world.catalog.put_tombstones

    async def slow(rows: Any, *args: Any) -> Any:
        """No answer within `catalog.transaction_s` to more than so many rows at once."""
        if len(rows) > 10:
            raise CatalogUnavailableError("the catalog did not answer within 15 s", backend="catalog")
        return await kept(rows, *args)

    async def away(*_: Any) -> Any:
        raise CatalogUnavailableError("the catalog is away", backend="catalog")

    with monkeypatch.context() as patched:
        patched.setattr(world.catalog, "put_tombstones", away)
        outcomes = await node.delete_many(names, allow_missing=False)
    assert all(isinstance(outcome, CatalogUnavailableError) for outcome in outcomes)
    await world.power_cut(node)
    monkeypatch.setattr(world.catalog, "put_tombstones", slow)
    node = await world.node()
    assert sorted(row.name for row in await world.catalog.tombstones()) == sorted(names)
    await node.close()


async def test_of_a_batch_that_the_catalog_takes_in_part_only_the_rest_is_answered_with_its_error(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("des.node.deletions.SETTLED_AT_ONCE", 10, raising=False)
    world = World(tmp_path, 9)
    node = await world.node()
    names = [(await put(node, b"%d" % number)).name for number in range(25)]
    kept, calls = world.catalog.put_tombstones, []

    async def failing(rows: Any, *args: Any) -> Any:
        calls.append(len(rows))
        if len(calls) > 2:
            raise CatalogUnavailableError("the catalog is away", backend="catalog")
        return await kept(rows, *args)

    with monkeypatch.context() as patched:
        patched.setattr(world.catalog, "put_tombstones", failing)
        outcomes = await node.delete_many(names, allow_missing=False)
    assert [isinstance(outcome, FileInfo) for outcome in outcomes] == [True] * 20 + [False] * 5
    outcomes = await node.delete_many(names[20:], allow_missing=False)
    assert all(isinstance(outcome, FileInfo) for outcome in outcomes)
    await node.close()
