"""Packing source rows into a real node: each file once, each row settled, whatever happens in between."""

import hashlib
import threading

import pytest
from prometheus_client import generate_latest

from des.errors import NotFoundError
from des.sources import ClaimOwner
from des.testing.source_databases import temporary_source
from tests.integration.sources.world import BITS, HOLDERS


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    with temporary_source("sqlite", tmp_path_factory.mktemp("sqlite")) as made:
        yield made


def contents(count):
    return {f"in/{number}": f"{number}".encode() * (number * 37 % 2000) for number in range(1, count + 1)}


async def test_rows_become_files_with_their_metadata_and_are_marked_after_the_container(world):
    data = contents(40)
    world.objects(**data)
    await world.start()
    await world.mark()
    assert await world.ingest.step() == 40
    assert world.table.statuses() == {"claimed": 40}, "in the log is not packed"
    await world.seal()
    assert world.table.statuses() == {"packed": 40}
    copies = world.copies()
    for number, (key, expected) in enumerate(data.items(), 1):
        row = world.row(number)
        assert row.object_key == key
        assert row.des_checksum == hashlib.sha256(expected).hexdigest()
        info = await world.node.stat(row.des_name)
        assert info.placement.container_id == row.des_container
        assert info.metadata == {"customer": f"c{number % 7}", "source-id": str(number)}
        assert info.content_type == "application/octet-stream"
        assert await (await world.node.open_file(row.des_name)).read_whole() == expected
        assert copies[row.des_name] == 1
    assert world.count("packed") == 40


async def test_a_crash_between_the_container_and_the_mark_is_finished_by_the_next_start(world):
    world.objects(**contents(10))
    await world.start()
    await world.mark()
    await world.ingest.step()
    for shard in range(1 << BITS):
        await world.node.seal_shard(shard)  # and nobody settles
    assert world.table.statuses() == {"claimed": 10}
    await world.node.close()
    await world.start()
    assert await world.ingest.step() == 10
    assert world.table.statuses() == {"packed": 10}
    assert world.count("known") == 10
    assert set(world.copies().values()) == {1}


async def test_a_crash_before_the_container_leaves_one_copy(world):
    world.objects(**contents(10))
    await world.start()
    await world.mark()
    await world.ingest.step()
    await world.node.close()
    await world.start()
    assert await world.ingest.step() == 10
    assert world.table.statuses() == {"claimed": 10}
    await world.seal()
    assert world.table.statuses() == {"packed": 10}
    assert (len(world.copies()), set(world.copies().values())) == (10, {1})
    row = world.row(3)
    assert row.des_checksum == hashlib.sha256(contents(10)["in/3"]).hexdigest()


async def test_rows_claimed_by_a_process_that_died_before_it_fetched_are_packed(world):
    world.objects(**contents(6))
    await world.start()
    await world.mark()
    owner = ClaimOwner(world.node.store_id, HOLDERS[8])
    assert len(await world.connector.claim(range(4), owner=owner, shard_bits=BITS, limit=100)) == 6
    assert await world.ingest.step() == 6
    await world.seal()
    assert world.table.statuses() == {"packed": 6}


async def test_a_row_packed_again_is_the_same_file(world):
    """An operator, or another packer after an expired claim, sends the row through once more."""
    world.objects(**contents(3))
    await world.start()
    await world.mark()
    await world.ingest.step()
    await world.seal()
    first = {row.id: (row.des_container, row.des_checksum) for row in world.table.rows()}
    world.table.execute("UPDATE documents SET des_status = 'marked', des_container = NULL")
    await world.ingest.step()
    assert world.table.statuses() == {"packed": 3}
    assert {row.id: (row.des_container, row.des_checksum) for row in world.table.rows()} == first
    assert set(world.copies().values()) == {1}


async def test_an_object_that_changed_after_it_was_packed_is_a_conflict_and_not_a_second_file(world):
    world.objects(a=b"old", b=b"other")
    await world.start()
    await world.mark()
    await world.ingest.step()
    await world.seal()
    world.client.put_object(Bucket="docs", Key="a", Body=b"new")
    world.table.execute("UPDATE documents SET des_status = 'marked' WHERE id = 1")
    await world.ingest.step()
    row = world.row(1)
    assert (row.des_status, row.des_error.split(":")[0]) == ("failed", "NAME_CONFLICT")
    assert await (await world.node.open_file(row.des_name)).read_whole() == b"old"


async def test_a_bad_row_fails_alone_and_the_batch_goes_on(world):
    world.objects(good=b"1", short=b"123", etagged=b"abc", long=bytes(5000), strange=b"x", empty=b"")
    world.table.execute(
        "UPDATE documents SET size_bytes = 99 WHERE object_key = 'short'",
        "UPDATE documents SET etag = '00000000000000000000000000000000' WHERE object_key = 'etagged'",
        "UPDATE documents SET bucket = 'secret' WHERE object_key = 'strange'",
    )
    world.table.add(1, first=7, object_key="not there")
    world.table.add(1, first=8, object_key="good", customer="x" * 9000)
    await world.start(
        objects={"size_bytes_max": 4000}, claim={"attempts": 2, "backoff_first_s": 0, "backoff_max_s": 0}
    )
    await world.mark()
    assert await world.ingest.step() == 8
    await world.seal()
    states = {
        row.object_key + str(row.id): (row.des_status, (row.des_error or "").split(":")[0], row.des_attempts)
        for row in world.table.rows()
    }
    assert states == {
        "good1": ("packed", "", 0),
        "short2": ("marked", "CHANGED", 1),
        "etagged3": ("marked", "CHANGED", 1),
        "long4": ("failed", "TOO_LARGE", 1),
        "strange5": ("failed", "BAD_BUCKET", 1),
        "empty6": ("packed", "", 0),
        "not there7": ("marked", "MISSING", 1),
        "good8": ("failed", "BAD_METADATA", 1),
    }
    assert await world.ingest.step() == 3
    assert world.table.statuses() == {"packed": 2, "failed": 6}


async def test_rows_that_change_or_vanish_while_their_file_is_open_are_settled_as_such(world):
    world.objects(**contents(4))
    await world.start()
    await world.mark()
    await world.ingest.step()
    world.table.execute(
        "DELETE FROM documents WHERE id = 1",
        "UPDATE documents SET object_key = 'elsewhere' WHERE id = 2",
        "UPDATE documents SET des_status = 'withdrawn' WHERE id = 3",
    )
    await world.seal()
    assert world.table.statuses() == {"failed": 1, "withdrawn": 1, "packed": 1}
    assert [world.count(outcome) for outcome in ("packed", "gone", "changed", "lost")] == [1, 1, 1, 1]


async def test_long_objects_pass_through_in_parts(world):
    data = bytes(range(256)) * (20 << 12)  # 20 MiB
    world.objects(small=b"s", long=data)
    await world.start()
    await world.mark()
    await world.ingest.step()
    await world.seal()
    assert world.table.statuses() == {"packed": 2}
    row = world.row(2)
    assert row.des_checksum == hashlib.sha256(data).hexdigest()
    opened = await world.node.open_file(row.des_name)
    assert b"".join([part async for part in opened.read(0, len(data))]) == data


async def test_objects_that_cannot_be_had_now_cost_no_attempt(world):
    world.objects(**contents(3))
    await world.start(objects={"endpoint": "http://127.0.0.1:1"})
    await world.mark()
    assert await world.ingest.step() == 3
    assert world.table.statuses() == {"marked": 3}
    assert {row.des_attempts for row in world.table.rows()} == {0}
    assert await world.ingest.step() == 0, "they wait for a while"


async def test_marks_wait_for_a_source_that_is_away(world, table):
    world.objects(**contents(5))
    await world.start(database={**table.database, "pool": {"statement_timeout_s": 0.2}})
    await world.mark()
    await world.ingest.step()
    held = threading.Event()
    let_go = threading.Event()

    def lock():
        with table.engine.connect() as connection:
            connection.exec_driver_sql("BEGIN EXCLUSIVE")
            held.set()
            let_go.wait(60)
            connection.rollback()

    thread = threading.Thread(target=lock)
    thread.start()
    held.wait(60)
    try:
        await world.seal()
        assert world.ingest.waiting == 5
    finally:
        let_go.set()
        thread.join()
    await world.ingest.settle()
    assert (world.table.statuses(), world.ingest.waiting) == ({"packed": 5}, 0)


async def test_claims_of_files_that_stay_open_are_renewed(world):
    world.objects(**contents(3))
    await world.start(claim={"timeout_s": 10})
    await world.mark()
    await world.ingest.step()
    before = {row.id: row.des_claim_expires for row in world.table.rows()}
    for held in world.ingest._waiting._held.values():
        held.renew_at = 0
    await world.ingest.settle()
    assert all(row.des_claim_expires >= before[row.id] for row in world.table.rows())
    world.table.execute("UPDATE documents SET des_claim_expires = 1")
    for held in world.ingest._waiting._held.values():
        held.renew_at = 0
    await world.ingest.settle()
    assert min(row.des_claim_expires for row in world.table.rows()) > 1


async def test_too_many_open_rows_are_sealed_early(world):
    world.objects(**contents(150))
    await world.start(packer={"claims": 100})
    await world.mark(200)
    for _ in range(10):
        await world.ingest.step()
        assert world.ingest.waiting <= 100
    await world.seal()
    assert world.table.statuses() == {"packed": 150}


async def test_rows_of_a_shard_that_another_has_now_are_left_to_it(world, monkeypatch):
    world.objects(**contents(20))
    await world.start()
    await world.mark()
    await world.ingest.step()
    held = world.ingest.waiting
    lost = {row.id for row in world.table.rows("*", "des_shard = 1")}
    assert 0 < len(lost) < 20
    tenures = world.node.tenures()
    monkeypatch.setattr(world.node, "tenures", lambda: {s: e for s, e in tenures.items() if s != 1})
    assert await world.ingest.step() == 0
    assert world.ingest.waiting == held - len(lost)
    # It comes back with a new epoch: what was claimed before is looked after again.
    monkeypatch.setattr(world.node, "tenures", lambda: tenures | {1: tenures[1] + 1})
    assert await world.ingest.step() == len(lost)
    await world.seal()
    assert world.table.statuses() == {"packed": 20}


async def test_an_unknown_fault_of_one_row_stops_nothing(world, monkeypatch):
    world.objects(**contents(3))
    await world.start()
    await world.mark()
    put = world.node.put_bytes
    victim = world.row(2).des_name

    async def sometimes(spec, data, crc32c):
        if spec.name == victim:
            raise ZeroDivisionError("a defect")
        return await put(spec, data, crc32c)

    monkeypatch.setattr(world.node, "put_bytes", sometimes)
    await world.ingest.step()
    await world.seal()
    assert world.table.statuses() == {"packed": 2, "marked": 1}
    assert world.row(2).des_error == "REFUSED: ZeroDivisionError: a defect"


async def test_no_name_of_a_failed_row_is_in_the_store(world):
    world.objects(a=b"1")
    world.client.delete_object(Bucket="docs", Key="a")
    await world.start()
    await world.mark()
    await world.ingest.step()
    with pytest.raises(NotFoundError):
        await world.node.stat(world.row(1).des_name)
    assert "des_ingest_seconds_total" in generate_latest(world.registry).decode()
