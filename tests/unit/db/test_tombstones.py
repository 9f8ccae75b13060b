"""What it costs to read the tombstones of a day."""

import pytest

from des.db import DesDbConnector, SqlCatalog
from des.db.tombstones import page_of_day
from des.testing.catalog_rows import DAY, tombstone_row


@pytest.mark.parametrize("after", ["", tombstone_row(1).name])
async def test_a_page_of_a_day_walks_the_index_and_never_sorts_the_day(tmp_path, after):
    connector = DesDbConnector.sqlite(tmp_path / "catalog.sqlite")
    await SqlCatalog(connector).migrate()
    statement = page_of_day(DAY, after=after, limit=10)

    async def explain(connection):
        compiled = statement.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
        rows = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}")
        return [row.detail for row in rows]

    plan = await connector.read(explain)
    await connector.close()
    assert plan[0].startswith("SEARCH des_tombstones USING INDEX ix_des_tombstones_day_hash (day=?")
    # Names of equal hashes may be sorted, the rows of a day never.
    assert "USE TEMP B-TREE FOR ORDER BY" not in plan
