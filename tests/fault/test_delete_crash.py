"""A delete cut off at any call to the disk or the catalog: what was answered holds, nothing else is harmed.

The real node runs over simulated doors. The power goes at the N-th disk call of a delete, or the process
dies before or after the tombstone is inserted; then the node starts again, twice.
"""

from pathlib import Path
from typing import Any

import google_crc32c
import pytest

from des.config import load_settings
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
