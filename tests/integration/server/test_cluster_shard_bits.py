"""Another number of shards: what lies in containers stays, and is read by the bits it was made with."""

import pytest
from des_client import FileMissing, NameConflict

from tests.integration.server import cluster_in_process
from tests.integration.server.cluster_in_process import running_cluster


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("before", "after"), [(4, 6), (4, 2)])
async def test_old_files_are_read_listed_and_deleted_after_the_number_of_shards_changed(
    tmp_path, monkeypatch, before, after
):
    monkeypatch.setattr(cluster_in_process, "SHARD_BITS", before)
    async with running_cluster(tmp_path, nodes=2) as cluster:
        async with cluster.client() as client:
            files = {}
            for number in range(30):
                data = f"file {number}".encode()
                files[(await client.put(data)).file.name] = data
            gone = (await client.put(b"to be deleted")).file.name
            await client.delete(gone)
            for shard in range(1 << before):
                await client.seal_shard(shard)
        # Nothing is open and no node runs: now the setting may change.
        for member in cluster.members:
            await member.stop()
        monkeypatch.setattr(cluster_in_process, "SHARD_BITS", after)
        for member in cluster.members:
            await member.start()
        await cluster.settled()
        for at in (0, 1):
            async with cluster.client(at) as client:
                for name, data in files.items():
                    assert await client.get(name) == data
                    assert (await client.put(data, name=name)).already_existed
                with pytest.raises(NameConflict):
                    await client.put(b"other", name=next(iter(files)))
                with pytest.raises(FileMissing, match="deleted"):
                    await client.get(gone)
                assert [info.name async for info in client.list()] == sorted(files)
        async with cluster.client() as client:
            shards = await client.shard_status()
            assert len(shards) == 1 << after
            assert sum(shard.stored_files for shard in shards) == 30
            victim, *kept = files
            await client.delete(victim)
            new = (await client.put(b"new")).file.name
            for shard in range(1 << after):
                await client.seal_shard(shard)
            assert [info.name async for info in client.list()] == sorted([*kept, new])
            with pytest.raises(FileMissing):
                await client.get(victim)
