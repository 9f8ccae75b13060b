"""Transactions over SQLite: one writer, bounded waits, and what errors mean."""

import asyncio
import sqlite3
import stat
import threading
from contextlib import closing

import pytest
from sqlalchemy import text

from des.db import (
    CatalogDamagedError,
    CatalogFullError,
    CatalogUnavailableError,
    DesDbConnector,
    SqlCatalog,
)
from des.db.connector import ATTEMPTS_MAX
from des.db.database_time import database_now_ms
from des.db.schema import stores
from des.db.statements import now_ms
from des.errors import InvalidInputError
from des.testing.catalog_rows import DAY, claim, container_row
from des.testing.simulated_clock import SimulatedClock

INSERT = "INSERT INTO des_store (singleton, store_id, created_at) VALUES (1, 'x', 1)"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "catalog.sqlite"


@pytest.fixture
async def connector(path):
    connector = DesDbConnector.sqlite(path)
    await SqlCatalog(connector).migrate()
    yield connector
    await connector.close()


async def migrate(path):
    catalog = SqlCatalog(DesDbConnector.sqlite(path))
    await catalog.migrate()
    await catalog.close()


def execute(statement):
    return lambda connection: connection.exec_driver_sql(statement)


async def scalar(connector, statement):
    async def work(connection):
        return (await connection.exec_driver_sql(statement)).scalar_one()

    return await connector.read(work)


# --- the URL ---


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("nonsense", "not a URL"),
        ("mysql://localhost/des", "mysql"),
        ("postgresql+psycopg://localhost/des", "psycopg"),
        ("sqlite://", "no SQLite file"),
        ("sqlite:///:memory:", "no SQLite file"),
    ],
)
def test_a_url_that_is_not_understood_is_refused(url, found):
    with pytest.raises(InvalidInputError, match=found):
        DesDbConnector(url)


async def test_a_password_is_never_shown():
    connector = DesDbConnector("postgresql://des:s3cret@127.0.0.1:1/des", timeout_s=2)
    assert repr(connector) == "DesDbConnector('postgresql+asyncpg://des:***@127.0.0.1:1/des')"
    with pytest.raises(CatalogUnavailableError) as caught:
        await connector.read(execute("SELECT 1"))
    assert "s3cret" not in str(caught.value)
    await connector.close()


# --- SQLite as DES wants it ---


async def test_the_file_is_private_and_commits_are_durable(connector, path):
    for file in (path, *path.parent.glob("*-wal"), *path.parent.glob("*-shm")):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert await scalar(connector, "PRAGMA journal_mode") == "wal"
    assert await scalar(connector, "PRAGMA synchronous") == 2  # FULL
    assert await scalar(connector, "PRAGMA foreign_keys") == 1


async def test_the_databases_clock_is_in_exact_milliseconds(connector):
    seconds = float(await scalar(connector, "SELECT strftime('%s', 'now') + 0.0"))
    ms = await connector.read(now_ms)
    assert 0 <= ms - seconds * 1000 < 2000
    compiled = str(database_now_ms().compile(dialect=connector._engine.dialect))
    for moment in ("1970-01-01 00:00:00.000", "2026-02-28 23:59:59.999", "2099-12-31 12:34:56.789"):
        exact = await scalar(
            connector,
            f"SELECT strftime('%s', '{moment}') * 1000 + CAST(substr('{moment}', -3) AS INTEGER)",
        )
        assert exact == await scalar(connector, "SELECT " + compiled.replace("'now'", f"'{moment}'"))


async def test_a_failed_transaction_leaves_nothing(connector):
    async def work(connection):
        await connection.execute(stores.insert(), [{"singleton": 1, "store_id": "x", "created_at": 1}])
        raise ValueError("after the write")

    with pytest.raises(ValueError, match="after the write"):
        await connector.write(work)
    assert await scalar(connector, "SELECT count(*) FROM des_store") == 0


async def test_writers_of_one_process_take_turns(connector):
    inside = 0

    async def work(connection):
        nonlocal inside
        inside += 1
        assert inside == 1
        await connection.exec_driver_sql(f"{INSERT} ON CONFLICT DO NOTHING")
        await asyncio.sleep(0.001)
        inside -= 1

    await asyncio.gather(*(connector.write(work) for _ in range(50)))


async def test_readers_do_not_wait_for_a_writer_and_see_only_commits(connector):
    entered, leave = asyncio.Event(), asyncio.Event()

    async def work(connection):
        await connection.exec_driver_sql(INSERT)
        entered.set()
        await leave.wait()

    writing = asyncio.create_task(connector.write(work))
    await entered.wait()
    assert await scalar(connector, "SELECT count(*) FROM des_store") == 0
    leave.set()
    await writing
    assert await scalar(connector, "SELECT count(*) FROM des_store") == 1


async def test_more_readers_than_connections_are_all_served(connector):
    assert await asyncio.gather(*(scalar(connector, "SELECT 1") for _ in range(40))) == [1] * 40


# --- another process holds the database ---


async def test_a_writer_waits_for_another_processs_transaction(connector, path):
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.2, lambda: other.execute("COMMIT"))
        timer.start()
        await connector.write(execute(INSERT))
        timer.join()


async def test_a_database_that_stays_locked_is_unavailable_after_bounded_tries(path):
    clock = SimulatedClock(sleep_advances=True)
    await migrate(path)
    connector = DesDbConnector.sqlite(path, timeout_s=1, clock=clock)
    runs = 0

    async def work(connection):
        nonlocal runs
        runs += 1
        raise sqlite_busy()

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(CatalogUnavailableError):
            await connector.write(execute(INSERT))
        other.execute("ROLLBACK")
    with pytest.raises(CatalogUnavailableError, match="6 times in a row") as caught:
        await connector.write(work)
    assert runs == ATTEMPTS_MAX
    assert caught.value.details == {"backend": "catalog"}
    await connector.write(execute(INSERT))
    await connector.close()


def sqlite_busy():
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error


async def test_a_transaction_that_lost_once_is_run_again_whole(connector):
    runs = 0

    async def work(connection):
        nonlocal runs
        runs += 1
        await connection.exec_driver_sql(INSERT)
        if runs < 3:
            raise sqlite_busy()

    await connector.write(work)
    assert runs == 3
    assert await scalar(connector, "SELECT count(*) FROM des_store") == 1


# --- waits end ---


async def test_a_transaction_that_takes_too_long_is_given_up_and_undone(path):
    await migrate(path)
    connector = DesDbConnector.sqlite(path, timeout_s=0.5)

    async def work(connection):
        await connection.exec_driver_sql(INSERT)
        await asyncio.sleep(30)

    with pytest.raises(CatalogUnavailableError, match=r"within 0\.5 s"):
        await connector.write(work)
    assert await scalar(connector, "SELECT count(*) FROM des_store") == 0
    await connector.write(execute(INSERT))
    await connector.close()


async def test_callers_that_give_up_at_any_moment_leave_the_connector_working(connector):
    catalog = SqlCatalog(connector)
    own = await claim(catalog, range(8, 12))
    committed = 0
    for number in range(60):
        row = container_row(number)

        async def seal(row=row):
            await catalog.announce_container(row, own)
            await catalog.commit_container(row.container_id, etag="e", claim=own)

        sealing = asyncio.create_task(seal())
        reading = asyncio.create_task(catalog.containers_of(DAY, 8, bits=8))
        await asyncio.sleep(0.0002 * number)
        committed += sealing.done()
        for task in (sealing, reading):
            task.cancel()
        await asyncio.gather(sealing, reading, return_exceptions=True)
    assert len(await catalog.containers_of(DAY, 8, bits=8)) >= committed
    for number in range(60):
        row = await catalog.announce_container(container_row(number), own)
        await catalog.commit_container(row.container_id, etag="e", claim=own)
    assert len(await catalog.containers_of(DAY, 8, bits=8)) == 60


# --- a disk in trouble ---


async def test_a_full_disk_is_said_to_be_full_and_nothing_is_written(path):
    connector = DesDbConnector.sqlite(path, connections_max=1)
    catalog = SqlCatalog(connector)
    await catalog.migrate()
    own = await claim(catalog, range(8, 12))
    # The limit stands for the disk: both end in SQLITE_FULL.
    pages = await scalar(connector, "PRAGMA page_count")
    await connector.read(execute(f"PRAGMA max_page_count = {pages}"))

    async def fill():
        for number in range(100):
            await catalog.announce_container(container_row(number), own)

    with pytest.raises(CatalogFullError) as caught:
        await fill()
    assert caught.value.reason == "DISK_FULL"
    known = await catalog.containers()
    await connector.read(execute("PRAGMA max_page_count = 100000"))
    await catalog.announce_container(container_row(99), own)
    assert [*known, await catalog.container(container_row(99).container_id)] == await catalog.containers()
    await catalog.close()


async def test_a_file_that_is_no_database_is_damaged_and_stays_as_it_is(path):
    path.write_bytes(b"not a database " * 1000)
    catalog = SqlCatalog(DesDbConnector.sqlite(path))
    with pytest.raises(CatalogDamagedError, match="not a database"):
        await catalog.migrate()
    await catalog.close()
    assert path.read_bytes() == b"not a database " * 1000


async def test_a_damaged_page_is_found_out(path):
    connector = DesDbConnector.sqlite(path)
    catalog = SqlCatalog(connector)
    await catalog.migrate()
    own = await claim(catalog, range(8, 12))
    for number in range(100):
        await catalog.announce_container(container_row(number), own)
    await catalog.close()
    data = bytearray(path.read_bytes())
    for page in range(2, len(data) // 4096):
        data[page * 4096 : page * 4096 + 64] = b"\xa5" * 64
    path.write_bytes(data)
    with pytest.raises(CatalogDamagedError, match="malformed"):
        await catalog.containers()
    await catalog.close()


async def test_a_folder_that_is_not_there_is_no_catalog(tmp_path):
    catalog = SqlCatalog(DesDbConnector.sqlite(tmp_path / "missing" / "catalog.sqlite"))
    with pytest.raises(CatalogUnavailableError, match="missing"):
        await catalog.migrate()
    await catalog.close()


async def test_a_catalog_that_was_not_migrated_says_so(path):
    catalog = SqlCatalog(DesDbConnector.sqlite(path))
    with pytest.raises(CatalogUnavailableError, match="no such table"):
        await catalog.containers()
    await catalog.close()


async def test_a_defect_in_a_statement_is_not_taken_for_an_outage(connector):
    with pytest.raises(Exception, match=r"parameter|bind") as caught:
        await connector.read(lambda connection: connection.execute(text("SELECT :x")))
    assert not isinstance(caught.value, CatalogUnavailableError)
