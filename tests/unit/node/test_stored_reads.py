"""What a node keeps, and asks of the object store, to serve sealed files."""

from dataclasses import replace
from typing import Any

import google_crc32c
import pytest

from des.config import load_settings
from des.core import ContainerIndex
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
        assert len(containers._cache) <= 28
    assert dearest <= (2 if layout == "framed" else 8)
    if layout == "framed":
        assert [(await read(world.node, name))[1] for name in list(files)[:50]] == [1] * 50
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
