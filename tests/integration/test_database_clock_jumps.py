"""A real PostgreSQL whose clock jumps ahead by more than the locks' time to live, and two leases over it.

The clock is the one that the catalog's statements read: a function of the database's own, found before the
built-in one, which adds a number of milliseconds from a table.
"""

import asyncio

import pytest
from sqlalchemy import text

from des.clock import SystemClock
from des.cluster import ClusterLease, Duties, NameAheadError, NotShardOwnerError
from des.db import DesDbConnector, SqlCatalog
from des.db.catalog import FencedError
from des.db.membership import Sharding
from des.testing.postgresql import temporary_postgresql

BITS = 2
SHARDS = range(1 << BITS)
TTL_S = 60.0
JUMP_MS = 2 * 60_000
SKEWED_CLOCK = (
    "CREATE SCHEMA skewed",
    "CREATE TABLE skewed.ahead (ms bigint NOT NULL)",
    "INSERT INTO skewed.ahead VALUES (0)",
    """CREATE FUNCTION skewed.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
    'SELECT pg_catalog.clock_timestamp() + ms * interval ''1 millisecond'' FROM skewed.ahead'""",
    "ALTER DATABASE postgres SET search_path = public, skewed, pg_catalog",
)


class Node:
    """A lease, and the latest time in names that it acknowledged files under, which only its log has."""

    def __init__(self, url, number):
        self.connector = DesDbConnector(url)
        self.catalog = SqlCatalog(self.connector)
        self.lease = ClusterLease(
            catalog=self.catalog,
            node=f"node-{number}",
            holder=f"holder-{number}",
            boot_epoch=1,
            version="1",
            capacity=1,
            sharding=Sharding(BITS, 0),
            ttl_s=TTL_S,
            clock=SystemClock(),
        )
        self.acknowledged_ms = 0

        async def nothing_to_do(_):
            return {}

        self.lease.duties = Duties(
            gained=nothing_to_do,
            lost=lambda _: None,
            gave=lambda _: None,
            empty=nothing_to_do,
            is_empty=lambda _: True,
            awaits_files=lambda _: False,
            holds_local_files=lambda: self.acknowledged_ms > 0,
            name_floor_ms=lambda: 0,
            named_until_ms=lambda: self.acknowledged_ms,
        )

    async def join(self):
        await self.lease.register(window_ms=1 << 32)
        await self.lease.join("127.0.0.1:1")
        assert await self.lease.wait_ready(0, TTL_S)

    def owned(self):
        return {shard for shard in SHARDS if self.lease.owns(shard)}

    async def acknowledge(self, shard, named_ms):
        async with self.lease.writing([shard], named_ms=named_ms):
            self.acknowledged_ms = max(self.acknowledged_ms, named_ms)


@pytest.fixture
async def url(tmp_path):
    with temporary_postgresql(tmp_path / "pg") as url:
        connector = DesDbConnector(url)
        await SqlCatalog(connector).migrate()
        for statement in SKEWED_CLOCK:
            await connector.read(lambda connection, sql=statement: connection.execute(text(sql)))
        await connector.close()  # the others find the skewed clock
        yield url


async def set_clock_ahead(node, ms):
    before = (await node.catalog.cluster_view()).now_ms
    await node.connector.write(
        lambda connection: connection.execute(text(f"UPDATE skewed.ahead SET ms = ms + {ms}"))
    )
    after = (await node.catalog.cluster_view()).now_ms
    assert ms <= after - before < ms + 60_000


async def test_two_nodes_own_a_shard_until_the_next_heartbeat_and_share_no_name(url):
    first, second = Node(url, 1), Node(url, 2)
    try:
        await first.join()
        assert first.owned() == set(SHARDS)
        now_ms = first.lease.now_ms()
        await first.acknowledge(0, now_ms)
        await first.lease.note_local()
        until_ms = first.lease.locks[0].expires_ms

        await set_clock_ahead(first, JUMP_MS)
        await second.join()
        # Both answer: the first by its own clock, which knows of no jump.
        assert second.owned() == set(SHARDS)
        assert first.owned() == set(SHARDS)

        # Of names, each is only one node's. What the first may still acknowledge, up to the end of its lock,
        # the second calls neither new nor missing; later ones, as those made now are, the second takes.
        (estate,) = second.lease.estates(0)
        assert until_ms <= estate.named_until_ms <= second.lease.now_ms()
        await first.acknowledge(0, until_ms)
        for named_ms in (now_ms, until_ms, estate.named_until_ms):
            with pytest.raises(NotShardOwnerError, match="node-1"):
                second.lease.check_absence(0, named_ms)
        second.lease.check_absence(0, estate.named_until_ms + 1)
        with pytest.raises(NameAheadError):
            await first.acknowledge(0, until_ms + 1)
        # What docs/cluster.md warns of: the first would still say of such a file that there is none.
        first.lease.check_absence(0, estate.named_until_ms + 1)
        # What the first writes to the catalog is refused at once.
        with pytest.raises(FencedError):
            await first.catalog.release_log_segments([], [0], first.lease.claim_of([0]))

        await first.lease.step()
        assert first.owned() == set()
        with pytest.raises(NotShardOwnerError):
            first.lease.check_absence(0, estate.named_until_ms + 1)
        assert second.owned() == set(SHARDS)
    finally:
        await asyncio.gather(first.connector.close(), second.connector.close())
