"""A store that one node has for itself, started with another number of shards."""

import google_crc32c
import pytest

from des.config import load_settings
from des.db.catalog import ContainerState
from des.files import FileSpec
from des.naming import consistent_hash
from des.node import Node


async def put(node, data):
    return (await node.put_bytes(FileSpec(), data, google_crc32c.value(data))).file.name


@pytest.mark.parametrize("after", [1, 4])
async def test_open_and_stored_files_are_found_by_their_new_shards(tmp_path, after):
    node = await Node.open(load_settings(data_dir=tmp_path, shard_bits=2))
    names = [await put(node, b"stored %d" % number) for number in range(8)]
    for shard in range(4):
        await node.seal_shard(shard)
    names += [await put(node, b"open %d" % number) for number in range(8)]
    gone = names.pop()
    [deleted] = await node.delete_many([gone], allow_missing=False)
    assert deleted.name == gone
    await node.close()

    node = await Node.open(load_settings(data_dir=tmp_path, shard_bits=after))
    try:
        assert node.settings.shard_bits == after
        counts = node.open_counts()
        for shard in range(1 << after):
            assert counts.get(shard, 0) == sum(consistent_hash(name, after) == shard for name in names[8:]), (
                shard
            )
        for shard in range(1 << after):
            await node.seal_shard(shard)
        assert node.open_counts() == {}
        totals = await node.shard_status(None)
        assert len(totals) == 1 << after
        for name in names:
            assert (await node.stat(name)).name == name
        rows = await node._doors.catalog.containers(state=ContainerState.STORED)
        assert {row.run.bits for row in rows} == {2, after}
        assert sum(row.geometry.file_count for row in rows) == len(names)
    finally:
        await node.close()
