"""What every catalog must do for deleted names; part of `CatalogSuite`."""

# ruff: noqa: D102  the name of a test is its sentence

from dataclasses import replace

import pytest

from des.db.catalog import (
    Catalog,
    FencedError,
)
from des.db.rows import Tombstone
from des.errors import InvalidInputError
from des.naming import consistent_hash
from des.testing.catalog_rows import (
    BERT,
    DAY,
    claim,
    tombstone_row,
)


class TombstoneSuite:
    """Settles what a doubtful case of a tombstone means."""

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
        assert len(await catalog.tombstones_of_day("20260301")) == 20

    async def test_the_tombstones_of_a_day_come_page_by_page_each_once(self, catalog: Catalog) -> None:
        rows = [tombstone_row(number) for number in range(70)]
        rows += [replace(row, name=row.name.replace(DAY, "20260301"), day="20260301") for row in rows[:20]]
        await catalog.put_tombstones(rows, await claim(catalog, range(256)))
        found: list[Tombstone] = []
        while page := await catalog.tombstones_of_day(DAY, after=found[-1].name if found else "", limit=9):
            found += page
        assert [row.name for row in found] == sorted(
            (row.name for row in rows[:70]), key=lambda name: consistent_hash(name, 32)
        )

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
