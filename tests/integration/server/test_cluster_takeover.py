"""A node that vanishes: what it made STORED goes on elsewhere, what it alone had comes back with its disk."""

import asyncio
import time
from collections import Counter
from dataclasses import replace

import httpx
import pytest
from des_client import DesClientError, Durability, FileMissing, PutItem, Unavailable

from des.clock import SystemClock
from des.core import DesReader
from des.db.catalog import CatalogUnavailableError, ContainerState
from des.naming import consistent_hash, created_ms_of, day_of, encode_name, parse_name
from tests.integration.server.cluster_in_process import SETTLE_S, SHARD_BITS, running_cluster

TTL_S = 4.0
"""Long enough that a busy machine does not lose a shard that its node still has."""


async def until(look):
    """Poll until `look` gives something."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        if found := await look():
            return found
        assert time.monotonic() < deadline, look
        await asyncio.sleep(0.1)


@pytest.mark.timeout(180)
async def test_stored_files_of_a_lost_node_go_on_at_the_next_owner_and_local_ones_are_waited_for(
    tmp_path,
):
    seal = {"age_s": 3600, "useful_bytes": 1, "checkpoint_s": 0.1, "check_interval_s": 0.1}
    async with running_cluster(tmp_path, ttl_s=TTL_S, seal=seal) as cluster:
        lost = cluster.members[2]
        async with cluster.client(0) as client:
            stored, local, deleted, sealed = await cluster.names_at(lost, 4, client)
            for name, durability in (
                (stored, Durability.STORED),
                (deleted, Durability.STORED),
                (sealed, Durability.STORED),
                (local, Durability.LOCAL),
            ):
                result = await client.put(name.encode(), name=name, durability=durability)
                assert result.durability is durability
            await client.delete(deleted)
            if consistent_hash(sealed, SHARD_BITS) not in {
                consistent_hash(name, SHARD_BITS) for name in (stored, local)
            }:
                await client.seal_shard(consistent_hash(sealed, SHARD_BITS))
            shard = consistent_hash(local, SHARD_BITS)

            async def told():
                return [row for row in await cluster.catalog.open_containers() if row.shard == shard]

            await until(told)
            node = lost.node.node_uuid
            await lost.vanish()
            await cluster.settled(without={2})
            for at in (0, 1):
                async with cluster.client(at) as reader:
                    assert await reader.get(stored) == stored.encode()
                    assert await reader.get(sealed) == sealed.encode()
                    with pytest.raises(FileMissing, match="deleted"):
                        await reader.get(deleted)
            async with cluster.client(0, 1, retry=None) as reader:
                for _ in range(5):
                    with pytest.raises(Unavailable) as caught:
                        await reader.get(local)
                    assert caught.value.retry_after_s is not None
                with pytest.raises(Unavailable):
                    await reader.put(b"other", name=local)
                (noted,) = await reader.shard_status([shard])
            assert node in noted.last_error
            assert "lie nowhere else (" in noted.last_error
            owner = next(m for m in cluster.members[:2] if m.owns(local))
            async with httpx.AsyncClient(base_url=f"http://{owner.server.http_address}") as door:
                lines = (await door.get("/metrics")).text.splitlines()
            metrics = dict(line.rsplit(" ", 1) for line in lines if line.startswith("des_cluster_"))
            assert float(metrics["des_cluster_lost_shards"]) >= 1
            assert float(metrics["des_cluster_lost_files"]) >= 1

            await lost.start()
            await cluster.settled()

            async def home():
                statuses = await client.shard_status()
                return not any(status.last_error for status in statuses)

            await until(home)
            assert await client.get(local) == local.encode()
            assert await client.get(stored) == stored.encode()
            # Each file is in exactly one container in the end.
            for each in range(1 << SHARD_BITS):
                await client.seal_shard(each)
            assert sorted([info.name async for info in client.list()]) == sorted([stored, local, sealed])
            names = Counter()
            for row in await cluster.catalog.containers(state=ContainerState.STORED):
                size = (await cluster.store.head(row.key)).size
                (tmp_path / "one.des").write_bytes(await cluster.store.get_range(row.key, 0, size))
                with DesReader(tmp_path / "one.des") as reader:
                    names.update(reader.list_files())
            assert names == {stored: 1, local: 1, sealed: 1}


@pytest.mark.timeout(120)
async def test_a_file_that_became_this_nodes_while_it_was_looked_for_is_not_called_missing(tmp_path):
    async with running_cluster(tmp_path, nodes=1) as cluster, cluster.client(0) as client:
        name = (await client.put(b"here")).file.name
        retriever = cluster.members[0].node._retriever
        shards = retriever._shards
        answers = [False]

        class Gaining:
            """Owns nothing yet at the first question."""

            def owns(self, shard):
                return answers.pop() if answers else shards.owns(shard)

            def check_absence(self, shard, name_ms):
                shards.check_absence(shard, name_ms)

        retriever._shards = Gaining()
        assert await (await retriever.open(name)).read_whole() == b"here"
        answers.append(False)
        assert (await retriever.find(name, parse_name(name))).size == 4
        assert not answers


@pytest.mark.timeout(180)
async def test_a_shard_of_which_a_tombstone_is_owed_stays_until_the_catalog_has_it(tmp_path):
    async with running_cluster(tmp_path, nodes=2) as cluster:
        leaving, other = cluster.members
        async with cluster.client(0, retry=None) as client:
            [name] = await cluster.names_at(leaving, 1, client)
            await client.put(b"to be deleted", name=name)
            shard = consistent_hash(name, SHARD_BITS)
            await client.seal_shard(shard)

            def refuse(method, moment):
                if method == "put_tombstones":
                    raise CatalogUnavailableError("not now")

            cluster.catalog.fault = refuse
            with pytest.raises(DesClientError):
                await client.delete(name)
        await leaving.node.leave(within_s=1.0)
        assert shard in leaving.node._lease.locks
        cluster.catalog.fault = None
        await leaving.node.leave(within_s=SETTLE_S)
        assert leaving.node._lease.locks == {}
        assert (await cluster.catalog.tombstone(name)) is not None
        await cluster.owned_by(shard, other)
        async with cluster.client(1) as client:
            with pytest.raises(FileMissing, match="deleted"):
                await client.get(name)


@pytest.mark.timeout(180)
async def test_a_batch_takes_no_name_that_a_lost_node_may_have(tmp_path):
    async with running_cluster(tmp_path, nodes=2, ttl_s=TTL_S) as cluster:
        stays, lost = cluster.members
        async with cluster.client(0) as client:
            names = await cluster.names_at(lost, 3, client)
            new = await cluster.names_at(stays, 3, client)
            for name in names:
                await client.put(b"first", name=name)
            await lost.vanish()
            await cluster.settled(without={1})
            outcomes = []
            async with cluster.client(0, retry=None) as impatient:
                items = [PutItem(b"other", name=name) for name in [*names, *new]]
                async for outcome in impatient.put_many(items):
                    outcomes.append(outcome)
            assert [isinstance(one.error, Unavailable) for one in outcomes] == [True] * 3 + [False] * 3
            assert [one.unwrap().already_existed for one in outcomes[3:]] == [False] * 3
        await lost.start()
        await cluster.settled()
        async with cluster.client() as client:

            async def home():
                return not (await cluster.catalog.cluster_view()).estates

            await until(home)
            for name in names:
                assert await client.get(name) == b"first"


@pytest.mark.timeout(120)
async def test_a_name_far_ahead_of_the_databases_clock_waits_for_its_time_and_its_batch_does_not(tmp_path):
    async with running_cluster(tmp_path, nodes=2) as cluster, cluster.client(retry=None) as client:
        settings = cluster.members[0].node.settings
        at_ms = int(time.time() * 1000) + 3_600_000  # a whole hour: 60 s are the time to live
        early = encode_name("DES", day_of(at_ms), at_ms, 200, 0, settings.wrap_bits)
        with pytest.raises(Unavailable) as caught:
            await client.put(b"early", name=early)
        assert caught.value.reason == "CLOCK_BEHIND"
        (assigned,) = await client.assign_names(1)
        outcomes = [
            one
            async for one in client.put_many(
                [PutItem(b"early", name=early), PutItem(b"now", name=assigned.name), PutItem(b"new")]
            )
        ]
        assert [getattr(one.error, "reason", None) for one in outcomes] == ["CLOCK_BEHIND", None, None]
        with pytest.raises(FileMissing):
            await client.get(early)
        assert await client.get(assigned.name) == b"now"


@pytest.mark.timeout(120)
async def test_a_shard_that_is_lost_while_a_node_says_that_it_may_hold_files_takes_none(tmp_path):
    """The estate was noted before that: nobody would wait for a file that is acknowledged now."""
    async with running_cluster(tmp_path, nodes=1) as cluster, cluster.client(0, retry=None) as client:
        (name,) = await cluster.names_at(cluster.members[0], 1, client)
        locks = cluster.catalog._locks

        def lose(method, moment):
            if (method, moment) == ("beat_node", "before"):
                locks.update(
                    (shard, replace(lock, holder="another", node="another", epoch=lock.epoch + 1))
                    for shard, lock in locks.items()
                )

        cluster.catalog.fault = lose
        with pytest.raises(Unavailable):
            await client.put(b"data", name=name)
        cluster.catalog.fault = None


class OtherClock(SystemClock):
    """Wrong by a number of seconds."""

    def __init__(self, ahead_s):
        self.ahead_s = ahead_s

    def now_ms(self):
        return super().now_ms() + int(self.ahead_s * 1000)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("ahead_s", [3600, -3600])
async def test_a_node_whose_clock_is_wrong_by_an_hour_names_files_by_the_databases(tmp_path, ahead_s):
    async with running_cluster(tmp_path, nodes=2, clocks={1: OtherClock(ahead_s)}) as cluster:
        begun_ms = SystemClock().now_ms()
        async with cluster.client(1) as client:
            made = [(await client.put(b"data")).file.name]
            made += [assigned.name for assigned in await client.assign_names(3)]
        ended_ms = SystemClock().now_ms()
        wrap_bits = cluster.members[1].node.settings.wrap_bits
        assert all(begun_ms - 30_000 <= created_ms_of(name, wrap_bits) <= ended_ms + 30_000 for name in made)
        async with cluster.client(0) as client:  # whoever owns them takes them
            for name in made:
                assert (await client.put(b"data", name=name)).file.name == name
