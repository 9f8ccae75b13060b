"""What every catalog must do for shipped segments of logs; part of `CatalogSuite`."""

# ruff: noqa: D102  the name of a test is its sentence

from dataclasses import replace

import pytest

from des.db.catalog import (
    Catalog,
    FencedError,
    ShardClaim,
)
from des.db.rows import LogSegmentState
from des.db.rules import (
    LogSegmentConflictError,
)
from des.errors import InvalidInputError
from des.testing.catalog_rows import (
    ANNA,
    BERT,
    claim,
    segment_row,
)


class LogSegmentSuite:
    """Settles what a doubtful case of a shipped segment means."""

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
