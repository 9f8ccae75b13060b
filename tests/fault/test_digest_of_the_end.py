"""The catalog knows a container's bytes by the SHA-256 of its end, however it was uploaded."""

import hashlib
from dataclasses import replace
from pathlib import Path

import google_crc32c
import pytest

from des.config import load_settings
from des.db.catalog import ContainerRow, ContainerState
from des.files import FileSpec
from des.storage.memory import MemoryObjectStore
from des.testing.memory_catalog import MemoryCatalog
from des.upkeep import Depth, rebuild_catalog
from des.upkeep.examine import Verdict, examine
from tests.fault.simulated_world import SimulatedWorld


@pytest.fixture(params=["in one piece", "meanwhile"])
async def stored(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[SimulatedWorld, ContainerRow]:
    """A world with one container, uploaded when it was built, or meanwhile as long ones are."""
    if request.param == "meanwhile":
        monkeypatch.setattr("des.packer.container_builder.STREAMED_FROM", 0)
    world = SimulatedWorld(load_settings(data_dir=tmp_path, shard_bits=0, compression="off"))
    node = await world.node()
    for number in range(30):
        data = world.rng.randbytes(number * 100)
        await node.put_bytes(FileSpec(), data, google_crc32c.value(data))
    await node.seal_shard(0)
    await node.close()
    (row,) = await world.catalog.containers(state=ContainerState.STORED)
    metadata = (await world.store.head(row.key)).metadata
    assert metadata.get("des-sha256") == (None if request.param == "meanwhile" else row.sha256)
    return world, row


async def bytes_of(world: SimulatedWorld, row: ContainerRow) -> bytes:
    data: bytes = await world.store.get_range(row.key, 0, row.geometry.size)
    return data


async def verdict(world: SimulatedWorld, row: ContainerRow, data: bytes, depth: Depth) -> Verdict:
    """Return what is said of other bytes under the same key and etag, as of a medium that rots."""
    store = MemoryObjectStore(world.clock)
    info = store.put(row.key, data, {})
    return (await examine(store, replace(row, etag=info.etag), depth)).verdict


async def test_it_stands_for_every_byte(stored: tuple[SimulatedWorld, ContainerRow]) -> None:
    world, row = stored
    data = await bytes_of(world, row)
    end = row.geometry.index_start + row.geometry.index_length
    assert row.sha256 == hashlib.sha256(data[end:]).hexdigest()
    assert hashlib.sha256(data[:end]).digest() in data[end:]
    assert await verdict(world, row, data, Depth.DATA) is Verdict.SOUND
    for place in (20, row.geometry.data_start + 5000, row.geometry.index_start + 3):
        spoilt = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        assert await verdict(world, row, spoilt, Depth.DATA) is Verdict.CORRUPT
        spoilt = data[:end] + bytes(len(data) - end)
        assert await verdict(world, row, spoilt, Depth.DATA) is Verdict.CORRUPT
    # In DATA nothing else notices.
    place = row.geometry.data_start + 5000
    spoilt = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    assert await verdict(world, row, spoilt, Depth.STRUCTURE) is Verdict.SOUND


async def test_rows_of_earlier_releases_have_that_of_the_whole(
    stored: tuple[SimulatedWorld, ContainerRow],
) -> None:
    world, row = stored
    data = await bytes_of(world, row)
    old = replace(row, sha256=hashlib.sha256(data).hexdigest())
    assert await verdict(world, old, data, Depth.DATA) is Verdict.SOUND
    spoilt = data[:200] + bytes([data[200] ^ 1]) + data[201:]
    assert await verdict(world, old, spoilt, Depth.DATA) is Verdict.CORRUPT


async def test_a_lost_catalog_gets_it_again(stored: tuple[SimulatedWorld, ContainerRow]) -> None:
    world, row = stored
    world.catalog = MemoryCatalog(world.clock)
    report = await rebuild_catalog(world.catalog, world.store, holder="tool")
    assert (len(report.recorded), report.refused) == (1, {})
    (again,) = await world.catalog.containers(state=ContainerState.STORED)
    assert replace(again, created_ms=0, stored_ms=None) == replace(row, created_ms=0, stored_ms=None)
