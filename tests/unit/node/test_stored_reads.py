"""What a node keeps, and asks of the object store, to serve sealed files."""

from dataclasses import replace
from typing import Any

import google_crc32c
import pytest

from des.config import load_settings
from des.core import ContainerIndex, InMemoryIndexCache
from des.errors import CorruptError, NotFoundError
from des.files import FileSpec
from des.node import Node

COUNT = 3000


async def filled(world, layout: str) -> dict[str, bytes]:
    await world.node.close()
    world.settings = load_settings(data_dir=world.settings.data_dir, shard_bits=0, layout=layout)
    node = await world.start()
    files = {}
    for i in range(COUNT):
        data = b"%d" % i * (i % 5)
        world.clock.advance(0.001)
        result = await node.put_bytes(FileSpec(metadata={"n": str(i)}), data, google_crc32c.value(data))
        files[result.file.name] = data
    await node.seal_shard(0)
    return files


async def read(node: Node, name: str) -> tuple[bytes, int]:
    opened = await node.open_file(name)
    return await opened.read_whole(), opened.cost.requests


@pytest.mark.parametrize("layout", ["framed", "v1"])
async def test_sealed_files_are_served_by_their_page(world, layout, monkeypatch) -> None:
    files = await filled(world, layout)
    await world.restart()

    def refuse(*_args: Any) -> None:
        pytest.fail("INDEX was loaded")

    monkeypatch.setattr(ContainerIndex, "parse", refuse)
    [row] = await world.catalog.containers()
    assert row.geometry.page_count == 27
    containers = world.node._parts.retriever._containers
    assert containers._cache.bytes == 0
    dearest = 0
    for i, (name, data) in enumerate(files.items()):
        found, requests = await read(world.node, name)
        assert found == data
        assert dict((await world.node.stat(name)).metadata) == {"n": str(i)}
        dearest = max(dearest, requests)
        assert sum(key.kind == "page" for key in containers._cache._pages) <= 28
    # v1: page, section table with INDEXDIR, INDEX, META, and the file beside them.
    assert dearest <= (2 if layout == "framed" else 5)
    warm = {(len(data), (await read(world.node, name))[1]) for name, data in list(files.items())[:200]}
    assert {requests for length, requests in warm if length} == {1}
    assert not containers._indexes
    [absent] = await world.node.assign_names(1, "", "")
    with pytest.raises(NotFoundError):
        await world.node.open_file(absent.name)


async def test_a_container_without_pages_is_served_by_its_index(world, monkeypatch) -> None:
    files = await filled(world, "framed")
    await world.restart()
    [row] = await world.catalog.containers()
    none = {"ext_table_start": 0, "pages_start": 0, "pages_length": 0, "page_count": 0}
    without = replace(row, geometry=replace(row.geometry, **none))
    containers = world.node._parts.retriever._containers

    async def rows(*_args: Any, **_options: Any) -> list[Any]:
        return [without]

    monkeypatch.setattr(containers, "rows", rows)
    for name, data in list(files.items())[:100]:
        assert (await read(world.node, name))[0] == data
    assert len(containers._indexes) == 1


@pytest.mark.parametrize("layout", ["framed", "v1"])
async def test_a_damaged_page_is_corrupt_and_never_not_found(world, layout) -> None:
    files = await filled(world, layout)
    await world.restart()
    [row] = await world.catalog.containers()
    kept = world.store._objects[row.key]
    damaged = bytearray(kept.data)
    for start in range(row.geometry.pages_start, row.geometry.pages_start + row.geometry.pages_length, 4096):
        damaged[start + 40] ^= 1
    world.store._objects[row.key] = replace(kept, data=bytes(damaged))
    for name in list(files)[:20]:
        with pytest.raises(CorruptError):
            await world.node.open_file(name)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("layout", ["framed", "v1"])
async def test_an_absent_name_costs_nothing_where_many_containers_cover_its_shard(
    world, layout, kept
) -> None:
    """Once names were sought in vain as often as FILTER costs; a bound on what is kept makes it pay again."""
    files: dict[str, bytes] = {}
    await world.node.close()
    budget = "1MiB" if kept else 0
    world.settings = load_settings(
        data_dir=world.settings.data_dir, shard_bits=0, layout=layout, index_cache_bytes=budget
    )
    node = await world.start()
    absent = []
    for _ in range(4):
        for i in range(300):
            world.clock.advance(0.001)
            data = b"%d" % i
            made = await node.put_bytes(FileSpec(), data, google_crc32c.value(data))
            files[made.file.name] = data
        absent += [one.name for one in await node.assign_names(100, "", "")]
        world.clock.advance(0.2)
        await node.seal_shard(0)
    rows = await world.catalog.containers()
    assert len(rows) == 4
    last = max(row.name_ms_last for row in rows)
    everywhere = [replace(row, name_ms_first=0, name_ms_last=last + 10_000) for row in rows]
    await world.restart()
    containers = world.node._parts.retriever._containers

    async def all_rows(*_args: Any, **_options: Any) -> list[Any]:
        return everywhere

    containers.rows = all_rows
    containers._cache = InMemoryIndexCache(0)  # else all four pages are kept, and cost nothing either
    for name, data in files.items():
        assert (await read(world.node, name))[0] == data
    counted = 0
    original = world.store.get_range

    async def counting(*args: Any, **options: Any) -> bytes:
        nonlocal counted
        counted += 1
        return await original(*args, **options)

    world.store.get_range = counting
    for name in absent:
        with pytest.raises(NotFoundError):
            await world.node.open_file(name)
    if kept:
        assert counted <= len(absent) * 4 // 30
        assert sum(memory.filter is not None for memory in containers._memories.values()) >= 3
    else:
        assert counted > 100
        assert len(containers._memories) == 1
    for name, data in list(files.items())[::37]:
        assert (await read(world.node, name))[0] == data
