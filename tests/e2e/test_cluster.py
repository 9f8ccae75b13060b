"""Three nodes, real processes over a real PostgreSQL and a real S3 server, while clients write and read.

The short form takes each fault once, the long one as many as `DES_TORTURE_FAULTS` says, drawn from
`DES_TEST_SEED`.
"""

import asyncio
import os
import random
import re
import time

import httpx
import pytest
from des_client import AsyncDesClient, Unavailable

from tests.e2e.cluster_faults import (
    FAULTS,
    cut_off,
    divide_anew,
    divide_anew_and_kill,
    kill_and_restart,
    pause_and_resume,
    restart_postgresql,
    rolling_restart,
    store_down_briefly,
    store_down_for_long,
)
from tests.e2e.cluster_kit import TTL_S, Cluster, running_cluster
from tests.e2e.cluster_torture import torture


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with running_cluster(tmp_path_factory.mktemp("cluster"), 3) as running:
        yield running


async def in_shard_of(cluster: Cluster, client: AsyncDesClient, node: int) -> str:
    """A new name in a shard that a given node owns."""
    await cluster.settled()
    address = cluster.members[node].from_peers.address
    owned = {shard.shard_id for shard in await client.shard_status() if shard.owner_address == address}
    while True:
        for assigned in await client.assign_names(50):
            if assigned.shard_id in owned:
                return assigned.name


@pytest.mark.timeout(400)
async def test_any_node_takes_any_call(cluster):
    await cluster.settled()
    async with AsyncDesClient(cluster.targets) as every:
        names = [await in_shard_of(cluster, every, node) for node in range(3)]
    for at, target in enumerate(cluster.targets):
        async with AsyncDesClient(target) as client:
            large = os.urandom(3_000_000)
            name = names[at - 1]
            assert (await client.put(large, name=name)).file.name == name
            for other in cluster.targets:
                async with AsyncDesClient(other) as reader:
                    assert await reader.get(name) == large
                    assert (await reader.stat(name)).size_bytes == len(large)
                    assert (await reader.put(large, name=name)).already_existed
            shards = await client.shard_status()
            assert len({shard.owner_node for shard in shards}) == 3
            assert sum(shard.open_files for shard in shards) >= 1


def sent_on(cluster: Cluster) -> int:
    """How many calls nodes have sent on to others."""
    pages = [httpx.get(f"http://{target}/metrics", timeout=60).text for target in cluster.http_targets]
    counts = [re.search(r"^des_cluster_forwarded_total (\S+)$", page, re.MULTILINE) for page in pages]
    return sum(int(float(count[1])) for count in counts if count is not None)


@pytest.mark.timeout(400)
async def test_a_client_of_all_nodes_asks_the_owners_itself_once_it_knows_them(cluster):
    await cluster.settled()
    async with AsyncDesClient(cluster.targets) as client:
        names = [assigned.name for assigned in await client.assign_names(24)]

        async def round_of_calls() -> int:
            before = await asyncio.to_thread(sent_on, cluster)
            for name in names:
                await client.put(b"content", name=name)
                assert (await client.stat(name)).size_bytes == 7
                assert await client.get(name) == b"content"
            return await asyncio.to_thread(sent_on, cluster) - before

        # The shards of 24 names are spread over the nodes, so at first most calls miss their owner.
        rounds = [await round_of_calls()]
        while rounds[-1] and len(rounds) < 20:
            rounds.append(await round_of_calls())
        assert rounds[0] > 0
        assert rounds[-1] == 0, rounds


@pytest.mark.timeout(400)
async def test_while_an_owner_is_away_its_open_files_are_unavailable_and_never_missing(cluster):
    async with AsyncDesClient(cluster.targets) as client:
        name = await in_shard_of(cluster, client, 2)
        await client.put(b"open", name=name)
    cluster.members[2].process.kill()
    answers = []
    deadline = time.monotonic() + TTL_S * 2
    async with AsyncDesClient(cluster.targets[:2], retry=None) as client:
        while time.monotonic() < deadline:
            with pytest.raises(Unavailable) as caught:
                await client.get(name, timeout_s=20)
            answers.append(caught.value)
        assert all(error.retry_after_s is not None for error in answers)
        noted = [
            shard.last_error
            for shard in await client.shard_status()
            if "lie nowhere else" in shard.last_error
        ]
        assert noted
    await asyncio.to_thread(cluster.members[2].start)
    await cluster.settled()
    async with AsyncDesClient(cluster.targets) as client:
        assert await client.get(name) == b"open"


@pytest.mark.timeout(600)
async def test_a_node_killed_other_shards_and_a_store_that_is_away_lose_and_double_nothing(cluster):
    verdict = await torture(cluster, [kill_and_restart, divide_anew, store_down_briefly], seed=4)
    assert verdict.acknowledged > 0


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_each_fault_once_loses_and_doubles_nothing(cluster):
    faults = [
        kill_and_restart,
        cut_off,
        restart_postgresql,
        pause_and_resume,
        store_down_for_long,
        rolling_restart,
        divide_anew_and_kill,
    ]
    verdict = await torture(cluster, faults, seed=1)
    assert verdict.acknowledged > 50


@pytest.mark.slow
@pytest.mark.timeout(7200)
async def test_many_faults_lose_and_double_nothing(tmp_path):
    seed = int(os.environ.get("DES_TEST_SEED", "7"))
    count = int(os.environ.get("DES_TORTURE_FAULTS", "30"))
    dice = random.Random(seed)
    with running_cluster(tmp_path, 3) as running:
        await torture(running, [dice.choice(FAULTS) for _ in range(count)], seed=seed)
