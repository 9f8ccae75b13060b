"""Statements over `des_log_segments`; each function is part of a transaction."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Row, delete, select, tuple_, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from des.db import shard_locks
from des.db.catalog import ShardClaim
from des.db.resharding import shards_at
from des.db.rows import LogSegmentId, LogSegmentRow, LogSegmentState
from des.db.rules import (
    LogSegmentConflictError,
    check_claims,
    check_droppable,
    check_segment,
    settle_segment,
)
from des.db.schema import log_segments as table
from des.db.statements import in_portions, insert_if_absent, now_ms
from des.errors import InvalidInputError

_KEY: Final = tuple_(table.c.node, table.c.boot_epoch, table.c.number)


async def record(connection: AsyncConnection, row: LogSegmentRow, claim: ShardClaim) -> LogSegmentRow:
    """Insert `row` as held unless it is there; return what is there then.

    Raises:
        FencedError: the claim does not hold.
        LogSegmentConflictError: its id or key stands for another object.
        InvalidInputError: the row breaks a rule of the table.
    """
    check_segment(row, claim)
    await shard_locks.guard(connection, claim)
    try:
        await insert_if_absent(connection, table, [_values(row, created_at=await now_ms(connection))])
    except IntegrityError as error:
        raise InvalidInputError(
            f"log segment {row.key!r} breaks a rule of des_log_segments: {error.orig}"
        ) from error
    found = await _these(connection, [row.id])
    if not found:
        raise LogSegmentConflictError(f"object key {row.key!r} is another log segment's")
    return settle_segment(found[0], row)


async def every(
    connection: AsyncConnection, *, node: str | None, state: LogSegmentState | None
) -> list[LogSegmentRow]:
    """Return rows by id, all or of one node or state."""
    statement = select(table).order_by(table.c.node, table.c.boot_epoch, table.c.number)
    if node is not None:
        statement = statement.where(table.c.node == node)
    if state is not None:
        statement = statement.where(table.c.state == state.value)
    return [_segment(row) for row in await connection.execute(statement)]


async def release(
    connection: AsyncConnection,
    segments: Sequence[LogSegmentId],
    shards: Sequence[int],
    claim: ShardClaim,
) -> list[LogSegmentRow]:
    """Take `shards` out of the rows; what no shard needs is released. Return the rows by id.

    Raises:
        FencedError: the claim does not hold.
    """
    check_claims(shards, claim)
    await shard_locks.guard(connection, claim)
    now = await now_ms(connection)
    gone = set(shards)
    rows = await _these(connection, segments, for_update=True)
    for row in rows:
        left = tuple(shard for shard in row.shards if shard not in gone)
        if left == row.shards:
            continue
        released = not left
        await connection.execute(
            update(table)
            .where(_KEY.in_([tuple(row.id)]))
            .values(
                shards=_bitmap(left),
                state=(LogSegmentState.RELEASED if released else LogSegmentState.HELD).value,
                released_at=now if released else None,
            )
        )
    return await _these(connection, segments)


async def renumber(connection: AsyncConnection, *, before: int, after: int) -> None:
    """Say of the rows that are held which shards of `2**after` need them."""
    for row in await every(connection, node=None, state=LogSegmentState.HELD):
        shards = shards_at(row.shards, before=before, after=after)
        await connection.execute(
            update(table).where(_KEY.in_([tuple(row.id)])).values(shards=_bitmap(shards), shard_bits=after)
        )


async def drop(connection: AsyncConnection, segments: Sequence[LogSegmentId]) -> None:
    """Delete released rows.

    Raises:
        LogSegmentConflictError: one is held.
    """
    check_droppable(await _these(connection, segments, for_update=True))
    for portion in in_portions(sorted(set(segments))):
        await connection.execute(delete(table).where(_KEY.in_([tuple(each) for each in portion])))


async def _these(
    connection: AsyncConnection, segments: Sequence[LogSegmentId], *, for_update: bool = False
) -> list[LogSegmentRow]:
    """Return these rows by id, locked in that order where asked."""
    found: list[LogSegmentRow] = []
    for portion in in_portions(sorted(set(segments))):
        statement = (
            select(table)
            .where(_KEY.in_([tuple(each) for each in portion]))
            .order_by(table.c.node, table.c.boot_epoch, table.c.number)
        )
        if for_update:
            statement = statement.with_for_update()
        found += [_segment(row) for row in await connection.execute(statement)]
    return found


def _values(row: LogSegmentRow, *, created_at: int) -> dict[str, Any]:
    return {
        "node": row.id.node,
        "boot_epoch": row.id.boot_epoch,
        "number": row.id.number,
        "key": row.key,
        "etag": row.etag,
        "sha256": row.sha256,
        "size": row.size,
        "first_seq": row.first_seq,
        "last_seq": row.last_seq,
        "file_count": row.file_count,
        "days": ",".join(row.days),
        "shards": _bitmap(row.shards),
        "shard_bits": row.bits,
        "state": LogSegmentState.HELD.value,
        "created_at": created_at,
    }


def _segment(row: Row[Any]) -> LogSegmentRow:
    return LogSegmentRow(
        id=LogSegmentId(row.node, row.boot_epoch, row.number),
        key=row.key,
        etag=row.etag,
        sha256=row.sha256,
        size=row.size,
        first_seq=row.first_seq,
        last_seq=row.last_seq,
        file_count=row.file_count,
        days=tuple(row.days.split(",")) if row.days else (),
        shards=_shards(row.shards),
        bits=row.shard_bits,
        state=LogSegmentState(row.state),
        created_ms=row.created_at,
        released_ms=row.released_at,
    )


def _bitmap(shards: Iterable[int]) -> str:
    return f"{sum(1 << shard for shard in set(shards)):x}"


def _shards(bitmap: str) -> tuple[int, ...]:
    bits = bin(int(bitmap, 16))[:1:-1]
    return tuple(shard for shard, bit in enumerate(bits) if bit == "1")
