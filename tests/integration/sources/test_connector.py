"""What marker and packers ask of a source, on each real database."""

import asyncio
import itertools
import time
from dataclasses import replace

import pytest

from des.naming import consistent_hash, encode_name
from des.sources import FailReason, PackedRow

BITS = 3
SHARDS = range(1 << BITS)
DAY_MS = 1_772_236_800_000
CONTAINER = "018bcfe5-6800-7000-8000-000000000000"
SHA256 = "ab" * 32


def names(count, first=0):
    return [
        encode_name("DES", "20260228", DAY_MS + number // 256, 1, number % 256, 32)
        for number in range(first, first + count)
    ]


async def marked(connect, database, count, **changes):
    """A connector over `count` rows that are marked."""
    database.add(count)
    connector = connect(**changes)
    assert (await connector.mark_batch(names(count), shard_bits=BITS)).marked == count
    return connector


async def test_marking_writes_name_hash_shard_and_status_in_the_order_of_ids(connect, database):
    database.add(5)
    connector = connect()
    batch = await connector.mark_batch(names(3), shard_bits=BITS)
    assert (batch.found, batch.marked, batch.failed) == (3, 3, 0)
    rows = database.rows("id, des_name, des_hash, des_shard, des_status")
    assert [
        (number, name, consistent_hash(name, 32), consistent_hash(name, BITS), "marked")
        for number, name in enumerate(names(3), 1)
    ] == [tuple(row) for row in rows[:3]]
    assert [row.des_status for row in rows[3:]] == [None, None]


async def test_markers_side_by_side_mark_every_row_once(connect, database):
    database.add(200)
    connectors = [connect() for _ in range(4)]

    async def work(connector, place):
        done = 0
        for number in range(100):
            batch = await connector.mark_batch(names(7, 10_000 * place + 7 * number), shard_bits=BITS)
            done += batch.marked
            if not batch.found and set(database.statuses()) == {"marked"}:
                return done
        raise AssertionError("rows are left")

    done = await asyncio.gather(*(work(connector, place) for place, connector in enumerate(connectors)))
    assert sum(done) == 200
    assert len({row.des_name for row in database.rows("id, des_name")}) == 200


async def test_a_row_that_has_a_name_keeps_it(connect, database):
    database.add(1, des_name=names(1)[0])
    await connect().mark_batch(names(1, first=5), shard_bits=BITS)
    assert database.rows("id, des_name")[0].des_name == names(1)[0]


async def test_rows_that_can_never_be_packed_fail_alone(connect, database):
    database.add(1)
    database.add(1, first=2, object_key=None)
    database.add(1, first=3, object_key="k" * 1025)
    database.add(1, first=4, des_name="no name at all")
    batch = await connect().mark_batch(names(10), shard_bits=BITS)
    assert (batch.found, batch.marked, batch.failed) == (4, 1, 3)
    assert [row.des_error and row.des_error.split(":")[0] for row in database.rows("id, des_error")] == [
        None,
        "BAD_KEY",
        "BAD_KEY",
        "BAD_NAME",
    ]


async def test_only_rows_that_pass_every_filter_are_marked(connect, database):
    database.add(6)
    database.add(1, first=7, customer=None)
    filters = [
        {"column": "kind", "op": "eq", "value": "a"},
        {"column": "customer", "op": "not_in", "values": ["c1", "c%"]},
        {"column": "object_key", "op": "prefix", "value": "in/"},
        {"column": "id", "op": "le", "value": 7},
        {"column": "mime", "op": "not_null"},
    ]
    await connect(filters=filters).mark_batch(names(10), shard_bits=BITS)
    assert [row.id for row in database.rows("id", "des_status = 'marked'")] == [3, 5, 7]


async def test_young_rows_wait_by_the_sources_own_clock(connect, database):
    database.add(2)
    past = {
        "postgresql": "now() - interval '2 days'",
        "mariadb": "UTC_TIMESTAMP - INTERVAL 2 DAY",
        "sqlite": "datetime('now', '-2 days')",
    }[database.kind]
    database.execute(f"UPDATE documents SET created = {past} WHERE id = 1")
    connector = connect(mark={"min_age_s": 3600})
    assert (await connector.mark_batch(names(5), shard_bits=BITS)).marked == 1
    assert abs(await connector.now_ms() - time.time() * 1000) < 60_000


async def test_claims_are_of_one_owner_and_in_the_order_of_ids(connect, database, owners):
    owner, other, _ = owners
    connector = await marked(connect, database, 40)
    first = await connector.claim([2], owner=owner, shard_bits=BITS, limit=2)
    second = await connector.claim([2], owner=other, shard_bits=BITS, limit=100)
    ids = [row.id for row in database.rows("id", "des_shard = 2")]
    assert [row.id for row in first] == ids[:2]
    assert [row.id for row in second] == ids[2:]
    (row,) = first[:1]
    assert (row.bucket, row.key, row.content_type, row.metadata, row.attempts, row.reclaimed) == (
        "docs",
        f"in/{row.id:06d}.bin",
        "application/octet-stream",
        {"customer": f"c{row.id % 7}", "source-id": str(row.id)},
        0,
        False,
    )


async def test_packers_side_by_side_claim_every_row_once(connect, database, owners):
    database.add(300)
    connectors = [connect() for _ in range(3)]
    await connectors[0].mark_batch(names(300), shard_bits=BITS)

    async def work(connector, owner):
        got = []
        for _ in range(100):
            got += [row.id for row in await connector.claim(SHARDS, owner=owner, shard_bits=BITS, limit=11)]
            if set(database.statuses()) == {"claimed"}:
                return got
        raise AssertionError("rows are left")

    got = await asyncio.gather(
        *(work(connector, owner) for connector, owner in zip(connectors, owners, strict=True))
    )
    assert sorted(itertools.chain(*got)) == list(range(1, 301))


async def test_no_shard_starves_behind_the_rows_of_another(connect, database, owners):
    """Rows of shard 0 alone fill any limit; those of shard 1 are claimed all the same."""
    connector = await marked(connect, database, 30)
    database.execute(
        "UPDATE documents SET des_status = 'packed' WHERE des_shard NOT IN (0, 1)",
        "UPDATE documents SET id = id + 1000 WHERE des_shard = 1",
    )
    rows = await connector.claim([1], owner=owners[0], shard_bits=BITS, limit=1)
    assert [row.shard for row in rows] == [1]


async def test_without_a_shard_column_the_name_tells_the_shard(connect, database, owners):
    owner, other, _ = owners
    connector = await marked(connect, database, 60, columns={"shard": None})
    expected = [row.id for row in database.rows("id, des_name") if consistent_hash(row.des_name, BITS) == 5]
    assert [row.des_shard for row in database.rows("id, des_shard")] == [None] * 60
    rows = await connector.claim([5], owner=owner, shard_bits=BITS, limit=100)
    assert [row.id for row in rows] == expected
    adopted = await connector.adopt([5], owner=other, shard_bits=BITS, known=(), limit=100, predecessors=True)
    assert [(row.id, row.reclaimed) for row in adopted] == [(number, True) for number in expected]


async def test_a_row_in_a_wrong_shard_is_put_where_its_name_belongs(connect, database, owners):
    connector = await marked(connect, database, 20)
    right = {row.id: row.des_shard for row in database.rows("id, des_shard")}
    database.execute("UPDATE documents SET des_shard = 7")
    rows = await connector.claim([7], owner=owners[0], shard_bits=BITS, limit=100)
    assert {row.id for row in rows} == {number for number, shard in right.items() if shard == 7}
    assert {row.id: row.des_shard for row in database.rows("id, des_shard")} == right


async def test_a_live_claim_of_another_store_is_left_alone(connect, database, owners):
    owner, _, stranger = owners
    connector = await marked(connect, database, 10)
    await connector.claim(SHARDS, owner=stranger, shard_bits=BITS, limit=100)
    adopt = {"owner": owner, "shard_bits": BITS, "known": (), "limit": 100}
    assert await connector.adopt(SHARDS, predecessors=True, **adopt) == []
    database.execute("UPDATE documents SET des_claim_expires = 1")
    rows = await connector.adopt(SHARDS, predecessors=False, **adopt)
    assert [row.id for row in sorted(rows, key=lambda row: row.id)] == list(range(1, 11))


async def test_a_predecessors_claims_are_adopted_and_known_rows_are_not(connect, database, owners):
    owner, other, _ = owners
    connector = await marked(connect, database, 10)
    await connector.claim(SHARDS, owner=other, shard_bits=BITS, limit=100)
    rows = await connector.adopt(
        SHARDS, owner=owner, shard_bits=BITS, known={1, 2, 3}, limit=100, predecessors=True
    )
    assert sorted(row.id for row in rows) == list(range(4, 11))
    assert (
        await connector.adopt(SHARDS, owner=owner, shard_bits=BITS, known=(), limit=100, predecessors=False)
        == []
    )


async def test_renewing_reaches_only_claims_that_are_still_ours(connect, database, owners):
    owner, other, _ = owners
    connector = await marked(connect, database, 10)
    rows = await connector.claim(SHARDS, owner=owner, shard_bits=BITS, limit=100)
    ids = [row.id for row in rows]
    database.execute("UPDATE documents SET des_claim_expires = 5 WHERE id > 4")
    await connector.adopt(SHARDS, owner=other, shard_bits=BITS, known=(), limit=2, predecessors=False)
    assert await connector.renew(ids, owner=owner) == 8
    assert len(database.rows("id", "des_claim_expires < 100")) == 0


async def test_packed_rows_carry_container_and_checksum(connect, database, owners):
    owner, *_ = owners
    connector = await marked(connect, database, 6)
    rows = await connector.claim(SHARDS, owner=owner, shard_bits=BITS, limit=100)
    packed = [PackedRow(row, CONTAINER, SHA256) for row in rows]
    settled = await connector.mark_packed(packed, owner=owner)
    assert (settled.packed, settled.gone, settled.changed, settled.lost) == (6, 0, 0, 0)
    row = database.rows()[0]
    assert (row.des_status, row.des_container, row.des_checksum, row.des_claim, row.des_claim_expires) == (
        "packed",
        CONTAINER,
        SHA256,
        None,
        None,
    )
    again = await connector.mark_packed(packed, owner=owner)
    assert (again.packed, again.lost) == (6, 0), "a mark whose answer was lost may be repeated"


async def test_rows_deleted_changed_or_taken_while_claimed_are_told_apart(connect, database, owners):
    owner, other, _ = owners
    connector = await marked(connect, database, 5)
    rows = await connector.claim(SHARDS, owner=owner, shard_bits=BITS, limit=100)
    database.execute(
        "DELETE FROM documents WHERE id = 1",
        "UPDATE documents SET object_key = 'elsewhere' WHERE id = 2",
        "UPDATE documents SET des_status = 'withdrawn' WHERE id = 3",
        "UPDATE documents SET des_claim_expires = 1 WHERE id = 4",
    )
    await connector.adopt(SHARDS, owner=other, shard_bits=BITS, known=(), limit=9, predecessors=False)
    settled = await connector.mark_packed([PackedRow(row, CONTAINER, SHA256) for row in rows], owner=owner)
    assert (settled.packed, settled.gone, settled.changed, settled.lost) == (1, 1, 1, 2)
    statuses = {row.id: row.des_status for row in database.rows("id, des_status")}
    assert statuses == {2: "failed", 3: "withdrawn", 4: "claimed", 5: "packed"}
    assert database.rows("id, des_error", "id = 2")[0].des_error.startswith("ROW_CHANGED: docs/in/000002.bin")


async def test_a_failed_row_waits_and_is_failed_for_good_after_its_attempts(connect, database, owners):
    owner, *_ = owners
    connector = await marked(connect, database, 1, claim={"attempts": 2, "backoff_first_s": 3600})
    (row,) = await connector.claim(SHARDS, owner=owner, shard_bits=BITS, limit=9)
    assert await connector.fail(row, FailReason.MISSING, "no such object", owner=owner) is False
    assert await connector.claim(SHARDS, owner=owner, shard_bits=BITS, limit=9) == []
    (found,) = database.rows("id, des_status, des_attempts, des_claim_expires, des_error")
    assert (found.des_status, found.des_attempts, found.des_error) == ("marked", 1, "MISSING: no such object")
    assert 3500_000 < found.des_claim_expires - await connector.now_ms() <= 3600_000
    database.execute("UPDATE documents SET des_claim_expires = 1")
    (row,) = await connector.claim(SHARDS, owner=owner, shard_bits=BITS, limit=9)
    assert row.attempts == 1
    assert await connector.fail(row, FailReason.MISSING, "no such object", owner=owner) is True
    assert database.statuses() == {"failed": 1}
    assert (await connector.counts()).failed == 1


async def test_a_hopeless_row_is_failed_at_once(connect, database, owners):
    connector = await marked(connect, database, 1)
    (row,) = await connector.claim(SHARDS, owner=owners[0], shard_bits=BITS, limit=9)
    assert await connector.fail(row, FailReason.TOO_LARGE, "x" * 1000, owner=owners[0]) is True
    assert len(database.rows("id, des_error")[0].des_error) == 500


async def test_released_rows_cost_no_attempt(connect, database, owners):
    connector = await marked(connect, database, 3)
    rows = await connector.claim(SHARDS, owner=owners[0], shard_bits=BITS, limit=9)
    await connector.release(rows[:2], owner=owners[0])
    again = await connector.claim(SHARDS, owner=owners[1], shard_bits=BITS, limit=9)
    assert {row.id: row.attempts for row in again} == {row.id: 0 for row in rows[:2]}


async def test_dead_letters_come_back_with_their_name_or_for_a_new_one(connect, database, owners):
    connector = await marked(connect, database, 3)
    rows = await connector.claim(SHARDS, owner=owners[0], shard_bits=BITS, limit=9)
    for row, reason in zip(rows, ("TOO_LARGE", "NAME_CONFLICT", "BAD_BUCKET"), strict=True):
        await connector.fail(row, FailReason(reason), "why", owner=owners[0])
    dead = await connector.failed(limit=10, reasons=["TOO_LARGE", "NAME_CONFLICT"])
    assert sorted(row.error for row in dead) == ["NAME_CONFLICT: why", "TOO_LARGE: why"]
    assert await connector.retry_failed(dead) == 2
    state = {row.id: (row.des_status, row.des_name) for row in database.rows("id, des_status, des_name")}
    assert state[rows[0].id] == ("marked", rows[0].name)
    assert state[rows[1].id] == (None, None)
    assert state[rows[2].id] == ("failed", rows[2].name)


async def test_whole_numbers_can_be_statuses(connect, database, owners):
    database.execute("ALTER TABLE documents ADD COLUMN state INTEGER DEFAULT 0 NOT NULL")
    database.add(3)
    values = {"pending": 0, "marked": 1, "claimed": 2, "packed": 3, "failed": 9}
    connector = connect(columns={"status": "state"}, status_values=values)
    await connector.mark_batch(names(3), shard_bits=BITS)
    rows = await connector.claim(SHARDS, owner=owners[0], shard_bits=BITS, limit=1)
    await connector.mark_packed([PackedRow(rows[0], CONTAINER, SHA256)], owner=owners[0])
    counts = await connector.counts()
    assert (counts.pending, counts.marked, counts.packed, counts.other) == (0, 2, 1, 0)


async def test_a_database_whose_clock_is_a_day_off_expires_claims_by_its_own(connect, database, owners):
    """All times are the database's: only differences of its own clock matter."""
    owner, other, _ = owners
    connector = await marked(connect, database, 2)
    rows = await connector.claim(SHARDS, owner=owner, shard_bits=BITS, limit=9)
    day = 86_400_000
    expires = database.rows("id, des_claim_expires")[0].des_claim_expires
    shifted = replace(rows[0])
    # The clock of the source jumps a day ahead: as seen by it, the claim was given a day earlier.
    database.execute(f"UPDATE documents SET des_claim_expires = {expires - day}")
    taken = await connector.adopt(SHARDS, owner=other, shard_bits=BITS, known=(), limit=9, predecessors=False)
    assert {row.id for row in taken} == {1, 2}
    settled = await connector.mark_packed([PackedRow(shifted, CONTAINER, SHA256)], owner=owner)
    assert (settled.packed, settled.lost) == (0, 1), "the first claimant is told, and changes nothing"


@pytest.mark.parametrize(
    "key", ["a b/ü/%41//x", "../up", "line\nbreak", "'; DROP TABLE documents; --", "\U0001f600"]
)
async def test_odd_keys_pass_unchanged(connect, database, owners, key):
    database.add(1, object_key=key)
    connector = connect()
    await connector.mark_batch(names(1), shard_bits=BITS)
    (row,) = await connector.claim(SHARDS, owner=owners[0], shard_bits=BITS, limit=9)
    assert row.key == key
    assert (await connector.mark_packed([PackedRow(row, CONTAINER, SHA256)], owner=owners[0])).packed == 1
