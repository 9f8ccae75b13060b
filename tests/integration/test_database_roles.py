"""docker/privileges/roles.sql against a real PostgreSQL: what each role may, and what it may not."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import google_crc32c
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import ProgrammingError

from des.config import load_settings
from des.db import DesDbConnector, SqlCatalog
from des.db.catalog import CatalogVersionError
from des.db.migration import downgrade
from des.db.schema import metadata
from des.files import FileSpec
from des.node import Node
from des.testing.catalog_suite import CatalogSuite
from des.testing.postgresql import temporary_postgresql

ROLES = Path(__file__).parents[2] / "docker" / "privileges" / "roles.sql"
TABLES = ", ".join(metadata.tables)


def as_role(url, role):
    return make_url(url).set(username=role, password=None).render_as_string(hide_password=False)


async def execute(url, *statements):
    connector = DesDbConnector(url)
    try:
        for statement in statements:
            await connector.write(lambda connection, one=statement: connection.execute(text(one)))
    finally:
        await connector.close()


def run_script(url):
    """Run the script as psql would: statement by statement, each for itself."""
    body = "\n".join(line for line in ROLES.read_text().splitlines() if not line.startswith("--"))
    block, _, rest = body.partition("$$;")
    statements = [block + "$$", *(one for one in rest.split(";") if one.strip())]
    asyncio.run(execute(url, *statements))


def des(*arguments, **environment):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DES_")}
    return subprocess.run(
        [sys.executable, "-m", "des.cli", *arguments],
        capture_output=True,
        text=True,
        env=inherited | environment,
        timeout=100,
        check=False,
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with temporary_postgresql(tmp_path_factory.mktemp("pg")) as url:
        run_script(url)
        refused = des("migrate", DES_CATALOG_URL=as_role(url, "des_app"))
        assert refused.returncode == 1
        assert "may not change tables: run `des migrate`" in refused.stderr
        made = des("migrate", DES_CATALOG_URL=as_role(url, "des_migrate"))
        assert made.returncode == 0, made.stderr
        assert made.stdout.startswith("empty -> ")
        run_script(url)  # again changes nothing
        yield url


@pytest.fixture
def app(server):
    return as_role(server, "des_app")


@pytest.mark.slow
class TestCatalogOfTheAppRole(CatalogSuite):
    """All that servers do with the catalog, as the role that may change no table."""

    @pytest.fixture
    async def catalog(self, server):
        await execute(server, f"TRUNCATE {TABLES}")
        catalog = SqlCatalog(DesDbConnector(as_role(server, "des_app")))
        await catalog.migrate()
        yield catalog
        await catalog.close()


async def test_a_node_does_its_work_as_the_app_role(server, app, tmp_path):
    await execute(server, f"TRUNCATE {TABLES}")
    settings = load_settings(data_dir=tmp_path / "node", catalog_url=app, shard_bits=1)
    node = await Node.open(settings)
    stored = await node.put_bytes(FileSpec(), b"hello", google_crc32c.value(b"hello"))
    other = await node.put_bytes(FileSpec(), b"other", google_crc32c.value(b"other"))
    for shard in range(2):
        await node.seal_shard(shard)
    await node.delete_many([other.file.name], allow_missing=False)
    await node.close()
    node = await Node.open(settings)
    assert await (await node.open_file(stored.file.name)).read_whole() == b"hello"
    await node.close()
    for verb in (("fsck",), ("gc", "--apply"), ("recover", "--apply")):
        ran = await asyncio.to_thread(
            lambda verb=verb: des(
                *verb, "--data-dir", str(tmp_path / "node"), DES_CATALOG_URL=app, DES_SHARD_BITS="1"
            )
        )
        assert ran.returncode == 0, (verb, ran.stdout, ran.stderr)


NOT_FOR_APP = [
    "DROP TABLE des_containers",
    "ALTER TABLE des_containers ADD COLUMN x int",
    "TRUNCATE des_containers",
    "CREATE TABLE other (x int)",
    "CREATE SCHEMA other",
    "CREATE INDEX x ON des_containers (state)",
    "UPDATE alembic_version SET version_num = '0000'",
    "DELETE FROM alembic_version",
    "CREATE ROLE other",
    "COPY des_containers TO PROGRAM 'true'",
]


@pytest.mark.parametrize("statement", NOT_FOR_APP)
async def test_the_app_role_may_not(server, app, statement):
    await refused(app, statement)


@pytest.mark.parametrize(
    "statement",
    [
        *NOT_FOR_APP,
        *(f"DELETE FROM {table}" for table in metadata.tables),
        "UPDATE des_store SET created_at = 0",
    ],
)
async def test_the_reading_role_may_not(server, statement):
    await refused(as_role(server, "des_read"), statement)


async def refused(url, statement):
    with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
        await execute(url, statement)


async def test_the_reading_role_may_look_at_everything(server):
    await execute(
        as_role(server, "des_read"),
        *(f"SELECT * FROM {table}" for table in [*metadata.tables, "alembic_version"]),
    )


async def test_the_migrating_role_takes_tables_back_and_forth_and_the_app_role_cannot_follow(server, app):
    migrating = DesDbConnector(as_role(server, "des_migrate"))
    try:
        await migrating.write(lambda connection: connection.run_sync(downgrade, "0005"))
        with pytest.raises(CatalogVersionError, match="may not change tables"):
            catalog = SqlCatalog(DesDbConnector(app))
            try:
                await catalog.migrate()
            finally:
                await catalog.close()
        await SqlCatalog(migrating).migrate()
        await execute(app, *(f"SELECT * FROM {table}" for table in metadata.tables))
    finally:
        await migrating.close()
