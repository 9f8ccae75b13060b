"""What every catalog must do for the locks of shards; part of `CatalogSuite`."""

# ruff: noqa: D102  the name of a test is its sentence

import asyncio

import pytest

from des.db.catalog import (
    Catalog,
    ShardClaim,
)
from des.errors import InvalidInputError
from des.testing.catalog_rows import (
    ANNA,
    BERT,
    LONG_S,
    SHORT_S,
    PassTime,
    claim_of,
)


class ShardLockSuite:
    """Settles what a doubtful case of the locks means."""

    async def test_free_locks_are_taken_with_epoch_one(self, catalog: Catalog) -> None:
        locks = await catalog.acquire_shards([3, 1, 2, 1], holder=ANNA, ttl_s=LONG_S)
        assert [(x.shard, x.holder, x.epoch) for x in locks] == [(1, ANNA, 1), (2, ANNA, 1), (3, ANNA, 1)]
        assert locks == await catalog.shard_locks()
        for lock in locks:
            assert lock.acquired_ms == lock.heartbeat_ms > 0
            assert lock.expires_ms - lock.acquired_ms == LONG_S * 1000

    async def test_held_locks_are_left_alone_even_for_their_holder(self, catalog: Catalog) -> None:
        held = await catalog.acquire_shards([1, 2], holder=ANNA, ttl_s=LONG_S)
        assert await catalog.acquire_shards([1, 2], holder=ANNA, ttl_s=LONG_S) == []
        assert [x.shard for x in await catalog.acquire_shards([1, 2, 3], holder=BERT, ttl_s=LONG_S)] == [3]
        assert held == (await catalog.shard_locks())[:2]

    async def test_force_takes_held_locks_with_a_higher_epoch(self, catalog: Catalog) -> None:
        await catalog.acquire_shards([1, 2], holder=ANNA, ttl_s=LONG_S)
        taken = await catalog.acquire_shards([2, 3], holder=BERT, ttl_s=LONG_S, force=True)
        assert [(x.shard, x.holder, x.epoch) for x in taken] == [(2, BERT, 2), (3, BERT, 1)]

    async def test_an_expired_lock_is_free(self, catalog: Catalog, pass_time: PassTime) -> None:
        await catalog.acquire_shards([1], holder=ANNA, ttl_s=SHORT_S)
        await pass_time(2 * SHORT_S)
        (lock,) = await catalog.acquire_shards([1], holder=BERT, ttl_s=LONG_S)
        assert (lock.holder, lock.epoch) == (BERT, 2)

    async def test_a_renewed_lock_lives_on(self, catalog: Catalog, pass_time: PassTime) -> None:
        (lock,) = await catalog.acquire_shards([1], holder=ANNA, ttl_s=SHORT_S)
        (renewed,) = await catalog.renew_shards(claim_of([lock]), ttl_s=LONG_S)
        assert (renewed.shard, renewed.holder, renewed.epoch) == (1, ANNA, 1)
        assert renewed.acquired_ms == lock.acquired_ms
        assert [renewed] == await catalog.shard_locks()
        await pass_time(2 * SHORT_S)
        assert await catalog.acquire_shards([1], holder=BERT, ttl_s=LONG_S) == []

    async def test_an_expired_lock_that_nobody_took_is_renewed(
        self, catalog: Catalog, pass_time: PassTime
    ) -> None:
        locks = await catalog.acquire_shards([1], holder=ANNA, ttl_s=SHORT_S)
        await pass_time(2 * SHORT_S)
        assert [x.epoch for x in await catalog.renew_shards(claim_of(locks), ttl_s=LONG_S)] == [1]
        assert await catalog.acquire_shards([1], holder=BERT, ttl_s=LONG_S) == []

    async def test_only_locks_still_held_are_renewed(self, catalog: Catalog) -> None:
        locks = await catalog.acquire_shards([1, 2, 3], holder=ANNA, ttl_s=LONG_S)
        await catalog.acquire_shards([2], holder=BERT, ttl_s=LONG_S, force=True)
        wrong = ShardClaim(holder=ANNA, epochs=[*claim_of(locks).epochs, (9, 1)])
        assert [x.shard for x in await catalog.renew_shards(wrong, ttl_s=LONG_S)] == [1, 3]

    async def test_a_released_lock_is_free_and_keeps_its_epoch(self, catalog: Catalog) -> None:
        own = claim_of(await catalog.acquire_shards([1, 2], holder=ANNA, ttl_s=LONG_S))
        await catalog.release_shards(own)
        await catalog.release_shards(own)
        assert [(x.holder, x.epoch, x.expires_ms) for x in await catalog.shard_locks()] == [
            ("", 1, 0),
            ("", 1, 0),
        ]
        assert await catalog.renew_shards(own, ttl_s=LONG_S) == []
        assert [x.epoch for x in await catalog.acquire_shards([1, 2], holder=BERT, ttl_s=LONG_S)] == [2, 2]

    async def test_a_lost_lock_is_not_released(self, catalog: Catalog) -> None:
        old = claim_of(await catalog.acquire_shards([1], holder=ANNA, ttl_s=LONG_S))
        taken = await catalog.acquire_shards([1], holder=ANNA, ttl_s=LONG_S, force=True)
        await catalog.release_shards(old)
        assert taken == await catalog.shard_locks()

    async def test_of_many_nodes_exactly_one_takes_each_lock(self, catalog: Catalog) -> None:
        holders = [f"0193a000-0000-7000-8000-{number:012}" for number in range(12)]
        taken = await asyncio.gather(
            *(
                catalog.acquire_shards(
                    range(64) if number % 2 else range(63, -1, -1), holder=holder, ttl_s=LONG_S
                )
                for number, holder in enumerate(holders)
            )
        )
        assert list(range(64)) == sorted(lock.shard for locks in taken for lock in locks)
        assert {1} == {lock.epoch for lock in await catalog.shard_locks()}

    async def test_as_many_locks_as_shard_bits_allow(self, catalog: Catalog) -> None:
        locks = await catalog.acquire_shards(range(4096), holder=ANNA, ttl_s=LONG_S)
        assert 4096 == len(locks) == len(await catalog.renew_shards(claim_of(locks), ttl_s=LONG_S))
        await catalog.release_shards(claim_of(locks))
        assert {""} == {lock.holder for lock in await catalog.shard_locks()}

    async def test_nothing_asked_is_nothing_done(self, catalog: Catalog) -> None:
        nothing = ShardClaim(holder=ANNA, epochs=[])
        assert await catalog.acquire_shards([], holder=ANNA, ttl_s=LONG_S) == []
        assert await catalog.renew_shards(nothing, ttl_s=LONG_S) == []
        await catalog.release_shards(nothing)
        assert await catalog.shard_locks() == []

    @pytest.mark.parametrize(
        ("shards", "holder", "ttl_s"),
        [([-1], ANNA, 1.0), ([1], "", 1.0), ([1], ANNA, 0.0), ([1], "x" * 37, 1.0)],
    )
    async def test_a_lock_is_not_taken_in_ways_that_make_no_sense(
        self, catalog: Catalog, shards: list[int], holder: str, ttl_s: float
    ) -> None:
        with pytest.raises(InvalidInputError, match="expected"):
            await catalog.acquire_shards(shards, holder=holder, ttl_s=ttl_s)
