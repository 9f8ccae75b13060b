"""What every catalog must do, as tests. A subclass gives the fixtures `catalog` and `pass_time`.

Each of its tables has a suite of its own; here are the store's id, what is open, and what nobody named.
"""

# ruff: noqa: D102  the name of a test is its sentence

import asyncio
from dataclasses import replace

import pytest

from des.db.catalog import (
    Catalog,
    FencedError,
    ShardClaim,
)
from des.db.rows import Sighting
from des.errors import InvalidInputError
from des.testing.catalog_rows import (
    ANNA,
    BERT,
    DAY,
    SHORT_S,
    PassTime,
    claim,
    open_row,
)
from des.testing.container_suite import ContainerSuite
from des.testing.log_segment_suite import LogSegmentSuite
from des.testing.membership_suite import MembershipSuite
from des.testing.shard_lock_suite import ShardLockSuite
from des.testing.stored_files_suite import StoredFilesSuite
from des.testing.tombstone_suite import TombstoneSuite


class CatalogSuite(
    ShardLockSuite, ContainerSuite, StoredFilesSuite, TombstoneSuite, LogSegmentSuite, MembershipSuite
):
    """Settles what a doubtful case of `Catalog` means."""

    @pytest.fixture
    async def catalog(self) -> Catalog:
        """Return an empty, migrated catalog."""
        raise NotImplementedError

    @pytest.fixture
    def pass_time(self) -> PassTime:
        """Return a function that lets seconds pass on the catalog's clock."""
        return asyncio.sleep

    async def test_a_store_keeps_its_id(self, catalog: Catalog) -> None:
        first = await catalog.store_id()
        assert len(first) == 36
        await catalog.migrate()
        assert first == await catalog.store_id()
        assert first == await catalog.store_id("0193a000-0000-7000-8000-0000000000ee")

    # --- open containers ---

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

    # --- objects that no row names ---

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
