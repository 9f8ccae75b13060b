"""What only a server with many writers can show: locks, deadlocks, lost connections."""

import asyncio
import threading
import time

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from des.config import CatalogSettings
from des.db import CatalogUnavailableError, DesDbConnector, FencedError, SqlCatalog
from des.db.connector import _translate
from des.db.migration import downgrade
from des.db.schema import metadata
from des.db.shard_locks import guard
from des.db.statements import now_ms
from des.testing.catalog_rows import ANNA, BERT, claim, container_row
from des.testing.postgresql import temporary_postgresql

OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
)


@pytest.fixture(scope="module")
def server_url(tmp_path_factory):
    with temporary_postgresql(tmp_path_factory.mktemp("pg")) as url:
        yield url


@pytest.fixture
async def url(server_url):
    admin = DesDbConnector(server_url)
    await admin.read(execute("DROP SCHEMA public CASCADE"))
    await admin.read(execute("CREATE SCHEMA public"))
    await admin.close()
    return server_url


@pytest.fixture
async def connector(url):
    connector = DesDbConnector(url)
    yield connector
    await connector.close()


@pytest.fixture
async def catalog(connector):
    catalog = SqlCatalog(connector)
    await catalog.migrate()
    return catalog


def execute(statement):
    return lambda connection: connection.execute(text(statement))


async def test_the_migrated_schema_is_the_model(catalog, connector):
    def difference(connection):
        return compare_metadata(MigrationContext.configure(connection), metadata)

    assert await connector.read(lambda connection: connection.run_sync(difference)) == []
    await connector.write(lambda connection: connection.run_sync(downgrade, "base"))
    await catalog.migrate()
    assert await connector.read(lambda connection: connection.run_sync(difference)) == []


async def test_nodes_that_start_together_migrate_once(url):
    catalogs = [SqlCatalog(DesDbConnector(url)) for _ in range(5)]
    await asyncio.gather(*(catalog.migrate() for catalog in catalogs))
    assert len(set(await asyncio.gather(*(catalog.store_id() for catalog in catalogs)))) == 1
    for catalog in catalogs:
        await catalog.close()


async def test_the_databases_clock_is_utc_milliseconds(connector):
    assert abs(await connector.read(now_ms) - time.time() * 1000) < 1000


async def test_a_lock_is_not_taken_while_its_holder_commits(catalog, connector):
    own = await claim(catalog, [1])
    guarded, leave = asyncio.Event(), asyncio.Event()

    async def commit(connection):
        await guard(connection, own)
        guarded.set()
        await leave.wait()

    committing = asyncio.create_task(connector.write(commit))
    await guarded.wait()
    taking = asyncio.create_task(claim(catalog, [1], holder=BERT))
    await asyncio.sleep(0.2)
    assert not taking.done()
    leave.set()
    await committing
    assert (await taking).epochs == [(1, 2)]
    with pytest.raises(FencedError):
        await connector.write(commit)


async def test_a_node_that_freezes_in_a_transaction_holds_up_no_other_for_its_time_to_live(catalog, url):
    own = await claim(catalog, [1])
    frozen = DesDbConnector.configured(url, CatalogSettings(), ttl_s=0.6)
    guarded, thaw = asyncio.Event(), asyncio.Event()

    async def freeze(connection):
        await guard(connection, own)
        guarded.set()
        await thaw.wait()
        await guard(connection, own)

    freezing = asyncio.create_task(frozen.write(freeze, repeatable=False))
    await guarded.wait()
    assert (await claim(catalog, [1], holder=BERT)).epochs == [(1, 2)]  # waits for the lock, and gets it
    thaw.set()
    with pytest.raises(CatalogUnavailableError):
        await freezing
    await frozen.close()


@pytest.mark.parametrize(("ttl_s", "idle"), [(None, "10s"), (9.0, "3s"), (600.0, "10s")])
async def test_how_long_a_transaction_may_do_nothing(url, ttl_s, idle):
    connector = DesDbConnector.configured(url, CatalogSettings(), ttl_s=ttl_s)
    shown = await connector.read(execute("SHOW idle_in_transaction_session_timeout"))
    assert shown.scalar() == idle
    await connector.close()


async def test_two_transactions_in_each_others_way_both_end(connector, catalog):
    await catalog.acquire_shards([1, 2], holder=ANNA, ttl_s=60)
    runs = 0
    holding = set()
    both_hold_one = asyncio.Event()

    def crossing(first, second):
        async def work(connection):
            nonlocal runs
            runs += 1
            run = runs
            for shard in (first, second):
                await connection.execute(
                    text(
                        "UPDATE des_shard_locks SET heartbeat_at = heartbeat_at + 1 WHERE shard_id = :shard"
                    ),
                    {"shard": shard},
                )
                if shard == first:
                    holding.add(run)
                    if len(holding) == 2:
                        both_hold_one.set()
                    await both_hold_one.wait()

        return work

    before = sum(lock.heartbeat_ms for lock in await catalog.shard_locks())
    await asyncio.gather(connector.write(crossing(1, 2)), connector.write(crossing(2, 1)))
    assert runs == 3  # the database rolled one back, and it was run again
    assert sum(lock.heartbeat_ms for lock in await catalog.shard_locks()) == before + 4


async def test_connections_that_the_server_dropped_are_replaced(catalog, connector, server_url):
    await asyncio.gather(*(catalog.shard_locks() for _ in range(8)))
    admin = DesDbConnector(server_url)
    await admin.read(execute(OTHERS))
    assert await catalog.shard_locks() == []

    async def lose(connection):
        await connection.execute(text("SELECT 1"))
        await admin.read(execute(OTHERS))
        await connection.execute(text("SELECT 1"))

    with pytest.raises(CatalogUnavailableError):
        await connector.write(lose)
    await admin.close()
    assert await catalog.shard_locks() == []


async def test_a_read_sends_its_statement_and_nothing_else(connector):
    await connector.read(execute("SELECT 1"))
    sent = []
    async with connector._engine.connect() as connection:
        pooled = await connection.get_raw_connection()
        # Prepared statements are not logged: only what asks whether the connection is alive would be.
        pooled.driver_connection.add_query_logger(lambda record: sent.append(record.query))
    for _ in range(3):
        await connector.read(execute("SELECT 2"))
    assert sent == []


@pytest.mark.parametrize("repeatable", [True, False])
async def test_a_connection_that_went_unnoticed_fails_no_transaction(url, repeatable):
    connector = DesDbConnector(url, connections_max=1)
    await connector.read(execute("SELECT 1"))

    def drop():
        async def end_others():
            admin = DesDbConnector(url)
            await admin.read(execute(OTHERS))
            await admin.close()

        asyncio.run(end_others())

    dropping = threading.Thread(target=drop)
    dropping.start()
    dropping.join()  # this thread's event loop has read nothing meanwhile
    assert (await connector.write(execute("SELECT 7"), repeatable=repeatable)).scalar_one() == 7
    await connector.close()


async def test_a_statement_that_takes_too_long_is_given_up(url):
    connector = DesDbConnector(url, timeout_s=1)
    started = time.monotonic()
    with pytest.raises(CatalogUnavailableError):
        await connector.read(execute("SELECT pg_sleep(30)"))
    assert time.monotonic() - started < 10
    await connector.read(execute("SELECT 1"))
    await connector.close()


async def test_callers_that_give_up_leave_the_connector_working(catalog):
    own = await claim(catalog, range(8, 12))
    for number in range(30):
        task = asyncio.create_task(catalog.announce_container(container_row(number), own))
        await asyncio.sleep(0.0003 * number)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    for number in range(30):
        await catalog.announce_container(container_row(number), own)
    assert len(await catalog.containers()) == 30


async def test_a_database_that_is_not_there_is_unavailable(server_url):
    connector = DesDbConnector(server_url.replace("/postgres?", "/nowhere?"))
    with pytest.raises(CatalogUnavailableError, match="nowhere"):
        await connector.read(execute("SELECT 1"))
    await connector.close()


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("40001", "_RolledBackError"),
        ("40P01", "_RolledBackError"),
        ("53100", "CatalogFullError"),
        ("XX001", "CatalogDamagedError"),
        ("57P01", "_LostError"),
        ("08006", "_LostError"),
        ("55P03", "CatalogUnavailableError"),
        ("53300", "CatalogUnavailableError"),
        ("28P01", "CatalogUnavailableError"),
        ("42601", "NoneType"),
        ("22P02", "NoneType"),
    ],
)
def test_a_sqlstate_says_what_the_caller_can_do(state, kind):
    error = RuntimeError("as the driver raises it")
    error.sqlstate = state
    assert kind == type(_translate(error, "db")).__name__
