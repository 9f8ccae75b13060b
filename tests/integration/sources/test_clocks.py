"""A source whose clock is a day off: rows age, claims run out and failures wait by that clock alone."""

import pytest

from des.clock import SystemClock
from des.sources import ClaimOwner
from des.sources.checkup import check_source
from des.testing.source_databases import temporary_source
from tests.integration.sources.world import BITS, HOLDERS

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
SHARDS = range(1 << BITS)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    with temporary_source("postgresql", tmp_path_factory.mktemp("postgresql")) as made:
        yield made


@pytest.mark.parametrize("days", [1, -1])
async def test_rows_are_marked_and_packed_by_the_clock_of_the_source(world, table, days):
    # Whoever looks there first sees the clock of the server moved.
    table.execute(
        "CREATE SCHEMA IF NOT EXISTS moved",
        "CREATE OR REPLACE FUNCTION moved.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS "
        f"$$ SELECT pg_catalog.clock_timestamp() + interval '{days} day' $$",
    )
    changes = {
        "database": {
            **table.database,
            "driver_options": {"options": "-c search_path=moved,public,pg_catalog"},
        },
        "schema": "public",
        "mark": {"min_age_s": 3600},
        "claim": {"timeout_s": 3600, "backoff_first_s": 3600},
    }
    world.objects(old=b"1", older=b"22", young=b"333")
    table.add(1, first=4, object_key="missing")
    table.execute(
        "UPDATE documents SET created = moved.clock_timestamp() - interval '2 hours'",
        "UPDATE documents SET created = moved.clock_timestamp() - interval '10 minutes' WHERE id = 3",
    )
    await world.start(**changes, packer={"expired_check_s": 0.001})
    ahead = await world.connector.now_ms() - SystemClock().now_ms()
    assert abs(ahead - days * DAY_MS) < HOUR_MS

    await world.mark()
    assert table.statuses() == {"marked": 3, None: 1}, "the young row waits by the clock that made it"

    assert await world.ingest.step() == 3
    assert table.statuses() == {"claimed": 2, "marked": 1, None: 1}
    assert await world.ingest.step() == 0, "the row that failed waits, and no claim has run out"
    stranger = ClaimOwner("ffffffff-0000-4000-8000-000000000000", HOLDERS[8])
    asked = {"owner": stranger, "shard_bits": BITS, "known": (), "limit": 9, "predecessors": True}
    assert await world.connector.adopt(SHARDS, **asked) == []

    await world.seal()
    assert table.statuses() == {"packed": 2, "marked": 1, None: 1}
    report = await check_source("docs", world.config(**changes), SystemClock())
    assert report.mistakes == ()
    assert abs(report.clock_ahead_ms - days * DAY_MS) < HOUR_MS
