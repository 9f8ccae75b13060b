"""The catalog in memory answers every history of calls as the one in SQL does."""

import random
from dataclasses import replace

import pytest

from des.db import (
    ContainerRow,
    DesDbConnector,
    LogSegmentRow,
    OpenContainer,
    ShardClaim,
    ShardLock,
    ShardRun,
    Sighting,
    SqlCatalog,
    Tombstone,
)
from des.errors import DesError
from des.testing.catalog_rows import (
    ANNA,
    BERT,
    DAY,
    container_row,
    open_row,
    segment_row,
    tombstone_row,
)
from des.testing.memory_catalog import MemoryCatalog
from des.testing.simulated_clock import SimulatedClock

HOLDERS = (ANNA, BERT)


def history(seed, length):
    """Calls of two holders over four shards: method, arguments."""
    dice = random.Random(seed)
    for _ in range(length):
        shards = dice.sample(range(4), dice.randint(1, 4))
        epochs = [(shard, dice.randint(1, 4)) for shard in shards]
        run = dice.choice([ShardRun(0, 4, 2), ShardRun(2, 2, 2), ShardRun(dice.randrange(4), 1, 2)])
        others = tuple(container_row(number).container_id for number in dice.sample(range(1, 9), 2))
        row = container_row(
            dice.randint(1, 8),
            run=run,
            day=dice.choice([DAY, "20260301"]),
            replaces=others if dice.random() < 0.1 else (),
        )
        ids = dice.choice([(row.container_id,), others])
        stones = [tombstone_row(dice.randint(1, 9), bits=2) for _ in range(2)]
        names = [stone.name for stone in stones]
        segments = [
            segment_row(number, node=dice.choice(HOLDERS), shards=tuple(sorted(shards))) for number in (1, 2)
        ]
        sightings = [
            Sighting(f"k{n}", dice.choice("ef"), n) for n in dice.sample(range(4), dice.randint(0, 4))
        ]
        # Most claims are right: a wrong one ends a call early.
        claim = ShardClaim(dice.choice(HOLDERS), epochs) if dice.random() < 0.2 else dice.choice(HOLDERS)
        yield dice.choice(
            [
                ("acquire_shards", (shards,), {"holder": dice.choice(HOLDERS), "ttl_s": 3600.0}),
                (
                    "acquire_shards",
                    (shards,),
                    {"holder": dice.choice(HOLDERS), "ttl_s": 3600.0, "force": True},
                ),
                ("renew_shards", (claim,), {"ttl_s": 3600.0}),
                ("release_shards", (claim,), {}),
                ("checkpoint_open", ([open_row(shard, bits=2) for shard in shards], claim), {}),
                ("open_containers", (), {}),
                ("announce_container", (row, claim), {}),
                ("announce_container", (row, claim), {}),
                (
                    "commit_container",
                    (row.container_id,),
                    {"etag": dice.choice(["e", "f"]), "claim": claim},
                ),
                (
                    "commit_container",
                    (row.container_id,),
                    {"etag": dice.choice(["e", "f"]), "claim": claim},
                ),
                ("abandon_container", (row.container_id, claim), {}),
                ("retire_containers", (ids, claim), {}),
                ("remove_containers", (ids, claim), {}),
                ("put_tombstones", (stones, claim), {}),
                ("purge_tombstones", (names, claim), {}),
                ("tombstones_of", (DAY, dice.randrange(4)), {"bits": 2}),
                ("record_log_segment", (segments[0], claim), {}),
                ("release_log_segments", ([each.id for each in segments], shards, claim), {}),
                ("drop_log_segments", ([segments[1].id],), {}),
                ("log_segments", (), {}),
                ("see_unnamed", (sightings,), {}),
                ("shard_locks", (), {}),
                ("container", (row.container_id,), {}),
                ("containers_of", (row.day, dice.randrange(8)), {"bits": 3}),
                ("containers", (), {}),
            ]
        )


def without_times(answer):
    """An answer, with times by the database's clock as set or unset."""
    match answer:
        case list():
            return [without_times(part) for part in answer]
        case ShardLock():
            times = {"acquired_ms": answer.acquired_ms > 0, "heartbeat_ms": answer.heartbeat_ms > 0}
            return replace(answer, **times, expires_ms=answer.expires_ms > 0)
        case ContainerRow():
            return replace(
                answer,
                created_ms=answer.created_ms > 0,
                stored_ms=answer.stored_ms is not None,
                retired_ms=answer.retired_ms is not None,
                abandoned_ms=answer.abandoned_ms is not None,
                removed_ms=answer.removed_ms is not None,
            )
        case OpenContainer():
            return replace(answer, told_ms=answer.told_ms > 0)
        case Sighting():
            return replace(answer, first_ms=answer.first_ms > 0, last_ms=answer.last_ms > 0)
        case Tombstone():
            return replace(answer, deleted_ms=answer.deleted_ms > 0, purged_ms=answer.purged_ms is not None)
        case LogSegmentRow():
            return replace(
                answer, created_ms=answer.created_ms > 0, released_ms=answer.released_ms is not None
            )
        case _:
            return answer


async def answer_of(catalog, method, arguments, options):
    """What a call gives: its answer, or the kind and words of its error."""
    locks = await catalog.shard_locks()

    def true_claim(value):
        if value not in HOLDERS:
            return value
        return ShardClaim(value, [(lock.shard, lock.epoch) for lock in locks if lock.holder == value])

    if method != "acquire_shards":
        arguments = [true_claim(value) if isinstance(value, str) else value for value in arguments]
        options = {name: true_claim(value) if name == "claim" else value for name, value in options.items()}
    try:
        return without_times(await getattr(catalog, method)(*arguments, **options))
    except DesError as error:
        return type(error), str(error), error.details


@pytest.mark.parametrize("seed", range(6))
async def test_memory_and_sql_answer_alike(tmp_path, seed):
    memory = MemoryCatalog(SimulatedClock())
    sql = SqlCatalog(DesDbConnector.sqlite(tmp_path / "catalog.sqlite"))
    await sql.migrate()
    for step, (method, arguments, options) in enumerate(history(seed, 200)):
        expected = await answer_of(memory, method, arguments, options)
        assert expected == await answer_of(sql, method, arguments, options), (
            step,
            method,
            arguments,
            options,
        )
    assert [t.files for t in await memory.shard_totals()] == [t.files for t in await sql.shard_totals()]
    assert await memory.containers()
    await sql.close()
