"""What every catalog must say of stored files; part of `CatalogSuite`."""

# ruff: noqa: D102  the name of a test is its sentence

from dataclasses import replace

import pytest

from des.db.catalog import (
    Catalog,
    ContainerState,
    DayTotals,
    ShardRun,
    ShardTotals,
)
from des.errors import InvalidInputError
from des.testing.catalog_rows import (
    DAY,
    claim,
    container_row,
    store,
    tombstone_row,
)


class StoredFilesSuite:
    """Settles where the files of a day and a shard are, and how many there are."""

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
