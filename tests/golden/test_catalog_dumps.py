"""Catalogs as earlier versions left them, dumped from SQLite and PostgreSQL, are brought to this version.

`catalog/<database>-<revision>.sql` were dumped from databases of that revision, by `iterdump` and by
pg_dump with `--inserts`, and hold rows of every table. They never change; a new revision adds its own.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from des.db import (
    ContainerGeometry,
    ContainerRow,
    ContainerState,
    DesDbConnector,
    ShardLock,
    ShardRun,
    SqlCatalog,
)
from des.db.migration import downgrade
from des.db.schema import metadata
from des.testing.catalog_rows import claim
from des.testing.postgresql import temporary_postgresql

DUMPS = Path(__file__).parent / "catalog"
NODE = "0193a000-0000-7000-8000-0000000000cc"
PAGES = {
    "ext_table_start": 9_900_000_000,
    "pages_start": 9_500_001_000,
    "pages_length": 28_672,
    "page_count": 6,
}


def container(number: int, state: ContainerState, **pages: int) -> ContainerRow:
    stored = state is ContainerState.STORED
    return ContainerRow(
        container_id=f"0193a000-0000-7000-8000-{number:012}",
        day="20260228",
        run=ShardRun(8, 1, 8),
        key=f"20260228/08/{number}.des",
        state=state,
        epoch=5,
        layout="framed",
        sha256=f"{number:064x}",
        geometry=ContainerGeometry(
            10_000_000_000, 16, 9_000_000_000, 9_000_000_016, 0, 9_000_000_016, 500_000_000, 100, **pages
        ),
        name_ms_first=1_772_236_800_000,
        name_ms_last=1_772_236_900_000,
        data_bytes=20_000_000_000,
        node=NODE,
        etag=f'"e{number}"' if stored else "",
        created_ms=1_772_236_850_000,
        stored_ms=1_772_236_900_000 if stored else None,
    )


CONTAINERS = {
    "0001": [container(1, ContainerState.STORED), container(2, ContainerState.UPLOADING)],
    "0002": [
        container(1, ContainerState.STORED),
        container(2, ContainerState.UPLOADING),
        container(3, ContainerState.STORED, **PAGES),
    ],
}
LOCKS = [
    ShardLock(
        8,
        "0193a000-0000-7000-8000-00000000000a",
        5,
        1_772_236_800_000,
        1_772_236_801_000,
        1_772_236_831_000,
    ),
    ShardLock(9, "", 4, 1_772_236_800_000, 1_772_236_801_000, 0),
]


@pytest.fixture(scope="module")
def postgresql_url(tmp_path_factory):
    with temporary_postgresql(tmp_path_factory.mktemp("pg")) as url:
        yield url


@pytest.fixture(params=sorted(path.stem for path in DUMPS.glob("*.sql")))
async def restored(request, tmp_path):
    """A database as the dump left it, and the dump's revision."""
    database, revision = request.param.split("-")
    script = (DUMPS / f"{request.param}.sql").read_text("utf-8")
    if database == "sqlite":
        path = tmp_path / "catalog.sqlite"
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(script)
        connector = DesDbConnector.sqlite(path)
    else:
        url = request.getfixturevalue("postgresql_url")
        plain = await asyncpg.connect(url)
        await plain.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        await plain.execute(script)
        await plain.close()
        connector = DesDbConnector(url)
    yield connector, revision
    await connector.close()


async def test_an_older_catalog_keeps_its_rows_and_takes_new_ones(restored):
    connector, revision = restored
    catalog = SqlCatalog(connector)
    await catalog.migrate()
    assert await catalog.store_id() == "0193a000-0000-4000-8000-00000000aaaa"
    assert CONTAINERS[revision] == await catalog.containers()
    assert await catalog.shard_locks() == LOCKS

    def difference(connection):
        return compare_metadata(MigrationContext.configure(connection), metadata)

    assert await connector.read(lambda connection: connection.run_sync(difference)) == []
    own = await claim(catalog, [8])
    assert own.epochs == [(8, 6)]
    stored = await catalog.commit_container(CONTAINERS[revision][1].container_id, etag="e", claim=own)
    assert stored.state is ContainerState.STORED
    (retired,) = await catalog.retire_containers([CONTAINERS[revision][0].container_id], own)
    assert retired.state is ContainerState.RETIRED


async def test_a_catalog_can_go_back_to_the_version_it_came_from(restored):
    connector, revision = restored
    catalog = SqlCatalog(connector)

    async def tables(connection):
        found = {}
        for table in ("des_store", "des_shard_locks", "des_containers"):  # nodes enter themselves anew
            rows = await connection.execute(text(f"SELECT * FROM {table} ORDER BY 1"))
            found[table] = [dict(row) for row in rows.mappings()]
        return found

    before = await connector.read(tables)
    await catalog.migrate()
    await connector.write(lambda connection: connection.run_sync(downgrade, revision))
    assert before == await connector.read(tables)
    await catalog.migrate()
    assert CONTAINERS[revision] == await catalog.containers()


async def test_going_back_leaves_out_what_the_older_version_has_no_word_for(restored):
    connector, _ = restored
    catalog = SqlCatalog(connector)
    await catalog.migrate()
    own = await claim(catalog, [8])
    first, second = (row.container_id for row in (await catalog.containers())[:2])
    await catalog.retire_containers([first], own)
    await catalog.abandon_container(second, own)
    await connector.write(lambda connection: connection.run_sync(downgrade, "0002"))
    await catalog.migrate()
    assert first not in {row.container_id for row in await catalog.containers()}
    assert second not in {row.container_id for row in await catalog.containers()}
