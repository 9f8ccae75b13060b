"""The catalog on real PostgreSQL servers that lose connections, answers and whole processes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from sqlalchemy import text

from des.db import (
    Catalog,
    CatalogUnavailableError,
    ContainerState,
    DesDbConnector,
    FencedError,
    SqlCatalog,
)
from des.db.rows import LogSegmentState
from des.db.shard_locks import guard
from des.testing.catalog_rows import (
    ANNA,
    BERT,
    DAY,
    claim,
    container_row,
    segment_row,
    store,
    tombstone_row,
)
from des.testing.postgresql import system_postgresql, temporary_postgresql
from des.testing.postgresql_proxy import CommitCutter, cutting_proxy


@pytest.fixture(scope="module", params=["wheel", pytest.param("system", marks=pytest.mark.slow)])
def socket(request, tmp_path_factory):
    """The socket of a server: from the wheel, and of the system's own version."""
    if request.param == "system":
        with system_postgresql() as server:
            yield server.socket
        return
    with temporary_postgresql(tmp_path_factory.mktemp("pg")) as url:
        folder = unquote(parse_qs(urlsplit(url).query)["host"][0])
        yield Path(folder) / ".s.PGSQL.5432"


def url_of(socket: Path) -> str:
    return f"postgresql://postgres@/postgres?host={socket.parent}"


@dataclass
class Cut:
    """A catalog behind the proxy, one that is not, and what cuts."""

    catalog: SqlCatalog
    connector: DesDbConnector
    plain: SqlCatalog
    cutter: CommitCutter


@pytest.fixture
async def cut(socket) -> AsyncIterator[Cut]:
    admin = DesDbConnector(url_of(socket))
    await admin.read(execute("DROP SCHEMA public CASCADE"))
    await admin.read(execute("CREATE SCHEMA public"))
    plain = SqlCatalog(admin)
    await plain.migrate()
    cutter = CommitCutter()
    async with cutting_proxy(socket, cutter) as port:
        connector = DesDbConnector(f"postgresql://postgres@127.0.0.1:{port}/postgres", timeout_s=30)
        catalog = SqlCatalog(connector)
        yield Cut(catalog, connector, plain, cutter)
        await catalog.close()
    await plain.close()


def execute(statement: str) -> Callable[[Any], Any]:
    return lambda connection: connection.execute(text(statement))


async def prepared(catalog: Catalog) -> Any:
    """A catalog with something for every method to do; the claim to do it with."""
    await store(catalog, container_row(1))
    own = await claim(catalog, range(256))
    await catalog.announce_container(container_row(2), own)
    await catalog.announce_container(container_row(3), own)
    await catalog.put_tombstones([tombstone_row(1)], own)
    await catalog.record_log_segment(segment_row(1), own)
    await catalog.record_log_segment(segment_row(2), own)
    await catalog.release_log_segments([segment_row(2).id], [0, 1, 255], own)
    return own


ids = [container_row(number).container_id for number in range(10)]
WRITES: dict[str, Callable[[Catalog, Any], Any]] = {
    "announce_container": lambda catalog, own: catalog.announce_container(container_row(4), own),
    "commit_container": lambda catalog, own: catalog.commit_container(ids[2], etag="e", claim=own),
    "abandon_container": lambda catalog, own: catalog.abandon_container(ids[3], own),
    "retire_containers": lambda catalog, own: catalog.retire_containers([ids[1]], own),
    "put_tombstones": lambda catalog, own: catalog.put_tombstones([tombstone_row(2)], own),
    "purge_tombstones": lambda catalog, own: catalog.purge_tombstones([tombstone_row(1).name], own),
    "record_log_segment": lambda catalog, own: catalog.record_log_segment(segment_row(3), own),
    "release_log_segments": lambda catalog, own: catalog.release_log_segments(
        [segment_row(1).id], [0, 255], own
    ),
    "drop_log_segments": lambda catalog, own: catalog.drop_log_segments([segment_row(2).id]),
    "renew_shards": lambda catalog, own: catalog.renew_shards(own, ttl_s=99),
    "release_shards": lambda catalog, own: catalog.release_shards(own),
}


async def everything(catalog: Catalog) -> list[Any]:
    """All that the catalog says, without times."""
    return [
        [replace(row, **times(row)) for row in rows]
        for rows in (
            await catalog.containers(),
            await catalog.tombstones(),
            await catalog.log_segments(),
            await catalog.shard_locks(),
        )
    ]


def times(row: Any) -> dict[str, Any]:
    names = [name for name in row.__dataclass_fields__ if name.endswith("_ms") and "name_ms" not in name]
    return {name: getattr(row, name) is not None and getattr(row, name) > 0 for name in names}


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("write", WRITES)
async def test_a_write_whose_answer_is_lost_happens_once(cut: Cut, write: str, moment: Any) -> None:
    own = await prepared(cut.plain)
    cut.cutter.arm(moment)
    await WRITES[write](cut.catalog, own)
    assert cut.cutter.cut == 1
    after = await everything(cut.plain)

    await cut.plain._connector.write(truncate)
    own = await prepared(cut.plain)
    await WRITES[write](cut.plain, own)
    assert after == await everything(cut.plain)


async def truncate(connection: Any) -> None:
    for table in ("des_containers", "des_tombstones", "des_log_segments", "des_shard_locks"):
        await connection.execute(text(f"TRUNCATE {table}"))


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_database_that_answers_no_commit_is_unavailable_and_keeps_what_it_has(
    cut: Cut, moment: Any
) -> None:
    own = await claim(cut.plain, range(8, 12))
    cut.cutter.arm(moment, times=1000)
    with pytest.raises(CatalogUnavailableError):
        await cut.catalog.announce_container(container_row(), own)
    assert cut.cutter.cut > 1
    assert len(await cut.plain.containers()) == (moment == "after")
    cut.cutter.arm(moment, times=0)
    await cut.catalog.announce_container(container_row(), own)
    stored = await cut.catalog.commit_container(ids[1], etag="e", claim=own)
    assert [stored] == await cut.plain.containers(state=ContainerState.STORED)


async def test_locks_whose_taking_was_not_answered_are_not_taken_for_ones_own(cut: Cut) -> None:
    """Taking is not repeated by itself: the second time the locks would look like somebody else's."""
    cut.cutter.arm("after")
    with pytest.raises(CatalogUnavailableError):
        await cut.catalog.acquire_shards([1], holder=ANNA, ttl_s=0.2)
    assert cut.cutter.cut == 1
    (lock,) = await cut.plain.shard_locks()
    assert (lock.holder, lock.epoch) == (ANNA, 1)
    async with asyncio.timeout(30):
        while not (taken := await cut.catalog.acquire_shards([1], holder=BERT, ttl_s=60)):
            await asyncio.sleep(0.05)
    assert taken[0].epoch == 2


async def test_a_migration_whose_answer_is_lost_is_one(cut: Cut) -> None:
    await cut.plain._connector.read(execute("DROP SCHEMA public CASCADE"))
    await cut.plain._connector.read(execute("CREATE SCHEMA public"))
    cut.cutter.arm("after")
    await cut.catalog.migrate()
    assert cut.cutter.cut == 1
    cut.cutter.arm("after")
    store_id = await cut.catalog.store_id()
    assert store_id == await cut.plain.store_id()


async def test_what_the_database_could_not_serialise_is_run_again(cut: Cut) -> None:
    runs = 0

    async def work(connection: Any) -> int:
        nonlocal runs
        runs += 1
        if runs < 3:
            await connection.execute(text("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$"))
        return runs

    assert await cut.connector.write(work) == 3


async def test_a_backend_that_is_ended_in_a_transaction_is_replaced(cut: Cut) -> None:
    own = await claim(cut.plain, range(8, 12))
    runs = 0

    async def work(connection: Any) -> None:
        nonlocal runs
        runs += 1
        await guard(connection, own)
        if runs == 1:
            pid = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
            await cut.plain._connector.read(execute(f"SELECT pg_terminate_backend({pid})"))
        await connection.execute(text("SELECT 1"))

    await cut.connector.write(work)
    assert runs == 2


async def test_a_node_that_froze_in_a_transaction_does_not_keep_its_locks(cut: Cut, socket: Path) -> None:
    """As after SIGSTOP: the server ends its session, and its late commit fails."""
    own = await claim(cut.plain, [1])
    frozen = DesDbConnector(url_of(socket), statement_s=1.5)
    guarded = asyncio.Event()
    wake = asyncio.Event()
    runs = 0

    async def work(connection: Any) -> None:
        nonlocal runs
        runs += 1
        await guard(connection, own)
        guarded.set()
        await wake.wait()
        await connection.execute(text("UPDATE des_shard_locks SET heartbeat_at = 7"))

    freezing = asyncio.create_task(frozen.write(work))
    await guarded.wait()
    async with asyncio.timeout(60):
        while True:
            try:
                taken = await claim(cut.plain, [1], holder=BERT)
                break
            except CatalogUnavailableError:
                continue
    assert taken.epochs == [(1, 2)]
    wake.set()
    with pytest.raises((FencedError, CatalogUnavailableError)):
        await freezing
    (lock,) = await cut.plain.shard_locks()
    assert (lock.holder, lock.epoch, lock.heartbeat_ms != 7) == (BERT, 2, True)
    await frozen.close()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_server_that_is_restarted_under_load_loses_nothing_acknowledged(mode: str) -> None:
    with system_postgresql() as server:
        catalog = SqlCatalog(DesDbConnector(server.url, timeout_s=20))
        await catalog.migrate()
        own = await claim(catalog, range(8, 12))
        acknowledged: list[int] = []
        numbers = iter(range(1_000_000))
        stopping = False

        async def seal() -> None:
            while not stopping:
                number = next(numbers)
                while True:
                    try:
                        await catalog.announce_container(container_row(number), own)
                        row = container_row(number)
                        await catalog.commit_container(row.container_id, etag=f"e{number}", claim=own)
                        break
                    except CatalogUnavailableError:
                        await asyncio.sleep(0.05)
                acknowledged.append(number)

        async with asyncio.timeout(120), asyncio.TaskGroup() as tasks:
            for _ in range(4):
                tasks.create_task(seal())
            for turn in range(2):
                while len(acknowledged) < 20 * (turn + 1):
                    await asyncio.sleep(0.02)
                await asyncio.to_thread(server.stop, mode=mode)
                await asyncio.to_thread(server.start)
            before = len(acknowledged)
            while len(acknowledged) < before + 20:
                await asyncio.sleep(0.02)
            stopping = True
        stored = {int(row.sha256, 16) for row in await catalog.containers(state=ContainerState.STORED)}
        assert set(acknowledged) == stored
        assert {row.state for row in await catalog.containers()} == {ContainerState.STORED}
        assert await catalog.log_segments(state=LogSegmentState.HELD) == []
        assert {row.day for row in await catalog.containers()} == {DAY}
        await catalog.close()
