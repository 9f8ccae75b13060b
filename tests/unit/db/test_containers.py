"""What the table of containers refuses, and what the read path costs."""

from dataclasses import replace

import pytest

from des.db import ContainerGeometry, DesDbConnector, ShardRun, SqlCatalog
from des.db.containers import _COVERING, covering, days_of
from des.db.schema import containers, tombstones
from des.errors import InvalidInputError
from des.testing.catalog_rows import DAY, claim, container_row


@pytest.fixture
async def connector(tmp_path):
    connector = DesDbConnector.sqlite(tmp_path / "catalog.sqlite")
    yield connector
    await connector.close()


@pytest.fixture
async def catalog(connector):
    catalog = SqlCatalog(connector)
    await catalog.migrate()
    return catalog


@pytest.mark.parametrize(
    "changes",
    [
        {"day": "2026-02-28"},
        {"sha256": "abc"},
        {"name_ms_first": 2, "name_ms_last": 1},
        {"data_bytes": -1},
        {"geometry": ContainerGeometry(100, 16, 90, 106, 0, 16, 0, 1)},
        {"geometry": ContainerGeometry(0, 0, 0, 0, 0, 0, 0, 0)},
    ],
)
async def test_a_row_that_cannot_be_true_is_refused(catalog, changes):
    own = await claim(catalog, range(8, 12))
    with pytest.raises(InvalidInputError, match="breaks a rule"):
        await catalog.announce_container(replace(container_row(), **changes), own)
    assert await catalog.containers() == []


async def test_a_lookup_searches_the_index_and_never_walks_a_day(catalog, connector):
    boundaries = [0, 4 << 24, 5 << 24]
    statement = _COVERING.params(day=DAY, first=5 << 24, stop=6 << 24, boundaries=boundaries)

    async def explain(connection):
        compiled = statement.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
        rows = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}")
        return [row.detail for row in rows]

    plan = await connector.read(explain)
    index = "SEARCH des_containers USING INDEX ix_des_containers_day_state_hash_first "
    assert [line for line in plan if "des_containers" in line] == [
        index + "(day=? AND state=? AND hash_first=?)",
        index + "(day=? AND state=? AND hash_first>? AND hash_first<?)",
    ]


@pytest.mark.parametrize(
    "statement", [days_of(containers.c.day, containers.c.state == "stored"), days_of(tombstones.c.day)]
)
async def test_the_days_are_found_without_reading_every_row(catalog, connector, statement):
    async def explain(connection):
        compiled = statement.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
        rows = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}")
        return [row.detail for row in rows if " des_" in row.detail]

    plan = await connector.read(explain)
    assert len(plan) == 2
    assert all(line.startswith("SEARCH") and "COVERING INDEX" in line for line in plan)


async def test_a_lookup_finds_what_a_plain_test_for_overlap_finds(catalog, connector):
    own = await claim(catalog, range(64))
    runs = [
        ShardRun(first, span, bits)
        for bits in range(7)
        for span in (1, 2, 4, 8)
        for first in range(0, 1 << bits, span)
        if first + span <= 1 << bits
    ]
    for number, run in enumerate(runs[::5]):
        row = container_row(number, run=run)
        await catalog.announce_container(row, own)
        await catalog.commit_container(row.container_id, etag="e", claim=own)
    for asked in runs[::3]:
        first, stop = asked.first << (6 - asked.bits), (asked.first + asked.span) << (6 - asked.bits)
        expected = {
            number
            for number, run in enumerate(runs[::5])
            if run.first << (6 - run.bits) < stop and first < (run.first + run.span) << (6 - run.bits)
        }
        found = await connector.read(lambda connection, asked=asked: covering(connection, DAY, asked))
        assert expected == {int(row.sha256, 16) for row in found}
