"""Sources that are not what the configuration says: told with their place, and nothing is changed."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from des.clock import SystemClock
from des.sources import SourceDatabaseConnector, SourceRefusedError, SourceSchemaError, SourceUnavailableError
from des.sources.checkup import check_source


@pytest.fixture
def guarded(database):
    """The `database` part of a user that needs its password."""
    if database.kind == "sqlite":
        pytest.skip("a file has no users")
    if database.kind == "mariadb":
        yield dict(database.database)
        return
    # The private server takes any password of its owner: another user must show one.
    with database.engine.begin() as connection:
        rules = Path(connection.exec_driver_sql("SHOW hba_file").scalar_one())
    before = rules.read_text()
    database.execute(
        "CREATE ROLE guarded LOGIN PASSWORD 'right'",
        "GRANT SELECT, UPDATE ON documents TO guarded",
    )
    rules.write_text("local all guarded scram-sha-256\n" + before)
    database.execute("SELECT pg_reload_conf()")
    yield {**database.database, "user": "guarded", "password": "right"}
    rules.write_text(before)
    database.execute("DROP OWNED BY guarded", "DROP ROLE guarded", "SELECT pg_reload_conf()")


async def test_wrong_credentials_are_refused_and_not_repeated_in_the_message(database, guarded):
    database.add(1)
    right = SourceDatabaseConnector("docs", database.config(database=guarded))
    assert (await right.counts()).pending == 1
    await right.close()
    deadline = time.monotonic() + 60
    while True:  # the rules are read by the server when it comes to it
        connector = SourceDatabaseConnector(
            "docs", database.config(database={**guarded, "password": "wrong-secret"})
        )
        try:
            await connector.counts()
        except SourceRefusedError as error:
            assert re.search("Access denied|password authentication failed", str(error))
            assert "wrong-secret" not in str(error)
            break
        finally:
            await connector.close()
        assert time.monotonic() < deadline


async def test_a_user_or_database_that_is_not_there_is_refused(database):
    if database.kind == "sqlite":
        changes = {"path": "/nowhere/at/all.sqlite"}
    else:
        changes = {"name": "no_such_database"}
    connector = SourceDatabaseConnector("docs", database.config(database={**database.database, **changes}))
    with pytest.raises(SourceUnavailableError if database.kind == "sqlite" else SourceRefusedError):
        await connector.counts()
    await connector.close()


async def test_an_unreachable_host_is_unavailable(database):
    if database.kind == "sqlite":
        pytest.skip("a file has no host")
    # Port 1 of loopback: nobody listens.
    parts = {**database.database, "host": "127.0.0.1", "port": 1}
    connector = SourceDatabaseConnector("docs", database.config(database=parts))
    with pytest.raises(SourceUnavailableError):
        await connector.now_ms()
    await connector.close()


async def test_a_missing_table_is_told_with_what_is_near(database, connect):
    connector = connect(table="document")
    with pytest.raises(SourceSchemaError, match=r"table: .* has no table 'document'; near it are documents"):
        await connector.counts()


async def test_a_missing_column_is_told_with_what_is_near(database, connect):
    connector = connect(columns={"key": "objekt_key", "shard": "des_shards"})
    with pytest.raises(SourceSchemaError) as caught:
        await connector.counts()
    key, shard = str(caught.value).splitlines()
    assert key == "columns.key: table 'documents' has no column 'objekt_key'; near it are object_key"
    assert shard.startswith(
        "columns.shard: table 'documents' has no column 'des_shards'; near it are des_shard"
    )


async def test_wrong_types_are_told(database, connect):
    database.execute("ALTER TABLE documents ADD COLUMN small VARCHAR(10)")
    connector = connect(
        columns={"hash": "customer", "name": "small", "created_at": "mime"},
        filters=[{"column": "customer", "op": "gt", "value": 5}],
    )
    with pytest.raises(SourceSchemaError) as caught:
        await connector.counts()
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "columns.created_at",
        "columns.name",
        "columns.hash",
        "filters.0.value",
    ]
    assert lines[1].endswith("expected room for 59 characters")


async def test_an_id_that_may_stand_twice_is_refused(database, connect):
    database.add(2, customer="same")
    connector = connect(columns={"id": "customer", "metadata": {}})
    with pytest.raises(SourceSchemaError, match="neither the primary key nor unique"):
        await connector.counts()


async def test_statuses_that_the_column_does_not_take_are_told(database, connect):
    database.execute("ALTER TABLE documents ADD COLUMN tiny VARCHAR(4)")
    connector = connect(columns={"status": "tiny"})
    with pytest.raises(SourceSchemaError, match="expected room for 7 characters"):
        await connector.counts()


async def test_a_table_that_changes_under_a_worker_is_looked_at_again(database, connect):
    database.add(1)
    connector = connect()
    await connector.counts()
    database.execute("ALTER TABLE documents RENAME COLUMN des_status TO other")
    with pytest.raises(SourceSchemaError):
        await connector.counts()
    database.execute("ALTER TABLE documents RENAME COLUMN other TO des_status")
    assert (await connector.counts()).pending == 1


async def test_a_database_that_restarts_is_unavailable_and_then_answers(database, connect):
    if database.server is None:
        pytest.skip("one private server that can be restarted is enough")
    database.add(3)
    connector = connect()
    await connector.counts()
    database.server.stop(kill=True)
    with pytest.raises(SourceUnavailableError):
        await connector.counts()
    database.server.start()
    deadline = time.monotonic() + 60
    while True:
        try:
            assert (await connector.counts()).pending == 3
            return
        except SourceUnavailableError:
            assert time.monotonic() < deadline


async def test_the_checkup_proposes_what_the_table_lacks_and_it_can_be_run(database):
    database.add(2)
    for column in ("des_hash", "des_error"):
        database.execute(f"ALTER TABLE documents DROP COLUMN {column}")
    report = await check_source("docs", database.config(), SystemClock())
    assert [line.split(":")[0] for line in report.mistakes] == ["columns.hash", "columns.error"]
    assert len(report.ddl) == 4, "two columns, and the indexes for marking and for names"
    database.execute(*report.ddl)
    report = await check_source("docs", database.config(), SystemClock())
    assert (report.mistakes, report.ddl) == ((), ())
    assert report.counts is not None
    assert report.counts.pending == 2


async def test_the_checkup_finds_a_missing_privilege(database):
    if database.kind != "mariadb":
        pytest.skip("one database with real users is enough")
    database.server.run(
        "CREATE OR REPLACE USER looker@'127.0.0.1' IDENTIFIED BY 'x'; "
        "GRANT SELECT ON source.* TO looker@'127.0.0.1'"
    )
    parts = {**database.database, "user": "looker", "password": "x"}
    report = await check_source("docs", database.config(database=parts), SystemClock())
    assert report.mistakes[0].startswith("user 'looker' may not mark rows of 'documents'")


def test_the_command_checks_every_source_of_the_file(database, tmp_path):
    if database.kind != "postgresql":
        pytest.skip("the command is the same for all of them")
    database.add(3)
    plain = database.config().model_dump(mode="json", by_alias=True)
    plain["database"] = dict(database.database)
    for part in ("access_key", "secret_key", "session_token"):
        plain["objects"].pop(part)
    broken = {**plain, "table": "absent"}
    path = tmp_path / "sources.yaml"
    path.write_text(yaml.safe_dump({"sources": {"good": plain, "bad": broken}}))

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "des.cli", "sources", "check", "--sources", str(path), *arguments],
            check=False,
            capture_output=True,
            text=True,
            env=os.environ,
        )

    good = run("good")
    assert (good.returncode, good.stdout.splitlines()[0]) == (0, "good: ok, 3 pending")
    both = run()
    assert both.returncode == 1
    assert "bad: does not fit" in both.stdout
    assert "1 of 2 sources cannot be worked on" in both.stderr
    assert run("ugly").returncode == 2
