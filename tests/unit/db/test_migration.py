"""Migrations: from nothing, repeated, back and forth, together, and from a newer version."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, text

from des.db import CatalogVersionError, DesDbConnector, SqlCatalog
from des.db.migration import SCRIPTS, downgrade, revision_of, upgrade
from des.db.schema import metadata


@pytest.fixture
def engine(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    yield engine
    engine.dispose()


def layout(connection):
    """Every table and index as SQLite keeps it: columns, constraints and all."""
    rows = connection.execute(
        text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name <> 'alembic_version'")
    )
    # A column added later stands on the table's last line, and a table that was copied has its name quoted.
    return {
        name: sorted(part.strip(" ()\n\t") for part in sql.replace('"', "").split(",")) for name, sql in rows
    }


def test_the_migrated_schema_is_the_model(engine, tmp_path):
    with engine.begin() as connection:
        upgrade(connection)
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        migrated = layout(connection)
    model = create_engine(f"sqlite:///{tmp_path / 'model.sqlite'}")
    with model.begin() as connection:
        metadata.create_all(connection)
        assert migrated == layout(connection)
    model.dispose()


def test_a_repeated_migration_changes_nothing(engine):
    with engine.begin() as connection:
        upgrade(connection)
        before = layout(connection)
        upgrade(connection)
        assert before == layout(connection)


def test_down_and_up_again_gives_the_same_schema(engine):
    with engine.begin() as connection:
        upgrade(connection)
        before = layout(connection)
        head = revision_of(connection)
        downgrade(connection, "base")
        assert layout(connection) == {}
        assert revision_of(connection) is None
        upgrade(connection)
        assert (before, head) == (layout(connection), revision_of(connection))


async def test_a_catalog_of_a_newer_version_is_refused_and_left_alone(tmp_path):
    connector = DesDbConnector.sqlite(tmp_path / "catalog.sqlite")
    catalog = SqlCatalog(connector)
    await catalog.migrate()
    head = await connector.read(lambda connection: connection.run_sync(revision_of))
    await connector.write(
        lambda connection: connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    )
    with pytest.raises(CatalogVersionError, match=rf"'9999'.*'{head}'") as caught:
        await catalog.migrate()
    assert caught.value.details == {"found": "9999", "expected": head}
    await catalog.close()


async def test_nodes_that_start_together_migrate_once(tmp_path):
    catalogs = [SqlCatalog(DesDbConnector.sqlite(tmp_path / "catalog.sqlite")) for _ in range(6)]
    await asyncio.gather(*(catalog.migrate() for catalog in catalogs))
    assert len(set(await asyncio.gather(*(catalog.store_id() for catalog in catalogs)))) == 1
    for catalog in catalogs:
        await catalog.close()


async def test_a_migration_that_fails_leaves_nothing(tmp_path):
    connector = DesDbConnector.sqlite(tmp_path / "catalog.sqlite")

    def fail(connection):
        upgrade(connection)
        raise ValueError("power cut")

    with pytest.raises(ValueError, match="power cut"):
        await connector.write(lambda connection: connection.run_sync(fail))
    assert await connector.read(lambda connection: connection.run_sync(layout)) == {}
    await connector.close()


def test_migrations_run_from_an_installed_package(tmp_path):
    """From a folder with an awkward name, as somebody else's working directory."""
    package = tmp_path / "100% mine" / "site packages"
    for file in SCRIPTS.parents[1].rglob("*"):
        if file.suffix in {".py", ".mako"}:
            copy = package / "des" / file.relative_to(SCRIPTS.parents[1])
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    script = (
        "import asyncio, des.db, sys\n"
        f"assert des.db.__file__.startswith({str(package)!r}), des.db.__file__\n"
        "catalog = des.db.SqlCatalog(des.db.DesDbConnector('sqlite:///catalog.sqlite'))\n"
        "async def main():\n"
        "    await catalog.migrate(); print(await catalog.store_id()); await catalog.close()\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.strip()) == 36


def test_the_package_lists_its_migrations():
    lines = (Path(__file__).parents[3] / "pyproject.toml").read_text("utf-8")
    assert "db/migrations/*.py" in lines
    assert "db/migrations/versions/*.py" in lines
