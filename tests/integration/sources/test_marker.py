"""The marker over real databases: every row once, bad rows alone, one dead source holds up no other."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from des.clock import SystemClock
from des.errors import DesError
from des.marker import FileMarkerWorker
from des.monitoring.ingest_metrics import MarkerMetrics
from des.naming import SnowflakeNameGenerator, consistent_hash, parse_name
from des.sources import SourceDatabaseConnector
from des.sources.config import MarkerConfig

BITS = 4


def worker(connectors, *, node_id=1, clock=None, registry=None, **config):
    clock = clock or SystemClock()
    return FileMarkerWorker(
        connectors,
        generator=SnowflakeNameGenerator(node_id=node_id, clock=clock, reserve=None),
        shard_bits=BITS,
        config=MarkerConfig(**config),
        clock=clock,
        metrics=MarkerMetrics(registry or CollectorRegistry()),
    )


async def test_two_markers_mark_every_row_once(connect, database):
    database.add(400)
    workers = [worker({"docs": connect(mark={"batch_size": 30})}, node_id=node) for node in (1, 2)]
    tasks = [asyncio.create_task(one.run()) for one in workers]
    async with asyncio.timeout(60):
        while database.statuses() != {"marked": 400}:
            await asyncio.sleep(0.05)
    for one in workers:
        one.stop()
    await asyncio.gather(*tasks)
    assert sum(one.sources["docs"].marked for one in workers) == 400
    rows = database.rows("des_name, des_shard")
    assert len({row.des_name for row in rows}) == 400
    for row in rows:
        parse_name(row.des_name)
        assert row.des_shard == consistent_hash(row.des_name, BITS)


async def test_a_row_that_the_table_refuses_fails_alone(connect, database):
    if database.kind == "sqlite":
        database.execute(
            "CREATE TRIGGER refuse BEFORE UPDATE ON documents WHEN NEW.des_name IS NOT NULL AND NEW.id = 7 "
            "BEGIN SELECT RAISE(ABORT, 'seven is refused'); END"
        )
        undo = "DROP TRIGGER refuse"
    else:
        database.execute(
            "ALTER TABLE documents ADD CONSTRAINT refuse "
            "CHECK (object_key <> 'in/000007.bin' OR des_name IS NULL)"
        )
        undo = "ALTER TABLE documents DROP CONSTRAINT refuse"
    try:
        database.add(20)
        marker = worker({"docs": connect()})
        assert await marker.once() == 19
        (bad,) = database.rows("id, des_error", "des_status = 'failed'")
        assert bad.id == 7
        assert bad.des_error.startswith("REFUSED: ")
        connector = marker.sources["docs"].connector
        assert await connector.retry_failed(await connector.failed(limit=5)) == 1
    finally:
        database.execute(undo)
    assert await marker.once() == 1
    assert database.statuses() == {"marked": 20}


async def test_a_source_that_does_not_answer_holds_up_no_other(connect, database):
    database.add(5)
    down = SourceDatabaseConnector("down", _dead(database))
    registry = CollectorRegistry()
    marker = worker({"down": down, "docs": connect()}, registry=registry)
    with pytest.raises(DesError, match="source 'down'"):
        await marker.step()
    assert database.statuses() == {"marked": 5}
    assert list(marker.errors()) == ["down"]
    text = generate_latest(registry).decode()
    assert 'des_marker_rows_total{outcome="marked",source="docs"} 5.0' in text
    assert 'des_marker_source_up{source="down"} 0.0' in text
    await down.close()


def _dead(database):
    plain = database.config().model_dump(by_alias=True)
    plain["database"] = {"dialect": "sqlite", "path": "/nowhere/at/all.sqlite"}
    return type(database.config()).model_validate(plain)


async def test_the_rate_is_kept(connect, database):
    database.add(30)

    class Slept(SystemClock):
        seconds = 0.0

        async def sleep(self, seconds):
            self.seconds += seconds
            await asyncio.sleep(0)

        def monotonic(self):
            return self.seconds

    clock = Slept()
    marker = worker({"docs": connect(mark={"rate_per_s": 10})}, clock=clock, idle_s=1000)
    running = asyncio.create_task(marker.run())
    async with asyncio.timeout(60):
        while database.statuses() != {"marked": 30}:
            await asyncio.sleep(0.02)
        marker.stop()
        await running
    assert marker.sources["docs"].marked == 30
    assert clock.seconds >= 2, "three batches of ten, at ten a second"


async def test_stopping_ends_the_pause_at_once(connect, database):
    marker = worker({"docs": connect()}, idle_s=3600)
    running = asyncio.create_task(marker.run())
    await asyncio.sleep(0.2)
    marker.stop()
    async with asyncio.timeout(60):
        await running
