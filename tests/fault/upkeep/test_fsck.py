"""What is damaged is found, and what could not be read is said to be undecided."""

from dataclasses import replace

import pytest

from des.db.catalog import ContainerState
from des.upkeep import Depth, fsck
from des.upkeep.fsck import Kind
from tests.fault.upkeep.upkeep_world import Failing, World


@pytest.mark.parametrize("depth", list(Depth))
async def test_a_sound_store_has_no_findings(world: World, depth: Depth) -> None:
    report = await fsck(world.catalog, world.store, depth=depth)
    assert report.findings == []
    assert report.files == len(world.files)


async def test_a_missing_object_is_missing_and_a_store_that_does_not_answer_is_undecided(
    world: World,
) -> None:
    [row, *_] = await world.rows()
    down = await fsck(world.catalog, Failing(world.store, of={"head", "get_range", "get_tail"}))
    assert {one.kind for one in down.findings} == {Kind.UNDECIDED}
    await world.store.delete(row.key)
    gone = await fsck(world.catalog, world.store)
    assert [(one.kind, one.key) for one in gone.findings] == [(Kind.MISSING, row.key)]


async def test_a_flipped_byte_of_a_file_is_found_by_reading_all(world: World) -> None:
    [row, *_] = await world.rows()
    place = row.geometry.data_start + row.geometry.data_length - 1
    await world.replace_object(
        row.key, lambda data: data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    )
    assert (await fsck(world.catalog, world.store)).findings == []
    report = await fsck(world.catalog, world.store, depth=Depth.DATA)
    assert [(one.kind, one.key) for one in report.findings] == [(Kind.CORRUPT, row.key)]


@pytest.mark.parametrize("changes", [{"name_first": "DES_"}, {"name_last": "DES_"}])
async def test_a_row_whose_first_or_last_name_is_another_is_found(
    world: World, changes: dict[str, str]
) -> None:
    """Listings go by them: files outside would not be listed."""
    [row, *_] = await world.rows()
    world.catalog._containers[row.container_id] = replace(row, **changes)  # type: ignore[arg-type]
    report = await fsck(world.catalog, world.store)
    assert [(one.kind, one.key) for one in report.findings] == [(Kind.CORRUPT, row.key)]
    assert "'DES_'" in report.findings[0].detail
    world.catalog._containers[row.container_id] = replace(row, name_first="", name_last="")
    assert (await fsck(world.catalog, world.store)).findings == []


async def test_parts_of_a_subset_make_the_whole(world: World) -> None:
    node = await world.node()
    for _ in range(4):
        await world.fill(node, 5)
    await node.close()
    whole = await fsck(world.catalog, world.store)
    parts = [await fsck(world.catalog, world.store, depth=Depth.DATA, subset=(n, 3)) for n in (1, 2, 3)]
    assert whole.containers == sum(part.containers for part in parts)


async def test_a_container_recorded_twice_doubles_its_files(world: World) -> None:
    [row, *_] = await world.rows()
    data = await world.store.get_range(row.key, 0, row.geometry.size)
    copy = replace(
        row,
        container_id="0193a000-0000-7000-8000-0000000000ff",
        key=row.key.replace(row.container_id, "0193a000-0000-7000-8000-0000000000ff"),
    )
    info = world.store.put(copy.key, data, {})
    claim = await world.holding()
    await world.catalog.announce_container(
        replace(copy, state=ContainerState.UPLOADING, etag=""), claim(row.run)
    )
    await world.catalog.commit_container(copy.container_id, etag=info.etag, claim=claim(row.run))
    report = await fsck(world.catalog, world.store)
    assert {one.kind for one in report.findings} == {Kind.DOUBLED}
    assert len(report.findings) == row.geometry.file_count


async def test_a_big_file_without_its_object_dangles_and_one_without_an_entry_is_a_note(world: World) -> None:
    node = await world.node()
    name = await world.put_big(node)
    await node.close()
    assert (await fsck(world.catalog, world.store)).findings == []
    [key] = [info.key async for info in world.store.list("") if "_bigFiles" in info.key]
    other = f"20260228/0/_bigFiles/{name}.ffffffff"
    world.store.put(other, b"left over", {})
    await world.store.delete(key)
    report = await fsck(world.catalog, world.store)
    assert [(one.kind, one.key) for one in report.findings] == [
        (Kind.DANGLING, key),
        (Kind.UNNAMED, other),
    ]
    assert [one.kind for one in report.problems] == [Kind.DANGLING]
