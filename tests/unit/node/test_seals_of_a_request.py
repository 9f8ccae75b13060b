"""Seals that are asked for, of several shards at once: one that fails is one that fails."""

import google_crc32c
import pytest

from des.config import load_settings
from des.db.catalog import CatalogUnavailableError, ContainerState
from des.files import FileSpec


@pytest.mark.parametrize(
    ("refusals", "failed", "tries"), [(1, {0}, 4), (2, {0, 1}, 4), (99, {0, 1, 2, 3}, 3)]
)
async def test_a_seal_that_fails_holds_those_of_other_shards_up_only_while_all_fail(
    world, refusals, failed, tries
) -> None:
    await world.node.close()
    world.settings = load_settings(data_dir=world.settings.data_dir, shard_bits=2, seal={"useful_bytes": 1})
    node = await world.start()
    while len(node._open_index.buckets()) < 4:
        await node.put_bytes(FileSpec(), b"x", google_crc32c.value(b"x"))
    tried = 0

    def refuse(method, moment):
        nonlocal tried
        if (method, moment) == ("announce_container", "before"):
            tried += 1
            if tried <= refusals:
                raise CatalogUnavailableError("not now")

    world.catalog.fault = refuse
    assert set(await node._packer.seal_shards(range(4))) == failed
    assert tried == tries
    assert {row.run.first for row in await world.catalog.containers(state=ContainerState.STORED)} == set(
        range(4)
    ) - failed
    world.catalog.fault = None
    assert await node._packer.seal_shards(range(4)) == {}
    assert len(await world.catalog.containers(state=ContainerState.STORED)) == 4
