"""What every catalog must do, as tests. A subclass gives the fixtures `catalog` and `pass_time`."""

# ruff: noqa: D102  the name of a test is its sentence

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import pytest

from des.db.catalog import (
    Catalog,
    ContainerGeometry,
    ContainerRow,
    ContainerState,
    DayTotals,
    FencedError,
    ShardClaim,
    ShardLock,
    ShardRun,
    ShardTotals,
)
from des.db.rows import LogSegmentId, LogSegmentRow, LogSegmentState, OpenContainer, Sighting, Tombstone
from des.db.rules import (
    ContainerConflictError,
    KeyTakenError,
    LogSegmentConflictError,
    UnknownContainerError,
)
from des.errors import InvalidInputError
from des.naming import consistent_hash
from des.testing.membership_suite import MembershipSuite

PassTime = Callable[[float], Awaitable[None]]

ANNA: Final = "0193a000-0000-7000-8000-00000000000a"
BERT: Final = "0193a000-0000-7000-8000-00000000000b"
LONG_S: Final = 3600.0
SHORT_S: Final = 0.05
DAY: Final = "20260228"


def container_row(number: int = 1, *, run: ShardRun | None = None, **changes: Any) -> ContainerRow:
    """Return an announcement; rows of different numbers differ in id, key, names and size."""
    run = run or ShardRun(first=8, span=4, bits=8)
    row = ContainerRow(
        container_id=f"0193a000-0000-7000-8000-{number:012}",
        day=DAY,
        run=run,
        key=f"{DAY}/{run.first:02x}/{number}.des",
        state=ContainerState.UPLOADING,
        epoch=1,
        layout="framed",
        sha256=f"{number:064x}",
        geometry=ContainerGeometry(
            size=10_000_000_000 + number,
            data_start=16,
            data_length=9_000_000_000,
            meta_start=9_000_000_016,
            meta_length=0,
            index_start=9_000_000_016,
            index_length=500_000_000,
            file_count=100 + number,
            ext_table_start=9_900_000_000,
            pages_start=9_500_001_000,
            pages_length=4096 * 7,
            page_count=6,
        ),
        name_ms_first=1_772_236_800_000 + number,
        name_ms_last=1_772_236_900_000 + number,
        data_bytes=20_000_000_000 + number,
        node="0193a000-0000-7000-8000-0000000000cc",
    )
    return replace(row, **changes)


def tombstone_row(number: int = 1, *, bits: int = 8, **changes: Any) -> Tombstone:
    """Return a tombstone; rows of different numbers differ in name and so in shard."""
    name = f"DES_{DAY}_({number:012X}_{sum(number.to_bytes(6, 'big')) % 256:02X})"
    row = Tombstone(name=name, day=DAY, shard=consistent_hash(name, bits), bits=bits, epoch=1)
    return replace(row, **changes)


def open_row(shard: int = 0, *, day: str = DAY, **changes: Any) -> OpenContainer:
    """Return what a shard has open."""
    row = OpenContainer(
        day=day, shard=shard, bits=8, files=3 + shard, data_bytes=5_000_000_000, oldest_ms=77, node=ANNA
    )
    return replace(row, **changes)


def segment_row(number: int = 1, *, node: str = ANNA, **changes: Any) -> LogSegmentRow:
    """Return a shipped segment; rows of different numbers differ in id, key and content."""
    row = LogSegmentRow(
        id=LogSegmentId(node, 3, number),
        key=f"_log/{node}/3/{number:08x}.dlog",
        etag=f'"{number}"',
        sha256=f"{number:064x}",
        size=5_000_000_000 + number,
        first_seq=10 * number,
        last_seq=10 * number + 9,
        file_count=10,
        days=(DAY, "20260301"),
        shards=(0, 1, 255),
        bits=8,
    )
    return replace(row, **changes)


def claim_of(locks: Sequence[ShardLock]) -> ShardClaim:
    """Return what the holder of `locks` shows."""
    return ShardClaim(holder=locks[0].holder, epochs=[(lock.shard, lock.epoch) for lock in locks])


async def claim(catalog: Catalog, shards: Sequence[int], *, holder: str = ANNA) -> ShardClaim:
    """Take the locks of `shards`, free or not."""
    return claim_of(await catalog.acquire_shards(shards, holder=holder, ttl_s=LONG_S, force=True))


async def store(catalog: Catalog, row: ContainerRow) -> ContainerRow:
    """Announce and commit `row` under a new claim."""
    own = await claim(catalog, range(row.run.first, row.run.first + row.run.span))
    await catalog.announce_container(row, own)
    return await catalog.commit_container(row.container_id, etag=f'"{row.sha256[-6:]}"', claim=own)


class CatalogSuite(MembershipSuite):
    """Settles what a doubtful case of `Catalog` means."""

    @pytest.fixture
    async def catalog(self) -> Catalog:
        """Return an empty, migrated catalog."""
        raise NotImplementedError

    @pytest.fixture
    def pass_time(self) -> PassTime:
        """Return a function that lets seconds pass on the catalog's clock."""
        return asyncio.sleep

    # --- store ---

    async def test_a_store_keeps_its_id(self, catalog: Catalog) -> None:
        first = await catalog.store_id()
        assert len(first) == 36
        await catalog.migrate()
        assert first == await catalog.store_id()
        assert first == await catalog.store_id("0193a000-0000-7000-8000-0000000000ee")

    # --- shard locks ---

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

    # --- containers ---

    async def test_an_announced_container_is_uploading(self, catalog: Catalog) -> None:
        row = container_row()
        found = await catalog.announce_container(row, await claim(catalog, range(8, 12)))
        assert found.created_ms > 0
        assert replace(row, created_ms=found.created_ms) == found
        assert found == await catalog.container(row.container_id)
        assert await catalog.containers_of(DAY, 8, bits=8) == []

    async def test_an_announcement_may_be_repeated_by_a_later_holder(self, catalog: Catalog) -> None:
        row = container_row()
        first = await catalog.announce_container(row, await claim(catalog, range(8, 12)))
        later = await claim(catalog, range(8, 12), holder=BERT)
        repeated = replace(row, epoch=2, node="0193a000-0000-7000-8000-0000000000dd")
        assert first == await catalog.announce_container(repeated, later)
        stored = await catalog.commit_container(row.container_id, etag="e", claim=later)
        assert stored == await catalog.announce_container(repeated, later)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("sha256", "f" * 64),
            ("day", "20260301"),
            ("key", "other"),
            ("layout", "v1"),
            ("data_bytes", 1),
            ("name_ms_first", 1),
            ("run", ShardRun(first=8, span=2, bits=8)),
            ("geometry", ContainerGeometry(500, 16, 1, 17, 2, 19, 3, 1)),
        ],
    )
    async def test_an_announcement_of_another_object_is_refused(
        self, catalog: Catalog, field: str, value: Any
    ) -> None:
        row = container_row()
        own = await claim(catalog, range(8, 12))
        first = await catalog.announce_container(row, own)
        with pytest.raises(ContainerConflictError, match=field) as caught:
            await catalog.announce_container(replace(row, **{field: value}), own)
        assert caught.value.details["fields"] == field
        assert first == await catalog.container(row.container_id)

    async def test_a_key_belongs_to_one_container(self, catalog: Catalog) -> None:
        own = await claim(catalog, range(8, 12))
        await catalog.announce_container(container_row(1), own)
        with pytest.raises(KeyTakenError, match="another container's"):
            await catalog.announce_container(container_row(2, key=container_row(1).key), own)
        assert [container_row(1).container_id] == [x.container_id for x in await catalog.containers()]

    async def test_a_committed_container_is_stored_once(self, catalog: Catalog) -> None:
        row = container_row()
        own = await claim(catalog, range(8, 12))
        announced = await catalog.announce_container(row, own)
        stored = await catalog.commit_container(row.container_id, etag='"e1"', claim=own)
        assert stored.stored_ms is not None
        assert stored.stored_ms >= announced.created_ms
        assert stored == replace(
            announced, state=ContainerState.STORED, etag='"e1"', stored_ms=stored.stored_ms
        )
        assert stored == await catalog.commit_container(row.container_id, etag='"e1"', claim=own)
        with pytest.raises(ContainerConflictError, match=r"e1.*e2"):
            await catalog.commit_container(row.container_id, etag='"e2"', claim=own)
        assert stored == await catalog.container(row.container_id)

    async def test_what_was_never_announced_is_not_committed(self, catalog: Catalog) -> None:
        own = await claim(catalog, range(8, 12))
        with pytest.raises(UnknownContainerError, match="never announced"):
            await catalog.commit_container("0193a000-0000-7000-8000-000000000404", etag="e", claim=own)
        with pytest.raises(InvalidInputError, match="etag is empty"):
            await catalog.commit_container("0193a000-0000-7000-8000-000000000404", etag="", claim=own)
        assert await catalog.container("0193a000-0000-7000-8000-000000000404") is None

    @pytest.mark.parametrize("lost", [8, 11])
    async def test_a_holder_that_lost_one_shard_writes_nothing(self, catalog: Catalog, lost: int) -> None:
        row = container_row()
        old = await claim(catalog, range(8, 12))
        await catalog.announce_container(row, old)
        await claim(catalog, [lost], holder=BERT)
        with pytest.raises(FencedError, match=f"shard {lost} has epoch 2") as caught:
            await catalog.announce_container(container_row(2), old)
        assert caught.value.details == {"shard_id": str(lost), "owner": BERT}
        with pytest.raises(FencedError):
            await catalog.commit_container(row.container_id, etag="e", claim=old)
        assert [x.state for x in await catalog.containers()] == [ContainerState.UPLOADING]

    async def test_a_released_claim_is_fenced(self, catalog: Catalog) -> None:
        own = await claim(catalog, range(8, 12))
        await catalog.release_shards(own)
        with pytest.raises(FencedError, match="nobody"):
            await catalog.announce_container(container_row(), own)

    async def test_a_claim_of_another_holder_or_of_no_lock_is_fenced(self, catalog: Catalog) -> None:
        own = await claim(catalog, range(8, 12))
        with pytest.raises(FencedError):
            await catalog.announce_container(container_row(), ShardClaim(holder=BERT, epochs=own.epochs))
        unknown = ShardClaim(holder=ANNA, epochs=[(shard, 1) for shard in range(16, 20)])
        with pytest.raises(FencedError, match="no lock"):
            await catalog.announce_container(container_row(run=ShardRun(first=16, span=4, bits=8)), unknown)

    async def test_an_expired_lock_that_nobody_took_still_writes(
        self, catalog: Catalog, pass_time: PassTime
    ) -> None:
        locks = await catalog.acquire_shards(range(8, 12), holder=ANNA, ttl_s=SHORT_S)
        await pass_time(2 * SHORT_S)
        assert await catalog.announce_container(container_row(), claim_of(locks))

    async def test_a_claim_must_name_every_shard_of_the_run(self, catalog: Catalog) -> None:
        part = await claim(catalog, range(8, 11))
        with pytest.raises(InvalidInputError, match="leaves out shard 11"):
            await catalog.announce_container(container_row(), part)
        await catalog.announce_container(container_row(), await claim(catalog, range(8, 12)))
        part = await claim(catalog, range(8, 11))
        with pytest.raises(InvalidInputError, match="leaves out shard 11"):
            await catalog.commit_container(container_row().container_id, etag="e", claim=part)

    async def test_only_an_announcement_is_announced(self, catalog: Catalog) -> None:
        own = await claim(catalog, range(8, 12))
        for wrong in (container_row(state=ContainerState.STORED), container_row(etag="e")):
            with pytest.raises(InvalidInputError, match="expected 'uploading'"):
                await catalog.announce_container(wrong, own)
        assert await catalog.containers() == []

    async def test_racing_repeats_of_one_seal_agree(self, catalog: Catalog) -> None:
        row = container_row()
        own = await claim(catalog, range(8, 12))
        announced = await asyncio.gather(*(catalog.announce_container(row, own) for _ in range(8)))
        assert all(found == announced[0] for found in announced)
        stored = await asyncio.gather(
            *(catalog.commit_container(row.container_id, etag="e", claim=own) for _ in range(8))
        )
        assert all(found == stored[0] for found in stored)

    # --- the ends of a container ---

    async def test_an_abandoned_container_is_never_committed(self, catalog: Catalog) -> None:
        row = container_row()
        own = await claim(catalog, range(8, 12))
        announced = await catalog.announce_container(row, own)
        abandoned = await catalog.abandon_container(row.container_id, own)
        assert abandoned.abandoned_ms is not None
        assert abandoned == replace(
            announced, state=ContainerState.ABANDONED, abandoned_ms=abandoned.abandoned_ms
        )
        assert abandoned == await catalog.abandon_container(row.container_id, own)
        assert abandoned == await catalog.announce_container(row, own)
        with pytest.raises(ContainerConflictError, match="is abandoned"):
            await catalog.commit_container(row.container_id, etag="e", claim=own)
        with pytest.raises(ContainerConflictError, match="expected stored"):
            await catalog.retire_containers([row.container_id], own)
        assert [abandoned] == await catalog.containers(state=ContainerState.ABANDONED)
        assert await catalog.containers_of(DAY, 8, bits=8) == []

    async def test_only_an_announcement_is_abandoned(self, catalog: Catalog) -> None:
        stored = await store(catalog, container_row())
        own = await claim(catalog, range(8, 12))
        with pytest.raises(ContainerConflictError, match="is stored, expected uploading"):
            await catalog.abandon_container(stored.container_id, own)
        with pytest.raises(UnknownContainerError):
            await catalog.abandon_container("0193a000-0000-7000-8000-000000000404", own)
        assert stored == await catalog.container(stored.container_id)

    async def test_a_retired_container_is_no_longer_read_and_its_row_stays(self, catalog: Catalog) -> None:
        rows = [await store(catalog, container_row(number)) for number in (1, 2)]
        own = await claim(catalog, range(8, 12))
        ids = [row.container_id for row in rows]
        retired = await catalog.retire_containers([ids[1], ids[0]], own)
        assert [row.state for row in retired] == [ContainerState.RETIRED] * 2
        assert [replace(row, state=ContainerState.STORED, retired_ms=None) for row in retired] == rows
        assert retired == await catalog.retire_containers(ids, own)
        assert retired == await catalog.containers(state=ContainerState.RETIRED)
        assert await catalog.containers_of(DAY, 8, bits=8) == []
        assert await catalog.shard_totals() == []
        # A seal repeated by a node that was away finds that it is done, and changes nothing.
        assert retired[0] == await catalog.announce_container(container_row(1), own)
        assert retired[0] == await catalog.commit_container(ids[0], etag=rows[0].etag, claim=own)

    async def test_of_many_containers_all_retire_or_none(self, catalog: Catalog) -> None:
        stored = await store(catalog, container_row(1))
        own = await claim(catalog, range(8, 12))
        open_row = await catalog.announce_container(container_row(2), own)
        with pytest.raises(ContainerConflictError, match="is uploading, expected stored"):
            await catalog.retire_containers([stored.container_id, open_row.container_id], own)
        with pytest.raises(UnknownContainerError):
            await catalog.retire_containers(
                [stored.container_id, "0193a000-0000-7000-8000-000000000404"], own
            )
        assert [stored] == await catalog.containers(state=ContainerState.STORED)

    async def test_a_replacement_is_stored_in_the_moment_its_sources_retire(self, catalog: Catalog) -> None:
        sources = [await store(catalog, container_row(number)) for number in (1, 2)]
        own = await claim(catalog, range(8, 12))
        ids = tuple(row.container_id for row in sources)
        merged = await catalog.announce_container(container_row(3, replaces=ids), own)
        assert merged.replaces == ids
        assert sorted(sources, key=lambda row: -row.name_ms_last) == await catalog.containers_of(
            DAY, 9, bits=8
        )
        stored = await catalog.commit_container(merged.container_id, etag="m", claim=own)
        assert stored.replaces == ids
        assert [stored] == await catalog.containers_of(DAY, 9, bits=8)
        assert list(ids) == [
            row.container_id for row in await catalog.containers(state=ContainerState.RETIRED)
        ]
        assert stored == await catalog.commit_container(merged.container_id, etag="m", claim=own)

    async def test_a_replacement_of_what_is_not_stored_is_not_committed(self, catalog: Catalog) -> None:
        own = await claim(catalog, range(8, 12))
        await catalog.announce_container(container_row(1), own)
        stored = await store(catalog, container_row(2))
        own = await claim(catalog, range(8, 12))
        replaces = (container_row(2).container_id, container_row(1).container_id)
        await catalog.announce_container(container_row(3, replaces=replaces), own)
        with pytest.raises(ContainerConflictError, match="is uploading, expected stored"):
            await catalog.commit_container(container_row(3).container_id, etag="m", claim=own)
        assert [stored] == await catalog.containers(state=ContainerState.STORED)

    async def test_a_removed_container_keeps_its_row(self, catalog: Catalog) -> None:
        stored = await store(catalog, container_row(1))
        own = await claim(catalog, range(8, 12))
        dropped = await catalog.announce_container(container_row(2), own)
        await catalog.abandon_container(dropped.container_id, own)
        ids = [stored.container_id, dropped.container_id]
        with pytest.raises(ContainerConflictError, match="is stored, expected retired or abandoned"):
            await catalog.remove_containers(ids, own)
        assert [row.removed_ms for row in await catalog.containers()] == [None, None]
        await catalog.retire_containers([stored.container_id], own)
        removed = await catalog.remove_containers(ids, own)
        assert all(row.removed_ms is not None for row in removed)
        assert removed == await catalog.remove_containers(ids, own) == await catalog.containers()

    async def test_a_holder_that_lost_its_shards_ends_no_container(self, catalog: Catalog) -> None:
        stored = await store(catalog, container_row(1))
        old = await claim(catalog, range(8, 12))
        announced = await catalog.announce_container(container_row(2), old)
        await claim(catalog, [9], holder=BERT)
        with pytest.raises(FencedError):
            await catalog.abandon_container(announced.container_id, old)
        with pytest.raises(FencedError):
            await catalog.retire_containers([stored.container_id], old)
        with pytest.raises(FencedError):
            await catalog.remove_containers([stored.container_id], old)
        part = await claim(catalog, range(8, 11))
        for call in (
            catalog.abandon_container(announced.container_id, part),
            catalog.retire_containers([stored.container_id], part),
        ):
            with pytest.raises(InvalidInputError, match="leaves out shard 11"):
                await call
        assert [stored, announced] == await catalog.containers()

    # --- tombstones ---

    async def test_a_deleted_name_stays_deleted(self, catalog: Catalog) -> None:
        row = tombstone_row(external_key=f"{DAY}/00/_bigFiles/x.0001")
        own = await claim(catalog, [row.shard])
        assert await catalog.tombstone(row.name) is None
        (first,) = await catalog.put_tombstones([row], own)
        assert first.deleted_ms > 0
        assert replace(row, deleted_ms=first.deleted_ms) == first
        assert first == await catalog.tombstone(row.name)
        later = await claim(catalog, [row.shard], holder=BERT)
        assert [first] == await catalog.put_tombstones([replace(row, epoch=2, external_key="")], later)

    async def test_many_tombstones_are_put_in_one_call(self, catalog: Catalog) -> None:
        rows = [tombstone_row(number) for number in range(1200)]
        own = await claim(catalog, range(256))
        put = await catalog.put_tombstones(rows, own)
        assert [row.name for row in put] == [row.name for row in rows]
        assert await catalog.put_tombstones([], own) == []
        found: list[Tombstone] = []
        while page := await catalog.tombstones(after=found[-1].name if found else "", limit=500):
            found += page
        assert sorted(put, key=lambda row: row.name) == sorted(found, key=lambda row: row.name)

    async def test_the_tombstones_of_a_shard_are_found_by_hash(self, catalog: Catalog) -> None:
        rows = [tombstone_row(number) for number in range(300)]
        rows += [replace(row, name=row.name.replace(DAY, "20260301"), day="20260301") for row in rows[:20]]
        rows = [replace(row, shard=consistent_hash(row.name, 8)) for row in rows]
        await catalog.put_tombstones(rows, await claim(catalog, range(256)))
        for bits, shard in [(8, rows[0].shard), (4, rows[0].shard >> 4), (0, 0), (16, 0)]:
            expected = {
                row.name for row in rows if row.day == DAY and consistent_hash(row.name, bits) == shard
            }
            found = await catalog.tombstones_of(DAY, shard, bits=bits)
            assert expected == {row.name for row in found}
        assert len(await catalog.tombstones(day="20260301")) == 20

    async def test_purged_tombstones_stay(self, catalog: Catalog) -> None:
        rows = [tombstone_row(number) for number in (1, 2)]
        own = await claim(catalog, range(256))
        put = await catalog.put_tombstones(rows, own)
        await catalog.purge_tombstones([rows[0].name], own)
        purged = await catalog.tombstone(rows[0].name)
        assert purged is not None
        assert purged.purged_ms is not None
        await catalog.purge_tombstones([rows[0].name], own)
        assert [purged] == await catalog.tombstones(purged=True)
        assert [put[1]] == await catalog.tombstones(purged=False)
        assert [purged] == await catalog.put_tombstones([rows[0]], own)

    async def test_only_the_holder_of_a_shard_deletes_in_it(self, catalog: Catalog) -> None:
        row = tombstone_row()
        old = await claim(catalog, [row.shard])
        await claim(catalog, [row.shard], holder=BERT)
        with pytest.raises(FencedError):
            await catalog.put_tombstones([row], old)
        with pytest.raises(FencedError):
            await catalog.purge_tombstones([row.name], old)
        other = await claim(catalog, [row.shard ^ 1])
        with pytest.raises(InvalidInputError, match=f"leaves out shard {row.shard}"):
            await catalog.put_tombstones([row], other)
        assert await catalog.tombstones() == []

    # --- shipped log segments ---

    async def test_a_recorded_segment_is_held(self, catalog: Catalog) -> None:
        row = segment_row()
        own = await claim(catalog, row.shards)
        found = await catalog.record_log_segment(row, own)
        assert found.created_ms > 0
        assert replace(row, created_ms=found.created_ms) == found
        assert found == await catalog.record_log_segment(row, own)
        assert [found] == await catalog.log_segments()

    async def test_a_segment_is_one_object(self, catalog: Catalog) -> None:
        own = await claim(catalog, segment_row().shards)
        found = await catalog.record_log_segment(segment_row(), own)
        for wrong in (
            segment_row(sha256="f" * 64),
            segment_row(key="other"),
            segment_row(2, key=segment_row(1).key),
        ):
            with pytest.raises(LogSegmentConflictError):
                await catalog.record_log_segment(wrong, own)
        for unfit in (
            segment_row(2, state=LogSegmentState.RELEASED),
            segment_row(2, shards=()),
            segment_row(2, etag=""),
        ):
            with pytest.raises(InvalidInputError, match="expected held"):
                await catalog.record_log_segment(unfit, own)
        assert [found] == await catalog.log_segments()

    async def test_segments_are_listed_by_node_and_state(self, catalog: Catalog) -> None:
        own = await claim(catalog, [0, 1, 255])
        rows = [
            await catalog.record_log_segment(segment_row(number, node=node), own)
            for number, node in [(2, BERT), (1, ANNA), (3, ANNA)]
        ]
        assert [rows[1], rows[2], rows[0]] == await catalog.log_segments()
        assert [rows[1], rows[2]] == await catalog.log_segments(node=ANNA)
        (released,) = await catalog.release_log_segments([rows[1].id], [0, 1, 255], own)
        assert [released] == await catalog.log_segments(state=LogSegmentState.RELEASED)
        assert [rows[2]] == await catalog.log_segments(node=ANNA, state=LogSegmentState.HELD)

    async def test_a_segment_is_released_when_its_last_shard_is(self, catalog: Catalog) -> None:
        own = await claim(catalog, [0, 1, 2, 255])
        rows = [await catalog.record_log_segment(segment_row(number), own) for number in (1, 2)]
        ids = [row.id for row in rows]
        left = await catalog.release_log_segments([*ids, segment_row(9).id], [2, 0, 255], own)
        assert [(row.shards, row.state) for row in left] == [((1,), LogSegmentState.HELD)] * 2
        with pytest.raises(LogSegmentConflictError, match="still needed"):
            await catalog.drop_log_segments(ids)
        (done,) = await catalog.release_log_segments([ids[0]], [1], own)
        assert (done.shards, done.state) == ((), LogSegmentState.RELEASED)
        assert done.released_ms is not None
        assert [done] == await catalog.release_log_segments([ids[0]], [1], own)
        with pytest.raises(LogSegmentConflictError, match="still needed"):
            await catalog.drop_log_segments(ids)
        assert ids == [row.id for row in await catalog.log_segments()]
        await catalog.drop_log_segments([ids[0]])
        await catalog.drop_log_segments([ids[0]])
        assert [ids[1]] == [row.id for row in await catalog.log_segments()]

    async def test_a_holder_that_lost_a_shard_vouches_for_no_segment_of_it(self, catalog: Catalog) -> None:
        old = await claim(catalog, [0, 1, 255])
        found = await catalog.record_log_segment(segment_row(1), old)
        await claim(catalog, [1], holder=BERT)
        with pytest.raises(FencedError):
            await catalog.record_log_segment(segment_row(2), old)
        with pytest.raises(FencedError):
            await catalog.release_log_segments([found.id], [1], old)
        part = ShardClaim(old.holder, [pair for pair in old.epochs if pair[0] != 1])
        with pytest.raises(InvalidInputError, match="leaves out shard 1 "):
            await catalog.record_log_segment(segment_row(2), part)
        with pytest.raises(InvalidInputError, match="leaves out shard 1 "):
            await catalog.release_log_segments([found.id], [1], part)
        kept = await catalog.record_log_segment(segment_row(2, shards=(0, 255)), part)
        assert [found, kept] == await catalog.log_segments()

    # --- the read path ---

    async def test_the_containers_of_a_shard_are_those_whose_run_covers_it(self, catalog: Catalog) -> None:
        rows = [
            container_row(1, run=ShardRun(8, 4, 8)),
            container_row(2, run=ShardRun(9, 1, 8)),
            container_row(3, run=ShardRun(12, 4, 8)),
            container_row(4, run=ShardRun(0, 256, 8), name_ms_last=1_772_300_000_000),
            container_row(5, run=ShardRun(8, 4, 8), day="20260301"),
            container_row(6, run=ShardRun(10, 2, 8)),
        ]
        stored = {number: await store(catalog, row) for number, row in enumerate(rows, start=1)}
        uploading = container_row(7, run=ShardRun(9, 1, 8))
        await catalog.announce_container(uploading, await claim(catalog, [9]))

        assert [stored[4], stored[2], stored[1]] == await catalog.containers_of(DAY, 9, bits=8)
        assert [stored[4], stored[6], stored[1]] == await catalog.containers_of(DAY, 10, bits=8)
        assert [stored[4], stored[3]] == await catalog.containers_of(DAY, 15, bits=8)
        assert [stored[4]] == await catalog.containers_of(DAY, 0, bits=8)
        assert [stored[4]] == await catalog.containers_of(DAY, 255, bits=8)
        assert [stored[5]] == await catalog.containers_of("20260301", 8, bits=8)
        assert await catalog.containers_of("20260302", 8, bits=8) == []

    async def test_rows_made_with_other_bits_are_found_by_the_hash_they_cover(self, catalog: Catalog) -> None:
        rows = {
            bits: await store(catalog, container_row(bits, run=ShardRun(first, span, bits)))
            for bits, first, span in [(0, 0, 1), (4, 5, 1), (8, 0x58, 8), (16, 0x5A00, 1)]
        }
        # 0x5A of 2**8: inside run 5 of 4 bits, inside [0x58, 0x60) of 8, and it holds 0x5A00 of 16.
        assert [rows[16], rows[8], rows[4], rows[0]] == await catalog.containers_of(DAY, 0x5A, bits=8)
        assert [rows[8], rows[4], rows[0]] == await catalog.containers_of(DAY, 0x5B, bits=8)
        assert [rows[4], rows[0]] == await catalog.containers_of(DAY, 0x50, bits=8)
        assert [rows[0]] == await catalog.containers_of(DAY, 0x60, bits=8)
        assert [rows[16], rows[8], rows[4], rows[0]] == await catalog.containers_of(DAY, 0, bits=0)
        assert [rows[8], rows[4], rows[0]] == await catalog.containers_of(DAY, 0x5AFF, bits=16)

    async def test_newest_names_come_first_and_ties_by_id(self, catalog: Catalog) -> None:
        run = ShardRun(3, 1, 8)
        times = {1: 30, 2: 10, 3: 20, 4: 30}
        for number, ms in times.items():
            await store(catalog, container_row(number, run=run, name_ms_first=1, name_ms_last=ms))
        found = await catalog.containers_of(DAY, 3, bits=8)
        assert [int(row.sha256, 16) for row in found] == [4, 1, 3, 2]

    async def test_containers_are_listed_by_state_and_day(self, catalog: Catalog) -> None:
        run = ShardRun(0, 1, 8)
        stored = await store(catalog, container_row(2, run=run))
        other_day = await store(catalog, container_row(3, run=run, day="20260301"))
        open_row = await catalog.announce_container(container_row(1, run=run), await claim(catalog, [0]))
        assert [open_row, stored, other_day] == await catalog.containers()
        assert [stored, other_day] == await catalog.containers(state=ContainerState.STORED)
        assert [open_row] == await catalog.containers(state=ContainerState.UPLOADING)
        assert [open_row, stored] == await catalog.containers(day=DAY)
        assert [stored] == await catalog.containers(day=DAY, state=ContainerState.STORED)

    # --- open containers --------------------------------------------------------------------

    async def test_open_containers_are_what_their_holder_said_last(self, catalog: Catalog) -> None:
        own = await claim(catalog, [0, 1, 255])
        rows = [open_row(0), open_row(0, day="20260301"), open_row(255)]
        await catalog.checkpoint_open(rows, own)
        first, last, other_day = await catalog.open_containers()
        assert [first, other_day, last] == [
            replace(row, epoch=1, told_ms=found.told_ms)
            for row, found in zip(rows, [first, other_day, last], strict=True)
        ]
        assert first.told_ms > 0
        await catalog.checkpoint_open([open_row(0, files=9)], ShardClaim(ANNA, [(0, 1), (1, 1)]))
        found = await catalog.open_containers()
        assert [(row.day, row.shard, row.files) for row in found] == [(DAY, 0, 9), (DAY, 255, 258)]
        await catalog.checkpoint_open([], own)
        assert await catalog.open_containers() == []

    async def test_open_containers_are_no_containers(self, catalog: Catalog) -> None:
        await catalog.checkpoint_open([open_row(0), open_row(9)], await claim(catalog, [0, 9]))
        assert await catalog.containers() == []
        assert await catalog.containers(day=DAY) == []
        assert await catalog.containers_of(DAY, 0, bits=8) == []
        assert await catalog.days() == []
        assert await catalog.shard_totals() == []

    async def test_only_the_holder_says_what_is_open(self, catalog: Catalog) -> None:
        before = await claim(catalog, [0, 1])
        await catalog.checkpoint_open([open_row(0), open_row(1)], before)
        after = await claim(catalog, [1], holder=BERT)
        with pytest.raises(FencedError):
            await catalog.checkpoint_open([open_row(0, files=9)], before)
        assert [row.files for row in await catalog.open_containers()] == [3, 4]
        await catalog.checkpoint_open([open_row(1, files=9, node=BERT)], after)
        assert [(row.files, row.node) for row in await catalog.open_containers()] == [(3, ANNA), (9, BERT)]

    async def test_a_checkpoint_says_something_of_shards_that_it_claims(self, catalog: Catalog) -> None:
        own = await claim(catalog, [0])
        for rows in ([open_row(1)], [open_row(0), open_row(0)], [open_row(0, files=0)]):
            with pytest.raises(InvalidInputError):
                await catalog.checkpoint_open(rows, own)
        assert await catalog.open_containers() == []

    async def test_the_days_are_those_of_stored_containers_and_tombstones(self, catalog: Catalog) -> None:
        assert await catalog.days() == []
        run = ShardRun(0, 1, 8)
        await store(catalog, container_row(1, run=run, day="20260301"))
        await store(catalog, container_row(2, run=run, day="20260228"))
        await catalog.announce_container(container_row(3, run=run, day="20260227"), await claim(catalog, [0]))
        row = tombstone_row(1)
        await catalog.put_tombstones([replace(row, day="20260226")], await claim(catalog, [row.shard]))
        assert await catalog.days() == ["20260226", "20260228", "20260301"]

    async def test_totals_count_what_is_stored_at_the_first_shard_of_each_run(self, catalog: Catalog) -> None:
        assert await catalog.shard_totals() == []
        first = await store(catalog, container_row(1))
        second = await store(catalog, container_row(2))
        third = await store(catalog, container_row(3, run=ShardRun(0, 1, 8)))
        await catalog.announce_container(container_row(4), await claim(catalog, range(8, 12)))
        assert [
            ShardTotals(0, 1, 103, third.data_bytes, third.stored_ms, 8),
            ShardTotals(8, 2, 203, first.data_bytes + second.data_bytes, second.stored_ms, 8),
        ] == await catalog.shard_totals()

    async def test_day_totals_count_what_is_stored_of_the_last_days(self, catalog: Catalog) -> None:
        assert await catalog.day_totals(5) == []
        first = await store(catalog, container_row(1))
        second = await store(catalog, container_row(2))
        later = await store(catalog, container_row(3, day="20291231"))
        await catalog.announce_container(container_row(4), await claim(catalog, range(8, 12)))
        last = DayTotals("20291231", 1, later.geometry.file_count, later.data_bytes)
        files = first.geometry.file_count + second.geometry.file_count
        before = DayTotals(DAY, 2, files, first.data_bytes + second.data_bytes)
        assert await catalog.day_totals(5) == [before, last]
        assert await catalog.day_totals(1) == [last]

    async def test_a_run_finer_than_the_catalog_keeps_is_refused(self, catalog: Catalog) -> None:
        own = await claim(catalog, [0])
        with pytest.raises(InvalidInputError, match="33 shard bits"):
            await catalog.announce_container(container_row(run=ShardRun(0, 1, 33)), own)
        with pytest.raises(InvalidInputError, match="33 shard bits"):
            await catalog.containers_of(DAY, 0, bits=33)

    async def test_an_unnamed_object_keeps_the_time_of_its_first_sighting(
        self, catalog: Catalog, pass_time: PassTime
    ) -> None:
        [first] = await catalog.see_unnamed([Sighting("a", "e", 1)])
        assert first.first_ms == first.last_ms <= await catalog.now_ms()
        await pass_time(SHORT_S)
        again, other = await catalog.see_unnamed([Sighting("b", "f", 2), Sighting("a", "e", 1)])
        assert (again.key, again.first_ms) == ("a", first.first_ms)
        assert again.last_ms > first.last_ms
        assert (other.key, other.first_ms) == ("b", other.last_ms)

    async def test_an_unnamed_object_that_changed_or_was_away_is_seen_for_the_first_time(
        self, catalog: Catalog, pass_time: PassTime
    ) -> None:
        [first, _] = await catalog.see_unnamed([Sighting("a", "e", 1), Sighting("b", "e", 1)])
        await pass_time(SHORT_S)
        [changed] = await catalog.see_unnamed([Sighting("a", "g", 3)])
        assert (changed.etag, changed.size) == ("g", 3)
        assert changed.first_ms == changed.last_ms > first.last_ms
        await pass_time(SHORT_S)
        [_, back] = await catalog.see_unnamed([Sighting("a", "g", 3), Sighting("b", "e", 1)])
        assert back.first_ms == back.last_ms > changed.last_ms
        assert await catalog.see_unnamed([]) == []
