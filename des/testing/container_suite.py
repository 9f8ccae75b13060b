"""What every catalog must do for the rows of containers; part of `CatalogSuite`."""

# ruff: noqa: D102  the name of a test is its sentence

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from des.db.catalog import (
    Catalog,
    ContainerGeometry,
    ContainerState,
    FencedError,
    ShardClaim,
    ShardRun,
)
from des.db.rules import (
    ContainerConflictError,
    KeyTakenError,
    UnknownContainerError,
)
from des.errors import InvalidInputError
from des.testing.catalog_rows import (
    ANNA,
    BERT,
    DAY,
    SHORT_S,
    PassTime,
    claim,
    claim_of,
    container_row,
    store,
)


class ContainerSuite:
    """Settles what a doubtful case of a container's life means."""

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
            ("name_first", "A"),
            ("name_last", "Z"),
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

    @pytest.mark.parametrize(("first", "then"), [("", "DES_1"), ("DES_1", "")])
    async def test_versions_that_know_the_names_of_a_container_and_that_do_not_take_turns(
        self, catalog: Catalog, first: str, then: str
    ) -> None:
        own = await claim(catalog, range(8, 12))
        row = await catalog.announce_container(container_row(name_first=first, name_last=first), own)
        assert row == await catalog.announce_container(container_row(name_first=then, name_last=then), own)
        assert (row.name_first, row.name_last) == (first, first)

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
