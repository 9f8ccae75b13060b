"""What reads of other nodes' stored files cost in queries of the catalog."""

from collections import Counter

import pytest

from des.naming import consistent_hash
from tests.integration.server.cluster_in_process import SHARD_BITS, running_cluster


@pytest.fixture
async def cluster(tmp_path):
    async with running_cluster(tmp_path, nodes=2, cluster={"cache_s": 0.001}) as running:
        yield running


@pytest.mark.timeout(120)
async def test_a_container_that_was_seen_is_not_asked_for_again_to_read_another_file_of_it(
    cluster, monkeypatch
):
    for module in ("retriever", "owner_next"):
        monkeypatch.setattr(f"des.retrieval.{module}.SEEN_S", 3600.0)  # however slow the machine is
    near, far = cluster.members
    async with cluster.client(1) as client:
        (first,) = await cluster.names_at(far, 1, client)
        shard = consistent_hash(first, SHARD_BITS)
        names = [
            name
            for name in await cluster.names_at(far, 100, client)
            if consistent_hash(name, SHARD_BITS) == shard
        ]
        for name in names:
            await client.put(name.encode(), name=name)
        await client.seal_shard(shard)
    asked = Counter()
    cluster.catalog.fault = lambda method, moment: asked.update([method])
    async with cluster.client(0, follow=False) as client:
        assert await client.get(names[0]) == names[0].encode()
        assert near.server.registry.get_sample_value("des_cluster_forwarded_total") == 0
        asked.clear()
        for name in names[1:]:
            assert await client.get(name) == name.encode()
    assert len(names) > 2
    assert near.server.registry.get_sample_value("des_cluster_forwarded_total") == 0
    assert asked["containers_of"] == 0
